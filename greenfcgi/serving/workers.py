"""Worker greenlets, and the requests that wait for one. Does not know what a request is.

A worker is a bare greenlet that is used again and again: to spawn one for each request costs 2 us more. A job is
handed over by switching into an idle worker right from the event loop's callback, so a request whose script does
not wait is answered before the callback returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from typing import Any, Final, Generic, TypeVar

from gevent import get_hub
from greenlet import getcurrent, greenlet

from ..lua.turns import Turns

Job = TypeVar("Job")


#: One worker of so many is left to jobs that do not compute for long.
_RESERVED_SHARE: Final = 8


class Workers(Generic[Job]):
    """At most `max_running` jobs run at once, each by `work`, which must not raise; `max_waiting` more wait in order.

    Those that wait for a worker start one at a time, each in a turn of its own. Those that wait for a turn have kinds,
    and the kinds take turns; `long_kinds` are those that compute for long.
    """

    def __init__(
        self,
        max_running: int,
        max_waiting: int,
        work: Callable[[Job], None],
        turns: Turns,
        long_kinds: Container[bytes],
    ) -> None:
        self._max_running = max_running
        self._max_long = max_running - max_running // _RESERVED_SHARE
        self._max_waiting = max_waiting
        #: The largest number of jobs that have waited at a time, and how many have been turned away.
        self.longest_queue = 0
        self.rejected = 0
        self._work = work
        self._turns = turns
        self._idle: list[greenlet] = []
        self._count = 0
        self._queue: deque[Job] = deque()
        #: The jobs that wait for a turn, by their kinds, which stand in the order of their turns.
        self.in_turn: dict[bytes, deque[Job]] = {}
        self._in_turn_count = 0
        self._long_kinds = long_kinds
        #: Turns that are waited for, in each of which jobs of one kind start.
        self._starters = 0

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
        """How many jobs wait for a worker, or for their turn."""
        return len(self._queue) + self._in_turn_count

    def submit(self, job: Job) -> bool:
        """Run `job`, or queue it; False when the queue is full. To be called in the hub.

        Returns when the job has ended or waits.
        """
        if self._queue:
            return self._wait(self._queue, job)
        if self._idle:
            self._idle.pop().switch(job)
            return True
        return self._run(job) or self._wait(self._queue, job)

    def submit_in_turn(self, job: Job, kind: bytes) -> bool:
        """Run `job` when a turn of its kind comes; False when the queue is full.

        For those that compute for long, and for those of a kind in `in_turn`. If these passed the ones that wait, one
        in a hundred of 32 clients of a page of 0.3 ms, which is long now and then, would wait 150 ms, and half of them
        0.8 ms (26 November 2026).
        """
        jobs = self.in_turn.get(kind)
        if jobs is None:
            jobs = deque()
        # Beside those that wait for a worker, as many as there are free workers may wait for their turn alone.
        if not self._wait(jobs, job, self._max_running - self.running):
            return False
        self.in_turn[kind] = jobs
        self._in_turn_count += 1
        self._add_starter()
        return True

    def _wait(self, queue: deque[Job], job: Job, extra: int = 0) -> bool:
        waiting = self.waiting
        if waiting >= self._max_waiting + extra:
            self.rejected += 1
            return False
        queue.append(job)
        self.longest_queue = max(self.longest_queue, waiting + 1)
        return True

    def _run(self, job: Job) -> bool:
        """Run `job` in a worker that is free; False when there is none."""
        if self._idle:
            self._idle.pop().switch(job)
        elif self._count < self._max_running:
            self._count += 1
            greenlet(self._serve, get_hub()).switch(job)
        else:
            return False
        return True

    def _start_queued(self) -> None:
        if self._queue and self.running < self._max_running:
            self._run(self._queue.popleft())

    def _add_starter(self) -> None:
        """Wait for a turn to start one in.

        As many turns as those have that compute already, and one more: so most end within the turn that they start in,
        and hold a state no longer.
        """
        if self.in_turn and self._starters <= len(self._turns) - self._starters:
            self._starters += 1
            self._turns.queue(self._start_in_turn)

    def _start_in_turn(self) -> None:
        self._starters -= 1
        kind = next(filter(self._may_start, self.in_turn), None)
        if kind is None:
            return
        jobs, turns = self.in_turn[kind], self._turns
        try:
            while True:
                self._in_turn_count -= 1
                self._run(jobs.popleft())
                # Those that do not compute for long after all have one turn together.
                if not jobs or kind in self._long_kinds or turns.left() < turns.short or not self._may_start(kind):
                    break
        finally:
            del self.in_turn[kind]
            if jobs:
                self.in_turn[kind] = jobs
        self._add_starter()

    def _may_start(self, kind: bytes) -> bool:
        return self.running < (self._max_long if kind in self._long_kinds else self._max_running)

    def _serve(self, job: Any) -> None:
        hub = get_hub()
        me = getcurrent()
        # Not hub.switch(), which looks for a hook that only gevent's own greenlets have.
        switch = greenlet.switch
        while True:
            self._work(job)
            del job
            self._idle.append(me)
            if self._queue:
                self._turns.queue(self._start_queued)
            if self.in_turn:
                self._add_starter()
            job = switch(hub)
