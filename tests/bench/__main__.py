"""The command: `python -m tests.bench`, its options, and what it exits with."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .command import carry_out, progress
from .parts import GROWTH, MEMORY, NAMES, REGRESSION, WAITING, Choice, available, measure
from .plot import write_plot
from .record import write_json
from .regression import BOUND
from .report import as_text
from .results import Results
from .rounds import Plan
from .verdicts import ROOM

_FULL = Plan(rounds=4, seconds=1)
_SHORT = Plan(rounds=3, seconds=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    0: every line may be believed; 1: some may not, a hello has grown beside another revision, or in the short form
    memory is far beyond a target; 2: it could not be measured at all.
    """
    options = _options(arguments)
    return carry_out(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        results = measure(_choice(options), Path(folder), progress)
    print(as_text(results))
    if options.json:
        write_json(results, options.json)
    if options.plot:
        write_plot(results.lines, results.setting, options.plot)
    return _status(results, options.short)


def _status(results: Results, short: bool) -> int:
    """Say what is wrong, and return the exit status for it."""
    wrong = ["some lines are INVALID, see the table"] if results.faults else []
    if short:
        wrong += [
            f"{verdict.what}: {verdict.found:.4g}, beyond {verdict.target:.4g} by more than a factor of {ROOM:g}"
            for verdict in results.memory_verdicts
            if verdict.failed
        ]
    if results.comparison:
        wrong += [
            f"{row} takes more CPU than in {results.comparison.revision}: by more than {BOUND - 1:.0%}, in two series"
            for row in results.comparison.grown
        ]
    for line in wrong:
        print(f"bench: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="greenfcgi beside other FastCGI servers, behind nginx"
    )
    parser.add_argument(
        "--short", action="store_true", help="fewer rows, servers and rounds, less than a minute: for CI"
    )
    parser.add_argument(
        "--seconds", type=_positive, help=f"length of a run (default {_FULL.seconds}, short {_SHORT.seconds})"
    )
    parser.add_argument(
        "--rounds", type=_positive, help=f"runs of each line (default {_FULL.rounds}, short {_SHORT.rounds})"
    )
    parser.add_argument(
        "--only", action="append", choices=NAMES, metavar="PART", help=f"one of {', '.join(NAMES)}; repeatable"
    )
    parser.add_argument(
        "--peers", metavar="NAMES", type=_names, help=f"these servers, with commas between: {', '.join(available())}"
    )
    parser.add_argument(
        "--null", action="store_true", help="a second php-fpm in the place of greenfcgi: ratios should be 1"
    )
    parser.add_argument(
        "--against",
        metavar="REVISION",
        help="measure the server of this revision beside the one here, at hellos (short form: the parent of HEAD)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, every sample included")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios (.svg, .png); needs matplotlib")
    options = parser.parse_args(arguments)
    choice = _choice(options)
    if options.null and (options.peers or {MEMORY, GROWTH, WAITING, REGRESSION} & set(options.only or [])):
        parser.error("--null chooses the servers itself, and has only rows")
    if options.against is not None and not choice.compares:
        parser.error(f"--against is of no use with --null, or with --only unless that names {REGRESSION}")
    if not choice.rows and (options.null or options.plot):
        parser.error("--null and --plot need a row that the servers can do")
    return options


def _choice(options: argparse.Namespace) -> Choice:
    plan = _SHORT if options.short else _FULL
    plan = plan._replace(seconds=options.seconds or plan.seconds, rounds=options.rounds or plan.rounds)
    return Choice(plan, options.short, options.only or [], options.peers or [], options.null, options.against)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _names(text: str) -> list[str]:
    names = text.split(",")
    wrong = [name for name in names if name not in available()]
    if wrong:
        raise argparse.ArgumentTypeError(f"there is no {wrong[0]!r}: choose from {', '.join(available())}")
    return names


if __name__ == "__main__":
    sys.exit(main())
