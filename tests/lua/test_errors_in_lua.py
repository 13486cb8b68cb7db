"""What a script sees of errors and of `load` is what the plain Lua gives it: nothing of the server stands between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..support.inside import FLAVOURS, Inside


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """One flavour after the other."""
    inside = Inside(tmp_path_factory.mktemp(request.param), request.param)
    inside.write("mod.lua", "return 1")
    yield inside
    inside.close()


#: An expression whose second result is the message; what that is, with the script's lines as "L3".
CAUGHT = [
    ("pcall(string.find, 'abc', '[')", "malformed pattern (missing ']')"),
    ("pcall(function() string.find('abc', '[') end)", "L3: malformed pattern (missing ']')"),
    ("pcall(function() local x = ('abc'):gsub('%', '') end)", "L3: malformed pattern (ends with '%')"),
    ("pcall(error, 'x', 2)", "L3: x"),
    ("pcall(error, 'x')", "x"),
    ("pcall(function() error('x') end)", "L3: x"),
    ("pcall(function() error('x', 2) end)", "x"),
    ("pcall(function() error('greenfcgi:1: x', 0) end)", "greenfcgi:1: x"),
    ("pcall(function() local x = table.concat({ {} }) end)",
     "L3: invalid value (table) at index 1 in table for 'concat'"),
    ("pcall(function() local x = ('x'):rep({}) end)", "L3: bad argument #1 to 'rep' (number expected, got table)"),
    ("pcall(function() local x = string.rep('x', {}) end)",
     "L3: bad argument #2 to 'rep' (number expected, got table)"),
    ("pcall(function() table.insert({}, 'a', 1) end)", "L3: bad argument #2 to 'insert' (number expected, got string)"),
    ("pcall(function() local x = io.open() end)", "L3: bad argument #1 to 'open' (string expected, got no value)"),
    ("pcall(function() os.remove({}) end)", "L3: bad argument #1 to 'remove' (string expected, got table)"),
    ("pcall(function() local x = ('x'):gsub('x', function() error('in') end) end)", "L3: in"),
    ("coroutine.resume(coroutine.create(function() string.find('abc', '[') end))",
     "L3: malformed pattern (missing ']')"),
    ("pcall(coroutine.wrap(function() string.find('abc', '[') end))", "L3: malformed pattern (missing ']')"),
    ("xpcall(function() string.find('abc', '[') end, function(m) return m end)", "L3: malformed pattern (missing ']')"),
    ("pcall(pcall, error, 'z')", "false"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "message"), CAUGHT, ids=[expression for expression, _ in CAUGHT])
def test_caught_messages(lua: Inside, expression: str, message: str) -> None:
    """With the script's own lines where Lua gives these, and none where it gives none."""
    statements = f"""local a
        local function shown(_, m) con:puts((tostring(m):gsub("[^ ]*page%.lua:", "L"))) end
        local ok, problem = {expression} shown(ok, problem)
    """.replace("local a\n        local function", "local function", 1)
    assert lua.main(statements).text == message


def test_a_running_coroutine(lua: Inside) -> None:
    """One that resumes itself is told what Lua tells, and goes on."""
    statements = """
        local co
        co = coroutine.wrap(function() return pcall(co) end)
        local ok, problem = co()
        con:puts(tostring(ok), " ", problem:match("cannot %a+") or problem)
    """
    assert lua.main(statements).text == "false cannot resume"


def test_numbers_of_results(lua: Inside) -> None:
    """One chunk, no second nil; pcall of what returns nothing returns nothing more."""
    statements = """
        local loadstring = loadstring or load
        local reader = function() return nil end
        con:puts(select("#", loadstring("return 1")), select("#", load(reader)), select("#", loadfile("mod.lua")))
        con:puts(select("#", pcall(function() end)), select("#", coroutine.resume(coroutine.create(function() end))))
        local t = {}
        table.insert(t, loadstring("return 1"))
        con:puts(#t)
    """
    assert lua.main(statements).text == "111111"


def test_load(lua: Inside) -> None:
    """Readers that raise or return no text end the load; what is no chunk is taken, or refused, as this Lua does."""
    statements = """
        local loadstring = loadstring or load
        local f, problem = load(function() error("mine", 0) end)
        con:puts(tostring(f), " ", problem, "; ")
        local calls = 0
        f, problem = load(function() calls = calls + 1 return {} end)
        con:puts(tostring(f), " ", problem, " ", calls, "; ")
        con:puts(select("#", loadstring(5)), " ", tostring((loadstring(5))), "; ")
        con:puts(tostring(pcall(load, 5)), " ", tostring(pcall(load, {})), " ", tostring(pcall(load, "")))
    """
    refused = "false false false" if lua.engine.name == "Lua 5.1" else "true false true"
    expected = f"nil mine; nil reader function must return a string 1; 2 nil; {refused}"
    assert lua.main(statements).text == expected


def test_the_address_of_the_state(lua: Inside) -> None:
    """What a process that hangs tells of its script, is read from there."""
    state = lua.load("function main(env, con) con:puts(tostring((coroutine.running()))) end")
    address = state.lua_state()
    assert address
    shown = lua.run(state).text
    if shown.startswith("thread: 0x"):
        assert int(shown.partition("0x")[2], 16) == address


@pytest.mark.parametrize("name", ["create", "resume", "wrap"])
def test_functions_of_coroutines_have_their_names(lua: Inside, name: str) -> None:
    """In messages about wrong arguments."""
    found = lua.main(f"con:puts(select(2, pcall(function() coroutine.{name}(5) end)))").text
    assert f"bad argument #1 to '{name}' (" in found
