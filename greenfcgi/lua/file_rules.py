"""Which files scripts may open: none through which they would reach the server's own process, and none that it would
have to wait for.

Linux shows the memory and the descriptors of each process as files below /proc, the latter also as /dev/fd and
/dev/stdin; a descriptor can be another client's upload. A pipe or a device can be read, or waited for, for ever, and
nothing interrupts a function of Lua that does.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable

#: What leads into a process, or holds whoever reads it. Names are real ones: no links before the last part.
_INSIDE = re.compile(
    rb"/proc/(?:[^/]+/(?:task/[^/]+/)?(?:fd|mem|map_files|root|cwd)(?:/|$)|k(?:core|msg)$)"
    rb"|/dev/(?:fd(?:/|$)|std(?:in|out|err)$)"
)
_PROC = b"/proc/"
#: The only device that scripts open themselves.
_DEV_NULL = b"/dev/null"
_MAX_LINKS = 40


def _leads_inside(path: bytes) -> bool:
    """A part of the absolute `path` is one that leads into a process, after all links, also the last one's."""
    parts = path.split(b"/")[::-1]
    found, links = b"", 0
    while parts:
        part = parts.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            found = found.rpartition(b"/")[0]
            continue
        candidate = found + b"/" + part
        if _INSIDE.match(candidate):
            return True
        try:
            target = os.readlink(candidate)
        except OSError as problem:
            if problem.errno != errno.EINVAL:
                # It is not there, so nothing is below it; or opening it will fail.
                return _INSIDE.match(b"/".join([candidate, *parts[::-1]])) is not None
            found = candidate
            continue
        links += 1
        if links > _MAX_LINKS:
            return False
        parts += target.split(b"/")[::-1]
        if target.startswith(b"/"):
            found = b""
    return False


class FileRules:
    """The rules for a script in the folder `directory`. Names below that are its own: no link of them is followed.

    All paths are bytes, and absolute.
    """

    __slots__ = ("_below",)

    def __init__(self, directory: bytes) -> None:
        self._below = directory.rstrip(b"/") + b"/"

    def leads_inside(self, path: bytes) -> bool:
        """The file is, or lies in, what belongs to a process, however it is spelled."""
        if path.startswith(self._below) and b"/../" not in path:
            return False
        return _leads_inside(path)

    def problem(self, path: bytes, writes: bool, stat_of: Callable[[bytes], os.stat_result] = os.stat) -> int | None:
        """Why the file must not be opened, as an errno; None when it may be, or does not exist."""
        if path == _DEV_NULL:
            return None
        if self.leads_inside(path) or (writes and path.startswith(_PROC)):
            return errno.EACCES
        try:
            mode = stat_of(path).st_mode
        except (OSError, ValueError):
            return None
        return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else errno.EINVAL
