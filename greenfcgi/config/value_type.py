"""What a type of value is, and how a value that does not fit is reported."""

from collections.abc import Callable
from typing import Any, NamedTuple


class InvalidValue(Exception):
    """A value that a setting cannot have: what was found, what is expected, and its place (", element 2")."""

    def __init__(self, found: object, expected: str, place: str = "") -> None:
        super().__init__(expected)
        self.found = found
        self.expected = expected
        self.place = place


class ValueType(NamedTuple):
    """A type of value: what a message says is expected, and how a value is read from TOML and written back.

    `read` takes what TOML gave and the folder of config.toml, and raises `InvalidValue`; `write` undoes it.
    """

    expected: str
    read: Callable[[object, str], object]
    write: Callable[[Any], object] = lambda value: value
