"""What greenfcgi holds in memory: ready, with a thousand idle connections, and with a hundred scripts.

Each figure comes from a server of its own, started for it, and a plain FastCGI client: no web server, no load
generator.
"""

import contextlib
import resource
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .accounting import Memory, memory, open_connections, wait_until_quiet
from .client import FastCGIClient
from .errors import BenchError
from .peers import Peer, Upstream, started
from .work import HELLO

_IDLE_CONNECTIONS = 1000
_SCRIPTS = 100
_WARM_UP_REQUESTS = 1000
_SPARE_DESCRIPTORS = 200
_MEGABYTE = 1 << 20


class Holding(NamedTuple):
    """One figure: resident memory in bytes, `pss` beside it, and the most that it may be (of `rss`)."""

    name: str
    rss: int
    pss: int
    target: int


class Holder(NamedTuple):
    """Resident memory of one compared server, ready and after all its runs, and its number of processes."""

    peer: str
    processes: int
    ready: Memory
    loaded: Memory


def resident(upstream: Upstream) -> Memory:
    """What a server holds once it has nothing left to do."""
    pids = upstream.server.pids()
    wait_until_quiet(pids)
    return memory(pids)


def measure_memory(peer: Peer, folder: Path, progress: Callable[[str], None]) -> list[Holding]:
    """All figures for this peer. Raises `BenchError` when a reply is wrong or a server ends."""
    holdings = []
    for name, measure in (("ready", _ready), ("connections", _idle_connections), ("scripts", _many_scripts)):
        home = folder / f"memory-{name}"
        home.mkdir()
        holdings.append(measure(peer, home))
        progress(f"memory: {holdings[-1].name}: {holdings[-1].rss / _MEGABYTE:.2f} MB")
    return holdings


def _ready(peer: Peer, folder: Path) -> Holding:
    with started(peer, folder) as upstream:
        held = resident(upstream)
    return Holding("resident when ready", held.rss, held.pss, 20 * _MEGABYTE)


def _idle_connections(peer: Peer, folder: Path) -> Holding:
    _allow_descriptors(_IDLE_CONNECTIONS + _SPARE_DESCRIPTORS)
    with started(peer, folder) as upstream, contextlib.ExitStack() as clients:
        # One state, grown to what it needs, so that the connections' own cost is left.
        with FastCGIClient(upstream.socket) as client:
            for _ in range(_WARM_UP_REQUESTS):
                _hello(client, upstream)
        before = resident(upstream)
        for _ in range(_IDLE_CONNECTIONS):
            _hello(clients.enter_context(FastCGIClient(upstream.socket)), upstream)
        after = resident(upstream)
        kept = open_connections(upstream.socket)
    if kept < _IDLE_CONNECTIONS:
        raise BenchError(f"{peer.name} kept {kept} of {_IDLE_CONNECTIONS} idle connections")
    return _growth(f"growth with {_IDLE_CONNECTIONS:,} idle kept connections", before, after, 4 * _MEGABYTE)


def _many_scripts(peer: Peer, folder: Path) -> Holding:
    root = folder / "scripts"
    root.mkdir()
    for number in range(_SCRIPTS):
        handler = f'function main(env, con)\n  con:puts("This is script {number}.\\n")\nend\n'
        (root / f"script{number}{peer.suffix}").write_text(handler)
    with started(peer, folder, root) as upstream:
        before = resident(upstream)
        with FastCGIClient(upstream.socket) as client:
            for number in range(_SCRIPTS):
                _expect(client, upstream.script(f"script{number}"), f"This is script {number}.\n".encode())
        after = resident(upstream)
    return _growth(f"growth with {_SCRIPTS} different scripts loaded", before, after, 12 * _MEGABYTE)


def _growth(name: str, before: Memory, after: Memory, target: int) -> Holding:
    return Holding(name, after.rss - before.rss, after.pss - before.pss, target)


def _hello(client: FastCGIClient, upstream: Upstream) -> None:
    _expect(client, upstream.script(HELLO.name), HELLO.body)


def _expect(client: FastCGIClient, script: Path, body: bytes) -> None:
    reply = client.get(script)
    if (reply.status, reply.body) != (200, body):
        raise BenchError(
            f"{script.name}: status {reply.status} with {reply.body[:80]!r}, 200 with {body!r} expected"
        )


def _allow_descriptors(number: int) -> None:
    """Raise the soft limit of open files to `number`, here and for the servers started from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        if hard != resource.RLIM_INFINITY and hard < number:
            raise BenchError(
                f"at most {hard} files may be open here, {number} are needed: raise `ulimit -Hn`"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
