"""The error log: what an operator has to know.

The standard library's `logging` is not used: it costs 0.6 to 0.8 MB of resident memory and 5 to 8 us a line, where a
whole request takes 12 us. There are no handlers, filters or hierarchies here, and no syslog.
"""

import os
import time

from ..errors import ConfigError
from .log_file import LogFile
from .text import MAX_LINE, Timestamp, decode, escape, iso_time, json_line, printable, shorten

#: The levels of the error log, from the lowest severity to the highest.
LEVELS = ("debug", "info", "warning", "error", "critical")

_SEVERITY = {level: severity for severity, level in enumerate(LEVELS)}
_INDENT = 4


class ErrorLog:
    """What the operator has to know, one line each: ``[2026-11-22 21:02:09 +0000] [4711] [INFO] text``.

    `path` is a file or "-" for stderr; `level`, one of `LEVELS`, is the lowest severity that is written;
    `setting` is the key in config.toml that named the path. With `as_json` a line is one object:
    ``{"time": "2026-11-22T21:02:09+00:00", "pid": 4711, "level": "info", "message": "text"}``, with "detail" where
    there is one.

    Raises `ConfigError` when the file cannot be opened or the level is unknown.
    """

    def __init__(self, path: str, level: str, *, setting: str = "errorlog", as_json: bool = False) -> None:
        if level not in _SEVERITY:
            raise ConfigError(f'loglevel: found "{escape(level)}"; expected one of {", ".join(LEVELS)}')
        self._threshold = _SEVERITY[level]
        self._timestamp = Timestamp(iso_time if as_json else lambda now: time.strftime("%Y-%m-%d %H:%M:%S %z", now))
        self._entry = self._object if as_json else self._line
        self._file = LogFile(setting, path, 2, lambda text: self._entry("warning", text, ""))

    def enabled(self, level: str) -> bool:
        """Whether lines of `level` are written, so that a caller need not make them in vain."""
        return _SEVERITY[level] >= self._threshold

    def log(self, level: str, text: str | bytes, detail: str | bytes = "") -> None:
        """Write one line of `level`, and below it the lines of `detail`, such as a Lua traceback, indented.

        Text and detail are each cut at `text.MAX_LINE` bytes.
        """
        if self.enabled(level):
            self._file.write(self._entry(level, text, detail))

    def debug(self, text: str | bytes, detail: str | bytes = "") -> None:
        """Write what helps to find a fault, and nobody needs otherwise."""
        self.log("debug", text, detail)

    def info(self, text: str | bytes, detail: str | bytes = "") -> None:
        """Write what happened as intended."""
        self.log("info", text, detail)

    def warning(self, text: str | bytes, detail: str | bytes = "") -> None:
        """Write what may become an error, or has been corrected."""
        self.log("warning", text, detail)

    def error(self, text: str | bytes, detail: str | bytes = "") -> None:
        """Write what made a request or a script fail."""
        self.log("error", text, detail)

    def critical(self, text: str | bytes, detail: str | bytes = "") -> None:
        """Write what stops the server, or a process of it."""
        self.log("critical", text, detail)

    def reopen(self) -> str:
        """Open the path again, after a rotation. Return "" or, when the old file had to be kept, why."""
        return self._file.reopen()

    def close(self) -> None:
        """Close the file; stderr stays open."""
        self._file.close()

    def _line(self, level: str, text: str | bytes, detail: str | bytes) -> bytes:
        lines = [escape(text)]
        if detail:
            # Lua indents tracebacks with tabs, which would be escaped.
            below = (line.expandtabs(_INDENT) for line in decode(shorten(detail, MAX_LINE)).rstrip("\n").split("\n"))
            lines += [" " * _INDENT + printable(line) for line in below]
        head = b"[%b] [%d] [%b] " % (self._timestamp(), os.getpid(), level.upper().encode())
        return head + "\n".join(lines).encode() + b"\n"

    def _object(self, level: str, text: str | bytes, detail: str | bytes) -> bytes:
        members: dict[str, object] = {"time": self._timestamp(), "pid": os.getpid(), "level": level, "message": text}
        return json_line(members | {"detail": detail} if detail else members)
