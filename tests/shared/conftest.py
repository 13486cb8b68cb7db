"""Folders in memory are counted by these tests: those of one worker at a time."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Wait until no other worker runs a test that makes such folders."""
    with open(Path(tempfile.gettempdir(), "greenfcgi-tests-of-shared.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
