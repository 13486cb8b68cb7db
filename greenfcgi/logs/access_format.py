r"""What a line of the access log looks like: the directives of gunicorn's `access_log_format`, such as ``%(h)s``.

A format is compiled once, into a template of bytes and one Python expression for the values in it, so that a line costs
what its own directives cost: 0.6 us with the default format, of which the search for bytes to be escaped is 0.14. A
function for each directive, in the place of the one expression, would make it 1.1 us. The request's variables that a
line needs are found by `records.Routing`, in the same pass as the script.

A value that a client or a script chose cannot end its line or its quotes: it is escaped like everything in the
logs, and ``"`` and ``\`` become ``\"`` and ``\\``; one longer than `text.MAX_TEXT` bytes is cut. A value that is
missing or empty is ``-``; web servers send an unset FastCGI parameter as an empty one. As JSON, the directives say
which members the object of a line has, and what is missing is null.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import NamedTuple, Protocol

from ..errors import ConfigError
from ..fastcgi.records import ROUTING
from ..fastcgi.request import Request
from .text import MAX_TEXT, decode, escape, iso_time, json_line, printable, shorten

_MISSING = b"-"


class LoggedRequest(Protocol):
    """A request that has been answered, and what the access log can say of it."""

    request: Request
    #: Whether it goes to the access log.
    is_logged: bool
    #: When it began, in seconds of the monotonic clock.
    started: float
    #: HTTP status.
    status: int
    #: Bytes of the response body.
    sent: int
    #: The header block of the response as it was sent, lines ended by CRLF.
    head_sent: bytes


#: Makes the line of a request that ended at this time of the monotonic clock, with its line feed.
Line = Callable[[LoggedRequest, float], bytes]

_Value = bytes | int | float
#: Makes the values of a line from a request, the values of its variables (None: missing), and when it ended.
_Values = Callable[[LoggedRequest, tuple[bytes | None, ...], float], tuple[_Value, ...]]


class _Source(NamedTuple):
    """A value as a Python expression of `request`, `ended`, and what `_NAMES` has.

    With a `variable`, {} in the expression stands for its value, which is None where there is none.
    """

    expression: str
    variable: bytes | None = None


class _Directive(NamedTuple):
    """What a directive puts into the template, the sources of its values, and its member in JSON ("": none)."""

    piece: bytes
    sources: tuple[_Source, ...]
    member: str = ""


def _variable(name: str) -> _Source:
    return _Source("{} or MISSING", name.encode())


def _request_header(name: str) -> _Source:
    variable = name.upper().replace("-", "_")
    # RFC 3875, 4.1.2 and 4.1.3: these two have variables of their own.
    prefix = "" if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_"
    return _variable(prefix + variable)


def _response_header(name: str) -> _Source:
    return _Source(f"header(request.head_sent, {name.encode()!r})")


def _header(head: bytes, name: bytes) -> bytes:
    found = _header_pattern(name).search(head)
    return found.group(1) if found else _MISSING


@lru_cache
def _header_pattern(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"(?:^|\r\n)" + re.escape(name) + rb":[ \t]*([^ \t\r\n][^\r\n]*)", re.IGNORECASE)


def _rebuilt_target(request: LoggedRequest) -> bytes:
    """The request target, where the web server does not pass on REQUEST_URI."""
    variables = request.request.variables()
    path = variables.get(b"SCRIPT_NAME", b"") + variables.get(b"PATH_INFO", b"")
    query = variables.get(b"QUERY_STRING")
    return (path + b"?" + query if query else path) or _MISSING


def _path(target: bytes) -> bytes:
    return target.partition(b"?")[0] or _MISSING


def _clf_time(now: time.struct_time) -> str:
    # Not %b: a script that calls os.setlocale would change the names of the months.
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * now.tm_mon - 3 : 3 * now.tm_mon]
    return time.strftime(f"[%d/{month}/%Y:%H:%M:%S %z]", now)


class _CachedTimestamp:
    """The local time as text, cached until a time of the monotonic clock, which the caller knows: to compare that costs
    a fifth of asking for the time of day. When the system's clock is set, the text follows at the end of a second.
    """

    def __init__(self, form: Callable[[time.struct_time], str]) -> None:
        self._form = form
        self.text = b""
        #: Until this time of the monotonic clock the text is right.
        self.until = 0.0

    def renewed(self, now: float) -> bytes:
        wall = time.time()
        self.until = now + 1 - wall % 1
        self.text = self._form(time.localtime(wall)).encode()
        return self.text


#: What the expressions of sources may use.
_NAMES: dict[str, object] = {
    "MISSING": _MISSING, "getpid": os.getpid, "rebuilt_target": _rebuilt_target, "path": _path, "header": _header,
}  # fmt: skip

_method = _variable("REQUEST_METHOD")
_protocol = _variable("SERVER_PROTOCOL")
_target = _Source("{} or rebuilt_target(request)", b"REQUEST_URI")
_time = _Source("stamp.text if ended < stamp.until else stamp.renewed(ended)")
_sent = _Source("request.sent")
_seconds = _Source("ended - request.started")
_microseconds = "round((ended - request.started) * 1e6)"

_DIRECTIVES: dict[str, _Directive] = {
    "h": _Directive(b"%b", (_variable("REMOTE_ADDR"),), "remote_addr"),
    "l": _Directive(_MISSING, ()),
    "u": _Directive(b"%b", (_variable("REMOTE_USER"),), "user"),
    "t": _Directive(b"%b", (_time,), "time"),
    "r": _Directive(b"%b %b %b", (_method, _target, _protocol), "request"),
    "m": _Directive(b"%b", (_method,), "method"),
    "U": _Directive(b"%b", (_Source("path({} or rebuilt_target(request))", b"REQUEST_URI"),), "path"),
    "q": _Directive(b"%b", (_variable("QUERY_STRING"),), "query"),
    "H": _Directive(b"%b", (_protocol,), "protocol"),
    "s": _Directive(b"%d", (_Source("request.status"),), "status"),
    "B": _Directive(b"%d", (_sent,), "bytes"),
    "b": _Directive(b"%b", (_Source('b"%d" % request.sent if request.sent else MISSING'),), "bytes"),
    "f": _Directive(b"%b", (_variable("HTTP_REFERER"),), "referer"),
    "a": _Directive(b"%b", (_variable("HTTP_USER_AGENT"),), "user_agent"),
    "T": _Directive(b"%d", (_seconds,), "seconds"),
    "M": _Directive(b"%d", (_Source(f"{_microseconds} // 1000"),), "milliseconds"),
    "D": _Directive(b"%d", (_Source(_microseconds),), "microseconds"),
    "L": _Directive(b"%.6f", (_seconds,), "seconds"),
    "p": _Directive(b"<%d>", (_Source("getpid()"),), "pid"),
}
#: Members of objects that are not what the text has.
_AS_MEMBERS: dict[str, tuple[_Source, ...]] = {"bytes": (_sent,)}

#: Directives that take a name, as in %({Host}i)s.
_NAMED: dict[str, Callable[[str], _Source]] = {"i": _request_header, "o": _response_header, "e": _variable}

_PERCENT = re.compile(r"%(?:%|\((?:\{([^{}]+)\})?([^(){}]*)\)s)?")
#: Bytes that stand for themselves in a value; the others are escaped, or are those of characters that might have to be.
_SAFE = bytes(byte for byte in range(256) if 0x20 <= byte < 0x7F and byte not in b'"\\')


def check_format(format: str) -> None:
    """Raise `ConfigError` when `format` cannot be used."""
    for _ in _directives(format):
        pass


def text_lines(format: str) -> tuple[tuple[bytes, ...], Line]:
    """The variables beyond `ROUTING` that lines in this format need, and a function that makes lines of text.

    Raises `ConfigError`.
    """
    template = b""
    sources: list[_Source] = []
    for text, directive in _directives(format):
        template += text.encode() + directive.piece
        sources += directive.sources
    template += b"\n"
    own_specials = template.translate(None, _SAFE)
    variables, values_of = _compiled(sources, _clf_time)

    def line(request: LoggedRequest, ended: float) -> bytes:
        values = values_of(request, request.request.found, ended)
        made = template % values
        if len(made) <= MAX_TEXT and made.translate(None, _SAFE) == own_specials:
            return made
        return template % tuple([_quote(value) for value in values])

    return variables, line


def json_lines(format: str) -> tuple[tuple[bytes, ...], Line]:
    """The same for objects of JSON, whose members are the directives of this format. Raises `ConfigError`."""
    members = {
        found.member: _AS_MEMBERS.get(found.member, found.sources) for _, found in _directives(format) if found.member
    }
    variables, values_of = _compiled((source for sources in members.values() for source in sources), iso_time)

    def line(request: LoggedRequest, ended: float) -> bytes:
        values = iter(values_of(request, request.request.found, ended))
        return json_line({name: _member([*islice(values, len(sources))]) for name, sources in members.items()})

    return variables, line


def _compiled(
    sources: Iterable[_Source], time_form: Callable[[time.struct_time], str]
) -> tuple[tuple[bytes, ...], _Values]:
    """The variables beyond `ROUTING` that these sources need, and one function for all their values."""
    names = list(ROUTING)
    parts = []
    for expression, variable in sources:
        if variable is None:
            parts.append(f"({expression}), ")
            continue
        if variable not in names:
            names.append(variable)
        parts.append(f"({expression.format(f'found[{names.index(variable)}]')}), ")
    values_of: _Values = eval(
        f"lambda request, found, ended: ({''.join(parts)})", {**_NAMES, "stamp": _CachedTimestamp(time_form)}
    )
    return tuple(names[len(ROUTING) :]), values_of


def _member(values: list[_Value]) -> _Value | None:
    if len(values) > 1:
        return b" ".join(shorten(value, MAX_TEXT) for value in values if isinstance(value, bytes))
    value = values[0]
    return None if value == _MISSING else shorten(value, MAX_TEXT) if isinstance(value, bytes) else value


def _quote(value: _Value) -> _Value:
    if not isinstance(value, bytes):
        return value
    quoted = decode(shorten(value, MAX_TEXT)).replace("\\", "\\\\").replace('"', '\\"')
    return printable(quoted).encode()


def _directives(format: str) -> Iterator[tuple[str, _Directive]]:
    """Each directive with the text before it; the text after the last one comes with an empty directive."""
    if "\n" in format or "\r" in format:
        raise ConfigError(f'access_log_format: found a line break in "{escape(format)}"; expected one line')
    end = 0
    for match in _PERCENT.finditer(format):
        yield format[end : match.start()], _directive(match)
        end = match.end()
    yield format[end:], _Directive(b"", ())


def _directive(match: re.Match[str]) -> _Directive:
    name, letter = match.groups()
    if match.group() == "%%":
        return _Directive(b"%%", ())
    if name and letter in _NAMED:
        return _Directive(b"%b", (_NAMED[letter](name),), f"{{{name}}}{letter}")
    if not name and letter in _DIRECTIVES:
        return _DIRECTIVES[letter]
    found = "a stray percent sign" if letter is None else f"the unknown {escape(match.group())}"
    known = ", ".join([*(f"%({letter})s" for letter in _DIRECTIVES), *(f"%({{name}}{letter})s" for letter in _NAMED)])
    raise ConfigError(
        f"access_log_format: found {found} at character {match.start() + 1} "
        f'of "{escape(match.string)}"; expected {known} or %%'
    )
