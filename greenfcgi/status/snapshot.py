"""The figures of one process at one moment: values, their sum over several processes, and their form as a message."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from .request_times import BOUNDS

#: A larger number is neither a time nor a count, and sums or dates made of it could fail.
_MAX_NUMBER = 2**40


class ScriptLine(NamedTuple):
    """One script: requests answered so far, and its states of this moment.

    `states` are all its states, `busy` those in use. `age` is that of the oldest in seconds, `memory` that of all in
    bytes. `loaded` is when the version that is served was loaded, in seconds of the epoch; 0: none has been.
    `problem` says why the files do not load now, "" when they do; the last good version is served meanwhile.
    """

    path: str
    requests: int = 0
    states: int = 0
    busy: int = 0
    age: float = 0.0
    memory: int = 0
    loaded: float = 0.0
    problem: str = ""


class TaskLine(NamedTuple):
    """A task: how often it has run and failed, when it began last (seconds of the epoch; 0: never), how long it took in
    seconds, and whether it failed then. `running` is 1 while it runs.
    """

    name: str
    runs: int = 0
    failures: int = 0
    began: float = 0.0
    seconds: float = 0.0
    failed: int = 0
    running: int = 0


class Share(NamedTuple):
    """A share of memory or descriptors: what is taken now, its limit, the peak so far, and how often it was full."""

    taken: int = 0
    limit: int = 0
    peak: int = 0
    refused: int = 0


class Snapshot(NamedTuple):
    """One process, or several added up. `started` is in seconds of the epoch."""

    pid: int = 0
    started: float = 0.0
    # Of this moment.
    running: int = 0
    waiting: int = 0
    waiting_for_state: int = 0
    workers: int = 0
    connections: int = 0
    states: int = 0
    # Since the process began.
    longest_queue: int = 0
    accepted: int = 0
    rejected: int = 0
    evictions: int = 0
    flushes: int = 0
    timeouts: int = 0
    memory_kills: int = 0
    seconds: float = 0.0
    statuses: dict[int, int] = {}
    histogram: list[int] = [0] * (len(BOUNDS) + 1)
    scripts: tuple[ScriptLine, ...] = ()
    held: dict[str, Share] = {}
    #: The same in all processes, which share what is known of them.
    tasks: tuple[TaskLine, ...] = ()

    @property
    def requests(self) -> int:
        """All that have ended."""
        return sum(self.statuses.values())


_MOMENTARY = ("running", "waiting", "waiting_for_state", "workers", "connections", "states")
_ADDED = (
    *_MOMENTARY, "accepted", "rejected", "evictions", "flushes", "timeouts", "memory_kills", "seconds",
)  # fmt: skip


def total(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Their sum, with the scripts by their requests, the most first."""
    snapshots = list(snapshots)
    statuses: dict[int, int] = {}
    for snapshot in snapshots:
        for status, count in snapshot.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    values: dict[str, Any] = {name: sum(getattr(one, name) for one in snapshots) for name in _ADDED}
    return Snapshot(
        **values,
        started=min((one.started for one in snapshots), default=0.0),
        longest_queue=max((one.longest_queue for one in snapshots), default=0),
        statuses=dict(sorted(statuses.items())),
        histogram=[sum(one.histogram[at] for one in snapshots) for at in range(len(BOUNDS) + 1)],
        scripts=_scripts(line for one in snapshots for line in one.scripts),
        held=_held(one.held for one in snapshots),
        tasks=_tasks(line for one in snapshots for line in one.tasks),
    )


def _held(several: Iterable[dict[str, Share]]) -> dict[str, Share]:
    found: dict[str, Share] = {}
    for held in several:
        for name, share in held.items():
            found[name] = Share(*map(sum, zip(found.get(name, Share()), share, strict=True)))
    return found


def _tasks(lines: Iterable[TaskLine]) -> tuple[TaskLine, ...]:
    """Each once, as the process that has seen most of it says."""
    found: dict[str, TaskLine] = {}
    for line in lines:
        other = found.setdefault(line.name, line)
        if (line.runs, -line.running) > (other.runs, -other.running):
            found[line.name] = line
    return tuple(found.values())


def _scripts(lines: Iterable[ScriptLine]) -> tuple[ScriptLine, ...]:
    found: dict[str, ScriptLine] = {}
    for line in lines:
        other = found.get(line.path, ScriptLine(line.path))
        found[line.path] = ScriptLine(
            line.path,
            other.requests + line.requests,
            other.states + line.states,
            other.busy + line.busy,
            max(other.age, line.age),
            other.memory + line.memory,
            max(other.loaded, line.loaded),
            line.problem or other.problem,
        )
    return tuple(sorted(found.values(), key=lambda line: (-line.requests, line.path)))


def ended(snapshot: Snapshot) -> Snapshot:
    """What counts of a process that has ended: its counters, nothing of the moment."""
    scripts = tuple(ScriptLine(line.path, line.requests) for line in snapshot.scripts if line.requests)
    nothing: dict[str, Any] = dict.fromkeys(_MOMENTARY, 0)
    held = {name: Share(refused=share.refused) for name, share in snapshot.held.items()}
    return snapshot._replace(**nothing, scripts=scripts, held=held, tasks=())


def pack(snapshot: Snapshot, max_bytes: int) -> bytes:
    """The snapshot as at most `max_bytes` bytes; scripts with the fewest requests are left out where it is longer."""
    scripts = sorted(snapshot.scripts, key=lambda line: -line.requests)
    while True:
        # Not marshal or pickle: a supervisor that is root must not trust what a process wrote.
        data = json.dumps(snapshot._replace(scripts=tuple(scripts))).encode()
        if len(data) <= max_bytes or not scripts:
            return data
        scripts = scripts[: len(scripts) // 2]


def unpack(data: bytes) -> Snapshot:
    """Undo `pack`. Raises `ValueError` when `data` is anything else, since scripts that may write to memory (ffi) can
    have written it.
    """
    try:
        found = Snapshot(*json.loads(data))
        # Keys of objects are text in JSON.
        statuses = {int(status): count for status, count in found.statuses.items()}
        scripts = tuple(ScriptLine(*line) for line in found.scripts)
        held = {name: Share(*share) for name, share in found.held.items()}
        tasks = tuple(TaskLine(*line) for line in found.tasks)
        snapshot = found._replace(statuses=statuses, scripts=scripts, held=held, tasks=tasks)
    except (TypeError, AttributeError, RecursionError) as problem:
        raise ValueError(f"not a snapshot: {problem}") from None
    numbers = [*snapshot.statuses, *snapshot.statuses.values()]
    is_right = (
        _is_like(snapshot, Snapshot())
        and len(snapshot.histogram) == len(BOUNDS) + 1
        and all(_is_like(line, ScriptLine("")) for line in snapshot.scripts)
        and all(_is_like(share, Share()) for share in snapshot.held.values())
        and all(_is_like(line, TaskLine("")) for line in snapshot.tasks)
        and all(_is_number(number, int) for number in [*numbers, *snapshot.histogram])
    )
    if not is_right:
        raise ValueError("not a snapshot: a value of another kind")
    return snapshot


def _is_like(values: tuple[object, ...], others: tuple[object, ...]) -> bool:
    """Each value is of the type of the other one."""
    return all(
        _is_number(value, type(other)) if isinstance(other, (int, float)) else type(value) is type(other)
        for value, other in zip(values, others, strict=True)
    )


def _is_number(value: object, kind: type) -> bool:
    """A number of this type that sums and times can be made of."""
    return (type(value) is kind or (kind is float and type(value) is int)) and 0 <= value < _MAX_NUMBER  # type: ignore[operator]
