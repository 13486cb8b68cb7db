"""Signals for a loop that polls: a handler only notes the number, which wakes up the loop."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterable
from types import FrameType


class Signals:
    """Queue of signals that have come. `descriptor` is readable when there are any."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = tuple(numbers)
        self._queue: deque[signal.Signals] = deque()
        self.descriptor, self._wake = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, self._note)

    def take(self) -> list[signal.Signals]:
        """The signals since the last call, in their order."""
        try:
            while os.read(self.descriptor, 4096):
                pass
        except BlockingIOError:
            pass
        found = []
        while self._queue:
            found.append(self._queue.popleft())
        return found

    def block(self) -> None:
        """Hold them back: around a fork, so that none reaches a process that still has its parent's handlers."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)

    def unblock(self) -> None:
        """Deliver them again, and those that were held back."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def forget(self) -> None:
        """In a forked process: drop what belongs to the parent, restore default handlers, and unblock."""
        signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._wake)
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        self.unblock()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._queue.append(signal.Signals(number))
