"""Tells which files have changed by looking at each in turn: the engine that works everywhere, but late.

It looks at the files that are known, not at folders, so a look costs one system call for each of them. Changes
go into a flush queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import gevent

from ..logs.text import traceback_of
from ..scripts.file_signature import Signature, signature
from .flush_queue import FlushQueue

# Seconds of looking at files before other greenlets get a turn, and how long that turn is at least.
_TURN = 0.001


class ErrorLogLike(Protocol):
    """What a watcher needs of an error log."""

    def info(self, text: str, /) -> object: ...

    def warning(self, text: str, detail: str = "", /) -> object: ...


class PollWatcher:
    """Looks at every known file, one after the other, every `interval` seconds.

    A look gives way after each millisecond; still, a file server that does not answer blocks it, and with it
    the process. `known` returns the files to look at, by their real paths, with the signature of each when it
    was read.
    """

    def __init__(
        self,
        known: Callable[[], Mapping[str, Signature]],
        queue: FlushQueue,
        interval: float,
        log: ErrorLogLike,
    ) -> None:
        self.engine = "poll"
        #: What somebody is writing cannot be seen.
        self.writing: set[str] = set()
        self._known = known
        self._queue = queue
        self._interval = interval
        self._log = log
        self._looking: gevent.Greenlet[..., None] | None = None

    def only(self, files: Collection[str]) -> PollWatcher:
        """Another one, of those files alone that are in `files` when it looks."""

        def known() -> Mapping[str, Signature]:
            return {path: noted for path, noted in self._known().items() if path in files}

        return PollWatcher(known, self._queue, self._interval, self._log)

    def start(self) -> None:
        """Begin to look; the first time after one interval. Harmless when repeated."""
        if self._looking is None:
            self._looking = gevent.spawn(self._look_again_and_again)

    def stop(self) -> None:
        """Look no longer."""
        if self._looking is not None:
            self._looking.kill(block=False)
            self._looking = None

    def add_file(self, path: str) -> None:
        """Nothing to do: it is looked at once it is known."""

    def catch_up(self) -> None:
        """Nothing to do: a look at all files takes too long."""

    def check(self) -> None:
        """Nothing to do: a folder that moved shows in its files."""

    def look(self) -> None:
        """Look at every known file now and put those that differ."""
        end_of_turn = time.perf_counter() + _TURN
        for path, noted in tuple(self._known().items()):
            if signature(path) != noted:
                self._queue.put(path)
            if time.perf_counter() >= end_of_turn:
                gevent.sleep(_TURN)
                end_of_turn = time.perf_counter() + _TURN

    def instead(self, reason: str, what: str = "files are") -> str:
        """The warning that polling is used, for `reason`."""
        return f"inotify cannot be used ({reason}): {what} looked at every {self._interval:g} s instead"

    def _look_again_and_again(self) -> None:
        while True:
            gevent.sleep(self._interval)
            try:
                self.look()
            except Exception as error:  # the border of this greenlet: one bad look must not be the last
                text = f"looking for changed files failed, to be tried again: {error!r}"
                self._log.warning(text, traceback_of(error))
