"""Whether a figure is what it should be, and how far a short measurement on a shared machine may be from that."""

from typing import NamedTuple

#: How far beyond its target a figure may be in the short form, as a factor. Beside other programs one run of it has
#: shown 1.5 times what a quiet machine shows; a change that makes the server twice as dear is not noise.
ROOM = 2.0


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
        """Beyond the target by more than noise explains."""
        return self.excess > ROOM

    @property
    def excess(self) -> float:
        """How many times the target it is; for a `least` one, the other way round."""
        if self.least:
            return self.target / self.found if self.found > 0 else float("inf")
        return self.found / self.target
