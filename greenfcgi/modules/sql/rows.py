"""Rows on their way to Lua: portions, each of which crosses at once as so many results of a function.

A push into a state must have room, and a number of more than 53 bits becomes another where Lua has no integers. To
look at each value costs as much as to fetch it, so the rows are looked at column by column, which mostly have one type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

from .driver import ROWS, Row

#: Values that cross at once: some Luas have no room for more than 200 on their stack.
MAX_VALUES: Final = 100
#: Whole numbers up to here are exact in a double.
_EXACT: Final = 2**53
_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1


class Portion(NamedTuple):
    """Values of some rows, one after the other; where a row has more than `MAX_VALUES`, a part of it."""

    values: Row
    #: Bytes of all texts in it.
    size: int


def portions(rows: Sequence[Row], has_integers: bool) -> Iterator[Portion]:
    """The rows in portions. `has_integers`: Lua has them, with 64 bits; else, what is beyond 53 bits becomes text."""
    width = len(rows[0])
    step = max(1, min(ROWS, MAX_VALUES // width))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        values = tuple(chain.from_iterable(some))
        size = _size(some, has_integers)
        if size < 0:
            values = tuple([_crossing(value, has_integers) for value in values])
            size = sum([len(value) for value in values if isinstance(value, bytes)])
        if width <= MAX_VALUES:
            yield Portion(values, size)
        else:
            for at in range(0, width, MAX_VALUES):
                part = values[at : at + MAX_VALUES]
                yield Portion(part, sum([len(value) for value in part if isinstance(value, bytes)]))


def _size(rows: Sequence[Row], has_integers: bool) -> int:
    """Bytes of all texts; less than 0 where that takes a look at each value."""
    size = 0
    limit = _MAX_INT if has_integers else _EXACT
    for column in zip(*rows):
        kind = type(column[0])
        try:
            if kind is bytes:
                size += sum(map(len, column))  # type: ignore[arg-type]
            elif kind is int or kind is float:
                # Where one is no number at all, nothing holds.
                low, high = min(column), max(column)  # type: ignore[type-var]
                if not (-limit <= low and high <= limit):  # type: ignore[operator]
                    return -1
            elif column.count(None) != len(column):
                return -1
        except TypeError:
            # Of several types, among them NULL.
            return -1
    return size


def _crossing(value: None | bool | int | float | bytes, has_integers: bool) -> None | bool | int | float | bytes:
    if type(value) is int:
        is_exact = _MIN_INT <= value <= _MAX_INT if has_integers else -_EXACT <= value <= _EXACT
        return value if is_exact else b"%d" % value
    return value
