"""One connection from a web server: its socket to the protocol, and the replies back.

Nothing here waits but `drain`; input is taken in event loop callbacks. The socket is a bare one, read and written
with MSG_DONTWAIT, so that no system call is spent on making it non-blocking; its read watcher is made only when
the connection outlives the callback that accepted it. An idle connection holds a socket, a watcher and this
object: no worker and no Lua state.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from _socket import socket as BareSocket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from gevent import get_hub

from ..errors import ProtocolError
from ..fastcgi.connection import ABORTED, BEGUN, MAX_PARAMS, READY, STDIN, TOO_LARGE, Connection, Event
from ..fastcgi.records import MANAGEMENT_ID, UNKNOWN_TYPE, Buffer, record
from ..fastcgi.request import Request
from ..fastcgi.response import refusal
from ..logs.text import traceback_of
from .body import Body
from .exchange import Exchange
from .outbox import MAX_BUFFERS, Outbox

if TYPE_CHECKING:
    from .server import Server

#: Bytes asked of the kernel at once: a request without a body is smaller, and to ask for more costs it time.
_READ_SIZE: Final = 8192
#: The same after a read that was filled, while a body is coming. Small enough to stay off mmap.
_LONG_READ_SIZE: Final = 96 * 1024
#: Bytes of replies that may wait for a web server before its further requests are left alone.
_MAX_WAITING: Final = 1024 * 1024
#: A record that nobody has asked for, and without content: to nginx an error, where the end of a unix socket is none.
_UNASKED: Final = record(UNKNOWN_TYPE, MANAGEMENT_ID)
#: What ends a TCP connection with a reset.
_NO_LINGERING: Final = struct.pack("ii", 1, 0)
#: No descriptor is left now; one may be soon.
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE)

_READABLE: Final = 1
_DONTWAIT: Final = socket.MSG_DONTWAIT


class Session:
    """A connection from its acceptance to its close."""

    __slots__ = (
        "_closing", "_events", "_held", "_outbox", "_paused", "_read_size", "_reader", "_seen", "_server", "_socket",
        "_truncated", "_unread", "closed", "connection", "exchanges", "lingering", "peer", "quiet_since",
    )  # fmt: skip

    def __init__(self, server: Server, bare: BareSocket, peer: str) -> None:
        self._server = server
        self._socket = bare
        self.peer = peer
        self.connection = Connection(server.routing, server.room_for_requests, server.authorizer)
        #: The requests under way, by id.
        self.exchanges: dict[int, Exchange] = {}
        self.closed = False
        #: The server's beat at which the last request ended.
        self.quiet_since = server.beat
        self._reader: Any = None
        self._read_size = _READ_SIZE
        #: What the web server has not taken yet, where it has fallen behind.
        self._outbox: Outbox | None = None
        #: So much waits there that nothing is read until it has left.
        self._paused = False
        #: What has been read and is left for another turn, and the bytes of memory that this takes.
        self._events: Iterator[Event] | None = None
        self._held = 0
        #: A reply ends before it is complete: the connection ends with what has been sent of it.
        self._truncated = False
        #: Close as soon as the replies under way have left.
        self._closing = False
        #: A request was answered before its body had come: more input may be on its way.
        self._unread = False
        #: What is unfinished, with the beat at which it was first seen so. None until something is.
        self._seen: dict[object, int] | None = None
        #: All is said; what still comes in is thrown away until the peer closes.
        self.lingering = False

    @property
    def idle(self) -> bool:
        """No request is under way, not even in part, and every reply has left."""
        return not (self.exchanges or self.connection.requests or self._outbox or self._events)

    def start(self) -> None:
        """Read what has come with the connection, and go on reading."""
        self._read()
        if not self.closed:
            self._reader = get_hub().loop.io(self._socket.fileno(), _READABLE)
            if not (self._paused or self._truncated) and self._events is None:
                self._read_on()

    # Input

    def _read(self) -> None:
        try:
            data = self._socket.recv(self._read_size, _DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._hang_up()
            return
        if not data:
            # For every web server but HAProxy, this is how a request is taken back.
            self._hang_up()
            return
        if not self.lingering:
            self._take(self.connection.receive(data), len(data))
        was_filled = len(data) >= _READ_SIZE
        self._read_size = _LONG_READ_SIZE if was_filled and self.connection.expects_body else _READ_SIZE

    def _take(self, events: Iterator[Event], size: int) -> None:
        """Do what has been read, in `size` bytes; what takes too long is left for another turn."""
        connection = self.connection
        # What is under way here keeps the connection from being closed as idle.
        self._events = events
        began = 0.0
        try:
            for event, request, content in events:
                if connection.owes:
                    # Before anything else: the id of a request that has ended here can be in use again.
                    self.write(connection.take_output())
                if self.closed:
                    return
                if event == READY:
                    exchange = self._exchange(request)
                    self._ready(exchange)
                    if self._paused or (began and time.monotonic() - began > self._server.time_slice):
                        self._leave_rest(events, size)
                        return
                    began = began or exchange.started
                elif event == BEGUN:
                    if request.content_length:
                        self._expect(request, request.content_length)
                elif event == STDIN:
                    self._stdin(request, content)
                elif event == ABORTED:
                    self._aborted(request)
                elif event == TOO_LARGE:
                    self._refuse(self._exchange(request), 431, f"more than {MAX_PARAMS} bytes of parameters")
                else:
                    self._refuse(self._exchange(request), 503, "no room for more parameters (buffers)")
                if self.closed:
                    # What came now would be taken from the quota, and nobody would give it back.
                    return
        except ProtocolError as problem:
            self._server.log.warning(f"connection from {self.peer} closed: {problem}")
            self._hang_up()
            return
        except Exception as problem:
            # The border of a connection: whatever went wrong inside the server ends this one only.
            text = f"connection from {self.peer} closed: the server failed: {problem!r}"
            self._server.log.error(text, traceback_of(problem))
            self._hang_up()
            return
        if self.closed:
            return
        self._events = None
        if connection.owes:
            self.write(connection.take_output())
        if connection.done or self._closing:
            self._close_after_replies()

    def _leave_rest(self, events: Iterator[Event], size: int) -> None:
        """Read nothing, and leave what has been read, until another turn: when replies have left, if many wait."""
        if self.closed:
            return
        if not self._held:
            if not self._server.room_for_requests.take(size):
                self._server.log.warning(f"connection from {self.peer} closed: no room for {size} bytes read (buffers)")
                self._hang_up()
                return
            self._held = size
        self._events = events
        if self._reader is not None:
            self._reader.stop()
        if not self._paused:
            self._server.turns.queue(self._take_rest)

    def _take_rest(self) -> None:
        events = self._events
        if self.closed or events is None or self._paused:
            return
        self._events = None
        self._take(events, self._held)
        if self._events is None:
            self._give_back()
            if not self.closed and not self._paused:
                self._read_on()

    def _give_back(self) -> None:
        self._server.room_for_requests.give_back(self._held)
        self._held = 0

    def _read_on(self) -> None:
        if self._reader is not None:
            self._reader.start(self._read)

    def _ready(self, exchange: Exchange) -> None:
        server, request = self._server, exchange.request
        own = server.own(request) if server.own is not None else None
        exchange.is_taken_up = True
        if own is not None:
            reply, exchange.is_logged = own
            exchange.reply(reply)
            return
        workers = server.workers
        # Where its script computes for long, it starts in a turn.
        is_long = server.long and request.filename in server.long
        if not (workers.submit_long(exchange) if is_long else workers.submit(exchange)):
            exchange.reply(refusal(503, head_only=exchange.head_only))

    def _exchange(self, request: Request) -> Exchange:
        exchange = self.exchanges.get(request.id)
        if exchange is None:
            exchange = self.exchanges[request.id] = Exchange(self, request)
        return exchange

    def _expect(self, request: Request, length: int) -> None:
        most = self._server.max_post
        if length > most:
            self._refuse(self._exchange(request), 413, f"a body of {length} bytes, scripts.max_post is {most}")

    def _stdin(self, request: Request, content: bytes) -> None:
        exchange = self._exchange(request)
        try:
            length = exchange.write_body(content)
        except OSError as problem:
            status = 503 if problem.errno in _EXHAUSTED else 500
            self._refuse(exchange, status, f"cannot keep the body: {problem.strerror}")
            return
        most = self._server.max_post
        if length > most:
            self._refuse(exchange, 413, f"a body of more than {most} bytes, which is scripts.max_post")

    def _refuse(self, exchange: Exchange, status: int, reason: str) -> None:
        """Answer before the request has come in whole; the rest of it is passed over."""
        self._server.log.warning(f"{exchange.title}: {status}: {reason}")
        self._unread = True
        # Should the reply find the connection broken, this request has been seen to already.
        self.exchanges.pop(exchange.request.id, None)
        exchange.reply(refusal(status, head_only=exchange.head_only))

    def _aborted(self, request: Request) -> None:
        exchange = self.exchanges.pop(request.id, None)
        if exchange is not None:
            self._abandon(exchange)

    def _abandon(self, exchange: Exchange) -> None:
        exchange.abort()
        if self._outbox is not None:
            self._outbox.wake()
        if not exchange.is_taken_up:
            # Nobody else ends it.
            exchange.finish()

    def new_body(self) -> Body:
        """What keeps the body of a request."""
        return Body(self._server.memory.bodies, self._server.descriptors.temporary)

    def computes_long(self, exchange: Exchange) -> None:
        """The script of a request computes for longer than a short turn."""
        self._server.turns.remember(exchange.request.filename or b"", True)

    # Output

    def write(self, buffers: list[Buffer]) -> None:
        """Send, or queue what the web server does not take yet. Never waits, never raises."""
        if self.closed:
            return
        if self._outbox is not None:
            self._keep(self._outbox, buffers, 0)
            return
        try:
            if len(buffers) == 1:
                total = len(buffers[0])
                sent = self._socket.send(buffers[0], _DONTWAIT) if total else 0
            else:
                total = sum(map(len, buffers))
                sent = self._socket.sendmsg(buffers[:MAX_BUFFERS], (), _DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._hang_up()
            return
        if sent < total:
            server = self._server
            self._outbox = Outbox(
                self._socket, server.memory.replies, server.descriptors.temporary, self._caught_up, self._broken
            )
            self._keep(self._outbox, buffers, sent)

    def _keep(self, outbox: Outbox, buffers: list[Buffer], sent: int) -> None:
        try:
            outbox.add(buffers, sent)
        except OSError as problem:
            self._broken(f"no room for a reply that waits: {problem.strerror}")
            return
        if outbox.size > _MAX_WAITING and not self._paused:
            self._paused = True
            if self._reader is not None:
                self._reader.stop()

    def _broken(self, reason: str) -> None:
        """What waits cannot be sent."""
        if reason:
            self._server.log.warning(f"connection from {self.peer} closed: {reason}")
        self._hang_up()

    def _caught_up(self) -> None:
        """The web server has taken everything."""
        self._outbox = None
        if self._truncated:
            self._reset()
            return
        if self._paused:
            self._paused = False
            if self._events is not None:
                self._server.turns.queue(self._take_rest)
            else:
                self._read_on()
        if self._closing:
            self._close_after_replies()

    def drain(self, exchange: Exchange, seconds: float) -> bool:
        """Wait until what is queued has left or the exchange is aborted, at most so long. True when that is so."""
        # This one only: what others send on the connection afterwards is theirs to wait for.
        outbox = self._outbox
        end = time.monotonic() + seconds if outbox else 0.0
        while outbox and not exchange.aborted:
            left = end - time.monotonic()
            if left <= 0:
                return False
            outbox.wait(left)
        return True

    # The end

    def truncated(self, exchange: Exchange) -> None:
        """The reply of one request will never be complete.

        A web server takes whatever ends with END_REQUEST for the whole. So the connection ends without it; nginx sees
        only a reset, or on a unix socket, which has none, a record that it has not asked for. Where other requests
        share the connection, the end of this one comes with an application status of 1.
        """
        request = exchange.request
        if self.closed:
            return
        if self._held or self.connection.requests != {request.id: request}:
            self.write([self.connection.finish(request, app_status=1)])
            return
        self._truncated = True
        if self._reader is not None:
            self._reader.stop()
        if not self._outbox:
            self._reset()

    def _reset(self) -> None:
        try:
            if self._socket.family == socket.AF_UNIX:
                self._socket.send(_UNASKED, _DONTWAIT)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        except OSError:
            # It is closed all the same.
            pass
        self._hang_up()

    def ended(self, exchange: Exchange) -> None:
        """The reply of one request is complete."""
        server, request = self._server, exchange.request
        for observe in server.observers:
            observe(exchange)
        self.quiet_since = server.beat
        if self.exchanges.get(request.id) is exchange:
            del self.exchanges[request.id]
        if self._truncated:
            return
        if not request.keep_conn or self._closing:
            # What is being taken closes behind itself.
            if self._events is None:
                self._close_after_replies()
        elif server.give is not None:
            # Not here: more requests may have come in the same read.
            get_hub().loop.run_callback(self.leave)

    # Patience

    @property
    def at_rest(self) -> bool:
        """Idle, and not half a record has come."""
        return self.idle and not self.connection.partial

    def rest(self) -> None:
        """Nothing is under way. Called once a beat."""
        self._seen = None

    def check(self) -> None:
        """Something is under way: see whether the web server takes too long over it. Called once a beat."""
        server, patience = self._server, self._server.patience
        before, self._seen = self._seen or {}, {}
        if self._outbox is not None and self._age((self._outbox, self._outbox.taken), before) > server.timeout:
            server.log.warning(f"connection from {self.peer} closed: no reply has been taken for {server.timeout:g} s")
            self._hang_up()
            return
        if self._paused or self._events is not None:
            # What is missing may have come, and waits here.
            return
        unfinished = [
            request for request in self.connection.requests.values()
            if not (request.params_ended and request.stdin_ended)
        ]  # fmt: skip
        if self.connection.partial and not unfinished and self._age(self.quiet_since, before) > patience.header:
            server.log.warning(f"connection from {self.peer} closed: half a record for {patience.header:g} s")
            self._hang_up()
            return
        for request in unfinished:
            if self.closed:
                return
            exchange = self.exchanges.get(request.id)
            length = exchange.body.length if exchange is not None and exchange.body is not None else 0
            most = patience.for_body(length) if request.params_ended else patience.params
            if self._age(request, before) > most:
                what = f"its body, of which {length} bytes have come" if request.params_ended else "its parameters"
                self._refuse(self._exchange(request), 408, f"waited {most:.0f} s for {what}")
        if not self.closed and self._closing:
            self._close_after_replies()

    def _age(self, what: object, before: dict[object, int]) -> float:
        """Seconds since something was first seen."""
        beat = self._server.beat
        assert self._seen is not None
        self._seen[what] = before.get(what, beat)
        return (beat - self._seen[what]) * self._server.heartbeat

    # Leaving

    def leave(self) -> None:
        """The process stops: give the connection away, or close it, as soon as nothing is under way on it."""
        if self.closed or self.lingering:
            return
        if self._server.give is None or not self.connection.keeps:
            self.close_when_idle()
        elif self.at_rest:
            if self.connection.clean:
                self._give(self._server.give)
            else:
                # The rest of a refused request may be on its way: nobody else would know what it is.
                self.close_when_idle()

    def _give(self, give: Callable[[BareSocket, str], bool]) -> None:
        if self._reader is not None:
            self._reader.stop()
        if not give(self._socket, self.peer):
            if self._reader is not None:
                self._reader.start(self._read)
            return
        self.closed = True
        if self._reader is not None:
            self._reader.close()
        self.connection.close()
        self._server.forget(self)

    def close_when_idle(self) -> None:
        """Close as soon as nothing is under way; what has come already is answered.

        A web server that sends a request at this very moment, and does not try again by itself, loses it.
        """
        self._closing = True
        # Scripts start in the hub only.
        get_hub().loop.run_callback(self._close_idle)

    def _close_idle(self) -> None:
        if self.closed:
            return
        if self.at_rest and not self.lingering:
            self._read()
        if not self.closed and self.at_rest:
            self._hang_up()

    def _close_after_replies(self) -> None:
        self._closing = True
        if self.closed or not self.idle:
            return
        if self._unread or not self.connection.clean:
            # Closing on unread input would make it a reset, and that can eat the reply.
            if self.connection.keeps and self.connection.partial:
                # The rest of a request is on its way.
                return
            if not self.lingering:
                self.lingering = True
                self.quiet_since = self._server.beat
                try:
                    self._socket.shutdown(socket.SHUT_WR)
                except OSError:
                    self._hang_up()
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        """Close now, whatever is under way."""
        if self.closed:
            return
        self.closed = True
        if self._reader is not None:
            self._reader.stop()
            self._reader.close()
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
        self._events = None
        if self._held:
            self._give_back()
        self.connection.close()
        self._socket.close()
        self._server.forget(self)
        if self.exchanges:
            for exchange in list(self.exchanges.values()):
                self._abandon(exchange)
            self.exchanges.clear()

    def close(self) -> None:
        """Close now."""
        self._hang_up()
