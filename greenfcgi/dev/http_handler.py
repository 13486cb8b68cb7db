"""HTTP/1 on a connection, by gevent's pywsgi; but heads are read by `http.head`, and a refusal is one line.

pywsgi takes several Content-Lengths for one, knows no absolute targets, and writes tracebacks for what a client sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from io import BytesIO
from socket import SHUT_WR
from typing import Any

from gevent.pywsgi import Input, WSGIHandler

from ..logs.text import escape
from .http.gateway import CLIENT, BadBody
from .http.head import MAX_HEAD, MAX_HEADERS, MAX_LINE, Head, Refused, read
from .terminal import Terminal

#: Seconds, and bytes, for which what a refused client still sends is read: a close before that could lose the reply.
_LINGER = 2.0
_MAX_UNREAD = 4 * 1024 * 1024


class Handler(WSGIHandler):
    """The requests of one connection, one after the other."""

    def handle_one_request(self) -> Any:
        """The next one. None when the connection is over, True when another may follow."""
        try:
            head = self._read_head()
        except OSError:
            # The client has gone.
            return None
        except Refused as refused:
            self._refuse(refused)
            return None
        if head is None:
            return None
        self._take(head)
        self.environ = self.get_environ()
        self.application = self.server.application
        self.handle_one_response()
        return None if self.close_connection else True

    def _read_head(self) -> Head | None:
        """The head of the next request; None when the client has closed."""
        line = b"\r\n"
        # A client may have sent an empty line behind the body of the last request.
        for _ in range(2):
            if line.rstrip(b"\r\n") == b"":
                line = self.rfile.readline(MAX_LINE + 1)
        if not line:
            return None
        if len(line) > MAX_LINE:
            raise Refused("414 URI Too Long", f"found a request line of more than {MAX_LINE} bytes")
        lines, room = [_end_cut_off(line)], MAX_HEAD - len(line)
        while True:
            line = self.rfile.readline(room + 1)
            room -= len(line)
            if room < 0 or len(lines) > MAX_HEADERS:
                reason = f"found more than {MAX_HEADERS} headers, or than {MAX_HEAD} bytes of them"
                raise Refused("431 Request Header Fields Too Large", reason)
            if not line.endswith(b"\n"):
                return None
            line = _end_cut_off(line)
            if not line:
                return read(lines)
            lines.append(line)

    def _take(self, head: Head) -> None:
        """Set what pywsgi sets when it has read a request."""
        self.requestline = f"{head.method} {head.target} {head.version}"
        self.command, self.path, self.request_version = head.method, head.target, head.version
        self.headers = self.MessageClass(BytesIO(b"\r\n"))
        for name, value in head.headers:
            self.headers[name] = value
        self.close_connection = not head.is_kept
        self.response_length = 0
        self._head = head

    def get_environ(self) -> dict[str, object]:
        """The environment of WSGI, with REQUEST_URI as it came, and the client's socket."""
        environ: dict[str, object] = super().get_environ()
        environ["REQUEST_URI"] = self.path
        environ[CLIENT] = self.socket
        continued = self.socket if self._head.expects_continue else None
        self._body = _Body(self.rfile, self._head.length, continued, self._head.is_chunked)
        environ["wsgi.input"] = self.wsgi_input = self._body
        return environ

    def handle_one_response(self) -> None:
        """Run the application."""
        super().handle_one_response()
        if self._body.is_broken or self._body.is_awaited():
            # Where the next request begins is not known.
            self.close_connection = True

    def _refuse(self, refused: Refused) -> None:
        self.server.error_log.write(f"{refused.status}: {refused}")
        body = f"{refused.status}: {refused}\n".encode("ascii", "backslashreplace")
        headers = ("Connection: close", "Content-Type: text/plain", f"Content-Length: {len(body)}")
        head = "\r\n".join([f"HTTP/1.1 {refused.status}", *headers, "", ""])
        try:
            self.socket.sendall(head.encode() + body)
            self.socket.shutdown(SHUT_WR)
            end, room = time.monotonic() + _LINGER, _MAX_UNREAD
            while room > 0 and (left := end - time.monotonic()) > 0:
                self.socket.settimeout(left)
                data = self.socket.recv(65536)
                room = room - len(data) if data else 0
        except OSError:
            # It has gone, or sends nothing more.
            pass


class _Body(Input):
    """A request's body. What is wrong with it is raised as `BadBody`, and nothing is read after that."""

    __slots__ = ("is_broken",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.is_broken = False

    def read(self, length: int | None = None) -> bytes:
        """At most so many bytes. Raises `BadBody`."""
        try:
            data: bytes = super().read(length)
        except (OSError, ValueError) as problem:
            self.is_broken = True
            raise BadBody(str(problem.args[0]) if problem.args else type(problem).__name__) from None
        return data

    def is_awaited(self) -> bool:
        """The client waits for a "100 Continue" before it sends the body: it was not sent."""
        return self.socket is not None

    def _discard(self) -> None:
        if not self.is_broken and not self.is_awaited():
            try:
                super()._discard()  # type: ignore[misc]  # its types leave it out
            except BadBody:
                # The reply has gone, and the connection is closed now.
                pass


class ErrorStream:
    """The file that pywsgi and the handler write errors to: about bad requests."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def write(self, text: str) -> None:
        """Log it in the terminal."""
        if text.strip():
            self._terminal.warning(f"HTTP: {escape(text.strip())}")

    def writelines(self, lines: Iterable[str]) -> None:
        """Log several."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing is buffered."""


def _end_cut_off(line: bytes) -> bytes:
    """A line without its end. A line feed alone is one, too (RFC 9112, section 2.2)."""
    return line.removesuffix(b"\n").removesuffix(b"\r")
