"""The Luas that these tests run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ...support.inside import Inside


@pytest.fixture(params=("luajit21", "lua51", "lua54"))
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua."""
    inside = Inside(tmp_path, request.param, "[lua]\nmemory = 16000000\n")
    yield inside
    inside.close()
