"""wrk: clients that ask for one address without pause, and what they saw."""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import BenchError, NotInstalled

CLIENTS = 32
#: The part of wrk that makes POST requests of a file: `wrk -s POST URL -- FILE`.
_POST = Path(__file__).resolve().parent / "post.lua"
#: Seconds after which a client of wrk gives up a request; more than any queue here takes.
_PATIENCE = 20

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}
_GRACE = 30.0


class Load(NamedTuple):
    """One run of wrk. Latencies in milliseconds; `errors` is empty when every reply came, with status 200."""

    requests: int
    requests_per_second: float
    p50: float
    p99: float
    errors: tuple[str, ...]


class Target(NamedTuple):
    """An address, and the file that is posted to it, if any."""

    url: str
    upload: Path | None = None


def run_wrk(target: Target, seconds: int, clients: int = CLIENTS) -> Load:
    """Load it for so many seconds, on one thread. Raises `BenchError` when wrk fails."""
    command = _command(target, seconds, clients)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _GRACE, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"wrk did not come back from {target.url}") from error
    if done.returncode:
        raise BenchError(f"wrk ended with status {done.returncode}: {(done.stdout + done.stderr).strip()}")
    return parse(done.stdout)


def warm_up(target: Target, seconds: float) -> None:
    """Load it for a time that does not count, which for wrk is less than the second that it counts in."""
    with subprocess.Popen(_command(target, 10, CLIENTS), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as wrk:
        try:
            time.sleep(seconds)
        finally:
            wrk.send_signal(signal.SIGINT)


def _command(target: Target, seconds: int, clients: int) -> Sequence[str]:
    options = ["-t", "1", "-c", str(clients), "-d", f"{seconds}s", "--timeout", f"{_PATIENCE}s", "--latency"]
    if target.upload is None:
        return [wrk_program(), *options, target.url]
    return [wrk_program(), *options, "-s", str(_POST), target.url, "--", str(target.upload)]


def parse(output: str) -> Load:
    """Read what `wrk --latency` prints. Raises `BenchError` when a figure is missing or no reply came."""
    requests = int(_find(r"^\s*(\d+) requests in ", output))
    if not requests:
        raise BenchError("wrk got no reply at all")
    rate = _find(r"^Requests/sec:\s*([\d.]+)", output)
    p50 = _milliseconds(_find(r"^\s*50%\s+(\S+)", output))
    p99 = _milliseconds(_find(r"^\s*99%\s+(\S+)", output))
    return Load(requests, float(rate), p50, p99, _errors(output))


def wrk_program() -> str:
    """Raises `BenchError` when there is none."""
    found = shutil.which("wrk")
    if not found:
        raise NotInstalled("wrk is not installed: apt-get install wrk")
    return found


def _errors(output: str) -> tuple[str, ...]:
    # wrk prints these two lines only when there is something to count.
    return tuple(re.findall(r"^\s*((?:Socket errors|Non-2xx or 3xx responses): .*\S)\s*$", output, re.MULTILINE))


def _find(pattern: str, output: str) -> str:
    match = re.search(pattern, output, re.MULTILINE)
    if not match:
        raise BenchError(f"wrk printed nothing like {pattern!r}: {output!r}")
    return match[1]


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if not match:
        raise BenchError(f"wrk printed a latency that is none: {text!r}")
    return float(match[1]) * _UNITS[match[2]]
