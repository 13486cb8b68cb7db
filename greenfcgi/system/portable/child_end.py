"""The end of a child process, seen before it is reaped where the system can do that.

Until a child has been reaped, its process id, which is that of its group, too, is nobody else's: what it has started
can be killed. Linux has a descriptor that tells of the end, and waitid looks without reaping; elsewhere a timer looks,
and may reap.
"""

from __future__ import annotations

import os


def descriptor(pid: int) -> int:
    """A descriptor that can be read when the process has ended; -1 where the system has none, and one must look."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def look(pid: int) -> tuple[bool, int | None]:
    """Whether a child has ended, and its status as of waitpid(2) if it had to be reaped to see that."""
    if hasattr(os, "waitid"):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None, None
    reaped, status = os.waitpid(pid, os.WNOHANG)
    return bool(reaped), status if reaped else None
