"""From changed files to fresh states: drains the flush queue, tries a changed script, and lets its old states go.

A changed script is loaded into a fresh state first. When it does not load, the last good version goes on being
served, the error is logged, and the next change is another try. Requests under way finish on the code they began
with; their states go when they come back.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import gevent

from .errors import ScriptBroken, ScriptError
from .flush_queue import Changes, FlushQueue
from .log import ErrorLog
from .metrics import Metrics
from .pool import Pool
from .scripts import Catalogue, Script, Version
from .signature import changed
from .state import State

#: Seconds that the next script waits for one that is being loaded anew.
_PATIENCE = 0.1

#: Makes a state that holds a given version of a script.
Load = Callable[[Script, Version], State]


class Flusher:
    """Flushes the scripts whose files have changed."""

    def __init__(
        self,
        queue: FlushQueue,
        catalogue: Catalogue,
        pool: Pool[Script, State],
        load: Load,
        log: ErrorLog,
        metrics: Metrics,
    ) -> None:
        self._queue = queue
        self._catalogue = catalogue
        self._pool = pool
        self._load = load
        self._log = log
        self._metrics = metrics
        #: The paths of the scripts that are being loaded anew.
        self._renewing: set[str] = set()

    def flush(self) -> None:
        """Drain the queue. May wait, where a script's `init` does."""
        if not self._queue:
            return
        changes = self._queue.drain()
        for script in self._catalogue.follow_root():
            self._forget(script, "not below scripts.root any more")
        if changes.everything:
            changes = Changes(frozenset(changed(self._catalogue.signatures())) | changes.paths, False)
        # A symbolic link may be among them.
        self._catalogue.forget_spellings()
        for script in self._catalogue.touched(changes.paths):
            if script.path in self._renewing:
                # Its `init` waits: this change is for the next time.
                self._queue.put(script.path)
                continue
            self._renewing.add(script.path)
            # One at a time, so that requests have their turn when a deployment changes hundreds; but a script whose
            # `init` waits does not hold up the others for long.
            gevent.spawn(self._attempt, script).join(timeout=_PATIENCE)

    def _attempt(self, script: Script) -> None:
        try:
            self._renew(script)
        except Exception as problem:
            # The border of a flush: what fails for one script must not end it for the others.
            self._log.error(f"{script.path}: flush failed: {problem!r}")
        finally:
            self._renewing.discard(script.path)

    def _renew(self, script: Script) -> None:
        if not os.path.isfile(script.path):
            self._forget(script, "its file is gone")
        elif script.stale():
            self._replace(script)

    def _replace(self, script: Script) -> None:
        version = script.new_version()
        try:
            state = self._load(script, version)
        except ScriptError as problem:
            script.tried = version
            traceback = problem.traceback if isinstance(problem, ScriptBroken) else ""
            self._log.error(
                f"{script.path}: changed, but does not load; the last good version goes on: {problem}", traceback
            )
            return
        script.version, script.tried = version, None
        self._metrics.flushes += 1
        closed = self._pool.flush(script)
        if self._pool.count(script) or closed:
            self._pool.add(state, script)
        else:
            # It had been let go to make room for others, and they keep it.
            state.close()
        self._log.info(f"{script.path}: changed, loaded anew; idle states closed: {closed}")

    def _forget(self, script: Script, reason: str) -> None:
        self._catalogue.forget(script)
        # No state is of this version any more, so the idle ones go now and the others when they come back.
        script.version = script.new_version()
        self._metrics.flushes += 1
        self._pool.flush(script)
        self._log.info(f"{script.path}: flushed: {reason}")
