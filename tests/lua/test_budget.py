"""What the count hook is told: how soon it is to come again."""

import pytest

from greenfcgi.lua import budget, turns
from greenfcgi.lua.budget import HOOK_AS_USUAL, HOOK_SOON, LATE, SLOW, Budget
from greenfcgi.lua.turns import Turns


class Alone(Turns):
    """Nobody else has a turn, and each turn is a whole one. `clock` is the time."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__(0.01)
        self._clock = clock
        self.is_taken = True
        self._began = clock[0]

    def give_way(self) -> None:
        self._began = self._clock[0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, as the first item."""
    now = [1000.0]
    for module in (budget, turns):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_the_hook_is_told_at_each_look_how_soon_to_come(clock: list[float]) -> None:
    """After a look that came late it is to come sooner, after others as usual; also when it has been told before.

    A coroutine may have been told long ago, and another run of the script may have begun meanwhile.
    """
    alone = Alone(clock)
    code = Budget(alone, timeout=30, slow_after=None)

    def begin() -> None:
        alone._began = clock[0]
        code.begin()

    begin()
    for late, expected in ((0.5, HOOK_SOON), (0.5, HOOK_SOON), (0.001, HOOK_AS_USUAL), (0.001, HOOK_AS_USUAL)):
        clock[0] += 0.01 + late
        assert code.tick() is expected
    begin()
    clock[0] += 0.5
    assert code.tick() == HOOK_SOON
    begin()
    assert code.tick() is None
    clock[0] += 0.011
    assert code.tick() == HOOK_AS_USUAL


def test_slow_and_late_come_before_turns(clock: list[float]) -> None:
    """Once it is told that code is slow, and then, at every look, that its time is over."""
    code = Budget(Alone(clock), timeout=2, slow_after=1)
    code.begin()
    assert code.max_wait() == 1
    clock[0] += 1
    assert code.tick() == SLOW
    assert code.max_wait() == 1
    clock[0] += 1
    assert code.tick() == LATE
    assert code.tick() == LATE
    assert code.left() == 0
