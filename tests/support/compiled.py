"""The package with its core compiled, for what tests and measures it: built as a wheel, in a folder of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_PROJECT = Path(__file__).parents[2]
#: Asks for the hook of pyproject.toml, as the README does.
_ASKED = {"HATCH_BUILD_HOOKS_ENABLE": "1"}
#: Seconds for the build: it takes 15, and what it needs may have to be fetched.
_PATIENCE = 300
#: What pip says when the tools of the build cannot be had.
_NO_TOOLS = re.compile(r"pip subprocess to install \w+ dependencies did not run")


class NotBuilt(Exception):
    """It cannot be built here: one line says what is missing."""


class Built(NamedTuple):
    """The folder that holds the package, for sys.path, and the version of mypyc that has compiled it."""

    folder: Path
    mypyc: str


def modules() -> list[str]:
    """The names of the modules that are compiled."""
    project = tomllib.loads((_PROJECT / "pyproject.toml").read_text())
    return list(project["tool"]["hatch"]["build"]["hooks"]["custom"]["modules"])


def build(folder: Path) -> Built:
    """Build the wheel below `folder`, and unpack it there.

    Raises `NotBuilt` when there is no compiler, or no pip that gets at a registry, and `RuntimeError` when it does not
    compile.
    """
    _look_for_tools()
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(_PROJECT)]
    done = subprocess.run(
        command, env=os.environ | _ASKED, capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    if _NO_TOOLS.search(done.stdout + done.stderr):
        raise NotBuilt("the compiled core needs the package registry, for its tools")
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    (wheel,) = folder.glob("*.whl")
    unpacked = folder / "compiled"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    (told,) = unpacked.glob("*.dist-info/extra_metadata/mypyc")
    return Built(unpacked, told.read_text())


def _look_for_tools() -> None:
    if find_spec("pip") is None:
        raise NotBuilt("the compiled core needs pip, to build it")
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if not shutil.which(command[0]):
        raise NotBuilt(f"the compiled core needs a C compiler: there is no {command[0]}")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise NotBuilt(f"the compiled core needs Python's headers: there is no {header}")
