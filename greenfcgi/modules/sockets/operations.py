"""Operations that wait, which a script's call starts and, where somebody wants to know where the script is, calls on.

An operation is a generator: it yields what it waits for, an event and until when, and is asked again when the event is
set or the time has come. What it returns is what Lua gets.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, Final

from ...lua.bridge import Bridge, Outcome, Waitable
from .problems import problem_text

NEVER: Final = float("inf")

Step = Generator[tuple[Waitable, float], None, Any]
Waits = Generator[tuple[Waitable, float], None, Outcome]


class Operations:
    """The one that is under way, of a socket or of the state. Its `purpose` is the name of the call."""

    __slots__ = ("_operation", "_purpose", "done")

    def __init__(self) -> None:
        self._operation: Waits | None = None
        self._purpose = ""
        #: Bytes that the operation under way has sent, for where it fails.
        self.done = 0

    @property
    def is_idle(self) -> bool:
        """None is under way."""
        return self._operation is None

    def run(self, purpose: str, operation: Callable[[], Waits], bridge: Bridge) -> Outcome:
        """Start an operation, or go on with the one of this purpose that is under way.

        Returns what it returns, or what has ended it. A number: call again, as in `Answer`.
        """
        if self._operation is None:
            self._operation, self._purpose, self.done = operation(), purpose, 0
        elif purpose != self._purpose:
            # A finalizer, in the midst of what its own script waits for.
            return bridge.failure(b"Operation already in progress")
        is_over = True
        try:
            outcome = self._go_on(self._operation, bridge)
            is_over = type(outcome) is not int
        finally:
            # Whatever has ended it: the next is another.
            if is_over:
                self._operation.close()
                self._operation = None
        return outcome

    def _go_on(self, operation: Waits, bridge: Bridge) -> Outcome:
        while True:
            try:
                event, until = next(operation)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            except (OSError, UnicodeError) as problem:
                return bridge.failure(problem_text(problem), self.done)
            outcome = bridge.wait(event, None if until == NEVER else max(0.0, until - monotonic()))
            if outcome is not None:
                return outcome
