"""Signals for a loop that polls: a handler notes the number, and the loop wakes up. Nothing else happens in it."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterable
from types import FrameType


class Signals:
    """The signals that have come. `descriptor` can be read when there are any."""

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
        """Let them wait; around a fork, so that none comes to a process that is not itself yet."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)

    def unblock(self) -> None:
        """Let them come again."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def forget(self) -> None:
        """In a new process: give everything back that belongs to the old one, and let signals come."""
        signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._wake)
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        self.unblock()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._queue.append(signal.Signals(number))
