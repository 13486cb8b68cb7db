"""The flavours of Lua by what they have."""

from __future__ import annotations

from typing import Final

JIT: Final = ("luajit21", "luajit20")
OF_5_1: Final = (*JIT, "lua51")
WITH_INTEGERS: Final = ("lua53", "lua54", "lua55")
WITH_CLOSE: Final = ("lua54", "lua55")
#: With finalizers on tables.
WITH_TABLE_GC: Final = ("lua52", *WITH_INTEGERS)

#: As grammar.txt calls them.
GROUPS: Final = {
    "old": OF_5_1,
    "jit": JIT,
    "lua51": ("lua51",),
    "goto": (*JIT, *WITH_TABLE_GC),
    "gc": WITH_TABLE_GC,
    "int": WITH_INTEGERS,
    "close": WITH_CLOSE,
}
