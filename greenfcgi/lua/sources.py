"""Lua source of the server's own: the prelude of each state, and settings as Lua literals."""

from __future__ import annotations

import os
from collections.abc import Mapping

_PARTS = (
    "boot", "guard", "finalizers", "luajit", "limits", "bounds", "load", "standins", "random", "con", "quirks",
    "errors", "files", "finalizing", "generator", "loading", "modules", "reasons", "seldom", "show", "streams", "route",
)  # fmt: skip


def lua_parts(*more: str) -> dict[str, bytes]:
    """The Lua sources of the package by name: those that every state is made of, and more."""
    # Not importlib.resources: it costs memory, and the package is never run from a zip file.
    folder = os.path.join(os.path.dirname(__file__), "prelude")
    parts = {}
    for name in (*_PARTS, *more):
        with open(os.path.join(folder, name + ".lua"), "rb") as file:
            parts[name] = file.read()
    return parts


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
