"""A folder in memory that the processes of one server have in common: gone when the server has stopped.

Its name is random, so that no two servers share one. Whoever uses it holds a lock that the system gives back at the end
of a process, whatever that was; a folder that nobody holds is left from a server that was killed, and the next one that
starts removes it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from typing import Final

from .privileges import Identity

#: Memory on Linux; elsewhere a folder for temporary files, which is on a disk perhaps.
_MEMORY: Final = "/dev/shm"
_PREFIX: Final = "greenfcgi-"
_LOCK: Final = "lock"
_TRIES: Final = 100


class MemoryFolder:
    """A new folder, or the one of `inherited`, a path and the descriptor of its lock. Raises `OSError`.

    `path` is its path; `lock` the descriptor, which processes inherit.
    """

    def __init__(self, inherited: tuple[str, int] | None = None) -> None:
        if inherited is None:
            parent = base()
            remove_unused(parent)
            inherited = made(parent)
        self.path, self.lock = inherited

    def own(self, identity: Identity) -> None:
        """Give it, with what is in it, to who runs scripts. Raises `OSError`."""
        with os.scandir(self.path) as entries:
            for path in [self.path, *(entry.path for entry in entries)]:
                identity.own(path)

    def keep(self, names: set[str]) -> None:
        """Remove all files but these. Who has one in its memory keeps it there."""
        for name in {*os.listdir(self.path)} - names - {_LOCK}:
            with suppress(OSError):
                os.unlink(os.path.join(self.path, name))

    def release(self) -> None:
        """Its processes have ended: the folder goes, unless a predecessor or a successor has it, too."""
        os.close(self.lock)
        with suppress(OSError):
            _remove(self.path)


def base() -> str:
    """Where such folders are."""
    return _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else os.environ.get("TMPDIR") or "/tmp"


def why_not(problem: OSError) -> str:
    """Why no folder can be made, and what there has to be."""
    place = f"no folder can be made in {base()}: {problem.strerror or problem}"
    return f"{place}; dictionaries need /dev/shm, or a TMPDIR, that can be written to"


def made(parent: str, prefix: str = _PREFIX) -> tuple[str, int]:
    """A new folder in this one: its path, and the descriptor of its lock. Raises `OSError`."""
    for _ in range(_TRIES):
        path = os.path.join(parent, prefix + os.urandom(8).hex())
        try:
            os.mkdir(path, 0o700)
            lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except (FileExistsError, FileNotFoundError):
            # Another server has just removed it, since nobody held it yet.
            continue
        fcntl.flock(lock, fcntl.LOCK_SH)
        if os.path.exists(os.path.join(path, _LOCK)):
            return path, lock
        os.close(lock)
    raise FileNotFoundError(f"{parent}: folders vanish as soon as they are made")


def remove_unused(parent: str, prefix: str = _PREFIX) -> None:
    """Remove what servers have left that were killed."""
    for name in os.listdir(parent):
        path = os.path.join(parent, name)
        if name.startswith(prefix):
            with suppress(OSError):
                if stat.S_ISDIR(os.lstat(path).st_mode):
                    _remove(path)


def _remove(path: str) -> None:
    """Remove a folder that no other process holds."""
    # Not by way of links, which somebody else may have put there.
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    lock = -1
    try:
        with suppress(FileNotFoundError):
            lock = os.open(_LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The lock goes last: a folder without one is empty, or somebody is just making it.
            for name in sorted(os.listdir(folder), key=_LOCK.__eq__):
                os.unlink(name, dir_fd=folder)
        os.rmdir(path)
    except OSError:
        # Somebody holds it, or it is not ours.
        pass
    finally:
        if lock != -1:
            os.close(lock)
        os.close(folder)
