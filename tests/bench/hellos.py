"""Hellos asked one at a time by a plain blocking client, each reply checked, and how long they took.

The collector of the measuring process is off meanwhile: with thousands of clients it would hold up the clock now and
then, and the server would get the blame.
"""

import contextlib
import gc
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .client import FastCGIClient, Reply, check_reply
from .errors import BenchError
from .peers import Upstream
from .waiting import waited_seconds
from .work import HELLO, Connection

#: Those that hellos are asked over, see `asking`.
CONNECTIONS: tuple[Connection, ...] = ("kept", "new")
#: Hellos that do not count: the server loads the script, and both sides come to know the way.
_WARM_UP = 20
#: How far a pause may be from its length, so that they keep in step with nothing in the server.
_UNEVEN = 0.5
#: Seconds that somebody may have waited for a CPU in a hello that counts as undisturbed.
_DISTURBANCE = 50e-6


class Hello(NamedTuple):
    """The seconds that one took, and for how long meanwhile the server or the client waited for a CPU."""

    seconds: float
    waited: float


class Latencies(NamedTuple):
    """Of one run, in milliseconds: the median, the one that 99 of 100 do not pass, and the longest.

    `worst_waited`: how much of the longest somebody waited for a CPU, which is not the server's doing.
    """

    p50: float
    p99: float
    worst: float
    worst_waited: float

    @classmethod
    def of(cls, hellos: Sequence[Hello]) -> "Latencies":
        """Nearest rank: each figure is that of a hello which was asked. Raises `IndexError` for none."""
        ordered = sorted(hellos)
        p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99))
        worst = ordered[-1]
        return cls(*(1e3 * one for one in (p50.seconds, p99.seconds, worst.seconds, worst.waited)))


class Asker:
    """Asks one server for hellos over one kind of connection. A context manager's value, see `asking`."""

    def __init__(self, upstream: Upstream, kept: FastCGIClient | None) -> None:
        self._socket = upstream.socket
        self._script = upstream.script(HELLO.name)
        self._pids = [*upstream.server.pids(), os.getpid()]
        self._kept = kept

    def ask(self, number: int, pause: float) -> list[Hello]:
        """So many hellos, about every `pause` seconds.

        Others that would have come while one was waited for are not asked, but count as answered together with it,
        so a stall counts for all whom it would have hit. Raises `BenchError` when a reply is wrong or missing.
        """
        hellos = []
        uneven = random.Random(number)
        with _no_collector():
            due = time.perf_counter()
            for _ in range(number):
                due += pause * uneven.uniform(1 - _UNEVEN, 1 + _UNEVEN)
                time.sleep(max(0.0, due - time.perf_counter()))
                waited = waited_seconds(self._pids)
                # To have slept too long is not the server's doing.
                due = time.perf_counter()
                self.ask_once()
                ended = time.perf_counter()
                waited = waited_seconds(self._pids) - waited
                while due < ended:
                    hellos.append(Hello(ended - due, min(ended - due, waited)))
                    due += pause
                due = ended
        return hellos

    def ask_once(self) -> None:
        """One hello, now."""
        if self._kept is not None:
            check_hello(self._kept.get(self._script))
        else:
            with FastCGIClient(self._socket) as client:
                check_hello(client.get(self._script, keep=False))


@contextlib.contextmanager
def asking(upstream: Upstream, connection: Connection) -> Iterator[Asker]:
    """`kept` is one connection for all hellos. `new` is one for each, and connecting is part of its time.

    Some that do not count have been asked when the block begins.
    """
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(FastCGIClient(upstream.socket)) if connection == "kept" else None
        asker = Asker(upstream, kept)
        for _ in range(_WARM_UP):
            asker.ask_once()
        yield asker


def undisturbed(hellos: Sequence[Hello]) -> list[Hello]:
    """Those in which other programs have taken no CPU from the server or the client.

    What the server itself does meanwhile is in them. Raises `BenchError` when there are none.
    """
    found = [one for one in hellos if one.waited <= _DISTURBANCE]
    if not found:
        raise BenchError("other programs disturbed every hello: the machine is too busy to measure anything on it")
    return found


def check_hello(reply: Reply) -> None:
    """Raises `BenchError` when this is not the hello, byte for byte."""
    check_reply(reply, Reply(200, HELLO.body, b""), "a hello")


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
