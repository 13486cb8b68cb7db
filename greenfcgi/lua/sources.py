"""Lua source of the server's own: the prelude of each state, and settings as Lua literals."""

from __future__ import annotations

import os
from collections.abc import Mapping

_PARTS = (
    "apps", "bad_requests", "boot", "bounds", "calls", "con", "debugging", "depths", "environment",
    "errors", "files", "finalizers", "finalizing",
    "generator", "guard", "limits", "loading", "luajit", "modules", "opening", "overtime", "paths", "quirks", "random",
    "reasons", "refusals", "repeated", "replies", "response", "response_access", "route", "services", "show",
    "standins", "streams", "texts", "waiting",
)  # fmt: skip
#: Bytes of a name of Lua's.
_WORD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"


def lua_parts(*more: str) -> dict[str, bytes]:
    """The Lua sources of the package by name: those that every state is made of, and more."""
    # Not importlib.resources: it costs memory, and the package is never run from a zip file.
    folder = os.path.join(os.path.dirname(__file__), "prelude")
    parts = {}
    for name in (*_PARTS, *more):
        with open(os.path.join(folder, name + ".lua"), "rb") as file:
            parts[name] = _with_constants(file.read())
    return parts


def _with_constants(source: bytes) -> bytes:
    """The source with the values of its constants in their places, as Lua 5.4 does.

    A constant is a line `local NAME <const> = VALUE` at the top level, with a number, or a text without escapes. In
    other Luas each would be a variable, which takes 64 bytes in each state where functions use it.
    """
    constants: dict[bytes, bytes] = {}
    lines = []
    for line in source.split(b"\n"):
        if line.startswith(b"local ") and b" <const> = " in line:
            name, _, value = line.removeprefix(b"local ").partition(b" <const> = ")
            constants[name] = value
            line = b""
        elif constants and not line.lstrip().startswith(b"--"):
            line = _replaced(line, constants)
        lines.append(line)
    return b"\n".join(lines)


def _replaced(line: bytes, constants: dict[bytes, bytes]) -> bytes:
    words = []
    start = 0
    for at, byte in enumerate(line + b"\n"):
        if byte not in _WORD:
            word = line[start:at]
            words += [constants.get(word, word), line[at : at + 1]]
            start = at + 1
    return b"".join(words)


def lua_literal(value: object) -> bytes:
    """A value of TOML as Lua source: tables, arrays, text, numbers, booleans; dates and times as ISO 8601 text."""
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float):
        return _lua_float(value)
    if isinstance(value, Mapping):
        items = (b"[" + lua_literal(str(key)) + b"]=" + lua_literal(item) for key, item in value.items())
        return b"{" + b",".join(items) + b"}"
    if isinstance(value, (list, tuple)):
        return b"{" + b",".join(lua_literal(item) for item in value) + b"}"
    text = value if isinstance(value, str) else value.isoformat()  # type: ignore[attr-defined]
    return b'"' + b"".join(map(_lua_byte, text.encode())) + b'"'


def _lua_byte(byte: int) -> bytes:
    return b"\\%03d" % byte if byte < 32 or byte in b'"\\\x7f' else b"%c" % byte


def _lua_float(value: float) -> bytes:
    if value != value:
        return b"(0/0)"
    if value in (float("inf"), float("-inf")):
        return b"(1/0)" if value > 0 else b"(-1/0)"
    return repr(value).encode()
