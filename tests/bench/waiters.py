"""Requests that wait in a script, all at once: each on a connection of its own, asked by a plain FastCGI client."""

import contextlib
from collections.abc import Iterator, Sequence

from .client import FastCGIClient
from .errors import BenchError
from .hellos import check_hello
from .peers import Upstream
from .work import WAIT


@contextlib.contextmanager
def waiting(upstream: Upstream, number: int, seconds: float) -> Iterator[Sequence[FastCGIClient]]:
    """So many requests that wait in `wait` for so many seconds, just asked. The connections close with the block."""
    script = upstream.script(WAIT.name)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(FastCGIClient(upstream.socket)) for _ in range(number)]
        for client in clients:
            client.ask(script, query=f"{seconds:g}")
        yield clients


def all_wait(clients: Sequence[FastCGIClient]) -> None:
    """Raises `BenchError` when one of them has been answered or cut off already."""
    early = sum(not client.silent() for client in clients)
    if early:
        raise BenchError(f"{early} of {len(clients)} requests that were to wait have ended: the machine is too slow")


def all_answered(clients: Sequence[FastCGIClient]) -> None:
    """Receive every reply. Raises `BenchError` when one is missing or is not the hello."""
    for client in clients:
        check_hello(client.reply())
