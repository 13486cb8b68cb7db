"""A browser for tests: requests by HTTP/1.1, as they come on the wire, and by HTTP/2."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ...support.running import PATIENCE
from .installed import program


class Response(NamedTuple):
    """What a browser gets."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def variables(self) -> dict[str, str]:
        """What env.lua has answered."""
        assert self.status == 200, (self.status, self.body)
        return dict(line.split("=", 1) for line in self.body.decode("utf-8", "surrogateescape").split("\x1e")[:-1])


class Web:
    """A web server that runs on a port of the loopback; `name` is "nginx", "lighttpd" and so on.

    `h2_port` speaks HTTP/2 to those who begin with it; `folder` has what it says.
    """

    def __init__(self, port: int, name: str, h2_port: int, folder: Path) -> None:
        self.port = port
        self.name = name
        self.h2_port = h2_port
        self.folder = folder

    def log(self) -> str:
        """What it has said on its terminal and in its log."""
        names = (self.folder / f"{self.name}.output", self.folder / f"{self.name}.log")
        return "".join(path.read_text(errors="replace") for path in names if path.exists())

    def connect(self) -> http.client.HTTPConnection:
        """A connection that can be used for several requests."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, method: str, target: str, body: bytes | None = None, *headers: tuple[str, str]) -> Response:
        """One request on a connection of its own; a header may be there twice."""
        connection = self.connect()
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, target: str, *headers: tuple[str, str]) -> Response:
        """A GET."""
        return self.ask("GET", target, None, *headers)

    def upload(self, target: str, parts: Iterable[bytes]) -> Response:
        """A POST whose length nobody knows when it begins."""
        connection = self.connect()
        try:
            connection.request("POST", target, iter(parts), encode_chunked=True)
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())
        finally:
            connection.close()

    def open(self, data: bytes) -> socket.socket:
        """A connection on which this has been sent."""
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        client.sendall(data)
        return client

    def http2(self, target: str, *arguments: str, body: bytes | None = None) -> Response:
        """One request by HTTP/2; `arguments` are curl's."""
        return self._curl(self.h2_port, target, "--http2-prior-knowledge", *arguments, body=body)

    def curl(self, target: str, *arguments: str, body: bytes | None = None) -> Response:
        """One request by HTTP/1.1 of a client that reads while it sends."""
        return self._curl(self.port, target, "--http1.1", *arguments, body=body)

    def _curl(self, port: int, target: str, *arguments: str, body: bytes | None) -> Response:
        command = [program("curl"), "-sS", "--path-as-is", "-D", "-", "-m", str(PATIENCE), *arguments]
        command += ["--data-binary", "@-"] if body is not None else []
        command.append(f"http://127.0.0.1:{port}{target}")
        done = subprocess.run(command, input=body or b"", capture_output=True, timeout=2 * PATIENCE)
        # A server that has answered may have refused the rest of a body.
        assert done.returncode == 0 or done.stdout, done.stderr
        head, rest = b"", done.stdout
        while not head or head.split()[1] == b"100":
            head, _, rest = rest.partition(b"\r\n\r\n")
        headers = http.client.HTTPMessage()
        for line in head.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            headers[name] = value.strip()
        return Response(int(head.split()[1]), headers, rest)
