"""A process's channels to its supervisor: it beats, says when it is ready, notices that it is alone, and hands over.

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
from ..status.scoreboard import MAX_MESSAGE, Scoreboard
from ..status.snapshot import Snapshot
from ..status.totals import Overview
from . import stall
from .children import READY

if TYPE_CHECKING:
    from ..serving.server import Server

#: Seconds between two beats.
BEAT = 1.0

_READABLE = 1


class Channels(NamedTuple):
    """What a process gets from its supervisor.

    Shared memory and its slot in it, the channel for connections, and descriptors of pipes: it writes to `ready` when
    it serves, `lifeline` closes when the supervisor ends, and a byte in `traceback_pipe` asks where it is stuck.
    """

    scoreboard: Scoreboard
    slot: int
    channel: tuple[socket.socket, socket.socket]
    ready: int
    lifeline: int
    traceback_pipe: int


class Link:
    """The process's end of these channels."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._handover = Handover(channels.channel)
        self._watchers: list[Any] = []
        self._tell: Callable[[int], bytes] | None = None

    def attach(
        self, server: Server, log: ErrorLog, orphaned: Callable[[], None], tell: Callable[[int], bytes] | None
    ) -> None:
        """The process serves from now on. `orphaned` is called when the supervisor has gone.

        With each beat goes what `tell` has to tell the other processes, in at most so many bytes.
        """
        channels, loop = self._channels, get_hub().loop
        self._tell = tell
        self._beat()
        # From the hub itself: a thread would beat on while nothing else moves.
        beat = loop.timer(BEAT, BEAT)
        beat.start(self._beat)
        end = loop.io(channels.lifeline, _READABLE)
        end.start(self._ended, orphaned)
        self._watchers += [beat, end]
        self._handover.receive(
            server.connect, lambda: log.error("a connection is lost: no descriptor is left to take it over with")
        )
        stall.start_stack_reporter(channels.traceback_pipe, log)
        # Not closed: another descriptor would get its number, and be written to when the process fails.
        os.write(channels.ready, READY)

    def _beat(self) -> None:
        scoreboard, slot = self._channels.scoreboard, self._channels.slot
        scoreboard.record_heartbeat(slot)
        if self._tell is not None:
            scoreboard.publish(slot, self._tell(MAX_MESSAGE))

    def overview(self, own: Snapshot) -> Overview:
        """What all processes tell; `own` is what this one does now.

        It is told to the others, too: what has been shown once stays, also when this process is killed.
        """
        self._channels.scoreboard.publish(self._channels.slot, snapshot.pack(own, MAX_MESSAGE))
        return totals.read(self._channels.scoreboard, own)

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
