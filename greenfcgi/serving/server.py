"""The server of one process: listeners that accept, the sessions that they make, and how all of these stop.

`Listener` is gevent's StreamServer with a shorter path from the accepted descriptor to a `Session`: no gevent
socket is made, and the first read is tried at once, since the web server's request is nearly always there already.
"""

from __future__ import annotations

import errno
from _socket import socket as BareSocket
from collections.abc import Callable
from functools import partial
from socket import socket as Socket
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from gevent.server import StreamServer

from ..config.load import Config
from ..logs.text import counted
from .context import Context
from .session import Session
from .sweep import Sweeper

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

#: Seconds for which accepting pauses when it fails.
_PAUSE = 0.5
#: Connections that may wait to be accepted when a stop begins; as many as a backlog of the usual size.
_MAX_BACKLOG = 4096
#: Connections that are checked before others have a turn; a thousand take half a millisecond.
_MAX_CHECKED_AT_ONCE = 500
#: Seconds between two checks of what is under way while the server stops.
_CHECK = 0.01
#: Seconds to sleep that give others a turn.
_TURN = 1e-5


class Server:
    """All connections of one process, and the listeners that they come from."""

    def __init__(self, context: Context, config: Config) -> None:
        self.context = context
        context.on_closed = self._forget
        self.sessions: set[Session] = set()
        #: Connections served so far.
        self.accepted = 0
        self._sweeper = Sweeper(context, config)
        self._max_sessions = context.descriptors.connections.limit
        #: Others wait until a connection is closed.
        self._is_full = False
        #: Requests answered with 503 until the last tick.
        self._rejected = 0
        self._allowed = tuple(config.allowed_clients)
        self._listeners: list[Listener] = []

    def listen(self, listening: Socket) -> None:
        """Accept connections on a socket that listens."""
        listener = Listener(self, listening)
        listener.start()
        self._listeners.append(listener)

    def connect(self, bare: BareSocket, peer: str = "") -> Session:
        """Serve a connection that has been made."""
        session = Session(self.context, bare, peer)
        self.sessions.add(session)
        self.accepted += 1
        session.start()
        return session

    def allows(self, host: str) -> bool:
        """A TCP client at this address may connect."""
        return _is_allowed(host, self._allowed)

    def _forget(self, session: Session) -> None:
        self.sessions.discard(session)
        if self._is_full:
            self._is_full = False
            for listener in self._listeners:
                listener.resume()

    def is_full(self) -> bool:
        """As many connections are open as may be: no more are to be accepted until one is closed."""
        if len(self.sessions) < self._max_sessions:
            return False
        if not self._is_full:
            self._is_full = True
            self.context.descriptors.connections.refused += 1
            self.context.log.warning(f"{self._max_sessions} connections are open: others wait until one is closed")
        return True

    def sweep(self) -> None:
        """One tick of housekeeping: close the connections that have been idle, or late, for too long.

        Sleeps now and then, so that thousands of connections do not hold up requests.
        """
        context = self.context
        context.ticks += 1
        connections = context.descriptors.connections
        connections.peak = max(connections.peak, len(self.sessions))
        rejected, self._rejected = context.workers.rejected - self._rejected, context.workers.rejected
        if rejected:
            context.log.warning(f"queue full: {counted(rejected, 'request')} answered with 503")
        for count, session in enumerate(list(self.sessions), 1):
            self._sweeper.check(session)
            if count % _MAX_CHECKED_AT_ONCE == 0:
                gevent.sleep(_TURN)

    def stop(self, seconds: float, hand_over: Callable[[BareSocket, str], bool] | None = None) -> bool:
        """Accept nothing more, let requests under way finish for at most so long, then close all connections.

        With `hand_over`, kept connections are not closed, but go to another process as soon as nothing is under way on
        them; it says whether that was possible. True when every request was finished.
        """
        deadline = monotonic() + seconds
        self.context.hand_over = hand_over
        stopped = Event()
        # Requests that come with these connections start there, as all do.
        gevent.get_hub().loop.run_callback(self._stop_accepting, stopped)
        stopped.wait()
        finished = self._wind_down(deadline)
        for session in list(self.sessions):
            session.close()
        return finished

    def _stop_accepting(self, stopped: Event) -> None:
        for listener in self._listeners:
            try:
                listener.accept_rest()
            except OSError as problem:
                self.context.log.error(f"cannot accept a connection: {problem.strerror}")
            listener.stop()
        stopped.set()

    def _wind_down(self, deadline: float) -> bool:
        """Let go of the connections, as requests and replies on them end. False when the deadline passes before."""
        workers = self.context.workers
        while True:
            for session in list(self.sessions):
                session.wind_down()
            if not (workers.running or workers.waiting or any(not one.lingering for one in self.sessions)):
                return True
            if monotonic() >= deadline:
                return False
            gevent.sleep(_CHECK)


class Listener(StreamServer):
    """Accepts connections at one address. What goes wrong is logged, and stops at most this listener for a while."""

    def __init__(self, server: Server, listening: Socket) -> None:
        super().__init__(listening, handle=_unused)
        self._server = server
        self._log = server.context.log
        self._time_slice = server.context.time_slice
        # Family, type and protocol are given: to guess them costs three system calls.
        self._socket_of = partial(BareSocket, listening.family, listening.type, listening.proto)
        #: Of the C socket: gives (descriptor, address).
        self._accept = listening._accept  # type: ignore[attr-defined]
        self._is_tcp = listening.family.name != "AF_UNIX"

    def _do_read(self) -> None:
        """Accept what waits, until a time slice is over: the event loop comes back for the rest.

        In the place of gevent's own, which accepts a hundred, whatever they cost.
        """
        end = 0.0
        while (accepted := self.do_read()) is not None:
            self.do_handle(*accepted)
            now = monotonic()
            if end == 0.0:
                end = now + self._time_slice
            elif now > end:
                return

    def do_read(self) -> Any:
        """Accept one connection: (descriptor, address), or None when there is none."""
        if self._server.is_full():
            self.stop_accepting()
            return None
        try:
            return self._accept()
        except BlockingIOError:
            return None
        except OSError as problem:
            if problem.errno in (errno.ECONNABORTED, errno.EPROTO):
                return None
            # Mostly no descriptor is left.
            self._log.error(f"cannot accept a connection: {problem.strerror}: accepting pauses for {_PAUSE} s")
            self.stop_accepting()
            self._timer = self.loop.timer(_PAUSE)
            self._timer.start(self.resume)
            return None

    def resume(self) -> None:
        """Accept again, unless the listener has been stopped."""
        self._start_accepting_if_started()  # type: ignore[attr-defined]

    def accept_rest(self) -> None:
        """Accept what waits already, which closing the listener may reset; at most `_MAX_BACKLOG` connections."""
        for _ in range(_MAX_BACKLOG):
            accepted = self.do_read() if self.started else None
            if accepted is None:
                return
            self.do_handle(*accepted)

    def do_handle(self, descriptor: int, address: Any) -> None:  # type: ignore[override]
        """Serve an accepted connection, or close it when its address is not allowed."""
        bare = self._socket_of(descriptor)
        peer = address[0] if self._is_tcp else "unix socket"
        if self._is_tcp and not self._server.allows(peer):
            self._log.warning(f"connection from {peer} refused: not in allowed_clients")
            bare.close()
            return
        self._server.connect(bare, peer)


def _unused(*_: object) -> None:
    """StreamServer wants a handler; `do_handle` is in its place."""


def _is_allowed(host: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    if host == "127.0.0.1" or host == "::1":
        return True
    from ipaddress import IPv6Address, ip_address

    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or any(address in network for network in networks)
