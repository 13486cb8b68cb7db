"""Turns for scripts that compute: one of them in each round of the event loop, first come first served.

A script that has used its slice steps back (`give_way`), and the event loop looks at sockets and timers before the
next one goes on. So whoever does not compute waits for one slice at most, however many do.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from gevent import get_hub
from greenlet import getcurrent, greenlet


class Turns:
    """The greenlets that wait for their next slice."""

    def __init__(self) -> None:
        self._queue: deque[greenlet] = deque()
        self._timer: Any = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def give_way(self) -> None:
        """Let everybody else have a turn. To be called in any greenlet but the hub."""
        hub = get_hub()
        self._queue.append(getcurrent())
        if len(self._queue) == 1:
            self._schedule(hub)
        hub.switch()

    def _schedule(self, hub: Any) -> None:
        if self._timer is None:
            # An expired timer keeps the loop from waiting for events, but not from looking for them. A callback
            # (gevent.sleep(0)) would: the loop looks only at every 50th.
            # Behind whatever else has happened meanwhile.
            self._timer = hub.loop.timer(0.0, priority=hub.loop.MINPRI)
        self._timer.start(self._next, update=False)

    def _next(self) -> None:
        following = self._queue.popleft()
        if self._queue:
            self._schedule(get_hub())
        following.switch()
