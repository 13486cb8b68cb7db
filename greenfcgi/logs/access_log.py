"""The access log: one line for each request, gathered in memory until `flush`, or until there are 32 KiB of them.

What a line looks like is in `access_format`. A message of the log about itself begins with ``#``, or is an object with
a "notice".
"""

from time import monotonic

from .access_format import LoggedRequest, json_lines, text_lines
from .log_file import LogFile
from .text import escape, json_line

#: Bytes of finished lines that wait in memory for the next flush.
BUFFER_SIZE = 32 * 1024


class AccessLog:
    """The access log in the file `path`, or on stdout when it is "-".

    Lines are text in the `format`, or JSON objects with its directives as members. Raises `ConfigError` when the file
    cannot be opened, or `format` has an unknown directive.

    Lines that have not been flushed are in this process's memory: flush before a fork.
    """

    def __init__(self, path: str, format: str, *, as_json: bool = False) -> None:
        #: The names of the variables that its lines need beyond `ROUTING`, which a `records.Routing` finds.
        self.variables, self._line = (json_lines if as_json else text_lines)(format)
        self._buffer = bytearray()
        self._file = LogFile("accesslog", path, 1, _json_message if as_json else _text_message)

    def write(self, request: LoggedRequest) -> None:
        """Add the line of a request that has just ended, if it is to be logged and its parameters have come."""
        if request.is_logged and request.request.params_ended:
            self._buffer += self._line(request, monotonic())
            if len(self._buffer) > BUFFER_SIZE:
                self.flush()

    def flush(self) -> None:
        """Write the lines that wait in memory to the file. Never raises; see `LogFile.write`."""
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
