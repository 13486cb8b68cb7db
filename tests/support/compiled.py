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
from typing import Any, NamedTuple

_PROJECT = Path(__file__).parents[2]
#: Makes the build fail where the core does not compile.
_ASKED = {"HATCH_BUILD_HOOKS_ENABLE": "1"}
#: The tools of a build are used once: pip need not compile them.
_NO_BYTECODE = {"PIP_COMPILE": "0"}
#: Seconds for the build: it takes 30, and what it needs may have to be fetched.
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
    return list(_hook()["modules"])


def newest_python() -> tuple[int, ...]:
    """The newest Python that a plain build compiles with."""
    return tuple(map(int, str(_hook()["newest-python"]).split(".")))


def build(folder: Path) -> Built:
    """The wheel, built below `folder` and unpacked there; or what is installed, where that is the same.

    Raises `NotBuilt` when there is no compiler, or no pip that gets at a registry, and `RuntimeError` when it does not
    compile.
    """
    _look_for_tools()
    unpacked = _installed(folder) or _wheel(folder, _ASKED)
    (told,) = unpacked.glob("*.dist-info/extra_metadata/mypyc")
    return Built(unpacked, told.read_text())


def build_plain(folder: Path, environment: dict[str, str], project: Path = _PROJECT) -> Path:
    """The package as a plain build makes it with these variables, unpacked below `folder`. Raises as `build` does."""
    if find_spec("pip") is None:
        raise NotBuilt("a wheel needs pip, to build it")
    return _wheel(folder, environment, project)


def with_one_module(folder: Path) -> Path:
    """A copy of the project in `folder` of which one module is compiled: mypyc has to look at no other."""
    for name in ("greenfcgi", ".ci"):
        shutil.copytree(_PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(_PROJECT / name, folder)
    text, count = re.subn(
        r"^modules = \[.*?\]", 'modules = ["fastcgi.records"]', (_PROJECT / "pyproject.toml").read_text(),
        flags=re.MULTILINE | re.DOTALL,
    )  # fmt: skip
    assert count == 1
    (folder / "pyproject.toml").write_text(text)
    return folder


def _hook() -> dict[str, Any]:
    project = tomllib.loads((_PROJECT / "pyproject.toml").read_text())
    found: dict[str, Any] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    return found


def _installed(folder: Path) -> Path | None:
    """A copy of the installed package, where that is compiled from the very sources that are here."""
    site, package = Path(sysconfig.get_path("platlib")), _PROJECT / "greenfcgi"
    for source in package.rglob("*"):
        same = site / source.relative_to(_PROJECT)
        if source.suffix in (".py", ".lua") and not (same.exists() and same.read_bytes() == source.read_bytes()):
            return None
    if not all(list(site.glob(f"greenfcgi/{module.replace('.', '/')}.*.so")) for module in modules()):
        return None
    copy = folder / "compiled"
    copy.mkdir()
    for part in site.glob("greenfcgi*"):
        if part.is_dir():
            shutil.copytree(part, copy / part.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(part, copy)
    return copy


def _wheel(folder: Path, environment: dict[str, str], project: Path = _PROJECT) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(project)]
    environment = os.environ | _NO_BYTECODE | environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    if _NO_TOOLS.search(done.stdout + done.stderr):
        raise NotBuilt("a wheel needs the package registry, for its tools")
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    (wheel,) = folder.glob("*.whl")
    unpacked = folder / "compiled"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    return unpacked


def _look_for_tools() -> None:
    if find_spec("pip") is None:
        raise NotBuilt("the compiled core needs pip, to build it")
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if not shutil.which(command[0]):
        raise NotBuilt(f"the compiled core needs a C compiler: there is no {command[0]}")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise NotBuilt(f"the compiled core needs Python's headers: there is no {header}")
