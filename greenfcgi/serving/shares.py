"""Shares of what a process may hold for its clients: of the memory that `buffers` sets, and of its file descriptors.

Each use has a share of its own, so that none can take what another one needs: uploads never keep requests from
coming in, and neither keeps replies from going out. What the shares are for, and what happens when one is used up:

    memory       requests   parameters, and what has come in and waits   503, or the connection is closed
                 bodies     of requests                                  they go to a temporary file
                 replies    that web servers do not take yet             they go to a temporary file
    descriptors  connections   from web servers                          others wait in the backlog
                 temporary     files of bodies and of replies            503, or the connection is closed
                 scripts       files that scripts open                   an error in the script, as of the system

Some descriptors are in no share: those for listening, logs, and files that are read and closed.
"""

from __future__ import annotations

from typing import NamedTuple

from ..quota import Quota
from ..system.portable import descriptors

#: Descriptors that are in no share; of a small limit, at most a quarter.
_RESERVE = 64


class Memory(NamedTuple):
    """Shares of `buffers`, in bytes."""

    requests: Quota
    bodies: Quota
    replies: Quota


class Descriptors(NamedTuple):
    """Shares of the descriptors that the system lets the process have."""

    connections: Quota
    temporary: Quota
    scripts: Quota


class Shares(NamedTuple):
    """All shares of one process."""

    memory: Memory
    descriptors: Descriptors


def share_memory(size: int) -> Memory:
    """Of `size` bytes, half for replies, three eighths for bodies, and the rest for requests, which are small."""
    return Memory(Quota(size // 8), Quota(size * 3 // 8), Quota(size // 2))


def share_descriptors(limit: int) -> Descriptors:
    """Of `limit` descriptors, less a reserve, an eighth for either kind of files, and the rest for connections."""
    spare = limit - min(_RESERVE, limit // 4)
    files = spare // 8
    return Descriptors(Quota(spare - 2 * files), Quota(files), Quota(files))


def shares(buffers: int) -> Shares:
    """The shares of this process: of `buffers` bytes of memory, and of the descriptors that the system lets it have."""
    return Shares(share_memory(buffers), share_descriptors(descriptors.limit()))
