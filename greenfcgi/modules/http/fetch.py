"""One request of a script, from the first connection to the last byte of the body: redirects, a second try, decoding.

It holds a connection while it is under way; in the end that is kept for others, or closed.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

import h11

from ...lua.bridge import Bridge, Outcome
from ..sockets.operations import Operations, Step, Waits
from . import pool
from .connection import MAX_PART, Connection, Failure, Headers, Lost, connect, text_of, within
from .decoding import Decoder, Undecodable, decoder
from .url import BadUrl, Url, redirected

#: RFC 9110, section 9.2.2.
_IDEMPOTENT: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
#: What is said of the body, which goes where a redirect makes a GET of the request (section 15.4).
_OF_BODIES: Final = frozenset(
    (b"content-length", b"content-type", b"content-encoding", b"content-language", b"content-location", b"digest",
     b"expect", b"last-modified", b"transfer-encoding")
)  # fmt: skip
#: What another origin must not see.
_SECRETS: Final = frozenset((b"authorization", b"cookie", b"host", b"origin", b"proxy-authorization", b"referer"))


class Request(NamedTuple):
    """What a script asks for."""

    method: str
    url: Url
    #: Names and values, without Content-Length where the body is known.
    headers: Headers
    #: None: the script gives it in parts.
    body: bytes | None
    #: Seconds; for each read, where the script reads by itself.
    seconds: float
    max_redirects: int
    #: None for all: see `tls.Verification`.
    verification: tuple[str | None, int]
    is_stream: bool
    decodes: bool


class Fetch:
    """The request under way. Each of its operations returns what Lua gets."""

    def __init__(self, request: Request, bridge: Bridge) -> None:
        self.operations = Operations()
        self._request = request
        self._bridge = bridge
        self._until = monotonic() + request.seconds
        self._connection: Connection | None = None
        self._decoder: Decoder | None = None
        self._pending = b""
        self._phase = "connecting"
        #: It goes on with the next operation.
        self.is_active = False

    def start(self) -> Waits:
        """Connect, and send; what is known of the body, too. Returns ("", "", 0) where the script gives it in parts;
        else as `answer`.
        """
        outcome: Outcome
        if self._request.body is not None:
            outcome = yield from self.answer()
            return outcome

        def send_head() -> Step:
            yield from self._connect(may_reuse=False)
            yield from self._send()
            return b"", b"", 0

        outcome = yield from self._operation(send_head)
        return outcome

    def send(self, part: bytes) -> Waits:
        """Send a part of the body; b"": there is none any more. Returns "", or "refused": the server takes no more."""

        def send_part() -> Step:
            self._phase = "sending the body"
            connection = self._held()
            # A part of the protocol's, whose pieces are no larger than others.
            for at in range(0, len(part), MAX_PART):
                yield from connection.send_part(part[at : at + MAX_PART])
            if not part:
                yield from connection.send_part(None)
            return b"refused" if connection.is_refused else b""

        outcome: Outcome = yield from self._operation(send_part)
        return outcome

    def answer(self) -> Waits:
        """Wait for the response. Returns its head, the first part of its body, and whether there is more (1 or 0).

        The head is lines: the status, the URL, and header lines.
        """

        def respond() -> Step:
            response = yield from self._response()
            head = self._head(response)
            part = b""
            if not self._request.is_stream or self._has_no_body(response):
                part = yield from self._read()
            else:
                self._until = monotonic() + self._request.seconds
            if not self._bridge.reserve(len(head) + len(part)):
                return False
            return head, part, int(self._connection is not None)

        outcome: Outcome = yield from self._operation(respond)
        return outcome

    def read(self) -> Waits:
        """The next bytes of the body, at most 64 KB, and whether there is more (1 or 0)."""

        def read_part() -> Step:
            if self._request.is_stream:
                self._until = monotonic() + self._request.seconds
            part = yield from self._read()
            return (part, int(self._connection is not None)) if self._bridge.reserve(len(part)) else False

        outcome: Outcome = yield from self._operation(read_part)
        return outcome

    def close(self) -> None:
        """Nobody wants the rest."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _operation(self, step: Callable[[], Step]) -> Step:
        """Run it; what fails is (nil, why, 0), and ends the request."""
        self.is_active = False
        try:
            outcome: Outcome = yield from within(step(), self._until)
        except TimeoutError:
            problem = f"timeout after {self._request.seconds:g} s, {self._phase}"
        except Failure as failure:
            problem = str(failure)
        except (OSError, UnicodeError) as failure:
            problem = text_of(failure)
        else:
            self.is_active = self._connection is not None
            return outcome
        return self._bridge.failure(f"{self._request.url.authority}: {problem}".encode("utf-8", "replace"))

    def _held(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def _connect(self, may_reuse: bool) -> Step:
        url, verification = self._request.url, self._request.verification
        is_encrypted = url.scheme == "https"
        key = (url.scheme, url.host, url.port, verification if is_encrypted else None)
        found = pool.take(key) if may_reuse else None
        if found is None:
            while not self._bridge.take_descriptors(1):
                if not pool.drop_oldest():
                    raise Failure("too many open files")
            self._phase = "connecting"
            found = yield from connect(url, key, self._until, self._bridge)
            self._connection = found
            if is_encrypted:
                self._phase = "in the TLS handshake"
                yield from self._encrypt(found)
        self._connection = found

    def _encrypt(self, connection: Connection) -> Step:
        from . import tls

        try:
            context = tls.context(self._request.verification)
        except tls.NoAuthorities as problem:
            raise Failure(f"verify: found {self._request.verification[0]!r}: {problem}") from None
        yield from connection.encrypt(context, self._request.url.host)

    def _send(self) -> Step:
        self._phase = "sending the request"
        request = self._request
        headers = [(b"Host", request.url.authority.encode()), *request.headers]
        if any(name.lower() == b"host" for name, _ in request.headers):
            del headers[0]
        if request.body or (request.body is not None and request.method in ("POST", "PUT", "PATCH")):
            headers.append((b"Content-Length", b"%d" % len(request.body)))
        elif request.body is None and not any(name.lower() == b"content-length" for name, _ in headers):
            headers.append((b"Transfer-Encoding", b"chunked"))
        yield from self._held().send_head(request.method, request.url.target, headers, request.body)

    def _response(self) -> Step:
        """The head of the response that the script gets: that of the last redirect."""
        count = 0
        while True:
            response = yield from self._exchange()
            target = self._redirection(response)
            if target is None:
                return response
            if count == self._request.max_redirects:
                raise Failure(f"more than {count} redirects")
            count += 1
            yield from self._finish_redirect()
            self._request = _followed(self._request, response.status_code, target)

    def _exchange(self) -> Step:
        """Send the request, where that is not done yet, and wait for the head; once more where a kept connection was
        closed meanwhile.
        """
        may_reuse = True
        while True:
            try:
                if self._connection is None:
                    yield from self._connect(may_reuse)
                    yield from self._send()
                self._phase = "waiting for the response"
                response = yield from self._held().response()
                return response
            except Lost:
                connection = self._held()
                is_safe = not connection.has_sent or self._request.method in _IDEMPOTENT
                self.close()
                if not (connection.is_reused and is_safe):
                    raise
                may_reuse = False

    def _redirection(self, response: h11.Response) -> Url | None:
        if response.status_code not in _REDIRECTS or self._request.max_redirects == 0:
            return None
        locations = [value for name, value in response.headers if name == b"location"]
        if not locations:
            return None
        try:
            target = redirected(self._request.url, locations[0].decode("latin-1"))
        except BadUrl as problem:
            raise Failure(f"redirected to what {problem}") from None
        if self._request.url.scheme == "https" and target.scheme == "http":
            raise Failure(f"redirected from https to http, to {target.authority}")
        if self._request.body is None and response.status_code in (307, 308):
            raise Failure("redirected, and a body that comes in parts cannot be sent again")
        return target

    def _finish_redirect(self) -> Step:
        """What a redirect says is not wanted; a short text is read, so that the connection can be used again."""
        connection = self._held()
        part = yield from connection.body_part()
        if part and not connection.has_ended:
            yield from connection.body_part()
        self._end()

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if connection.has_ended and connection.make_ready():
                pool.give(connection)
            else:
                connection.close()

    def _head(self, response: h11.Response) -> bytes:
        headers = [(name, value) for name, value in response.headers]
        encodings = [value for name, value in headers if name == b"content-encoding"]
        if self._request.decodes and len(encodings) == 1 and not self._has_no_body(response):
            self._decoder = decoder(encodings[0].decode("latin-1"))
            if self._decoder is not None:
                # They say what has been sent.
                headers = [each for each in headers if each[0] not in (b"content-encoding", b"content-length")]
        lines = [b"%d" % response.status_code, self._request.url.text.encode("latin-1")]
        return b"\n".join(lines + [b"%b: %b" % each for each in headers])

    def _has_no_body(self, response: h11.Response) -> bool:
        return self._request.method == "HEAD" or response.status_code in (204, 304)

    def _read(self) -> Step:
        """The next part, b"" at the end, with which the connection goes."""
        self._phase = "reading the body"
        part = yield from self._next_part()
        connection = self._connection
        if connection is not None and connection.has_ended and not self._pending and self._decoder is None:
            self._end()
        return part

    def _next_part(self) -> Step:
        if self._pending:
            return self._cut(self._pending)
        connection = self._held()
        while True:
            if self._decoder is not None:
                part = self._decoded(self._decoder)
                if part:
                    return part
            data = yield from connection.body_part()
            if self._decoder is None:
                return self._cut(data)
            if not data:
                if not self._decoder.is_complete():
                    raise Failure("the compressed body ends too early")
                self._decoder = None
                return b""
            self._decoder.add(data)

    def _decoded(self, stream: Decoder) -> bytes:
        try:
            return stream.next(MAX_PART)
        except Undecodable:
            raise Failure("the body is not compressed as its Content-Encoding says") from None

    def _cut(self, data: bytes) -> bytes:
        self._pending = data[MAX_PART:]
        return data[:MAX_PART] if self._pending else data


def _followed(request: Request, status: int, target: Url) -> Request:
    """The request that follows a redirect (RFC 9110, section 15.4)."""
    method, body, headers = request.method, request.body, request.headers
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method, body = "GET", b""
        headers = [each for each in headers if each[0].lower() not in _OF_BODIES]
    before = request.url
    if (before.scheme, before.host, before.port) != (target.scheme, target.host, target.port):
        headers = [each for each in headers if each[0].lower() not in _SECRETS]
    return request._replace(method=method, url=target, headers=headers, body=body)
