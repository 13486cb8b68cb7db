"""The results as tables for people."""

from collections.abc import Sequence

from .columns import aligned
from .growth import Grown
from .load import CLIENTS
from .memory import MEGABYTE, Holder, Holding, sized
from .regression import BOUND, Comparison
from .results import Results, of_grown, of_holding, of_line, of_passed
from .rounds import Line
from .spread import Spread
from .throughput import CLIENTS as WAITING_CLIENTS
from .throughput import LIMIT, Passed
from .verdicts import Verdict
from .work import FLOOR_PEER, REFERENCE_PEER

_SPEED_HEAD = (
    "row", "server", "us CPU/request", "with nginx", "requests/s", "p50 ms", "p99 ms", "to reference", "same work",
    "target",
)  # fmt: skip


def as_text(results: Results) -> str:
    """The whole report, ready to print."""
    parts = [_heading(results)]
    if results.lines:
        parts.append(_speed_table(results.lines))
    if results.comparison and results.comparison.series:
        parts.append(_comparison_table(results.comparison))
    if results.passed:
        parts.append(_passed_table(results.passed))
    if results.grown:
        parts.append(_growth_table(results.grown))
    if results.holders:
        parts.append(_holder_table(results.holders))
    if results.holdings:
        parts.append(_holding_table(results.holdings))
    notes = [f"INVALID: {fault}. Do not use this line." for fault in results.faults]
    notes += [f"left out: {reason}" for reason in results.left_out]
    notes += results.comparison.notes if results.comparison else []
    return "\n\n".join([*parts, "\n".join(notes)] if notes else parts)


def _heading(results: Results) -> str:
    setting, plan = results.setting, results.plan
    lines = [
        f"{setting.date}, Linux {setting.kernel}, {setting.cpu}, {setting.cores} cores, "
        f"load average {setting.load_average:.2f} before",
        ", ".join(f"{name} {version}" for name, version in setting.versions.items()),
    ]
    if results.lines:
        lines.append(f"{CLIENTS} clients; medians (lowest..highest) of {plan.rounds} rounds of {plan.seconds} s")
    return "\n".join(lines)


def _speed_table(lines: Sequence[Line]) -> str:
    cells = [_SPEED_HEAD]
    for line in lines:
        loads = [sample.load for sample in line.samples]
        cells.append(
            (
                line.entry.row.name,
                line.entry.upstream.peer.name,
                _spread(Spread.of([sample.cpu for sample in line.samples]), ".1f"),
                f"{Spread.of([sample.total for sample in line.samples]).median:.1f}",
                f"{Spread.of([load.requests_per_second for load in loads]).median:.0f}",
                f"{Spread.of([load.p50 for load in loads]).median:.2f}",
                f"{Spread.of([load.p99 for load in loads]).median:.2f}",
                "reference" if line.entry.reference else _spread(line.ratio, ".2f"),
                _spread(line.same_work, ".2f") if line.same_work else "-",
                _targets(line),
            )
        )
    return aligned(cells)


def _targets(line: Line) -> str:
    if line.faults:
        return "INVALID"
    peer = line.entry.upstream.peer
    told = [f"{_spread(line.to_base, '.2f')} of {peer.base}"] if line.to_base else []
    told += [f"{_spread(line.to_floor, '.2f')} of {FLOOR_PEER}"] if line.to_floor else []
    for verdict in of_line(line):
        against = verdict.what.partition(" to ")[2]
        if against == REFERENCE_PEER:
            told.append(_verdict(verdict, f"{verdict.target:.2f}") + " at the same work")
        else:
            told.append(_verdict(verdict, f"{verdict.target:.2f} of {against}" if against else f"{verdict.target:.2f}"))
    return ", ".join(told) or "-"


def _comparison_table(comparison: Comparison) -> str:
    cells = [
        (f"beside {comparison.revision.split()[0]}", "us CPU/request", "there", "ratio", "of the quickest", "no growth")
    ]
    for series in comparison.series:
        here, there = (_spread(Spread.of(cpu), ".1f") for cpu in (series.here, series.there))
        told = f"<= {BOUND:.2f} {'no' if series.grew else 'yes'}"
        ratios = _spread(series.ratio, ".2f"), f"{series.quickest:.2f}"
        cells.append((series.row, here, there, *ratios, "INVALID" if series.faults else told))
    return aligned(cells)


def _passed_table(lines: Sequence[Passed]) -> str:
    what = f"{WAITING_CLIENTS} clients, script waits 100 ms"
    cells = [(what, "requests/s", f"of {LIMIT:g}", "target")]
    for line in lines:
        verdict = of_passed(line)
        cells.append(
            (
                line.peer,
                _spread(line.rate, ".0f"),
                f"{line.rate.median / LIMIT:.1%}",
                "INVALID" if line.faults else _verdict(verdict, f"{verdict.target:g}") if verdict else "-",
            )
        )
    return aligned(cells)


def _growth_table(grown: Sequence[Grown]) -> str:
    cells = [("a hello with", "us CPU/request", "to the least", "target")]
    for point in grown:
        verdict = of_grown(point)
        cells.append(
            (
                f"{point.point.number:,} {point.point.kind}",
                _spread(Spread.of(point.cpu), ".1f"),
                _spread(point.ratio, ".2f") if verdict else "-",
                _verdict(verdict, f"{verdict.target:.2f}") if verdict else "-",
            )
        )
    return aligned(cells)


def _holder_table(holders: Sequence[Holder]) -> str:
    cells = [("memory, MB", "processes", "PSS ready", "RSS ready", "PSS after load", "RSS after load")]
    for holder in holders:
        sizes = (holder.ready.pss, holder.ready.rss, holder.loaded.pss, holder.loaded.rss)
        one, two, three, four = (f"{size / MEGABYTE:.2f}" for size in sizes)
        cells.append((holder.peer, str(holder.processes), one, two, three, four))
    return aligned(cells)


def _holding_table(holdings: Sequence[Holding]) -> str:
    cells = [("memory", "RSS", "PSS", "target")]
    for holding in holdings:
        verdict = of_holding(holding)
        told = f"{holding.kind.upper()} {_verdict(verdict, sized(verdict.target))}" if verdict else "-"
        cells.append((holding.name, sized(holding.rss), sized(holding.pss), told))
    return aligned(cells)


def _verdict(verdict: Verdict, target: str) -> str:
    return f"{'>=' if verdict.least else '<='} {target} {'met' if verdict.met else 'MISSED'}"


def _spread(spread: Spread, form: str) -> str:
    return f"{spread.median:{form}} ({spread.low:{form}}..{spread.high:{form}})"
