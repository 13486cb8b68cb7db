"""One socket of a script, and what it waits for."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, Final

from gevent import get_hub

from .operations import NEVER, Operations
from .wakeup import Wakeup

READ: Final = 1
WRITE: Final = 2
#: Seconds until it is tried again to connect to a unix socket whose queue is full.
_PAUSE: Final = 0.01


class Endpoint:
    """A socket that never blocks, its watchers, and the operation that is under way on it."""

    __slots__ = (
        "_awaited", "_wakeup", "_watched", "_watchers", "any_family", "operations", "options", "pool_name", "raw",
        "reused", "sock", "terms", "wanted",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, any_family: bool = False) -> None:
        sock.setblocking(False)
        self.raw = sock
        #: What is read and written: `raw`, or what encrypts it (see `tls`).
        self.sock: Any = sock
        #: The first `bind`, `connect` or `send_to` that succeeds decides about the family.
        self.any_family = any_family
        #: Options that the script has set, for a socket that takes the place of this one.
        self.options: list[Callable[[socket.socket], object]] = []
        self.operations = Operations()
        #: What its encryption was agreed upon with, and for which name: see `tls_calls`.
        self.terms: tuple[bytes, bytes | None] | None = None
        #: Where `setkeepalive` keeps it, and how often it was taken from there.
        self.pool_name = b""
        self.reused = 0
        #: What tells that it can be read, or written; those of them that run, as they do from one question to the
        #: next, since each start and stop is a system call; and which of them somebody waits for.
        self._watchers: dict[int, Any] = {}
        self._watched: set[int] = set()
        self._awaited = 0
        #: What was waited for last, and never came.
        self.wanted = 0
        self._wakeup = Wakeup()

    def ready(self, mask: int, seconds: float) -> Generator[tuple[Wakeup, float], None, None]:
        """An operation: wait until it can be read or written, at most so many seconds; below zero: for ever.

        Raises `TimeoutError`.
        """
        if seconds == 0:
            self.wanted = mask
            raise TimeoutError
        until = NEVER if seconds < 0 else monotonic() + seconds
        wakeup = self._wakeup
        wakeup.clear()
        self._awaited = self.wanted = mask
        if mask not in self._watched:
            self._watch(mask)
        try:
            while True:
                yield wakeup, until
                if wakeup.is_set:
                    self.wanted = 0
                    return
                if monotonic() >= until:
                    raise TimeoutError
        finally:
            self._awaited = 0

    def _watch(self, mask: int) -> None:
        watcher = self._watchers.get(mask)
        if watcher is None:
            watcher = self._watchers[mask] = get_hub().loop.io(self.raw.fileno(), mask)
        watcher.start(self._on_ready, mask)
        self._watched.add(mask)

    def _on_ready(self, mask: int) -> None:
        if self._awaited == mask:
            self._wakeup.set()
        else:
            # Nobody asks: it would be called again and again.
            self._watchers[mask].stop()
            self._watched.discard(mask)

    def connect(self, address: Any, timeouts: Timeouts) -> Generator[tuple[Wakeup, float], None, None]:
        """An operation: connect it to an address. Raises `OSError`."""
        number = self.raw.connect_ex(address)
        if number == errno.EAGAIN and self.raw.family == socket.AF_UNIX:
            number = yield from self._connect_again(address, timeouts.next())
        if number in (errno.EINPROGRESS, errno.EALREADY):
            yield from self.ready(WRITE, timeouts.next())
            number = self.raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))

    def _connect_again(self, address: Any, seconds: float) -> Generator[tuple[Wakeup, float], None, int]:
        """An operation: the queue of a unix socket is full; nothing tells when it is not. Returns an errno, or 0.

        Raises `TimeoutError`.
        """
        end = NEVER if seconds < 0 else monotonic() + seconds
        self._wakeup.clear()
        while True:
            until = min(monotonic() + _PAUSE, end)
            while monotonic() < until:
                yield self._wakeup, until
            number = self.raw.connect_ex(address)
            if number != errno.EAGAIN:
                return number
            if monotonic() >= end:
                raise TimeoutError

    def reconnect(self, timeouts: Timeouts) -> Generator[tuple[Wakeup, float], None, None]:
        """An operation: in the place of the connection, put a new one to the same address. Raises `OSError`."""
        address, family = self.raw.getpeername(), self.raw.family
        self.renew(family)
        yield from self.connect(address, timeouts)
        self.reused = 0

    def encrypt(self, make: Callable[[socket.socket], Any], terms: tuple[bytes, bytes | None]) -> None:
        """From now on it is read and written by way of a stream, which takes its descriptor over.

        Raises what `make` does, which may have closed it then.
        """
        self.release()
        stream = make(self.raw)
        self.sock, self.raw, self.terms = stream, stream.sock, terms

    def take_options(self, other: Endpoint) -> None:
        """It takes the place of another, whose options it gets. Raises `OSError`."""
        for set_option in other.options:
            set_option(self.raw)
        self.options += other.options

    def is_quiet(self) -> bool:
        """Nothing has come, not even the end."""
        try:
            if self.sock is self.raw:
                self.raw.recv(1, socket.MSG_PEEK)
            else:
                # It may have to read what is none of the other end's data.
                self.sock.recv(1)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def renew(self, family: int) -> None:
        """Put a new socket in the place of one that is not connected."""
        self.close()
        self.sock = self.raw = socket.socket(family, self.raw.type)
        self.terms = None
        self.raw.setblocking(False)
        for set_option in self.options:
            set_option(self.raw)

    def release(self) -> None:
        """Give the watchers back; the socket stays open."""
        for watcher in self._watchers.values():
            watcher.stop()
            watcher.close()
        self._watchers.clear()
        self._watched.clear()

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
