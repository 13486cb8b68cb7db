"""An HTTP request as the FastCGI request that a web server would make of it, answered by the same server.

It goes over a socket pair into a `Session`, so what works here works behind nginx: same records, limits and replies.
"""

from __future__ import annotations

import socket
from _socket import socket as BareSocket
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, NamedTuple

import gevent
import gevent.socket

from ... import __version__
from ...fastcgi import records
from ...fastcgi.client import Client
from .cgi import script_variables
from .url_paths import Script

_READ_SIZE = 65536
_READABLE = 1
#: The key of the browser's socket in the environment of WSGI.
CLIENT = "greenfcgi.socket"
_ID = 1
#: Variables of the environment of WSGI that are sent as they are.
_PASSED_ON = (
    "REQUEST_METHOD", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL",
    "REMOTE_ADDR", "REMOTE_PORT", "REQUEST_URI",
)  # fmt: skip


class BadBody(Exception):
    """The body of a request breaks HTTP, or ends too early. Raised by what reads it; the text says why."""


class Reply(NamedTuple):
    """ "200 OK", headers, and the body part by part."""

    status: str
    headers: list[tuple[str, str]]
    body: Generator[bytes]


class Gateway:
    """Sends requests to the server. `connect` serves a connection; `root` is the folder of scripts."""

    def __init__(self, connect: Callable[[BareSocket, str], object], root: str) -> None:
        self._connect = connect
        self._root = root

    def ask(self, environ: Mapping[str, Any], script: Script) -> Reply:
        """The reply to a request, once its headers have come. Raises `BadBody`: then no script has run."""
        near, far = socket.socketpair()
        self._connect(BareSocket(far.family, far.type, far.proto, far.detach()), "developer mode")
        connection = gevent.socket.socket(near.family, near.type, near.proto, near.detach())
        try:
            self._send(connection, environ, script)
            parts = _parts(connection, environ.get(CLIENT))
            head = next(parts, b"")
            status, headers = _read_head(head)
        except BaseException:
            connection.close()
            raise
        return Reply(status, headers, parts)

    def _send(self, connection: Any, environ: Mapping[str, Any], script: Script) -> None:
        pairs = self._params(environ, script)
        params = records.encode_pairs((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs)
        pieces = [
            records.begin_request(_ID),
            *records.stream(records.PARAMS, _ID, params),
            records.record(records.PARAMS, _ID),
        ]
        connection.sendall(b"".join(pieces))
        body = environ["wsgi.input"]
        try:
            while data := body.read(_READ_SIZE):
                for piece in records.stream(records.STDIN, _ID, data):
                    connection.sendall(piece)
            connection.sendall(records.record(records.STDIN, _ID))
        except OSError:
            # It has been answered already, and refuses the rest.
            pass

    def _params(self, environ: Mapping[str, Any], script: Script) -> Iterator[tuple[str, str]]:
        for name in _PASSED_ON:
            yield name, str(environ.get(name) or "")
        for name, value in environ.items():
            if name.startswith("HTTP_") and isinstance(value, str):
                yield name, value
        for name, value in script_variables(self._root, script, f"greenfcgi/{__version__} (developer mode)"):
            # WSGI has bytes as characters of Latin-1; paths here are those of the file system.
            yield name, value.encode("utf-8", "surrogateescape").decode("latin-1")


def _parts(connection: Any, browser: Any) -> Generator[bytes]:
    """The header block, then the body as it comes. Closes the connection at the end, or when it is closed itself."""
    client = Client()
    taken, has_head = 0, False
    watcher = gevent.get_hub().loop.io(browser.fileno(), _READABLE) if browser is not None else None
    if watcher is not None:
        watcher.start(_hang_up_when_gone, browser, connection, watcher)
    try:
        while data := _received(connection):
            client.receive(data)
            output = client.replies[_ID].stdout if _ID in client.replies else b""
            if not has_head:
                end = output.find(b"\r\n\r\n")
                if end < 0:
                    continue
                has_head, taken = True, end + 4
                yield output[:taken]
            if len(output) > taken:
                part, taken = output[taken:], len(output)
                yield part
    finally:
        if watcher is not None:
            watcher.stop()
            watcher.close()
        connection.close()


def _hang_up_when_gone(browser: Any, connection: Any, watcher: Any) -> None:
    """Abort the request when the browser has gone, as web servers do."""
    try:
        # The bare socket does not wait; gevent's would.
        is_there = browser._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return
    except OSError:
        is_there = False
    watcher.stop()
    if not is_there:
        try:
            # Of the bare socket: gevent's would raise in whoever reads from it.
            connection._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The reply is complete.
            pass


def _received(connection: Any) -> bytes:
    """The next bytes; b"" when the connection has ended or failed."""
    try:
        found: bytes = connection.recv(_READ_SIZE)
    except OSError:
        return b""
    return found


def _read_head(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    status, headers = "502 Bad Gateway", []
    for line in head.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if name.lower() == "status":
            status = value.strip()
        elif colon:
            headers.append((name, value.strip()))
    return status, headers
