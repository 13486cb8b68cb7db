"""Folders in memory are counted by these tests: those of one worker at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..support import memory_folders


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Wait until no other worker runs a test that makes or counts such folders."""
    with memory_folders.place(alone=True):
        yield
