"""A temporary file for what memory has no room for. It has no name, and is gone when it is closed."""

from __future__ import annotations

import errno
import os
from typing import IO

from ..fastcgi.records import Buffer
from ..quota import Quota
from ..system.temporary_files import close_file, temporary_folder


class Spool:
    """Bytes in a file: added at the end, read from anywhere.

    Takes one descriptor of `files`. Raises `OSError` when there is none left, or no file can be made; `append` and
    `read` raise it, too (a full disk).
    """

    __slots__ = ("_file", "_files", "size")

    def __init__(self, files: Quota) -> None:
        from tempfile import TemporaryFile

        if not files.take(1):
            raise OSError(errno.EMFILE, "no descriptor is left for a temporary file")
        self._files = files
        #: Bytes in it.
        self.size = 0
        try:
            # `close` closes it.
            self._file: IO[bytes] = TemporaryFile(prefix="greenfcgi-", buffering=0, dir=temporary_folder())  # noqa: SIM115
        except BaseException:
            files.give_back(1)
            raise

    def append(self, data: Buffer) -> None:
        """Add `data` at the end."""
        view = memoryview(data)
        descriptor = self._file.fileno()
        while view:
            written = os.pwrite(descriptor, view, self.size)
            self.size += written
            view = view[written:]

    def read(self, at: int, size: int) -> bytes:
        """The bytes from `at` on: `size` of them, or as many as there are."""
        descriptor = self._file.fileno()
        parts: list[bytes] = []
        while size > 0:
            part = os.pread(descriptor, size, at)
            if not part:
                break
            parts.append(part)
            at += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Give the descriptor and the room on the disk back."""
        close_file(self._file, self.size)
        self._files.give_back(1)
