"""One connection to a server, and HTTP/1.1 on it: h11 reads and writes the protocol, and does no I/O.

What waits is an operation (see `sockets.operations`). None of them looks at the time: see `within`.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Hashable, Sequence
from time import monotonic
from typing import Any, Final, NoReturn

import h11

from ...lua.bridge import Bridge
from ..sockets import resolver
from ..sockets.endpoint import READ, WRITE, Endpoint
from ..sockets.operations import Step
from ..sockets.problems import problem_text
from ..sockets.wakeup import Wakeup
from .url import Url

#: Bytes that are read at once, and that a part of a body has at most.
MAX_PART: Final = 65536
#: Bytes of a response's head, and its lines (http.client takes 100).
MAX_HEAD: Final = 65536
MAX_HEADERS: Final = 256
#: Of 1xx before the response.
_MAX_INTERIM: Final = 16
#: Events of the protocol after which others have their turn.
_TURN: Final = 128
#: Connections of scripts are kept by what they were encrypted with; these have a pool of their own.
_TERMS: Final = (b"", None)

Headers = list[tuple[bytes, bytes]]


class Failure(Exception):
    """A request has failed; the message is what the script gets."""


class Lost(Failure):
    """The server has closed the connection before it has said anything."""


def within(step: Step, until: float) -> Step:
    """Another operation, which must have ended by then. Raises `TimeoutError`."""
    try:
        while True:
            try:
                event, inner = next(step)
            except StopIteration as end:
                return end.value
            if monotonic() >= until:
                raise TimeoutError
            yield event, min(inner, until)
    finally:
        step.close()


class Connection:
    """A connection to an origin, which `key` stands for."""

    def __init__(self, key: Hashable, endpoint: Endpoint, bridge: Bridge) -> None:
        self.key = key
        self._endpoint = endpoint
        self._bridge = bridge
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        #: It has had a request before; has any byte of this one left, has any come?
        self.is_reused = False
        self.has_sent = False
        self.has_received = False
        #: The server does not take the rest of the request.
        self.is_refused = False
        #: The response is complete.
        self.has_ended = False
        self._is_closed = False
        self._at_end = False
        self._early: h11.Response | None = None
        self._interim = 0
        self._events = 0

    def encrypt(self, context: Any, host: str) -> Step:
        """Do the handshake. Raises `OSError` and `Failure`."""
        from .tls import VerifiedStream

        try:
            self._endpoint.encrypt(lambda raw: VerifiedStream(raw, context, host), _TERMS)
        except ValueError:
            raise Failure("url: found a host name that TLS does not take") from None
        while True:
            try:
                self._endpoint.sock.handshake()
                return
            except BlockingIOError as problem:
                yield from self._endpoint.ready(getattr(problem, "mask", READ), -1)

    def send_head(self, method: str, target: str, headers: Headers, body: bytes | None) -> Step:
        """Send a request's head, and its body, where it is known; else `send_part` follows. Raises `Failure`."""
        try:
            data = self._protocol.send(h11.Request(method=method, target=target, headers=headers)) or b""
        except h11.LocalProtocolError:
            raise Failure("headers: found some that contradict each other") from None
        if body is None:
            yield from self._send(data)
            return
        at = 0
        while True:
            part = body[at : at + MAX_PART]
            at += len(part)
            if part:
                data += self._sendable(h11.Data(data=part))
            if at >= len(body):
                data += self._sendable(h11.EndOfMessage())
            yield from self._send(data)
            if at >= len(body) or self.is_refused:
                return
            data = b""

    def send_part(self, part: bytes | None) -> Step:
        """Send a part of the request's body; None: there is none any more. Raises `Failure`."""
        event = h11.EndOfMessage() if part is None else h11.Data(data=part)
        yield from self._send(self._sendable(event))

    def _sendable(self, event: h11.Event) -> bytes:
        try:
            return self._protocol.send(event) or b""
        except h11.LocalProtocolError:
            # All else has been checked.
            raise Failure("body: found another length than Content-Length says") from None

    def _send(self, data: bytes) -> Step:
        view = memoryview(data)
        while view and not self.is_refused:
            try:
                sent = self._endpoint.sock.send(view)
            except BlockingIOError as problem:
                mask = getattr(problem, "mask", WRITE)
                yield from self._endpoint.ready(mask | READ, -1)
                if self._has_early_response():
                    self.is_refused = True
            except (BrokenPipeError, ConnectionResetError) as problem:
                if not self.has_sent:
                    raise Lost(text_of(problem)) from None
                # There may be a response that says why.
                self.is_refused = True
            else:
                self.has_sent = True
                view = view[sent:]

    def _has_early_response(self) -> bool:
        """The server has answered, or gone, before it has got the whole request."""
        try:
            data = self._endpoint.sock.recv(MAX_PART)
        except BlockingIOError:
            return False
        except OSError:
            return True
        self._receive(data)
        if data:
            event = self._next_of_head()
            self._early = event if isinstance(event, h11.Response) else None
        return self._early is not None or self._at_end

    def response(self) -> Step:
        """The response's head, an `h11.Response`. Raises `Failure`."""
        if self._early is not None:
            return self._early
        while True:
            event = self._next_of_head()
            if event is not h11.NEED_DATA:
                return event
            if self._at_end:
                self._close_early()
            yield from self._turn()
            yield from self._fill()

    def _close_early(self) -> NoReturn:
        if self.has_received:
            raise Failure("the connection was closed in the middle of the response's head")
        raise Lost("the connection was closed without a response")

    def _next_of_head(self) -> Any:
        """The response, or that data are needed."""
        while True:
            try:
                event = self._protocol.next_event()
            except h11.RemoteProtocolError as problem:
                if problem.error_status_hint == 431:
                    raise Failure(f"the response's head is longer than {MAX_HEAD} bytes") from None
                if self._at_end:
                    self._close_early()
                raise Failure("what came is no HTTP response") from None
            if isinstance(event, h11.InformationalResponse):
                self._interim += 1
                if event.status_code == 101 or self._interim > _MAX_INTERIM:
                    raise Failure("the server switches protocols" if event.status_code == 101
                                  else f"more than {_MAX_INTERIM} interim responses")  # fmt: skip
            elif isinstance(event, h11.Response):
                if len(event.headers) > MAX_HEADERS:
                    raise Failure(f"the response has more than {MAX_HEADERS} header lines")
                return event
            elif event is h11.NEED_DATA:
                return event
            else:
                self._close_early()

    def body_part(self) -> Step:
        """The next bytes of the response's body, as they come; b"" at its end. Raises `Failure`."""
        parts: list[bytes] = []
        size = 0
        while size < MAX_PART and not self.has_ended:
            try:
                event = self._protocol.next_event()
            except h11.RemoteProtocolError:
                raise Failure(
                    "the connection was closed in the middle of the body" if self._at_end
                    else "the response's body is not as HTTP has it"
                ) from None  # fmt: skip
            if isinstance(event, h11.Data):
                parts.append(bytes(event.data))
                size += len(event.data)
            elif event is h11.NEED_DATA:
                if parts:
                    break
                yield from self._fill()
            else:
                self.has_ended = True
            yield from self._turn()
        return b"".join(parts)

    def _fill(self) -> Step:
        while True:
            try:
                self._receive(self._endpoint.sock.recv(MAX_PART))
                return
            except BlockingIOError as problem:
                yield from self._endpoint.ready(getattr(problem, "mask", READ), -1)
            except ConnectionResetError as problem:
                if self.has_received:
                    raise Failure("the connection was closed in the middle of the response") from None
                raise Lost(text_of(problem)) from None

    def _receive(self, data: bytes) -> None:
        if data:
            self.has_received = True
        else:
            self._at_end = True
        if data or self.has_received:
            self._protocol.receive_data(data)

    def _turn(self) -> Step:
        """Let others have their turn, after many events without a wait."""
        self._events += 1
        if self._events % _TURN == 0:
            yield Wakeup(), 0.0

    def make_ready(self) -> bool:
        """The response has ended: prepare for the next request. Returns whether there may be one."""
        protocol = self._protocol
        if self.is_refused or protocol.our_state is not h11.DONE or protocol.their_state is not h11.DONE:
            return False
        if protocol.trailing_data[0] or self._at_end:
            return False
        protocol.start_next_cycle()
        self.is_reused = True
        self.has_sent = self.has_received = self.has_ended = False
        self._early, self._interim = None, 0
        return True

    def is_quiet(self) -> bool:
        """Nothing has come, not even the end."""
        return self._endpoint.is_quiet()

    def release(self) -> None:
        """Nobody waits for it: give the watchers back."""
        self._endpoint.release()

    def close(self) -> None:
        """Close it."""
        if not self._is_closed:
            self._is_closed = True
            self._endpoint.close()
            self._bridge.give_descriptors(1)


def connect(url: Url, key: Hashable, until: float, bridge: Bridge) -> Step:
    """A new `Connection`, whose descriptor is taken already. Raises `OSError` and `UnicodeError`."""
    try:
        found = yield from resolver.addresses(url.host, str(url.port), socket.AF_UNSPEC, socket.SOCK_STREAM)
    except BaseException:
        bridge.give_descriptors(1)
        raise
    connection = None
    try:
        connection = yield from _connect_to_any(found, key, until, bridge)
    finally:
        if connection is None:
            bridge.give_descriptors(1)
    return connection


def _connect_to_any(found: Sequence[resolver.Address], key: Hashable, until: float, bridge: Bridge) -> Step:
    """Each address has its part of the time: one that does not answer must not take all of it."""
    for left, (family, kind, protocol, address) in zip(range(len(found), 0, -1), found, strict=True):
        sock = socket.socket(family, kind, protocol)
        endpoint = Endpoint(sock)
        try:
            now = monotonic()
            yield from within(_connect_to(endpoint, address), now + (until - now) / left)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return Connection(key, endpoint, bridge)
        except OSError:
            endpoint.close()
            if left == 1:
                raise
        except BaseException:
            endpoint.close()
            raise
    raise socket.gaierror(socket.EAI_NONAME, "")


def _connect_to(endpoint: Endpoint, address: Any) -> Step:
    number = endpoint.raw.connect_ex(address)
    if number in (errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN):
        yield from endpoint.ready(WRITE, -1)
        number = endpoint.raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))


def text_of(problem: OSError | UnicodeError) -> str:
    """What a failure is called."""
    if isinstance(problem, ConnectionResetError):
        return "the connection was cut"
    return problem_text(problem).decode("utf-8", "replace")
