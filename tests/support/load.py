"""Load for tests: web servers' worth of connections that ask for a page again and again, and count what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Self

from greenfcgi.fastcgi.client import Client

from .running import Connection, Server, until


class Crowd:
    """Threads, one for each of `works`, which go on from the beginning of the block until `over` is set at its end."""

    def __init__(self, works: Sequence[Callable[[], None]]) -> None:
        self.over = threading.Event()
        self.threads = [threading.Thread(target=work, daemon=True) for work in works]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


class Load(Crowd):
    """`connections` threads that ask for `script` until the end of the block; each expects `body`.

    With `keep`, each has one connection for all of its requests, and the server's closing it counts as a failure.
    """

    def __init__(
        self, server: Server, script: str, body: bytes, *, connections: int = 8, keep: bool = True, pause: float = 0.0
    ) -> None:
        self._server = server
        self._request = Client.request(server.params(script), keep_conn=keep)
        self._body = body
        self._keep = keep
        self._pause = pause
        super().__init__([self._work] * connections)
        self._counts = dict.fromkeys(self.threads, 0)
        #: What went wrong.
        self.failures: list[str] = []

    @property
    def done(self) -> int:
        """How many requests have been answered right."""
        return sum(self._counts.values())

    def until(self, more: int) -> None:
        """Wait until so many more requests have been answered, or something has gone wrong."""
        goal = self.done + more
        until(lambda: self.done >= goal or self.failures, f"{more} more requests")

    def _work(self) -> None:
        connection: Connection | None = None
        while not self.over.is_set():
            try:
                if connection is None:
                    connection = self._server.connect()
                connection.send(self._request)
                reply = connection.reply()
                if (reply.status, reply.body, reply.ended) == (200, self._body, (0, 0)):
                    self._counts[threading.current_thread()] += 1
                else:
                    self.failures.append(f"{reply.status} {reply.body[:80]!r} {reply.ended}")
            except (OSError, AssertionError) as problem:
                self.failures.append(repr(problem))
                if connection is not None:
                    connection.socket.close()
                connection = None
            if connection is not None and not self._keep:
                connection.socket.close()
                connection = None
            self.over.wait(self._pause)
        if connection is not None:
            connection.socket.close()
