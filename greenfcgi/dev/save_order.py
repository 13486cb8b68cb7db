"""Saves take effect at once: what has been saved before a request came is in its reply, and half a save is in none.

Before a request is answered, the watcher catches up, files that are being written are waited for, and changed scripts
are flushed. Each change does the same by itself, for the browsers that reload.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

import gevent
from gevent.event import Event
from gevent.lock import RLock

from ..logs.error_log import ErrorLog
from ..logs.text import traceback_of
from ..reload.flush_queue import Changes, FlushQueue
from ..reload.reloader import Reloader
from ..reload.watcher import Watcher
from .http.url_paths import size

#: Seconds between two checks of a file that is being written.
_CHECK = 0.002
#: Seconds after which a file that is open for writing, and has not grown, is not being saved: a log.
_STILL = 0.1
#: Seconds after which a file that has been emptied is meant to be empty.
_EMPTY = 1.0
#: Seconds for which a file that has been saved, or asked for, is watched closely.
_RECENT = 1.0
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
        #: Files that a program keeps open and writes to, until it closes them, with their numbers in `Watcher.writing`.
        self._open: dict[str, int] = {}
        #: Files that have been saved or asked for a moment ago, and when.
        self._recent: dict[str, float] = {}
        #: Flushes so far of files that may be part of a page.
        self.flushes = 0
        self._has_changes = Event()
        self._lock = RLock()

    def start(self) -> None:
        """Flush what is saved from now on, without a request."""
        self._queue.on_put = self._has_changes.set
        self._queue.on_drain = self._count
        gevent.spawn(self._flush_forever)

    def wait_until_saved(self) -> None:
        """Return when everything that has been saved until now has been flushed, or after some time."""
        end = time.monotonic() + _MAX_WAIT
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

    def has_pending_changes(self, since: int | None = None) -> bool:
        """Whether a file is being saved, or has been saved and not flushed yet.

        With `since`, an earlier value of `flushes`, also whether anything has been flushed since then.
        """
        is_being_saved = bool(self._sizes())
        if since is not None and since != self.flushes:
            return True
        # What scripts write themselves does not count: their page would be asked for again and again.
        return is_being_saved or any(map(self._is_relevant, self._queue.paths))

    def watch_closely(self, paths: Iterable[str]) -> None:
        """Files that may be saved soon: one that an editor empties is noticed before its inotify event arrives."""
        self._recent.update(dict.fromkeys(paths, time.monotonic()))

    def _count(self, changes: Changes) -> None:
        counted = list(filter(self._is_relevant, changes.paths))
        self.flushes += changes.everything or bool(counted)
        self.watch_closely(counted)

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
            before, sizes = sizes, self._sizes()
            if sizes != before:
                since = time.monotonic()
            elif time.monotonic() - since > _STILL:
                break
        for path in sizes:
            # A program keeps it open: its text is taken as it is, and no request waits for it again.
            if path in self._watcher.writing:
                self._open[path] = self._watcher.writing[path]
            self._queue.put(path)

    def _sizes(self) -> dict[str, int]:
        """The files that are being saved at this moment, with their sizes."""
        # An editor empties a file before it writes. The event for that can come milliseconds late, while the disk still
        # writes the last save, so sizes are checked first; then `catch_up` reads the events of files that were filled.
        now = time.monotonic()
        self._recent = {path: then for path, then in self._recent.items() if now - then < _RECENT}
        emptied = dict.fromkeys(filter(_is_just_emptied, self._recent), 0)
        self._watcher.catch_up()
        writing = self._watcher.writing
        self._open = {path: number for path, number in self._open.items() if writing.get(path) == number}
        saved = (path for path in writing if path not in self._open and self._is_relevant(path))
        return emptied | {path: size(path) for path in saved}


def _is_just_emptied(path: str) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return found.st_size == 0 and time.time() - found.st_mtime < _EMPTY
