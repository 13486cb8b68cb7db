"""What the developer mode prints: a line for each request, and between them what scripts and the server log.

Colours only on a terminal, and unless NO_COLOR is set (no-color.org).
"""

from __future__ import annotations

import os
import sys

from ..logs.error_log import ErrorLog
from ..logs.text import MAX_LINE, MAX_TITLE, decode, escape, printable, shorten
from ..processes.open_logs import Logs

_RESET, _DIM, _BOLD = "\x1b[0m", "\x1b[2m", "\x1b[1m"
_RED, _GREEN, _YELLOW, _CYAN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"
_STATUS_COLOURS = {2: _GREEN, 3: _CYAN, 4: _YELLOW, 5: _RED}
_LEVEL_COLOURS = {"debug": _DIM, "info": "", "warning": _YELLOW, "error": _RED, "critical": _RED}
_INDENT = "    "


def has_colours() -> bool:
    """stderr is a terminal, and colours are not switched off."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Terminal(ErrorLog):
    """The error log for a terminal: without times, with paths relative to the scripts, in colours."""

    def __init__(self, root: str, level: str, colours: bool) -> None:
        super().__init__("-", level)
        self._colours = colours
        self._root = root.rstrip("/") + "/"
        self._entry = self._shown

    def request(self, title: str, status: int, seconds: float, memory: int | None = None) -> None:
        """Log a request that has been answered; `title` is "GET /page.lua", `memory` that of its state in bytes."""
        method, _, target = title.partition(" ")
        colour = _STATUS_COLOURS.get(status // 100, "")
        parts = [
            self._coloured(colour, str(status or "---")),
            f"{escape(method):4} {escape(shorten(target, MAX_TITLE))}",
            self._coloured(_DIM, _duration(seconds) + (f"  {memory / 1024:.0f} KB" if memory else "")),
        ]
        self.print("  ".join(parts))

    def print(self, line: str) -> None:
        """Print a line as it is."""
        self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")

    def bold(self, text: str) -> str:
        """The text in bold, where there are colours."""
        return self._coloured(_BOLD, text)

    def _coloured(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colours and colour else text

    def _shown(self, level: str, text: str | bytes, detail: str | bytes) -> bytes:
        lines = [decode(shorten(text, MAX_LINE)).replace(self._root, "")]
        if detail:
            below = decode(shorten(detail, MAX_LINE)).rstrip("\n").split("\n")
            lines += [_INDENT + line.expandtabs(4) for line in below]
        shown = [self._coloured(_LEVEL_COLOURS[level], printable(line.replace(self._root, ""))) for line in lines]
        return "\n".join(shown).encode() + b"\n"


class TerminalLogs(Logs):
    """All logs go to the terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self.error = terminal
        self.access = self.slow = None


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
