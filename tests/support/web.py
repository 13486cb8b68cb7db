"""A small web server of Python's own in a process of its own, for scripts that are HTTP clients.

`python -m tests.support.web [certificate key]` serves a free port of 127.0.0.1, which it writes to its output.
"""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

#: What GET /large sends.
LARGE = bytes(range(256)) * 4096


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """By the path: what the methods below send."""
        name = self.path.partition("?")[0].strip("/")
        if name == "moved":
            self._send(b"", 302, Location="/hello")
        elif name == "large":
            self._send(LARGE)
        elif name == "chunked":
            self._send_chunks()
        elif name == "private":
            known = self.headers["Authorization"] == "Basic QWRhOnMzY3JldA=="
            self._send(b"known" if known else b"who?", 200 if known else 401)
        elif name == "wait":
            time.sleep(float(self.path.partition("?")[2]))
            self._send(b"waited")
        elif name == "hello":
            self._send(b"hello from " + self.headers["Host"].encode())
        else:
            self._send(b"nothing here", 404)

    def do_POST(self) -> None:
        """Send back what has come."""
        if self.headers["Transfer-Encoding"] == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(body, 201)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_chunks(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in (b"one ", b"two " * 5000, b"three"):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is none of its business."""


@contextmanager
def web_server(*files: Path) -> Iterator[int]:
    """It runs while the block does; with a certificate and its key it speaks TLS. Yields the port."""
    command = [sys.executable, "-m", "tests.support.web", *map(str, files)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _main() -> None:
    context = None
    if sys.argv[1:]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[1:])
    with _Server(context) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    _main()
