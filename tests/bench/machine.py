"""On what the figures were measured: the machine, the date, and the version of everything that took part."""

import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .load import wrk_program
from .nginx import nginx_program
from .peers import Upstream


class Setting(NamedTuple):
    """Where and when; `versions` by name of the program or package.

    `load_average` is the kernel's of the last minute, before any load of the benchmark's own.
    """

    date: str
    kernel: str
    cpu: str
    cores: int
    load_average: float
    versions: dict[str, str]


def describe(upstreams: Sequence[Upstream]) -> Setting:
    """Raises `BenchError` when a server does not answer what it is."""
    versions = {
        "nginx": _first_match(r"nginx/(\S+)", [nginx_program(), "-v"]),
        "wrk": _first_match(r"wrk (\S+)", [wrk_program(), "-v"]),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{package: importlib.metadata.version(package) for package in ("gevent", "greenlet", "lupa")},
        **{upstream.peer.name: upstream.about() for upstream in upstreams},
        **{package: _packaged(package) for upstream in upstreams for package in upstream.peer.packages},
    }
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    return Setting(date, platform.release(), _cpu_model(), os.cpu_count() or 0, os.getloadavg()[0], versions)


def _first_match(pattern: str, command: Sequence[str]) -> str:
    # Both nginx and wrk tell their version in an output stream and with an exit status of their own choice.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(pattern, done.stdout + done.stderr)
    return match[1] if match else "unknown"


def _packaged(package: str) -> str:
    """The version that Debian installed."""
    if not shutil.which("dpkg-query"):
        return "unknown"
    return _first_match(r"(\S+)", ["dpkg-query", "-W", "-f", "${Version}", package])


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()
