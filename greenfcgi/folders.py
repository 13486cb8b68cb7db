"""What the file system says about folders right now: where a path leads, what is in a folder, what a new file is.

Each answer may be outdated at once; whoever asks watches first and asks second. Nothing is watched or kept here.
"""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple


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


def entries(folder: str) -> Iterator[tuple[str, bool]]:
    """(path, whether it is a folder and no link to one) of all in `folder`; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            for entry in found:
                yield entry.path, entry.is_dir(follow_symlinks=False)
    except OSError:
        return


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
