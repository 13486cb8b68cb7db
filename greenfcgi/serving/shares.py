"""How what a process may hold for others is shared out: the memory that `buffers` sets, and its file descriptors.

Each share is its holders' own, so that none of them can take what another one needs: uploads never keep requests from
coming in, and neither keeps replies from going out. What the shares are for, and what happens where one is used up:

    memory       requests   parameters, and what has come in and waits   503, or the connection is closed
                 bodies     of requests                                  they go to a temporary file
                 replies    that web servers do not take yet             they go to a temporary file
    descriptors  connections   from web servers                          others wait in the backlog
                 temporary     files of bodies and of replies            503, or the connection is closed
                 scripts       files that scripts open                   an error in the script, as of the system

Some descriptors belong to no share: those that are left for listening, logs, and files that are read and closed.
"""

from __future__ import annotations

from typing import NamedTuple

from ..quota import Quota

#: Descriptors that no share has.
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
    """Half of `size` bytes is for replies, three eighths for bodies."""
    return Memory(Quota(size // 8), Quota(size * 3 // 8), Quota(size // 2))


def share_descriptors(limit: int) -> Descriptors:
    """Of `limit` descriptors most are for connections, and an eighth for either kind of files."""
    spare = limit - min(_RESERVE, limit // 4)
    files = spare // 8
    return Descriptors(Quota(spare - 2 * files), Quota(files), Quota(files))


def shares(buffers: int) -> Shares:
    """The shares of this process, of which `buffers` bytes of memory and the descriptors that the system allows."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Shares(share_memory(buffers), share_descriptors(limit))
