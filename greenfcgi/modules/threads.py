"""Work that blocks, in threads: a script waits for it, and nobody else does.

A few threads with a queue before them, since to wait for a free one would hold up whoever asks; and the jobs of one
state, which a function of a module starts and waits for.
"""

from __future__ import annotations

import sys
from _queue import SimpleQueue
from _thread import LockType, allocate_lock, start_new_thread
from collections import deque
from typing import Any, Final

from gevent import get_hub
from gevent.event import Event

from ..lua.bridge import Bridge, Outcome

#: Jobs that run at a time in one process; more wait.
MAX_THREADS: Final = 16


class Threads:
    """Some threads of this process. They are started as they are needed, and stay.

    Not gevent's pool: to hand over a job and to learn of its end took it a half more, where a query takes 5 us.
    """

    #: Jobs that run now, of all of them.
    at_work = 0

    def __init__(self, max_threads: int = MAX_THREADS) -> None:
        self._max = max_threads
        self._running = self._started = 0
        self._waiting: deque[Job] = deque()
        #: Between the event loop and the threads.
        self._begun: SimpleQueue[Job] = SimpleQueue()
        self._ended: deque[tuple[Job, Any]] = deque()
        #: Wakes the event loop.
        self._bell: Any = None

    def start(self, job: Job) -> None:
        """Run a job, now or as soon as a thread is free."""
        if self._running >= self._max:
            self._waiting.append(job)
            return
        if self._running >= self._started:
            if self._bell is None:
                self._bell = get_hub().loop.async_()
                self._bell.start(self._reap)
            try:
                start_new_thread(self._serve, ())
            except Exception as problem:
                job.fail(problem)
                job.end()
                return
            self._started += 1
        self._running += 1
        Threads.at_work += 1
        job.has_begun = True
        self._begun.put(job)

    def start_and_wait(self, job: Job, seconds: float) -> None:
        """Run a job that is probably done within so few seconds, for which everybody waits.

        To learn of its end by way of the event loop takes longer than such a job.
        """
        lock = job.lock = allocate_lock()
        lock.acquire()
        job.is_awaited = True
        job.start()
        if job.has_begun and lock.acquire(timeout=seconds):
            self._reap()
            return
        job.is_awaited = False
        # It may have ended before the thread could see that.
        if lock.acquire(False):
            self._reap()

    def cancel(self, job: Job) -> bool:
        """Forget a job, if it has not begun. Returns whether it had not."""
        if job not in self._waiting:
            return False
        self._waiting.remove(job)
        return True

    def _serve(self) -> None:
        while True:
            job = self._begun.get()
            problem = None
            try:
                job.work()
            except BaseException:
                problem = sys.exc_info()
            self._ended.append((job, problem))
            lock = job.lock
            if lock is not None:
                lock.release()
            if not job.is_awaited:
                self._bell.send()
            # Not to be kept alive while the thread waits.
            del job, problem, lock

    def _reap(self) -> None:
        while self._ended:
            job, problem = self._ended.popleft()
            self._running -= 1
            Threads.at_work -= 1
            if self._waiting:
                self.start(self._waiting.popleft())
            if problem is not None:
                get_hub().handle_error(job, *problem)
            job.end()


class Job:
    """Work that runs in a thread, as soon as one of `threads` is free."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        #: Set when the work has been done, or never will be.
        self.ended = Event()
        self.is_given_up = False
        #: A thread has it; and released when it has ended, where somebody waits for that without the event loop.
        self.has_begun = self.is_awaited = False
        self.lock: LockType | None = None

    def start(self) -> None:
        """Have it done, now or as soon as a thread is free."""
        self._threads.start(self)

    def start_and_wait(self, seconds: float) -> None:
        """The same, and wait for its end without the event loop, at most for so few seconds."""
        self._threads.start_and_wait(self, seconds)

    def work(self) -> None:
        """Do it, in a thread. Must not raise."""
        raise NotImplementedError

    def fail(self, problem: Exception) -> None:
        """The system lets the process have no thread more."""
        raise NotImplementedError

    def outcome(self) -> Outcome:
        """What Lua gets for it, when it has ended."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Nobody waits any more: what has not begun never does."""
        self.is_given_up = True
        self._threads.cancel(self)

    def end(self) -> None:
        """It has ended. Called in the event loop."""
        self.ended.set()


class Jobs:
    """The jobs of one state that its script waits for. Several can be under way: finalizers call, too."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._last = 0
        self._jobs: dict[int, Job] = {}

    def run(self, job: Job, patience: float = 0) -> Outcome:
        """Start a job, and wait for it as `wait` does; for so many seconds at first, so does everybody."""
        if patience:
            job.start_and_wait(patience)
        else:
            job.start()
        self._last += 1
        self._jobs[self._last] = job
        return self.wait(self._last)

    def wait(self, number: int) -> Outcome:
        """Wait for a job. A number: it is to be waited for on, with that number (see `Answer`)."""
        job = self._jobs[number]
        while not job.ended.is_set():
            outcome = self._bridge.wait(job.ended)
            if outcome == 0 and type(outcome) is int:
                # Somebody wants to know where the script is, and it waits on.
                return number
            if outcome is not None:
                del self._jobs[number]
                job.give_up()
                return outcome
        del self._jobs[number]
        return job.outcome()
