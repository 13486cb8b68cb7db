"""How soon a process that has ended is replaced. Knows neither processes nor clocks.

One that has served is replaced at once: it was well, and others must not wait because of whoever killed it, or of the
request it died of. Only where that goes on and on, the next one comes a second later, so that starts, each a quarter of
a second of CPU, do not become all that the machine does. One that has never served would most likely fail the next time
too: the pause before it is doubled each time.
"""

from __future__ import annotations

#: So many restarts are immediate, and so many more for each process: all processes may be killed several times in a
#: row. Then comes one in so many seconds.
_IMMEDIATE = 5
_IMMEDIATE_EACH = 3
_INTERVAL = 1.0
#: Seconds before the next try after one that never served: none the first time, then this, doubled each time.
_FIRST_BACK_OFF = 0.1
_MAX_BACK_OFF = 10.0


class Restarts:
    """Decides from the processes that have ended when the next one may start.

    Times are seconds of any clock that does not go back.
    """

    def __init__(self) -> None:
        #: When the next process may be started.
        self.not_before = 0.0
        self._back_off = 0.0
        #: When the next restart would be due, had they come one in each interval.
        self._due = 0.0

    def reset(self) -> None:
        """Another configuration: its processes start without a pause."""
        self.not_before = self._back_off = 0.0

    def after_service(self, now: float, processes: int) -> None:
        """A process that had served has ended; `processes` is how many there should be."""
        self._back_off = 0.0
        self._due = max(self._due, now) + _INTERVAL
        self.not_before = max(now, self._due - _INTERVAL * (_IMMEDIATE + _IMMEDIATE_EACH * processes))

    def after_failure(self, now: float) -> None:
        """A process could not be started, or has ended before it could serve."""
        self.not_before = now + self._back_off
        self._back_off = min(max(2 * self._back_off, _FIRST_BACK_OFF), _MAX_BACK_OFF)
