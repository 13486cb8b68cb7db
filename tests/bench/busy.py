"""Hellos beside scripts that compute without end, in the same process of greenfcgi.

Each run is made with a server of its own, since nothing but the end of the server ends such a script.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .candidates import greenfcgi
from .client import FastCGIClient
from .errors import BenchError
from .hellos import CONNECTIONS, Latencies, asking
from .peers import Peer, Upstream, started
from .work import CANDIDATE_PEER, Connection

FLAVOURS = ("luajit21", "lua54", "lua51")
#: What runs beside the hellos, by the name of its script: nothing, an empty loop, one that makes strings, and one
#: that calls such a loop in pcall again and again.
NOTHING = "nothing"
LOADS = (NOTHING, "endless-loop", "endless-text", "endless-pcall")
SCRIPTS_AT_ONCE = 8
#: Milliseconds that 99 of 100 hellos may take beside any load.
TARGET = 50.0

#: One process; the scripts get no end within a run, and the server does not wait for them at its own.
_SETTINGS = "processes = 0\ntimeout = 300\ngraceful_timeout = 0\n"
#: Seconds from one hello to the next: more than a turn of a script, so that hellos come at any moment of it.
PAUSE = 0.015


class BusyPlan(NamedTuple):
    """How often each run is made, and how many hellos are asked in it over each kind of connection."""

    rounds: int
    hellos: int


class BusyLine(NamedTuple):
    """One line of the table: a flavour, what ran beside, the connection, and the latencies of each round."""

    flavour: str
    load: str
    connection: Connection
    rounds: tuple[Latencies, ...]

    @property
    def target(self) -> float | None:
        """The most that the p99 may be, in milliseconds; None where nothing runs beside."""
        return None if self.load == NOTHING else TARGET


def busy_peer(flavour: str) -> Peer:
    """greenfcgi as it is measured here, with the flavour of Lua in its name."""
    return greenfcgi(f"{CANDIDATE_PEER}-{flavour}", flavour, _SETTINGS)


def measure_busy(plan: BusyPlan, folder: Path, progress: Callable[[str], None]) -> list[BusyLine]:
    """Run all rounds, in an order that turns from round to round.

    Raises `BenchError` when a reply is wrong, a script ends, or a server does.
    """
    lines = list(itertools.product(FLAVOURS, LOADS, CONNECTIONS))
    samples: dict[tuple[str, str, Connection], list[Latencies]] = {line: [] for line in lines}
    runs = list(itertools.product(FLAVOURS, LOADS))
    for number in range(plan.rounds):
        for flavour, load in runs if number % 2 == 0 else reversed(runs):
            home = folder / f"busy-{number}-{flavour}-{load}"
            home.mkdir()
            with started(busy_peer(flavour), home) as upstream, _computing(upstream, load):
                for connection in CONNECTIONS:
                    with asking(upstream, connection) as asker:
                        found = Latencies.of(asker.ask(plan.hellos, PAUSE))
                    samples[flavour, load, connection].append(found)
                    run = f"round {number + 1} of {plan.rounds}: {flavour} beside {load}, {connection}"
                    progress(f"{run}: p99 {found.p99:.2f} ms, worst {found.worst:.2f} ms")
    return [BusyLine(*line, tuple(samples[line])) for line in lines]


@contextlib.contextmanager
def _computing(upstream: Upstream, load: str) -> Iterator[None]:
    """Keep the scripts of a load going until the block ends. Raises `BenchError` when one has ended before."""
    if load == NOTHING:
        yield
        return
    script = upstream.script(load)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(FastCGIClient(upstream.socket)) for _ in range(SCRIPTS_AT_ONCE)]
        for client in clients:
            client.begin(script)
        yield
        ended = sum(not client.silent() for client in clients)
        if ended:
            raise BenchError(f"{ended} of {SCRIPTS_AT_ONCE} scripts ({script.name}) ended during a run")
