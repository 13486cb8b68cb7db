"""Finalizers of scripts: run as this Lua runs them, and whatever they do, the process goes on."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.inside import FLAVOURS, Inside, Request, run_python

PUC = tuple(flavour for flavour in FLAVOURS if not flavour.startswith("luajit"))

RAISING = {
    "table": "make(function() error({}) end)",
    "no_function": "make({})",
    "number": "make(5)",
    "replaced": "local object, meta = make(function() end) meta.__gc = function() error('x') end",
    "replaced_by_table": "local object, meta = make(function() end) meta.__gc = {}",
    "true_at_first": "local object, meta = make(true) meta.__gc = function() error('x') end",
    "rawset": "local object, meta = make(function() end) rawset(meta, '__gc', function() error('x') end)",
    "nil_and_again": "local object, meta = make(function() end) meta.__gc = nil meta.__gc = error",
    "files": "pcall(function() getmetatable(io.stdout).__gc = error end) io.open('/dev/null')",
    "file_methods": "pcall(function() getmetatable(io.stdout).__index.__gc = error end) io.open('/dev/null')",
    "environment": "local object, meta = make(1) if setfenv then setfenv(function() __gc = error end, meta)() end",
    "collects": "make(function() collectgarbage() collectgarbage('step') error() end)",
    "changes_the_mode": "make(function() pcall(collectgarbage, 'generational') collectgarbage() error() end)",
    "shared": "local object, meta = make(error) if newproxy then newproxy(object) end",
    "unprotected": "local object, meta = make(error) pcall(setmetatable, meta, nil) meta.__gc = error",
}  # fmt: skip

MAKE = """
    local function make(finalizer)
        if newproxy then
            local proxy = newproxy(true)
            getmetatable(proxy).__gc = finalizer
            return proxy, getmetatable(proxy)
        end
        local meta = { __gc = finalizer }
        return setmetatable({}, meta), meta
    end
"""


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """One flavour after the other."""
    inside = Inside(tmp_path_factory.mktemp(request.param), request.param)
    yield inside
    inside.close()


def has_proxies(lua: Inside) -> bool:
    """Only userdata have finalizers, and scripts make them by newproxy."""
    return lua.engine.name == "Lua 5.1" or lua.engine.name.startswith("LuaJIT")


@pytest.mark.parametrize("version", FLAVOURS)
def test_errors_stay_inside(version: str, tmp_path: Path) -> None:
    """Errors of finalizers, however these were put in place, reach neither a request nor the server."""
    ways = "".join(f"function() {text} end,\n" for text in RAISING.values())
    script = f"""
        {MAKE}
        local ways = {{ {ways} }}
        function main(env, con)
            for i = 1, 20 do for _, way in ipairs(ways) do way() end end
            if env.COLLECT then collectgarbage() end
            con:puts("on")
        end
    """
    (tmp_path / "page.lua").write_text(script)
    program = f"""
        from pathlib import Path
        from tests.support.inside import Inside, Request
        lua = Inside(Path({str(tmp_path)!r}), {version!r})
        text = Path({str(tmp_path / "page.lua")!r}).read_text()
        for _ in range(3):
            state = lua.load(text)
            for at in range(12):
                # What is pushed into the state makes it collect, outside any protected call.
                request = Request({{"LONG": "x" * 40000 * at}} | ({{"COLLECT": "1"}} if at % 3 == 2 else {{}}))
                assert lua.run(state, request).text == "on"
            state.close()
        print("ended")
    """
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stdout + done.stderr


ENDLESS = {
    "make others": "for i = 1, 30 do kept[i] = make_like() end",
    "take memory": "error(('x'):rep(1000))",
    "open files": "kept[#kept + 1] = io.tmpfile()",
}
#: FINALIZER and FILLS stand for Lua.
ENDLESS_SCRIPT = """
    kept = {}
    local finalizer
    function make_like()
        if not newproxy then return setmetatable({}, { __gc = finalizer }) end
        local proxy = newproxy(true)
        getmetatable(proxy).__gc = finalizer
        return proxy
    end
    function finalizer() FINALIZER end
    function main(env, con)
        for _ = 1, 200 do make_like() end
        FILLS
        collectgarbage()
        con:puts("on")
    end
"""
ENDLESS_RUN = """
import os, sys
from pathlib import Path
from tests.support.inside import Inside, Request

folder, version, script = sys.argv[1:]
lua = Inside(Path(folder), version, "timeout = 2\\n[lua]\\nmemory = '1M'\\n")
assert lua.main("con:puts('on')").text == "on"
for fills in ("", "local t = {} for i = 1, 1e5 do t[i] = ('x'):rep(100) .. i end"):
    state = lua.load(script.replace("FILLS", fills))
    lua.run(state, Request(seconds=2))
    state.close()
    del state
assert lua.main("con:puts('on')").text == "on"
for number in os.listdir("/proc/self/fd"):
    try:
        assert "(deleted)" not in os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        # The one that the list was read from.
        continue
print("ended")
"""


@pytest.mark.parametrize("version", FLAVOURS)
@pytest.mark.parametrize("way", ENDLESS)
def test_they_end_with_the_state(version: str, way: str, tmp_path: Path) -> None:
    """Finalizers that make more of their kind, fail for want of memory, or open files keep no state from its end."""
    script = ENDLESS_SCRIPT.replace("FINALIZER", ENDLESS[way])
    done = run_python(ENDLESS_RUN, str(tmp_path), version, script)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stdout + done.stderr


def test_they_run(lua: Inside) -> None:
    """With the object, once, those made last first, and with what the metatable has by then."""
    state = lua.load(
        f"""
        {MAKE}
        ran = {{}}
        local keep = {{}}
        local function note(name) return function(object) ran[#ran + 1] = name .. " " .. type(object) end end
        function main(env, con)
            if env.MAKE then
                make(note "first") make(note "second")
                local object, meta = make(note "wrong")
                meta.__gc = note "third"
                assert(meta.__gc ~= nil)
                keep[1] = make(note "kept")
            end
            collectgarbage() collectgarbage()
            con:puts(table.concat(ran, ", "))
        end
        """
    )
    kind = "userdata" if has_proxies(lua) else "table"
    expected = f"third {kind}, second {kind}, first {kind}"
    assert lua.run(state, Request({"MAKE": "1"})).text == expected
    assert lua.run(state).text == expected


def test_an_object_that_lives_again(lua: Inside) -> None:
    """A finalizer may keep its object, and where tables have finalizers, mark it once more."""
    statements = f"""
        {MAKE}
        local kept, times = nil, 0
        local meta
        _, meta = make(function(object)
            kept, times = object, times + 1
            if not newproxy and times < 3 then setmetatable(object, meta) end
        end)
        _ = nil
        for i = 1, 6 do collectgarbage() kept = nil end
        con:puts(times)
    """
    assert lua.main(statements).text == ("1" if has_proxies(lua) else "3")


def test_setmetatable_and_proxies_work_as_before(lua: Inside) -> None:
    """Metatables are the script's own, with all their events."""
    statements = """
        local meta = { __index = { a = 1 }, __gc = function() end, __metatable = nil }
        local object = setmetatable({}, meta)
        assert(getmetatable(object) == meta and rawget(meta, "__gc") ~= nil and object.a == 1)
        assert(setmetatable(object, nil) == object and getmetatable(object) == nil)
        setmetatable(object, { __metatable = "locked" })
        local ok, problem = pcall(setmetatable, object, {})
        assert(not ok and problem == "cannot change a protected metatable", problem)
        ok, problem = pcall(function() setmetatable(object, 5) end)
        assert(problem:find("page.lua:%d+: bad argument #2 to 'setmetatable' %(nil or table expected"), problem)
        if newproxy then
            local proxy = newproxy(true)
            local meta = getmetatable(proxy)
            meta.__index, meta.__len = function(_, key) return key .. "!" end, function() return 7 end
            assert(proxy.abc == "abc!" and #proxy == 7 and #newproxy(proxy) == 7 and newproxy(false) ~= nil)
            rawset(meta, "__call", function() return "called" end)
            assert(proxy() == "called")
        end
        con:puts("as before")
    """
    assert lua.main(statements).text == "as before"


def test_the_end_of_a_state(lua: Inside) -> None:
    """Finalizers that collect garbage, or raise errors, neither keep a state from its end nor do any harm."""
    for _ in range(3):
        state = lua.load(
            f"""
            {MAKE}
            kept = {{}}
            function main(env, con)
                for i = 1, 500 do
                    kept[i] = make(function() collectgarbage() collectgarbage("step", 1) kept = {{}} error("x") end)
                end
                collectgarbage("step")
                con:puts("made")
            end
            """
        )
        assert lua.run(state).text == "made"
        state.close()


#: For each way: statements at the start of a script, and the Luas.
LONG = {
    "others like itself": (
        "multiply = function() x = {} for i = 1, 30 do x[i] = make(multiply) end end"
        " function main() make(multiply) fill() end",
        FLAVOURS,
    ),
    "many": (
        "function main() for i = 1, 2000 do make(function() for i = 1, 3e6 do end end) end fill() end", FLAVOURS
    ),
    "collections within collections": (
        """function main()
            local proxy = newproxy(true)
            getmetatable(proxy).__gc = function(object)
                newproxy(object)
                newproxy(true)
                for i = 1, 400 do collectgarbage("step") end
            end
            for i = 1, 5 do newproxy(proxy) end
            for i = 1, 20 do collectgarbage() end
        end""",
        ("luajit21", "luajit20", "lua51"),
    ),
    "a loop": ("function main() make(function() while true do end end) fill() end", PUC),
    "a loop in a coroutine": (
        "function main() make(function() coroutine.wrap(function() while true do end end)() end) fill() end", PUC
    ),
    "a loop in a protected call": (
        """function main()
            make(function() while true do pcall(function() while true do end end) end end)
            fill()
        end""",
        PUC,
    ),
    "coroutines": (
        """function main()
            local function r() coroutine.wrap(r)() coroutine.wrap(r)() end
            make(function() while true do pcall(r) end end)
            fill()
        end""",
        PUC,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("way", "version"), [(way, version) for way in LONG for version in LONG[way][1]])
def test_long_ones_end(way: str, version: str, tmp_path: Path) -> None:
    """Neither one that goes on for ever nor any number of them holds up others: the script ends, and so does its state.

    Not a loop on LuaJIT, which calls no hook in any of them.
    """
    script = f"""
        {MAKE}
        function fill()
            local t = {{}}
            for i = 1, 20000 do t[i % 100] = {{}} end
            collectgarbage()
        end
        {LONG[way][0]}
    """
    program = f"""
        import time
        from pathlib import Path
        from tests.support.inside import Inside, Request
        lua = Inside(Path({str(tmp_path)!r}), {version!r}, "timeout = 2\\n[lua]\\nmemory = '1M'\\n")
        began = time.monotonic()
        state = lua.load({textwrap.dedent(script)!r})
        lua.run(state, Request(seconds=2))
        state.close()
        assert lua.main("con:puts('on')").text == "on"
        assert time.monotonic() - began < 15
        print("ended")
    """
    done = run_python(program, seconds=40)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stdout + done.stderr


@pytest.mark.parametrize("statement", ["coroutine.yield()", "con:sleep(0)"])
def test_they_are_like_functions_that_c_calls(lua: Inside, statement: str) -> None:
    """They cannot yield, and may wait."""
    statements = f"""
        {MAKE}
        local found
        make(function() found = {{ pcall(function() {statement} end) }} end)
        collectgarbage() collectgarbage()
        con:puts(tostring(found[1]), " ", found[2] and found[2]:match("attempt to yield") or "")
    """
    assert lua.main(statements).text == ("true " if "sleep" in statement else "false attempt to yield")


def test_they_may_compile(lua: Inside) -> None:
    """Text, files and modules of the server, as anywhere: LuaJIT refuses to be switched there."""
    (lua.root / "file.lua").write_text("return 'file'")
    statements = f"""
        {MAKE}
        local found
        make(function()
            found = (loadstring or load)("return 'text'")() .. dofile("file.lua") .. require("luafcgid").urlencode("/")
        end)
        collectgarbage() collectgarbage()
        con:puts(tostring(found))
    """
    state = lua.load(f"function main(env, con) {statements} end")
    assert [lua.run(state).text for _ in range(2)] == ["textfile%2F"] * 2


def test_what_they_have_compiled_has_a_deadline(lua: Inside) -> None:
    """In the same run, too."""
    statements = f"""
        {MAKE}
        local f
        make(function() f = (loadstring or load)("local n = 0 while true do n = n + 1 end") end)
        collectgarbage() collectgarbage()
        f()
    """
    answer = lua.main(statements, Request(seconds=0.3))
    assert answer.failure is not None
    assert answer.failure.status == 504


def test_they_see_debug_outside_a_run(lua: Inside) -> None:
    """When the state is closed, as in a run."""
    lua.forget_log()
    state = lua.load(f"""
        {MAKE}
        function main(env, con)
            kept = make(function() print("finalized", type(debug.traceback)) end)
        end
    """)
    assert lua.run(state).failure is None
    state.close()
    assert r"finalized\tfunction" in lua.log()


def test_files_collect_nothing_within(lua: Inside) -> None:
    """Where no place for a file is left, one is looked for by a collection, but not within a finalizer."""
    statements = f"""
        {MAKE}
        local kept, found = {{}}, nil
        for i = 1, 256 do kept[i] = assert(io.open("page.lua")) end
        make(function()
            local weak = setmetatable({{ {{}} }}, {{ __mode = "v" }})
            local file = io.open("page.lua")
            found = tostring(file) .. " " .. type(weak[1])
        end)
        collectgarbage() collectgarbage()
        con:puts(found)
    """
    assert lua.main(statements).text == "nil table"


@pytest.mark.parametrize("version", FLAVOURS)
def test_metatables_that_are_replaced_while_a_collection_is_under_way(version: str, tmp_path: Path) -> None:
    """That of a table of weak keys and values stays; 5.2 to 5.4 would free it."""
    statements = """
        local junk = {}
        for i = 1, 20000 do junk[i] = {} end
        pcall(collectgarbage, "setpause", 100)
        local weak = setmetatable({}, { __mode = "kv" })
        for i = 1, _VERSION < "Lua 5.4" and 8000 or 2500 do
            setmetatable(weak, { __mode = "kv", name = i })
            collectgarbage("step", 0)
            local text = ("x"):rep(i % 50)
            if getmetatable(weak).name ~= i then error(i) end
        end
        con:puts("on")
    """
    program = f"""
        from pathlib import Path
        from tests.support.inside import Inside
        lua = Inside(Path({str(tmp_path)!r}), {version!r})
        assert lua.main({statements!r}).text == "on"
        print("ended")
    """
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
