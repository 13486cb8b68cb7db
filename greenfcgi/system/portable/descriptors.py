"""The descriptors of this process: which are open, how many there may be, one opened a second time.

Linux lists them in /proc. FreeBSD's /dev/fd has the first three only, unless fdescfs is mounted there; where nothing
lists them, each number is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

#: Numbers that are looked at one by one.
_MAX_SCANNED = 65536
#: As many as are ever asked for: more is of no use, and some kernels refuse more.
_MAX_DESCRIPTORS = 1 << 20


def inheritable() -> list[int]:
    """Those above stderr that a program would get: Python's own are closed by themselves, those of Lua's are not."""
    found = []
    for descriptor in _candidates():
        try:
            if descriptor > 2 and os.get_inheritable(descriptor):
                found.append(descriptor)
        except OSError:
            # It is not open; that of the listing is closed by now.
            pass
    return found


def reopened(descriptor: int, flags: int) -> int:
    """A new descriptor of what this one is open on, with flags of its own. Raises `OSError`, always but on Linux."""
    return os.open(f"/proc/self/fd/{descriptor}", flags)


def raise_limit() -> None:
    """Allow as many as the system does. Shells give 1,024, for programs that use select(2)."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    # No limit is -1 on Linux, and the largest number elsewhere.
    if soft < wanted or soft == resource.RLIM_INFINITY:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            # macOS has another limit beside the hard one, and refuses what is above it.
            pass


def limit() -> int:
    """How many there may be now."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, _MAX_DESCRIPTORS)


def _candidates() -> Iterable[int]:
    """The descriptors that may be open."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            listed = [int(name) for name in os.listdir(folder)]
        except OSError:
            continue
        if max(listed, default=0) > 2:
            return listed
    return range(min(limit(), _MAX_SCANNED))
