"""What the file system says about folders right now: where a path leads, what is in a folder, what a new file is.

Each answer may be outdated at once; so callers watch first and ask second. Nothing is watched or kept here.
"""

import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

#: Links that the kernel follows for one path.
_MAX_LINKS = 40


class Location(NamedTuple):
    """Which folder a path leads to: its real path, and what tells it from another that had this path before."""

    path: str
    device: int
    inode: int


def locate(folder: str) -> Location | None:
    """Where `folder` leads now; None when it is no folder, or its files cannot be opened."""
    real = os.path.realpath(folder)
    try:
        status = os.stat(real)
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode) or not os.access(real, os.X_OK):
        return None
    return Location(real, status.st_dev, status.st_ino)


def link_chain(path: str) -> tuple[str, ...]:
    """The paths that decide which file is at `path`, an absolute one; each is a real folder and a name in it.

    These are the symbolic links that are followed, in their order, and the file itself at the end; or the first part of
    the path that does not exist. `/srv/current/a.lua`, where `current` is a link to `releases/7`, gives
    `/srv/current` and `/srv/releases/7/a.lua`.
    """
    chain: list[str] = []
    at, parts = "", _parts(path)
    while parts:
        part = parts.pop()
        if part == "..":
            at = at.rpartition("/")[0]
            continue
        here = f"{at}/{part}"
        try:
            target = os.readlink(here)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.EINVAL:
                # It is there, and no link.
                at = here
                continue
            return (*chain, here)
        chain.append(here)
        if len(chain) > _MAX_LINKS:
            return tuple(chain)
        parts += _parts(target)
        if target.startswith("/"):
            at = ""
    return (*chain, at or "/")


def _parts(path: str) -> list[str]:
    """The names in a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def entries(folder: str) -> Iterator[tuple[str, bool]]:
    """(path, whether it is a folder and no link to one) of all in `folder`; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            for entry in found:
                yield entry.path, entry.is_dir(follow_symlinks=False)
    except OSError:
        return


def has_hard_links(path: str) -> bool:
    """Whether a file has another name, by which it can be written unnoticed."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return status.st_nlink > 1 and stat.S_ISREG(status.st_mode)


def is_complete(path: str) -> bool:
    """Whether a file just created may be complete, with no CLOSE_WRITE of inotify's to follow.

    A link, or an unnamed file that got a name (O_TMPFILE), has no other event than its CREATE. An empty file with
    one name has just been opened for writing, and has another event when it is closed.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return status.st_size > 0 or status.st_nlink > 1
