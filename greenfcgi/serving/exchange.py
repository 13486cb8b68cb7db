"""One request under way, from its parameters to the last byte of its reply: what is behind a script's `con`."""

from __future__ import annotations

from time import monotonic
from typing import Final, Protocol

import gevent
from gevent.event import Event

from ..fastcgi.connection import Connection
from ..fastcgi.records import Buffer
from ..fastcgi.request import Request
from ..fastcgi.response import Reply
from ..logs.text import MAX_TITLE, decode, shorten
from ..lua.bridge import Waitable
from .body import Body

#: Seconds to sleep that give others a turn: with 0, gevent looks at timers and sockets only every 50th time.
_TURN: Final = 1e-5
_NEVER: Final = float("inf")


class Wire(Protocol):
    """The connection that an exchange lives on."""

    connection: Connection

    def new_body(self) -> Body:
        """What keeps the body of a request."""

    def write(self, buffers: list[Buffer]) -> None:
        """Send, or queue what the web server does not take yet. Never waits, never raises."""

    def drain(self, exchange: Exchange, seconds: float) -> bool:
        """Wait until what is queued has left or the exchange is aborted, at most so long. True when that is so."""

    def ended(self, exchange: Exchange) -> None:
        """The reply is complete."""

    def truncated(self, exchange: Exchange) -> None:
        """The reply will never be complete."""

    def computes_long(self, exchange: Exchange) -> None:
        """The script of a request computes for longer than a short turn."""


class Exchange:
    """A request, its body as far as it has come, and its reply as far as it has gone."""

    __slots__ = (
        "_awaited",
        "_wire",
        "aborted",
        "body",
        "deadline",
        "has_owner",
        "head_sent",
        "is_answered",
        "is_logged",
        "is_long",
        "request",
        "sent",
        "started",
        "status",
    )  # fmt: skip

    def __init__(self, wire: Wire, request: Request) -> None:
        self._wire = wire
        self.request = request
        self.body: Body | None = None
        #: The web server has taken the request back, or is not there any more.
        self.aborted = False
        #: What the script waits for; set when the request is aborted.
        self._awaited: Waitable | None = None
        #: Its reply has left before its script has ended.
        self.is_answered = False
        #: A worker, or the server's internal handler, has taken it, and will end it.
        self.has_owner = False
        #: When the request began, in seconds of the monotonic clock.
        self.started = monotonic()
        #: Until when it may run, once it does.
        self.deadline = _NEVER
        #: Its script has computed for longer than a short turn.
        self.is_long = False
        #: It goes to the access log.
        self.is_logged = True
        #: What has gone out: the status (0: nothing yet), the header block, bytes of the body.
        self.status = 0
        self.head_sent = b""
        self.sent = 0

    @property
    def params(self) -> bytes:
        """The PARAMS stream."""
        return self.request.params

    @property
    def head_only(self) -> bool:
        """The reply has no body."""
        return self.request.variables().get(b"REQUEST_METHOD") == b"HEAD"

    @property
    def title(self) -> str:
        """The request in a few words, for the error log: "GET /page?x=1". Cut where it is long, but not escaped yet."""
        variables = self.request.variables()
        method = variables.get(b"REQUEST_METHOD", b"?")
        target = variables.get(b"REQUEST_URI") or variables.get(b"SCRIPT_NAME") or b"?"
        return decode(shorten(method + b" " + target, MAX_TITLE))

    def write_body(self, data: Buffer) -> int:
        """Take the next part of the body; returns its length so far. Raises `OSError` (a full disk)."""
        if self.body is None:
            self.body = self._wire.new_body()
        self.body.write(data)
        return self.body.length

    def read(self, size: int) -> bytes:
        """The next bytes of the body, or all that are left with -1. Raises `OSError`."""
        return self.body.read(size) if self.body is not None else b""

    def body_problem(self) -> str:
        """How the body differs from CONTENT_LENGTH; empty when it does not."""
        length = self.body.length if self.body is not None else 0
        expected = self.request.content_length
        if expected is None or expected == length:
            return ""
        return f"the body has {length} bytes, but CONTENT_LENGTH says {expected}"

    def begin(self, timeout: float) -> None:
        """A worker takes it up: from now on it may run for `timeout` seconds."""
        self.deadline = monotonic() + timeout

    def time_left(self) -> float:
        """Seconds until the deadline; 0 when it has passed."""
        return max(0.0, self.deadline - monotonic())

    def sleep(self, seconds: float) -> None:
        """Wait; returns soon when the request is aborted."""
        self.wait(Event(), seconds)

    def wait(self, event: Waitable, seconds: float) -> None:
        """Wait for an event, at most so long; returns soon when the request is aborted, which sets the event."""
        if self.aborted:
            # A script that goes on all the same must not keep others from their turn.
            gevent.sleep(_TURN)
            return
        self._awaited = event
        event.wait(seconds)
        self._awaited = None

    def abort(self) -> None:
        """Nobody waits for the reply any more: wake the script if it waits."""
        self.aborted = True
        if self._awaited is not None:
            self._awaited.set()

    def computes_long(self) -> None:
        """The script has computed for longer than a short turn: from now on, others of its kind wait for theirs."""
        self.is_long = True
        self._wire.computes_long(self)

    def send(self, status: int, head: bytes, data: bytes) -> None:
        """Send a part of the reply; the first part with the header block, later ones with b"" for it. Does not wait.

        The header block ends with a blank line.
        """
        if not self.aborted:
            self._count(status, head, data)
            self._wire.write(self._wire.connection.stdout(self.request, head, data))

    def report(self, text: bytes) -> None:
        """Send text for the web server's own error log (FCGI_STDERR), once. Does not wait."""
        if not self.aborted:
            self._wire.write(self._wire.connection.stderr(self.request, text))

    def drain(self, seconds: float) -> bool:
        """Wait for a slow web server, at most so long. True when it has taken everything, or the request is aborted."""
        if self.aborted:
            gevent.sleep(_TURN)
            return True
        return self._wire.drain(self, seconds)

    def reply(self, reply: Reply) -> None:
        """Send the reply, or what is left of it, and end the request. Does not wait.

        The header block in it ends with a blank line; it is b"" when `send` has sent it.
        """
        status, head, body = reply
        self._count(status, head, body)
        wire = self._wire
        wire.write(wire.connection.reply(self.request, head, body))
        self.finish()

    def truncate(self) -> None:
        """End the request although its reply, of which a part has gone out, is incomplete, so that clients see that."""
        self._wire.truncated(self)
        self.finish()

    def answer_early(self, reply: Reply, is_whole: bool) -> None:
        """Send the reply, or what is left of it, and end the request, while its script goes on. Does not wait.

        Nobody's leaving ends the script from then on. With `is_whole` False the reply breaks off.
        """
        if is_whole:
            self.reply(reply)
        else:
            self.send(0, b"", reply[2])
            self.truncate()
        self.is_answered = True
        self.aborted = False

    def finish(self) -> None:
        """The request is over: free its body, and tell the connection."""
        if self.body is not None:
            self.body.close()
            self.body = None
        self._wire.ended(self)

    def _count(self, status: int, head: bytes, data: bytes) -> None:
        if head:
            self.status = status
            self.head_sent = head
        self.sent += len(data)
