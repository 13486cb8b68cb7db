"""A request's body: in memory while there is room, else in a temporary file. Knows no protocol."""

from __future__ import annotations

from typing import IO, ClassVar

#: Bytes that one body may take in memory in any case, and those that it may where there is room: one as long as
#: `scripts.max_post` allows by default. What is longer goes to a file in the temporary directory, which costs an upload
#: of 1 MiB twice the CPU.
MOST_IN_MEMORY = 64 * 1024
MOST_WITH_ROOM = 1280 * 1024
#: What each part of a body takes beside its own bytes: a web server may send it in records of one.
_OVERHEAD = 64
#: Bytes that all bodies together may take.
MOST_OF_ALL = 32 * MOST_WITH_ROOM


class Body:
    """Written as it comes in, then read from its beginning.

    `write` and `read` raise `OSError` when the temporary file cannot be made, written or read (a full disk).
    """

    __slots__ = ("_at", "_file", "_held", "_parts", "length")

    #: Bytes that all bodies keep in memory, and that they have let go since somebody set this to 0.
    held: ClassVar[int] = 0
    released: ClassVar[int] = 0

    def __init__(self) -> None:
        #: Bytes written so far.
        self.length = 0
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._at = 0
        self._held = 0

    def write(self, data: bytes) -> None:
        """Add `data` at the end."""
        self.length += len(data)
        if self._file is None:
            self._parts.append(data)
            self._hold(len(data) + _OVERHEAD)
            if self._held <= (MOST_WITH_ROOM if Body.held <= MOST_OF_ALL else MOST_IN_MEMORY):
                return
            # Imported here: most servers never see a large body, and it costs 0.5 MB of memory.
            from tempfile import TemporaryFile

            self._file = TemporaryFile(prefix="greenfcgi-", buffering=0)  # noqa: SIM115  # `close` closes it
            data = b"".join(self._parts)
            self._let_go()
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            view = view[written:]

    def read(self, most: int = -1) -> bytes:
        """The next bytes: all that are left, or at most `most`. Empty at the end."""
        left = self.length - self._at
        size = left if most < 0 else min(most, left)
        if self._file is not None:
            self._file.seek(self._at)
            data = b""
            while len(data) < size:
                part = self._file.read(size - len(data))
                if not part:
                    break
                data += part
        else:
            if len(self._parts) > 1:
                self._parts = [b"".join(self._parts)]
            data = self._parts[0][self._at : self._at + size] if self._parts else b""
        self._at += len(data)
        return data

    def beginning(self, size: int) -> bytes:
        """At most `size` bytes from its beginning, whatever has been read; the next `read` goes on as before."""
        at, self._at = self._at, 0
        try:
            return self.read(size)
        finally:
            self._at = at

    def close(self) -> None:
        """Give the memory and the file back."""
        self._let_go()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _hold(self, size: int) -> None:
        self._held += size
        Body.held += size

    def _let_go(self) -> None:
        self._parts.clear()
        Body.released += self._held
        self._hold(-self._held)
