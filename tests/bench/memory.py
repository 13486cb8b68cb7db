"""What greenfcgi holds in memory: ready, after hellos, with connections, requests and scripts.

Each figure comes from servers of its own, started for it, and a plain FastCGI client: no web server, no load
generator. All but one are of one process without a supervisor.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from .accounting import Memory, memory, open_connections, wait_until_quiet
from .candidates import greenfcgi, with_room
from .client import FastCGIClient, Reply, check_reply
from .descriptors import allow_descriptors
from .errors import BenchError, NotInstalled
from .hellos import check_hello
from .peers import Peer, Upstream, started
from .rivals import php_fpm, uwsgi
from .waiters import all_answered, all_wait, waiting
from .work import HELLO

MEGABYTE = 1 << 20
KILOBYTE = 1 << 10

_HELLOS = 10_000
_IDLE_CONNECTIONS = 1000
_SCRIPTS = 100
_WAITING = 200
_PARKED = 800
_WARM_UP_REQUESTS = 1000
#: Seconds that requests wait while they are counted; php-fpm with 200 children takes longest.
_WAIT_SECONDS = 3.0
_LONG_WAIT = 60.0
_DESCRIPTORS = 4000


class Holding(NamedTuple):
    """One figure in bytes, as RSS and as PSS, and the most that it may be, counted as `kind`; None is no target."""

    name: str
    rss: int
    pss: int
    kind: Literal["rss", "pss"]
    target: float | None

    @property
    def found(self) -> int:
        """The bytes that the target is for."""
        return self.rss if self.kind == "rss" else self.pss


class Holder(NamedTuple):
    """Resident memory of one compared server, ready and after all its runs, and its number of processes."""

    peer: str
    processes: int
    ready: Memory
    loaded: Memory


class Figure(NamedTuple):
    """How one figure is measured, in a folder of its own; `short` ones are also part of the short form."""

    name: str
    measure: Callable[[Path], Holding]
    short: bool = False


def resident(upstream: Upstream) -> Memory:
    """What a server holds once it has nothing left to do."""
    pids = upstream.server.pids()
    wait_until_quiet(pids)
    return memory(pids)


def measure_memory(short: bool, folder: Path, progress: Callable[[str], None]) -> list[Holding]:
    """All figures, or those of the short form. A server that is not installed is told of and left out.

    Raises `BenchError` when a reply is wrong or a server ends.
    """
    allow_descriptors(_DESCRIPTORS)
    holdings = []
    for figure in FIGURES:
        if short and not figure.short:
            continue
        home = folder / f"memory-{figure.name}"
        home.mkdir()
        try:
            holding = figure.measure(home)
        except NotInstalled as error:
            progress(f"memory: left out: {error}")
            continue
        holdings.append(holding)
        progress(f"memory: {holding.name}: {holding.kind.upper()} {sized(holding.found)}")
    return holdings


def sized(size: float) -> str:
    """Bytes in the unit that they are easiest to read in, of 2^20 or 2^10 bytes."""
    return f"{size / MEGABYTE:.2f} MB" if abs(size) >= MEGABYTE else f"{size / KILOBYTE:.2f} KB"


def _ready(folder: Path) -> Holding:
    with started(greenfcgi(), folder) as upstream:
        held = resident(upstream)
    return Holding("ready", *held, "rss", 18 * MEGABYTE)


def _after_hellos(folder: Path) -> Holding:
    with started(greenfcgi(), folder) as upstream:
        _hellos(upstream, _HELLOS)
        held = resident(upstream)
    return Holding(f"after {_HELLOS:,} hellos", *held, "rss", 20 * MEGABYTE)


def _waiting_in(peer: Peer, target: float | None) -> Callable[[Path], Holding]:
    def measure(folder: Path) -> Holding:
        with started(peer, folder) as upstream, waiting(upstream, _WAITING, _WAIT_SECONDS) as clients:
            held = resident(upstream)
            all_wait(clients)
            all_answered(clients)
        return Holding(f"{_WAITING} requests waiting, {peer.name}", *held, "pss", target)

    return measure


def _one_more_process(folder: Path) -> Holding:
    sizes = []
    for processes in (1, 2):
        home = folder / str(processes)
        home.mkdir()
        with started(greenfcgi(top=f"processes = {processes}\n"), home) as upstream:
            sizes.append(resident(upstream))
    return _growth("one more process", sizes[0], sizes[1], 1, "pss", 7 * MEGABYTE)


def _idle_connections(folder: Path) -> Holding:
    with started(greenfcgi(), folder) as upstream, contextlib.ExitStack() as clients:
        # One state, grown to what it needs, so that the connections' own cost is left.
        _hellos(upstream, _WARM_UP_REQUESTS)
        before = resident(upstream)
        for _ in range(_IDLE_CONNECTIONS):
            check_hello(clients.enter_context(FastCGIClient(upstream.socket)).get(upstream.script(HELLO.name)))
        after = resident(upstream)
        kept = open_connections(upstream.socket)
    if kept < _IDLE_CONNECTIONS:
        raise BenchError(f"the server kept {kept} of {_IDLE_CONNECTIONS} idle connections")
    return _growth("an idle kept connection", before, after, _IDLE_CONNECTIONS, "rss", 2.5 * KILOBYTE)


def _parked(name: str, workers: int) -> Callable[[Path], Holding]:
    """Requests beyond the 200 that have a state: with as many workers they wait for a worker, with more for a state."""

    def measure(folder: Path) -> Holding:
        top = f"processes = 0\nworkers = {workers}\ntimeout = 300\n"
        peer = greenfcgi(top=top, states=f"max = {max(workers, _WAITING)}\nclones = {_WAITING}\n")
        with started(peer, folder) as upstream, waiting(upstream, _WAITING, _LONG_WAIT) as clients:
            before = resident(upstream)
            with waiting(upstream, _PARKED, 0) as parked:
                after = resident(upstream)
                all_wait([*clients, *parked])
        return _growth(f"one more request that waits for a {name}", before, after, _PARKED, "rss", 14 * KILOBYTE)

    return measure


def _many_scripts(folder: Path) -> Holding:
    root = folder / "scripts"
    root.mkdir()
    texts = [f"This is script {number}.\n" for number in range(_SCRIPTS)]
    for number, text in enumerate(texts):
        (root / f"script{number}.lua").write_text(f"function main(env, con)\n  con:puts([[{text}]])\nend\n")
    with started(greenfcgi(), folder, root) as upstream, FastCGIClient(upstream.socket) as client:
        before = resident(upstream)
        for number, text in enumerate(texts):
            reply = client.get(upstream.script(f"script{number}"))
            check_reply(reply, Reply(200, text.encode(), b""), f"script {number}")
        after = resident(upstream)
    return _growth(f"{_SCRIPTS} different scripts", before, after, 1, "rss", 8 * MEGABYTE)


def _growth(
    name: str, before: Memory, after: Memory, number: int, kind: Literal["rss", "pss"], target: float
) -> Holding:
    return Holding(name, (after.rss - before.rss) // number, (after.pss - before.pss) // number, kind, target)


def _hellos(upstream: Upstream, number: int) -> None:
    with FastCGIClient(upstream.socket) as client:
        for _ in range(number):
            check_hello(client.get(upstream.script(HELLO.name)))


FIGURES = (
    Figure("ready", _ready, short=True),
    Figure("hellos", _after_hellos, short=True),
    Figure("waiting", _waiting_in(with_room(_WAITING), 32 * MEGABYTE), short=True),
    Figure("waiting-lua54", _waiting_in(with_room(_WAITING, "lua54", "greenfcgi-lua54"), 26 * MEGABYTE)),
    Figure("waiting-php-fpm", _waiting_in(php_fpm(children=_WAITING), None)),
    Figure("waiting-uwsgi", _waiting_in(uwsgi(children=_WAITING), None)),
    Figure("process", _one_more_process, short=True),
    Figure("connection", _idle_connections, short=True),
    Figure("parked-worker", _parked("worker", _WAITING)),
    Figure("parked-state", _parked("state", _WAITING + _PARKED)),
    Figure("scripts", _many_scripts),
)
