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
#: Bytes for which there is always room.
_LITTLE: Final = 16384
_SCALARS: Final = (float, bool, type(None))
_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1


class Portion(NamedTuple):
    """Values of some rows, one after the other; where a row has more than `MAX_VALUES`, a part of it."""

    values: Row
    #: Bytes of all texts in it.
    size: int


def portions(rows: Sequence[Row], has_integers: bool) -> Iterator[Portion]:
    """The rows in portions. `has_integers`: Lua has them, with 64 bits; else, what is beyond 53 bits becomes text."""
    width = len(rows[0])
    if len(rows) == 1 and width <= MAX_VALUES:
        yield _single(rows[0], has_integers)
        return
    step = max(1, min(ROWS, MAX_VALUES // width))
    size = _size(rows, has_integers)
    if 0 <= size <= _LITTLE and width <= MAX_VALUES:
        # As room for each of them.
        for start in range(0, len(rows), step):
            yield Portion(tuple(chain.from_iterable(rows[start : start + step])), size)
        return
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        values = tuple(chain.from_iterable(some))
        for at in range(0, len(values), MAX_VALUES):
            yield _looked_through(values[at : at + MAX_VALUES], has_integers)


def _single(row: Row, has_integers: bool) -> Portion:
    low, high = (_MIN_INT, _MAX_INT) if has_integers else (-_EXACT, _EXACT)
    size = 0
    for value in row:
        kind = type(value)
        if kind is bytes:
            size += len(value)  # type: ignore[arg-type]
        elif kind is int:
            if not low <= value <= high:  # type: ignore[operator]
                return _looked_through(row, has_integers)
        elif kind not in _SCALARS:
            return _looked_through(row, has_integers)
    return Portion(row, size)


def _looked_through(values: Row, has_integers: bool) -> Portion:
    crossing = tuple([crossing_of(value, has_integers) for value in values])
    return Portion(crossing, sum([len(value) for value in crossing if isinstance(value, bytes)]))


def _size(rows: Sequence[Row], has_integers: bool) -> int:
    """Bytes of all texts; less than 0 where that takes a look at each value."""
    size = 0
    limit = _MAX_INT if has_integers else _EXACT
    for column in zip(*rows, strict=True):
        kind = type(column[0])
        try:
            if kind is bytes:
                size += sum(map(len, column))
            elif kind is int or kind is float:
                # Where one is no number at all, nothing holds.
                low, high = min(column), max(column)
                if not (-limit <= low and high <= limit):
                    return -1
            elif column.count(None) != len(column):
                return -1
        except TypeError:
            # Of several types, among them NULL.
            return -1
    return size


def crossing_of(value: object, has_integers: bool) -> bool | int | float | bytes | None:
    """A value as Lua gets it: what it has nothing for becomes text."""
    if type(value) is int:
        is_exact = _MIN_INT <= value <= _MAX_INT if has_integers else -_EXACT <= value <= _EXACT
        return value if is_exact else b"%d" % value
    if value is None or isinstance(value, (bytes, float, bool)):
        return value
    # No driver should have it; but no object of Python's may cross.
    return str(value).encode("utf-8", "backslashreplace")
