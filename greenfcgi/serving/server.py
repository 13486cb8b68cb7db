"""The server: listeners that accept, sessions that speak FastCGI, workers that answer.

`Listener` is gevent's StreamServer with a shorter way from the accepted descriptor to a `Session`: no gevent
socket is made, and the first read is tried at once, since the web server's request is nearly always there already.
"""

from __future__ import annotations

import errno
import time
from _socket import socket as BareSocket
from collections.abc import Callable
from functools import partial
from socket import socket as Socket
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from gevent.server import StreamServer

from ..config.load import Config
from ..fastcgi import records
from ..fastcgi.request import Request
from ..fastcgi.response import Reply
from ..logs.error_log import ErrorLog
from ..lua.turns import Turns
from .exchange import Exchange
from .session import Session
from .shares import Shares, shares
from .timeouts import USUAL, Patience
from .workers import Workers

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    from ..logs.access_log import AccessLog

#: Seconds for which accepting pauses when it fails.
_PAUSE = 0.5
#: Connections that may wait to be accepted when a stop begins; as many as a backlog of the usual size.
_MOST_WAITING = 4096
#: Connections that are looked at in one go; a thousand take half a millisecond.
_SWEPT_AT_ONCE = 500
#: Seconds between two looks at what is under way in a stop.
_LOOK = 0.01
#: Seconds that give others a turn.
_TURN = 1e-5
#: Seconds for which a connection that has been answered early may go on sending.
_LINGER = 2.0


class Server:
    """What all connections of one process share."""

    def __init__(
        self,
        config: Config,
        respond: Callable[[Exchange], None],
        log: ErrorLog,
        access: AccessLog | None = None,
        routing: records.Routing | None = None,
        patience: Patience = USUAL,
        turns: Turns | None = None,
        shared: Shares | None = None,
        authorizer: bytes | None = None,
    ) -> None:
        #: Finds in parameters what routes a request, and behind it what the access log wants.
        self.routing = routing or records.router(() if access is None else access.variables)
        self.log = log
        self.max_post = config.scripts.max_post
        # Not `or`: nobody waits in them now.
        self.turns = Turns() if turns is None else turns
        self.workers: Workers[Exchange] = Workers(config.workers, config.queue, respond, self.turns)
        #: What connections may hold: memory and descriptors.
        self.memory, self.descriptors = shared or shares(config.buffers)
        self.room_for_requests = self.memory.requests
        #: The most connections.
        self._max_sessions = self.descriptors.connections.limit
        #: The scripts that compute for long, by SCRIPT_FILENAME.
        self.long = self.turns.long
        #: SCRIPT_FILENAME of the script that answers in the role AUTHORIZER; None: that role is refused.
        self.authorizer = authorizer
        #: Seconds that what has come in one read may take before others have a turn.
        self.time_slice = config.lua.time_slice
        self.patience = patience
        self.sessions: set[Session] = set()
        #: Connections served so far.
        self.accepted = 0
        #: Answers requests to the server itself: the reply, and whether it goes to the access log; None to others.
        self.own: Callable[[Request], tuple[Reply, bool] | None] | None = None
        #: Called with each request that has ended.
        self.observers: list[Callable[[Exchange], None]] = [] if access is None else [access.write]
        #: Where connections go that are kept while this process leaves; None: they are closed.
        self.give: Callable[[BareSocket, str], bool] | None = None
        #: Counts housekeeping beats: a clock that costs nothing to read.
        self.beat = 0
        #: Seconds between two beats.
        self.heartbeat = config.heartbeat
        #: Seconds that a script has, and a web server to take some of a reply.
        self.timeout = config.timeout
        self._keepalive_beats = max(1, round(config.keepalive / config.heartbeat))
        self._linger_beats = max(1, round(_LINGER / config.heartbeat))
        #: Some wait for a connection to be closed.
        self._is_full = False
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
        session = Session(self, bare, peer)
        self.sessions.add(session)
        self.accepted += 1
        session.start()
        return session

    def allows(self, host: str) -> bool:
        """A TCP client at this address may connect."""
        return _is_allowed(host, self._allowed)

    def forget(self, session: Session) -> None:
        """A connection has been closed, or given away."""
        self.sessions.discard(session)
        if self._is_full:
            self._is_full = False
            for listener in self._listeners:
                listener.go_on()

    def is_full(self) -> bool:
        """No connection more is to be accepted, until one is closed."""
        if len(self.sessions) < self._max_sessions:
            return False
        if not self._is_full:
            self._is_full = True
            self.descriptors.connections.refused += 1
            self.log.warning(f"{self._max_sessions} connections are open: others wait until one is closed")
        return True

    def sweep(self) -> None:
        """One beat of housekeeping: close the connections that have been idle, or late, for too long.

        Gives way now and then, so that thousands of connections hold up nobody.
        """
        self.beat += 1
        connections = self.descriptors.connections
        connections.peak = max(connections.peak, len(self.sessions))
        if self.workers.rejected != self._rejected:
            number, self._rejected = self.workers.rejected - self._rejected, self.workers.rejected
            self.log.warning(f"{number} requests answered with 503: as many wait for a worker as queue allows")
        for count, session in enumerate(list(self.sessions), 1):
            self._look_at(session)
            if count % _SWEPT_AT_ONCE == 0:
                gevent.sleep(_TURN)

    def _look_at(self, session: Session) -> None:
        quiet = self.beat - session.quiet_since
        if session.lingering:
            if quiet > self._linger_beats:
                session.close()
        elif not session.at_rest:
            session.check()
        elif quiet > self._keepalive_beats:
            session.close_when_idle()
        else:
            session.rest()

    def stop(self, seconds: float, give: Callable[[BareSocket, str], bool] | None = None) -> bool:
        """Accept nothing more, let requests under way finish for at most so long, then close all connections.

        With `give`, kept connections are not closed, but given away as soon as nothing is under way on them; it says
        whether that was possible. True when every request was finished.
        """
        deadline = time.monotonic() + seconds
        self.give = give
        stopped = Event()
        # Requests that come with these connections start there, as all do.
        gevent.get_hub().loop.run_callback(self._stop_accepting, stopped)
        stopped.wait()
        finished = self._leave(deadline)
        for session in list(self.sessions):
            session.close()
        return finished

    def _stop_accepting(self, stopped: Event) -> None:
        for listener in self._listeners:
            try:
                listener.accept_rest()
            except OSError as problem:
                self.log.error(f"cannot accept a connection: {problem.strerror}")
            listener.stop()
        stopped.set()

    def _leave(self, deadline: float) -> bool:
        """Let go of the connections, as requests and replies on them end. False when the time is over before."""
        while True:
            for session in list(self.sessions):
                session.leave()
            if not (self.workers.running or self.workers.waiting or any(not one.lingering for one in self.sessions)):
                return True
            if time.monotonic() >= deadline:
                return False
            gevent.sleep(_LOOK)


class Listener(StreamServer):
    """One address. Ends nothing but itself when something goes wrong."""

    def __init__(self, server: Server, listening: Socket) -> None:
        super().__init__(listening, handle=_unused)
        self._server = server
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
            now = time.monotonic()
            if end == 0.0:
                end = now + self._server.time_slice
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
            self._server.log.error(f"cannot accept a connection: {problem.strerror}: accepting pauses for {_PAUSE} s")
            self.stop_accepting()
            self._timer = self.loop.timer(_PAUSE)
            self._timer.start(self.go_on)
            return None

    def go_on(self) -> None:
        """Accept again, unless the listener has been stopped."""
        self._start_accepting_if_started()  # type: ignore[attr-defined]

    def accept_rest(self) -> None:
        """Accept what waits already: to close the listener may reset it. Not what comes without an end."""
        for _ in range(_MOST_WAITING):
            accepted = self.do_read() if self.started else None
            if accepted is None:
                return
            self.do_handle(*accepted)

    def do_handle(self, descriptor: int, address: Any) -> None:  # type: ignore[override]
        """Serve an accepted connection, or close it when its address is not allowed."""
        bare = self._socket_of(descriptor)
        peer = address[0] if self._is_tcp else "unix socket"
        if self._is_tcp and not self._server.allows(peer):
            self._server.log.warning(f"connection from {peer} refused: not in allowed_clients")
            bare.close()
            return
        self._server.connect(bare, peer)


def _unused(*_: object) -> None:
    """StreamServer wants a handler; `do_handle` goes past it."""


def _is_allowed(host: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    if host == "127.0.0.1" or host == "::1":
        return True
    from ipaddress import IPv6Address, ip_address

    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or any(address in network for network in networks)
