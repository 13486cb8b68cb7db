"""Which Luas the installed lupa has. They are looked for and not imported, so that the supervisor stays without."""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import PathFinder

#: The setting that takes the best there is.
AUTO = "auto"
#: All that lupa may have, the best first: LuaJIT needs the least CPU, and is 5.1, for which luafcgid's scripts were
#: written. Without it, as on armv7l and riscv64, comes Lua 5.1, and LuaJIT 2.0 behind it, whose memory has no limit;
#: then whatever is nearest to 5.1.
FLAVOURS = ("luajit21", "lua51", "luajit20", "lua52", "lua53", "lua54", "lua55")


def available() -> tuple[str, ...]:
    """Those of `FLAVOURS` that are installed, the best first."""
    return _available_in(tuple(sys.path))


@cache
def _available_in(path: tuple[str, ...]) -> tuple[str, ...]:
    # Once: a user whom the process becomes later may not be able to read where they lie.
    package = PathFinder.find_spec("lupa", path)
    if package is None:
        return ()
    folders = package.submodule_search_locations
    return tuple(name for name in FLAVOURS if PathFinder.find_spec(f"lupa.{name}", folders) is not None)
