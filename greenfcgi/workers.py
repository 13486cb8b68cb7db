"""Worker greenlets, and the requests that wait for one. Does not know what a request is.

A worker is a bare greenlet that is used again and again: to spawn one for each request costs 2 us more. A job is
handed over by switching into an idle worker right from the event loop's callback, so a request whose script does
not wait is answered before the callback returns.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from gevent import get_hub
from gevent.event import Event
from greenlet import getcurrent, greenlet

Job = TypeVar("Job")


class Workers(Generic[Job]):
    """At most `most` jobs run at once, each by `work`, which must not raise; more wait in their order."""

    def __init__(self, most: int, work: Callable[[Job], None]) -> None:
        self._most = most
        self._work = work
        self._idle: list[greenlet] = []
        self._count = 0
        self._queue: deque[Job] = deque()
        self._quiet: Event | None = None

    @property
    def running(self) -> int:
        """How many jobs run now."""
        return self._count - len(self._idle)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a worker."""
        return len(self._queue)

    def submit(self, job: Job) -> None:
        """Run `job`, or queue it. To be called in the hub; returns when the job has ended or waits."""
        if self._idle:
            self._idle.pop().switch(job)
        elif self._count < self._most:
            self._count += 1
            greenlet(self._serve, get_hub()).switch(job)
        else:
            self._queue.append(job)

    def join(self, seconds: float) -> bool:
        """Wait until no job runs or waits, at most so long. True when that is so."""
        deadline = time.monotonic() + seconds
        while (self.running or self._queue) and (left := deadline - time.monotonic()) > 0:
            self._quiet = Event()
            self._quiet.wait(left)
        return not (self.running or self._queue)

    def _serve(self, job: Any) -> None:
        hub = get_hub()
        me = getcurrent()
        while True:
            self._work(job)
            if self._queue:
                job = self._queue.popleft()
                continue
            del job
            self._idle.append(me)
            if self._quiet is not None and not self.running:
                self._quiet.set()
            job = hub.switch()
