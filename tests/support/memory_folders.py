"""Folders in memory (greenfcgi.system.memory_folder) are all in one place: tests that count them want it alone."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def place(*, alone: bool) -> Iterator[None]:
    """Wait until no other worker runs a test that counts folders; with `alone`, none that makes any."""
    with open(Path(tempfile.gettempdir(), "greenfcgi-tests-of-shared.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
