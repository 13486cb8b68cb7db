"""Bytecode of Lua 5.1 without what only a debugger needs, since its `string.dump` cannot leave that out.

The format is that of ldump.c in Lua 5.1. Sizes and the order of bytes are those of the machine that runs, as the
header says. Only for what this process has dumped itself.
"""

from __future__ import annotations

from typing import Final

_HEADER: Final = b"\x1bLua\x51"
#: Bytes of the header. Behind the signature: the format, the order of bytes, and sizes of int, size_t and instruction.
_HEADER_SIZE: Final = 12
_NIL, _BOOLEAN, _NUMBER, _STRING = 0, 1, 3, 4


def stripped(code: bytes, keep_lines: bool = False) -> bytes:
    """The same code without the names of variables and, unless `keep_lines`, without line numbers.

    The names of chunks stay: places are "name:0:" then. Raises `ValueError` when it is not bytecode of Lua 5.1.
    """
    if code[:5] != _HEADER:
        raise ValueError(f"bytecode begins with {code[:5]!r}, expected {_HEADER!r}")
    reader = _Reader(code, keep_lines)
    reader.function()
    return b"".join(reader.kept)


class _Reader:
    """Walks through the functions of a dump, and keeps what is to stay."""

    def __init__(self, code: bytes, keep_lines: bool) -> None:
        self.kept = [code[:_HEADER_SIZE]]
        self._code = code
        self._keep_lines = keep_lines
        self._order = "little" if code[6] else "big"
        self._int, self._size_t, self._instruction, self._number = code[7:11]
        self._at = _HEADER_SIZE

    def function(self) -> None:
        """One function and those inside it."""
        start = self._at
        self._skip_text()
        # The lines where it begins and ends; numbers of upvalues, parameters and registers, and whether it takes more.
        self._at += 2 * self._int + 4
        self._skip_items(self._instruction)
        for _ in range(self._count()):
            kind = self._code[self._at]
            self._at += 1
            if kind == _STRING:
                self._skip_text()
            else:
                self._at += {_NIL: 0, _BOOLEAN: 1, _NUMBER: self._number}[kind]
        inner = self._count()
        self.kept.append(self._code[start : self._at])
        for _ in range(inner):
            self.function()
        none = bytes(self._int)
        lines = self._at
        self._skip_items(self._int)
        self.kept.append(self._code[lines : self._at] if self._keep_lines else none)
        for _ in range(self._count()):
            self._skip_text()
            self._at += 2 * self._int
        for _ in range(self._count()):
            self._skip_text()
        # No names of local variables, nor of upvalues.
        self.kept.append(none + none)

    def _integer(self, size: int) -> int:
        value = int.from_bytes(self._code[self._at : self._at + size], self._order)  # type: ignore[arg-type]
        self._at += size
        return value

    def _count(self) -> int:
        return self._integer(self._int)

    def _skip_text(self) -> None:
        length = self._integer(self._size_t)
        self._at += length

    def _skip_items(self, size: int) -> None:
        count = self._count()
        self._at += count * size
