"""What a process does every `heartbeat` seconds, beside requests.

Here are the greenlet that runs the tasks, and those tasks that are about Lua states; others are where they belong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import gevent

from ..logs.error_log import ErrorLog
from ..logs.text import traceback_of
from ..lua.state import State
from ..lua.turns import Turns
from ..quota import Quota
from ..scripts.pool import Pool
from ..scripts.script import Script
from ..system.malloc import trim_heap

#: Bytes that connections must have given back before their memory is returned to the system: trimming takes time.
_MIN_TRIM = 4 * 1024 * 1024


class Heartbeat:
    """Calls each task once in every `interval` seconds. A task that fails is logged, and called again."""

    def __init__(self, interval: float, tasks: Sequence[Callable[[], None]], log: ErrorLog) -> None:
        self._interval = interval
        self._tasks = tasks
        self._log = log
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def start(self) -> None:
        """Begin; the first round is an interval from now."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Stop; a task that waits is abandoned there."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None

    def _run(self) -> None:
        while True:
            gevent.sleep(self._interval)
            for task in self._tasks:
                _run_safely(task, self._log)


class BackgroundTask:
    """A task that may wait (it runs scripts' code), so that it must not hold up the others.

    A call while the last one has not finished does nothing.
    """

    def __init__(self, work: Callable[[], None], log: ErrorLog) -> None:
        self._work = work
        self._log = log
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def __call__(self) -> None:
        """Start the task, unless it is running."""
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(_run_safely, self._work, self._log)


def _run_safely(task: Callable[[], None], log: ErrorLog) -> None:
    """The border of a task: one that fails must not end housekeeping for good."""
    try:
        task()
    except Exception as problem:
        name = getattr(task, "__qualname__", task)
        log.error(f"housekeeping: {name} failed: {problem!r}", traceback_of(problem))


#: States that may wait to be closed. Where more scripts are asked for than there may be states, nearly each request has
#: one closed for its own, and turns are too few: 10,000 requests left 700 MB of states behind.
_MAX_CLOSING = 16


class Hooks:
    """Runs the hooks of scripts that no request runs. They may wait, so each has a greenlet of its own, and they may
    compute, so each starts in a turn.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._running: set[gevent.Greenlet[..., None]] = set()
        #: States that have left the pool, and are not closed yet.
        self._closing = 0
        #: States whose `heartbeat` waits for its turn.
        self._queued_heartbeats = 0

    def discard(self, state: State) -> None:
        """Close a state that has left the pool, which runs its `shutdown`."""
        state.script.requests += state.requests
        if not state.is_healthy:
            # It has no hook to run, and much memory perhaps.
            state.close()
        elif self._closing < _MAX_CLOSING or state.has_hook("shutdown"):
            # Hundreds at once would hold up everybody: each starts in a turn.
            self._closing += 1
            self._turns.queue(self._greenlet(self._close, state).start)
        else:
            state.close()

    def run_heartbeats(self, pool: Pool[Script, State]) -> None:
        """Run the `heartbeat` of each idle state that has one."""
        if self._queued_heartbeats:
            # Those of the last round have not had their turn yet.
            return
        for state in pool.idle():
            if state.has_hook("heartbeat"):
                self._queued_heartbeats += 1
                self._turns.queue(partial(self._start_heartbeat, pool, state))

    def join(self, seconds: float) -> bool:
        """Wait for the hooks that run, for at most so long. True when all have finished."""
        hooks = list(self._running)
        return len(gevent.joinall(hooks, timeout=seconds)) == len(hooks)

    def _greenlet(self, work: Callable[..., None], *arguments: object) -> gevent.Greenlet[..., None]:
        # Not gevent.pool.Group: to import it costs 1 MB.
        hook = gevent.Greenlet(work, *arguments)
        self._running.add(hook)
        hook.link(self._running.discard)
        return hook

    def _close(self, state: State) -> None:
        try:
            state.close()
        finally:
            self._closing -= 1

    def _start_heartbeat(self, pool: Pool[Script, State], state: State) -> None:
        # In a turn, and the state is taken only now: requests need it meanwhile.
        self._queued_heartbeats -= 1
        if pool.check_out_idle(state, state.script):
            self._greenlet(self._run_heartbeat, pool, state).start()

    def _run_heartbeat(self, pool: Pool[Script, State], state: State) -> None:
        try:
            state.hook("heartbeat")
        finally:
            pool.check_in(state, state.script)


class MemoryUpkeep:
    """Closes states that have been idle for `max_idle` seconds (0: none), and returns free memory to the system.

    `interval` is the time between two calls; `quotas` count the bytes that connections have given back.
    """

    def __init__(self, pool: Pool[Script, State], interval: float, max_idle: float, quotas: Sequence[Quota]) -> None:
        self._pool = pool
        self._interval = interval
        self._max_idle = max_idle
        self._quotas = quotas
        #: States have been closed, and their memory is still this process's.
        self._closed_states = False
        #: Bytes that connections had given back since the last trim, one call ago.
        self._returned = 0

    def run(self) -> None:
        """One round."""
        self._pool.decay(self._interval)
        if self._max_idle and self._pool.expire(self._max_idle):
            self._closed_states = True
        elif self._closed_states or self._have_connections_settled():
            # After states, a round later, when `shutdown` has run, and no more of them go.
            self._closed_states = False
            for quota in self._quotas:
                quota.returned = 0
            trim_heap()

    def _have_connections_settled(self) -> bool:
        """They have given much memory back, and nothing since the last round."""
        before, self._returned = self._returned, sum(quota.returned for quota in self._quotas)
        return self._returned > _MIN_TRIM and self._returned == before
