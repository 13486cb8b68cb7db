"""What the processes of a supervisor that have ended had told last: added up, so that no counter ever goes back.

The supervisor writes it into the first slot of the board, where every process can read it beside what the others tell.
"""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from . import snapshot
from .board import ROOM, Board
from .snapshot import Snapshot

#: The slot of the supervisor itself.
SLOT = 0
#: Those whose slot has not been taken by another since; the board has fewer slots.
_MOST_KEYS = 1024

#: The process id alone may be another's by now.
_Key = tuple[int, float]


class Overview(NamedTuple):
    """All processes of a server: since when it serves (seconds of the epoch), how often a process has had to be
    replaced, those that there are, and all that there have been added up.
    """

    began: float
    replaced: int
    processes: tuple[Snapshot, ...]
    total: Snapshot


class History:
    """The supervisor's side. Without a status page no process tells anything, and nothing is added up."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._began = time.time()
        self._replaced = 0
        self._keys: list[_Key] = []
        self._total = Snapshot()
        self._write()

    def add(self, slot: int) -> None:
        """The process of this slot has ended."""
        told = self._board.told(slot)
        if not told:
            return
        try:
            last = snapshot.unpack(told)
            together = snapshot.total([self._total, snapshot.ended(last)])
        except Exception:
            # The border to a process: nobody but a script that may write to memory (ffi) tells such a thing.
            last, together = Snapshot(), self._total
        self._keys = [*self._keys, (last.pid, last.started)][-_MOST_KEYS:]
        self._total = together
        self._write()
        self._board.clear(slot)

    def count_replaced(self) -> None:
        """A process has ended that nobody told to."""
        self._replaced += 1
        self._write()

    def _write(self) -> None:
        head = json.dumps((self._began, self._replaced, self._keys)).encode()
        room = ROOM - len(head) - 4
        self._board.publish(SLOT, len(head).to_bytes(4) + head + snapshot.pack(self._total, room))


def read(board: Board, own: Snapshot) -> Overview:
    """All processes, with what this one tells now in the place of what it has told last."""
    others = [snapshot.unpack(told) for told in board.others()]
    # Behind the others: what has been added since they were read is not counted twice.
    told = board.told(SLOT)
    end = 4 + int.from_bytes(told[:4])
    began, replaced, keys = json.loads(told[4:end])
    there = {(one.pid, one.started): one for one in others if [one.pid, one.started] not in keys}
    there[own.pid, own.started] = own
    processes = tuple(sorted(there.values(), key=lambda one: one.pid))
    return Overview(began, replaced, processes, snapshot.total([snapshot.unpack(told[end:]), *processes]))


def alone(own: Snapshot) -> Overview:
    """A process without a supervisor."""
    return Overview(own.started, 0, (own,), snapshot.total([own]))
