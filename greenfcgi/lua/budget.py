"""The time that a script's code has: until its deadline, until it is told of as slow, until others have a turn.

While the code computes, Lua's count hook asks `tick` after each thousand instructions or so; while it waits, the wait
itself is bounded by `patience`. What cannot be asked (a C function of Lua that does not end) is the supervisor's
business: it sees that the process has stopped beating.
"""

from __future__ import annotations

from time import monotonic
from typing import Final, Protocol

from .turns import Turns

_NEVER: Final = float("inf")

#: What `tick` and `verdict` say: None, or one of these.
LATE: Final = True
SLOW: Final = False
#: What `tick` says of the hook itself: it is to come after fewer instructions, or as usual again. A thousand of them
#: can take a second, where each makes a string of megabytes or starts the garbage collector.
SOONER: Final = 1
AS_USUAL: Final = 0

#: Seconds for a round of turns: of many that compute, each has a shorter one, so that none waits for its deadline long.
_ROUND: Final = 0.1
#: The end of a turn that nobody has asked for yet.
_NOT_BEGUN: Final = 0.0
#: Seconds by which the hook may be late for a turn's end.
_MOST_LATE: Final = 0.01
#: The share of a slice that code may use where it has not waited for its turn. Sixty-four connections, as many as the
#: event loop takes from the system at once, use two slices then.
_SHORT: Final = 1 / 32


class Owner(Protocol):
    """Whose code runs."""

    def computes_long(self) -> None:
        """The code has computed for longer than a short turn."""


class Budget:
    """The time of one state's code; `begin` for each run of it.

    `timeout`, `slow_after` and `time_slice` are seconds. `slow_after` None: nobody wants to know.
    """

    __slots__ = (
        "_deadline", "_is_long", "_next", "_owner", "_slice", "_slow_at", "_told_before", "_turn_end",
        "_turns", "is_load", "timeout",
    )  # fmt: skip

    def __init__(self, turns: Turns, timeout: float, slow_after: float | None, time_slice: float) -> None:
        self._turns = turns
        self.timeout = timeout
        #: Seconds before the deadline at which it is time to tell of slow code; after it, where nobody wants to know.
        self._told_before = -_NEVER if slow_after is None else timeout - slow_after
        self._slice = time_slice
        #: A script is being loaded. That may take a whole turn at once: others that ask for it would load it once more
        #: meanwhile.
        self.is_load = False
        self.begin()

    def begin(self, deadline: float | None = None, owner: Owner | None = None) -> None:
        """Code starts to run; it has until `deadline`, in seconds of the monotonic clock, or for `timeout`.

        `owner` hears when it computes for longer than a short turn.
        """
        if deadline is None:
            deadline = monotonic() + self.timeout
        self._deadline = deadline
        self._slow_at = deadline - self._told_before
        self._is_long = False
        self._owner = owner
        # Most code ends before anybody asks: its turn is looked at when the hook comes first.
        self._turn_end = _NOT_BEGUN

    def left(self) -> float:
        """Seconds until the deadline; 0 when it has passed."""
        return max(0.0, self._deadline - monotonic())

    def spent(self) -> float:
        """Seconds since `begin`, or since the request began."""
        return self.timeout - (self._deadline - monotonic())

    def patience(self) -> float:
        """Seconds that the code may wait before `verdict` has something to say."""
        return max(0.0, min(self._deadline, self._slow_at) - monotonic())

    def verdict(self) -> bool | None:
        """LATE: the time is over. SLOW, once: it is time to tell where the code is. None: all is well.

        To be asked after each wait.
        """
        now = monotonic()
        # The wait was everybody's turn.
        self._begin_turn(now)
        return self._judge(now)

    def tick(self) -> bool | int | None:
        """As `verdict`, for code that computes; may give others a turn. Or SOONER, or AS_USUAL."""
        now = monotonic()
        if self._turn_end == _NOT_BEGUN:
            self._begin_turn(self._deadline - self.timeout)
        return None if now < self._next else self._look(now)

    def _look(self, now: float) -> bool | int | None:
        if not self._is_long:
            self._is_long = True
            if self._owner is not None:
                self._owner.computes_long()
            elif self.is_load and not self._turns.is_taken:
                self._turns.spend()
        late = now - self._turn_end
        verdict = self._judge(now)
        if late >= 0 and verdict is not LATE:
            self._turns.give_way()
            now = monotonic()
            self._begin_turn(now)
            verdict = self._judge(now) if verdict is None else verdict
        else:
            self._next = min(self._turn_end, self._slow_at, self._deadline)
        if verdict is not None:
            return verdict
        # Told at each look: which thread of a script was told last, and what it was armed with since, nobody knows.
        return SOONER if late > _MOST_LATE else AS_USUAL

    def _begin_turn(self, now: float) -> None:
        short = now + self._slice * _SHORT
        whole = now + min(self._slice, _ROUND / (len(self._turns) + 1))
        turns = self._turns
        is_whole = turns.is_taken or (self.is_load and not turns.is_spent)
        self._turn_end = whole if is_whole else min(short, whole)
        #: When the next look is due: soon at first, to learn whether the code computes for long.
        self._next = min(self._turn_end if self._is_long else short, self._turn_end, self._slow_at, self._deadline)

    def _judge(self, now: float) -> bool | None:
        if now >= self._deadline:
            return LATE
        if now >= self._slow_at:
            self._slow_at = _NEVER
            self._next = min(self._turn_end, self._deadline)
            return SLOW
        return None
