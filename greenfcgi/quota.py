"""A count with a limit: what a process holds for others, in bytes of memory or in descriptors.

Whoever wants to hold something takes it first, and gives it back when it is gone. What a quota refuses waits, goes to a
file, or is turned away; that is its holder's decision. How the limits of a process are shared out is in `shares`.
"""

from __future__ import annotations


class Quota:
    """At most `limit` of something, in bytes or in pieces."""

    __slots__ = ("limit", "peak", "refused", "returned", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: What is held now, and the most that has been.
        self.taken = 0
        self.peak = 0
        #: How often nothing was left.
        self.refused = 0
        #: What has been given back since somebody set this to 0.
        self.returned = 0

    def take(self, amount: int) -> bool:
        """Hold so much more; False, and nothing is taken, where that passes the limit."""
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
