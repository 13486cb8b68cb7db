"""Memory that all processes of a supervisor share: when each has last beaten, and what it tells of itself.

Made before the processes are; each writes into its own slot, and all can read all. Pages that nobody writes to cost
nothing.
"""

from __future__ import annotations

import mmap
import struct
from time import monotonic

#: Bytes that a process can tell of itself.
ROOM = 128 * 1024

#: When the process beat last (seconds of the monotonic clock); how often it has told something (odd: it is at it), and
#: the length of that.
_BEAT = struct.Struct("=d")
_TOLD = struct.Struct("=QQ")
_TOLD_AT = _BEAT.size
_HEAD_SIZE = _TOLD_AT + _TOLD.size
_SLOT = _HEAD_SIZE + ROOM
#: A process that dies while it writes leaves a slot that nobody can read.
_TRIES = 100


class Board:
    """`slots` slots, each of one process at a time; the first one is the supervisor's."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._memory = mmap.mmap(-1, slots * _SLOT)

    def beat(self, slot: int) -> None:
        """The process is well."""
        _BEAT.pack_into(self._memory, slot * _SLOT, monotonic())

    def last_beat(self, slot: int) -> float:
        """When the process of a slot beat last, in seconds of the monotonic clock; 0 when never."""
        found: float = _BEAT.unpack_from(self._memory, slot * _SLOT)[0]
        return found

    def publish(self, slot: int, data: bytes) -> bool:
        """Tell something; it takes the place of what was told before. False when it is longer than `ROOM`."""
        if len(data) > ROOM:
            return False
        start = slot * _SLOT
        times, _ = _TOLD.unpack_from(self._memory, start + _TOLD_AT)
        _TOLD.pack_into(self._memory, start + _TOLD_AT, times | 1, 0)
        self._memory[start + _HEAD_SIZE : start + _HEAD_SIZE + len(data)] = data
        _TOLD.pack_into(self._memory, start + _TOLD_AT, (times | 1) + 1, len(data))
        return True

    def told(self, slot: int) -> bytes:
        """What the process of a slot has told last; empty when nothing, or when it cannot be read."""
        start = slot * _SLOT
        for _ in range(_TRIES):
            times, length = _TOLD.unpack_from(self._memory, start + _TOLD_AT)
            data = self._memory[start + _HEAD_SIZE : start + _HEAD_SIZE + length]
            if times % 2 == 0 and _TOLD.unpack_from(self._memory, start + _TOLD_AT) == (times, length):
                return data
        return b""

    def others(self) -> list[bytes]:
        """What is told in each slot but the first, where something is."""
        return [data for data in map(self.told, range(1, self.slots)) if data]

    def clear(self, slot: int) -> None:
        """Forget what is told in a slot whose process has ended."""
        self.publish(slot, b"")
