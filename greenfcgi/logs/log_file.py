"""A file that whole lines are appended to, by one process or by several at once.

Writing never raises once the file is open: a server whose disk is full keeps serving, and logs afterwards how many
lines were lost. The same holds when nobody reads a pipe, a terminal or a socket: a process waits for readers in at most
a hundredth of its time, since it has requests to answer. There is no rotation: logrotate renames, and `reopen` follows.
"""

import os
import select
import socket
import stat
from collections.abc import Callable
from time import monotonic

from ..errors import ConfigError
from ..system.portable import descriptors
from .text import escape

#: Seconds that a write waits, at most, for a reader that has fallen behind; and the part of the time that waits may
#: take on the whole.
_MAX_WAIT = 0.1
_WAIT_SHARE = 0.01
#: Bytes that a terminal takes without waiting when it is writable: WAKEUP_CHARS in the Linux kernel.
_TERMINAL_CHUNK = 256


class LogFile:
    """A file that whole lines are appended to; "-" is the standard stream with the descriptor `standard`.

    `setting` is the key in config.toml that named `path`, for messages. `self_message` makes a line of this log, with
    its line feed, from a message about the log itself.

    Raises `ConfigError` when the file cannot be opened; after that nothing raises.
    """

    def __init__(self, setting: str, path: str, standard: int, self_message: Callable[[str], bytes]) -> None:
        self._setting = setting
        self._path = path
        self._self_message = self_message
        self._lost = 0
        self._torn = False
        #: Seconds that a write may wait, and the time of the monotonic clock for which that was computed.
        self._max_wait = _MAX_WAIT
        self._max_wait_at = monotonic()
        self._out = _standard(standard) if path == "-" else _Output(self._open(), is_own=True)

    def write(self, lines: bytes) -> None:
        """Append `lines`, which end in a line feed, with one write(2) where the system takes them whole.

        What cannot be written is lost and counted. The next line that can be written follows a message about the loss.
        """
        if self._lost and not self._report_loss():
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
            self.write(self._self_message(problem))
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
        """Wait a little for a reader. False when waits have taken enough time, or it does not read."""
        now = monotonic()
        self._max_wait = min(_MAX_WAIT, self._max_wait + (now - self._max_wait_at) * _WAIT_SHARE)
        self._max_wait_at = now
        if self._max_wait < 0.001:
            return False
        is_writable = self._out.is_writable(self._max_wait)
        self._max_wait_at = monotonic()
        self._max_wait -= self._max_wait_at - now
        return is_writable

    def _report_loss(self) -> bool:
        line = self._self_message(f"{self._lost} log line{' was' if self._lost == 1 else 's were'} lost")
        if self._append(b"\n" + line if self._torn else line):
            return False
        self._lost = 0
        return True


class _Output:
    """A descriptor that is written to without waiting. `is_own`: it has been opened here, and does not block.

    One that is shared with other programs must stay blocking. So it is polled before each write, of no more than it
    surely takes then; should another process be quicker, the write waits all the same. A socket needs neither.
    """

    def __init__(self, descriptor: int, is_own: bool) -> None:
        self._descriptor = descriptor
        self._is_own = is_own
        #: Bytes of one write, at most; 0: no limit. Several processes may write to a pipe, where only short writes are
        #: atomic.
        self._chunk = 0
        self._must_poll = False
        self._socket: socket.socket | None = None
        try:
            self._examine()
        except OSError:
            # Closed: writing fails, and is counted as a loss.
            pass

    def _examine(self) -> None:
        kind = os.fstat(self._descriptor).st_mode
        if stat.S_ISSOCK(kind):
            self._socket = socket.socket(fileno=os.dup(self._descriptor))
        elif stat.S_ISFIFO(kind):
            self._chunk, self._must_poll = select.PIPE_BUF, not self._is_own
        elif not self._is_own and os.isatty(self._descriptor):
            self._chunk, self._must_poll = _TERMINAL_CHUNK, True

    def write(self, data: bytes) -> int:
        """Write some of `data`; return how many bytes. Raises `BlockingIOError` where it would wait, or `OSError`."""
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._must_poll and not self.is_writable(0):
            raise BlockingIOError
        return os.write(self._descriptor, _first_lines(data, self._chunk) if self._chunk else data)

    def is_writable(self, seconds: float) -> bool:
        """Whether a write would not wait, within so many seconds; it may fail then."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Close it, unless it is shared. Writes fail from now on."""
        descriptor, self._descriptor = self._descriptor, -1
        self._must_poll = False
        if self._socket is not None:
            self._socket.close()
        elif self._is_own:
            try:
                os.close(descriptor)
            except OSError:
                # Network file systems report a failed write here, and the lines cannot be had back.
                pass


def _standard(descriptor: int) -> _Output:
    """stdout or stderr. A pipe or a terminal is opened again where the system can do that, so that it is not shared."""
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode) or os.isatty(descriptor):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            return _Output(descriptors.reopened(descriptor, flags), is_own=True)
    except OSError:
        # Closed; or it was opened by another user; or no Linux.
        pass
    return _Output(descriptor, is_own=False)


def _first_lines(lines: bytes, max_bytes: int) -> bytes:
    """The first of these lines, as many as are `max_bytes` together; of a longer one, its beginning."""
    if len(lines) <= max_bytes:
        return lines
    end = lines.rfind(b"\n", 0, max_bytes) + 1
    return lines[: end or max_bytes]
