"""nginx before the servers: a location for each server and kind of connection.

/PEER/new/WORK opens a connection to the server for each request, /PEER/kept/WORK keeps up to 32. A server that is a web
server itself is asked at a port of its own, and has /PEER/canned/WORK beside.
"""

import contextlib
import http.client
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from .errors import BenchError
from .load import Target
from .nginx import free_port, nginx_command
from .peers import Upstream
from .processes import Server, running
from .work import Connection, Work

_KEPT_CONNECTIONS = 32

# As packaged web servers send them, so that the servers have as many parameters to read as in real life.
_PARAMS = """\
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
      fastcgi_param REQUEST_URI $request_uri;
      fastcgi_param DOCUMENT_URI $document_uri;
      fastcgi_param SERVER_PROTOCOL $server_protocol;
      fastcgi_param REQUEST_SCHEME $scheme;
      fastcgi_param GATEWAY_INTERFACE CGI/1.1;
      fastcgi_param SERVER_SOFTWARE nginx/$nginx_version;
      fastcgi_param REMOTE_ADDR $remote_addr;
      fastcgi_param REMOTE_PORT $remote_port;
      fastcgi_param SERVER_ADDR $server_addr;
      fastcgi_param SERVER_PORT $server_port;
      fastcgi_param SERVER_NAME $server_name;"""

_UPSTREAM_NEW = """  upstream {peer}-new {{ server unix:{socket}; }}"""
_UPSTREAM_KEPT = """  upstream {peer}-kept {{
    server unix:{socket};
    keepalive {kept};
    keepalive_requests 1000000000;
  }}"""

_LOCATION = """    location ~ ^/{peer}/{connection}/(?<work>[a-z]+)$ {{
      fastcgi_pass {peer}-{connection};
      fastcgi_keep_conn {keep};
{params}
      fastcgi_param DOCUMENT_ROOT {root};
      fastcgi_param SCRIPT_NAME /${{work}}{suffix};
      fastcgi_param SCRIPT_FILENAME {root}/${{work}}{suffix};
    }}"""


class Reply(NamedTuple):
    """What came back through nginx."""

    status: int
    content_type: str
    body: bytes


class Frontend:
    """nginx, ready for requests."""

    def __init__(self, port: int, folder: Path, server: Server) -> None:
        self._port = port
        self._folder = folder
        #: nginx's own processes.
        self.server = server

    def target(self, upstream: Upstream, connection: Connection | Literal["canned"], work: Work) -> Target:
        """The address of a work, and the file with what is posted to it.

        `canned` is what a web server sends from its configuration instead of what its script writes.
        """
        url = f"http://127.0.0.1:{self._port_of(upstream)}{_path(upstream, connection, work)}"
        if not work.upload:
            return Target(url)
        upload = self._folder / f"{work.name}.body"
        if not upload.exists():
            upload.write_bytes(work.upload)
        return Target(url, upload)

    def fetch(self, upstream: Upstream, connection: Connection | Literal["canned"], work: Work) -> Reply:
        """Raises `BenchError` when no HTTP reply comes within ten seconds."""
        client = http.client.HTTPConnection("127.0.0.1", self._port_of(upstream), timeout=10)
        method, headers = ("POST", {"Content-Type": "application/octet-stream"}) if work.upload else ("GET", {})
        try:
            client.request(method, _path(upstream, connection, work), work.upload or None, headers)
            response = client.getresponse()
            return Reply(response.status, response.headers.get("Content-Type", ""), response.read())
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"{_path(upstream, connection, work)}: no reply through nginx: {error!r}") from error
        finally:
            client.close()

    def _port_of(self, upstream: Upstream) -> int:
        return upstream.port if upstream.peer.web else self._port


@contextlib.contextmanager
def frontend(folder: Path, upstreams: Sequence[Upstream]) -> Iterator[Frontend]:
    """Run nginx before these servers until the block ends."""
    home = folder / "nginx"
    home.mkdir()
    port = free_port()
    command = _command(home, port, [upstream for upstream in upstreams if not upstream.peer.web])
    with running("nginx", command, home) as server:
        server.wait_until(lambda: _listens(port), "listening")
        yield Frontend(port, home, server)


def _command(home: Path, port: int, upstreams: Sequence[Upstream]) -> list[str]:
    blocks, locations = [], []
    for upstream in upstreams:
        peer = upstream.peer
        for connection in peer.connections:
            template = _UPSTREAM_KEPT if connection == "kept" else _UPSTREAM_NEW
            blocks.append(template.format(peer=peer.name, socket=upstream.socket, kept=_KEPT_CONNECTIONS))
            locations.append(
                _LOCATION.format(
                    peer=peer.name,
                    connection=connection,
                    keep="on" if connection == "kept" else "off",
                    root=upstream.root,
                    suffix=peer.suffix,
                    params=_PARAMS,
                )
            )
    return nginx_command(home, port, locations, blocks)


def _path(upstream: Upstream, connection: Connection | Literal["canned"], work: Work) -> str:
    return f"/{upstream.peer.name}/{connection}/{work.name}" + (f"?{work.query}" if work.query else "")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
