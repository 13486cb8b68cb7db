"""Saves take effect at once: what has been saved before a request came is in its reply, and half a save is in none.

Before a request is answered, the watcher catches up, files that are being written are waited for, and changed scripts
are flushed. Each change does the same by itself, for the browsers that reload.
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

#: Seconds between two checks of a file that is being written.
_CHECK = 0.002
#: Seconds after which a file that is open for writing, and has not grown, is not being saved: a log.
_STILL = 0.1
#: Seconds that a request waits at most, for saves and for the flush that follows.
_MAX_WAIT = 2.0


class SaveOrder:
    """Brings saves and requests into an order. `is_relevant` says that a file may be part of a page."""

    def __init__(
        self, watcher: Watcher, queue: FlushQueue, reloader: Reloader, is_relevant: Callable[[str], bool], log: ErrorLog
    ) -> None:
        self._watcher = watcher
        self._queue = queue
        self._reloader = reloader
        self._is_relevant = is_relevant
        self._log = log
        #: Files that a program keeps open and writes to, until it closes them.
        self._open: set[str] = set()
        self._has_changes = Event()
        self._lock = RLock()

    def start(self) -> None:
        """Flush what is saved from now on, without a request."""
        self._queue.on_put = self._has_changes.set
        gevent.spawn(self._flush_forever)

    def wait_until_saved(self) -> None:
        """Return when everything that has been saved until now has been flushed, or after some time."""
        end = time.monotonic() + _MAX_WAIT
        self._watcher.catch_up()
        while True:
            self._wait_for_writers(end)
            if self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
                try:
                    self._reloader.flush()
                finally:
                    self._lock.release()
            # What was loaded may have been half of another save.
            if not self.has_pending_changes() or time.monotonic() > end:
                return
            # The heartbeat flushes, too: it must have a turn to finish.
            gevent.sleep(_CHECK)

    def has_pending_changes(self) -> bool:
        """Something has been saved, or is being saved, since the last `wait_until_saved`."""
        self._watcher.catch_up()
        # Files that scripts write themselves are not relevant: their page would be requested again and again.
        return any(map(self._is_relevant, self._queue.paths)) or bool(self._sizes())

    def _flush_forever(self) -> None:
        while True:
            self._has_changes.wait()
            self._has_changes.clear()
            try:
                self.wait_until_saved()
            except Exception as problem:
                # The border of this greenlet: a failure must not be the last save.
                self._log.error(f"a saved file could not be reloaded: {problem!r}", traceback_of(problem))

    def _wait_for_writers(self, end: float) -> None:
        sizes, since = self._sizes(), time.monotonic()
        while sizes and time.monotonic() < end:
            gevent.sleep(_CHECK)
            self._watcher.catch_up()
            before, sizes = sizes, self._sizes()
            if sizes != before:
                since = time.monotonic()
            elif time.monotonic() - since > _STILL:
                break
        for path in sizes:
            # A program keeps it open: its text is taken as it is, and no request waits for it again.
            self._open.add(path)
            self._queue.put(path)

    def _sizes(self) -> dict[str, int]:
        self._open &= self._watcher.writing
        return {path: size(path) for path in self._watcher.writing - self._open if self._is_relevant(path)}
