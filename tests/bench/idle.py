"""Hellos with thousands of idle kept connections on the same process of greenfcgi, and with none.

Two servers run at the same time, one with the connections and one without, and are asked in turn. Each of the
connections has had one hello. Housekeeping looks at all of them once a second, which is its default.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .accounting import cpu_seconds, open_connections, wait_until_quiet
from .candidates import greenfcgi
from .client import FastCGIClient
from .descriptors import allow_descriptors
from .errors import BenchError
from .hellos import CONNECTIONS, Hello, Latencies, asking, check_hello, undisturbed
from .peers import Upstream, started
from .spread import Spread
from .work import HELLO, Connection

IDLE_CONNECTIONS = 10_000

#: One process, which closes no connection for being idle while it is measured.
_SETTINGS = "processes = 0\nkeepalive = 3600\n"
#: The server keeps back 192 for its workers and their files, the measuring process needs fewer.
_SPARE_DESCRIPTORS = 300
#: Seconds from one hello to the next: a run of a thousand lasts for some beats of housekeeping.
_PAUSE = 0.004
#: Hellos of one server before it is the other's turn: what the machine does meanwhile lasts longer, and hits both.
_AT_ONCE = 50


class IdlePlan(NamedTuple):
    """Rounds, hellos in each over each kind of connection, and seconds for which the CPU of idle servers is read.

    `hellos` is a multiple of 50.
    """

    rounds: int
    hellos: int
    seconds: float


class Side(NamedTuple):
    """One of the two servers: whether it is the one that all is compared with, and how many idle connections it has."""

    base: bool
    idle: int


class IdleLine(NamedTuple):
    """One line of the table: the server, the connection of the hellos, the latencies of each round.

    `undisturbed` are those of the hellos in each round from which other programs took no CPU.
    """

    side: Side
    connection: Connection
    rounds: tuple[Latencies, ...]
    undisturbed: tuple[Latencies, ...]


class IdleCpu(NamedTuple):
    """Milliseconds of CPU in each second that a server uses which is asked nothing, one value a round."""

    side: Side
    rounds: tuple[float, ...]


class IdleResults(NamedTuple):
    """The lines come in pairs: the server that is compared with, then the one that is compared."""

    lines: tuple[IdleLine, ...]
    cpu: tuple[IdleCpu, ...]

    def ratio(self, line: IdleLine) -> Spread | None:
        """The p99 to that of the server that is compared with, taken round by round; None for that server's own."""
        return None if line.side.base else _ratio(line.rounds, self._base(line).rounds)

    def undisturbed_ratio(self, line: IdleLine) -> Spread | None:
        """The same of undisturbed hellos only."""
        return None if line.side.base else _ratio(line.undisturbed, self._base(line).undisturbed)

    def _base(self, line: IdleLine) -> IdleLine:
        return next(one for one in self.lines if one.side.base and one.connection == line.connection)


def measure_idle(plan: IdlePlan, folder: Path, progress: Callable[[str], None], null: bool) -> IdleResults:
    """Run all rounds; with `null` there are no idle connections on the other server either.

    Raises `BenchError` when a reply is wrong, an idle connection is closed, or a server ends.
    """
    without, holding = Side(True, 0), Side(False, 0 if null else _most_idle(progress))
    with _server(folder / "without", 0) as one, _server(folder / "with", holding.idle) as other:
        upstreams = {without: one, holding: other}
        progress(f"{holding.idle} idle connections are open")
        lines = [(side, connection) for connection in CONNECTIONS for side in upstreams]
        samples: dict[tuple[Side, Connection], list[list[Hello]]] = {line: [] for line in lines}
        cpu: dict[Side, list[float]] = {side: [] for side in upstreams}
        for count in range(plan.rounds):
            run = f"round {count + 1} of {plan.rounds}"
            for connection in CONNECTIONS:
                for side, hellos in _in_turn(upstreams, connection, plan.hellos).items():
                    samples[side, connection].append(hellos)
                    found = Latencies.of(hellos)
                    what = f"{side.idle} idle, {connection}"
                    progress(f"{run}: {what}: p99 {found.p99:.3f} ms, worst {found.worst:.2f} ms")
            for side, used in _cpu_when_idle(upstreams, plan.seconds).items():
                cpu[side].append(used)
                progress(f"{run}: {side.idle} idle: {used:.2f} ms CPU/s with nothing asked")
    return IdleResults(
        tuple(
            IdleLine(
                *line,
                tuple(Latencies.of(hellos) for hellos in samples[line]),
                tuple(Latencies.of(undisturbed(hellos)) for hellos in samples[line]),
            )
            for line in lines
        ),
        tuple(IdleCpu(side, tuple(values)) for side, values in cpu.items()),
    )


def _most_idle(progress: Callable[[str], None]) -> int:
    """As many idle connections as there are to be, or as the limit of open files lets there be."""
    most = allow_descriptors(IDLE_CONNECTIONS + _SPARE_DESCRIPTORS)
    idle = most - _SPARE_DESCRIPTORS
    if idle <= 0:
        raise BenchError(f"at most {most} files may be open: raise `ulimit -Hn`")
    if idle < IDLE_CONNECTIONS:
        progress(f"at most {most} files may be open (`ulimit -Hn`): {idle} idle connections, not {IDLE_CONNECTIONS}")
    return idle


@contextlib.contextmanager
def _server(folder: Path, idle: int) -> Iterator[Upstream]:
    """A server in a new folder, with so many idle connections.

    Raises `BenchError` when fewer are left at the end.
    """
    folder.mkdir()
    with started(greenfcgi(top=_SETTINGS), folder) as upstream, contextlib.ExitStack() as clients:
        script = upstream.script(HELLO.name)
        for _ in range(idle):
            check_hello(clients.enter_context(FastCGIClient(upstream.socket)).get(script))
        yield upstream
        kept = open_connections(upstream.socket)
        if kept < idle:
            raise BenchError(f"{upstream.peer.name} kept {kept} of {idle} idle connections")


def _in_turn(upstreams: Mapping[Side, Upstream], connection: Connection, number: int) -> dict[Side, list[Hello]]:
    """So many hellos of each of these servers, some of one and some of the other until all are asked."""
    found: dict[Side, list[Hello]] = {side: [] for side in upstreams}
    with contextlib.ExitStack() as stack:
        askers = [(side, stack.enter_context(asking(upstream, connection))) for side, upstream in upstreams.items()]
        for _ in range(number // _AT_ONCE):
            for side, asker in askers:
                found[side] += asker.ask(_AT_ONCE, _PAUSE)
            askers.reverse()
    return found


def _ratio(rounds: Sequence[Latencies], against: Sequence[Latencies]) -> Spread:
    return Spread.of([one.p99 / other.p99 for one, other in zip(rounds, against, strict=True)])


def _cpu_when_idle(upstreams: Mapping[Side, Upstream], seconds: float) -> dict[Side, float]:
    """Milliseconds of CPU in each second, for all of these servers at the same time."""
    pids = {side: upstream.server.pids() for side, upstream in upstreams.items()}
    for server in pids.values():
        wait_until_quiet(server)
    began = time.monotonic()
    before = {side: cpu_seconds(server) for side, server in pids.items()}
    time.sleep(seconds)
    used = {side: cpu_seconds(server) - before[side] for side, server in pids.items()}
    passed = time.monotonic() - began
    return {side: 1e3 * one / passed for side, one in used.items()}
