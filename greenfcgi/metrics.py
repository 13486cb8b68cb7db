"""Counters of one process, and how many requests took how long. Plain numbers: nobody waits, nothing is written."""

from __future__ import annotations

from bisect import bisect_left

#: Upper bounds of the classes of the histogram, in seconds; what takes longer is in one more.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """What has happened since the process began."""

    __slots__ = ("flushes", "histogram", "lost_files", "memory_kills", "seconds", "statuses", "timeouts")

    def __init__(self) -> None:
        #: Requests that have ended, by their status.
        self.statuses: dict[int, int] = {}
        #: The same by the time they took: as many as there are `BOUNDS`, and one more; and the sum of their times.
        self.histogram = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        #: Runs of scripts that were stopped because their time was over, or because their memory had run out.
        self.timeouts = 0
        self.memory_kills = 0
        #: Files of scripts that nobody can close any more.
        self.lost_files = 0
        #: Versions of scripts that have been taken out because a file had changed.
        self.flushes = 0

    def observe(self, status: int, seconds: float) -> None:
        """A request has ended."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.histogram[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
