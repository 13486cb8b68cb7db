r"""The access log: one line for each request, in the format letters of gunicorn's `access_log_format`.

The format is compiled once, into a template of bytes and one getter for each value in it, so that a line costs
what its own letters cost: 2 to 3 us with the default format. Nothing is looked up, decoded or escaped for a
letter that is not there. Lines gather in memory and reach the file with `flush`, or 32 KiB at a time.

A value that a client or a script chose cannot end its line or its quotes: it is escaped like everything in the
logs, and ``"`` and ``\`` become ``\"`` and ``\\``. A value that is missing or empty is ``-``; web servers send
an unset FastCGI parameter as an empty one. What the log has to say of itself begins with ``#``.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .errors import ConfigError
from .log import Sink, Stamp, decode, escape

#: Bytes of finished lines that wait in memory for the next flush.
BUFFER_SIZE = 32 * 1024

_MISSING = b"-"


class Entry(NamedTuple):
    """What is known of a request once it has been answered."""

    #: FastCGI parameters: b"REQUEST_METHOD", request headers as b"HTTP_USER_AGENT", and so on.
    params: Mapping[bytes, bytes]
    #: HTTP status.
    status: int
    #: Bytes of the response body.
    sent: int
    #: From the start of the request to the end of the response.
    seconds: float
    #: The header block of the response as it was sent, lines ended by CRLF.
    head: bytes


_Value = bytes | int | float
_Getter = Callable[[Entry], _Value]
#: What a letter puts into the template, and the values that this takes.
_Field = tuple[bytes, tuple[_Getter, ...]]


def _param(name: bytes) -> _Getter:
    return lambda entry: entry.params.get(name) or _MISSING


def _request_header(name: str) -> _Getter:
    variable = name.upper().replace("-", "_")
    # RFC 3875, 4.1.2 and 4.1.3: these two have variables of their own.
    prefix = "" if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_"
    return _param((prefix + variable).encode())


def _response_header(name: str) -> _Getter:
    pattern = re.compile(
        rb"(?:^|\r\n)" + re.escape(name.encode()) + rb":[ \t]*([^ \t\r\n][^\r\n]*)", re.IGNORECASE
    )

    def get(entry: Entry) -> bytes:
        found = pattern.search(entry.head)
        return found.group(1) if found else _MISSING

    return get


def _target(entry: Entry) -> bytes:
    """The request target as the client sent it, or rebuilt where the web server keeps that to itself."""
    params = entry.params
    target = params.get(b"REQUEST_URI")
    if target:
        return target
    path = params.get(b"SCRIPT_NAME", b"") + params.get(b"PATH_INFO", b"")
    query = params.get(b"QUERY_STRING")
    return (path + b"?" + query if query else path) or _MISSING


def _clf_time(now: time.struct_time) -> str:
    # Not %b: a script that calls os.setlocale would change the names of the months.
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * now.tm_mon - 3 : 3 * now.tm_mon]
    return time.strftime(f"[%d/{month}/%Y:%H:%M:%S %z]", now)


_now = Stamp(_clf_time)
_method = _param(b"REQUEST_METHOD")
_protocol = _param(b"SERVER_PROTOCOL")

_LETTERS: dict[str, _Field] = {
    "h": (b"%b", (_param(b"REMOTE_ADDR"),)),
    "l": (_MISSING, ()),
    "u": (b"%b", (_param(b"REMOTE_USER"),)),
    "t": (b"%b", (lambda entry: _now(),)),
    "r": (b"%b %b %b", (_method, _target, _protocol)),
    "m": (b"%b", (_method,)),
    "U": (b"%b", (lambda entry: _target(entry).partition(b"?")[0] or _MISSING,)),
    "q": (b"%b", (_param(b"QUERY_STRING"),)),
    "H": (b"%b", (_protocol,)),
    "s": (b"%d", (lambda entry: entry.status,)),
    "B": (b"%d", (lambda entry: entry.sent,)),
    "b": (b"%b", (lambda entry: b"%d" % entry.sent if entry.sent else _MISSING,)),
    "f": (b"%b", (_param(b"HTTP_REFERER"),)),
    "a": (b"%b", (_param(b"HTTP_USER_AGENT"),)),
    "T": (b"%d", (lambda entry: entry.seconds,)),
    "M": (b"%d", (lambda entry: round(entry.seconds * 1e6) // 1000,)),
    "D": (b"%d", (lambda entry: round(entry.seconds * 1e6),)),
    "L": (b"%.6f", (lambda entry: entry.seconds,)),
    "p": (b"<%d>", (lambda entry: os.getpid(),)),
}

#: The letters that take a name, as in %({Host}i)s.
_NAMED: dict[str, Callable[[str], _Getter]] = {
    "i": _request_header,
    "o": _response_header,
    "e": lambda name: _param(name.encode()),
}

_PERCENT = re.compile(r"%(?:%|\((?:\{([^{}]+)\})?([^(){}]*)\)s)?")
#: Bytes that are escaped where a value has them, and those of characters that might have to be.
_SPECIAL = bytes(byte for byte in range(256) if not 0x20 <= byte < 0x7F or byte in b'"\\')


class AccessLog:
    """The access log in the file `path`, or on stdout when it is "-".

    Raises `ConfigError` when the file cannot be opened, or `format` has a letter that is not known.

    Lines that have not been flushed are in this process's memory: flush before a fork.
    """

    def __init__(self, path: str, format: str) -> None:
        self._template, self._getters = _compile(format)
        self._specials = _count_specials(self._template)
        self._buffer = bytearray()
        self._sink = Sink("accesslog", path, 1, lambda text: b"# " + escape(text).encode() + b"\n")

    def write(self, entry: Entry) -> None:
        """Add the line of one request."""
        values = tuple([get(entry) for get in self._getters])
        line = self._template % values
        if _count_specials(line) != self._specials:
            line = self._template % tuple([_quote(value) for value in values])
        self._buffer += line
        if len(self._buffer) > BUFFER_SIZE:
            self.flush()

    def flush(self) -> None:
        """Hand the lines that wait in memory to the file. Never raises; see `Sink.write`."""
        if self._buffer:
            lines = bytes(self._buffer)
            self._buffer.clear()
            self._sink.write(lines)

    def reopen(self) -> str:
        """Flush and open the path again, after a rotation. Return "" or, when the old file was kept, why."""
        self.flush()
        return self._sink.reopen()

    def close(self) -> None:
        """Flush and close the file; stdout stays open."""
        self.flush()
        self._sink.close()


def check_format(format: str) -> None:
    """Raise `ConfigError` when `format` cannot be used."""
    _compile(format)


def _quote(value: _Value) -> _Value:
    if not isinstance(value, bytes):
        return value
    return escape(decode(value).replace("\\", "\\\\").replace('"', '\\"')).encode()


def _count_specials(line: bytes) -> int:
    return len(line) - len(line.translate(None, _SPECIAL))


def _compile(format: str) -> tuple[bytes, tuple[_Getter, ...]]:
    """Return the %-template of a line, with its line feed, and what gets the values for it."""
    if "\n" in format or "\r" in format:
        raise ConfigError(f'access_log_format: found a line break in "{escape(format)}"; expected one line')
    template = b""
    getters: list[_Getter] = []
    end = 0
    for match in _PERCENT.finditer(format):
        piece, values = _field(match)
        template += format[end : match.start()].encode() + piece
        getters += values
        end = match.end()
    return template + format[end:].encode() + b"\n", tuple(getters)


def _field(match: re.Match[str]) -> _Field:
    name, letter = match.groups()
    if match.group() == "%%":
        return b"%%", ()
    if name and letter in _NAMED:
        return b"%b", (_NAMED[letter](name),)
    if not name and letter in _LETTERS:
        return _LETTERS[letter]
    found = "a stray percent sign" if letter is None else f"the unknown {escape(match.group())}"
    known = ", ".join(
        [*(f"%({letter})s" for letter in _LETTERS), *(f"%({{name}}{letter})s" for letter in _NAMED)]
    )
    raise ConfigError(
        f"access_log_format: found {found} at character {match.start() + 1} "
        f'of "{escape(match.string)}"; expected {known} or %%'
    )
