"""A request's body: in memory while there is room, else in a temporary file. Knows no protocol."""

from __future__ import annotations

from typing import Final

from ..fastcgi.records import Buffer
from ..quota import Quota
from .spool import Spool

#: Bytes that one body may take in memory: one as long as `scripts.max_post` allows by default. What is longer goes to a
#: temporary file, which costs an upload of 1 MiB twice the CPU.
MAX_IN_MEMORY: Final = 1280 * 1024
#: Bytes of memory that each part of a body takes beside its own: a web server may send it in records of one byte.
_OVERHEAD: Final = 64


class Body:
    """Written as it comes in, then read from its beginning.

    What it holds in memory is taken from `memory`, a file from `files`. `write` and `read` raise `OSError` when the
    temporary file cannot be made, written or read (a full disk, no descriptor left).
    """

    __slots__ = ("_at", "_file", "_files", "_held", "_memory", "_parts", "length")

    def __init__(self, memory: Quota, files: Quota) -> None:
        self._memory = memory
        self._files = files
        #: Bytes written so far.
        self.length = 0
        self._parts: list[Buffer] = []
        self._file: Spool | None = None
        self._at = 0
        self._held = 0

    def write(self, data: Buffer) -> None:
        """Add `data` at the end."""
        self.length += len(data)
        if self._file is None:
            cost = len(data) + _OVERHEAD
            if self._held + cost <= MAX_IN_MEMORY and self._memory.take(cost):
                self._held += cost
                self._parts.append(data)
                return
            self._file = Spool(self._files)
            for part in self._parts:
                self._file.append(part)
            self._release_memory()
        self._file.append(data)

    def read(self, size: int = -1) -> bytes:
        """The next bytes: all that are left, or at most `size`. Empty at the end."""
        left = self.length - self._at
        if size < 0 or size > left:
            size = left
        if self._file is not None:
            data = self._file.read(self._at, size)
        else:
            whole = self._parts[0] if len(self._parts) == 1 else None
            if not isinstance(whole, bytes):
                whole = b"".join(self._parts)
                self._parts = [whole]
            data = whole[self._at : self._at + size]
        self._at += len(data)
        return data

    def beginning(self, size: int) -> bytes:
        """At most its first `size` bytes; the position of `read` stays where it is."""
        at, self._at = self._at, 0
        try:
            return self.read(size)
        finally:
            self._at = at

    def close(self) -> None:
        """Give the memory and the file back to their quotas."""
        self._release_memory()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _release_memory(self) -> None:
        self._parts.clear()
        self._memory.give_back(self._held)
        self._held = 0
