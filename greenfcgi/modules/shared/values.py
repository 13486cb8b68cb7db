"""Values as LMDB and Redis keep them: bytes that say what they are, so that Lua gets back what it gave.

LMDB has a tag, in the head of an entry or before an element of a list, and then the value: ::

    INTEGER  8 bytes, signed
    FLOAT    8 bytes, a double
    STRING   the bytes
    TRUE, FALSE, LIST

Redis has text. An integer is its digits, since Redis counts with these by itself; all else has a letter first. Flags
that are not 0 stand before it: f, their digits, a semicolon. ::

    12   d1.5   stext   t   f0;...
"""

from __future__ import annotations

import struct
from typing import Final

from .store import FLAGS, Kind, Number

INTEGER: Final = 0
FLOAT: Final = 1
STRING: Final = 2
TRUE: Final = 3
FALSE: Final = 4
LIST: Final = 5

INTEGER_BYTES: Final = struct.Struct("=q")
_FLOAT: Final = struct.Struct("=d")
_MIN_INTEGER: Final = -(2**63)
_MAX_INTEGER: Final = 2**63 - 1

Value = bytes | bool | Number
#: A value, and what Lua must know to read it where it does not speak for itself.
Shown = bytes | int | float | tuple[bytes | int | float | None, bytes | None, int]


def packed(value: Value) -> tuple[int, bytes]:
    """A value's tag and bytes."""
    kind = type(value)
    if kind is bytes:
        return STRING, value  # type: ignore[return-value]
    if kind is int:
        return INTEGER, INTEGER_BYTES.pack(value)
    if kind is float:
        return FLOAT, _FLOAT.pack(value)
    return (TRUE if value else FALSE), b""


def number(tag: int, data: bytes, start: int) -> Number | None:
    """What begins at `start`, where it is a number."""
    if tag == INTEGER:
        found: int = INTEGER_BYTES.unpack_from(data, start)[0]
        return found
    if tag == FLOAT:
        other: float = _FLOAT.unpack_from(data, start)[0]
        return other
    return None


def shown(tag: int, data: bytes, start: int, flags: int = 0) -> Shown:
    """The value that begins at `start`, for Lua."""
    value: bytes | int | float | None
    if tag == STRING:
        value = data[start:]
    elif tag in (TRUE, FALSE):
        return None, None, flags * FLAGS + (Kind.TRUE if tag == TRUE else Kind.FALSE)
    else:
        value = number(tag, data, start)
        assert value is not None
    return value if not flags else (value, None, flags * FLAGS + Kind.VALUE)


def added(first: Number, second: Number) -> Number:
    """Their sum: an integer where both are and it has 64 bits, else a double."""
    found = first + second
    return found if type(found) is float or _MIN_INTEGER <= found <= _MAX_INTEGER else float(found)


# As text


def written(value: Value, flags: int = 0) -> bytes:
    """A value as Redis keeps it."""
    if isinstance(value, bytes):
        text = b"s" + value
    elif isinstance(value, bool):
        text = b"t" if value else b"f"
    elif isinstance(value, int):
        text = b"%d" % value
    else:
        text = b"d" + repr(value).encode()
    return b"f%d;%b" % (flags, text) if flags else text


def read(text: bytes) -> Shown | None:
    """The value that Redis has kept, for Lua; None where it is none of ours."""
    flags = 0
    try:
        if text[:1] == b"f" and len(text) > 1:
            head, _, text = text[1:].partition(b";")
            flags = int(head)
        letter = text[:1]
        value: bytes | int | float
        if letter == b"s":
            value = text[1:]
        elif letter in (b"t", b"f"):
            return None, None, flags * FLAGS + (Kind.TRUE if letter == b"t" else Kind.FALSE)
        elif letter == b"d":
            value = float(text[1:])
        else:
            value = int(text)
    except ValueError:
        return None
    return value if not flags else (value, None, flags * FLAGS + Kind.VALUE)
