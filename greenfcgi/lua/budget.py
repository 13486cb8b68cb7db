"""The time that a script's code has: until its deadline, until it is logged as slow, until others have a turn.

While the code computes, Lua's count hook asks `tick` after each thousand instructions or so; while it waits, the wait
itself is bounded by `max_wait`. What cannot be asked (a C function of Lua that does not end) is the supervisor's
business: it sees that the process sends no heartbeat.
"""

from __future__ import annotations

from time import monotonic
from typing import Final, Protocol

from .turns import Turns

_NEVER: Final = float("inf")

#: What `tick` and `check` return: None, or one of these, which `limits.lua` knows.
LATE: Final = 1
SLOW: Final = 2
#: What `tick` returns for the hook itself: it is to come after fewer instructions, or as usual again. A thousand of
#: them can take a second, where each makes a string of megabytes or starts the garbage collector.
HOOK_SOON: Final = 3
HOOK_AS_USUAL: Final = 4

#: The end of a turn that nobody has asked for yet.
_NOT_BEGUN: Final = 0.0
#: Seconds by which the hook may be late for a turn's end.
_MAX_LATE: Final = 0.01


class Owner(Protocol):
    """Whose code runs."""

    def computes_long(self) -> None:
        """The code has computed for longer than a short turn."""


class Budget:
    """The time of one state's code; `begin` for each run of it.

    `timeout` and `slow_after` are seconds. `slow_after` None: there is no slow log.
    """

    __slots__ = (
        "_deadline", "_extension", "_is_long", "_is_renewed", "_next", "_owner", "_report_before", "_slow_at",
        "_turn_end", "_turns", "is_load", "state", "timeout",
    )  # fmt: skip

    def __init__(self, turns: Turns, timeout: float, slow_after: float | None) -> None:
        self._turns = turns
        #: Whose code it is: what `Turns.running` is while it runs.
        self.state: object | None = None
        self.timeout = timeout
        #: Seconds before the deadline at which slow code is logged; after it where there is no slow log.
        self._report_before = -_NEVER if slow_after is None else timeout - slow_after
        #: A script is being loaded. That may take a whole turn at once: others that ask for it would load it once more
        #: meanwhile.
        self.is_load = False
        #: What `_extension` is, if anything: by `renew`, not by `extend`.
        self._is_renewed = False
        self.begin()

    def begin(self, deadline: float | None = None, owner: Owner | None = None) -> None:
        """Code starts to run; it has until `deadline`, in seconds of the monotonic clock, or for `timeout`.

        `owner` hears when it computes for longer than a short turn.
        """
        if deadline is None:
            deadline = monotonic() + self.timeout
        self._deadline = deadline
        self._extension = 0.0
        self._slow_at = deadline - self._report_before
        self._is_long = False
        self._owner = owner
        # Most code ends before anybody asks: its turn is looked at when the hook comes first.
        self._turn_end = _NOT_BEGUN
        self._turns.running = self.state

    def extend(self, seconds: float) -> None:
        """The code has so many seconds from now on, whatever it had before."""
        self._is_renewed = False
        self._extend(seconds)

    def renew(self) -> None:
        """The code has made progress, and has its whole time again from now on."""
        self._is_renewed = True
        self._extend(self.timeout)

    def _extend(self, seconds: float) -> None:
        deadline = monotonic() + seconds
        self._extension += deadline - self._deadline
        self._deadline = deadline
        self._begin_turn(deadline - seconds)

    def end(self) -> None:
        """The code has ended."""
        self._turns.running = None

    def resume(self) -> None:
        """The code runs again after a wait, without `check`."""
        self._turns.running = self.state

    def left(self) -> float:
        """Seconds until the deadline; 0 when it has passed."""
        return max(0.0, self._deadline - monotonic())

    @property
    def is_extended(self) -> bool:
        """The code has been given other time than `timeout`."""
        return self._extension != 0 and not self._is_renewed

    def elapsed(self) -> float:
        """Seconds since `begin`, or since the request began."""
        return self.timeout - (self._deadline - self._extension - monotonic())

    def max_wait(self) -> float:
        """Seconds that the code, which is about to wait, may do so before `check` has something to say."""
        self._turns.running = None
        return max(0.0, min(self._deadline, self._slow_at) - monotonic())

    def check(self) -> int | None:
        """After each wait. LATE: the time is over. SLOW, once: it is time to log where it is. None: it goes on."""
        now = monotonic()
        # The wait was everybody's turn.
        self._begin_turn(now)
        return self._judge(now)

    def tick(self) -> int | None:
        """As `check`, for code that computes; may give others a turn. Or HOOK_SOON, or HOOK_AS_USUAL."""
        now = monotonic()
        if self._turn_end == _NOT_BEGUN:
            self._begin_turn(self._deadline - self.timeout)
        return None if now < self._next else self._look(now)

    def _look(self, now: float) -> int | None:
        if not self._is_long:
            self._is_long = True
            if self._owner is not None:
                self._owner.computes_long()
            elif self.is_load and not self._turns.is_taken:
                self._turns.spend()
        late = now - self._turn_end
        found = self._judge(now)
        if late >= 0 and found != LATE:
            self._turns.running = None
            self._turns.give_way()
            now = monotonic()
            self._begin_turn(now)
            found = self._judge(now) if found is None else found
        else:
            self._next = min(self._turn_end, self._slow_at, self._deadline)
        if found is not None:
            return found
        # At each look, since each thread of a script has a hook of its own, and nobody knows which of them asks.
        return HOOK_SOON if late > _MAX_LATE else HOOK_AS_USUAL

    def _begin_turn(self, now: float) -> None:
        turns = self._turns
        turns.running = self.state
        short, whole = now + turns.short, now + turns.length
        self._turn_end = min(short, whole)
        if turns.is_taken:
            # What others have left of it, or a short one.
            self._turn_end = max(self._turn_end, now + turns.left())
        elif self.is_load and not turns.is_spent:
            self._turn_end = whole
        #: When the next look is due: soon at first, to learn whether the code computes for long.
        self._next = min(self._turn_end if self._is_long else short, self._turn_end, self._slow_at, self._deadline)

    def _judge(self, now: float) -> int | None:
        if now >= self._deadline:
            return LATE
        if now >= self._slow_at:
            self._slow_at = _NEVER
            self._next = min(self._turn_end, self._deadline)
            return SLOW
        return None
