"""How the cost of a hello grows with what the server holds: scripts, states, idle connections, processes.

For each kind all servers run at the same time, and are asked in turn by a plain FastCGI client over kept connections,
many hellos at once, each reply checked. Ratios are taken within a round, to the server that holds the least.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .accounting import cpu_seconds, open_connections, wait_until_quiet
from .candidates import greenfcgi, with_room
from .client import FastCGIClient
from .descriptors import allow_descriptors
from .errors import BenchError
from .hellos import check_hello
from .peers import Peer, Upstream, started
from .spread import Spread
from .waiters import all_answered, all_wait, waiting
from .work import HELLO, WAIT

#: How many times the cost with the least there is the cost may be: flat within 20 %. Scripts that are asked in turn are
#: more memory than the processor's caches hold.
_TARGET = 1.2
_TARGETS_OF_SCRIPTS = {100: 1.25, 1000: 1.9}

_IDLE = (0, 1000, 10_000)
_CONNECTIONS = 32
#: Hellos of one server in a round: each connection has as many, and each script some.
_HELLOS = 3200
_ROUNDS = 12
_SPARE_DESCRIPTORS = 1000
#: Seconds that requests wait in their script, so that all of them hold a state at once.
_WAIT_SECONDS = {1: 0.1, 100: 1.0, 1000: 5.0}


class Point(NamedTuple):
    """A server that holds so many of something."""

    kind: str
    number: int

    @property
    def target(self) -> float:
        """How many times the cost with the least there is a hello may cost."""
        return _TARGETS_OF_SCRIPTS.get(self.number, _TARGET) if self.kind == "scripts" else _TARGET


class Grown(NamedTuple):
    """Microseconds of CPU for each hello at one point, round by round, and their ratios to the least of its kind."""

    point: Point
    cpu: tuple[float, ...]
    ratio: Spread

    @property
    def first(self) -> bool:
        """It is what the others of its kind are compared with."""
        return self.ratio == (1.0, 1.0, 1.0)


class Serving(NamedTuple):
    """A server at its point: the scripts that are asked for in turn, over these connections."""

    upstream: Upstream
    scripts: Sequence[Path]
    clients: Sequence[FastCGIClient]

    def hellos(self, number: int) -> None:
        """So many, one on each connection at a time. Raises `BenchError` when a reply is wrong or missing."""
        asked = 0
        while asked < number:
            for place, client in enumerate(self.clients):
                client.ask(self.scripts[(asked + place) % len(self.scripts)])
            for client in self.clients:
                check_hello(client.reply())
            asked += len(self.clients)

    def cpu(self, number: int) -> float:
        """Microseconds of CPU for each of so many hellos."""
        pids = self.upstream.server.pids()
        before = cpu_seconds(pids)
        self.hellos(number)
        return (cpu_seconds(pids) - before) * 1e6 / number


def measure_growth(folder: Path, progress: Callable[[str], None]) -> list[Grown]:
    """All kinds, one after the other. Raises `BenchError` when a reply is wrong or a server ends."""
    allow_descriptors(max(_IDLE) * 2 + _SPARE_DESCRIPTORS)
    return [
        *_measure("scripts", (1, 100, 1000), _with_scripts, folder, progress),
        *_measure("states", (1, 100, 1000), _with_states, folder, progress),
        *_measure("idle connections", _IDLE, _with_connections, folder, progress),
        *_measure("processes", (1, 2), _with_processes, folder, progress),
    ]


_Hold = Callable[[int, Path], contextlib.AbstractContextManager[Serving]]


def _measure(
    kind: str, numbers: Sequence[int], hold: _Hold, folder: Path, progress: Callable[[str], None]
) -> list[Grown]:
    samples: dict[int, list[float]] = {number: [] for number in numbers}
    with contextlib.ExitStack() as stack:
        servings = {}
        for number in numbers:
            home = folder / f"growth-{kind.replace(' ', '-')}-{number}"
            home.mkdir()
            servings[number] = stack.enter_context(hold(number, home))
        for serving in servings.values():
            serving.hellos(_HELLOS)
            wait_until_quiet(serving.upstream.server.pids())
        for count in range(_ROUNDS):
            for number in numbers if count % 2 == 0 else reversed(numbers):
                samples[number].append(servings[number].cpu(_HELLOS))
    least = samples[numbers[0]]
    found = []
    for number in numbers:
        ratio = Spread.of([one / other for one, other in zip(samples[number], least, strict=True)])
        found.append(Grown(Point(kind, number), tuple(samples[number]), ratio))
        progress(f"growth: {number:,} {kind}: {Spread.of(samples[number]).median:.1f} us CPU, {ratio.median:.2f}")
    return found


@contextlib.contextmanager
def _serving(peer: Peer, folder: Path, names: Sequence[str], root: Path | None = None) -> Iterator[Serving]:
    with started(peer, folder, root) as upstream, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(FastCGIClient(upstream.socket)) for _ in range(_CONNECTIONS)]
        yield Serving(upstream, [upstream.script(name) for name in names], clients)


@contextlib.contextmanager
def _with_scripts(number: int, folder: Path) -> Iterator[Serving]:
    """A hello under so many names, and room for a state of each."""
    root = folder / "scripts"
    root.mkdir()
    names = [f"hello{count}" for count in range(number)]
    peer = greenfcgi(states=f"max = {number + 256}\n")
    text = (peer.scripts / f"{HELLO.name}{peer.suffix}").read_text()
    for name in names:
        (root / f"{name}{peer.suffix}").write_text(text)
    with _serving(peer, folder, names, root) as serving:
        yield serving


@contextlib.contextmanager
def _with_states(number: int, folder: Path) -> Iterator[Serving]:
    """So many states of one script, made by as many requests that wait in it at once."""
    with _serving(with_room(max(number, _CONNECTIONS)), folder, [WAIT.name]) as serving:
        if number > 1:
            with waiting(serving.upstream, number, _WAIT_SECONDS[number]) as clients:
                wait_until_quiet(serving.upstream.server.pids())
                all_wait(clients)
                all_answered(clients)
        yield serving


@contextlib.contextmanager
def _with_connections(number: int, folder: Path) -> Iterator[Serving]:
    """So many idle kept connections, of which each has had one hello."""
    peer = greenfcgi(top="processes = 0\nkeepalive = 3600\n")
    with _serving(peer, folder, [HELLO.name]) as serving, contextlib.ExitStack() as stack:
        for _ in range(number):
            client = stack.enter_context(FastCGIClient(serving.upstream.socket))
            check_hello(client.get(serving.scripts[0]))
        yield serving
        kept = open_connections(serving.upstream.socket)
        if kept < number:
            raise BenchError(f"{peer.name} kept {kept} of {number} idle connections")


@contextlib.contextmanager
def _with_processes(number: int, folder: Path) -> Iterator[Serving]:
    """So many processes under a supervisor, whose CPU counts too."""
    with _serving(greenfcgi(top=f"processes = {number}\n"), folder, [HELLO.name]) as serving:
        yield serving
