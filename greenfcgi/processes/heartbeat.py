"""The housekeeping beat: runs its tasks at a steady interval, in a greenlet of its own. What they do is theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gevent

from ..logs.error_log import ErrorLog
from ..logs.text import traceback_of


class Heartbeat:
    """Calls each task once in every `interval` seconds. A task that fails is logged, and called again."""

    def __init__(self, interval: float, tasks: Sequence[Callable[[], None]], log: ErrorLog) -> None:
        self._interval = interval
        self._tasks = tasks
        self._log = log
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def start(self) -> None:
        """Begin to beat."""
        self._greenlet = gevent.spawn(self._beat)

    def stop(self) -> None:
        """Stop; a task that is under way is abandoned where it waits."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None

    def _beat(self) -> None:
        while True:
            gevent.sleep(self._interval)
            for task in self._tasks:
                try:
                    task()
                except Exception as problem:
                    # The border of a beat: what fails now must not end housekeeping for good.
                    text = f"housekeeping: {getattr(task, '__qualname__', task)} failed: {problem!r}"
                    self._log.error(text, traceback_of(problem))


class Detached:
    """A task that may wait (it runs scripts' code), so that it must not hold up the beat.

    A call while the last one is still at work does nothing.
    """

    def __init__(self, work: Callable[[], None], log: ErrorLog) -> None:
        self._work = work
        self._log = log
        self._greenlet: gevent.Greenlet[[], None] | None = None
        self.__qualname__ = work.__qualname__

    def __call__(self) -> None:
        """Start the task, unless it is at work."""
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        try:
            self._work()
        except Exception as problem:
            # The border of a task, as above: its own greenlet would print a traceback.
            self._log.error(f"housekeeping: {self.__qualname__} failed: {problem!r}", traceback_of(problem))
