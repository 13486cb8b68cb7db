"""Pairs of runs: a row of the table is some rounds in which each server is loaded once, in alternating order.

Each round also holds the reference, so a ratio compares two runs that lie seconds apart, and what the machine
does meanwhile hits both. It decides nothing about targets and prints only progress.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .accounting import cpu_seconds, wait_until_quiet
from .errors import BenchError
from .frontend import Frontend
from .load import Load, run_wrk
from .peers import Upstream
from .replies import wrong_reply
from .spread import Spread
from .work import REFERENCE_PEER, REFERENCE_ROW, Row

_WARM_UP_SECONDS = 1


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
    """One run: microseconds of server CPU per request, and what the clients saw."""

    cpu: float
    load: Load


class Line(NamedTuple):
    """An entry with its samples, one a round, and its ratios of CPU per request, taken round by round.

    `ratio` is to the reference, `same_work` to php-fpm at the same work (None where it has no such line).
    `faults` says why the line must not be believed; empty when it may.
    """

    entry: Entry
    samples: tuple[Sample, ...]
    ratio: Spread
    same_work: Spread | None
    faults: tuple[str, ...]


def measure_row(
    row: Row, upstreams: Sequence[Upstream], frontend: Frontend, plan: Plan, progress: Callable[[str], None]
) -> list[Line]:
    """Run all rounds of one row. Raises `BenchError` when a server or wrk ends or falls silent."""
    entries = _entries(row, upstreams)
    faults: dict[Entry, list[str]] = {entry: _check(entry, frontend) for entry in entries}
    samples: dict[Entry, list[Sample]] = {entry: [] for entry in entries}
    for entry in entries:
        run_wrk(_url(entry, frontend), _WARM_UP_SECONDS)
    for number in range(plan.rounds):
        for entry in entries if number % 2 == 0 else reversed(entries):
            sample = _run(entry, frontend, plan.seconds)
            samples[entry].append(sample)
            faults[entry].extend(sample.load.errors)
            run = f"{row.name} round {number + 1} of {plan.rounds}"
            progress(f"{run}: {entry.name}: {sample.cpu:.1f} us CPU/request")
    for entry in entries:
        faults[entry].extend(_check(entry, frontend))
    return _lines(row, entries, samples, faults)


def _entries(row: Row, upstreams: Sequence[Upstream]) -> list[Entry]:
    def is_reference(upstream: Upstream) -> bool:
        return upstream.peer.name == REFERENCE_PEER

    entries = [
        Entry(row, upstream, is_reference(upstream) and row == REFERENCE_ROW)
        for upstream in upstreams
        if row.connection in upstream.peer.connections
    ]
    if row != REFERENCE_ROW:
        entries += [Entry(REFERENCE_ROW, upstream, True) for upstream in upstreams if is_reference(upstream)]
    return entries


def _check(entry: Entry, frontend: Frontend) -> list[str]:
    wrong = wrong_reply(frontend, entry.upstream, entry.row.connection, entry.row.work)
    return [wrong] if wrong else []


def _url(entry: Entry, frontend: Frontend) -> str:
    return frontend.url(entry.upstream, entry.row.connection, entry.row.work)


def _run(entry: Entry, frontend: Frontend, seconds: int) -> Sample:
    pids = entry.upstream.server.pids()
    wait_until_quiet(pids)
    before = cpu_seconds(pids)
    load = run_wrk(_url(entry, frontend), seconds)
    # Requests that wrk gave up at its end are still being worked on; they are at most one for each client.
    wait_until_quiet(pids)
    used = cpu_seconds(pids) - before
    if entry.upstream.server.pids() != pids:
        raise BenchError(
            f"{entry.upstream.peer.name} changed its processes during a run: its CPU time is incomplete"
        )
    return Sample(used * 1e6 / load.requests, load)


def _lines(
    row: Row, entries: Sequence[Entry], samples: dict[Entry, list[Sample]], faults: dict[Entry, list[str]]
) -> list[Line]:
    reference = next(entry for entry in entries if entry.reference)
    rival = next(
        (entry for entry in entries if entry.upstream.peer.name == REFERENCE_PEER and entry.row == row), None
    )
    lines = []
    for entry in entries:
        ratio = _ratio(samples[entry], samples[reference])
        comparable = rival is not None and entry.row == row and entry != rival
        same_work = _ratio(samples[entry], samples[rival]) if rival and comparable else None
        reasons = list(faults[entry])
        if entry != reference:
            reasons += [f"its reference: {fault}" for fault in faults[reference]]
        unique = tuple(dict.fromkeys(reasons))
        lines.append(Line(entry, tuple(samples[entry]), ratio, same_work, unique))
    return lines


def _ratio(samples: Sequence[Sample], against: Sequence[Sample]) -> Spread:
    return Spread.of([one.cpu / other.cpu for one, other in zip(samples, against, strict=True)])
