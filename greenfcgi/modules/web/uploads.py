"""Files that come with a form: temporary ones, until a script moves them away or its request ends.

They lie in a folder that only this process can enter, which is there as long as one of them is. What a process that
was killed has left is removed by the next one that keeps a file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from ...system.memory_folder import MemoryFolder, made, remove_unused
from ...system.temporary_files import remove, temporary_folder

_PREFIX: Final = "greenfcgi-uploads-"
#: What is kept of the mode of a file that is replaced: not that it runs as its owner. Writing to it would not either.
_PERMISSIONS: Final = 0o777
#: Bytes that are copied at a time, where a file is moved to another file system.
_PART: Final = 256 * 1024


class _Folder:
    """The folder of this process."""

    def __init__(self) -> None:
        self._last = 0
        #: How many files are in it.
        self._files = 0
        self._folder: MemoryFolder | None = None
        self._is_first = True

    def new_path(self) -> str:
        """Where the next file may be. Raises `OSError`."""
        if self._folder is None:
            parent = temporary_folder()
            if self._is_first:
                self._is_first = False
                remove_unused(parent, _PREFIX)
            self._folder = MemoryFolder(made(parent, _PREFIX))
        self._files += 1
        self._last += 1
        return os.path.join(self._folder.path, str(self._last))

    def leave(self) -> None:
        """A file has gone."""
        self._files -= 1
        if not self._files and self._folder is not None:
            self._folder.release()
            self._folder = None


_folder: Final = _Folder()


class Upload:
    """A temporary file. Raises `OSError` when it cannot be made or written."""

    __slots__ = ("_descriptor", "path", "size")

    def __init__(self) -> None:
        self.size = 0
        #: Where it is; "" when it has been moved or removed.
        self.path = _folder.new_path()
        try:
            # The mode is that of files which scripts make: nobody else comes into the folder.
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except BaseException:
            _folder.leave()
            raise

    def write(self, data: bytes) -> None:
        """Add `data` at the end."""
        written = os.write(self._descriptor, data)
        self.size += written
        while written < len(data):
            more = os.write(self._descriptor, memoryview(data)[written:])
            written += more
            self.size += more

    def close(self) -> None:
        """It is whole."""
        if self._descriptor != -1:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """It goes, unless it has been moved."""
        self.close()
        if self.path:
            with suppress(OSError):
                remove(self.path, self.size)
            self._gone()

    def move(self, target: bytes) -> Iterator[None]:
        """Move it to an absolute path, over no file that could not be written; between parts, others may have a turn.

        It is there as a whole, or not at all. Raises `OSError`.
        """
        if target.endswith(b"/"):
            raise _problem(errno.EISDIR)
        target = os.path.realpath(target)
        try:
            mode: int | None = os.stat(target).st_mode
        except FileNotFoundError:
            mode = None
        if mode is not None:
            if not stat.S_ISREG(mode):
                raise _problem(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL)
            if not os.access(target, os.W_OK):
                raise _problem(errno.EACCES)
            os.chmod(self.path, mode & _PERMISSIONS)
        try:
            os.rename(self.path, target)
        except OSError as problem:
            if problem.errno != errno.EXDEV:
                raise
            yield from self._copy(target, mode)
            remove(self.path, self.size)
        self._gone()

    def _copy(self, target: bytes, mode: int | None) -> Iterator[None]:
        folder = os.path.dirname(target)
        beside = os.path.join(folder, b".greenfcgi-" + os.urandom(8).hex().encode())
        source = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        copy = -1
        try:
            copy = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            while data := os.read(source, _PART):
                view = memoryview(data)
                while view:
                    view = view[os.write(copy, view) :]
                yield
            if mode is not None:
                os.fchmod(copy, mode & _PERMISSIONS)
            os.rename(beside, target)
        except BaseException:
            if copy != -1:
                with suppress(OSError):
                    os.unlink(beside)
            raise
        finally:
            os.close(source)
            if copy != -1:
                os.close(copy)

    def _gone(self) -> None:
        self.path = ""
        _folder.leave()


def _problem(number: int) -> OSError:
    return OSError(number, os.strerror(number))
