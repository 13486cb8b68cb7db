"""One connection from a web server: its socket to the protocol, and the replies back.

Everything but `drain` runs in event loop callbacks and never waits. The socket is a bare one, read and written
with MSG_DONTWAIT, so that no system call is spent on making it non-blocking; its read watcher is made only when
the connection outlives the callback that accepted it. An idle connection holds a socket, a watcher and this
object: no worker and no Lua state.
"""

from __future__ import annotations

import socket
from _socket import socket as BareSocket
from collections import deque
from typing import TYPE_CHECKING, Any

from gevent import get_hub
from gevent.event import Event

from . import protocol
from .errors import ProtocolError
from .exchange import Exchange
from .messages import Request
from .replies import refusal

if TYPE_CHECKING:
    from .server import Server

#: Bytes asked of the kernel at once. Small enough to stay off mmap: 64 KiB is measurably slower.
_READ_SIZE = 8192
#: Replies up to this size are copied together and leave by send; larger ones by sendmsg, without a copy.
_COPY_BELOW = 32 * 1024
#: The most buffers that one sendmsg takes (IOV_MAX is 1,024).
_MOST_BUFFERS = 256

_READABLE, _WRITABLE = 1, 2


class Session:
    """A connection from its acceptance to its close."""

    __slots__ = (
        "_closing", "_drained", "_lingering", "_queue", "_reader", "_server", "_socket", "_unread", "_writer",
        "closed", "connection", "exchanges", "peer", "quiet_since",
    )  # fmt: skip

    def __init__(self, server: Server, bare: BareSocket, peer: str) -> None:
        self._server = server
        self._socket = bare
        self.peer = peer
        self.connection = protocol.Connection()
        #: The requests under way, by id.
        self.exchanges: dict[int, Exchange] = {}
        self.closed = False
        #: The server's beat at which the last request ended.
        self.quiet_since = server.beat
        self._reader: Any = None
        self._writer: Any = None
        self._queue: deque[memoryview] = deque()
        self._drained: Event | None = None
        #: Close as soon as the replies under way have left.
        self._closing = False
        #: A request was answered before its body had come: more input may be on its way.
        self._unread = False
        #: All is said; what still comes in is thrown away until the peer closes.
        self._lingering = False

    @property
    def idle(self) -> bool:
        """No request is under way, not even in part, and every reply has left."""
        return not (self.exchanges or self.connection.requests or self._queue)

    def start(self) -> None:
        """Read what has come with the connection, and go on reading."""
        self._read()
        if not self.closed:
            self._reader = get_hub().loop.io(self._socket.fileno(), _READABLE)
            self._reader.start(self._read)

    # Input

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._hang_up()
            return
        if not data:
            # For every web server but HAProxy, this is how a request is taken back.
            self._hang_up()
        elif not self._lingering:
            self._take(data)

    def _take(self, data: bytes) -> None:
        connection = self.connection
        try:
            for event, request, content in connection.receive(data):
                if event == protocol.READY:
                    self._server.workers.submit(self._exchange(request))
                elif event == protocol.BEGUN:
                    self._begun(request)
                elif event == protocol.STDIN:
                    self._stdin(request, content)
                elif event == protocol.ABORTED:
                    self._aborted(request)
                else:
                    self._refuse(self._exchange(request), 431, f"more than {protocol.MAX_PARAMS} bytes of parameters")
                if self.closed:
                    return
        except ProtocolError as problem:
            self._server.log.warning(f"connection from {self.peer} closed: {problem}")
            self._hang_up()
            return
        output = connection.take_output()
        if output:
            self.write(output)
        if connection.done:
            self._close_after_replies()

    def _exchange(self, request: Request) -> Exchange:
        exchange = self.exchanges.get(request.id)
        if exchange is None:
            exchange = self.exchanges[request.id] = Exchange(self, request)
        return exchange

    def _begun(self, request: Request) -> None:
        length, most = request.content_length, self._server.max_post
        exchange = self._exchange(request)
        if length is not None and length > most:
            self._refuse(exchange, 413, f"a body of {length} bytes, scripts.max_post is {most}")

    def _stdin(self, request: Request, content: bytes) -> None:
        exchange = self._exchange(request)
        try:
            length = exchange.write_body(content)
        except OSError as problem:
            self._refuse(exchange, 500, f"cannot keep the body: {problem.strerror}")
            return
        most = self._server.max_post
        if length > most:
            self._refuse(exchange, 413, f"a body of more than {most} bytes, which is scripts.max_post")

    def _refuse(self, exchange: Exchange, status: int, reason: str) -> None:
        """Answer before the request has come in whole; the rest of it is passed over."""
        self._server.log.warning(f"{exchange.title}: {status}: {reason}")
        self._unread = True
        exchange.reply(refusal(status, head_only=exchange.head_only))

    def _aborted(self, request: Request) -> None:
        exchange = self.exchanges.pop(request.id, None)
        if exchange is not None:
            self._abandon(exchange)

    def _abandon(self, exchange: Exchange) -> None:
        exchange.abort()
        if self._drained is not None:
            self._drained.set()
        if not (exchange.request.params_ended and exchange.request.stdin_ended):
            # It never reached a worker that would end it.
            exchange.finish()

    # Output

    def write(self, buffers: list[bytes]) -> None:
        """Send, or queue what the web server does not take yet. Never waits, never raises."""
        if self.closed:
            return
        if self._queue:
            self._queue.extend(map(memoryview, filter(None, buffers)))
            return
        total = sum(map(len, buffers))
        try:
            if total < _COPY_BELOW:
                buffers = [b"".join(buffers)]
                sent = self._socket.send(buffers[0], socket.MSG_DONTWAIT) if total else 0
            else:
                sent = self._socket.sendmsg(buffers[:_MOST_BUFFERS], (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._hang_up()
            return
        if sent < total:
            self._queue.extend(map(memoryview, filter(None, buffers)))
            self._drop_sent(sent)
            self._writer = get_hub().loop.io(self._socket.fileno(), _WRITABLE)
            self._writer.start(self._write_more)

    def _write_more(self) -> None:
        try:
            while self._queue:
                first = [self._queue[at] for at in range(min(len(self._queue), _MOST_BUFFERS))]
                self._drop_sent(self._socket.sendmsg(first, (), socket.MSG_DONTWAIT))
        except BlockingIOError:
            return
        except OSError:
            self._hang_up()
            return
        self._writer.stop()
        self._writer.close()
        self._writer = None
        if self._drained is not None:
            self._drained.set()
        if self._closing:
            self._close_after_replies()

    def _drop_sent(self, sent: int) -> None:
        while sent:
            first = self._queue.popleft()
            if sent < len(first):
                self._queue.appendleft(first[sent:])
                return
            sent -= len(first)

    def drain(self, exchange: Exchange) -> None:
        """Wait until nothing is queued, or the exchange is aborted."""
        while self._queue and not exchange.aborted:
            if self._drained is None or self._drained.is_set():
                self._drained = Event()
            self._drained.wait()

    # The end

    def ended(self, exchange: Exchange) -> None:
        """The reply of one request is complete."""
        self._server.finished(exchange)
        self.quiet_since = self._server.beat
        request = exchange.request
        if self.exchanges.get(request.id) is exchange:
            del self.exchanges[request.id]
        if not request.keep_conn or self._closing:
            self._close_after_replies()

    def close_when_idle(self) -> None:
        """Take no further request; close at once when none is under way."""
        self._closing = True
        if self.idle:
            self._hang_up()

    def _close_after_replies(self) -> None:
        self._closing = True
        if self.closed or not self.idle:
            return
        if self._unread or not self.connection.clean:
            # Closing on unread input would make it a reset, and that can eat the reply.
            if not self._lingering:
                self._lingering = True
                self.quiet_since = self._server.beat
                try:
                    self._socket.shutdown(socket.SHUT_WR)
                except OSError:
                    self._hang_up()
        else:
            self._hang_up()

    @property
    def lingering(self) -> bool:
        """All is said, and the peer has not closed yet."""
        return self._lingering

    def _hang_up(self) -> None:
        """Close now, whatever is under way."""
        if self.closed:
            return
        self.closed = True
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._socket.close()
        self._queue.clear()
        self._server.sessions.discard(self)
        for exchange in list(self.exchanges.values()):
            self._abandon(exchange)
        self.exchanges.clear()

    close = _hang_up
