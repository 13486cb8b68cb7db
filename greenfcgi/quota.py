"""A count with a limit: of bytes, or of descriptors, which many take from and give back to."""

from __future__ import annotations


class Quota:
    """`limit` is the most that may be taken together; `taken` is how much of it is."""

    __slots__ = ("limit", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    def take(self, amount: int) -> bool:
        """Take so much more. False, and nothing is taken, when that would pass the limit."""
        if self.taken + amount > self.limit:
            return False
        self.taken += amount
        return True

    def give_back(self, amount: int) -> None:
        """So much is not in use any more."""
        self.taken -= amount
