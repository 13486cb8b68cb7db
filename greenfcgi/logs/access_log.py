"""The access log: one line for each request, gathered in memory until `flush`, or until there are 32 KiB of them.

What a line looks like is in `accessline`. What the log has to say of itself begins with ``#``, or is an object with a
"notice".
"""

from time import monotonic

from .access_format import LoggedRequest, json_lines, text_lines
from .log_file import LogFile
from .text import escape, json_line

#: Bytes of finished lines that wait in memory for the next flush.
BUFFER_SIZE = 32 * 1024


class AccessLog:
    """The access log in the file `path`, or on stdout when it is "-".

    Lines are text in the `format`, or objects with its letters as members. Raises `ConfigError` when the file cannot
    be opened, or `format` has a letter that is not known.

    Lines that have not been flushed are in this process's memory: flush before a fork.
    """

    def __init__(self, path: str, format: str, *, as_json: bool = False) -> None:
        #: The names of the variables that its lines need, as a `records.Routing` finds them.
        self.variables, self._line = (json_lines if as_json else text_lines)(format)
        self._buffer = bytearray()
        self._file = LogFile("accesslog", path, 1, _json_notice if as_json else _text_notice)

    def write(self, answered: LoggedRequest) -> None:
        """Add the line of a request that has ended now, if it is one for the log and its parameters have come."""
        if answered.is_logged and answered.request.params_ended:
            self._buffer += self._line(answered, monotonic())
            if len(self._buffer) > BUFFER_SIZE:
                self.flush()

    def flush(self) -> None:
        """Hand the lines that wait in memory to the file. Never raises; see `LogFile.write`."""
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


def _text_notice(text: str) -> bytes:
    return b"# " + escape(text).encode() + b"\n"


def _json_notice(text: str) -> bytes:
    return json_line({"notice": text})
