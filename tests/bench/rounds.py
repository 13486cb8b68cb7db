"""Pairs of runs: a row of the table is some rounds in which each server is loaded once, in alternating order.

Each round also holds the reference, so a ratio compares two runs that lie seconds apart, and what the machine
does meanwhile hits both. It decides nothing about targets and prints only progress.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .accounting import cpu_seconds, wait_until_quiet
from .errors import BenchError
from .frontend import Frontend
from .load import Load, Target, run_wrk, warm_up
from .peers import Upstream
from .replies import Check, checked
from .spread import Spread
from .work import FLOOR_PEER, REFERENCE_PEER, REFERENCE_ROW, Row

#: Load before the runs of a row, which does not count.
WARM_UP_SECONDS = 0.4


class Plan(NamedTuple):
    """How often and how long each run of a row is made."""

    rounds: int
    seconds: int


class Entry(NamedTuple):
    """A server at a row's work: one line of the table. All ratios are taken against the `reference` one."""

    row: Row
    upstream: Upstream
    reference: bool

    @property
    def name(self) -> str:
        return f"{self.upstream.peer.name} {self.row.name}"


class Sample(NamedTuple):
    """One run: microseconds of CPU per request, of the server and of all with nginx, and what the clients saw.

    Of a web server, the first is what its script takes beyond a canned reply of the same bytes.
    """

    cpu: float
    total: float
    load: Load


class Line(NamedTuple):
    """An entry with its samples, one a round, and its ratios of CPU per request, taken round by round.

    `ratio` is to the reference, `same_work` to php-fpm at the same work, `to_base` to the peer that this one is a
    variant of, `to_floor` to the floor (None where there is no such line). `replies` is how many replies were compared
    byte for byte. `faults` says why the line must not be believed; empty when it may.
    """

    entry: Entry
    samples: tuple[Sample, ...]
    ratio: Spread
    same_work: Spread | None
    to_base: Spread | None
    to_floor: Spread | None
    replies: int
    faults: tuple[str, ...]


def measure_row(
    row: Row, upstreams: Sequence[Upstream], frontend: Frontend, plan: Plan, progress: Callable[[str], None]
) -> list[Line]:
    """Run all rounds of one row. Raises `BenchError` when a server or wrk ends or falls silent."""
    entries = _entries(row, upstreams)
    checks: dict[Entry, list[Check]] = {entry: [_check(entry, frontend)] for entry in entries}
    samples: dict[Entry, list[Sample]] = {entry: [] for entry in entries}
    for entry in entries:
        warm_up(frontend.target(entry.upstream, entry.row.connection, entry.row.work), WARM_UP_SECONDS)
    for number in range(plan.rounds):
        for entry in entries if number % 2 == 0 else reversed(entries):
            sample = measure_run(entry.upstream, entry.row, frontend, plan.seconds)
            samples[entry].append(sample)
            run = f"{row.name} round {number + 1} of {plan.rounds}"
            progress(f"{run}: {entry.name}: {sample.cpu:.1f} us CPU/request")
    for entry in entries:
        checks[entry].append(_check(entry, frontend))
    return sorted(_lines(entries, samples, checks), key=lambda line: line.entry.row != row)


def measure_run(upstream: Upstream, row: Row, frontend: Frontend, seconds: int) -> Sample:
    """One run of a server. Raises `BenchError` when it or wrk ends, or it is busy before or after the run."""
    used = _load(upstream, frontend, frontend.target(upstream, row.connection, row.work), seconds)
    if not upstream.peer.web:
        return Sample(used.server, used.server + used.nginx, used.load)
    canned = _load(upstream, frontend, frontend.target(upstream, "canned", row.work), seconds)
    return Sample(used.server - canned.server, used.server, used.load)


class _Used(NamedTuple):
    """Microseconds of CPU per request, of the server and of the nginx before it, which a web server does not use."""

    server: float
    nginx: float
    load: Load


def _load(upstream: Upstream, frontend: Frontend, target: Target, seconds: int) -> _Used:
    pids, before_it = upstream.server.pids(), frontend.server.pids()
    wait_until_quiet([*pids, *before_it])
    before = cpu_seconds(pids), cpu_seconds(before_it)
    load = run_wrk(target, seconds)
    # Requests that wrk gave up at its end are still being worked on; they are at most one for each client.
    wait_until_quiet([*pids, *before_it])
    server, nginx = cpu_seconds(pids) - before[0], cpu_seconds(before_it) - before[1]
    if upstream.server.pids() != pids:
        raise BenchError(f"{upstream.peer.name} changed its processes during a run: its CPU time is incomplete")
    return _Used(server * 1e6 / load.requests, nginx * 1e6 / load.requests, load)


def _entries(row: Row, upstreams: Sequence[Upstream]) -> list[Entry]:
    def is_reference(upstream: Upstream) -> bool:
        return upstream.peer.name == REFERENCE_PEER

    entries = [
        Entry(row, upstream, is_reference(upstream) and row == REFERENCE_ROW)
        for upstream in upstreams
        if upstream.peer.does(row)
    ]
    if row != REFERENCE_ROW:
        # Beside the first, which is the server that the targets are for.
        entries[1:1] = [Entry(REFERENCE_ROW, upstream, True) for upstream in upstreams if is_reference(upstream)]
    return entries


def _check(entry: Entry, frontend: Frontend) -> Check:
    return checked(frontend, entry.upstream, entry.row.connection, entry.row.work)


def _lines(
    entries: Sequence[Entry], samples: dict[Entry, list[Sample]], checks: dict[Entry, list[Check]]
) -> list[Line]:
    reference = next(entry for entry in entries if entry.reference)
    # In a row of other work, the reference does not take part in that work.
    workers = {entry.upstream.peer.name: entry for entry in entries if entry.row == entries[0].row}
    lines = []
    for entry in entries:
        peer = entry.upstream.peer
        rival, base = workers.get(REFERENCE_PEER), workers.get(peer.base or "")
        floor = workers.get(FLOOR_PEER) if entry.row.name in peer.floor_limits else None
        if entry == rival or entry not in workers.values():
            rival = None
        faults = _faults(checks[entry], samples[entry])
        if entry != reference:
            faults += [f"its reference: {fault}" for fault in _faults(checks[reference], samples[reference])]
        lines.append(
            Line(
                entry,
                tuple(samples[entry]),
                _ratio(samples[entry], samples[reference]),
                _ratio(samples[entry], samples[rival]) if rival else None,
                _ratio(samples[entry], samples[base]) if base else None,
                _ratio(samples[entry], samples[floor]) if floor else None,
                sum(check.replies for check in checks[entry]),
                tuple(dict.fromkeys(faults)),
            )
        )
    return lines


def _faults(checks: Sequence[Check], samples: Sequence[Sample]) -> list[str]:
    wrong = [check.fault for check in checks if check.fault]
    return wrong + [error for sample in samples for error in sample.load.errors]


def _ratio(samples: Sequence[Sample], against: Sequence[Sample]) -> Spread:
    return Spread.of([one.cpu / other.cpu for one, other in zip(samples, against, strict=True)])
