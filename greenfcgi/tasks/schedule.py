"""When a task is due: every so often, or as cron has it.

Times are those of the wall clock, so all processes, and all machines, agree about them without a word: `every = "10m"`
is due at :00, :10 and so on, whenever the server was started.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from math import floor
from typing import Final

from ..config.types import Task

#: Seconds of the epoch in, those of the next time that a task is due out.
Schedule = Callable[[float], float]


def schedule(task: Task) -> Schedule:
    """The schedule of a task."""
    return _cron(task.cron) if task.cron else _every(task.every)


def _every(seconds: float) -> Schedule:
    def next_after(now: float) -> float:
        due = (floor(now / seconds) + 1) * seconds
        # The division may have been rounded up.
        return due if due > now else due + seconds

    return next_after


def _cron(expression: str) -> Schedule:
    from cronsim import CronSim

    def next_after(now: float) -> float:
        for found in CronSim(expression, datetime.fromtimestamp(now, _LOCAL)):
            if found.timestamp() > now:
                return float(found.timestamp())
        # A year that cronsim does not reach.
        return float("inf")

    return next_after


class _LocalZone(tzinfo):
    """The zone of this machine: cronsim must know what happens when its clocks change."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        """Of a local time, which `fold` tells apart where it comes twice."""
        return dt.replace(tzinfo=None).astimezone().utcoffset() if dt is not None else None

    def dst(self, dt: datetime | None) -> timedelta | None:
        """Nobody asks."""
        return None

    def tzname(self, dt: datetime | None) -> str:
        """For messages."""
        return "local"

    def fromutc(self, dt: datetime) -> datetime:
        """The local time of a time in UTC."""
        local = datetime.fromtimestamp(dt.replace(tzinfo=UTC).timestamp())
        return local.replace(tzinfo=self)


_LOCAL: Final = _LocalZone()
