"""The file that holds the process id while the server runs. Never is a link followed, to be safe in any folder."""

from __future__ import annotations

import errno
import os
import stat

from ..errors import BindError

#: Whoever manages the server reads it; nobody else writes it, whatever the mask of this process.
_MODE = 0o644
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class PidFile:
    """The pid file at `path`; nothing when that is empty."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self) -> None:
        """Put this process's id there, in a new file. Raises `BindError`, also when anything but a file is there."""
        if not self._path:
            return
        try:
            descriptor = _made(self._path)
            try:
                os.fchmod(descriptor, _MODE)
                os.write(descriptor, b"%d\n" % os.getpid())
            finally:
                os.close(descriptor)
        except OSError as problem:
            raise BindError(f"pidfile: cannot write {self._path!r}: {problem.strerror}") from None

    def rename(self, before: str, after: str) -> None:
        """Append something else to its name, so that a successor can write its own there. Never raises."""
        if self._path:
            try:
                os.rename(self._path + before, self._path + after)
            except OSError:
                pass

    def remove(self, ending: str = "") -> None:
        """Remove it, if it still holds this process's id. Never raises."""
        if not self._path:
            return
        try:
            descriptor = os.open(self._path + ending, os.O_RDONLY | _FLAGS)
            try:
                is_own = os.read(descriptor, 32).strip() == b"%d" % os.getpid()
            finally:
                os.close(descriptor)
            if is_own:
                os.unlink(self._path + ending)
        except OSError:
            pass


def _made(path: str) -> int:
    """A descriptor of an empty file at `path`, which takes the place of one that was there. Raises `OSError`."""
    try:
        _check(os.lstat(path))
        os.unlink(path)
    except FileNotFoundError:
        pass
    except PermissionError:
        # Somebody has made it for this user, in a folder of another's.
        descriptor = os.open(path, os.O_WRONLY | _FLAGS)
        try:
            _check(os.fstat(descriptor))
            os.ftruncate(descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, _MODE)


def _check(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise OSError(errno.EEXIST, "something else than a plain file is there, such as a link")
