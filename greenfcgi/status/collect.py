"""Takes the `Snapshot` of a process from its connections, workers, states and scripts, and changes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from ..lua.engine import LuaEngine
from ..lua.state import State
from ..scripts.catalogue import Catalogue
from ..scripts.pool import Pool
from ..scripts.script import Script
from ..serving.server import Server
from ..tasks.board import Run
from .request_times import RequestTimes
from .snapshot import ScriptLine, Share, Snapshot, TaskLine

#: Characters of the reason why a script does not load: enough for a line.
_MAX_PROBLEM = 300


def snapshot(
    started: float,
    server: Server,
    pool: Pool[Script, State],
    catalogue: Catalogue,
    times: RequestTimes,
    engine: LuaEngine,
    flushes: int,
    task_runs: Mapping[str, Run],
) -> Snapshot:
    """The process now, and its counters since it was `started` (seconds of the epoch)."""
    workers = server.context.workers
    return Snapshot(
        pid=os.getpid(),
        started=started,
        running=workers.running,
        waiting=workers.waiting,
        waiting_for_state=pool.waiting,
        workers=workers.count,
        connections=len(server.sessions),
        states=len(pool),
        longest_queue=workers.longest_queue,
        accepted=server.accepted,
        rejected=workers.rejected,
        evictions=pool.evicted,
        flushes=flushes,
        timeouts=engine.timeouts,
        memory_kills=engine.memory_kills,
        seconds=times.seconds,
        statuses=times.statuses,
        histogram=times.histogram,
        scripts=_scripts(pool, catalogue),
        held=_held(server),
        tasks=tuple(_task(name, run) for name, run in task_runs.items()),
    )


def _task(name: str, run: Run) -> TaskLine:
    seconds = (time.time() if run.is_running else run.ended) - run.began
    return TaskLine(
        name, run.runs, run.failures, run.began, max(0.0, seconds), int(not run.is_good), int(run.is_running)
    )


def _held(server: Server) -> dict[str, Share]:
    connections, temporary, scripts = server.context.descriptors
    connections.taken = len(server.sessions)
    connections.peak = max(connections.peak, connections.taken)
    shares = server.context.memory._asdict() | {
        "connections": connections, "temporary files": temporary, "files of scripts": scripts,
    }  # fmt: skip
    return {name: Share(one.taken, one.limit, one.peak, one.refused) for name, one in shares.items()}


def _scripts(pool: Pool[Script, State], catalogue: Catalogue) -> tuple[ScriptLine, ...]:
    holders: dict[Script, list[State]] = {script: [] for script in catalogue}
    for state in pool.states:
        if state.script in holders:
            holders[state.script].append(state)
    idle = set(pool.idle())
    now = time.monotonic()
    return tuple(
        ScriptLine(
            script.path,
            script.requests + sum(state.requests for state in states),
            len(states),
            sum(state not in idle for state in states),
            max((now - state.made for state in states), default=0.0),
            sum(state.memory() for state in states),
            script.loaded_at,
            script.problem[:_MAX_PROBLEM],
        )
        for script, states in holders.items()
    )
