"""Whether a figure is what it should be, and how far it may be from that elsewhere."""

from typing import NamedTuple

#: How far beyond its target the memory of the short form may be, as a factor: other releases of Python and of the C
#: library take more. Times have no such bound. Beside other programs that want the processor's caches, the same server
#: has taken four times the CPU, and its ratio to the reference has doubled.
ROOM = 1.5


class Verdict(NamedTuple):
    """A figure with its target, the most that it may be, or with `least` the least. Of the same unit."""

    what: str
    found: float
    target: float
    least: bool = False

    @property
    def met(self) -> bool:
        return self.excess <= 1

    @property
    def failed(self) -> bool:
        """Beyond the target by more than another machine explains."""
        return self.excess > ROOM

    @property
    def excess(self) -> float:
        """How many times the target it is; for a `least` one, the other way round."""
        if self.least:
            return self.target / self.found if self.found > 0 else float("inf")
        return self.found / self.target
