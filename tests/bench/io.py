"""What scripts call: `python -m tests.bench.io` measures sockets, HTTP, databases, shared dictionaries and JSON.

Each part is a module `io_NAME` beside this one, with a function `figures`. It runs in a process of its own: a Lua that
one part has loaded stays as it is, and C modules of another may need it otherwise. A part whose servers or packages are
missing is left out, and one line says what to install.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context

from .columns import aligned
from .command import carry_out, progress
from .errors import NotInstalled
from .figure import Figure

PARTS = ("sockets", "http", "sql", "shared", "text", "form", "apps")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. 0: measured, whether goals are met or not; 2: it could not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.io", description="what scripts call")
    parser.add_argument("part", nargs="*", choices=[[], *PARTS], help=f"one of {', '.join(PARTS)}; all without")
    chosen = parser.parse_args(arguments).part or PARTS
    return carry_out(lambda: _run(chosen))


def _run(parts: Sequence[str]) -> int:
    rows = [("figure", "", "", "goal")]
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for part in parts:
            progress(f"{part} ...")
            try:
                rows += [_row(part, figure) for figure in processes.submit(_figures, part).result()]
            except NotInstalled as problem:
                progress(f"{part}: {problem}")
    print(aligned(rows))
    return 0


def _figures(part: str) -> list[Figure]:
    found: list[Figure] = import_module(f"tests.bench.io_{part}").figures()
    return found


def _row(part: str, figure: Figure) -> tuple[str, str, str, str]:
    return f"{part}: {figure.name}", f"{figure.value:.4g}", figure.unit, figure.verdict


if __name__ == "__main__":
    sys.exit(main())
