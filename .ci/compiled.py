"""Hatch's build hook that compiles the core with mypyc: the wheel then holds extension modules beside their sources.

It is left out unless `HATCH_BUILD_HOOKS_ENABLE=1` asks for it, and of an editable install always: what is edited must
be what runs. All is built in a copy, so that no extension module ever lies in the source tree, where it would be
imported instead of the source. (The plugin hatch-mypyc leaves them there, and moves pyproject.toml away meanwhile.)

Which modules are compiled, and with what, is in pyproject.toml.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PACKAGE = "greenfcgi"
#: mypy's options first: no configuration of whoever builds, and types of dependencies only where they are installed.
_SETUP = """\
from mypyc.build import mypycify
from setuptools import setup

options = ["--config-file=", "--strict", "--ignore-missing-imports"]
setup(name="core", packages=[], ext_modules=mypycify(options + {sources}, group_name={package!r}, debug_level="0"))
"""


class Compiled(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel, which then is for one platform and one version of Python.

    The version of mypyc goes into the wheel's metadata.
    """

    _folder: TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile. Raises `RuntimeError` with what the tools said when that fails."""
        if self.target_name != "wheel" or version == "editable":
            return
        self._folder = TemporaryDirectory(prefix=f"{_PACKAGE}-")
        copy = Path(self._folder.name)
        shutil.copytree(Path(self.root, _PACKAGE), copy / _PACKAGE)
        sources = [f"{_PACKAGE}/{module.replace('.', '/')}.py" for module in self.config["modules"]]
        (copy / "setup.py").write_text(_SETUP.format(sources=sources, package=_PACKAGE))
        done = subprocess.run(
            [sys.executable, "setup.py", "build_ext", "--inplace"],
            cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"the core does not compile:\n{done.stdout}")
        found = [*copy.glob("*.so"), *(copy / _PACKAGE).rglob("*.so")]
        build_data["force_include"].update({str(path): str(path.relative_to(copy)) for path in found})
        told = copy / "mypyc"
        told.write_text(importlib.metadata.version("mypy"))
        build_data["extra_metadata"][str(told)] = told.name
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel has been written: the copy can go."""
        if self._folder is not None:
            self._folder.cleanup()
