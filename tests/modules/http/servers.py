"""Servers that the tests ask: Python's own http.server, nginx with TLS, and some that do wrong."""

from __future__ import annotations

import gzip
import http.server
import socket
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ...support.programs import program
from ...support.running import until

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve) -> Iterator[str]:
    """A server on a free port, each connection in a thread. Yields "http://127.0.0.1:PORT"."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    open_now: list[socket.socket] = []

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                serve(connection)
            except OSError:
                # The script is done with it.
                pass

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_now.append(connection)
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        # Wakes accept.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
        for connection in open_now:
            try:
                # Its thread may be waiting for it.
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()


def head_of(connection: socket.socket) -> bytes:
    """The head of a request, and what came with it; b"" at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    return data


def answers(*parts: bytes) -> Serve:
    """Read a request's head, send these parts, and close."""

    def serve(connection: socket.socket) -> None:
        head_of(connection)
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    return serve


def hangs_after(*parts: bytes) -> Serve:
    """Read a request's head, send these parts, and nothing more until the other end closes."""

    def serve(connection: socket.socket) -> None:
        head_of(connection)
        for part in parts:
            connection.sendall(part)
        while connection.recv(65536):
            pass

    return serve


@cache
def _bomb() -> bytes:
    maker = zlib.compressobj(wbits=31)
    return b"".join(maker.compress(bytes(1 << 20)) for _ in range(64)) + maker.flush()


class Handler(http.server.BaseHTTPRequestHandler):
    """Pages that are named by what they do."""

    protocol_version = "HTTP/1.1"
    #: Connections, and requests, since the test began.
    connections = 0

    def setup(self) -> None:
        """Count it."""
        super().setup()
        type(self).connections += 1

    def log_message(self, *_: object) -> None:
        """Silent."""

    def reply(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        """Send a response."""
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        """/hello, /gzip, /deflate, /raw, /bomb, /show, /to/STATUS/WHERE, /loop, /lines, /big."""
        size = self.headers.get("Content-Length")
        sent = self.rfile.read(int(size)) if size else b""
        if self.headers.get("Transfer-Encoding"):
            while count := int(self.rfile.readline(), 16):
                sent += self.rfile.read(count)
                self.rfile.readline()
            self.rfile.readline()
        name, _, rest = self.path[1:].partition("?")[0].partition("/")
        text = b"so much text. " * 10000
        if name == "hello":
            self.reply(200, b"hello\n", ("X-One", "1"), ("X-Two", "a"), ("x-two", "b"), ("Set-Cookie", "a=1"),
                       ("Set-Cookie", "b=2"))  # fmt: skip
        elif name == "gzip":
            self.reply(200, gzip.compress(text[:70000]) + gzip.compress(text[70000:]), ("Content-Encoding", "gzip"))
        elif name == "deflate":
            self.reply(200, zlib.compress(text), ("Content-Encoding", "deflate"))
        elif name == "raw":
            maker = zlib.compressobj(wbits=-15)
            self.reply(200, maker.compress(text) + maker.flush(), ("Content-Encoding", "deflate"))
        elif name == "bomb":
            self.reply(200, _bomb(), ("Content-Encoding", "gzip"))
        elif name == "cut":
            self.reply(200, gzip.compress(text)[:-20], ("Content-Encoding", "gzip"))
        elif name == "notgzip":
            self.reply(200, text, ("Content-Encoding", "gzip"))
        elif name == "show":
            headers = sorted(f"{key.lower()}: {value}" for key, value in self.headers.items())
            lines = [f"{self.command} {self.path}", *headers]
            self.reply(200, "\n".join(lines).encode() + b"\n\n" + sent)
        elif name == "to":
            status, _, where = rest.partition("/")
            self.reply(int(status), b"elsewhere\n", ("Location", where.replace("|", "/")))
        elif name == "loop":
            self.reply(302, b"", ("Location", "/loop"))
        elif name == "lines":
            self.reply(200, b"one\r\ntwo\n\nlast")
        elif name == "big":
            self.reply(200, b"x" * 2_000_000)
        else:
            self.reply(404, b"nothing here\n")

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """The script is done with it."""


@contextmanager
def pages() -> Iterator[str]:
    """Python's http.server with these pages. Yields its URL."""
    Handler.connections = 0
    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def certificates(folder: Path) -> Path:
    """An authority, and what it has signed for localhost: ca.pem, server.pem and server.key. Returns ca.pem."""

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=An authority", "-days", "2")
    run("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    run("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
        "server.pem", "-days", "2", "-extfile", "names")  # fmt: skip
    return folder / "ca.pem"


@contextmanager
def nginx(folder: Path) -> Iterator[int]:
    """nginx with TLS and the certificate for localhost of `certificates`. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    (folder / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
        events {{ }}
        http {{
            access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            server {{
                listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/server.pem;
                ssl_certificate_key {folder}/server.key;
                location / {{ return 200 "connection $connection, request $connection_requests\\n"; }}
            }}
        }}
    """)
    process = subprocess.Popen(
        [program("nginx"), "-e", str(folder / "nginx.log"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    )

    def is_up() -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(is_up, "nginx")
        yield port
    finally:
        process.terminate()
        process.wait(10)
