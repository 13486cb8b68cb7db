"""One socket of a script, and what it waits for."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, Final

from gevent import get_hub
from gevent.event import Event

from .operations import NEVER, Operations

READ: Final = 1
WRITE: Final = 2


class Endpoint:
    """A socket that never blocks, its watchers, and the operation that is under way on it."""

    __slots__ = ("_watchers", "any_family", "is_new", "operations", "options", "pool_name", "raw", "reused", "sock")

    def __init__(self, sock: socket.socket, any_family: bool = False) -> None:
        sock.setblocking(False)
        self.raw = sock
        #: What is read and written: `raw`, or what encrypts it (see `tls`).
        self.sock: Any = sock
        #: `bind` and `connect` decide about the family.
        self.any_family = any_family
        #: Options that the script has set, for a socket that takes the place of this one.
        self.options: list[Callable[[socket.socket], object]] = []
        self.operations = Operations()
        #: It was opened in the run under way.
        self.is_new = True
        #: Where `setkeepalive` keeps it, and how often it was taken from there.
        self.pool_name = b""
        self.reused = 0
        self._watchers: dict[int, Any] = {}

    def watcher(self, mask: int) -> Any:
        """What tells that it can be read or written."""
        watcher = self._watchers.get(mask)
        if watcher is None:
            watcher = self._watchers[mask] = get_hub().loop.io(self.raw.fileno(), mask)
        return watcher

    def ready(self, mask: int, seconds: float) -> Generator[tuple[Event, float], None, None]:
        """An operation: wait until it can be read or written, at most so many seconds; below zero: for ever.

        Raises `TimeoutError`.
        """
        until = NEVER if seconds < 0 else monotonic() + seconds
        if until != NEVER and seconds == 0:
            raise TimeoutError
        event = Event()
        watcher = self.watcher(mask)
        watcher.start(event.set)
        try:
            yield event, until
            while not event.is_set():
                if monotonic() >= until:
                    raise TimeoutError
                yield event, until
        finally:
            watcher.stop()

    def renew(self, family: int) -> None:
        """Put a new socket in the place of one that is not connected."""
        self.close()
        self.sock = self.raw = socket.socket(family, self.raw.type)
        self.raw.setblocking(False)
        for set_option in self.options:
            set_option(self.raw)

    def release(self) -> None:
        """Give the watchers back; the socket stays open."""
        for watcher in self._watchers.values():
            watcher.stop()
            watcher.close()
        self._watchers.clear()

    def close(self) -> None:
        """Close it."""
        self.release()
        self.sock.close()


class Timeouts:
    """What `settimeout` has said: seconds for each wait, and for the operation as a whole; below zero: any."""

    __slots__ = ("_each", "_until")

    def __init__(self, each: float, total: float) -> None:
        self._each = each
        self._until = NEVER if total < 0 else monotonic() + total

    def next(self) -> float:
        """Seconds for the next wait; below zero: for ever."""
        if self._until == NEVER:
            return self._each
        left = max(0.0, self._until - monotonic())
        return left if self._each < 0 else min(self._each, left)
