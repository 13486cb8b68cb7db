"""Temporary files: without a name, which processes share and pass on to a new binary; and large ones that go.

The system takes its time to free these, 0.3 s for a gigabyte, in which nobody else should wait.
"""

from __future__ import annotations

import errno
import os
from _thread import start_new_thread
from contextlib import suppress
from typing import IO, Final

#: Bytes from which on a file is large: it takes some milliseconds.
_LARGE: Final = 16 * 1024 * 1024
_NO_FOLDER: Final = "no folder for temporary files: set TMPDIR to one that can be written to"


def temporary_folder() -> str:
    """Where temporary files are. Raises `OSError` where nobody has set TMPDIR and no usual place can be written to."""
    # Imported here, as below: most servers never need it, and it costs 0.5 MB of memory.
    from tempfile import gettempdir

    try:
        return gettempdir()
    except FileNotFoundError:
        # Python's own message is a list of all places.
        raise FileNotFoundError(errno.ENOENT, _NO_FOLDER) from None


def nameless_file() -> int:
    """A new file that only those find who have its descriptor; it goes with the last of them. Raises `OSError`."""
    try:
        return os.memfd_create("greenfcgi")
    except (AttributeError, OSError):
        # Other systems than Linux, or one that forbids it.
        from tempfile import TemporaryFile

        with TemporaryFile(buffering=0, dir=temporary_folder()) as file:
            return os.dup(file.fileno())


def close_file(file: IO[bytes], size: int) -> None:
    """Close a file without a name, of so many bytes."""
    descriptor = -1
    if size >= _LARGE:
        with suppress(OSError):
            descriptor = os.dup(file.fileno())
    file.close()
    if descriptor != -1:
        _close_aside(descriptor)


def remove(path: str, size: int) -> None:
    """Remove a file of so many bytes. Raises `OSError`."""
    if size < _LARGE:
        os.unlink(path)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.unlink(path)
    finally:
        _close_aside(descriptor)


def _close_aside(descriptor: int) -> None:
    """In a thread of its own."""
    try:
        start_new_thread(os.close, (descriptor,))
    except RuntimeError:
        # The system lets the process have no thread more.
        os.close(descriptor)
