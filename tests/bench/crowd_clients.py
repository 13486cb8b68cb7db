"""The clients of the part `crowd`, in a process of their own.

    python -m tests.bench.crowd_clients LOAD SOCKET ROOT KILLS

Each asks again as soon as it has a reply, and compares that byte for byte. The process prints BEGUN when each has had
its first one, and goes on until its standard input ends, or until a load is over that has an end. Then it prints how
many replies there have been. A wrong one ends it with status 2 and one line on the standard error.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

from .client import FastCGIClient, Reply, check_reply
from .command import carry_out

BEGUN = "begun\n"

_CLIENTS, _TOGETHER = 16, 84
#: Milliseconds.
_SHORT, _LONGER = 3, 8
#: Megabytes that fit into lua.memory, which is 32M, and that do not.
_SOME, _TOO_MANY = 1, 64
_FAILED = Reply(
    500,
    b"<!DOCTYPE html>\n<html><head><title>500 Internal Server Error</title></head>\n"
    b"<body><h1>500 Internal Server Error</h1>\n</body></html>\n",
    b"",
)


class Target(NamedTuple):
    """The server's socket, the folder of its scripts, and how many of them are to be ended for want of memory."""

    socket: Path
    root: Path
    kills: int


class Load(NamedTuple):
    """Clients that come at the same time, each of which yields how many replies it has had since it did so last.

    `title` is what the table says, with the number of `kills` filled in. `is_finite`: it is over by itself.
    """

    title: str
    client: Callable[[Target], Iterator[int]]
    clients: int = 1
    is_finite: bool = False


def _new_connections(milliseconds: int) -> Callable[[Target], Iterator[int]]:
    """Each request on a connection of its own."""

    def client(target: Target) -> Iterator[int]:
        while True:
            yield _ask(target, "compute", f"{milliseconds}", _computed(milliseconds))

    return client


def _together(target: Target) -> Iterator[int]:
    """Many requests in one write on a kept connection, and again when all are answered."""
    script = target.root / "compute.lua"
    with FastCGIClient(target.socket) as client:
        while True:
            for reply in client.get_together(script, f"{_SHORT}", _TOGETHER):
                check_reply(reply, _computed(_SHORT), script.name)
            yield _TOGETHER


def _killed(target: Target) -> Iterator[int]:
    """One script that wants the memory when it runs, and one when it is loaded, in turn.

    That the first can end well shows that it is memory which they want.
    """
    yield _ask(target, "hoard", f"{_SOME}", Reply(200, b"held %d MB\n" % _SOME, b""))
    for number in range(target.kills):
        yield _ask(target, ("hoard", "hoard-at-load")[number % 2], f"{_TOO_MANY}", _FAILED)


LOADS: Mapping[str, Load] = {
    "new": Load(f"{_CLIENTS} new connections on a script of {_SHORT} ms", _new_connections(_SHORT), _CLIENTS),
    "sequence": Load(f"1 client in sequence on {_LONGER} ms", _new_connections(_LONGER)),
    "together": Load(f"{_TOGETHER} requests in one write", _together),
    "kills": Load("{kills} memory kills in sequence", _killed, is_finite=True),
}


def main(arguments: Sequence[str]) -> int:
    """Be the clients of a load. 0: every reply was right."""
    name, socket, root, kills = arguments
    return carry_out(lambda: _run(LOADS[name], Target(Path(socket), Path(root), int(kills))))


def _run(load: Load, target: Target) -> int:
    clients = [load.client(target) for _ in range(load.clients)]
    with ThreadPoolExecutor(load.clients) as threads:
        replies = sum(threads.map(next, clients))
        print(BEGUN, end="", flush=True)
        stop = _end_of_input()
        replies += sum(threads.map(lambda client: _go_on(client, stop), clients))
    print(replies, flush=True)
    return 0


def _go_on(client: Iterator[int], stop: Event) -> int:
    """The number of replies until one of the clients ends, or the input does."""
    replies = 0
    try:
        for number in client:
            replies += number
            if stop.is_set():
                break
    finally:
        stop.set()
    return replies


def _end_of_input() -> Event:
    """What is set when there is nothing more to be read from the standard input."""
    ended = Event()

    def wait() -> None:
        # Not `sys.stdin`, whose lock this thread would still hold when the interpreter ends.
        os.read(0, 1)
        ended.set()

    Thread(target=wait, daemon=True).start()
    return ended


def _ask(target: Target, name: str, query: str, expected: Reply) -> int:
    """One request on a connection of its own."""
    script = target.root / f"{name}.lua"
    with FastCGIClient(target.socket) as client:
        client.ask(script, keep=False, query=query)
        check_reply(client.reply(), expected, script.name)
    return 1


def _computed(milliseconds: int) -> Reply:
    return Reply(200, b"computed for %d ms\n" % milliseconds, b"")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
