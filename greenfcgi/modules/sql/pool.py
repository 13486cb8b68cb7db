"""The connections of a process to one database, kept for all scripts. Nothing here waits.

A script borrows one for a statement, a transaction, or as long as rows are under way. Who finds none free, and may have
no more, waits for the first that is given back. What is long idle is closed.
"""

from __future__ import annotations

import atexit
from collections import deque
from time import monotonic
from typing import Any, Final, NamedTuple

from gevent import get_hub

from ..threads import Job, Threads
from .driver import Connection, Driver, Settings

#: Statements that run at a time, of all databases; more wait. A server that is gone holds each until its deadline.
_statements: Final = Threads(32)
#: What looks after connections must not wait for them.
housekeeping: Final = Threads(16)


class Key(NamedTuple):
    """What connections have in common."""

    kind: str
    settings: Settings
    #: Connections at a time.
    max: int
    #: Seconds that one is kept that nobody uses.
    idle: float


class Claim(Job):
    """Work with a connection: one that the pool gives it, or one that it has."""

    def __init__(self, pool: Pool, connection: Connection | None = None) -> None:
        super().__init__(_statements)
        self.pool = pool
        #: None until there is one; the pool counts it before.
        self.connection = connection
        self.has_own = connection is not None

    def start(self) -> None:
        """As soon as it has a connection, and there is a thread."""
        if self.has_own:
            super().start()
        else:
            self.pool.claim(self)

    def granted(self) -> None:
        """The pool has one for it, or lets it make one."""
        super().start()

    def withdraw(self) -> bool:
        """It is not wanted any more. False: it has begun."""
        if not self.has_own and self.pool.forget(self):
            return True
        if not self._threads.cancel(self):
            return False
        if not self.has_own:
            self.pool.give_back(self.connection)
        return True


class Pool:
    """Connections to one database."""

    def __init__(self, driver: Driver, key: Key) -> None:
        self.driver = driver
        self.key = key
        #: Those that nobody uses, with the time since when. The last one is used first.
        self._idle: list[tuple[float, Connection]] = []
        #: How many there are, or are being made.
        self._count = 0
        self._waiting: deque[Claim] = deque()
        self._timer: Any = None
        self._is_closed = False

    @property
    def is_exhausted(self) -> bool:
        """Whoever claims one now has to wait."""
        return self._count >= self.key.max and not self._idle

    def take(self) -> Connection | None:
        """A connection that nobody uses, where there is one."""
        return self._idle.pop()[1] if self._idle else None

    def claim(self, claim: Claim) -> None:
        """Give it a connection, now or when there is one."""
        if self._idle:
            claim.connection = self._idle.pop()[1]
            claim.granted()
        elif self._count < self.key.max:
            self._count += 1
            claim.granted()
        else:
            self._waiting.append(claim)

    def forget(self, claim: Claim) -> bool:
        """It waits no longer. False where it did not wait."""
        if claim not in self._waiting:
            return False
        self._waiting.remove(claim)
        return True

    def give_back(self, connection: Connection | None) -> None:
        """A connection is free again; None: it is lost, or could not be made."""
        if connection is None or connection.is_lost:
            self._count -= 1
            if self._waiting and self._count < self.key.max:
                self._count += 1
                self._waiting.popleft().granted()
        elif self._waiting:
            claim = self._waiting.popleft()
            claim.connection = connection
            claim.granted()
        elif self._is_closed:
            self._count -= 1
            _Closing([connection]).start()
        else:
            self._idle.append((monotonic(), connection))
            if self._timer is None and self.key.idle:
                self._timer = get_hub().loop.timer(self.key.idle, self.key.idle, ref=False)
                self._timer.start(self._close_idle)

    def recycle(self, connection: Connection) -> None:
        """A connection is free, but for what its user has left in it."""
        _Resetting(self, connection).start()

    def abandon(self, connection: Connection) -> None:
        """Close one that somebody has still."""
        connection.is_lost = True
        _Closing([connection]).start()

    def _close_idle(self) -> None:
        limit = monotonic() - self.key.idle
        old = [connection for since, connection in self._idle if since <= limit]
        if old:
            self._idle = [entry for entry in self._idle if entry[0] > limit]
            self._count -= len(old)
            _Closing(old).start()
        if not self._idle:
            self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def close(self) -> None:
        """Nobody wants it any more: what is idle is closed, and the rest when it is given back."""
        self._is_closed = True
        self._stop_timer()
        if self._idle:
            _Closing(self.take_idle()).start()

    def take_idle(self) -> list[Connection]:
        """Those that nobody uses, which are not the pool's any more."""
        found = [connection for _, connection in self._idle]
        self._idle.clear()
        self._count -= len(found)
        return found


class _Closing(Job):
    """Connections are closed, which may wait for a disk."""

    def __init__(self, connections: list[Connection]) -> None:
        super().__init__(housekeeping)
        self._connections = connections

    def work(self) -> None:
        """Close them."""
        for connection in self._connections:
            connection.close()

    def fail(self, problem: Exception) -> None:
        """Then here."""
        self.work()


class _Resetting(Job):
    """A connection is made as new, and given back."""

    def __init__(self, pool: Pool, connection: Connection) -> None:
        super().__init__(housekeeping)
        self._pool = pool
        self._connection = connection

    def work(self) -> None:
        """Reset it. One that is lost is closed by that."""
        self._connection.reset()

    def fail(self, problem: Exception) -> None:
        """There is no thread to do it in."""
        self._connection.close()

    def end(self) -> None:
        """It is free, or lost."""
        self._pool.give_back(self._connection)


_pools: dict[Key, Pool] = {}


def pool_of(driver: Driver, key: Key) -> Pool:
    """The pool of all that have this in common."""
    found = _pools.get(key)
    if found is None:
        found = _pools[key] = Pool(driver, key)
    return found


@atexit.register
def close_all() -> None:
    """The process ends."""
    for pool in _pools.values():
        for connection in pool.take_idle():
            connection.close()
