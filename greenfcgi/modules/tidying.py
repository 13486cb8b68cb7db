"""Looks once a second at what is kept, as long as there is anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent import get_hub


class Tidying:
    """`look` lets go of what has had its time, and says whether anything is left."""

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look
        #: Runs while there is anything.
        self._timer: Any = None

    def begin(self) -> None:
        """Something is kept."""
        if self._timer is None:
            self._timer = get_hub().loop.timer(1.0, 1.0, ref=False)
            self._timer.start(self._tidy)

    def _tidy(self) -> None:
        if not self._look():
            self._timer.stop()
            self._timer.close()
            self._timer = None
