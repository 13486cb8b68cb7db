"""Scripts for tests: what a script's calls return, one line for each, as text."""

from __future__ import annotations

from collections.abc import Iterable

from ...support.inside import Inside, Request

#: Some Luas: the interface for values differs between 5.1, LuaJIT and 5.3 and later, and no more.
LUAS = ("luajit21", "lua51", "lua54")

SHOW = """
local socket = require "socket.core"
local function show(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
    con:puts(table.concat(parts, " "), "\\n")
end
"""


def said(lua: Inside, statements: str, request: Request | None = None) -> list[str]:
    """What a script of these statements writes, line by line; it has `socket`, and `show(...)`."""
    return lua.main(SHOW + statements, request).text.splitlines()


def results(lua: Inside, calls: Iterable[str], setup: str = "") -> list[str]:
    """What each of these calls returns, or after "error: " what it raises."""
    return said(
        lua,
        setup
        + """
        local function answer(ok, ...)
            if ok then return show(...) end
            show("error: " .. tostring((...)):gsub("^.-page.lua:%d+: ", ""))
        end
        """
        + "\n".join(f"answer(pcall(function() return {call} end))" for call in calls),
    )
