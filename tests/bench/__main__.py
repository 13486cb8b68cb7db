"""The command: `python -m tests.bench`, its options, and the order in which the parts run."""

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .command import leave, progress
from .errors import BenchError
from .frontend import frontend
from .load import wrk_program
from .machine import Setting, describe
from .memory import Holder, Holding, measure_memory, resident
from .peers import Peer, greenfcgi, php_fpm, started
from .plot import write_plot
from .report import Results, as_text, write_json
from .rounds import Line, Plan, measure_row
from .work import REFERENCE_PEER, ROWS, Row

_FULL = Plan(rounds=5, seconds=2)
_SHORT = Plan(rounds=3, seconds=1)
_MEMORY = "memory"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. 0: every line may be believed; 1: some may not; 2: it could not be measured at all."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, leave)
    try:
        results = _measure(options)
        print(as_text(results))
        if options.json:
            write_json(results, options.json)
        if options.plot:
            write_plot(results.lines, results.setting, options.plot)
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    if results.faulty:
        print("bench: some lines are INVALID, see the table", file=sys.stderr)
    return 1 if results.faulty else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="greenfcgi beside php-fpm, behind nginx"
    )
    names = [row.name for row in ROWS] + [_MEMORY]
    parser.add_argument(
        "--short", action="store_true", help="fewer rows and rounds, less than a minute: for CI"
    )
    parser.add_argument(
        "--seconds", type=_positive, help=f"length of a run (default {_FULL.seconds}, short {_SHORT.seconds})"
    )
    parser.add_argument(
        "--only", action="append", choices=names, metavar="ROW", help=f"one of {', '.join(names)}; repeatable"
    )
    parser.add_argument(
        "--null", action="store_true", help="a second php-fpm in the place of greenfcgi: ratios should be 1"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, every sample included")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the ratios (.svg, .png); needs matplotlib"
    )
    options = parser.parse_args(arguments)
    if options.null and _MEMORY in (options.only or []):
        parser.error("--null has no memory figures")
    if not _rows(options) and (options.null or options.plot):
        parser.error("--null and --plot need a row that the servers can do")
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds from 1")
    return int(text)


def _candidate(options: argparse.Namespace) -> Peer:
    return php_fpm("php-fpm-again") if options.null else greenfcgi()


def _rows(options: argparse.Namespace) -> list[Row]:
    able = [row for row in ROWS if row.connection in _candidate(options).connections]
    if options.only:
        return [row for row in able if row.name in options.only]
    return [row for row in able if row.short or not options.short]


def _measure(options: argparse.Namespace) -> Results:
    plan = _SHORT if options.short else _FULL
    if options.seconds:
        plan = plan._replace(seconds=options.seconds)
    candidate, rows = _candidate(options), _rows(options)
    lines: list[Line] = []
    holders: list[Holder] = []
    holdings: list[Holding] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        # First, since they take seconds: what is wrong with the server shows before minutes have gone.
        if not options.null and (not options.only or _MEMORY in options.only):
            holdings = measure_memory(candidate, folder, progress)
        if rows:
            setting, lines, holders = _compare([candidate, php_fpm(REFERENCE_PEER)], rows, plan, folder)
        else:
            with started(candidate, folder) as upstream:
                setting = describe([upstream])
    return Results(setting, plan, lines, holders, holdings)


def _compare(
    peers: Sequence[Peer], rows: Sequence[Row], plan: Plan, folder: Path
) -> tuple[Setting, list[Line], list[Holder]]:
    wrk_program()
    with contextlib.ExitStack() as stack:
        upstreams = [stack.enter_context(started(peer, folder)) for peer in peers]
        ready = [resident(upstream) for upstream in upstreams]
        setting = describe(upstreams)
        door = stack.enter_context(frontend(folder, upstreams))
        lines = [line for row in rows for line in measure_row(row, upstreams, door, plan, progress)]
        holders = [
            Holder(upstream.peer.name, len(upstream.server.pids()), before, resident(upstream))
            for upstream, before in zip(upstreams, ready, strict=True)
        ]
    return setting, lines, holders


if __name__ == "__main__":
    sys.exit(main())
