"""Figures over all processes of a supervisor, those that have ended included, so that no counter ever goes back.

The supervisor adds up what ended processes had published last, in the first slot of the scoreboard; every process can
read it there, beside what the others publish.
"""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from . import snapshot
from .scoreboard import MAX_MESSAGE, Scoreboard
from .snapshot import Snapshot

#: The slot of the supervisor itself.
SLOT = 0
#: Ended processes that are remembered, so that a message of theirs that is still in its slot is not counted twice.
_MAX_KEYS = 1024

#: Process id and start: the id alone may be another's by now.
_Key = tuple[int, float]


class Overview(NamedTuple):
    """All processes of a server: since when it serves (seconds of the epoch), how many processes had to be replaced,
    those that run, and the total over all that ever ran.
    """

    began: float
    replaced: int
    processes: tuple[Snapshot, ...]
    total: Snapshot


class Totals:
    """The supervisor's side. Without a status page no process publishes anything, and nothing is added up."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._scoreboard = scoreboard
        self._began = time.time()
        self._replaced = 0
        self._keys: list[_Key] = []
        self._total = Snapshot()
        self._write()

    def add(self, slot: int) -> None:
        """Add what the process of this slot published last: it has ended."""
        message = self._scoreboard.read(slot)
        if not message:
            return
        try:
            last = snapshot.unpack(message)
            together = snapshot.total([self._total, snapshot.ended(last)])
        except ValueError:
            last, together = Snapshot(), self._total
        self._keys = [*self._keys, (last.pid, last.started)][-_MAX_KEYS:]
        self._total = together
        self._write()
        self._scoreboard.clear(slot)

    def count_replaced(self) -> None:
        """A process had to be replaced."""
        self._replaced += 1
        self._write()

    def _write(self) -> None:
        head = json.dumps((self._began, self._replaced, self._keys)).encode()
        max_bytes = MAX_MESSAGE - len(head) - 4
        self._scoreboard.publish(SLOT, len(head).to_bytes(4) + head + snapshot.pack(self._total, max_bytes))


def read(scoreboard: Scoreboard, own: Snapshot) -> Overview:
    """All processes; `own` takes the place of what this one published last.

    Invalid messages are skipped: any process can write to any slot, if its scripts may write to memory (ffi).
    """
    others = [found for found in map(_unpacked, scoreboard.read_all()) if found is not None]
    # Behind the others: what has been added since they were read is not counted twice.
    began, replaced, keys, ended = _past(scoreboard.read(SLOT), own.started)
    there = {(one.pid, one.started): one for one in others if [one.pid, one.started] not in keys}
    there[own.pid, own.started] = own
    processes = tuple(sorted(there.values(), key=lambda one: one.pid))
    return Overview(began, replaced, processes, snapshot.total([ended, *processes]))


def _past(message: bytes, started: float) -> tuple[float, int, list[object], Snapshot]:
    """(began, replaced, keys of ended processes, their total) from the supervisor's message.

    Where that is none, the server began at `started`, and nothing was before.
    """
    end = 4 + int.from_bytes(message[:4])
    try:
        began, replaced, keys = json.loads(message[4:end])
        if isinstance(began, float) and isinstance(replaced, int) and isinstance(keys, list):
            return began, replaced, keys, _unpacked(message[end:]) or Snapshot()
    except (ValueError, TypeError, RecursionError):
        pass
    return started, 0, [], Snapshot()


def _unpacked(message: bytes) -> Snapshot | None:
    try:
        return snapshot.unpack(message)
    except ValueError:
        return None


def single(own: Snapshot) -> Overview:
    """The overview of a process without a supervisor."""
    return Overview(own.started, 0, (own,), snapshot.total([own]))
