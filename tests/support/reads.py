"""How a stream of bytes comes out of a socket: in pieces that have nothing to do with its records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """`data` in pieces of these sizes, over and over; `[1]` is byte by byte."""
    at = 0
    for size in cycle(sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size
