"""A process's link to its supervisor and to the other processes.

It sends heartbeats, reports that it is ready, notices when the supervisor ends, publishes its figures, and hands over
connections. What is shared was made before the fork; the supervisor's side is in `children`, `health` and `listeners`.
"""

from __future__ import annotations

import os
import socket
from _socket import socket as BareSocket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from gevent import get_hub

from ..logs.error_log import ErrorLog
from ..lua.turns import Turns
from ..serving.handover import Handover
from ..status import snapshot, totals
from ..status.scoreboard import MAX_MESSAGE, Scoreboard
from ..status.snapshot import Snapshot
from ..status.totals import Overview
from . import stall
from .children import READY

if TYPE_CHECKING:
    from ..serving.server import Server

#: Seconds between two heartbeats.
INTERVAL = 1.0

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
    """The process's ends of its channels, in use from `attach` to `close`."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._handover = Handover(channels.channel)
        self._watchers: list[Any] = []
        self._message: Callable[[int], bytes] | None = None
        self._server: Server | None = None

    def attach(
        self, server: Server, log: ErrorLog, turns: Turns, orphaned: Callable[[], None],
        message: Callable[[int], bytes] | None,
    ) -> None:  # fmt: skip
        """The process serves from now on: report it, and begin to send heartbeats.

        `turns` says what it is stuck in, should it send none any more.
        `orphaned` is called when the supervisor has ended. With each heartbeat, what `message` returns is published to
        the other processes; it gets the number of bytes that there is room for.
        """
        channels, loop = self._channels, get_hub().loop
        self._message, self._server = message, server
        self._send_heartbeat()
        # From the hub itself: a thread would go on while nothing else moves.
        timer = loop.timer(INTERVAL, INTERVAL)
        timer.start(self._send_heartbeat)
        lifeline = loop.io(channels.lifeline, _READABLE)
        lifeline.start(self._on_orphaned, orphaned)
        self._watchers += [timer, lifeline]
        self._handover.receive(
            server.connect, lambda: log.error("a connection is lost: no descriptor is free to take it over")
        )
        stall.start_stack_reporter(channels.traceback_pipe, log, turns)
        # Not closed: another descriptor would get its number, and be written to when the process fails.
        os.write(channels.ready, READY)

    def _send_heartbeat(self) -> None:
        scoreboard, slot = self._channels.scoreboard, self._channels.slot
        running = self._server.context.workers.running if self._server is not None else 0
        scoreboard.record_heartbeat(slot, running)
        if self._message is not None:
            scoreboard.publish(slot, self._message(MAX_MESSAGE))

    def overview(self, own: Snapshot) -> Overview:
        """The figures of all processes; `own` are those of this one at this moment.

        They are published, too: what has been shown once stays, also when this process is killed.
        """
        self._channels.scoreboard.publish(self._channels.slot, snapshot.pack(own, MAX_MESSAGE))
        return totals.read(self._channels.scoreboard, own)

    def close(self) -> None:
        """Publish what there is for the last time."""
        self._send_heartbeat()

    def _on_orphaned(self, orphaned: Callable[[], None]) -> None:
        self._watchers[1].stop()
        orphaned()

    def stop_taking_over(self) -> None:
        """Take over no more connections from other processes."""
        self._handover.stop_receiving()

    def hand_over(self, bare: BareSocket, peer: str) -> bool:
        """Give a connection to another process. False when that cannot be done now."""
        return self._handover.hand_over(bare, peer)
