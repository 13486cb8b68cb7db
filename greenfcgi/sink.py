"""A file that whole lines are appended to, by one process or by several at once.

Writing never raises once the file is open: a server whose disk is full goes on answering, and says afterwards how many
lines are missing. There is no rotation: logrotate renames, and `reopen` follows.
"""

import os
import select
import stat
from collections.abc import Callable

from .errors import ConfigError
from .lines import escape


class Sink:
    """A file that whole lines are appended to; "-" is the standard stream with the descriptor `standard`.

    `setting` is the key in config.toml that named `path`, for messages. `notice` makes a line of this log, with
    its line feed, from what the sink itself has to tell.

    Raises `ConfigError` when the file cannot be opened; after that nothing raises.
    """

    def __init__(self, setting: str, path: str, standard: int, notice: Callable[[str], bytes]) -> None:
        self._setting = setting
        self._path = path
        self._notice = notice
        self._lost = 0
        self._torn = False
        #: Several processes may write to a pipe, where only what is short stays in one piece.
        self._is_pipe = False
        self._descriptor = standard if path == "-" else self._open()
        self._look()

    def write(self, lines: bytes) -> None:
        """Append `lines`, which end in a line feed, with one write(2) where the system takes them whole.

        What cannot be written is lost and counted. The next line that can be written follows a notice of it.
        """
        if self._lost and not self._tell_loss():
            self._lost += lines.count(b"\n")
        else:
            self._lost += self._append(lines).count(b"\n")

    def reopen(self) -> str:
        """Open the path again, after a rotation. Return "" or, when the old file had to be kept, why.

        The reason is also written to the old file.
        """
        if self._path == "-":
            return ""
        try:
            fresh = self._open()
        except ConfigError as error:
            problem = f"the log stays with the file that was open: {error}"
            self.write(self._notice(problem))
            return problem
        self.close()
        self._descriptor = fresh
        self._look()
        return ""

    def close(self) -> None:
        """Close the file; standard streams stay open. What is written after that is lost."""
        descriptor, self._descriptor = self._descriptor, -1
        if self._path == "-":
            return
        try:
            os.close(descriptor)
        except OSError:
            # Network file systems report a failed write here, and the lines cannot be had back.
            pass

    def _look(self) -> None:
        try:
            self._is_pipe = stat.S_ISFIFO(os.fstat(self._descriptor).st_mode)
        except OSError:
            # Closed: writing fails, and is counted as a loss.
            self._is_pipe = False

    def _open(self) -> int:
        # A named pipe without a reader would hold an open that waits: so it is refused. Writes do wait.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(self._path, flags, 0o640)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(
                f'{self._setting}: cannot open "{escape(self._path)}": {reason}; '
                'expected a file that can be created or appended to, or "-"'
            ) from None
        os.set_blocking(descriptor, True)
        return descriptor

    def _append(self, data: bytes) -> bytes:
        """Write `data` as far as it goes; return the rest."""
        try:
            while data:
                written = os.write(self._descriptor, _short(data) if self._is_pipe else data)
                self._torn = data[written - 1] != ord("\n")
                data = data[written:]
        except OSError:
            # Full disk, closed or full pipe: the caller counts the rest as lost.
            pass
        return data

    def _tell_loss(self) -> bool:
        line = self._notice(f"{self._lost} log line{' was' if self._lost == 1 else 's were'} lost")
        if self._append(b"\n" + line if self._torn else line):
            return False
        self._lost = 0
        return True


def _short(lines: bytes) -> bytes:
    """The first of these lines, as many as go into a pipe in one piece (POSIX, PIPE_BUF); a longer one in parts."""
    if len(lines) <= select.PIPE_BUF:
        return lines
    end = lines.rfind(b"\n", 0, select.PIPE_BUF) + 1
    return lines[: end or select.PIPE_BUF]
