"""What a command waits for, on one line of the terminal, when that takes longer than a second.

Nothing is written where stderr is no terminal. The cursor stays at the beginning of the line, so that a line of the log
that comes meanwhile takes its place.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from .text import escape

_STDERR: Final = 2
#: Seconds of silence, and then between two looks.
DELAY: Final = 1.0
INTERVAL: Final = 0.5
_ERASE: Final = b"\r\x1b[K"


class Progress:
    """One thing that is waited for, from now on."""

    def __init__(self) -> None:
        self._since = monotonic()
        self._is_on = os.isatty(_STDERR)
        self._shown = ""

    def show(self, text: str) -> None:
        """Show what is waited for, if that has taken a second. Never raises."""
        if self._is_on and text != self._shown and monotonic() - self._since >= DELAY:
            self._shown = text
            self._write(_ERASE + escape(text)[: columns(_STDERR) - 1].encode() + b"\r")

    def clear(self) -> None:
        """It has come. Never raises."""
        if self._shown:
            self._shown = ""
            self._write(_ERASE)

    def _write(self, data: bytes) -> None:
        try:
            os.write(_STDERR, data)
        except OSError:
            # The terminal has gone.
            self._is_on = False


def columns(descriptor: int) -> int:
    """The width of the terminal that a descriptor is; 80 where it is none."""
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return 80


@contextmanager
def shown(text: Callable[[], str]) -> Iterator[None]:
    """Show what is waited for while the block runs. It takes SIGALRM for that, where stderr is a terminal."""
    if not os.isatty(_STDERR):
        yield
        return
    progress = Progress()
    before = signal.signal(signal.SIGALRM, lambda number, frame: progress.show(text()))
    signal.setitimer(signal.ITIMER_REAL, DELAY, INTERVAL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        progress.clear()
