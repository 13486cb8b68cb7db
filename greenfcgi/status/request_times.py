"""Requests of one process, counted by status and by the time that they took."""

from __future__ import annotations

from bisect import bisect_left

#: Upper bounds of the histogram's classes, in seconds; one more class is for what takes longer.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class RequestTimes:
    """Counted since the process began."""

    __slots__ = ("histogram", "seconds", "statuses")

    def __init__(self) -> None:
        #: Requests that have ended, by their status.
        self.statuses: dict[int, int] = {}
        #: The same by the classes of `BOUNDS`, and one more; and the sum of their times.
        self.histogram = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def observe(self, status: int, seconds: float) -> None:
        """A request has ended."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.histogram[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
