"""Finds changed files by checking each in turn: the engine that works everywhere, but late.

It checks the files that are known, not folders, so that costs one system call for each of them. Changes
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

# Seconds of checking files before other greenlets get a turn, and how long that turn is at least.
_TURN = 0.001


class ErrorLogLike(Protocol):
    """What a watcher needs of an error log."""

    def info(self, text: str, /) -> object: ...

    def warning(self, text: str, detail: str = "", /) -> object: ...


class PollWatcher:
    """Checks every known file, one after the other, every `interval` seconds.

    Other greenlets have a turn after each millisecond; still, a file server that does not answer blocks the whole
    process. `known` returns the files to check, by their real paths, with the signature of each when it was read.
    """

    def __init__(
        self,
        known: Callable[[], Mapping[str, Signature]],
        queue: FlushQueue,
        interval: float,
        log: ErrorLogLike,
    ) -> None:
        self.engine = "poll"
        #: Always empty: polling cannot see who is writing.
        self.writing: dict[str, int] = {}
        self._known = known
        self._queue = queue
        self._interval = interval
        self._log = log
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def restricted_to(self, files: Collection[str]) -> PollWatcher:
        """Another one, which checks only those files that are in `files` at the time."""

        def known() -> Mapping[str, Signature]:
            return {path: noted for path, noted in self._known().items() if path in files}

        return PollWatcher(known, self._queue, self._interval, self._log)

    def start(self) -> None:
        """Begin, with the first check after one interval. Harmless when repeated."""
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._check_forever)

    def stop(self) -> None:
        """Stop checking."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
            self._greenlet = None

    def add_file(self, path: str) -> None:
        """Nothing to do: it is checked once it is known."""

    def catch_up(self) -> None:
        """Nothing to do: to check all files takes too long."""

    def check(self) -> None:
        """Nothing to do: a folder that moved shows in its files."""

    def check_all(self) -> None:
        """Check every known file now and put those that differ."""
        end_of_turn = time.perf_counter() + _TURN
        for path, noted in tuple(self._known().items()):
            if signature(path) != noted:
                self._queue.put(path)
            if time.perf_counter() >= end_of_turn:
                gevent.sleep(_TURN)
                end_of_turn = time.perf_counter() + _TURN

    def fallback_warning(self, reason: str, what: str = "files are") -> str:
        """The warning that polling is used, for `reason`."""
        return f"inotify cannot be used ({reason}): {what} polled every {self._interval:g} s instead"

    def _check_forever(self) -> None:
        while True:
            gevent.sleep(self._interval)
            try:
                self.check_all()
            except Exception as error:  # the border of this greenlet: a failure must not be the last check
                text = f"polling for changed files failed, trying again: {error!r}"
                self._log.warning(text, traceback_of(error))
