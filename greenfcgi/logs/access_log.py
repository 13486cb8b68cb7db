"""The access log: one line for each request, gathered in memory until `flush`, or until there are 32 KiB of them.

Lines are made for some dozens of requests at a time: a request leaves what its line needs, and code and data of all
the rest stay out of the processor's caches meanwhile.

What a line looks like is in `access_format`. A message of the log about itself begins with ``#``, or is an object with
a "notice".
"""

from __future__ import annotations

import time
from math import floor
from time import monotonic
from typing import Final

from ..fastcgi.records import Template
from ..fastcgi.request import Request
from .access_format import Ended, Form, JsonForm, TextForm
from .log_file import LogFile
from .text import escape, json_line

#: Bytes of finished lines that wait in memory for the next flush.
BUFFER_SIZE: Final = 32 * 1024
#: Requests whose lines are made together.
_MAX_WAITING: Final = 64
#: Lengths of bodies whose text is kept.
_MAX_SIZES: Final = 1000


class AccessLog:
    """The access log in the file `path`, or on stdout when it is "-".

    Lines are text in the `format`, or JSON objects with its directives as members. Raises `ConfigError` when the file
    cannot be opened, or `format` has an unknown directive.

    Lines that have not been flushed are in this process's memory: flush before a fork.
    """

    def __init__(self, path: str, format: str, *, as_json: bool = False) -> None:
        self._form: Form = JsonForm(format) if as_json else TextForm(format)
        #: What a `records.Routing` finds for its lines, and what of a request's end is filled into that.
        self.wanted: Template
        self.wanted, self._pick = self._form.template()
        #: Requests whose lines have not been made yet; they ended in the second of `_now`. Of each what has been found,
        #: its status, bytes of the response body, and seconds that it took.
        self._waiting: list[tuple[bytes, int, int, float]] = []
        #: So many of them are waited for.
        self._max_waiting = _MAX_WAITING
        #: Lengths of bodies as text.
        self._sizes = {0: b"-"}
        self._now = b""
        #: Until this time of the monotonic clock `_now` is right.
        self._now_until = 0.0
        self._buffer = bytearray()
        self._file = LogFile("accesslog", path, 1, _json_message if as_json else _text_message)

    def write(self, request: Request, status: int, sent: int, started: float, head: bytes) -> None:
        """Add the line of a request that has just ended, if its parameters have come.

        The reply had this HTTP status, so many bytes of body, and this header block, with lines ended by CRLF.
        `started` is when the request began, in seconds of the monotonic clock.
        """
        found = request.found
        if not found:
            return
        ended = monotonic()
        if ended >= self._now_until:
            self._begin_second(ended)
        text = found[2]
        if text is not None:
            self._waiting.append((text, status, sent, ended - started))
            if len(self._waiting) < self._max_waiting:
                return
            self._make_lines()
        else:
            self._make_lines()
            values = found[:2] + found[3:]
            self._buffer += self._form.line(Ended(request, values, status, sent, ended - started, head, self._now))
        if len(self._buffer) > BUFFER_SIZE:
            self.flush()

    def _begin_second(self, now: float) -> None:
        """Find out what time it is: to compare times of the monotonic clock costs a fifth of that.

        When the system's clock is set, the text follows at the end of a second.
        """
        self._make_lines()
        seconds = time.time()
        self._now_until = now + 1 - seconds % 1
        self._now = self._form.now(seconds)

    def _make_lines(self) -> None:
        """Make the lines of the requests that wait."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        buffer, now, sizes, pick = self._buffer, self._now, self._sizes, self._pick
        length = len(buffer)
        for text, status, sent, seconds in waiting:
            size = sizes.get(sent) or self._size(sent)
            # Quicker than round().
            microseconds = floor(seconds * 1e6 + 0.5)
            if pick is None:
                buffer += text % (now, status, size, microseconds)
            else:
                buffer += text % pick((now, status, size, microseconds, sent, seconds))
        # No more next time than will fill the buffer, if their lines are as long as these.
        fitting = (BUFFER_SIZE - len(buffer)) * len(waiting) // (len(buffer) - length)
        self._max_waiting = min(_MAX_WAITING, max(1, fitting))

    def _size(self, sent: int) -> bytes:
        if len(self._sizes) >= _MAX_SIZES:
            self._sizes.clear()
            self._sizes[0] = b"-"
        text = self._sizes[sent] = b"%d" % sent
        return text

    def flush(self) -> None:
        """Write the lines that wait in memory to the file. Never raises; see `LogFile.write`."""
        self._make_lines()
        self._max_waiting = _MAX_WAITING
        if self._buffer:
            lines = bytes(self._buffer)
            self._buffer.clear()
            self._file.write(lines)

    def reopen(self) -> str:
        """Flush and open the path again, after a rotation. Return "" or, when the old file was kept, why."""
        self.flush()
        return self._file.reopen()

    def close(self) -> None:
        """Flush and close the file; stdout stays open."""
        self.flush()
        self._file.close()


def _text_message(text: str) -> bytes:
    return b"# " + escape(text).encode() + b"\n"


def _json_message(text: str) -> bytes:
    return json_line({"notice": text})
