"""The server: listeners that accept, sessions that speak FastCGI, workers that answer.

`Listener` is gevent's StreamServer with a shorter way from the accepted descriptor to a `Session`: no gevent
socket is made, and the first read is tried at once, since the web server's request is nearly always there already.
"""

from __future__ import annotations

import errno
import time
from _socket import socket as BareSocket
from collections.abc import Callable
from socket import socket as Socket
from typing import TYPE_CHECKING, Any

from gevent.server import StreamServer

from . import records
from .config import Config
from .exchange import Exchange
from .log import ErrorLog
from .session import Session
from .workers import Workers

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    from .accesslog import AccessLog

#: Seconds for which accepting pauses when the process has no file descriptor left.
_PAUSE = 0.5
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
        routing: records.Routing = records.routing,
    ) -> None:
        self.routing = routing
        self.log = log
        self.access = access
        self.max_post = config.scripts.max_post
        self.workers: Workers[Exchange] = Workers(config.workers, respond)
        self.sessions: set[Session] = set()
        #: Counts housekeeping beats: a clock that costs nothing to read.
        self.beat = 0
        self._keepalive_beats = max(1, round(config.keepalive / config.heartbeat))
        self._linger_beats = max(1, round(_LINGER / config.heartbeat))
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
        session.start()
        return session

    def allows(self, host: str) -> bool:
        """A TCP client at this address may connect."""
        return _is_allowed(host, self._allowed)

    def log_access(self, exchange: Exchange) -> None:
        """Write a request that has ended to the access log."""
        if self.access is not None and exchange.request.params_ended:
            from .accesslog import Entry

            seconds = time.monotonic() - exchange.started
            variables = exchange.request.variables()
            self.access.write(Entry(variables, exchange.status, exchange.sent, seconds, exchange.head_sent))

    def sweep(self) -> None:
        """One beat of housekeeping: close the connections that have been idle for longer than `keepalive`."""
        self.beat += 1
        for session in list(self.sessions):
            quiet = self.beat - session.quiet_since
            if session.lingering:
                if quiet > self._linger_beats:
                    session.close()
            elif quiet > self._keepalive_beats and session.idle:
                session.close_when_idle()

    def stop(self, seconds: float) -> bool:
        """Accept nothing more, let requests under way finish for at most so long, then close all connections.

        True when every request was finished.
        """
        deadline = time.monotonic() + seconds
        for listener in self._listeners:
            listener.stop()
        for session in list(self.sessions):
            session.close_when_idle()
        finished = self.workers.join(seconds) and self._wait_for_sessions(deadline)
        for session in list(self.sessions):
            session.close()
        return finished

    def _wait_for_sessions(self, deadline: float) -> bool:
        """Wait for replies that still leave, and requests that still come in."""
        import gevent

        while any(not session.lingering for session in self.sessions):
            if time.monotonic() >= deadline:
                return False
            gevent.sleep(0.01)
        return True


class Listener(StreamServer):
    """One address. Ends nothing but itself when something goes wrong."""

    def __init__(self, server: Server, listening: Socket) -> None:
        super().__init__(listening, handle=_unused)
        self._server = server
        self._kind = listening.family, listening.type, listening.proto
        self._is_tcp = listening.family.name != "AF_UNIX"

    def do_read(self) -> Any:
        """Accept one connection: (descriptor, address), or None when there is none."""
        try:
            return self.socket._accept()  # type: ignore[attr-defined]  # of the C socket: (descriptor, address)
        except BlockingIOError:
            return None
        except OSError as problem:
            if problem.errno in (errno.ECONNABORTED, errno.EPROTO):
                return None
            if problem.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            self._server.log.error(f"cannot accept a connection: {problem.strerror}: accepting pauses for {_PAUSE} s")
            self.stop_accepting()
            self._timer = self.loop.timer(_PAUSE)
            self._timer.start(self._start_accepting_if_started)  # type: ignore[call-arg, attr-defined]
            return None

    def do_handle(self, descriptor: int, address: Any) -> None:  # type: ignore[override]
        """Serve an accepted connection, or close it when its address is not allowed."""
        # Family, type and protocol are given: to guess them costs three system calls.
        bare = BareSocket(*self._kind, descriptor)
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
