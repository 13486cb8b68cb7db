"""Worker greenlets, and the requests that wait for one. Does not know what a request is.

A worker is a bare greenlet that is used again and again: to spawn one for each request costs 2 us more. A job is
handed over by switching into an idle worker right from the event loop's callback, so a request whose script does
not wait is answered before the callback returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from gevent import get_hub
from greenlet import getcurrent, greenlet

Job = TypeVar("Job")


class Workers(Generic[Job]):
    """At most `most` jobs run at once, each by `work`, which must not raise; `queue` more wait in their order."""

    def __init__(self, most: int, queue: int, work: Callable[[Job], None]) -> None:
        self._most = most
        self._most_waiting = queue
        #: The most jobs that have ever waited, and how many have been turned away.
        self.longest = 0
        self.rejected = 0
        self._work = work
        self._idle: list[greenlet] = []
        self._count = 0
        self._queue: deque[Job] = deque()

    @property
    def count(self) -> int:
        """How many workers there are; made on demand, they stay."""
        return self._count

    @property
    def running(self) -> int:
        """How many jobs run now."""
        return self._count - len(self._idle)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a worker."""
        return len(self._queue)

    def submit(self, job: Job) -> bool:
        """Run `job`, or queue it; False when the queue is full. To be called in the hub.

        Returns when the job has ended or waits.
        """
        if self._idle:
            self._idle.pop().switch(job)
        elif self._count < self._most:
            self._count += 1
            greenlet(self._serve, get_hub()).switch(job)
        elif len(self._queue) < self._most_waiting:
            self._queue.append(job)
            self.longest = max(self.longest, len(self._queue))
        else:
            self.rejected += 1
            return False
        return True

    def _serve(self, job: Any) -> None:
        hub = get_hub()
        me = getcurrent()
        # Not hub.switch(), which looks for a hook that only gevent's own greenlets have.
        switch = greenlet.switch
        while True:
            self._work(job)
            if self._queue:
                job = self._queue.popleft()
                continue
            del job
            self._idle.append(me)
            job = switch(hub)
