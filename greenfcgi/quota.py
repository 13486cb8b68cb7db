"""A count with a limit: what a process holds for others, in bytes of memory or in descriptors.

Its user takes an amount before it holds it, and gives it back afterwards. What a quota refuses waits, goes to a file,
or is rejected; that is its user's decision. How the limits of a process are shared out is in `serving.shares`.
"""

from __future__ import annotations


class Quota:
    """At most `limit` of something, in bytes or in pieces."""

    __slots__ = ("limit", "peak", "refused", "returned", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: What is held now, and the peak so far.
        self.taken = 0
        self.peak = 0
        #: How often the limit was reached.
        self.refused = 0
        #: What has been given back since this was set to 0 last.
        self.returned = 0

    def take(self, amount: int) -> bool:
        """Hold so much more. False, and nothing is taken, where that exceeds the limit."""
        taken = self.taken + amount
        if taken > self.limit:
            self.refused += 1
            return False
        self.taken = taken
        if taken > self.peak:
            self.peak = taken
        return True

    def give_back(self, amount: int) -> None:
        """Hold so much less."""
        self.taken -= amount
        self.returned += amount
