"""Servers of a few lines that scripts connect to: each runs in a thread and serves one connection after the other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: What a server does with a connection.
Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve, path: Path | None = None, family: int = socket.AF_INET) -> Iterator[str]:
    """A server on a free port, or on a unix socket. Yields the port, or the path."""
    if path is not None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
    else:
        listener = socket.socket(family)
        listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    listener.listen(128)
    name = str(path) if path is not None else str(listener.getsockname()[1])

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    serve(connection)
                except OSError:
                    # The script is done with it.
                    pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield name
    finally:
        # Wakes accept.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def sends(*parts: bytes) -> Serve:
    """Send these parts, and close."""

    def serve(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)

    return serve


def echoes(connection: socket.socket) -> None:
    """Send back what comes, until the other end closes."""
    while data := connection.recv(65536):
        connection.sendall(data)


def is_silent(connection: socket.socket) -> None:
    """Send nothing until the other end closes."""
    while connection.recv(65536):
        pass


def together(serve: Serve) -> Serve:
    """Serve each connection in a thread of its own, so that several can be open."""

    def alone(own: socket.socket) -> None:
        with own:
            try:
                serve(own)
            except OSError:
                # As above.
                pass

    def run(connection: socket.socket) -> None:
        threading.Thread(target=alone, args=(connection.dup(),), daemon=True).start()

    return run
