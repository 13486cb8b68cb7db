"""Memory that all processes of a supervisor share: the last heartbeat of each, and its last message.

It is created before they are forked; each writes to its own slot, and reads all. Pages that are never written cost
nothing.
"""

from __future__ import annotations

import mmap
import struct
from time import monotonic

#: Bytes of a message.
MAX_MESSAGE = 256 * 1024

#: The time of the last heartbeat (seconds of the monotonic clock), and the number of requests that ran then.
_HEARTBEAT = struct.Struct("=dQ")
#: How often a page has been written (odd: it is being written), and the length of its message.
_HEADER = struct.Struct("=QQ")
_PAGE = _HEADER.size + MAX_MESSAGE
#: The last heartbeat, and two pages that are written in turn: a process that dies while it writes leaves the other.
_SLOT = _HEARTBEAT.size + 2 * _PAGE
#: A reader gives up after so many tries; in each, the writer has written both pages meanwhile.
_MAX_TRIES = 100


class Scoreboard:
    """`slots` slots, each of one process at a time; the first one is the supervisor's."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._memory = mmap.mmap(-1, slots * _SLOT)

    def record_heartbeat(self, slot: int, requests: int = 0) -> None:
        """Note the time: the process of this slot is well, and runs so many requests."""
        _HEARTBEAT.pack_into(self._memory, slot * _SLOT, monotonic(), requests)

    def last_heartbeat(self, slot: int) -> float:
        """The time of a slot's last heartbeat, in seconds of the monotonic clock; 0 when there was none."""
        found: float = _HEARTBEAT.unpack_from(self._memory, slot * _SLOT)[0]
        return found

    def requests(self, slot: int) -> int:
        """How many requests the process of a slot ran at its last heartbeat."""
        found: int = _HEARTBEAT.unpack_from(self._memory, slot * _SLOT)[1]
        return found

    def publish(self, slot: int, data: bytes) -> None:
        """Replace the message of a slot. Raises `ValueError` when it is longer than `MAX_MESSAGE` bytes."""
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(data)} bytes, expected at most {MAX_MESSAGE}")
        (_, times), (page, _) = self._pages(slot)
        # The page of a process that died while it wrote has an odd count, and is ignored.
        times += 2 - times % 2
        _HEADER.pack_into(self._memory, page, times - 1, 0)
        self._memory[page + _HEADER.size : page + _HEADER.size + len(data)] = data
        _HEADER.pack_into(self._memory, page, times, len(data))

    def read(self, slot: int) -> bytes:
        """The last message of a slot; empty when there is none."""
        for _ in range(_MAX_TRIES):
            page, times = self._pages(slot)[0]
            found = _HEADER.unpack_from(self._memory, page)
            data = self._memory[page + _HEADER.size : page + _HEADER.size + found[1]]
            if found[0] == times and _HEADER.unpack_from(self._memory, page) == found:
                return data
        return b""

    def _pages(self, slot: int) -> list[tuple[int, int]]:
        """(offset, how often written) of both pages; that with the newest whole message comes first."""
        first = slot * _SLOT + _HEARTBEAT.size
        found = [(page, _HEADER.unpack_from(self._memory, page)[0]) for page in (first, first + _PAGE)]
        return sorted(found, key=lambda one: (one[1] % 2, -one[1]))

    def read_all(self) -> list[bytes]:
        """The messages of all slots but the first, where there are any."""
        return [data for data in map(self.read, range(1, self.slots)) if data]

    def clear(self, slot: int) -> None:
        """Remove the messages of a slot whose process has ended."""
        self.publish(slot, b"")
        self.publish(slot, b"")
