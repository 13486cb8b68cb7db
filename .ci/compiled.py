"""Hatch's build hook: it compiles the core with mypyc, so that the wheel holds extension modules beside their sources,
and has the manual's pages written (manual.py), which the wheel takes to share/man.

Each build of a wheel tries; where it cannot be had, the wheel is pure Python, and one line in it says why, which
`greenfcgi --version` and the log repeat (pip shows what a hook says only with -v). With `HATCH_BUILD_HOOKS_ENABLE=1`
such a build fails instead; with `GREENFCGI_PURE=1` it does not try, and with `HATCH_BUILD_NO_HOOKS=1` there are no
pages either. An editable install is never compiled: what is edited must be what runs.

All is built in a copy, so that no extension module ever lies in the source tree, where it would be imported instead of
the source. (The plugin hatch-mypyc leaves them there, and moves pyproject.toml away meanwhile.)

Which modules are compiled, and with what, is in pyproject.toml.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PACKAGE = "greenfcgi"
#: Where there are wheels of mypy and of what it needs. Elsewhere pip would build those from source, with Rust.
_MACHINES = ("x86_64", "aarch64")
#: Bytes of memory. To compile takes 190 MB of them, and a small box has other things to do.
_MIN_MEMORY = 900 * 1024**2
#: Characters of what the tools said: it is in the first line of each log, and some of them quote a whole command.
_MAX_REASON = 100
#: mypy's options first: no configuration of whoever builds, and types of dependencies only where they are installed.
#: With -O1 the C compiler takes half the time of -O3, for code that needs 0.5 % more instructions; with a file for each
#: module it takes half the memory.
_SETUP = """\
from mypyc.build import mypycify
from setuptools import setup

options = ["--config-file=", "--strict", "--ignore-missing-imports"]
core = mypycify(options + {sources}, group_name={package!r}, opt_level="1", debug_level="0", multi_file=True)
setup(name="core", packages=[], ext_modules=core)
"""


class Compiled(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel, which then is for one platform and one version of Python.

    The version of mypyc goes into the wheel's metadata; the reason why there are none goes into the package.
    """

    _folder: TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        """What pip fetches before the build: nothing where it could not be used."""
        return [] if _is_unwanted() or self._obstacle() else list(self.config["tools"])

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile. Raises `RuntimeError` with what the tools said when that fails, where it has been asked for."""
        if version == "editable":
            return
        self._folder = TemporaryDirectory(prefix=f"{_PACKAGE}-")
        copy = Path(self._folder.name)
        self._add_manual(copy / "man", build_data)
        if _is_unwanted():
            return
        reason = self._obstacle() or self._compile(copy, build_data)
        if reason:
            self.app.display_warning(f"the core is not compiled: {reason}")
            (copy / "reason").write_text(reason, encoding="utf-8")
            build_data["force_include"][str(copy / "reason")] = f"{_PACKAGE}/not-compiled.txt"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel has been written: the copy can go."""
        if self._folder is not None:
            self._folder.cleanup()

    def _add_manual(self, folder: Path, build_data: dict[str, Any]) -> None:
        # In a process of its own: it imports the package.
        subprocess.run([sys.executable, "-B", str(Path(self.root, ".ci", "manual.py")), str(folder)], check=True)
        for page in folder.iterdir():
            build_data["shared_data"][str(page)] = f"share/man/man{page.suffix[1:]}/{page.name}"

    def _obstacle(self) -> str:
        """Why it is not tried here, in a few words; empty when it is."""
        if _is_asked_for():
            return ""
        newest = tuple(map(int, self.config["newest-python"].split(".")))
        if sys.platform != "linux" or platform.machine() not in _MACHINES:
            return f"mypyc is not there for {platform.system()} on {platform.machine()}"
        if sys.implementation.name != "cpython" or sys.version_info[:2] > newest:
            return f"it has not been tested with {platform.python_implementation()} {platform.python_version()}"
        usual = sysconfig.get_config_var("CC") or "cc"
        compiler = (shlex.split(os.environ.get("CC", "")) or shlex.split(usual))[0]
        if not shutil.which(compiler):
            return f"no C compiler ({compiler})"
        if not Path(sysconfig.get_path("include"), "Python.h").exists():
            return "no headers of Python (python3-dev, python3-devel)"
        if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < _MIN_MEMORY:
            return "less than 1 GB of memory"
        return ""

    def _compile(self, copy: Path, build_data: dict[str, Any]) -> str:
        """Compile in a folder, and have the wheel take what comes of it. Returns why that failed, or nothing."""
        shutil.copytree(Path(self.root, _PACKAGE), copy / _PACKAGE)
        sources = [f"{_PACKAGE}/{module.replace('.', '/')}.py" for module in self.config["modules"]]
        (copy / "setup.py").write_text(_SETUP.format(sources=sources, package=_PACKAGE))
        done = subprocess.run(
            [sys.executable, "setup.py", "build_ext", "--inplace"],
            cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            if _is_asked_for():
                raise RuntimeError(f"the core does not compile:\n{done.stdout}")
            self.app.display_info(done.stdout)
            return textwrap.shorten((done.stdout.strip() or "the compiler was ended").splitlines()[-1], _MAX_REASON)
        found = [*copy.glob("*.so"), *(copy / _PACKAGE).rglob("*.so")]
        build_data["force_include"].update({str(path): str(path.relative_to(copy)) for path in found})
        told = copy / "mypyc"
        told.write_text(importlib.metadata.version("mypy"))
        build_data["extra_metadata"][str(told)] = told.name
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        return ""


def _is_unwanted() -> bool:
    return os.environ.get("GREENFCGI_PURE") == "1"


def _is_asked_for() -> bool:
    return os.environ.get("HATCH_BUILD_HOOKS_ENABLE") in ("1", "true")
