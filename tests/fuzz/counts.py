"""What a fuzzer has done, in a file: libFuzzer ends its process without a last word from Python."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

_FIGURES = struct.Struct("3Q")


class Figures(NamedTuple):
    """The sums over all inputs."""

    inputs: int
    #: Inputs that ended in a `ProtocolError`.
    refused: int
    #: Requests that came in whole.
    answered: int


class Counts:
    """Figures that are in the file as soon as they are counted."""

    def __init__(self, path: str) -> None:
        Path(path).write_bytes(bytes(_FIGURES.size))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FIGURES.size)
        self._inputs = self._refused = self._answered = 0

    def add(self, refused: bool, answered: int) -> None:
        """Count one input."""
        self._inputs += 1
        self._refused += refused
        self._answered += answered
        _FIGURES.pack_into(self._map, 0, self._inputs, self._refused, self._answered)


def figures(path: Path) -> Figures:
    """What a fuzzer has left in the file."""
    return Figures(*_FIGURES.unpack(path.read_bytes()))
