"""Native modules that would crash: those built for Lua 5.4 or before in Lua 5.5, and the other way round.

Lua's functions have the same names in both, so such a module loads; but the numbers by which modules reach the registry
and their upvalues have changed, and the first use of one ends the process. They stand in the module's code.
"""

from __future__ import annotations

import re

#: LUA_REGISTRYINDEX, and the first upvalues below it: -1001000 from 5.2 to 5.4, -(INT_MAX / 2 + 1000) in 5.5.
_BEFORE_5_5 = re.compile(rb"[\xd0-\xd8]\xb9\xf0\xff")
_5_5 = re.compile(rb"[\x11-\x19]\xfc\xff\xbf")
#: "/lua/5.4/", "liblua5.4-cjson.so".
_NAMED = re.compile(r"lua[/-]?5\.([1-5])(?!\d)")


def misfit(path: str, minor: int) -> str:
    """Why the module in the file `path` is not for Lua 5.`minor`; empty where it may be. Raises `OSError`."""
    named = {int(number) for number in _NAMED.findall(path)}
    with open(path, "rb") as file:
        code = file.read()
    is_before, is_5_5 = _BEFORE_5_5.search(code), _5_5.search(code)
    if minor == 5 and is_before and not is_5_5:
        built = max(named - {5}, default=4)
    elif minor < 5 and is_5_5 and not is_before:
        built = 5
    else:
        return ""
    return f"{path}: built for Lua 5.{built}, and would crash in Lua 5.{minor}"
