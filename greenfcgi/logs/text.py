"""Lines that logs are made of: any text made harmless, the time, an object of JSON.

A log is read in terminals, mailed and parsed, and much of what is in it comes from clients and scripts. Whatever they
chose, a line stays one line, a terminal obeys nothing in it, and a long one is cut, so that its cost has a limit in
time and in bytes.
"""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

_Text = TypeVar("_Text", str, bytes, str | bytes)

#: The most bytes of a text that a script or a client has chosen; of a request's title (method and URL); and of any
#: line, or the detail below it. 8 KiB is the longest request line that nginx accepts by default.
MAX_TEXT = 8 * 1024
MAX_TITLE = 2 * 1024
MAX_LINE = 16 * 1024
#: So many characters are surely no more than `MAX_LINE` bytes: UTF-8 has at most four for each.
_SURELY_SHORT = MAX_LINE // 4


def shorten(text: _Text, max_bytes: int) -> _Text:
    """`text`, or its first `max_bytes` bytes with its whole length behind them: "abc... (12000000 bytes)"."""
    # Four bytes are the most that a character has in UTF-8.
    if len(text) * (1 if isinstance(text, bytes) else 4) <= max_bytes:
        return text
    if isinstance(text, str):
        # No more than that is encoded twice.
        head = _encode(text[: max_bytes + 1])
        if len(head) <= max_bytes:
            return text
        length = len(text) if text.isascii() else len(_encode(text))
        return decode(_first_bytes(head, max_bytes)) + f"... ({length} bytes)"
    return _first_bytes(text, max_bytes) + b"... (%d bytes)" % len(text)


def _first_bytes(data: bytes, count: int) -> bytes:
    """At most so many, without half a character of UTF-8 at the end."""
    end = count
    while end > count - 4 and data[end] & 0xC0 == 0x80:
        end -= 1
    return data[: end if data[end] & 0xC0 == 0xC0 else count]


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Half a pair of UTF-16, which stands for no byte.
        return text.encode("utf-8", "backslashreplace")


def escape(text: str | bytes) -> str:
    r"""Return `text` as one line that changes nothing in a terminal and hides nothing from a reader.

    What `str.isprintable` refuses is escaped: ASCII control characters, and bytes that are not UTF-8, as ``\n``,
    ``\r``, ``\t`` or ``\xHH``; C1 controls, line separators, bidirectional and zero-width characters as ``\uHHHH``
    (``\UHHHHHHHH`` past U+FFFF). So ``\xHH`` always stands for one byte. A backslash stays as it is.
    What is longer than `MAX_LINE` is cut before, see `shorten`.
    """
    if len(text) > _SURELY_SHORT:
        text = shorten(text, MAX_LINE)
    decoded = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    return decoded if decoded.isprintable() else decoded.translate(_ESCAPES)


def printable(decoded: str) -> str:
    """`escape` for a text that has been cut and decoded already."""
    return decoded if decoded.isprintable() else decoded.translate(_ESCAPES)


def decode(text: str | bytes) -> str:
    """Decode UTF-8, each invalid byte as the lone surrogate that `escape` turns into that byte's escape."""
    return text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text


class _Escapes(dict[int, str]):
    """The escape of each character, by its code, or the character itself; rare ones are made when asked for."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character.isprintable():
            return character
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_ESCAPES = _Escapes({code: chr(code) for code in range(0x20, 0x7F)})
_ESCAPES |= {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)} | {0x0A: r"\n", 0x0D: r"\r", 0x09: r"\t"}
# A byte that is not UTF-8, as `decode` has it.
_ESCAPES |= {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}


class Timestamp:
    """The local time as text, formatted at most once a second."""

    def __init__(self, form: Callable[[time.struct_time], str]) -> None:
        self._form = form
        self._second = -1
        self._text = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = self._form(time.localtime(second)).encode()
        return self._text


def iso_time(now: time.struct_time) -> str:
    """2026-11-22T21:02:09+00:00, as RFC 3339 has it."""
    text = time.strftime("%Y-%m-%dT%H:%M:%S%z", now)
    return f"{text[:-2]}:{text[-2:]}"


def json_line(members: Mapping[str, object]) -> bytes:
    r"""One object of JSON in ASCII, with its line feed. Values are text, bytes, numbers, None.

    A byte that is not UTF-8 is written as the text ``\xHH``. Texts are cut at `MAX_LINE` bytes, see `shorten`.
    """
    # With log_format = "json" only.
    import json

    plain = {name: _plain(value) if isinstance(value, (str, bytes)) else value for name, value in members.items()}
    return json.dumps(plain).replace("\x7f", "\\u007f").encode() + b"\n"


def _plain(text: str | bytes) -> str:
    data = shorten(text, MAX_LINE) if isinstance(text, bytes) else _encode(shorten(text, MAX_LINE))
    return data.decode("utf-8", "backslashreplace")


def counted(number: int, noun: str) -> str:
    """A number of things: "1 process", "2 processes"."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"


def described(problem: BaseException) -> str:
    """An exception in one line: "ValueError: what it says"."""
    try:
        text = str(problem)
    except BaseException:
        text = ""
    name = type(problem).__name__
    return escape(f"{name}: {text}" if text else name)


def traceback_of(problem: BaseException) -> str:
    """The traceback of an exception, as Python prints it: for the log, when the server itself has failed."""
    import traceback

    return "".join(traceback.format_exception(problem))
