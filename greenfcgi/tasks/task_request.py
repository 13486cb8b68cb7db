"""What a task's script has for a request: no client, no body, and a log in the place of a page."""

from __future__ import annotations

from time import monotonic

import gevent

from ..fastcgi.records import encode_pairs
from ..fastcgi.response import Reply
from ..logs.error_log import ErrorLog
from ..logs.text import decode
from ..lua.bridge import Waitable

#: A longer line is logged in pieces.
_MAX_LINE = 4096


class TaskRequest:
    """The run of a task, as far as its `con` reaches it: an `Exchange` of `lua.bridge`."""

    def __init__(self, name: str, path: str, log: ErrorLog, timeout: float) -> None:
        self.title = f"task {name}"
        self.params = encode_pairs(
            [(b"TASK", name.encode()), (b"SCRIPT_FILENAME", path.encode("utf-8", "surrogateescape"))]
        )
        self.deadline = monotonic() + timeout
        #: Nobody can go.
        self.aborted = False
        self._path = path
        self._log = log
        self._line = b""

    def send(self, status: int, head: bytes, data: bytes) -> None:
        """Log what the script has written, line by line."""
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) >= _MAX_LINE:
            lines.append(self._line)
            self._line = b""
        for line in filter(None, lines):
            self._log.info(f"{self._path}: {self.title}: {decode(line)}")

    def end(self, data: bytes = b"") -> None:
        """Log the rest."""
        self.send(0, b"", data + b"\n")

    def drain(self, seconds: float) -> bool:
        """All has been logged."""
        return True

    def answer_early(self, reply: Reply, is_whole: bool) -> None:
        """There is nobody to answer: log what has been written so far."""
        self.end(reply[2])

    def read(self, size: int) -> bytes:
        """There is no body."""
        return b""

    def body_problem(self) -> str:
        """Nor anything wrong with it."""
        return ""

    def sleep(self, seconds: float) -> None:
        """Wait."""
        gevent.sleep(seconds)

    def wait(self, event: Waitable, seconds: float) -> None:
        """Wait for an event, at most so long."""
        event.wait(seconds)

    def computes_long(self) -> None:
        """Others of its kind need not wait: there are none."""
