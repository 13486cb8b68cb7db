"""All that one run of the benchmark found, and the verdicts on what has a target."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .growth import Grown
from .machine import Setting
from .memory import Holder, Holding
from .regression import Comparison
from .rounds import Line, Plan
from .throughput import Passed
from .verdicts import Verdict
from .work import CANDIDATE_PEER, FLOOR_PEER, REFERENCE_PEER


class Results(NamedTuple):
    """The parts that were not asked for are empty. `left_out` says which servers are missing, and why."""

    setting: Setting
    plan: Plan
    lines: Sequence[Line]
    passed: Sequence[Passed]
    grown: Sequence[Grown]
    holders: Sequence[Holder]
    holdings: Sequence[Holding]
    left_out: Sequence[str]
    comparison: Comparison | None = None

    @property
    def faults(self) -> list[str]:
        """Why some line must not be believed, a line of text for each reason."""
        found = [f"{line.entry.name}: {fault}" for line in self.lines for fault in line.faults]
        found += [f"{line.peer} with waiting clients: {fault}" for line in self.passed for fault in line.faults]
        return found + (self.comparison.faults if self.comparison else [])

    @property
    def verdicts(self) -> list[Verdict]:
        """On everything that has a target and may be believed, in the order of the report."""
        found = [verdict for line in self.lines if not line.faults for verdict in of_line(line)]
        found += [verdict for line in self.passed if not line.faults and (verdict := of_passed(line))]
        found += [verdict for point in self.grown if (verdict := of_grown(point))]
        return found + self.memory_verdicts

    @property
    def memory_verdicts(self) -> list[Verdict]:
        """On bytes, which do not depend on what else the machine does."""
        return [verdict for holding in self.holdings if (verdict := of_holding(holding))]


def of_line(line: Line) -> Iterator[Verdict]:
    """On the ratios of a line: to the reference, to php-fpm at the same work, to its base, and to the floor."""
    peer, row = line.entry.upstream.peer, line.entry.row
    if peer.name == CANDIDATE_PEER and row.target is not None:
        yield Verdict(line.entry.name, line.ratio.median, row.target)
    if peer.name == CANDIDATE_PEER and row.rival is not None and line.same_work:
        yield Verdict(f"{line.entry.name} to {REFERENCE_PEER}", line.same_work.median, row.rival)
    if row.name in peer.limits and line.to_base:
        yield Verdict(f"{line.entry.name} to {peer.base}", line.to_base.median, peer.limits[row.name])
    if row.name in peer.floor_limits and line.to_floor:
        yield Verdict(f"{line.entry.name} to {FLOOR_PEER}", line.to_floor.median, peer.floor_limits[row.name])


def of_passed(line: Passed) -> Verdict | None:
    """On requests a second; None without a target."""
    if line.target is None:
        return None
    return Verdict(f"{line.peer} with waiting clients, requests/s", line.rate.median, line.target, least=True)


def of_grown(point: Grown) -> Verdict | None:
    """On the growth of a hello's cost; None for what the others are compared with."""
    if point.first:
        return None
    return Verdict(f"{point.point.number} {point.point.kind}", point.ratio.median, point.point.target)


def of_holding(holding: Holding) -> Verdict | None:
    """On bytes; None without a target."""
    return None if holding.target is None else Verdict(holding.name, holding.found, holding.target)
