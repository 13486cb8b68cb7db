r"""What a line of the access log looks like: the format letters of gunicorn's `access_log_format`.

A format is compiled once, into a template of bytes and one getter for each value in it, so that a line costs what its
own letters cost: 2 to 3 us with the default format. Nothing is looked up, decoded or escaped for a letter that is not
there.

A value that a client or a script chose cannot end its line or its quotes: it is escaped like everything in the
logs, and ``"`` and ``\`` become ``\"`` and ``\\``. A value that is missing or empty is ``-``; web servers send
an unset FastCGI parameter as an empty one. As JSON, the letters say which members the object of a line has, and what
is missing is null.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from .errors import ConfigError
from .lines import Stamp, decode, escape, iso_time, json_line

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


#: Makes the line of a request, with its line feed.
Line = Callable[[Entry], bytes]

_Value = bytes | int | float
_Getter = Callable[[Entry], _Value]


class _Letter(NamedTuple):
    """What a letter puts into the template, and the values that this takes; the member of an object that it is."""

    piece: bytes
    getters: tuple[_Getter, ...]
    member: str = ""


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


_now, _iso_now = Stamp(_clf_time), Stamp(iso_time)
_method = _param(b"REQUEST_METHOD")
_protocol = _param(b"SERVER_PROTOCOL")

_status: _Getter = lambda entry: entry.status  # noqa: E731  # a getter among others
_sent: _Getter = lambda entry: entry.sent  # noqa: E731
_seconds: _Getter = lambda entry: entry.seconds  # noqa: E731
_microseconds: _Getter = lambda entry: round(entry.seconds * 1e6)  # noqa: E731

_LETTERS: dict[str, _Letter] = {
    "h": _Letter(b"%b", (_param(b"REMOTE_ADDR"),), "remote_addr"),
    "l": _Letter(_MISSING, ()),
    "u": _Letter(b"%b", (_param(b"REMOTE_USER"),), "user"),
    "t": _Letter(b"%b", (lambda entry: _now(),), "time"),
    "r": _Letter(b"%b %b %b", (_method, _target, _protocol), "request"),
    "m": _Letter(b"%b", (_method,), "method"),
    "U": _Letter(b"%b", (lambda entry: _target(entry).partition(b"?")[0] or _MISSING,), "path"),
    "q": _Letter(b"%b", (_param(b"QUERY_STRING"),), "query"),
    "H": _Letter(b"%b", (_protocol,), "protocol"),
    "s": _Letter(b"%d", (_status,), "status"),
    "B": _Letter(b"%d", (_sent,), "bytes"),
    "b": _Letter(b"%b", (lambda entry: b"%d" % entry.sent if entry.sent else _MISSING,), "bytes"),
    "f": _Letter(b"%b", (_param(b"HTTP_REFERER"),), "referer"),
    "a": _Letter(b"%b", (_param(b"HTTP_USER_AGENT"),), "user_agent"),
    "T": _Letter(b"%d", (_seconds,), "seconds"),
    "M": _Letter(b"%d", (lambda entry: round(entry.seconds * 1e6) // 1000,), "milliseconds"),
    "D": _Letter(b"%d", (_microseconds,), "microseconds"),
    "L": _Letter(b"%.6f", (_seconds,), "seconds"),
    "p": _Letter(b"<%d>", (lambda entry: os.getpid(),), "pid"),
}
#: Members of objects that are not what the text has.
_AS_MEMBERS: dict[str, _Getter] = {"time": lambda entry: _iso_now(), "bytes": _sent}

#: The letters that take a name, as in %({Host}i)s.
_NAMED: dict[str, Callable[[str], _Getter]] = {
    "i": _request_header,
    "o": _response_header,
    "e": lambda name: _param(name.encode()),
}

_PERCENT = re.compile(r"%(?:%|\((?:\{([^{}]+)\})?([^(){}]*)\)s)?")
#: Bytes that are escaped where a value has them, and those of characters that might have to be.
_SPECIAL = bytes(byte for byte in range(256) if not 0x20 <= byte < 0x7F or byte in b'"\\')


def check_format(format: str) -> None:
    """Raise `ConfigError` when `format` cannot be used."""
    for _ in _letters(format):
        pass


def text_lines(format: str) -> Line:
    """What makes lines of text in this format. Raises `ConfigError`."""
    template = b""
    getters: list[_Getter] = []
    for text, letter in _letters(format):
        template += text.encode() + letter.piece
        getters += letter.getters
    template += b"\n"
    specials = _count_specials(template)

    def line(entry: Entry) -> bytes:
        values = tuple([get(entry) for get in getters])
        made = template % values
        return made if _count_specials(made) == specials else template % tuple([_quote(value) for value in values])

    return line


def json_lines(format: str) -> Line:
    """What makes objects of JSON, with the members that the letters of this format are. Raises `ConfigError`."""
    members = {letter.member: letter.getters for _, letter in _letters(format) if letter.member}

    def line(entry: Entry) -> bytes:
        return json_line({name: _member(name, getters, entry) for name, getters in members.items()})

    return line


def _member(name: str, getters: tuple[_Getter, ...], entry: Entry) -> _Value | None:
    if name in _AS_MEMBERS:
        return _AS_MEMBERS[name](entry)
    if len(getters) > 1:
        return b" ".join(part for part in (get(entry) for get in getters) if isinstance(part, bytes))
    value = getters[0](entry)
    return None if value == _MISSING else value


def _quote(value: _Value) -> _Value:
    if not isinstance(value, bytes):
        return value
    return escape(decode(value).replace("\\", "\\\\").replace('"', '\\"')).encode()


def _count_specials(line: bytes) -> int:
    return len(line) - len(line.translate(None, _SPECIAL))


def _letters(format: str) -> Iterator[tuple[str, _Letter]]:
    """Each letter with the text before it; the text after the last one comes with a letter that is nothing."""
    if "\n" in format or "\r" in format:
        raise ConfigError(f'access_log_format: found a line break in "{escape(format)}"; expected one line')
    end = 0
    for match in _PERCENT.finditer(format):
        yield format[end : match.start()], _letter(match)
        end = match.end()
    yield format[end:], _Letter(b"", ())


def _letter(match: re.Match[str]) -> _Letter:
    name, letter = match.groups()
    if match.group() == "%%":
        return _Letter(b"%%", ())
    if name and letter in _NAMED:
        return _Letter(b"%b", (_NAMED[letter](name),), f"{{{name}}}{letter}")
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
