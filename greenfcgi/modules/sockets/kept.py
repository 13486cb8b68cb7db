"""Connections that scripts keep for the next who connects to the same, in any state of this process.

As OpenResty's `setkeepalive` does: a pool for each name, which is "host:port" unless `connect` was told another; at
most so many in it, of which the one that was used least recently goes first; each for so many seconds.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from time import monotonic
from typing import Final, NamedTuple

from ...quota import Quota
from ..tidying import Tidying
from .endpoint import Endpoint


class _Kept(NamedTuple):
    endpoint: Endpoint
    until: float
    since: float
    #: Of which the connection's descriptor is taken. Not the state's bridge: that may go meanwhile.
    files: Quota | None


_SINCE: Final = attrgetter("since")

_pools: dict[bytes, deque[_Kept]] = {}


def take(name: bytes) -> Endpoint | None:
    """The connection of this pool that was used last, if it is still good. Its descriptor is given back."""
    pool = _pools.get(name)
    while pool:
        kept = pool.pop()
        _give_back(kept)
        endpoint = kept.endpoint
        if monotonic() < kept.until and endpoint.is_quiet():
            endpoint.reused += 1
            return endpoint
        endpoint.close()
    _pools.pop(name, None)
    return None


def give(endpoint: Endpoint, seconds: float, size: int, files: Quota | None) -> bytes:
    """Keep a connection; 0 seconds: for ever. Returns "", or why it cannot be: the caller closes it then."""
    if not endpoint.pool_name:
        return b"not connected"
    if not endpoint.is_quiet():
        return b"unread data in buffer, or closed"
    _tidying.begin()
    pool = _pools.setdefault(endpoint.pool_name, deque())
    while len(pool) >= size:
        _drop(pool.popleft())
    if files is not None and not files.take(1) and not (drop_oldest(files) and files.take(1)):
        return b"Too many open files"
    now = monotonic()
    pool.append(_Kept(endpoint, now + seconds if seconds else float("inf"), now, files))
    return b""


def drop_oldest(files: Quota | None) -> bool:
    """Others need a descriptor of this quota: close the connection that was kept first. False: there is none."""
    found = min((pool[0] for pool in _pools.values() if pool and pool[0].files is files), key=_SINCE, default=None)
    if found is None:
        return False
    _pools[found.endpoint.pool_name].popleft()
    _drop(found)
    return True


def _drop(kept: _Kept) -> None:
    kept.endpoint.close()
    _give_back(kept)


def _give_back(kept: _Kept) -> None:
    if kept.files is not None:
        kept.files.give_back(1)


def _look() -> bool:
    """Close those whose time is over, or whose other end has closed them."""
    now = monotonic()
    for name, pool in list(_pools.items()):
        for kept in list(pool):
            if now >= kept.until or not kept.endpoint.is_quiet():
                pool.remove(kept)
                _drop(kept)
        if not pool:
            del _pools[name]
    return bool(_pools)


_tidying: Final = Tidying(_look)
