"""When a process takes the place of one that has ended. Knows neither processes nor clocks.

One that has served is replaced at once: it was well, and others must not wait for whoever killed it, or for whichever
request it died of. Only where that goes on and on comes the next one a second later, so that a start, which costs a
quarter of a second of CPU, does not become all that the machine does. One that has never come to serve would not the
next time either, most likely: it is waited for longer each time.
"""

from __future__ import annotations

#: Restarts at once, beside as many for each process; then one in so many seconds.
_AT_ONCE = 5
_AT_ONCE_EACH = 3
_INTERVAL = 1.0
#: Seconds before one is tried again that has not come to serve: none the first time, then this, doubled each time.
_FIRST_BACK_OFF = 0.1
_MAX_BACK_OFF = 10.0


class Restarts:
    """Counts what has ended. Times are seconds of any clock that does not go back."""

    def __init__(self) -> None:
        #: When the next process may be started.
        self.not_before = 0.0
        self._back_off = 0.0
        #: When all restarts so far would have been, one in each interval.
        self._due = 0.0

    def reset(self) -> None:
        """Another configuration: nothing is known against it."""
        self.not_before = self._back_off = 0.0

    def after_service(self, now: float, processes: int) -> None:
        """One of so many processes has ended that had served."""
        self._back_off = 0.0
        self._due = max(self._due, now) + _INTERVAL
        self.not_before = max(now, self._due - _INTERVAL * (_AT_ONCE + _AT_ONCE_EACH * processes))

    def after_failure(self, now: float) -> None:
        """One could not be started, or has ended before it could serve."""
        self.not_before = now + self._back_off
        self._back_off = min(max(2 * self._back_off, _FIRST_BACK_OFF), _MAX_BACK_OFF)
