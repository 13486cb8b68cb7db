"""The results as a table for people and as JSON for programs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .columns import aligned
from .load import CLIENTS
from .machine import Setting
from .memory import Holder, Holding
from .rounds import Line, Plan
from .spread import Spread
from .work import CANDIDATE_PEER, REFERENCE_PEER, REFERENCE_ROW

_MEGABYTE = 1 << 20


class Results(NamedTuple):
    """All that one run of the benchmark found; the parts that were not asked for are empty."""

    setting: Setting
    plan: Plan
    lines: Sequence[Line]
    holders: Sequence[Holder]
    holdings: Sequence[Holding]

    @property
    def faulty(self) -> bool:
        """Whether some line must not be believed."""
        return any(line.faults for line in self.lines)


def as_text(results: Results) -> str:
    """The whole report, ready to print."""
    parts = [_heading(results)]
    if results.lines:
        parts.append(_speed_table(results.lines))
    if results.holders:
        parts.append(_holder_table(results.holders))
    if results.holdings:
        parts.append(_holding_table(results.holdings))
    return "\n\n".join(parts)


def write_json(results: Results, path: Path) -> None:
    """Write it all, every sample too: sizes in bytes, latencies in ms, CPU in microseconds per request."""
    document = {
        "setting": results.setting._asdict(),
        "plan": {**results.plan._asdict(), "clients": CLIENTS},
        "reference": f"{REFERENCE_PEER} {REFERENCE_ROW.name}",
        "rows": [_line_as_json(line) for line in results.lines],
        "servers": [
            {**holder._asdict(), "ready": holder.ready._asdict(), "loaded": holder.loaded._asdict()}
            for holder in results.holders
        ],
        "memory": [holding._asdict() for holding in results.holdings],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def target_of(line: Line) -> float | None:
    """The ratio that this line must not pass; None for a server without targets."""
    return line.entry.row.target if line.entry.upstream.peer.name == CANDIDATE_PEER else None


def _heading(results: Results) -> str:
    setting, plan = results.setting, results.plan
    lines = [
        f"{setting.date}, Linux {setting.kernel}, {setting.cpu}, {setting.cores} cores, "
        f"load average {setting.load_average:.2f} before",
        ", ".join(f"{name} {version}" for name, version in setting.versions.items()),
    ]
    if results.lines:
        lines.append(
            f"{CLIENTS} clients; medians (lowest..highest) of {plan.rounds} rounds of {plan.seconds} s"
        )
    return "\n".join(lines)


def _speed_table(lines: Sequence[Line]) -> str:
    head = (
        "row",
        "server",
        "us CPU/request",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "to reference",
        "same work",
        "target",
    )
    cells = [head]
    for line in lines:
        loads = [sample.load for sample in line.samples]
        target = target_of(line)
        cells.append(
            (
                line.entry.row.name,
                line.entry.upstream.peer.name,
                _spread(Spread.of([sample.cpu for sample in line.samples]), ".1f"),
                f"{Spread.of([load.requests_per_second for load in loads]).median:.0f}",
                f"{Spread.of([load.p50 for load in loads]).median:.2f}",
                f"{Spread.of([load.p99 for load in loads]).median:.2f}",
                "reference" if line.entry.reference else _spread(line.ratio, ".2f"),
                _spread(line.same_work, ".2f") if line.same_work else "-",
                "-" if target is None else _verdict(line.ratio.median, target, f"{target:.2f}"),
            )
        )
    faults = [
        f"INVALID: {line.entry.name}: {fault}. Do not use this line."
        for line in lines
        for fault in line.faults
    ]
    return "\n".join([aligned(cells), *faults])


def _holder_table(holders: Sequence[Holder]) -> str:
    cells = [("memory, MB", "processes", "PSS ready", "RSS ready", "PSS after load", "RSS after load")]
    for holder in holders:
        sizes = (holder.ready.pss, holder.ready.rss, holder.loaded.pss, holder.loaded.rss)
        one, two, three, four = (_megabytes(size) for size in sizes)
        cells.append((holder.peer, str(holder.processes), one, two, three, four))
    return aligned(cells)


def _holding_table(holdings: Sequence[Holding]) -> str:
    cells = [("greenfcgi memory, MB", "RSS", "PSS", "target")]
    for holding in holdings:
        verdict = _verdict(holding.rss, holding.target, _megabytes(holding.target))
        cells.append((holding.name, _megabytes(holding.rss), _megabytes(holding.pss), verdict))
    return aligned(cells)


def _line_as_json(line: Line) -> dict[str, object]:
    return {
        "row": line.entry.row.name,
        "server": line.entry.upstream.peer.name,
        "reference": line.entry.reference,
        "cpu": Spread.of([sample.cpu for sample in line.samples])._asdict(),
        "ratio": line.ratio._asdict(),
        "same_work": line.same_work._asdict() if line.same_work else None,
        "target": target_of(line),
        "samples": [{"cpu": sample.cpu, **sample.load._asdict()} for sample in line.samples],
        "faults": line.faults,
    }


def _verdict(found: float, target: float, text: str) -> str:
    return f"<= {text} {'met' if found <= target else 'MISSED'}"


def _megabytes(size: int) -> str:
    return f"{size / _MEGABYTE:.2f}"


def _spread(spread: Spread, form: str) -> str:
    return f"{spread.median:{form}} ({spread.low:{form}}..{spread.high:{form}})"
