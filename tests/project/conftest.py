"""What the tests of the command share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..support.command import ECHO


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration and a script."""
    (tmp_path / "lua_scripts").mkdir()
    (tmp_path / "lua_scripts" / "echo.lua").write_text(ECHO)
    (tmp_path / "config.toml").write_text('bind = "unix:s.sock"\n')
    return tmp_path
