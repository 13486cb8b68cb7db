"""What the greenlet of one script waits for: as gevent's Event, for one waiter, at a third of its cost."""

from __future__ import annotations

from typing import Any

from gevent import get_hub, getcurrent


class Wakeup:
    """Set once, or many times; `clear` before it is waited for anew."""

    __slots__ = ("_waiter", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        #: The greenlet that waits.
        self._waiter: Any = None

    def clear(self) -> None:
        """Nothing has happened yet."""
        self.is_set = False

    def set(self) -> None:
        """Wake who waits; now, if it is the event loop that calls."""
        self.is_set = True
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            hub = get_hub()
            if getcurrent() is hub:
                waiter.switch()
            else:
                hub.loop.run_callback(waiter.switch)

    def wait(self, timeout: float) -> None:
        """Wait until it is set, at most so many seconds."""
        if self.is_set:
            return
        hub = get_hub()
        timer = hub.loop.timer(timeout)
        timer.start(self._end_wait)
        self._waiter = getcurrent()
        try:
            hub.switch()
        finally:
            self._waiter = None
            timer.stop()
            timer.close()

    def _end_wait(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.switch()
