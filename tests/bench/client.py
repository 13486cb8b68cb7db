"""FastCGI requests over a unix socket, without a web server: enough to ask for a script.

The few bytes are written here by hand, so that the measuring side shares no code with what it measures. It
sends no request body, and takes one request per connection at a time, or several that are sent together.
"""

import select
import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from .errors import BenchError

_HEADER = struct.Struct("!BBHHBx")
_BEGIN_REQUEST, _END_REQUEST, _PARAMS, _STDIN, _STDOUT, _STDERR = 1, 3, 4, 5, 6, 7
_KEEP_CONN = 1
_TIMEOUT = 10.0


class Reply(NamedTuple):
    """What the script answered; `stderr` is what it sent for the log."""

    status: int
    body: bytes
    stderr: bytes


class FastCGIClient:
    """A connection to a server's unix socket, kept for as many requests as are asked. A context manager."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError` when nothing listens there."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_TIMEOUT)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def get(self, script: Path, keep: bool = True) -> Reply:
        """Ask for the script of this absolute path, with KEEP_CONN unless told otherwise.

        Raises `BenchError` when the server closes or is silent for ten seconds.
        """
        self.ask(script, keep)
        return self.reply()

    def ask(self, script: Path, keep: bool = True, query: str = "") -> None:
        """Send a request and wait for nothing: `reply` does. Raises `BenchError` when it cannot be sent."""
        try:
            self._ask(script, keep, query)
        except OSError as error:
            raise BenchError(f"{script.name} cannot be asked for: {error}") from error

    def reply(self) -> Reply:
        """The reply to what was asked. Raises `BenchError` when the server closes or is silent for ten seconds."""
        try:
            return self._replies(1)[0]
        except OSError as error:
            raise BenchError(f"no FastCGI reply: {error}") from error

    def get_together(self, script: Path, query: str, number: int) -> list[Reply]:
        """Send so many requests in one write, with as few parameters as there can be, and receive all replies.

        The requests have the ids from 1 on, and the replies are in their order. Raises as `get` does.
        """
        params = _pair(b"SCRIPT_FILENAME", str(script).encode()) + _pair(b"QUERY_STRING", query.encode())
        try:
            self._socket.sendall(b"".join(_request(params, True, request_id) for request_id in range(1, number + 1)))
            return self._replies(number)
        except OSError as error:
            raise BenchError(f"no FastCGI reply: {error}") from error

    def begin(self, script: Path) -> None:
        """Ask for a script that has no end, and return when its first output has come.

        Raises `BenchError` when none comes within ten seconds, or something else.
        """
        try:
            self._ask(script, keep=True)
            kind, _, content = self._record()
        except OSError as error:
            raise BenchError(f"{script.name} did not begin: {error}") from error
        if kind != _STDOUT:
            raise BenchError(f"{script.name} did not begin: record of type {kind}, {content[:200]!r}")

    def silent(self) -> bool:
        """Nothing has come since the last reply or output."""
        arrivals = select.poll()
        arrivals.register(self._socket, select.POLLIN)
        return not self._received and not arrivals.poll(0)

    def _ask(self, script: Path, keep: bool, query: str = "") -> None:
        params = {
            b"GATEWAY_INTERFACE": b"CGI/1.1",
            b"SERVER_PROTOCOL": b"HTTP/1.1",
            b"REQUEST_METHOD": b"GET",
            b"QUERY_STRING": query.encode(),
            b"REQUEST_URI": b"/" + script.name.encode(),
            b"SCRIPT_NAME": b"/" + script.name.encode(),
            b"SCRIPT_FILENAME": str(script).encode(),
            b"DOCUMENT_ROOT": str(script.parent).encode(),
        }
        pairs = b"".join(_pair(name, value) for name, value in params.items())
        self._socket.sendall(_request(pairs, keep))

    def _replies(self, number: int) -> list[Reply]:
        """The replies to the requests with the ids from 1 to `number`, whose records may be mixed."""
        streams = {request_id: {_STDOUT: bytearray(), _STDERR: bytearray()} for request_id in range(1, number + 1)}
        unfinished = set(streams)
        while unfinished:
            kind, request_id, content = self._record()
            if request_id not in unfinished:
                raise BenchError(f"a record of type {kind} for request {request_id}, which does not wait for one")
            if kind == _END_REQUEST:
                unfinished.discard(request_id)
            else:
                streams[request_id][kind] += content
        return [_reply(bytes(one[_STDOUT]), bytes(one[_STDERR])) for one in streams.values()]

    def _record(self) -> tuple[int, int, bytes]:
        """Type, request id and content of the next record."""
        _, kind, request_id, length, padding = _HEADER.unpack(self._take(_HEADER.size))
        return kind, request_id, self._take(length + padding)[:length]

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            received = self._socket.recv(65536)
            if not received:
                raise BenchError("the server closed the connection in the middle of a reply")
            self._received += received
        taken, self._received = self._received[:size], self._received[size:]
        return taken


def check_reply(found: Reply, expected: Reply, what: str) -> None:
    """Raises `BenchError` when the reply to `what` is not the expected one, byte for byte."""
    if found != expected:
        raise BenchError(f"wrong reply to {what}: found {found}, expected {expected}")


def _request(params: bytes, keep: bool, request_id: int = 1) -> bytes:
    begin = struct.pack("!HB5x", 1, _KEEP_CONN if keep else 0)
    contents = ((_BEGIN_REQUEST, begin), (_PARAMS, params), (_PARAMS, b""), (_STDIN, b""))
    return b"".join(_HEADER.pack(1, kind, request_id, len(content), 0) + content for kind, content in contents)


def _reply(stdout: bytes, stderr: bytes) -> Reply:
    head, _, body = stdout.partition(b"\r\n\r\n")
    return Reply(_status(head), body, stderr)


def _pair(name: bytes, value: bytes) -> bytes:
    return _length(name) + _length(value) + name + value


def _length(text: bytes) -> bytes:
    return bytes([len(text)]) if len(text) < 128 else struct.pack("!I", len(text) | 1 << 31)


def _status(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"status":
            return int(value.split()[0])
    return 200
