"""A few measured values as their median and their range."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """The median, the lowest and the highest of some values, in the values' own unit."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Raises `statistics.StatisticsError` for no values."""
        return cls(statistics.median(values), min(values), max(values))
