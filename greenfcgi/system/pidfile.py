"""The file that holds the process id while the server runs. No link is ever followed, to be safe in any folder."""

from __future__ import annotations

import errno
import os
import stat

from ..errors import BindError

#: Anybody may read it, and only its owner writes it, whatever the umask of this process.
_MODE = 0o644
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class PidFile:
    """The pid file at `path`; nothing when that is empty."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self) -> None:
        """Write this process's id to a new file. Raises `BindError`, also when anything but a plain file is there."""
        if not self._path:
            return
        try:
            descriptor = _create(self._path)
            try:
                os.fchmod(descriptor, _MODE)
                os.write(descriptor, b"%d\n" % os.getpid())
            finally:
                os.close(descriptor)
        except OSError as problem:
            raise BindError(f"pidfile: cannot write {self._path!r}: {problem.strerror}") from None

    def rename(self, before: str, after: str) -> None:
        """Replace the ending `before` of its name by `after`, to make way for a successor's. Never raises."""
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


def _create(path: str) -> int:
    """Create an empty file at `path`, in place of any other. Returns its descriptor. Raises `OSError`."""
    try:
        _check(os.lstat(path))
        os.unlink(path)
    except FileNotFoundError:
        pass
    except PermissionError:
        # Somebody has created it for this user, in a folder of another's.
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
