"""Which files hang on which places: a file is another one when a link on the way to it leads elsewhere.

Only remembers what it is given (`folders.way` finds it); asks no file system.
"""

from __future__ import annotations

import os
from collections.abc import Collection


class Ways:
    """Files by their paths as they are named, each with the places on the way to it."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[str, ...]] = {}
        self._files: dict[str, set[str]] = {}
        #: Every folder above a place; None: to be found out again.
        self._above: set[str] | None = None

    def __len__(self) -> int:
        """How many files there are."""
        return len(self._places)

    def files(self) -> list[str]:
        """All of them."""
        return list(self._places)

    def put(self, file: str, places: tuple[str, ...]) -> bool:
        """Say which places a file hangs on. False when that is known already."""
        before = self._places.get(file)
        if before == places:
            return False
        self._forget(before or (), file)
        self._places[file] = places
        for place in places:
            self._files.setdefault(place, set()).add(file)
        self._above = None
        return True

    def places(self, file: str) -> tuple[str, ...]:
        """The places that a file hangs on."""
        return self._places.get(file, ())

    def keep(self, files: Collection[str]) -> None:
        """Forget all others."""
        for file in self.files():
            if file not in files:
                self._forget(self._places.pop(file), file)
        self._above = None

    def at(self, place: str) -> Collection[str]:
        """The files that hang on this place."""
        return self._files.get(place, ())

    def touched(self, place: str) -> set[str]:
        """The files that hang on this place, or on one below it."""
        found = set(self.at(place))
        if self._above is None:
            self._above = _above(self._files)
        if place in self._above:
            below = place.rstrip("/") + "/"
            for other, files in self._files.items():
                if other.startswith(below):
                    found |= files
        return found

    def _forget(self, places: tuple[str, ...], file: str) -> None:
        for place in places:
            files = self._files.get(place)
            if files is not None:
                files.discard(file)
                if not files:
                    del self._files[place]


def _above(places: Collection[str]) -> set[str]:
    found: set[str] = set()
    for place in places:
        folder = os.path.dirname(place)
        while folder not in found:
            found.add(folder)
            folder = os.path.dirname(folder)
    return found
