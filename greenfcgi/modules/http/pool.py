"""Connections kept for the next request to the same origin, by any state of this process.

The one that was used last is taken first; too many, too old or closed by the other end are closed. A descriptor that a
connection has taken of the scripts' quota stays taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from time import monotonic
from typing import Final, NamedTuple

from ..tidying import Tidying
from .connection import Connection

#: Seconds; some servers close them after 5 (Apache), many after 60 or more.
IDLE_SECONDS: Final = 30.0
MAX_PER_ORIGIN: Final = 32
MAX_KEPT: Final = 128


class _Kept(NamedTuple):
    connection: Connection
    until: float


#: In the order in which they were given.
_kept: deque[_Kept] = deque()


def take(key: Hashable) -> Connection | None:
    """The connection to this origin that was used last, if it is still good."""
    for each in [each for each in reversed(_kept) if each.connection.key == key]:
        _kept.remove(each)
        if monotonic() < each.until and each.connection.is_quiet():
            return each.connection
        each.connection.close()
    return None


def give(connection: Connection) -> None:
    """Keep a connection on which nothing is under way; or close it."""
    if not connection.is_quiet():
        connection.close()
        return
    connection.release()
    same = [each for each in _kept if each.connection.key == connection.key]
    if len(same) >= MAX_PER_ORIGIN:
        _drop(same[0])
    elif len(_kept) >= MAX_KEPT:
        _drop(_kept[0])
    _kept.append(_Kept(connection, monotonic() + IDLE_SECONDS))
    _tidying.begin()


def drop_oldest() -> bool:
    """Close one, since descriptors are needed. Returns whether there was any."""
    if not _kept:
        return False
    _drop(_kept[0])
    return True


def close_all() -> None:
    """Close all of them."""
    while drop_oldest():
        pass


def _drop(each: _Kept) -> None:
    _kept.remove(each)
    each.connection.close()


def _look() -> bool:
    """Close those whose time is over, or whose other end has closed them."""
    now = monotonic()
    for each in list(_kept):
        if now >= each.until or not each.connection.is_quiet():
            _drop(each)
    return bool(_kept)


_tidying: Final = Tidying(_look)
