"""Which files depend on which links: a path names another file when a link that it goes through is changed.

Only remembers what it is given (`directories.link_chain` finds it); asks no file system.
"""

from __future__ import annotations

import os
from collections.abc import Collection


class LinkIndex:
    """Files by their paths as they are named, each with its link chain, and back from each path in a chain."""

    def __init__(self) -> None:
        self._chains: dict[str, tuple[str, ...]] = {}
        self._files: dict[str, set[str]] = {}
        #: Every folder above a path in a chain; None: to be computed again.
        self._above: set[str] | None = None

    def __len__(self) -> int:
        """How many files there are."""
        return len(self._chains)

    def files(self) -> list[str]:
        """All of them."""
        return list(self._chains)

    def put(self, file: str, chain: tuple[str, ...]) -> bool:
        """Set the link chain of a file. False when it is the same as before."""
        before = self._chains.get(file)
        if before == chain:
            return False
        self._forget(before or (), file)
        self._chains[file] = chain
        for path in chain:
            self._files.setdefault(path, set()).add(file)
        self._above = None
        return True

    def chain(self, file: str) -> tuple[str, ...]:
        """The link chain of a file."""
        return self._chains.get(file, ())

    def keep(self, files: Collection[str]) -> None:
        """Forget all others."""
        for file in self.files():
            if file not in files:
                self._forget(self._chains.pop(file), file)
        self._above = None

    def through(self, path: str) -> Collection[str]:
        """The files with this path in their chains."""
        return self._files.get(path, ())

    def affected_by(self, path: str) -> set[str]:
        """The files with this path, or one below it, in their chains."""
        found = set(self.through(path))
        if self._above is None:
            self._above = _above(self._files)
        if path in self._above:
            below = path.rstrip("/") + "/"
            for other, files in self._files.items():
                if other.startswith(below):
                    found |= files
        return found

    def _forget(self, chain: tuple[str, ...], file: str) -> None:
        for path in chain:
            files = self._files.get(path)
            if files is not None:
                files.discard(file)
                if not files:
                    del self._files[path]


def _above(paths: Collection[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        folder = os.path.dirname(path)
        while folder not in found:
            found.add(folder)
            folder = os.path.dirname(folder)
    return found
