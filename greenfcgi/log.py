"""The error log, and what the access log shares with it: the file, the timestamp, the escaping.

A log is read in terminals, mailed and parsed, and much of what is in it comes from clients and scripts. So
`escape` makes any text one harmless line, `Sink` appends whole lines to a file, and `ErrorLog` puts time,
process and level in front of them. Logging never raises once the file is open: a server whose disk is full
goes on answering, and says afterwards how many lines are missing.

The standard library's `logging` is not used: it costs 0.6 to 0.8 MB of resident memory and 5 to 8 us a line,
where a whole request takes 12 us and its line in the access log should take a tenth of that. There are no
handlers, filters or hierarchies here, no rotation (logrotate renames, `reopen` follows) and no syslog.
"""

import os
import re
import time
from collections.abc import Callable

from .errors import ConfigError

#: The levels of the error log, from the least to the most severe.
LEVELS = ("debug", "info", "warning", "error", "critical")

_SEVERITY = {level: severity for severity, level in enumerate(LEVELS)}
_SUSPECT = re.compile(r"[^ -~]")
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_INDENT = 4


def escape(text: str | bytes) -> str:
    r"""Return `text` as one line that changes nothing in a terminal and hides nothing from a reader.

    What `str.isprintable` refuses is escaped: ASCII control characters, and bytes that are not UTF-8, as ``\n``,
    ``\r``, ``\t`` or ``\xHH``; C1 controls, line separators, bidirectional and zero-width characters as ``\uHHHH``
    (``\UHHHHHHHH`` past U+FFFF). So ``\xHH`` always stands for one byte. A backslash stays as it is.
    """
    decoded = decode(text)
    return decoded if decoded.isprintable() else _SUSPECT.sub(_escape_character, decoded)


def decode(text: str | bytes) -> str:
    """Decode UTF-8, each invalid byte as the lone surrogate that `escape` turns into that byte's escape."""
    return text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text


def _escape_character(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if character.isprintable():
        return character
    if code < 0x80:
        return _SHORT_ESCAPES.get(character) or f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Stamp:
    """The local time as text, put together at most once a second."""

    def __init__(self, form: Callable[[time.struct_time], str]) -> None:
        self._form = form
        self._second = -1
        self._text = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = self._form(time.localtime(second)).encode()
        return self._text


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
        self._descriptor = standard if path == "-" else self._open()

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
                written = os.write(self._descriptor, data)
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


class ErrorLog:
    """What the operator has to know, one line each: ``[2026-11-22 21:02:09 +0000] [4711] [INFO] text``.

    `path` is a file or "-" for stderr; `level`, one of `LEVELS`, is the least severe that is written;
    `setting` is the key in config.toml that named the path.

    Raises `ConfigError` when the file cannot be opened or the level is unknown.
    """

    def __init__(self, path: str, level: str, *, setting: str = "errorlog") -> None:
        if level not in _SEVERITY:
            raise ConfigError(f'loglevel: found "{escape(level)}"; expected one of {", ".join(LEVELS)}')
        self._threshold = _SEVERITY[level]
        self._stamp = Stamp(lambda now: time.strftime("%Y-%m-%d %H:%M:%S %z", now))
        self._sink = Sink(setting, path, 2, lambda text: self._entry("warning", text, ""))

    def enabled(self, level: str) -> bool:
        """Tell whether lines of `level` are written, so that a caller can spare itself the work on one."""
        return _SEVERITY[level] >= self._threshold

    def log(self, level: str, text: str | bytes, detail: str | bytes = "") -> None:
        """Write one line of `level`, and below it the lines of `detail`, such as a Lua traceback, indented."""
        if self.enabled(level):
            self._sink.write(self._entry(level, text, detail))

    def debug(self, text: str | bytes, detail: str | bytes = "") -> None:
        """Write what only someone who looks for a fault wants to know."""
        self.log("debug", text, detail)

    def info(self, text: str | bytes, detail: str | bytes = "") -> None:
        """Write what happened as it should."""
        self.log("info", text, detail)

    def warning(self, text: str | bytes, detail: str | bytes = "") -> None:
        """Write what may become an error, or was put right."""
        self.log("warning", text, detail)

    def error(self, text: str | bytes, detail: str | bytes = "") -> None:
        """Write what made a request or a script fail."""
        self.log("error", text, detail)

    def critical(self, text: str | bytes, detail: str | bytes = "") -> None:
        """Write what stops the server."""
        self.log("critical", text, detail)

    def reopen(self) -> str:
        """Open the path again, after a rotation. Return "" or, when the old file had to be kept, why."""
        return self._sink.reopen()

    def close(self) -> None:
        """Close the file; stderr stays open."""
        self._sink.close()

    def _entry(self, level: str, text: str | bytes, detail: str | bytes) -> bytes:
        lines = [escape(text)]
        if detail:
            # Lua indents tracebacks with tabs, which would be escaped.
            below = (line.expandtabs(_INDENT) for line in decode(detail).rstrip("\n").split("\n"))
            lines += [" " * _INDENT + escape(line) for line in below]
        head = b"[%b] [%d] [%b] " % (self._stamp(), os.getpid(), level.upper().encode())
        return head + "\n".join(lines).encode() + b"\n"
