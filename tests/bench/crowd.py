"""Hellos beside clients that keep coming to the same process of greenfcgi, and what memory they leave behind.

Each run is made with a server of its own. The clients are a process of their own, too: `crowd_clients`.
"""

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .accounting import memory
from .busy import FLAVOURS, NOTHING, PAUSE
from .candidates import greenfcgi
from .crowd_clients import BEGUN, LOADS, Load
from .errors import BenchError
from .hellos import CONNECTIONS, Asker, Hello, Latencies, asking
from .memory import MEGABYTE, resident
from .peers import Upstream, started
from .work import CANDIDATE_PEER, Connection

#: The most that the p99 may be, in milliseconds, and that the server may have grown by, in bytes.
TARGET = 50.0
MEMORY_TARGET = 10 * MEGABYTE

_PROJECT = Path(__file__).resolve().parents[2]
#: Hellos over one kind of connection before it is the other's turn.
_AT_ONCE = 20
#: Seconds after which the server has given its memory back, some beats of housekeeping, and for which it is waited.
_USUAL, _LONGEST = 2.5, 8.0
#: Seconds between two looks at its memory.
_LOOK = 0.1
#: Seconds that the clients have to come to their end.
_END = 30.0


class CrowdPlan(NamedTuple):
    """How often each run is made, and how many hellos there are in it at least over each kind of connection.

    `kills` is how many scripts are ended for want of memory in the run that does this.
    """

    rounds: int
    hellos: int
    kills: int


class CrowdLine(NamedTuple):
    """One line of the table: a flavour, who else came, the connection of the hellos, and the latencies of each round.

    `growth` is by how many bytes the server was larger in the end than before, and `replies` is how many the others
    have had, both round by round. The lines of both connections have those of the same run.
    """

    flavour: str
    load: str
    connection: Connection
    rounds: tuple[Latencies, ...]
    growth: tuple[int, ...]
    replies: tuple[int, ...]


class _Run(NamedTuple):
    """What one run found."""

    hellos: dict[Connection, list[Hello]]
    growth: int
    replies: int


def measure_crowd(plan: CrowdPlan, folder: Path, progress: Callable[[str], None]) -> list[CrowdLine]:
    """Run all rounds, in an order that turns from round to round.

    Raises `BenchError` when a reply is wrong or missing, or a server ends.
    """
    runs = list(itertools.product(FLAVOURS, (NOTHING, *LOADS)))
    found: dict[tuple[str, str], list[_Run]] = {run: [] for run in runs}
    for number in range(plan.rounds):
        for flavour, name in runs if number % 2 == 0 else reversed(runs):
            home = folder / f"crowd-{number}-{flavour}-{name}"
            home.mkdir()
            with started(greenfcgi(f"{CANDIDATE_PEER}-{flavour}", flavour), home) as upstream:
                run = _run(plan, upstream, name)
            found[flavour, name].append(run)
            p99 = ", ".join(f"{kind} p99 {Latencies.of(hellos).p99:.2f} ms" for kind, hellos in run.hellos.items())
            progress(
                f"round {number + 1} of {plan.rounds}: {flavour} beside {_title(name, plan)}: {p99}, "
                f"{run.growth / MEGABYTE:+.1f} MB, {run.replies} replies to the others"
            )
    return [
        CrowdLine(
            flavour,
            _title(name, plan),
            connection,
            tuple(Latencies.of(run.hellos[connection]) for run in of_all),
            tuple(run.growth for run in of_all),
            tuple(run.replies for run in of_all),
        )
        for (flavour, name), of_all in found.items()
        for connection in CONNECTIONS
    ]


class Clients:
    """Clients at work in a process of their own. A context manager's value, see `coming`."""

    def __init__(self, load: Load, process: subprocess.Popen[str]) -> None:
        self._load = load
        self._process = process

    def may_end(self) -> bool:
        """False while a load that has an end is not over. Raises `BenchError` when they have failed."""
        status = self._process.poll()
        if status:
            self.end()
        return not self._load.is_finite or status is not None

    def end(self) -> int:
        """Have them end, and return how many replies they have had. Raises `BenchError` when they have failed."""
        try:
            # It closes their standard input.
            output, _ = self._process.communicate(timeout=_END)
        except subprocess.TimeoutExpired:
            raise BenchError(f"the clients did not end in {_END:g} s: {self._load.title}") from None
        if self._process.returncode:
            raise _failed(output)
        return int(output)


@contextlib.contextmanager
def coming(name: str, upstream: Upstream, kills: int) -> Iterator[Clients]:
    """The clients of a load, each of which has had a reply when the block begins. With the block they are ended.

    Raises `BenchError` when one of them got a wrong reply, or none.
    """
    module = "tests.bench.crowd_clients"
    with subprocess.Popen(
        [sys.executable, "-m", module, name, str(upstream.socket), str(upstream.root), str(kills)],
        cwd=_PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            first = _first_line(process.stdout.fileno())
            if first != BEGUN:
                raise _failed(first)
            yield Clients(LOADS[name], process)
        finally:
            process.kill()


def _first_line(descriptor: int) -> str:
    """Read byte by byte: what a buffer held beyond it would be lost to `communicate`."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(descriptor, 1)):
        line += byte
    return line.decode()


def _failed(output: str) -> BenchError:
    """What a process of clients said last."""
    lines = output.strip().splitlines() or ["they said nothing"]
    return BenchError(f"the clients failed: {lines[-1].removeprefix('bench: ')}")


def _run(plan: CrowdPlan, upstream: Upstream, name: str) -> _Run:
    with contextlib.ExitStack() as stack:
        askers = {kind: stack.enter_context(asking(upstream, kind)) for kind in CONNECTIONS}
        before = resident(upstream).rss
        if name == NOTHING:
            hellos, replies = _hellos(askers, plan.hellos, lambda: True), 0
        else:
            clients = stack.enter_context(coming(name, upstream, plan.kills))
            hellos, replies = _hellos(askers, plan.hellos, clients.may_end), clients.end()
        return _Run(hellos, _growth(upstream, before), replies)


def _hellos(askers: dict[Connection, Asker], number: int, may_end: Callable[[], bool]) -> dict[Connection, list[Hello]]:
    """So many hellos over each kind of connection, and more until they may end: some over one, some over the other."""
    found: dict[Connection, list[Hello]] = {kind: [] for kind in askers}
    while not may_end() or any(len(hellos) < number for hellos in found.values()):
        for kind, asker in askers.items():
            found[kind] += asker.ask(_AT_ONCE, PAUSE)
    return found


def _growth(upstream: Upstream, before: int) -> int:
    """By how many bytes the server is larger than it was, when it has given back what it gives back."""
    pids = upstream.server.pids()
    deadline = time.monotonic() + _LONGEST
    time.sleep(_USUAL)
    while (growth := memory(pids).rss - before) > MEMORY_TARGET and time.monotonic() < deadline:
        time.sleep(_LOOK)
    return growth


def _title(name: str, plan: CrowdPlan) -> str:
    return LOADS[name].title.format(kills=plan.kills) if name in LOADS else name
