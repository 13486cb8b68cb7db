"""`greenfcgi --try /hello.lua?name=x`: one request through the whole server, over a socket pair."""

from __future__ import annotations

import os
import socket
from _socket import socket as BareSocket
from urllib.parse import unquote_to_bytes

import gevent.socket

from ..config.load import Config
from ..errors import ConfigError
from ..fastcgi.client import Client, Reply
from ..processes.server_process import ServerProcess
from .http.cgi import script_variables
from .http.url_paths import UrlPaths

_READ_SIZE = 65536


def respond(config: Config, url: str) -> Reply:
    """The reply to a GET of `url`, a path below `scripts.root` with an optional query.

    The error log goes to stderr, and no other log is written. Raises `ConfigError` when `url` is not a path.
    """
    request = Client.request(_params(config, url))
    process = ServerProcess(config._replace(errorlog="-", accesslog="", slowlog="", reload=False, heartbeat=1.0))
    near, far = socket.socketpair()
    process.server.connect(BareSocket(far.family, far.type, far.proto, far.detach()))
    client = Client()
    with gevent.socket.socket(near.family, near.type, near.proto, near.detach()) as connection:
        connection.sendall(request)
        while data := connection.recv(_READ_SIZE):
            client.receive(data)
    process.close_states(config.graceful_timeout)
    return client.replies.get(1, Reply())


def _params(config: Config, url: str) -> dict[str, str]:
    """What a web server would send for this URL."""
    if not url.startswith("/"):
        raise ConfigError(f"--try: found {url!r}, expected a path such as /hello.lua?name=x")
    target, _, query = url.partition("#")[0].partition("?")
    path = os.fsdecode(unquote_to_bytes(os.fsencode(target)))
    script = UrlPaths(config.scripts.root, config.scripts.extensions, "").script(path)
    return dict(script_variables(config.scripts.root, script, "greenfcgi --try")) | {
        "QUERY_STRING": query,
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": url,
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
    }
