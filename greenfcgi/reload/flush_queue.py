"""The flush queue: which files have changed since it was last drained.

A path in it is a file's or a folder's; a folder's stands for everything below it. It may be there although
nothing has changed (a swap file, a CREATE that a CLOSE_WRITE follows); the reverse must not happen. Paths are
real ones (`os.path.realpath`), and for a file that links lead to, also the one by which it was asked for. Nothing here
waits.
"""

from collections.abc import Callable
from typing import NamedTuple


class Changes(NamedTuple):
    """What a flush queue held: changed paths, and whether all known files are to be checked."""

    paths: frozenset[str]
    everything: bool


class FlushQueue:
    """Changed paths, each once, until they are drained."""

    def __init__(self) -> None:
        #: Called when something is put into the empty queue, possibly in the hub: it must not wait.
        self.on_put: Callable[[], None] | None = None
        #: Called with what somebody drains, before they have it. It must not wait, either.
        self.on_drain: Callable[[Changes], None] | None = None
        self._paths: set[str] = set()
        self._everything = False

    def __bool__(self) -> bool:
        return self._everything or bool(self._paths)

    @property
    def paths(self) -> frozenset[str]:
        """The changed paths in it."""
        return frozenset(self._paths)

    def put(self, path: str) -> None:
        """`path`, or something below it, has changed."""
        was_empty = not self
        self._paths.add(path)
        self._notify(was_empty)

    def put_everything(self) -> None:
        """Changes may have been missed: all known files are to be checked."""
        was_empty = not self
        self._everything = True
        self._notify(was_empty)

    def drain(self) -> Changes:
        """Everything put since the last time; the queue is empty afterwards."""
        changes = Changes(frozenset(self._paths), self._everything)
        self._paths.clear()
        self._everything = False
        if self.on_drain is not None:
            self.on_drain(changes)
        return changes

    def _notify(self, was_empty: bool) -> None:
        if was_empty and self.on_put is not None:
            self.on_put()
