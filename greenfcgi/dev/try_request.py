"""`greenfcgi --try /hello.lua?name=x`: one request through the whole server, over a socket pair."""

from __future__ import annotations

import os
import socket
from _socket import socket as BareSocket
from urllib.parse import unquote_to_bytes

import gevent
import gevent.socket

from ..config.load import Config
from ..fastcgi.client import Client, Reply
from ..processes.server_process import ServerProcess
from .curl_request import Request
from .http.cgi import script_variables
from .http.url_paths import UrlPaths

_READ_SIZE = 65536


def respond(config: Config, request: Request) -> Reply:
    """The reply to a request, whose URL is a path below `scripts.root` with an optional query.

    The error log goes to stderr, and no other log is written.
    """
    data = Client.request(_params(config, request), request.body)
    process = ServerProcess(config._replace(errorlog="-", accesslog="", slowlog="", reload=False, heartbeat=1.0))
    near, far = socket.socketpair()
    process.server.connect(BareSocket(far.family, far.type, far.proto, far.detach()))
    client = Client()
    with gevent.socket.socket(near.family, near.type, near.proto, near.detach()) as connection:
        sender = gevent.spawn(_send, connection, data)
        try:
            while reply := connection.recv(_READ_SIZE):
                client.receive(reply)
        except ConnectionResetError:
            # The end, where a part of the body has not been read.
            pass
        sender.kill()
    process.close_states(config.graceful_timeout)
    return client.replies.get(1, Reply())


def _send(connection: gevent.socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:
        # The server has closed it, after a reply to a request whose body it does not want.
        pass


def _params(config: Config, request: Request) -> dict[str, str]:
    """What a web server would send for this request."""
    target, _, query = request.url.partition("?")
    path = os.fsdecode(unquote_to_bytes(os.fsencode(target)))
    script = UrlPaths(config.scripts.root, config.scripts.extensions, "").script(path)
    headers: dict[str, str | None] = {"host": "localhost", **request.headers}
    # These two have variables without HTTP_, which are there in any case.
    content_type, content_length = headers.pop("content-type", None), headers.pop("content-length", None)
    return (
        dict(script_variables(config.scripts.root, script, "greenfcgi --try"))
        | {
            "QUERY_STRING": query,
            "REQUEST_METHOD": request.method,
            "REQUEST_URI": request.url,
            "CONTENT_TYPE": content_type or "",
            "CONTENT_LENGTH": content_length or "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "REMOTE_ADDR": "127.0.0.1",
        }
        | {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items() if value is not None}
    )
