"""What the count hook is told: how soon it is to come again."""

import pytest

from greenfcgi.lua import budget
from greenfcgi.lua.budget import HOOK_AS_USUAL, HOOK_SOON, LATE, SLOW, Budget
from greenfcgi.lua.turns import Turns


class Alone(Turns):
    """Nobody else has a turn, and each turn is a whole one."""

    def __init__(self) -> None:
        super().__init__()
        self.is_taken = True

    def give_way(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, as the first item."""
    now = [1000.0]
    monkeypatch.setattr(budget, "monotonic", lambda: now[0])
    return now


def test_the_hook_is_told_at_each_look_how_soon_to_come(clock: list[float]) -> None:
    """After a look that came late it is to come sooner, after others as usual; also when it has been told before.

    A coroutine may have been told long ago, and another run of the script may have begun meanwhile.
    """
    code = Budget(Alone(), timeout=30, slow_after=None, time_slice=0.01)
    code.begin()
    for late, expected in ((0.5, HOOK_SOON), (0.5, HOOK_SOON), (0.001, HOOK_AS_USUAL), (0.001, HOOK_AS_USUAL)):
        clock[0] += 0.01 + late
        assert code.tick() is expected
    code.begin()
    clock[0] += 0.5
    assert code.tick() == HOOK_SOON
    code.begin()
    assert code.tick() is None
    clock[0] += 0.011
    assert code.tick() == HOOK_AS_USUAL


def test_slow_and_late_come_before_turns(clock: list[float]) -> None:
    """Once it is told that code is slow, and then, at every look, that its time is over."""
    code = Budget(Alone(), timeout=2, slow_after=1, time_slice=0.01)
    code.begin()
    assert code.max_wait() == 1
    clock[0] += 1
    assert code.tick() == SLOW
    assert code.max_wait() == 1
    clock[0] += 1
    assert code.tick() == LATE
    assert code.tick() == LATE
    assert code.left() == 0
