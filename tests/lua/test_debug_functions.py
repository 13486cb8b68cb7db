"""What libraries do with functions: upvalues, environments, bytecode; and nothing of the server's is among these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.lua.dumps import MAX_BYTES, MAX_DUMPS, Dumps

from ..support.inside import FLAVOURS, Inside

#: A template engine, with what such engines do: the code of a template is compiled once, and each page gets a copy of
#: its function with an environment and helpers of its own.
TEMPLATES = """
local M = {}
local helper_for_all = function(text) return "<" .. text .. ">" end

local function source_of(template)
    local parts = { "local put, escape = ... " }
    local at = 1
    while true do
        local first, last, kind, code = template:find("%[([=!])(.-)%]", at)
        if not first then break end
        parts[#parts + 1] = ("put(%q) "):format(template:sub(at, first - 1))
        parts[#parts + 1] = kind == "=" and "put(escape(" .. code .. ")) " or code .. " "
        at = last + 1
    end
    parts[#parts + 1] = ("put(%q) "):format(template:sub(at))
    return table.concat(parts)
end

local function with_environment(f, environment)
    if setfenv then return setfenv(f, environment) end
    local i = 1
    while true do
        local name = debug.getupvalue(f, i)
        if not name then return f end
        if name == "_ENV" then
            debug.upvaluejoin(f, i, function() return environment end, 1)
            return f
        end
        i = i + 1
    end
end

-- A copy with upvalues of its own, which begin with the values of the other's.
function M.copy(f)
    local g = assert((loadstring or load)(string.dump(f), "=copy", "b"))
    local i = 1
    while true do
        local name, value = debug.getupvalue(f, i)
        if not name then break end
        debug.setupvalue(g, i, value)
        i = i + 1
    end
    return setfenv and setfenv(g, getfenv(f)) or g
end

function M.render(template, values)
    local out = {}
    local f = assert((loadstring or load)(source_of(template), "=template"))
    f = with_environment(f, setmetatable(values, { __index = _G }))
    f(function(text) out[#out + 1] = text end, helper_for_all)
    return table.concat(out)
end

return M
"""
USES = """
    local templates = require "templates"
    local text = "Dear [=name]:[! for i = 1, 3 do] [=i .. tostring(type(i))][! end]!"
    con:puts(templates.render(text, { name = "Ann" }), " ")
    local count = 1
    local function counted() count = count + 1 return count end
    local other = templates.copy(counted)
    con:puts(other(), other(), counted(), other(), " ")
    -- One of what it has made, out of what it has got.
    local third = templates.copy(other)
    con:puts(third(), " ", tostring(debug.getinfo(1, "f").func ~= nil), " ", debug.gethook(), " ")
    con:puts(tostring(debug.getmetatable(setmetatable({}, { __name = "x" })).__name))
"""


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """One Lua after the other."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


def test_a_template_engine(lua: Inside) -> None:
    """It works without lua.allow, twice in a state."""
    lua.write("templates.lua", TEMPLATES)
    state = lua.load(f"function main(env, con) {USES} end")
    for _ in range(2):
        assert lua.run(state).text == "Dear <Ann>: <1number> <2number> <3number>! 2324 5 true external hook x"


def test_dumps_are_of_one_state(lua: Inside) -> None:
    """What another state has dumped is not loaded, nor is what lies in a file; a dump has no interpreter of its own."""
    script = """
        local up = 1
        function main(env, con)
            local code = string.dump(function() up = 2 end)
            local file = io.open("dump", "rb")
            if not file then
                file = io.open("dump", "wb")
                file:write(code, "x", code)
                file:close()
                con:puts(tostring((loadstring or load)(code)):match("^%a+"), tostring(loadfile("dump")))
            else
                con:puts(tostring((loadstring or load)((file:read("*a")))))
            end
        end
    """
    first, second = lua.load(script, "one.lua"), lua.load(script.replace("= 2", "= 3"), "two.lua")
    assert lua.run(first).text == "functionnil"
    text = (lua.root / "dump").read_bytes()
    (lua.root / "dump").write_bytes(text[: len(text) // 2])
    assert lua.run(second).text == "nil"
    assert lua.run(first).text.startswith("function:")


def test_a_loop_in_a_dump_is_ended(lua: Inside) -> None:
    """What was loaded from a dump is interpreted, and its time ends."""
    from ..support.inside import Request

    state = lua.load("function main() (loadstring or load)(string.dump(function() while true do end end))() end")
    assert "ran longer" in lua.run(state, Request(seconds=0.2)).error


def test_what_is_kept() -> None:
    """The newest dumps, by number and by bytes; one that is made again is new again."""
    dumps = Dumps()
    first = b"first"
    dumps.add(first)
    for number in range(MAX_DUMPS - 1):
        dumps.add(b"%d" % number)
        dumps.add(first)
    dumps.add(b"one more")
    assert first in dumps
    assert b"0" not in dumps
    assert b"1" in dumps
    assert b"firs" not in dumps
    dumps.add(bytes(MAX_BYTES))
    assert first not in dumps
    assert bytes(MAX_BYTES) in dumps


@pytest.mark.parametrize("version", FLAVOURS)
def test_each_function_of_the_server_is_known_as_its_own(tmp_path: Path, version: str) -> None:
    """By the place that it was compiled with: of all in Lua, but for the script's, and those that LuaJIT comes with."""
    lua = Inside(tmp_path, version, '[lua]\nallow = ["debug", "os.execute", "io.popen"]\n')
    answer = lua.main("""
        local own = { ["=greenfcgi"] = true, ["=?"] = true, ["=[C]"] = true }
        local here = debug.getinfo(1, "S").source
        local seen, known = {}, 0
        local look
        local function look_into(f)
            local info = debug.getinfo(f, "S")
            if info.what ~= "C" and info.source ~= here and info.linedefined >= 0 then
                if own[info.source] then known = known + 1 else con:puts(info.source, " ", info.linedefined, "\\n") end
            end
            local i = 1
            while true do
                local name, value = debug.getupvalue(f, i)
                if not name then break end
                look(value)
                i = i + 1
            end
        end
        function look(value)
            local kind = type(value)
            if value == nil or kind == "string" or kind == "number" or kind == "boolean" or seen[value] then return end
            seen[value] = true
            look(debug.getmetatable(value))
            if kind == "table" then
                for k, v in next, value do look(k) look(v) end
            elseif kind == "function" then
                look_into(value)
            end
        end
        for _, name in ipairs { "luafcgid", "socket.core", "mime.core", "no.such" } do pcall(require, name) end
        io.lines(here:sub(2))() io.open(here:sub(2)):close() xpcall(print, print) math.random()
        coroutine.wrap(function() end)() pcall(con.gets, con, "x") con:header("A: b") load(function() end)
        for level = 0, 30 do
            local info = debug.getinfo(level, "f")
            if info then look(info.func) end
        end
        look(_G) look(con) look(debug.getregistry())
        con:puts(known > 80 and "known" or known)
    """)
    assert answer.text == "known"
    lua.close()
