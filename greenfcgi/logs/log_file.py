"""A file that whole lines are appended to, by one process or by several at once.

Writing never raises once the file is open: a server whose disk is full goes on answering, and says afterwards how many
lines are missing. So it does when nobody reads a pipe, a terminal or a socket: who writes has requests to answer, and
waits a hundredth of its time for a reader, and no more. There is no rotation: logrotate renames, and `reopen` follows.
"""

import os
import select
import socket
import stat
from collections.abc import Callable
from time import monotonic

from ..errors import ConfigError
from .text import escape

#: Seconds that are waited for a reader that has fallen behind, and what part of the time since gives more of them.
_MAX_WAIT = 0.1
_WAIT_SHARE = 0.01
#: Bytes that a terminal takes without waiting when it can be written to; of the kernel's own, WAKEUP_CHARS.
_TERMINAL_ROOM = 256


class LogFile:
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
        #: The seconds that may be waited now, as far as they were known at a time of the monotonic clock.
        self._patience = _MAX_WAIT
        self._patience_at = monotonic()
        self._out = _standard(standard) if path == "-" else _Output(self._open(), is_own=True)

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
        self._out = _Output(fresh, is_own=True)
        return ""

    def close(self) -> None:
        """Close the file; standard streams stay open. What is written after that is lost."""
        self._out.close()

    def _open(self) -> int:
        # A named pipe without a reader would hold an open that waits: so it is refused. Nor do writes wait.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            return os.open(self._path, flags, 0o640)
        except (OSError, ValueError) as error:
            # Python's own words for a zero byte are others in each version.
            reason = error.strerror if isinstance(error, OSError) else "a zero byte in the path"
            raise ConfigError(
                f'{self._setting}: cannot open "{escape(self._path)}": {reason}; '
                'expected a file that can be created or appended to, or "-"'
            ) from None

    def _append(self, data: bytes) -> bytes:
        """Write `data` as far as it goes; return the rest."""
        while data:
            try:
                written = self._out.write(data)
            except BlockingIOError:
                if self._wait():
                    continue
                break
            except OSError:
                # Full disk, closed pipe: the caller counts the rest as lost.
                break
            self._torn = data[written - 1] != ord("\n")
            data = data[written:]
        return data

    def _wait(self) -> bool:
        """Wait a little for a reader. False when it has been waited for enough, or does not read."""
        now = monotonic()
        self._patience = min(_MAX_WAIT, self._patience + (now - self._patience_at) * _WAIT_SHARE)
        self._patience_at = now
        if self._patience < 0.001:
            return False
        is_writable = self._out.is_writable(self._patience)
        self._patience_at = monotonic()
        self._patience -= self._patience_at - now
        return is_writable

    def _tell_loss(self) -> bool:
        line = self._notice(f"{self._lost} log line{' was' if self._lost == 1 else 's were'} lost")
        if self._append(b"\n" + line if self._torn else line):
            return False
        self._lost = 0
        return True


class _Output:
    """A descriptor that is written to without waiting. `is_own`: nobody else's; opened so that it does not wait.

    One that is shared with other programs must stay as it is: so it is asked before each write, which takes no more
    than it has room for then. Should another process be quicker, the write waits all the same. A socket needs neither.
    """

    def __init__(self, descriptor: int, is_own: bool) -> None:
        self._descriptor = descriptor
        self._is_own = is_own
        #: More is not written at once; 0: whatever there is. Several processes may write to a pipe, where only what is
        #: short stays in one piece.
        self._room = 0
        self._must_ask = False
        self._socket: socket.socket | None = None
        try:
            self._look()
        except OSError:
            # Closed: writing fails, and is counted as a loss.
            pass

    def _look(self) -> None:
        kind = os.fstat(self._descriptor).st_mode
        if stat.S_ISSOCK(kind):
            self._socket = socket.socket(fileno=os.dup(self._descriptor))
        elif stat.S_ISFIFO(kind):
            self._room, self._must_ask = select.PIPE_BUF, not self._is_own
        elif not self._is_own and os.isatty(self._descriptor):
            self._room, self._must_ask = _TERMINAL_ROOM, True

    def write(self, data: bytes) -> int:
        """Write some of `data`, and return how much. Raises `BlockingIOError` where it had to wait, or `OSError`."""
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._must_ask and not self.is_writable(0):
            raise BlockingIOError
        return os.write(self._descriptor, _short(data, self._room) if self._room else data)

    def is_writable(self, seconds: float) -> bool:
        """It can be written to, or will be within so many seconds; also when a write would fail."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Close it, unless it is others' too; to write fails from now on."""
        descriptor, self._descriptor = self._descriptor, -1
        self._must_ask = False
        if self._socket is not None:
            self._socket.close()
        elif self._is_own:
            try:
                os.close(descriptor)
            except OSError:
                # Network file systems report a failed write here, and the lines cannot be had back.
                pass


def _standard(descriptor: int) -> _Output:
    """stdout or stderr. A pipe or a terminal is opened once more where the system can do that, for this one alone."""
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode) or os.isatty(descriptor):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            return _Output(os.open(f"/proc/self/fd/{descriptor}", flags), is_own=True)
    except OSError:
        # Closed; or it was opened by another user; or no Linux.
        pass
    return _Output(descriptor, is_own=False)


def _short(lines: bytes, room: int) -> bytes:
    """The first of these lines, as many as have room together; a longer one in parts."""
    if len(lines) <= room:
        return lines
    end = lines.rfind(b"\n", 0, room) + 1
    return lines[: end or room]
