"""Connections that scripts keep for the next who connects to the same, in any state of this process.

As OpenResty's `setkeepalive` does: a pool for each name, which is "host:port" unless `connect` was told another; at
most so many in it, of which the one that was used least recently goes first; each for so many seconds.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any, Final, NamedTuple

from gevent import get_hub

from ...lua.bridge import Bridge
from .endpoint import Endpoint

#: Where `setkeepalive` is not told (lua_socket_keepalive_timeout and lua_socket_pool_size of OpenResty).
DEFAULT_SECONDS: Final = 60.0
DEFAULT_SIZE: Final = 30


class _Kept(NamedTuple):
    endpoint: Endpoint
    until: float
    #: It gives the descriptor back that the connection takes.
    bridge: Bridge


_pools: dict[bytes, deque[_Kept]] = {}
#: Runs while there are any.
_timer: Any = None


def take(name: bytes) -> Endpoint | None:
    """The connection of this pool that was used last, if it is still good. Its descriptor is given back."""
    pool = _pools.get(name)
    while pool:
        kept = pool.pop()
        kept.bridge.give_descriptors(1)
        endpoint = kept.endpoint
        if monotonic() < kept.until and endpoint.is_quiet():
            endpoint.reused += 1
            return endpoint
        endpoint.close()
    _pools.pop(name, None)
    return None


def give(endpoint: Endpoint, seconds: float, size: int, bridge: Bridge) -> bytes:
    """Keep a connection; 0 seconds: for ever. Returns "", or why it cannot be: the caller closes it then."""
    if not endpoint.pool_name:
        return b"not connected"
    if not endpoint.is_quiet():
        return b"unread data in buffer, or closed"
    if not bridge.take_descriptors(1):
        return b"Too many open files"
    pool = _pools.setdefault(endpoint.pool_name, deque())
    while len(pool) >= max(size, 1):
        _drop(pool.popleft())
    pool.append(_Kept(endpoint, monotonic() + seconds if seconds else float("inf"), bridge))
    _look_later()
    return b""


def close_all() -> None:
    """Close all of them."""
    for pool in _pools.values():
        while pool:
            _drop(pool.pop())
    _pools.clear()


def _drop(kept: _Kept) -> None:
    kept.endpoint.close()
    kept.bridge.give_descriptors(1)


def _look_later() -> None:
    global _timer
    if _timer is None:
        _timer = get_hub().loop.timer(1.0, 1.0, ref=False)
        _timer.start(_look)


def _look() -> None:
    """Close those whose time is over, or whose other end has closed them."""
    global _timer
    now = monotonic()
    for name, pool in list(_pools.items()):
        for kept in list(pool):
            if now >= kept.until or not kept.endpoint.is_quiet():
                pool.remove(kept)
                _drop(kept)
        if not pool:
            del _pools[name]
    if not _pools:
        _timer.stop()
        _timer.close()
        _timer = None
