"""Limits that the system has for this process, lowered for a while."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limited(which: int, maximum: int) -> Iterator[None]:
    """One of `resource.RLIMIT_*` is `maximum`; afterwards it is what it was."""
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (maximum, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))


@contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """The process may open this many descriptors more, however many it has."""
    taken: list[int] = []
    try:
        # As many as there are numbers up to the highest that is in use: then none of those is free.
        highest = max(map(int, os.listdir("/dev/fd")))
        while not taken or taken[-1] <= highest:
            taken.append(os.dup(0))
        with limited(resource.RLIMIT_NOFILE, taken[-1] + 1 + number):
            yield
    finally:
        for each in taken:
            os.close(each)
