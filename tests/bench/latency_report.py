"""The latencies as tables for people and as JSON for programs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .busy import SCRIPTS_AT_ONCE, BusyLine, BusyPlan
from .columns import aligned
from .crowd import MEMORY_TARGET, TARGET, CrowdLine, CrowdPlan
from .hellos import Latencies
from .idle import IdlePlan, IdleResults
from .machine import Setting
from .memory import MEGABYTE
from .spread import Spread


class Plan(NamedTuple):
    """The plans of all parts."""

    busy: BusyPlan
    idle: IdlePlan
    crowd: CrowdPlan


class Results(NamedTuple):
    """All that one run found; a part that was not asked for is None."""

    setting: Setting
    plan: Plan
    busy: Sequence[BusyLine] | None
    idle: IdleResults | None
    crowd: Sequence[CrowdLine] | None


def as_text(results: Results) -> str:
    """The whole report, ready to print."""
    setting, plan = results.setting, results.plan
    parts = [
        f"{setting.date}, Linux {setting.kernel}, {setting.cpu}, {setting.cores} cores, "
        f"load average {setting.load_average:.2f} before\n"
        + ", ".join(f"{name} {version}" for name, version in setting.versions.items())
    ]
    if results.busy is not None:
        parts.append(
            f"hellos beside {SCRIPTS_AT_ONCE} endless scripts in one process; ms, medians (lowest..highest) of "
            f"{plan.busy.rounds} rounds of {plan.busy.hellos} hellos, the worst of all\n{_busy_table(results.busy)}"
        )
    if results.idle is not None:
        parts.append(
            "hellos with idle kept connections on the same process; ms, medians (lowest..highest) of "
            f"{plan.idle.rounds} rounds of {plan.idle.hellos} hellos, the worst of all\n{_idle_table(results.idle)}"
        )
        parts.append(
            f"nothing asked; medians (lowest..highest) of {plan.idle.rounds} rounds of {plan.idle.seconds:g} s\n"
            f"{_cpu_table(results.idle)}"
        )
    if results.crowd is not None:
        parts.append(
            "hellos beside clients that keep coming to one process; ms, medians (lowest..highest) of "
            f"{plan.crowd.rounds} rounds of {plan.crowd.hellos} hellos or more, the worst of all; memory after less "
            f"before\n{_crowd_table(results.crowd)}"
        )
    return "\n\n".join(parts)


def write_json(results: Results, path: Path) -> None:
    """Write it all, every round too: latencies in ms, CPU in ms per second, memory in bytes."""
    document: dict[str, object] = {
        "setting": results.setting._asdict(),
        "plan": {name: plan._asdict() for name, plan in results.plan._asdict().items()},
    }
    if results.busy is not None:
        document["busy"] = [
            {**line._asdict(), "rounds": _as_json(line.rounds), "target": line.target} for line in results.busy
        ]
    if results.idle is not None:
        idle = results.idle
        document["idle"] = [
            {
                "idle": line.side.idle,
                "connection": line.connection,
                "rounds": _as_json(line.rounds),
                "ratio": found._asdict() if (found := idle.ratio(line)) else None,
                "undisturbed": _as_json(line.undisturbed),
                "undisturbed_ratio": found._asdict() if (found := idle.undisturbed_ratio(line)) else None,
            }
            for line in idle.lines
        ]
        document["cpu"] = [{"idle": one.side.idle, "rounds": one.rounds} for one in idle.cpu]
    if results.crowd is not None:
        document["crowd"] = [
            {
                **line._asdict(),
                "rounds": _as_json(line.rounds),
                "target": TARGET,
                "growth_target": MEMORY_TARGET,
            }
            for line in results.crowd
        ]
    path.write_text(json.dumps(document, indent=2) + "\n")


def _busy_table(lines: Sequence[BusyLine]) -> str:
    cells = [("Lua", "beside", "connection", "p50", "p99", "worst", "waited", "target of p99")]
    for line in lines:
        verdict = "-" if line.target is None else _p99_verdict(line.rounds, line.target)
        cells.append((line.flavour, line.load, line.connection, *_latencies(line.rounds), verdict))
    return aligned(cells)


def _crowd_table(lines: Sequence[CrowdLine]) -> str:
    cells: list[tuple[str, ...]] = [
        ("Lua", "beside", "connection", "p50", "p99", "worst", "waited", "target of p99", "MB more", "target of MB")
    ]
    for line in lines:
        growth = Spread.of([one / MEGABYTE for one in line.growth])
        found = (*_latencies(line.rounds), _p99_verdict(line.rounds, TARGET), _spread(growth, 1))
        verdict = _verdict(growth.median, MEMORY_TARGET / MEGABYTE)
        cells.append((line.flavour, line.load, line.connection, *found, verdict))
    return aligned(cells)


def _p99_verdict(rounds: Sequence[Latencies], target: float) -> str:
    return _verdict(Spread.of([one.p99 for one in rounds]).median, target)


def _verdict(found: float, target: float) -> str:
    return f"<= {target:g} {'met' if found <= target else 'MISSED'}"


def _idle_table(results: IdleResults) -> str:
    cells = [("idle connections", "connection", "p50", "p99", "worst", "waited", "p99 to that above")]
    undisturbed = [("undisturbed", "connection", "p50", "p99", "worst", "p99 to that above")]
    for line in results.lines:
        idle, ratio, other = f"{line.side.idle:,}", results.ratio(line), results.undisturbed_ratio(line)
        cells.append((idle, line.connection, *_latencies(line.rounds, 3), _spread(ratio, 2) if ratio else "-"))
        p50, p99, worst, _ = _latencies(line.undisturbed, 3)
        undisturbed.append((idle, line.connection, p50, p99, worst, _spread(other, 2) if other else "-"))
    return f"{aligned(cells)}\n\n{aligned(undisturbed)}"


def _cpu_table(results: IdleResults) -> str:
    cells = [("idle connections", "ms CPU/s")]
    cells += [(f"{one.side.idle:,}", _spread(Spread.of(one.rounds), 2)) for one in results.cpu]
    return aligned(cells)


def _latencies(rounds: Sequence[Latencies], digits: int = 2) -> tuple[str, str, str, str]:
    worst = max(rounds, key=lambda one: one.worst)
    return (
        _spread(Spread.of([one.p50 for one in rounds]), digits),
        _spread(Spread.of([one.p99 for one in rounds]), digits),
        f"{worst.worst:.2f}",
        f"{worst.worst_waited:.2f}",
    )


def _spread(spread: Spread, digits: int) -> str:
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}..{spread.high:.{digits}f})"


def _as_json(rounds: Sequence[Latencies]) -> list[dict[str, float]]:
    return [one._asdict() for one in rounds]
