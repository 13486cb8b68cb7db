"""The time that a script's code has: until its deadline, until it is told of as slow, until others have a turn.

While the code computes, Lua's count hook asks `tick` after each thousand instructions or so; while it waits, the wait
itself is bounded by `patience`. What cannot be asked (a C function of Lua that does not end) is the supervisor's
business: it sees that the process has stopped beating.
"""

from __future__ import annotations

from time import monotonic

from .turns import Turns

_NEVER = float("inf")

#: What `tick` and `verdict` say: nothing, or one of these.
LATE = True
SLOW = False


class Budget:
    """The time of one state's code; `begin` for each run of it.

    `timeout`, `slow_after` and `time_slice` are seconds. `slow_after` None: nobody wants to know.
    """

    __slots__ = ("_deadline", "_next", "_slice", "_slow_after", "_slow_at", "_turn_end", "_turns", "timeout")

    def __init__(self, turns: Turns, timeout: float, slow_after: float | None, time_slice: float) -> None:
        self._turns = turns
        self.timeout = timeout
        self._slow_after = slow_after
        self._slice = time_slice
        self.begin(_NEVER)

    def begin(self, deadline: float | None = None) -> None:
        """Code starts to run; it has until `deadline`, in seconds of the monotonic clock, or for `timeout`."""
        if deadline is None:
            deadline = monotonic() + self.timeout
        self._deadline = deadline
        self._slow_at = _NEVER if self._slow_after is None else deadline - self.timeout + self._slow_after
        #: When the next look is due: at the first tick.
        self._next = self._turn_end = 0.0

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
        # The wait was everybody's turn.
        self._next = self._turn_end = 0.0
        return self._judge(monotonic())

    def tick(self) -> bool | None:
        """As `verdict`, for code that computes; may give others a turn."""
        now = monotonic()
        return None if now < self._next else self._look(now)

    def _look(self, now: float) -> bool | None:
        if self._turn_end == 0.0:
            self._turn_end = now + self._slice
        elif now >= self._turn_end:
            self._turns.give_way()
            now = monotonic()
            self._turn_end = now + self._slice
        verdict = self._judge(now)
        self._next = 0.0 if verdict is LATE else min(self._deadline, self._slow_at, self._turn_end)
        return verdict

    def _judge(self, now: float) -> bool | None:
        if now >= self._deadline:
            return LATE
        if now >= self._slow_at:
            self._slow_at = _NEVER
            return SLOW
        return None
