"""Memory that all processes of a supervisor share: when each has last beaten, and what it tells of itself.

Made before the processes are; each writes into its own slot, and all can read all. Pages that nobody writes to cost
nothing.
"""

from __future__ import annotations

import mmap
import struct
from time import monotonic

#: Bytes that a process can tell of itself.
MAX_MESSAGE = 256 * 1024

_BEAT = struct.Struct("=d")
#: How often something has been told (odd: the process is at it), and the length of what was told last.
_TOLD = struct.Struct("=QQ")
_PAGE = _TOLD.size + MAX_MESSAGE
#: When the process beat last (seconds of the monotonic clock), and two pages that are written in turn: one that dies
#: while it writes leaves the other.
_SLOT = _BEAT.size + 2 * _PAGE
#: So often may somebody write two pages while one is read.
_TRIES = 100


class Scoreboard:
    """`slots` slots, each of one process at a time; the first one is the supervisor's."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._memory = mmap.mmap(-1, slots * _SLOT)

    def record_heartbeat(self, slot: int) -> None:
        """The process is well."""
        _BEAT.pack_into(self._memory, slot * _SLOT, monotonic())

    def last_heartbeat(self, slot: int) -> float:
        """When the process of a slot beat last, in seconds of the monotonic clock; 0 when never."""
        found: float = _BEAT.unpack_from(self._memory, slot * _SLOT)[0]
        return found

    def publish(self, slot: int, data: bytes) -> None:
        """Replace the message of a slot. Raises `ValueError` when it is longer than `MAX_MESSAGE` bytes."""
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(data)} bytes, at most {MAX_MESSAGE} can be told")
        (_, times), (page, _) = self._pages(slot)
        # A page that somebody died at is odd, and counts for nothing.
        times += 2 - times % 2
        _TOLD.pack_into(self._memory, page, times - 1, 0)
        self._memory[page + _TOLD.size : page + _TOLD.size + len(data)] = data
        _TOLD.pack_into(self._memory, page, times, len(data))

    def read(self, slot: int) -> bytes:
        """What the process of a slot has told last; empty when nothing."""
        for _ in range(_TRIES):
            page, times = self._pages(slot)[0]
            found = _TOLD.unpack_from(self._memory, page)
            data = self._memory[page + _TOLD.size : page + _TOLD.size + found[1]]
            if found[0] == times and _TOLD.unpack_from(self._memory, page) == found:
                return data
        return b""

    def _pages(self, slot: int) -> list[tuple[int, int]]:
        """(offset, how often told) of both pages, that with the newest whole message first."""
        first = slot * _SLOT + _BEAT.size
        found = [(page, _TOLD.unpack_from(self._memory, page)[0]) for page in (first, first + _PAGE)]
        return sorted(found, key=lambda one: (one[1] % 2, -one[1]))

    def read_all(self) -> list[bytes]:
        """What is told in each slot but the first, where something is."""
        return [data for data in map(self.read, range(1, self.slots)) if data]

    def clear(self, slot: int) -> None:
        """Forget what is told in a slot whose process has ended."""
        self.publish(slot, b"")
        self.publish(slot, b"")
