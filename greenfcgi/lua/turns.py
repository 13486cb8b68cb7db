"""Turns for scripts that compute: one of them in each round of the event loop, first come first served.

A script that has used its slice steps back (`give_way`), and the event loop looks at sockets and timers before the
next one goes on. Requests for scripts that are known to compute for long, and whatever else can wait, stand in the
same queue (`queue`). So whoever computes little waits for one slice at most, however many compute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from gevent import get_hub
from greenlet import getcurrent, greenlet

#: Seconds for a round of turns: of many that compute, each has a shorter one, so that none waits for its deadline long.
_ROUND: Final = 0.1
#: The share of a slice that code may use where it has not waited for its turn. Sixty-four connections, as many as the
#: event loop takes from the system at once, use two slices then.
_SHORT: Final = 1 / 32


class Turns:
    """Greenlets that wait for their next slice, and calls that wait for their turn. A slice is `time_slice` seconds."""

    def __init__(self, time_slice: float) -> None:
        self._slice = time_slice
        #: Seconds of a short turn.
        self.short = time_slice * _SHORT
        self._queue: deque[greenlet | Callable[[], None]] = deque()
        self._timer: Any = None
        #: The state whose code runs; None outside any. Another thread looks here when the process hangs.
        self.running: object | None = None
        #: One that stood in the queue runs now.
        self.is_taken = False
        #: When its turn began, in seconds of the monotonic clock.
        self._began = 0.0
        #: How many have been taken.
        self.count = 0
        #: Code that had not waited for a turn has used a whole one, in this round of turns.
        self.is_spent = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def length(self) -> float:
        """Seconds of a whole turn."""
        return min(self._slice, _ROUND / (len(self._queue) + 1))

    def left(self) -> float:
        """Seconds that are left of the turn that is taken, which may have had others before; less than 0 beyond it."""
        return self._began + self.length - monotonic()

    def give_way(self) -> None:
        """Let everybody else have a turn. To be called in any greenlet but the hub."""
        hub = get_hub()
        self._put(getcurrent(), hub)
        hub.switch()

    def queue(self, call: Callable[[], None]) -> None:
        """Call this, in the hub, when its turn comes."""
        self._put(call, get_hub())

    def spend(self) -> None:
        """Code that has not waited for its turn uses a whole one, as loading a script may; once in each round."""
        if not self.is_spent:
            self.is_spent = True
            self.queue(self._recover)

    def _recover(self) -> None:
        self.is_spent = False

    def _put(self, entry: greenlet | Callable[[], None], hub: Any) -> None:
        self._queue.append(entry)
        if len(self._queue) == 1 and not self.is_taken:
            self._schedule(hub)

    def _schedule(self, hub: Any) -> None:
        if self._timer is None:
            # An expired timer keeps the loop from waiting for events, but not from looking for them. A callback
            # (gevent.sleep(0)) would: the loop looks only at every 50th.
            # Behind whatever else has happened meanwhile.
            self._timer = hub.loop.timer(0.0, priority=hub.loop.MINPRI)
        self._timer.start(self._next, update=False)

    def _next(self) -> None:
        entry = self._queue.popleft()
        self.count += 1
        self.is_taken = True
        self._began = monotonic()
        try:
            if isinstance(entry, greenlet):
                entry.switch()
            else:
                entry()
        finally:
            self.is_taken = False
            if self._queue:
                self._schedule(get_hub())
