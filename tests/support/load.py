"""Load for tests: web servers' worth of connections that ask for a page again and again, and count what goes wrong."""

from __future__ import annotations

import threading

from greenfcgi.fastcgi.client import Client

from .running import Connection, Server, until


class Load:
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
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(connections)]
        self._counts = dict.fromkeys(self._threads, 0)
        #: What went wrong.
        self.failures: list[str] = []

    @property
    def done(self) -> int:
        """How many requests have been answered right."""
        return sum(self._counts.values())

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def until(self, more: int) -> None:
        """Wait until so many more requests have been answered, or something has gone wrong."""
        goal = self.done + more
        until(lambda: self.done >= goal or self.failures, f"{more} more requests")

    def _work(self) -> None:
        connection: Connection | None = None
        while not self._over.is_set():
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
            self._over.wait(self._pause)
        if connection is not None:
            connection.socket.close()
