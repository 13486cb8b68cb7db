r"""What a line of the access log looks like: the directives of gunicorn's `access_log_format`, such as ``%(h)s``.

A format is taken to pieces once. Most of a line is known when its request begins, and is put together in the same pass
that finds the script (`records.Template`); what is known only at the end is filled in with one `%`. Where that cannot
be (a value that has to be escaped, directives that are seldom used, JSON), a line is made value by value.

A value that a client or a script chose cannot end its line or its quotes: it is escaped like everything in the
logs, and ``"`` and ``\`` become ``\"`` and ``\\``; one longer than `text.MAX_TEXT` bytes is cut. A value that is
missing or empty is ``-``; web servers send an unset FastCGI parameter as an empty one. As JSON, the directives say
which members the object of a line has, and what is missing is null.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from operator import itemgetter
from typing import Final, NamedTuple

from ..errors import ConfigError
from ..fastcgi.records import PLAIN, ROUTING, Template
from ..fastcgi.request import Request
from .text import MAX_TEXT, decode, escape, iso_time, json_line, printable, shorten

_MISSING: Final = b"-"


class Ended(NamedTuple):
    """A request that has ended, and its reply."""

    request: Request
    #: Of its variables: those in `ROUTING`, then `Template.names`. None: missing.
    values: tuple[bytes | None, ...]
    #: HTTP status.
    status: int
    #: Bytes of the response body.
    sent: int
    #: How long it took.
    seconds: float
    #: The header block of the response as it was sent, lines ended by CRLF.
    head: bytes
    #: The time when it ended, as `Form.now` has it.
    now: bytes


#: What is filled into a line when its request ends: the time, HTTP status, bytes of the response body as text ("-" for
#: 0), microseconds that it took, the bytes as a number, and seconds.
Ending = tuple[bytes, int, bytes, int, int, float]
#: What the default format has of it, in this order.
_USUAL: Final = (0, 1, 2, 3)

_Value = bytes | int | float


class _Source(NamedTuple):
    """A value of a line: `value` gives it, from a request and the place of the `variable` among its values.

    `form` is how it is written. `filled` is its place in `Ending`; None: it cannot be filled in.
    """

    value: Callable[[Ended, int], _Value]
    form: bytes = b"%b"
    filled: int | None = None
    variable: bytes = b""


class _Directive(NamedTuple):
    """What a directive puts into a line: `text`, or the values of its sources with blanks between them.

    `member` is its name in JSON ("": none).
    """

    sources: tuple[_Source, ...] = ()
    member: str = ""
    text: bytes = b""


def _given(ended: Ended, place: int) -> bytes:
    return ended.values[place] or _MISSING


def _target(ended: Ended, place: int) -> bytes:
    return ended.values[place] or _rebuilt_target(ended.request)


def _path(ended: Ended, place: int) -> bytes:
    return _target(ended, place).partition(b"?")[0] or _MISSING


def _rebuilt_target(request: Request) -> bytes:
    """The request target, where the web server does not pass on REQUEST_URI."""
    variables = request.variables()
    path = variables.get(b"SCRIPT_NAME", b"") + variables.get(b"PATH_INFO", b"")
    query = variables.get(b"QUERY_STRING")
    return (path + b"?" + query if query else path) or _MISSING


def _size(ended: Ended, place: int) -> bytes:
    return b"%d" % ended.sent if ended.sent else _MISSING


def _microseconds(ended: Ended, place: int) -> int:
    return round(ended.seconds * 1e6)


def _milliseconds(ended: Ended, place: int) -> int:
    return _microseconds(ended, place) // 1000


def _variable(name: str) -> _Source:
    return _Source(_given, variable=name.encode())


def _request_header(name: str) -> _Source:
    variable = name.upper().replace("-", "_")
    # RFC 3875, 4.1.2 and 4.1.3: these two have variables of their own.
    prefix = "" if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_"
    return _variable(prefix + variable)


def _response_header(name: str) -> _Source:
    return _Source(lambda ended, _: _header(ended.head, name.encode()))


def _header(head: bytes, name: bytes) -> bytes:
    found = _header_pattern(name).search(head)
    return found.group(1) if found else _MISSING


@lru_cache
def _header_pattern(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"(?:^|\r\n)" + re.escape(name) + rb":[ \t]*([^ \t\r\n][^\r\n]*)", re.IGNORECASE)


def _clf_time(now: time.struct_time) -> str:
    # Not %b: a script that calls os.setlocale would change the names of the months.
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * now.tm_mon - 3 : 3 * now.tm_mon]
    return time.strftime(f"[%d/{month}/%Y:%H:%M:%S %z]", now)


_METHOD: Final = _variable("REQUEST_METHOD")
_PROTOCOL: Final = _variable("SERVER_PROTOCOL")
_TARGET: Final = _Source(_target, variable=b"REQUEST_URI")
_NOW: Final = _Source(lambda ended, _: ended.now, filled=0)
_STATUS: Final = _Source(lambda ended, _: ended.status, b"%d", filled=1)
_SENT: Final = _Source(lambda ended, _: ended.sent, b"%d", filled=4)

_DIRECTIVES: Final[dict[str, _Directive]] = {
    "h": _Directive((_variable("REMOTE_ADDR"),), "remote_addr"),
    "l": _Directive(text=_MISSING),
    "u": _Directive((_variable("REMOTE_USER"),), "user"),
    "t": _Directive((_NOW,), "time"),
    "r": _Directive((_METHOD, _TARGET, _PROTOCOL), "request"),
    "m": _Directive((_METHOD,), "method"),
    "U": _Directive((_Source(_path, variable=b"REQUEST_URI"),), "path"),
    "q": _Directive((_variable("QUERY_STRING"),), "query"),
    "H": _Directive((_PROTOCOL,), "protocol"),
    "s": _Directive((_STATUS,), "status"),
    "B": _Directive((_SENT,), "bytes"),
    "b": _Directive((_Source(_size, filled=2),), "bytes"),
    "f": _Directive((_variable("HTTP_REFERER"),), "referer"),
    "a": _Directive((_variable("HTTP_USER_AGENT"),), "user_agent"),
    "T": _Directive((_Source(lambda ended, _: ended.seconds, b"%d", filled=5),), "seconds"),
    "M": _Directive((_Source(_milliseconds, b"%d"),), "milliseconds"),
    "D": _Directive((_Source(_microseconds, b"%d", filled=3),), "microseconds"),
    "L": _Directive((_Source(lambda ended, _: ended.seconds, b"%.6f", filled=5),), "seconds"),
    "p": _Directive((_Source(lambda *_: os.getpid(), b"<%d>"),), "pid"),
}
#: Members of objects that are not what the text has.
_AS_MEMBERS: Final[dict[str, tuple[_Source, ...]]] = {"bytes": (_SENT,)}

#: Directives that take a name, as in %({Host}i)s.
_NAMED: Final[dict[str, Callable[[str], _Source]]] = {"i": _request_header, "o": _response_header, "e": _variable}

_PERCENT: Final = re.compile(r"%(?:%|\((?:\{([^{}]+)\})?([^(){}]*)\)s)?")


def check_format(format: str) -> None:
    """Raise `ConfigError` when `format` cannot be used."""
    for _ in _directives(format):
        pass


class Form:
    """What lines look like in one format, see `TextForm` and `JsonForm`.

    Raises `ConfigError` when the format has an unknown directive.
    """

    def __init__(self, format: str) -> None:
        self._directives = [*_directives(format)]
        sources = [source for _, directive in self._directives for source in directive.sources]
        self._variables = [source.variable for source in sources if source.variable]
        self._names = [*dict.fromkeys([*ROUTING, *self._variables])]

    def now(self, seconds: float) -> bytes:
        """A time of day as lines have it, in the local time zone. `seconds` are since the epoch."""
        raise NotImplementedError

    def line(self, ended: Ended) -> bytes:
        """The line of a request, with its line feed."""
        raise NotImplementedError

    def template(self) -> tuple[Template, Callable[[Ending], object] | None]:
        """What is to be found of a request when it begins: what of a line can be made then, and the variables' values
        for `line`; and what picks from an `Ending` the rest, which is filled in with `%`. None: its first four.
        """
        return Template((), tuple(self._variables)), None

    def _place(self, source: _Source) -> int:
        return self._names.index(source.variable) if source.variable else 0


class TextForm(Form):
    """Lines of text."""

    def __init__(self, format: str) -> None:
        super().__init__(format)
        #: A line: texts, and between each two of them a value: its source, and the place of its variable.
        self._texts: list[bytes] = []
        self._sources: list[tuple[_Source, int]] = []
        text = b""
        for before, directive in self._directives:
            text += before.encode() + directive.text
            for number, source in enumerate(directive.sources):
                self._texts.append(text + b" " if number else text)
                self._sources.append((source, self._place(source)))
                text = b""
        self._texts.append(text + b"\n")

    def now(self, seconds: float) -> bytes:
        """As in [22/Nov/2026:21:02:09 +0000]."""
        return _clf_time(time.localtime(seconds)).encode()

    def line(self, ended: Ended) -> bytes:
        """The line, whatever is in its values."""
        made = [self._texts[0]]
        for (source, place), text in zip(self._sources, self._texts[1:], strict=True):
            value = source.value(ended, place)
            made += (_quoted(value) if isinstance(value, bytes) else source.form % value, text)
        return b"".join(made)

    def template(self) -> tuple[Template, Callable[[Ending], object] | None]:
        """Without a text where a value is neither a variable's nor in an `Ending`."""
        texts, variables, filled = [b""], [], []
        for before, (source, _) in zip(self._texts, self._sources, strict=False):
            texts[-1] += before.replace(b"%", b"%%")
            if source.filled is not None:
                filled.append(source.filled)
                texts[-1] += source.form
            elif source.value in (_given, _target):
                variables.append(source.variable)
                texts.append(b"")
            else:
                return super().template()
        texts[-1] += self._texts[-1].replace(b"%", b"%%")
        needed = b"REQUEST_URI" if any(source is _TARGET for source, _ in self._sources) else b""
        pick = None if tuple(filled) == _USUAL else itemgetter(*filled) if filled else _nothing
        return Template(tuple(texts), tuple(variables), needed), pick


class JsonForm(Form):
    """Objects of JSON in a line each, whose members are the directives of the format."""

    def __init__(self, format: str) -> None:
        super().__init__(format)
        self._members = {
            found.member: [(source, self._place(source)) for source in _AS_MEMBERS.get(found.member, found.sources)]
            for _, found in self._directives
            if found.member
        }

    def now(self, seconds: float) -> bytes:
        """As RFC 3339 has it."""
        return iso_time(time.localtime(seconds)).encode()

    def line(self, ended: Ended) -> bytes:
        """The object."""
        members = {
            name: _member([source.value(ended, place) for source, place in sources])
            for name, sources in self._members.items()
        }
        return json_line(members)


def _nothing(ending: Ending) -> tuple[()]:
    return ()


def _member(values: list[_Value]) -> _Value | None:
    if len(values) > 1:
        return b" ".join([shorten(value, MAX_TEXT) for value in values if isinstance(value, bytes)])
    value = values[0]
    return None if value == _MISSING else shorten(value, MAX_TEXT) if isinstance(value, bytes) else value


def _quoted(value: bytes) -> bytes:
    if len(value) <= MAX_TEXT and not value.translate(None, PLAIN):
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
    yield format[end:], _Directive()


def _directive(match: re.Match[str]) -> _Directive:
    name, letter = match.groups()
    if match.group() == "%%":
        return _Directive(text=b"%")
    if name and letter in _NAMED:
        return _Directive((_NAMED[letter](name),), f"{{{name}}}{letter}")
    if not name and letter in _DIRECTIVES:
        return _DIRECTIVES[letter]
    found = "a stray percent sign" if letter is None else f"the unknown {escape(match.group())}"
    known = ", ".join([*(f"%({letter})s" for letter in _DIRECTIVES), *(f"%({{name}}{letter})s" for letter in _NAMED)])
    raise ConfigError(
        f"access_log_format: found {found} at character {match.start() + 1} "
        f'of "{escape(match.string)}"; expected {known} or %%'
    )
