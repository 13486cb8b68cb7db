"""A lock file beside the file of a unix socket, held while the server that listens there lives.

To try a connection is not enough: on BSD a server with a full backlog refuses it, as a file does that a killed server
has left; and of two servers that start at once, both would find nobody. The kernel releases the lock when its holder
ends.
"""

from __future__ import annotations

import errno
import fcntl
import os

_ENDING = ".lock"


def acquire(path: str) -> int:
    """Lock the socket file at `path`, which need not exist. Returns a descriptor that holds the lock while it is open.

    -1 where a lock file cannot be had: a folder that cannot be written to, a file system without locks. Raises
    `OSError` when another server holds it.
    """
    while True:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(path + _ENDING, flags, 0o600)
        except OSError:
            return -1
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise OSError(errno.EADDRINUSE, "another server listens there") from None
        except OSError:
            os.close(descriptor)
            return -1
        if _is_at(path, descriptor):
            return descriptor
        # Its holder has removed it in between.
        os.close(descriptor)


def remove(path: str, descriptor: int) -> None:
    """Remove the lock file, if it is still the one that `descriptor` holds. Never raises."""
    try:
        if _is_at(path, descriptor):
            os.unlink(path + _ENDING)
    except OSError:
        # The user who runs scripts cannot write to the folder. A file that nobody locks does no harm.
        pass


def _is_at(path: str, descriptor: int) -> bool:
    try:
        there = os.stat(path + _ENDING, follow_symlinks=False)
    except OSError:
        return False
    held = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
