"""One connection from a web server: its socket to the protocol, and the replies back.

Nothing here waits but `drain`; input is taken in event loop callbacks. The socket is a bare one, read and written
with MSG_DONTWAIT, so that no system call is spent on making it non-blocking; its read watcher is made only when
the connection outlives the callback that accepted it. An idle connection holds a socket, a watcher and this
object: no worker and no Lua state.

How a session ends. Behind each state but the first stands a flag that is never taken back. ::

    open       Requests are answered.
                 -> closing    A request without KEEP_CONN has ended, the process leaves (`wind_down`), or nothing has
                               come for `keepalive`.
                 -> truncated  A reply breaks off, and no other request is on the connection.
                 -> closed     The process leaves, and another one takes the connection over (`_hand_over`).
    closing    As open; but once nothing is under way,
                 -> lingering  if input may still come, as after a request that was refused before its end,
                 -> closed     otherwise.
    lingering  The sending side is shut down, and what comes in is thrown away.
                 -> closed     The web server closes, or two seconds are over (`sweep`).
    truncated  Nothing is read; what waits in the outbox is still sent.
                 -> closed     That has left. The connection is reset.
    closed     The socket is closed, or another process's.

Every state leads to closed when the web server closes, breaks the protocol, or is late (`sweep`), and when the process
ends.

To close a socket on unread input would send a reset, which can destroy a reply on its way: hence lingering.

Two things hold input back for a while, in any state before closed: `_paused`, while more than `_MAX_WAITING` bytes of
replies wait in the outbox; and `_events`, the rest of a read that is left for another turn. Requests may be in either,
so neither lets closing come to its end.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from _socket import socket as BareSocket
from collections.abc import Callable, Iterator
from typing import Any, Final

from gevent import get_hub

from ..errors import ProtocolError
from ..fastcgi.connection import ABORTED, BEGUN, MAX_PARAMS, READY, STDIN, TOO_LARGE, Connection, Event
from ..fastcgi.records import MANAGEMENT_ID, UNKNOWN_TYPE, Buffer, record
from ..fastcgi.request import Request
from ..fastcgi.response import refusal
from ..logs.text import traceback_of
from .body import Body
from .context import Context
from .exchange import Exchange
from .outbox import MAX_BUFFERS, Outbox

#: Bytes asked of the kernel at once: a request without a body is smaller, and to ask for more costs it time.
_READ_SIZE: Final = 8192
#: The same after a read that was filled, while a body is coming. Small enough to stay off mmap.
_LONG_READ_SIZE: Final = 96 * 1024
#: Bytes of replies that may wait for a web server before nothing more is read from it.
_MAX_WAITING: Final = 1024 * 1024
#: An unsolicited record: an error to nginx, which the end of a connection by unix socket is not.
_UNASKED: Final = record(UNKNOWN_TYPE, MANAGEMENT_ID)
#: struct linger, {on, 0 seconds}: close resets a TCP connection.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
#: No descriptor is left now; one may be free soon.
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE)

_READABLE: Final = 1
_DONTWAIT: Final = socket.MSG_DONTWAIT


class Session:
    """A connection from its acceptance to its close."""

    __slots__ = (
        "_closing", "_context", "_events", "_has_unread", "_held", "_paused", "_read_size", "_reader", "_socket",
        "_truncated", "closed", "connection", "exchanges", "lingering", "outbox", "peer", "quiet_since",
        "unfinished_since",
    )  # fmt: skip

    def __init__(self, context: Context, bare: BareSocket, peer: str) -> None:
        self._context = context
        self._socket = bare
        self.peer = peer
        self.connection = Connection(context.routing, context.room_for_requests, context.authorizer)
        #: The requests under way, by id.
        self.exchanges: dict[int, Exchange] = {}
        self.closed = False
        #: The tick at which the last request ended, or lingering began.
        self.quiet_since = context.ticks
        self._reader: Any = None
        self._read_size = _READ_SIZE
        #: What the web server has not taken yet, where it has fallen behind.
        self.outbox: Outbox | None = None
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
        self._has_unread = False
        #: What is unfinished, with the tick at which it was first seen so; kept by `sweep`. None until something is.
        self.unfinished_since: dict[object, int] | None = None
        #: All is said; what still comes in is thrown away until the peer closes.
        self.lingering = False

    @property
    def is_idle(self) -> bool:
        """No request is under way, not even in part, and every reply has left."""
        return not (self.exchanges or self.connection.requests or self.outbox or self._events)

    @property
    def is_quiet(self) -> bool:
        """Idle, and between two records."""
        return self.is_idle and not self.connection.mid_record

    @property
    def is_holding_input(self) -> bool:
        """What has come in is not looked at for now: too many replies wait, or it is not its turn."""
        return self._paused or self._events is not None

    def start(self) -> None:
        """Read what has come with the connection, and go on reading."""
        self._read()
        if not self.closed:
            self._reader = get_hub().loop.io(self._socket.fileno(), _READABLE)
            if not (self._paused or self._truncated) and self._events is None:
                self._resume_reading()

    # Input

    def _read(self) -> None:
        try:
            data = self._socket.recv(self._read_size, _DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not data:
            # All web servers but HAProxy abort a request so.
            self.close()
            return
        if not self.lingering:
            self._handle(self.connection.receive(data), len(data))
        was_filled = len(data) >= _READ_SIZE
        self._read_size = _LONG_READ_SIZE if was_filled and self.connection.expects_body else _READ_SIZE

    def _handle(self, events: Iterator[Event], size: int) -> None:
        """Act on what has been read, in `size` bytes; what takes too long is left for another turn."""
        connection = self.connection
        # What is under way here keeps the connection from being closed as idle.
        self._events = events
        began = 0.0
        try:
            for event, request, content in events:
                if connection.has_output:
                    # Before anything else: the id of a request that has ended here can be in use again.
                    self.write(connection.take_output())
                if self.closed:
                    return
                if event == READY:
                    exchange = self._exchange(request)
                    self._dispatch(exchange)
                    if self._paused or (began and time.monotonic() - began > self._context.time_slice):
                        self._defer_rest(events, size)
                        return
                    began = began or exchange.started
                elif event == BEGUN:
                    if request.content_length:
                        self._check_length(request, request.content_length)
                elif event == STDIN:
                    self._on_stdin(request, content)
                elif event == ABORTED:
                    self._on_aborted(request)
                elif event == TOO_LARGE:
                    self.refuse(request, 431, f"more than {MAX_PARAMS} bytes of parameters")
                else:
                    self.refuse(request, 503, "no room for more parameters (buffers)")
                if self.closed:
                    # What came now would be taken from the quota, and never given back.
                    return
        except ProtocolError as problem:
            self.close(str(problem))
            return
        except Exception as problem:
            # The border of a connection: whatever went wrong inside the server ends this one only.
            text = f"connection from {self.peer} closed: the server failed: {problem!r}"
            self._context.log.error(text, traceback_of(problem))
            self.close()
            return
        if self.closed:
            return
        self._events = None
        if connection.has_output:
            self.write(connection.take_output())
        if connection.should_close or self._closing:
            self._close_after_replies()

    def _defer_rest(self, events: Iterator[Event], size: int) -> None:
        """Read no more, and leave the events that are left to another turn; when paused, until replies have left."""
        if self.closed:
            return
        if not self._held:
            if not self._context.room_for_requests.take(size):
                self.close(f"no room for {size} bytes read (buffers)")
                return
            self._held = size
        self._events = events
        if self._reader is not None:
            self._reader.stop()
        if not self._paused:
            self._context.turns.queue(self._handle_rest)

    def _handle_rest(self) -> None:
        events = self._events
        if self.closed or events is None or self._paused:
            return
        self._events = None
        self._handle(events, self._held)
        if self._events is None:
            self._release_held()
            if not self.closed and not self._paused:
                self._resume_reading()

    def _release_held(self) -> None:
        self._context.room_for_requests.give_back(self._held)
        self._held = 0

    def _resume_reading(self) -> None:
        if self._reader is not None:
            self._reader.start(self._read)

    def _dispatch(self, exchange: Exchange) -> None:
        context, request = self._context, exchange.request
        answer = context.internal_handler(request) if context.internal_handler is not None else None
        exchange.has_owner = True
        if answer is not None:
            reply, exchange.is_logged = answer
            exchange.reply(reply)
            return
        workers = context.workers
        long = context.long_scripts
        if not (self._dispatch_in_turn(exchange) if long.names or workers.in_turn else workers.submit(exchange)):
            exchange.reply(refusal(503, head_only=exchange.head_only))

    def _dispatch_in_turn(self, exchange: Exchange) -> bool:
        """Where its script computes for long, it starts in a turn; and where others wait for theirs, behind them."""
        context, workers = self._context, self._context.workers
        name = context.long_scripts.name(exchange.request)
        if name in context.long_scripts.names:
            return workers.submit_in_turn(exchange, name)
        return (name in workers.in_turn and workers.submit_in_turn(exchange, name)) or workers.submit(exchange)

    def _exchange(self, request: Request) -> Exchange:
        exchange = self.exchanges.get(request.id)
        if exchange is None:
            exchange = self.exchanges[request.id] = Exchange(self, request)
        return exchange

    def _check_length(self, request: Request, length: int) -> None:
        max_post = self._context.max_post
        if length > max_post:
            self.refuse(request, 413, f"a body of {length} bytes, scripts.max_post is {max_post}")

    def _on_stdin(self, request: Request, content: Buffer) -> None:
        exchange = self._exchange(request)
        try:
            length = exchange.write_body(content)
        except OSError as problem:
            status = 503 if problem.errno in _EXHAUSTED else 500
            self.refuse(request, status, f"cannot keep the body: {problem.strerror}")
            return
        max_post = self._context.max_post
        if length > max_post:
            self.refuse(request, 413, f"a body of more than {max_post} bytes, which is scripts.max_post")

    def refuse(self, request: Request, status: int, reason: str) -> None:
        """Answer a request before it has come in whole, and log why; the rest of it is passed over."""
        exchange = self._exchange(request)
        self._context.log.warning(f"{exchange.title}: {status}: {reason}")
        self._has_unread = True
        # Should the reply find the connection broken, this request has been seen to already.
        self.exchanges.pop(request.id, None)
        exchange.reply(refusal(status, head_only=exchange.head_only))

    def _on_aborted(self, request: Request) -> None:
        exchange = self.exchanges.pop(request.id, None)
        if exchange is not None:
            self._abandon(exchange)

    def _abandon(self, exchange: Exchange) -> None:
        exchange.abort()
        if self.outbox is not None:
            self.outbox.wake()
        if not exchange.has_owner:
            # No worker will end it.
            exchange.finish()

    def new_body(self) -> Body:
        """What keeps the body of a request."""
        return Body(self._context.memory.bodies, self._context.descriptors.temporary)

    def body_length(self, request: Request) -> int:
        """Bytes of a request's body that have come and are kept."""
        exchange = self.exchanges.get(request.id)
        return exchange.body.length if exchange is not None and exchange.body is not None else 0

    def computes_long(self, exchange: Exchange) -> None:
        """The script of a request computes for longer than a short turn."""
        self._context.long_scripts.remember(exchange.request, True)

    # Output

    def write(self, buffers: list[Buffer]) -> None:
        """Send, or queue what the web server does not take yet. Never waits, never raises."""
        if self.closed:
            return
        if self.outbox is not None:
            self._enqueue(self.outbox, buffers, 0)
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
            self.close()
            return
        if sent < total:
            context = self._context
            self.outbox = Outbox(
                self._socket, context.memory.replies, context.descriptors.temporary, self._on_emptied, self.close
            )
            self._enqueue(self.outbox, buffers, sent)

    def _enqueue(self, outbox: Outbox, buffers: list[Buffer], sent: int) -> None:
        try:
            outbox.add(buffers, sent)
        except OSError as problem:
            self.close(f"no room for a reply that waits: {problem.strerror}")
            return
        if outbox.size > _MAX_WAITING and not self._paused:
            self._paused = True
            if self._reader is not None:
                self._reader.stop()

    def _on_emptied(self) -> None:
        """The web server has taken everything."""
        self.outbox = None
        if self._truncated:
            self._reset()
            return
        if self._paused:
            self._paused = False
            if self._events is not None:
                self._context.turns.queue(self._handle_rest)
            else:
                self._resume_reading()
        self.continue_closing()

    def drain(self, exchange: Exchange, seconds: float) -> bool:
        """Wait until what is queued has left or the exchange is aborted, at most so long. True when that is so."""
        # This one only: what others send on the connection afterwards is theirs to wait for.
        outbox = self.outbox
        end = time.monotonic() + seconds if outbox else 0.0
        while outbox and not exchange.aborted:
            time_left = end - time.monotonic()
            if time_left <= 0:
                return False
            outbox.wait(time_left)
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
        if not self.outbox:
            self._reset()

    def _reset(self) -> None:
        try:
            if self._socket.family == socket.AF_UNIX:
                self._socket.send(_UNASKED, _DONTWAIT)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        except OSError:
            # It is closed all the same.
            pass
        self.close()

    def ended(self, exchange: Exchange) -> None:
        """The reply of one request is complete."""
        context, request = self._context, exchange.request
        access = context.access
        if access is not None and exchange.is_logged:
            access.write(request, exchange.status, exchange.sent, exchange.started, exchange.head_sent)
        for observe in context.observers:
            observe(exchange)
        self.quiet_since = context.ticks
        if self.exchanges.get(request.id) is exchange:
            del self.exchanges[request.id]
        if self._truncated:
            return
        if not request.keep_conn or self._closing:
            # What is being taken closes behind itself.
            if self._events is None:
                self._close_after_replies()
        elif context.hand_over is not None:
            # Not here: more requests may have come in the same read.
            get_hub().loop.run_callback(self.wind_down)

    # Closing

    def wind_down(self) -> None:
        """The process leaves: hand the connection over, or close it, once nothing is under way on it.

        To be called again until the session is closed.
        """
        if self.closed or self.lingering:
            return
        if self._context.hand_over is None or not self.connection.keep_alive:
            self.close_when_idle()
        elif self.is_quiet:
            if self.connection.at_boundary:
                self._hand_over(self._context.hand_over)
            else:
                # The rest of a refused request may be on its way, which another process would not understand.
                self.close_when_idle()

    def _hand_over(self, hand_over: Callable[[BareSocket, str], bool]) -> None:
        if self._reader is not None:
            self._reader.stop()
        if not hand_over(self._socket, self.peer):
            if self._reader is not None:
                self._reader.start(self._read)
            return
        self.closed = True
        if self._reader is not None:
            self._reader.close()
        self.connection.close()
        self._context.on_closed(self)

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
        if self.is_quiet and not self.lingering:
            self._read()
        if not self.closed and self.is_quiet:
            self.close()

    def continue_closing(self) -> None:
        """Close or linger, when closing has begun and nothing is under way any more."""
        if not self.closed and self._closing:
            self._close_after_replies()

    def _close_after_replies(self) -> None:
        self._closing = True
        if self.closed or not self.is_idle:
            return
        if self._has_unread or not self.connection.at_boundary:
            # A close now would be a reset, which can destroy the reply.
            if self.connection.keep_alive and self.connection.mid_record:
                # The rest of a request is on its way.
                return
            if not self.lingering:
                self.lingering = True
                self.quiet_since = self._context.ticks
                try:
                    self._socket.shutdown(socket.SHUT_WR)
                except OSError:
                    self.close()
        else:
            self.close()

    def close(self, reason: str = "") -> None:
        """Close now, whatever is under way; a `reason` is logged."""
        if self.closed:
            return
        if reason:
            self._context.log.warning(f"connection from {self.peer} closed: {reason}")
        self.closed = True
        if self._reader is not None:
            self._reader.stop()
            self._reader.close()
        if self.outbox is not None:
            self.outbox.close()
            self.outbox = None
        self._events = None
        if self._held:
            self._release_held()
        self.connection.close()
        self._socket.close()
        self._context.on_closed(self)
        if self.exchanges:
            for exchange in list(self.exchanges.values()):
                self._abandon(exchange)
            self.exchanges.clear()
