"""nginx before the servers: one worker, no access log, a location for each server and kind of connection.

/PEER/new/WORK opens a connection to the server for each request, /PEER/kept/WORK keeps up to 32. Everything
that nginx writes stays in a temporary folder; it listens on a free port of the loopback. The bodies of requests and
of replies stay in its memory.
"""

import contextlib
import http.client
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import BenchError, NotInstalled
from .load import Target
from .peers import Upstream
from .processes import running
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

_MAIN = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  default_type text/plain;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/client_body;
  fastcgi_temp_path {folder}/fastcgi;
  proxy_temp_path {folder}/proxy;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
  fastcgi_buffers 16 16k;
  fastcgi_max_temp_file_size 0;
  fastcgi_read_timeout 60;
  client_max_body_size 2m;
  client_body_buffer_size 2m;
{upstreams}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
{locations}
  }}
}}
"""

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

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._folder = folder

    def target(self, upstream: Upstream, connection: Connection, work: Work) -> Target:
        """The address of a work, and the file with what is posted to it."""
        url = f"http://127.0.0.1:{self._port}{_path(upstream, connection, work)}"
        if not work.upload:
            return Target(url)
        upload = self._folder / f"{work.name}.body"
        if not upload.exists():
            upload.write_bytes(work.upload)
        return Target(url, upload)

    def fetch(self, upstream: Upstream, connection: Connection, work: Work) -> Reply:
        """Raises `BenchError` when no HTTP reply comes within ten seconds."""
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        method, headers = ("POST", {"Content-Type": "application/octet-stream"}) if work.upload else ("GET", {})
        try:
            client.request(method, _path(upstream, connection, work), work.upload or None, headers)
            response = client.getresponse()
            return Reply(response.status, response.headers.get("Content-Type", ""), response.read())
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"{_path(upstream, connection, work)}: no reply through nginx: {error!r}") from error
        finally:
            client.close()


@contextlib.contextmanager
def frontend(folder: Path, upstreams: Sequence[Upstream]) -> Iterator[Frontend]:
    """Run nginx before these servers until the block ends."""
    home = folder / "nginx"
    home.mkdir()
    port = _free_port()
    config = home / "nginx.conf"
    config.write_text(_configuration(home, port, upstreams))
    command = [nginx_program(), "-p", str(home), "-e", str(home / "nginx.log"), "-c", str(config)]
    with running("nginx", command, home) as server:
        server.wait_until(lambda: _listens(port), "listening")
        yield Frontend(port, home)


def nginx_program() -> str:
    """Raises `BenchError` when there is none."""
    found = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
    if not found:
        raise NotInstalled("nginx is not installed: apt-get install nginx-light")
    return found


def _configuration(home: Path, port: int, upstreams: Sequence[Upstream]) -> str:
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
    # Run by root, nginx's worker would become nobody, who may not open the servers' sockets.
    user = "user root;" if os.geteuid() == 0 else ""
    return _MAIN.format(folder=home, port=port, user=user, upstreams="\n".join(blocks), locations="\n".join(locations))


def _path(upstream: Upstream, connection: Connection, work: Work) -> str:
    return f"/{upstream.peer.name}/{connection}/{work.name}" + (f"?{work.query}" if work.query else "")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
