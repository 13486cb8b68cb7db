"""One figure of what scripts wait for."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """What it is, its value and unit, and the most that it should be; None: no more than told."""

    name: str
    value: float
    unit: str
    goal: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the goal is met; "-" where there is none."""
        if self.goal is None:
            return "-"
        return f"<= {self.goal:g} {'met' if self.value <= self.goal else 'MISSED'}"
