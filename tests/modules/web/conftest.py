"""A state of each Lua that matters here, and forms as browsers send them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ...support.inside import Inside


@pytest.fixture(params=["luajit21", "lua51", "lua54"])
def lua(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Inside]:
    """A folder of scripts."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()
