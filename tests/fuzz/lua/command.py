"""The command line: `python -m tests.fuzz lua`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from ...support.inside import FLAVOURS
from .campaign import LATE, PATIENCE, Result, confirm, run_all, run_texts, summary
from .child import Program
from .programs import program_text

#: The same while a program is made smaller.
_SHORT = 6.0


def main(arguments: Sequence[str]) -> int:
    """Run programs and print what became of them; 1 when one has failed."""
    options = _parser().parse_args(arguments)
    flavours = list(FLAVOURS) if options.flavour == "all" else options.flavour.split(",")
    if options.show:
        for flavour in flavours:
            print(program_text(options.first, flavour))
        return 0
    if options.file:
        with open(options.file, encoding="utf-8", errors="surrogateescape") as file:
            program = Program(options.first, file.read())
        found = [run_texts(one, [program], whole_server=options.server, patience=options.patience) for one in flavours]
        for result in (one for results in found for one in results):
            print(
                result.flavour, result.outcome, f"{result.late:.1f} s late" if result.late > LATE else "", result.detail
            )
        return int(any(one.is_failure for results in found for one in results))
    return _campaign(flavours, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz lua", description=__doc__)
    parser.add_argument("--flavour", default="all", help="one of them, several with commas, or all")
    parser.add_argument("--count", type=int, default=1000, help="programs in each flavour (1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (1)")
    parser.add_argument("--server", action="store_true", help="in a whole server each batch, not in states alone")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE, help=f"seconds until a program hangs ({PATIENCE:g})"
    )
    parser.add_argument("--quick", action="store_true", help="do not try what failed again")
    parser.add_argument("--show", action="store_true", help="print the program of the first seed, and run nothing")
    parser.add_argument("--file", help="run this program with the settings of the first seed")
    return parser


def _campaign(flavours: list[str], options: argparse.Namespace) -> int:
    started = time.monotonic()
    counts: dict[str, Counter[str]] = {flavour: Counter() for flavour in flavours}
    failures: list[Result] = []
    late: list[tuple[float, str, int]] = []
    results = run_all(
        flavours,
        options.first,
        options.count,
        jobs=options.jobs,
        whole_server=options.server,
        patience=options.patience,
    )
    for result in results:
        counts[result.flavour][result.outcome.split(":")[0]] += 1
        if result.late > LATE:
            late.append((result.late, result.flavour, result.seed))
        if result.is_failure:
            failures.append(result)
            print(f"{result.flavour} {result.seed}: {result.outcome}\n{result.detail[-1500:]}", flush=True)
    seconds = time.monotonic() - started
    print(summary(counts))
    print(
        f"{sum(counter.total() for counter in counts.values()):,} programs in {seconds:.0f} s, {len(failures)} failed"
    )
    for seconds, flavour, seed in sorted(late, reverse=True)[:10]:
        print(f"late by {seconds:.1f} s: {flavour} {seed}")
    for result in [] if options.quick else failures:
        verdict = confirm(result, whole_server=options.server, patience=min(options.patience, _SHORT))
        print(f"\n{result.flavour} {result.seed}: {result.outcome}, {verdict.when}\n{verdict.text}", flush=True)
    sys.stdout.flush()
    return int(bool(failures))
