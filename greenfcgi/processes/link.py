"""A process's ties to its supervisor: it beats, says when it is ready, notices that it is alone, and hands over.

What is shared was made before the fork; the supervisor's side is in `supervisor`.
"""

from __future__ import annotations

import os
import socket
from _socket import socket as BareSocket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from gevent import get_hub

from ..logs.error_log import ErrorLog
from ..serving.handover import Handover
from ..status import snapshot, totals
from ..status.scoreboard import ROOM, Board
from ..status.snapshot import Snapshot
from ..status.totals import Overview
from . import stall
from .children import READY

if TYPE_CHECKING:
    from ..serving.server import Server

#: Seconds between two beats.
BEAT = 1.0

_READABLE = 1


class Ties(NamedTuple):
    """What a process gets from its supervisor: shared memory and its slot in it, the channel for connections, and the
    descriptors of pipes: for the word that it is ready, for the supervisor's end, for the question where it is stuck.
    """

    board: Board
    slot: int
    channel: tuple[socket.socket, socket.socket]
    ready: int
    lifeline: int
    question: int


class Link:
    """The ties at work."""

    def __init__(self, ties: Ties) -> None:
        self._ties = ties
        self._handover = Handover(ties.channel)
        self._watchers: list[Any] = []
        self._tell: Callable[[int], bytes] | None = None

    def attach(
        self, server: Server, log: ErrorLog, orphaned: Callable[[], None], tell: Callable[[int], bytes] | None
    ) -> None:
        """The process serves from now on. `orphaned` is called when the supervisor has gone.

        With each beat goes what `tell` has to tell the other processes, in at most so many bytes.
        """
        ties, loop = self._ties, get_hub().loop
        self._tell = tell
        self._beat()
        # From the hub itself: a thread would beat on while nothing else moves.
        beat = loop.timer(BEAT, BEAT)
        beat.start(self._beat)
        end = loop.io(ties.lifeline, _READABLE)
        end.start(self._ended, orphaned)
        self._watchers += [beat, end]
        self._handover.receive(
            server.connect, lambda: log.error("a connection is lost: no descriptor is left to take it over with")
        )
        stall.attend(ties.question, log)
        # Not closed: another descriptor would get its number, and be written to when the process fails.
        os.write(ties.ready, READY)

    def _beat(self) -> None:
        board, slot = self._ties.board, self._ties.slot
        board.beat(slot)
        if self._tell is not None:
            board.publish(slot, self._tell(ROOM))

    def overview(self, own: Snapshot) -> Overview:
        """What all processes tell; `own` is what this one does now.

        It is told to the others, too: what has been shown once stays, also when this process is killed.
        """
        self._ties.board.publish(self._ties.slot, snapshot.pack(own, ROOM))
        return totals.read(self._ties.board, own)

    def close(self) -> None:
        """Tell what there is to tell for the last time."""
        self._beat()

    def _ended(self, orphaned: Callable[[], None]) -> None:
        self._watchers[1].stop()
        orphaned()

    def leave(self) -> None:
        """Take no connections over any longer."""
        self._handover.stop_receiving()

    def give(self, bare: BareSocket, peer: str) -> bool:
        """Hand a connection over; False when that cannot be done now."""
        return self._handover.hand_over(bare, peer)
