"""Which of several sockets can be read or written: select."""

from __future__ import annotations

import select
from collections.abc import Generator, Iterable
from time import monotonic
from typing import Final

from gevent import get_hub

from ...lua.bridge import Waitable
from .endpoint import READ, WRITE
from .operations import NEVER
from .wakeup import Wakeup

#: A descriptor, and READ or WRITE.
Interest = tuple[int, int]
_FLAGS: Final = {READ: select.POLLIN, WRITE: select.POLLOUT}


def ready_now(wanted: Iterable[Interest]) -> set[Interest]:
    """Those that are ready. An error, or the end, is both."""
    poll = select.poll()
    masks: dict[int, int] = {}
    for descriptor, mask in wanted:
        masks[descriptor] = masks.get(descriptor, 0) | mask
    for descriptor, mask in masks.items():
        poll.register(descriptor, sum(flag for bit, flag in _FLAGS.items() if mask & bit))
    return {
        (descriptor, bit)
        for descriptor, event in poll.poll(0)
        for bit, flag in _FLAGS.items()
        if masks[descriptor] & bit and event & ~(sum(_FLAGS.values()) & ~flag)
    }


def ready_within(wanted: Iterable[Interest], seconds: float) -> Generator[tuple[Waitable, float], None, set[Interest]]:
    """An operation: those that are ready when the first is, at most so many seconds later; below zero: whenever."""
    until = NEVER if seconds < 0 else monotonic() + seconds
    interests = list(wanted)
    found = ready_now(interests)
    if found or seconds == 0:
        return found
    wakeup = Wakeup()
    loop = get_hub().loop
    watchers = [loop.io(descriptor, mask) for descriptor, mask in interests]
    try:
        for watcher in watchers:
            watcher.start(wakeup.set)
        while not wakeup.is_set and monotonic() < until:
            yield wakeup, until
    finally:
        for watcher in watchers:
            watcher.stop()
            watcher.close()
    return ready_now(interests)
