"""Saves take effect at once: what has been saved before a request came is in its reply, and half a save is in none.

A request asks the watcher first what has happened until now, waits while somebody is writing a file, and has changed
scripts flushed. So does each change by itself, for the browsers that are told of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.lock import RLock

from ..logs.error_log import ErrorLog
from ..logs.text import traceback_of
from ..reload.flush_queue import FlushQueue
from ..reload.reloader import Reloader
from ..reload.watcher import Watcher
from .http.url_paths import size

#: Seconds between two looks at a file that is being written.
_LOOK = 0.002
#: Seconds after which a file that is open for writing, and has not grown, is not being saved: a log.
_STILL = 0.1
#: Seconds that a request waits at most, for saves and for the flush that follows.
_MOST = 2.0


class Saves:
    """Brings saves and requests into an order. `counts` says that a file is part of a page."""

    def __init__(
        self, watcher: Watcher, queue: FlushQueue, reloader: Reloader, counts: Callable[[str], bool], log: ErrorLog
    ) -> None:
        self._watcher = watcher
        self._queue = queue
        self._reloader = reloader
        self._counts = counts
        self._log = log
        #: Files that a program keeps open and writes to, until it closes them.
        self._open: set[str] = set()
        self._something = Event()
        self._lock = RLock()

    def start(self) -> None:
        """Flush by itself what is saved from now on."""
        self._queue.on_put = self._something.set
        gevent.spawn(self._flush_again_and_again)

    def settle(self) -> None:
        """Return when everything that has been saved until now has been flushed, or after some time."""
        end = time.monotonic() + _MOST
        self._watcher.catch_up()
        while True:
            self._wait_for_writers(end)
            if self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
                try:
                    self._reloader.flush()
                finally:
                    self._lock.release()
            # What was loaded may have been half of the next save.
            if not self.is_disturbed() or time.monotonic() > end:
                return
            # The housekeeping beat flushes, too: it must have its turn to come to the end of that.
            gevent.sleep(_LOOK)

    def is_disturbed(self) -> bool:
        """Something has been saved, or is being saved, since the last `settle`."""
        self._watcher.catch_up()
        # What scripts write themselves does not count: their page would be asked for again and again.
        return any(map(self._counts, self._queue.paths)) or bool(self._sizes())

    def _flush_again_and_again(self) -> None:
        while True:
            self._something.wait()
            self._something.clear()
            try:
                self.settle()
            except Exception as problem:
                # The border of this greenlet: one bad save must not be the last.
                self._log.error(f"a save could not be followed: {problem!r}", traceback_of(problem))

    def _wait_for_writers(self, end: float) -> None:
        sizes, since = self._sizes(), time.monotonic()
        while sizes and time.monotonic() < end:
            gevent.sleep(_LOOK)
            self._watcher.catch_up()
            before, sizes = sizes, self._sizes()
            if sizes != before:
                since = time.monotonic()
            elif time.monotonic() - since > _STILL:
                break
        for path in sizes:
            # Somebody keeps it open. What is in it counts all the same, but nobody waits for it again.
            self._open.add(path)
            self._queue.put(path)

    def _sizes(self) -> dict[str, int]:
        self._open &= self._watcher.writing
        return {path: size(path) for path in self._watcher.writing - self._open if self._counts(path)}
