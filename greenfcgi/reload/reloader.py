"""From changed files to fresh states: drains the flush queue, tries a changed script, and drops its old states.

A changed script is loaded into a fresh state first. When it does not load, the last good version stays in service, the
error is logged, and the next change is another try. Requests under way finish on the code they began with; their
states are closed when they come back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

import gevent

from ..errors import ScriptBroken, ScriptBusy, ScriptError
from ..logs.error_log import ErrorLog
from ..logs.text import counted, traceback_of
from ..lua.state import State
from ..scripts.catalogue import Catalogue
from ..scripts.file_signature import changed
from ..scripts.pool import Pool
from ..scripts.script import Script
from ..scripts.version import Version
from .flush_queue import Changes, FlushQueue

#: Changed files that a message names.
_MAX_NAMES = 3
#: Seconds for which the next script waits for one that is being reloaded.
MAX_WAIT = 0.1


class Load(Protocol):
    """Makes a state that holds a version of a script: the one that is served, unless another one is given.

    Raises `ScriptError`.
    """

    def __call__(self, script: Script, version: Version | None = None, /) -> State: ...


class Reloader:
    """Reloads the scripts whose files have changed."""

    def __init__(
        self,
        queue: FlushQueue,
        catalogue: Catalogue,
        pool: Pool[Script, State],
        load: Load,
        log: ErrorLog,
        keep_last_good: bool = True,
        max_wait: float = MAX_WAIT,
        on_gone: Callable[[Script], None] = lambda script: None,
    ) -> None:
        self._queue = queue
        self._catalogue = catalogue
        self._pool = pool
        self._load = load
        self._log = log
        #: Versions of scripts that have been replaced or withdrawn, since a file had changed.
        self.flushes = 0
        #: When a changed script does not load, its last good version stays in service; else requests see the error.
        self._keep_last_good = keep_last_good
        #: Seconds for which the next script waits for one whose `init` does.
        self._max_wait = max_wait
        #: Called with a script whose file is gone.
        self._on_gone = on_gone
        #: Called with what has been drained, when scripts have been reloaded.
        self.observers: list[Callable[[Changes], None]] = []
        #: The paths of the scripts that are being reloaded.
        self._reloading: set[str] = set()

    def flush(self) -> None:
        """Drain the queue, and reload what has changed. May wait, where a script's `init` does."""
        if self._queue:
            changes = self._queue.drain()
            self._apply(changes)
            for observe in self.observers:
                observe(changes)

    def _apply(self, changes: Changes) -> None:
        for script in self._catalogue.follow_root():
            self._forget(script, "not below scripts.root any more")
        if changes.everything:
            changes = Changes(frozenset(changed(self._catalogue.signatures())) | changes.paths, False)
        # A symbolic link may be among them.
        self._catalogue.forget_aliases()
        for script in self._catalogue.affected_by(changes.paths):
            if script.path in self._reloading:
                # Its `init` waits: this change is for the next flush.
                self._queue.put(script.path)
                continue
            self._reloading.add(script.path)
            # One at a time, so that requests have their turn when a deployment changes hundreds; but a script whose
            # `init` waits does not hold up the others for long.
            gevent.spawn(self._reload_safely, script).join(timeout=self._max_wait)

    def _reload_safely(self, script: Script) -> None:
        try:
            self._reload(script)
        except Exception as problem:
            # The border of a flush: what fails for one script must not end it for the others.
            self._log.error(f"{script.path}: flush failed: {problem!r}", traceback_of(problem))
        finally:
            self._reloading.discard(script.path)

    def _reload(self, script: Script) -> None:
        if not os.path.isfile(script.path):
            self._forget(script, "its file is gone")
            self._on_gone(script)
        elif script.stale():
            self._replace(script)

    def _replace(self, script: Script) -> None:
        version = script.new_version()
        cause = _names(script.changed(), script.directory)
        try:
            state = self._load(script, version)
        except ScriptBusy as problem:
            # Nothing is wrong with the files: it is tried again at the next flush.
            self._log.warning(f"{script.path}: changed{cause}, but cannot be loaded now: {problem}")
            self._queue.put(script.path)
            return
        except ScriptError as problem:
            self._fail(script, version, problem, cause)
            return
        script.replaced(version)
        self.flushes += 1
        closed = self._pool.flush(script)
        if self._pool.count(script) or closed:
            self._pool.add(state, script)
        else:
            # Its states had been evicted to make room for others.
            state.close()
        self._log.info(f"{script.path}: changed{cause}: reloaded, {counted(closed, 'idle state')} closed")

    def _fail(self, script: Script, version: Version, problem: ScriptError, cause: str) -> None:
        traceback = problem.traceback if isinstance(problem, ScriptBroken) else ""
        if self._keep_last_good:
            script.held(version)
            consequence = "the last good version stays in service"
        else:
            # Each request tries it again from now on.
            script.withdrawn()
            self._pool.flush(script)
            consequence = "it is not served"
        self._log.error(f"{script.path}: changed{cause}, but does not load; {consequence}: {problem}", traceback)

    def _forget(self, script: Script, reason: str) -> None:
        self._catalogue.forget(script)
        # No state is of this version any more, so the idle ones go now and the others when they come back.
        script.withdrawn()
        self.flushes += 1
        self._pool.flush(script)
        self._log.info(f"{script.path}: flushed: {reason}")


def _names(paths: Sequence[str], folder: str) -> str:
    """Changed files for a message, beside the script itself: " (in lib/html.lua)"; "" when there are none."""
    names = [os.path.relpath(path, folder) for path in paths[:_MAX_NAMES]]
    more = len(paths) - len(names)
    return f" (in {', '.join(names)}{f' and {more} more' if more else ''})" if names else ""
