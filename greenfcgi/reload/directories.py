"""What the file system says about folders right now: where a path leads, what is in a folder, what a new file is.

Each answer may be outdated at once; whoever asks watches first and asks second. Nothing is watched or kept here.
"""

import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

#: Links that the kernel follows for one path.
_MAX_LINKS = 40


class Place(NamedTuple):
    """Which folder a path leads to: its real path, and what tells it from another that had this path before."""

    path: str
    device: int
    inode: int


def place(folder: str) -> Place | None:
    """Where `folder` leads now; None when it is no folder, or none whose files can be opened."""
    real = os.path.realpath(folder)
    try:
        status = os.stat(real)
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode) or not os.access(real, os.X_OK):
        return None
    return Place(real, status.st_dev, status.st_ino)


def way(path: str) -> tuple[str, ...]:
    """The places that decide what is at `path`, an absolute one, each by its real folder and its name.

    These are the links on the way, and the file itself at the end; or the first part of the path that is not there,
    where the rest would begin.
    """
    places: list[str] = []
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
            return (*places, here)
        places.append(here)
        if len(places) > _MAX_LINKS:
            return tuple(places)
        parts += _parts(target)
        if target.startswith("/"):
            at = ""
    return (*places, at or "/")


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


def has_other_names(path: str) -> bool:
    """Whether a file can be written through a hard link that is somewhere else."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return status.st_nlink > 1 and stat.S_ISREG(status.st_mode)


def complete(path: str) -> bool:
    """Whether a file just created may be so for good, with no CLOSE_WRITE of inotify's to follow.

    A link, or an unnamed file that got a name (O_TMPFILE), is told by its CREATE alone. An empty file with
    one name has just been opened for writing, and will be told when it is closed.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return status.st_size > 0 or status.st_nlink > 1
