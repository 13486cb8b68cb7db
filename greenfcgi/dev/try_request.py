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
    script, path_info = _split(path, config.scripts.extensions)
    return {
        "SCRIPT_FILENAME": config.scripts.root + script,
        "SCRIPT_NAME": script,
        "PATH_INFO": path_info,
        "QUERY_STRING": query,
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": url,
        "DOCUMENT_ROOT": config.scripts.root,
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": "",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "greenfcgi --try",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
    }


def _split(path: str, extensions: tuple[str, ...]) -> tuple[str, str]:
    """SCRIPT_NAME and PATH_INFO: the script is the first part of the path that ends in one of the extensions."""
    at = 0
    while (at := path.find("/", at + 1)) != -1:
        if path[:at].endswith(extensions):
            return path[:at], path[at:]
    return path, ""
