"""Bytecode without what only a debugger needs: names of variables, which `string.dump` leaves out with all places only,
and on Lua 5.1 not at all.

The formats are those of ldump.c in Lua 5.1 and 5.4. Sizes and the order of bytes are those of the machine that runs,
as the header says. Only for what this process has dumped itself.
"""

from __future__ import annotations

from typing import Final, Literal

_SIGNATURE: Final = b"\x1bLua"
#: Bytes of a kind of constant in Lua 5.4 that is no text: nil, false, true, integer, float.
_CONSTANTS_OF_5_4: Final = {0x00: 0, 0x01: 0, 0x11: 0, 0x03: 8, 0x13: 8}


def stripped(code: bytes, keep_lines: bool) -> bytes:
    """The same code without the names of variables and, unless `keep_lines`, without line numbers.

    The names of chunks stay. Raises `ValueError` when it is not bytecode of Lua 5.1 or 5.4.
    """
    formats: dict[bytes, type[_Reader]] = {b"\x51": _Lua51, b"\x54": _Lua54}
    kind = formats.get(code[4:5])
    if not code.startswith(_SIGNATURE) or kind is None:
        raise ValueError(f"bytecode begins with {code[:5]!r}, expected that of Lua 5.1 or 5.4")
    reader = kind(code, keep_lines)
    reader.function()
    return b"".join(reader.kept)


class _Reader:
    """Walks through the functions of a dump, and keeps what is to stay."""

    #: Bytes before the first function.
    _header = 0
    #: How none of something is written.
    _none = b""

    def __init__(self, code: bytes, keep_lines: bool) -> None:
        self.kept = [code[: self._header]]
        self._code = code
        self._keep_lines = keep_lines
        self._at = self._header

    def function(self) -> None:
        """One function and those inside it."""
        start = self._at
        self._skip_body()
        inner = self._count()
        self.kept.append(self._code[start : self._at])
        for _ in range(inner):
            self.function()
        lines = self._at
        none = self._skip_lines()
        self.kept.append(self._code[lines : self._at] if self._keep_lines else none)
        for _ in range(self._count()):
            self._skip_text()
            self._skip_number()
            self._skip_number()
        for _ in range(self._count()):
            self._skip_text()
        # No names of local variables, nor of upvalues.
        self.kept.append(self._none * 2)

    def _byte(self) -> int:
        self._at += 1
        return self._code[self._at - 1]

    def _skip_items(self, size: int) -> None:
        count = self._count()
        self._at += count * size

    def _skip_number(self) -> None:
        self._count()

    def _count(self) -> int:
        raise NotImplementedError

    def _skip_text(self) -> None:
        raise NotImplementedError

    def _skip_body(self) -> None:
        raise NotImplementedError

    def _skip_lines(self) -> bytes:
        """Returns how it is written that there are none."""
        raise NotImplementedError


class _Lua51(_Reader):
    _header = 12

    def __init__(self, code: bytes, keep_lines: bool) -> None:
        super().__init__(code, keep_lines)
        # Behind the signature: the version, the format, and the order of bytes.
        self._order: Literal["little", "big"] = "little" if code[6] else "big"
        self._int, self._size_t, self._instruction, self._number = code[7:11]
        self._none = bytes(self._int)

    def _integer(self, size: int) -> int:
        self._at += size
        return int.from_bytes(self._code[self._at - size : self._at], self._order)

    def _count(self) -> int:
        return self._integer(self._int)

    def _skip_text(self) -> None:
        length = self._integer(self._size_t)
        self._at += length

    def _skip_body(self) -> None:
        self._skip_text()
        # The lines where it begins and ends; numbers of upvalues, parameters and registers, and whether it takes more.
        self._at += 2 * self._int + 4
        self._skip_items(self._instruction)
        for _ in range(self._count()):
            kind = self._byte()
            if kind == 4:
                self._skip_text()
            else:
                # Nil, a boolean, or a number.
                self._at += {0: 0, 1: 1, 3: self._number}[kind]

    def _skip_lines(self) -> bytes:
        self._skip_items(self._int)
        return self._none


class _Lua54(_Reader):
    # The version, the format, six bytes to find damage by, three sizes, a number of either kind, and of upvalues.
    _header = 4 + 2 + 6 + 3 + 16 + 1
    _none = b"\x80"

    def _count(self) -> int:
        # Seven bits a byte; the last one is marked.
        value = 0
        while True:
            byte = self._byte()
            value = value << 7 | byte & 0x7F
            if byte & 0x80:
                return value

    def _skip_text(self) -> None:
        length = self._count()
        self._at += max(length - 1, 0)

    def _skip_body(self) -> None:
        self._skip_text()
        self._skip_number()
        self._skip_number()
        # Parameters, whether it takes more, registers.
        self._at += 3
        self._skip_items(4)
        for _ in range(self._count()):
            kind = self._byte()
            if kind in _CONSTANTS_OF_5_4:
                self._at += _CONSTANTS_OF_5_4[kind]
            else:
                self._skip_text()
        # Where its upvalues come from.
        self._skip_items(3)

    def _skip_lines(self) -> bytes:
        self._skip_items(1)
        for _ in range(self._count()):
            self._skip_number()
            self._skip_number()
        return self._none * 2
