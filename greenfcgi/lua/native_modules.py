"""Native modules, which are written in C: where the system has them, and for which Lua each was built.

One that was built for another Lua may load, since most of Lua's functions have the same names in all, and end the
process at its first step: structures, and the numbers by which modules reach the registry and their upvalues, have
changed. So its file is read before Lua loads it. Its Lua is known by the functions it imports, those numbers in its
code, the version that it has Lua check, and the names of files. LuaJIT takes those for Lua 5.1.
"""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from ..config.types import SYSTEM

_ALL: Final = frozenset({1, 2, 3, 4, 5})
#: Functions that only some Luas have, by the minor numbers of these.
_FUNCTIONS: Final = (
    ({1},
        "lua_call lua_cpcall lua_equal lua_getfenv lua_lessthan lua_objlen lua_pcall lua_setfenv "
        "lua_tointeger lua_tonumber lua_yield luaL_findtable luaL_loadbuffer luaL_loadfile luaL_prepbuffer "
        "luaL_register luaL_typerror luaJIT_setmode"),
    ({1, 2}, "lua_insert lua_remove lua_replace"),
    ({1, 2, 3}, "lua_newuserdata"),
    ({2}, "lua_getctx lua_pushunsigned lua_tounsignedx luaL_checkunsigned luaL_optunsigned"),
    ({2, 3}, "lua_getuservalue lua_setuservalue"),
    ({2, 3, 4, 5},
        "lua_absindex lua_arith lua_callk lua_compare lua_getglobal lua_len lua_pcallk lua_rawgetp lua_rawlen "
        "lua_rawsetp lua_setglobal lua_yieldk luaL_buffinitsize luaL_checkversion_ luaL_getsubtable luaL_len "
        "luaL_prepbuffsize luaL_pushresultsize luaL_requiref luaL_tolstring"),
    ({3, 4, 5}, "lua_geti lua_isinteger lua_rotate lua_seti lua_stringtonumber"),
    ({4}, "lua_resetthread lua_setcstacklimit"),
    ({4, 5},
        "lua_closeslot lua_closethread lua_getiuservalue lua_newuserdatauv lua_setiuservalue lua_setwarnf "
        "lua_toclose lua_warning luaL_addgsub luaL_typeerror"),
    ({5}, "lua_numbertocstring lua_pushexternalstring luaL_alloc luaL_makeseed luaL_openselectedlibs"),
)  # fmt: skip
_HAVE: Final = {name.encode(): frozenset(minors) for minors, names in _FUNCTIONS for name in names.split()}
#: LUA_REGISTRYINDEX, and the first upvalues below it: -10000 in 5.1, here as the second argument of a call on x86-64
#: since the bytes are also those of a near call; -1001000 from 5.2 to 5.4; -(INT_MAX / 2 + 1000) in 5.5.
_INDICES: Final = (
    (frozenset({1}), re.compile(rb"\xbe[\xe6-\xf0]\xd8\xff\xff")),
    (frozenset({2, 3, 4}), re.compile(rb"[\xd0-\xd8]\xb9\xf0\xff")),
    (frozenset({5}), re.compile(rb"[\x11-\x19]\xfc\xff\xbf")),
)
#: What luaL_checkversion_ is given: 502 to 505.
_VERSIONS: Final = {minor: struct.pack("<d", 500 + minor) for minor in (2, 3, 4, 5)}
#: "/lua/5.4/", "liblua5.4-cjson.so".
_NAMED: Final = re.compile(r"lua[/-]?5\.([1-5])(?!\d)")
_DYNAMIC_SYMBOLS: Final = 11
_GLOBAL: Final = 1


def misfit(path: str, minor: int) -> str:
    """Why the module in the file `path` is not for Lua 5.`minor`; empty where it may be, or cannot be read."""
    try:
        with open(path, "rb") as file:
            code = file.read()
        real = os.path.realpath(path)
    except (OSError, ValueError):
        return ""
    fits = _built_for(code)
    # A name decides where the code does not.
    fits = fits & {int(number) for number in _NAMED.findall(f"{path} {real}")} or fits
    if minor in fits:
        return ""
    built = max(fits)
    return f"{path}: built for {_name(built)}, and cannot be loaded into {_name(minor)}"


def folders(cpath: Sequence[str], minor: int) -> list[str]:
    """The entries of lua.cpath, with folders in the place of "system"."""
    found = []
    for entry in cpath:
        found += system_folders(minor) if entry == SYSTEM else [entry]
    return found


def system_folders(minor: int) -> list[str]:
    """Where luarocks and the packages of distributions put native modules for Lua 5.`minor`."""
    triplet = getattr(sys.implementation, "_multiarch", "")
    libraries = ["/usr/local/lib", *([f"/usr/lib/{triplet}"] if triplet else []), "/usr/lib", "/usr/lib64"]
    return [f"{library}/lua/5.{minor}" for library in libraries]


def wanted(name: str, cpath: Sequence[str], minor: int, is_last: bool) -> str:
    """The file that `require` would load for the module `name`; "" when there is none.

    `is_last`: as the last of its searchers looks for it, by the first part of its name.
    """
    return next(_files(name.partition(".")[0] if is_last else name, folders(cpath, minor)), "")


def hint(name: str, cpath: Sequence[str], minor: int) -> str:
    """What there is to do about a module of this name that was not found; "" when the system has none."""
    if SYSTEM not in cpath:
        for path in _files(name, system_folders(minor)):
            if not misfit(path, minor):
                line = ", ".join(f'"{entry}"' for entry in (*cpath, SYSTEM))
                return f"{path} is a module written in C: put lua.cpath = [{line}] into config.toml"
    for other in sorted(_ALL - {minor}, reverse=True):
        for path in _files(name, system_folders(other)):
            return f"{path} is a module written in C, built for {_name(other)}, and scripts run in {_name(minor)}"
    return ""


def _files(name: str, places: Sequence[str]) -> Iterator[str]:
    stem = name.replace(".", "/")
    if "\0" in stem:
        return
    for place in places:
        path = place.replace("?", stem) if "?" in place else f"{place}/{stem}.so"
        if os.access(path, os.R_OK):
            yield path


def _name(minor: int) -> str:
    return "Lua 5.1 (LuaJIT)" if minor == 1 else f"Lua 5.{minor}"


def _built_for(code: bytes) -> frozenset[int]:
    """The minor numbers of the Luas that it may be for. What contradicts what came before does not count."""
    fits = _ALL
    imported = _imports(code)
    for name in imported:
        fits = fits & _HAVE.get(name, _ALL) or fits
    if b"luaL_checkversion_" in imported:
        checked = frozenset(minor for minor, number in _VERSIONS.items() if number in code)
        fits = fits & (checked or _ALL) or fits
    for minors, pattern in _INDICES:
        # The code of other Luas has none of the others' numbers, but data may look like them.
        if (
            not fits <= minors
            and pattern.search(code)
            and not any(other.search(code) for others, other in _INDICES if others != minors)
        ):
            fits = fits & minors or fits
    return fits


def _imports(code: bytes) -> set[bytes]:
    """The names that an ELF file must be given by others when it is loaded; none where it is no such file."""
    try:
        return set(_undefined(code))
    except (struct.error, ValueError, IndexError, OverflowError):
        return set()


def _undefined(code: bytes) -> Iterator[bytes]:
    if code[:4] != b"\x7fELF" or code[4] not in (1, 2) or code[5] not in (1, 2):
        return
    order = "<" if code[5] == 1 else ">"
    is_64 = code[4] == 2
    # Where the sections are described; how long each description is, and how many there are.
    start = struct.unpack_from(order + ("Q" if is_64 else "I"), code, 0x28 if is_64 else 0x20)[0]
    size, count = struct.unpack_from(order + "HH", code, 0x3A if is_64 else 0x2E)
    # Name, type, flags, address, offset, size, the section of the names.
    form = order + ("IIQQQQI" if is_64 else "IIIIIII")
    sections = [struct.unpack_from(form, code, start + number * size) for number in range(count)]
    for section in sections:
        if section[1] != _DYNAMIC_SYMBOLS:
            continue
        names = sections[section[6]][4]
        step = 24 if is_64 else 16
        for at in range(section[4], section[4] + section[5], step):
            if is_64:
                name, info, _, home = struct.unpack_from(order + "IBBH", code, at)
            else:
                name, _, _, info, _, home = struct.unpack_from(order + "IIIBBH", code, at)
            if home == 0 and info >> 4 == _GLOBAL and name:
                yield code[names + name : code.index(b"\0", names + name)]
