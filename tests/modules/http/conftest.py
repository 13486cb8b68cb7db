"""The Luas that these tests run on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.modules.http import pool

from ...support.inside import Inside
from ...support.running import until


@pytest.fixture(params=("luajit21", "lua51", "lua54"))
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua. Afterwards no descriptor is open that was not before."""
    pool.close_all()
    inside = Inside(tmp_path, request.param, "[lua]\nmemory = 8000000\n")
    yield inside
    inside.close()
    pool.close_all()


@pytest.fixture
def descriptors() -> Iterator[None]:
    """What requests have opened is closed in the end, but for what is kept."""
    pool.close_all()

    def count() -> int:
        return sum("socket:" in _target(name) for name in os.listdir("/proc/self/fd"))

    before = count()
    yield
    pool.close_all()
    # The servers' ends are this process's, too, and their threads take a moment.
    until(lambda: count() <= before, "all to be closed")


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""
