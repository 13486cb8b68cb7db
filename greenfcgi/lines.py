"""Lines that logs are made of: any text made harmless, the time, an object of JSON.

A log is read in terminals, mailed and parsed, and much of what is in it comes from clients and scripts: whatever they
chose, a line stays one line, and nothing in it is obeyed by a terminal.
"""

import re
import time
from collections.abc import Callable, Mapping

_SURROGATE = re.compile("[\ud800-\udfff]")
_SUSPECT = re.compile(r"[^ -~]")
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def escape(text: str | bytes) -> str:
    r"""Return `text` as one line that changes nothing in a terminal and hides nothing from a reader.

    What `str.isprintable` refuses is escaped: ASCII control characters, and bytes that are not UTF-8, as ``\n``,
    ``\r``, ``\t`` or ``\xHH``; C1 controls, line separators, bidirectional and zero-width characters as ``\uHHHH``
    (``\UHHHHHHHH`` past U+FFFF). So ``\xHH`` always stands for one byte. A backslash stays as it is.
    """
    decoded = decode(text)
    return decoded if decoded.isprintable() else _SUSPECT.sub(_escape_character, decoded)


def decode(text: str | bytes) -> str:
    """Decode UTF-8, each invalid byte as the lone surrogate that `escape` turns into that byte's escape."""
    return text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text


def _escape_character(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if character.isprintable():
        return character
    if code < 0x80:
        return _SHORT_ESCAPES.get(character) or f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Stamp:
    """The local time as text, put together at most once a second."""

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

    A byte that is not UTF-8 is written as the text ``\xHH``.
    """
    # With log_format = "json" only.
    import json

    plain = {name: _plain(value) if isinstance(value, (str, bytes)) else value for name, value in members.items()}
    return json.dumps(plain).replace("\x7f", "\\u007f").encode() + b"\n"


def _plain(text: str | bytes) -> str:
    return _SURROGATE.sub(_escape_character, decode(text))


def traceback_of(problem: BaseException) -> str:
    """Where an exception came from, as Python prints it: for the log, when the server itself has failed."""
    import traceback

    return "".join(traceback.format_exception(problem))
