"""Runs tasks when they are due. Every process has one; the `TaskBoard` decides which of them runs a task this time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import gevent

from ..config.types import Task
from ..errors import ScriptBroken, ScriptError
from ..logs.error_log import ErrorLog
from ..logs.text import traceback_of
from ..lua.state import LuaFailure, State
from ..scripts.catalogue import Catalogue
from ..scripts.pool import Pool
from ..scripts.script import Script
from .board import Run
from .schedule import Schedule, schedule
from .task_request import TaskRequest

#: Seconds after which the clock is looked at again, since somebody may have set it.
_LONGEST_SLEEP: Final = 30.0
#: Seconds after which a board is asked again that did not answer.
_PAUSE: Final = 1.0


class Board(Protocol):
    """Decides which process runs a task: see `TaskBoard`."""

    def begin(self, name: str, due: float) -> bool | None:
        """A task is due. True: run it in this process. False: it still runs. None: another process has seen to it."""

    def end(self, name: str, is_good: bool) -> None:
        """A task that has begun in this process has ended."""

    def run(self, name: str) -> Run:
        """What is known of a task."""


class TaskRunner:
    """The tasks of a configuration. Each may run for `timeout` seconds."""

    def __init__(
        self,
        tasks: Sequence[Task],
        board: Board,
        catalogue: Catalogue,
        pool: Pool[Script, State],
        log: ErrorLog,
        timeout: float,
    ) -> None:
        self._tasks = tasks
        self._board = board
        self._catalogue = catalogue
        self._pool = pool
        self._log = log
        self._timeout = timeout
        self._clocks: list[gevent.Greenlet[..., None]] = []
        self._running: set[gevent.Greenlet[..., None]] = set()

    def start(self) -> None:
        """Wait for the first of them."""
        self._clocks = [gevent.spawn(self._keep_time, task, schedule(task)) for task in self._tasks]

    def stop(self) -> None:
        """Start no more of them."""
        for clock in self._clocks:
            clock.kill(block=False)

    def join(self, seconds: float) -> bool:
        """Wait for those that run, at most so long. True when all have ended."""
        running = list(self._running)
        return len(gevent.joinall(running, timeout=seconds)) == len(running)

    def runs(self) -> Mapping[str, Run]:
        """What is known of each task, in any process."""
        return {task.name: self._board.run(task.name) for task in self._tasks}

    def _keep_time(self, task: Task, next_after: Schedule) -> None:
        last = time.time()
        while True:
            now = time.time()
            # The clock may have been set back.
            last = min(last, now)
            due = next_after(last)
            if now < due:
                gevent.sleep(min(due - now, _LONGEST_SLEEP))
                continue
            # What has been missed, while the machine slept, is run once.
            last = max(now, self._begin_when_known(task, due, next_after))

    def _begin_when_known(self, task: Task, due: float, next_after: Schedule) -> float:
        """Ask the board until it answers, for the last time that the task was due; returns that time."""
        is_logged = False
        while True:
            try:
                self._begin(task, due)
            except OSError as problem:
                if not is_logged:
                    self._log.error(f"task {task.name}: not run: {problem.strerror or problem}; trying again")
                is_logged = True
            else:
                return due
            gevent.sleep(_PAUSE)
            while (following := next_after(due)) <= time.time():
                due = following

    def _begin(self, task: Task, due: float) -> None:
        is_begun = self._board.begin(task.name, due)
        if is_begun:
            greenlet: Any = gevent.Greenlet(self._run, task)
            self._running.add(greenlet)
            greenlet.link(self._running.discard)
            greenlet.start()
        elif is_begun is False:
            self._log.warning(f"task {task.name}: it still runs, and is not started again")

    def _run(self, task: Task) -> None:
        is_good = False
        try:
            is_good = self._run_script(task)
        except ScriptError as problem:
            traceback = problem.traceback if isinstance(problem, ScriptBroken) else ""
            self._log.error(f"task {task.name}: {problem}", traceback)
        except Exception as problem:
            # The border of a task: whatever went wrong inside the server ends this run only.
            self._log.error(f"task {task.name}: the server failed: {problem!r}", traceback_of(problem))
        finally:
            self._board.end(task.name, is_good)

    def _run_script(self, task: Task) -> bool:
        path = f"{self._catalogue.root}/{task.script}"
        script = self._catalogue.find(path.encode("utf-8", "surrogateescape"))
        state = self._pool.check_out(script, self._timeout)
        request = TaskRequest(task.name, script.path, self._log, self._timeout)
        try:
            result = state.run(request, self._timeout)
        finally:
            self._pool.check_in(state, script)
        if isinstance(result, LuaFailure):
            self._log.error(f"{script.path}: {request.title}: {result.message}", result.traceback)
            return False
        request.end(result[2])
        return True


def check(tasks: Sequence[Task], catalogue: Catalogue) -> str:
    """What is wrong with the scripts of tasks: one line, or ""."""
    for number, task in enumerate(tasks, 1):
        try:
            catalogue.name(f"{catalogue.root}/{task.script}")
        except ScriptError as problem:
            return f'[[tasks]] element {number}: script: found "{task.script}", expected a script: {problem}'
    return ""
