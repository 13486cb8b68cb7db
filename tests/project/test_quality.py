"""The source is clean and soundly typed: ruff and mypy, as in pyproject.toml; and luacheck for what is Lua."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=["ruff", "format", "mypy"]
)
def test_nothing_is_found(command: list[str]) -> None:
    """The tool has no complaint about any file of the repository."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_luacheck_finds_nothing() -> None:
    """Nor in the Lua sources: those of the server, and the samples."""
    luacheck = shutil.which("luacheck")
    if luacheck is None:
        pytest.skip("there is no luacheck (Debian: lua-check)")
    done = subprocess.run(
        [luacheck, "--no-color", "greenfcgi", "lua_scripts"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
