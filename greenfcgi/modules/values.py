"""Values on their way between Lua and Python, as text: a Lua table must not cross, which from a coroutine can crash.

    Lua                        text            Python
    nil                        n               None
    true, false                t, f            True, False
    integer                    i42;            int
    number                     d1.5;           float
    string                     s3:abc          bytes (and str, bytearray, memoryview on the way to Lua; str as UTF-8)
    table 1 to n               a2:...          list (and tuple)
    table with string keys     m2:s1:k...      dict with keys of bytes (and str on the way to Lua)

An empty table is an empty dict. The same in Lua is `_python.lua`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

#: Tables in tables, either way.
MAX_DEPTH: Final = 32
#: Values that go to Lua at once: what takes longer than a turn to write down holds up others.
MAX_VALUES: Final = 100_000
_MIN_INT: Final = -(2**63)
_MAX_INT: Final = 2**63 - 1


class Uncrossable(Exception):
    """A value that Lua has nothing for."""


def encode(values: tuple[object, ...]) -> bytes:
    """An array of these. Raises `Uncrossable`, which says what cannot cross."""
    writer = _Writer()
    writer.array(values, 0)
    return b"".join(writer.parts)


class _Writer:
    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._count = 0

    def value(self, value: object, depth: int) -> None:
        put = self.parts.append
        self._count += 1
        if self._count > MAX_VALUES:
            raise Uncrossable(f"more than {MAX_VALUES:,} values")
        if value is None:
            put(b"n")
        elif isinstance(value, bool):
            put(b"t" if value else b"f")
        elif isinstance(value, int):
            if not _MIN_INT <= value <= _MAX_INT:
                raise Uncrossable("a whole number of more than 64 bits")
            put(b"i%d;" % value)
        elif isinstance(value, float):
            put(b"d%b;" % repr(float(value)).encode())
        elif isinstance(value, (str, bytes, bytearray, memoryview)):
            data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
            put(b"s%d:" % len(data))
            put(data)
        elif isinstance(value, (list, tuple)):
            self.array(value, depth + 1)
        elif isinstance(value, Mapping):
            self._table(value, depth + 1)
        else:
            raise Uncrossable(
                f"found {type(value).__name__}, expected None, bool, int, float, str, bytes, or a list or dict of these"
            )

    def array(self, values: list[object] | tuple[object, ...], depth: int) -> None:
        self._check(depth)
        # What another thread adds meanwhile, and a length of its own, do not count.
        items = tuple(values)
        self.parts.append(b"a%d:" % len(items))
        for value in items:
            self.value(value, depth)

    def _table(self, values: Mapping[object, object], depth: int) -> None:
        self._check(depth)
        items = tuple(values.items())
        self.parts.append(b"m%d:" % len(items))
        for key, value in items:
            if not isinstance(key, (str, bytes)):
                raise Uncrossable(f"found a dict with a key of type {type(key).__name__}, expected str or bytes")
            self.value(key, depth)
            self.value(value, depth)

    def _check(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise Uncrossable(f"lists and dicts nested more than {MAX_DEPTH} deep, or in themselves")


def decode(text: bytes) -> list[object]:
    """The values of an array that `_python.lua` has written."""
    values = _Reader(text).value()
    return values if isinstance(values, list) else []


class _Reader:
    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0
        self._readers: dict[bytes, Callable[[], object]] = {
            b"n": lambda: None, b"t": lambda: True, b"f": lambda: False, b"i": self._int, b"d": self._float,
            b"s": self._bytes, b"a": self._list, b"m": self._dict,
        }  # fmt: skip

    def value(self) -> object:
        kind = self._text[self._at : self._at + 1]
        self._at += 1
        return self._readers[kind]()

    def _until(self, end: bytes) -> bytes:
        at = self._text.index(end, self._at)
        found = self._text[self._at : at]
        self._at = at + 1
        return found

    def _int(self) -> int:
        return int(self._until(b";"))

    def _float(self) -> float:
        return float(self._until(b";"))

    def _bytes(self) -> bytes:
        length = int(self._until(b":"))
        self._at += length
        return self._text[self._at - length : self._at]

    def _list(self) -> list[object]:
        return [self.value() for _ in range(int(self._until(b":")))]

    def _dict(self) -> dict[object, object]:
        return {self.value(): self.value() for _ in range(int(self._until(b":")))}
