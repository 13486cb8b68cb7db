"""A file that only those find who have its descriptor: what processes share, and pass on to a new binary."""

from __future__ import annotations

import os


def nameless_file() -> int:
    """A new one, empty, which goes when the last process has closed it. Raises `OSError`."""
    try:
        return os.memfd_create("greenfcgi")
    except (AttributeError, OSError):
        # Other systems than Linux, or one that forbids it.
        from tempfile import TemporaryFile

        with TemporaryFile(buffering=0) as file:
            return os.dup(file.fileno())
