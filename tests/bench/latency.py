"""The second command: `python -m tests.bench.latency`, how long a hello takes beside what holds a server up.

Three parts: `busy`, beside scripts that compute without end; `idle`, with thousands of idle connections; and `crowd`,
beside clients that keep coming.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .busy import FLAVOURS, BusyPlan, busy_peer, measure_busy
from .command import carry_out, progress
from .crowd import CrowdPlan, measure_crowd
from .idle import IdlePlan, measure_idle
from .latency_report import Plan, Results, as_text, write_json
from .machine import Setting, describe
from .peers import started

_FULL = Plan(
    BusyPlan(rounds=5, hellos=200),
    IdlePlan(rounds=9, hellos=1000, seconds=5),
    CrowdPlan(rounds=3, hellos=200, kills=300),
)
_SHORT = Plan(
    BusyPlan(rounds=2, hellos=100),
    IdlePlan(rounds=3, hellos=250, seconds=3),
    CrowdPlan(rounds=1, hellos=100, kills=100),
)
_PARTS = ("busy", "idle", "crowd")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. 0: it was measured; 2: it could not be."""
    options = _options(arguments)
    return carry_out(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    parts = ["idle"] if options.null else options.only or _PARTS
    results = _measure(parts, _SHORT if options.short else _FULL, options.null)
    print(as_text(results))
    if options.json:
        write_json(results, options.json)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.latency", description="how long a hello takes beside what holds a server up"
    )
    parser.add_argument("--short", action="store_true", help="fewer and shorter rounds, five minutes: for CI")
    parser.add_argument("--only", action="append", choices=_PARTS, help="one of the three parts; can be repeated")
    parser.add_argument(
        "--null", action="store_true", help="idle only, with no idle connections on either server: ratios should be 1"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, every round included")
    options = parser.parse_args(arguments)
    if options.null and {*(options.only or [])} - {"idle"}:
        parser.error("--null is for the part idle")
    return options


def _measure(parts: Sequence[str], plan: Plan, null: bool) -> Results:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        setting = _setting(folder)
        busy = measure_busy(plan.busy, folder, progress) if "busy" in parts else None
        idle = measure_idle(plan.idle, folder, progress, null) if "idle" in parts else None
        crowd = measure_crowd(plan.crowd, folder, progress) if "crowd" in parts else None
    return Results(setting, plan, busy, idle, crowd)


def _setting(folder: Path) -> Setting:
    with contextlib.ExitStack() as stack:
        return describe([stack.enter_context(started(busy_peer(flavour), folder)) for flavour in FLAVOURS])


if __name__ == "__main__":
    sys.exit(main())
