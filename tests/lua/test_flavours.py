"""Every Lua that lupa ships runs scripts the same way: files, modules, errors, memory, coroutines."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from greenfcgi.errors import ScriptBroken

from ..support.inside import FLAVOURS, Inside, Request


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """One flavour after the other, with a folder of modules in lua.path and little memory."""
    folder = tmp_path_factory.mktemp(request.param)
    inside = Inside(folder, request.param, '[lua]\nmemory = "8M"\npath = ["modules", "other/?.module"]\n')
    yield inside
    inside.close()


def frames(traceback: str) -> list[str]:
    """The places in a traceback: "page.lua:3", or "[C]"."""
    heading, *lines = traceback.lstrip("\n").split("\n")
    assert heading == "stack traceback:"
    return [re.sub(r"^\t(?:\S*/)?([^:]*(?::\d+)?): in .*", r"\1", line) for line in lines]


def broken(lua: Inside, text: str | bytes) -> ScriptBroken:
    """The error of a script that does not load."""
    with pytest.raises(ScriptBroken) as caught:
        lua.load(text)
    return caught.value


class TestRequests:
    def test_hello(self, lua: Inside) -> None:
        """The first script that anyone writes."""
        assert lua.main("con:puts('hello')").text == "hello"

    def test_env(self, lua: Inside) -> None:
        """The parameters of the request."""
        assert lua.main("con:puts(env.A .. env.B)", Request({"A": "1", "B": "é"})).text == "1é"

    def test_globals_stay(self, lua: Inside) -> None:
        """A state keeps its globals from request to request; another state has its own."""
        text = "n = 0 function main(env, con) n = n + 1 con:puts(n) end"
        one, other = lua.load(text), lua.load(text)
        assert [lua.run(state).text for state in (one, one, other, one)] == ["1", "2", "1", "3"]

    def test_first_lines(self, lua: Inside) -> None:
        """A line for the shell and a byte order mark are passed over, and lines are counted right."""
        for beginning in (b"#!/usr/bin/lua\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf#!/usr/bin/lua\n"):
            line = 2 + beginning.count(b"\n")
            state = lua.load(beginning + b"\nfunction main(env, con) con:puts(debug.getinfo(1, 'l').currentline) end")
            assert lua.run(state).text == str(line)


class TestErrors:
    def test_traceback(self, lua: Inside) -> None:
        """The message and the traceback name the files and lines of the script, and nothing of the server."""
        lua.write("part.lua", "return {\n  fail = function(con)\n    local x = nil + 1\n  end,\n}")
        answer = lua.run(
            lua.load(
                """
                local part = require "part"
                local function middle(con)
                    part.fail(con)
                    return 1
                end
                function main(env, con)
                    middle(con)
                    return 1
                end
                """
            )
        )
        assert answer.failure is not None
        assert re.match(r"\S*/part\.lua:3: attempt to perform arithmetic on a nil value", answer.error)
        assert frames(answer.failure.traceback) == ["part.lua:3", "page.lua:4", "page.lua:8"]
        assert "greenfcgi" not in str(answer.failure)

    def test_traceback_of_a_refused_call(self, lua: Inside) -> None:
        """An error that `con` raises is one of the line that called it."""
        failure = lua.main("local a\ncon:status(1)\nreturn 1").failure
        assert failure is not None
        assert re.match(r"\S*/page\.lua:3: status 1: expected", failure.message)
        assert frames(failure.traceback) == ["page.lua:3"]

    def test_traceback_through_functions_of_lua(self, lua: Inside) -> None:
        """Frames of Lua's own functions stay between those of the script."""
        failure = lua.main("table.sort({ 2, 1 }, function()\nerror('no order')\nend)\nreturn 1").failure
        assert failure is not None
        assert re.match(r"\S*/page\.lua:3: no order", failure.message)
        assert frames(failure.traceback) == ["[C]", "page.lua:3", "[C]", "page.lua:2"]

    def test_functions_of_files(self, lua: Inside) -> None:
        """An error of io and its kin has the script's line in its traceback."""
        failure = lua.main("local a\nlocal b = io.lines('missing.txt')\nreturn b").failure
        assert failure is not None
        assert "/lua_scripts/missing.txt" in failure.message
        assert frames(failure.traceback)[-1] == "page.lua:3"
        assert "greenfcgi" not in str(failure)

    @pytest.mark.parametrize(
        ("raised", "message"),
        [
            ("{}", "(error object is a table value)"),
            ("nil", "nil"),
            ("true", "true"),
            ("42", "42"),
            ("print", "(error object is a function value)"),
            ("''", ""),
            ("setmetatable({}, { __tostring = function() return 'my own' end })", "my own"),
            ("setmetatable({}, { __tostring = function() error('again') end })", "(error object is a table value)"),
            ("setmetatable({}, { __tostring = function() return {} end })", "(error object is a table value)"),
            ("'a\\nb\\0c', 0", "a\nb\0c"),
        ],
    )
    def test_whatever_is_raised(self, lua: Inside, raised: str, message: str) -> None:
        """Any value can be raised, and is told as text."""
        state = lua.load(f"function main(env, con) if env.A then con:puts('next') else error({raised}) end end")
        error = re.sub(r"^\S*/page\.lua:1: ", "", lua.run(state).error)
        # Lua 5.5 makes a text of nil before anyone can see it.
        assert error == message or (raised == "nil" and error == "<no error object>")
        assert state.is_healthy
        assert lua.run(state, Request({"A": "1"})).text == "next"

    @pytest.mark.parametrize(
        "recursion",
        [
            "local function f() return 1 + f() end f()",
            "local t = setmetatable({}, { __index = function(t, k) return t[k .. 'x'] end }) local _ = t.a",
            "local function f() return (('x'):gsub('x', f)) end f()",
            "local function f() table.sort({ 1, 2, 3 }, f) return false end f()",
            "local function f() return (('x'):gsub('x', setmetatable({}, { __index = f }))) end f()",
            "local function f() coroutine.wrap(f)() end f()",
            "local function f() local ok = pcall(f) return ok end f() error('overflow')",
            "local t t = setmetatable({}, { __tostring = function() return (tostring(t)) end }) tostring(t)",
            "local t t = setmetatable({}, { __tostring = function() print(t) return '' end }) print(t)",
            "local function f() for x in f do end return 1 end f()",
            "local function f() error(setmetatable({}, { __tostring = f })) end pcall(f) error('overflow')",
            "package.preload.x = function() package.loaded.x = nil return (require 'x') end require 'x'",
            "local s = ('('):rep(100000) .. '1' .. (')'):rep(100000) assert((loadstring or load)('return ' .. s))",
        ],
    )
    def test_infinite_recursion(self, lua: Inside, recursion: str) -> None:
        """However a script recurses, it ends in an error of its own, and the state goes on unless memory ran out."""
        if lua.engine.name.startswith("LuaJIT 2.0") and "coroutine" in recursion:
            pytest.skip("LuaJIT 2.0 sets no bound to coroutines inside coroutines")
        state = lua.load(f"function main(env, con) if env.A then con:puts('next') else {recursion} end end")
        assert re.search("overflow|out of memory|error in error handling|too many", lua.run(state).error)
        if state.is_healthy:
            assert lua.run(state, Request({"A": "1"})).text == "next"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("function main(env, con)\n\n  con:puts(\nend", r"page\.lua:4: .*'end'"),
            ("x = = 1", r"page\.lua:1: .*'='"),
            ("error('at the top')", r"page\.lua:1: at the top"),
            ("error({})", r"page\.lua: \(error object is a table value\)"),
            ("", r"page\.lua: defines no function main\(env, con\)"),
            ("main = 5", r"page\.lua: defines no function main\(env, con\)"),
            ("local function main() end", r"page\.lua: defines no function main\(env, con\)"),
            ("\x1bLua", r"page\.lua: bytecode is not loaded, expected Lua source"),
            ("function main() end function init()\nerror('in init') end", r"page\.lua:2: in init"),
        ],
    )
    def test_scripts_that_do_not_load(self, lua: Inside, text: str, message: str) -> None:
        """A script that does not load is refused with the reason, and its line where there is one."""
        problem = str(broken(lua, text))
        assert str(lua.root) in problem
        assert re.search(message, problem)

    def test_traceback_of_a_script_that_does_not_load(self, lua: Inside) -> None:
        """An error while a script loads has a traceback too."""
        problem = broken(lua, "local function f()\nerror('x')\nend\nf()\n")
        assert frames(problem.traceback) == ["[C]", "page.lua:2", "page.lua:4"]

    def test_main_that_has_gone(self, lua: Inside) -> None:
        """A script that takes its own handler away gets an error, not a crash."""
        state = lua.load("function main(env, con) main = nil con:puts('once') end")
        assert lua.run(state).text == "once"
        assert "attempt to call" in lua.run(state).error


class TestFiles:
    """Names are relative to the script's folder, whatever directory the process is in."""

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("require('beside').name", "beside"),
            ("require('deep.er').name", "deep.er"),
            ("require('package_').name", "package_"),
            ("require('shared').name", "shared"),
            ("require('templated').name", "templated"),
            ("dofile('data.lua')", "data"),
            ("dofile('./data.lua')", "data"),
            ("dofile('.//./data.lua')", "data"),
            ("dofile('deep/../data.lua')", "data"),
            ("dofile(ROOT .. '/data.lua')", "data"),
            ("assert(loadfile('data.lua'))()", "data"),
            ("tostring(select('#', dofile('three.lua')))", "3"),
            ("io.open('text.txt'):read('*a')", "one\ntwo\n"),
            ("(function() local t = '' for l in io.lines('text.txt') do t = t .. l end return t end)()", "onetwo"),
            ("(function() io.output('new.txt') io.write('new') io.close() return io.lines('new.txt')() end)()", "new"),
            ("(function() io.input('text.txt') local l = io.read() io.close(io.input()) return l end)()", "one"),
            ("(function() io.open('a.txt', 'w'):close() assert(os.rename('a.txt', 'b.txt')) local f = io.open('b.txt') "
             "f:close() assert(os.remove('b.txt')) return tostring(io.open('b.txt')) end)()", "nil"),
            ("select(2, loadfile('missing.lua'))", "cannot open ROOT/missing.lua: No such file or directory"),
            ("select(2, loadfile('deep'))", "cannot open ROOT/deep: Is a directory"),
            ("select(2, loadfile('a\\0b'))", "cannot open ROOT/a: No such file or directory"),
            ("select(2, pcall(dofile, 'missing.lua'))", "cannot open ROOT/missing.lua: No such file or directory"),
            ("select(2, loadfile('broken.lua')):match('[^/]*$'):match('^broken.lua:1:')", "broken.lua:1:"),
            ("select(2, pcall(dofile)):match('bad .*')", "bad argument #1 to 'dofile' (string expected, got nil)"),
            ("(select(2, io.open('missing.txt')))", "ROOT/missing.txt: No such file or directory"),
        ],
    )  # fmt: skip
    def test_functions(self, lua: Inside, expression: str, expected: str) -> None:
        """What each function of a file finds."""
        lua.write("beside.lua", "return { name = 'beside' }")
        lua.write("deep/er.lua", "return { name = ... }")
        lua.write("package_/init.lua", "return { name = ... }")
        lua.write("../modules/shared.lua", "return { name = 'shared' }")
        lua.write("../other/templated.module", "return { name = 'templated' }")
        lua.write("data.lua", "#!/usr/bin/lua\nreturn 'data'")
        lua.write("three.lua", "return 1, nil, nil")
        lua.write("text.txt", "one\ntwo\n")
        lua.write("broken.lua", "x = = 1")
        root = str(lua.root)
        answer = lua.main(f"local ROOT = '{root}' con:puts({expression})")
        assert answer.text == expected.replace("ROOT", root)

    def test_environment_of_a_chunk(self, lua: Inside) -> None:
        """load and loadfile take an environment, where this Lua has that."""
        lua.write("data.lua", "#!/usr/bin/lua\nreturn x")
        statements = """
            local function try(f, ...) local chunk = assert(f(...)) return tostring(chunk()) end
            local parts = { "return ", "x" }
            con:puts(try(load, function() return table.remove(parts, 1) end, "=n") .. " ")
            con:puts(try(loadfile, "data.lua", "t", { x = 5 }) .. " ")
            local load = pcall(load, "") and load or loadstring
            con:puts(try(load, "return x", "=n", "t", { x = 6 }) .. " ")
            con:puts(tostring((load("return x", "=n", "b"))):sub(1, 8))
        """
        # Lua 5.1 has neither modes nor environments there.
        expected = "nil nil nil function" if lua.engine.name == "Lua 5.1" else "nil 5 6 nil"
        assert lua.main(statements).text == expected

    def test_module_is_run_once(self, lua: Inside) -> None:
        """A module is run at the first require, and is the same table after that; package.loaded forgets it."""
        lua.write("counted.lua", "count = (count or 0) + 1 return { count = count }")
        statements = """
            local first, second = require "counted", require "counted"
            package.loaded.counted = nil
            con:puts(first.count .. tostring(first == second) .. require("counted").count)
        """
        assert lua.main(statements).text == "1true2"

    def test_preload(self, lua: Inside) -> None:
        """package.preload comes before files, and package.path can be added to."""
        lua.write("beside.lua", "return 'file'")
        lua.write("further/away.lua", "return 'away'")
        statements = """
            package.preload.beside = function(name) return "preloaded " .. name end
            package.path = package.path .. ";further/?.lua"
            con:puts(require "beside" .. " " .. require "away")
        """
        assert lua.main(statements).text == "preloaded beside away"

    def test_module_that_is_missing(self, lua: Inside) -> None:
        """The message lists each place once, one a line."""
        error = lua.main("require 'no.such'").error
        lines = error.split("\n\t")
        assert re.match(r"\S*/page\.lua:2: module 'no.such' not found:$", lines[0])
        assert f"{lua.root}/no/such.lua: No such file or directory" in lines
        assert f"{lua.root}/no/such/init.lua: No such file or directory" in lines
        assert f"{lua.root.parent}/other/no/such.module: No such file or directory" in lines
        assert lines[-1] == "lua.cpath, for modules written in C: no folder"
        assert all(lines)

    def test_what_lua_allow_opens_is_named(self, lua: Inside) -> None:
        """Whoever meets a closed door reads which setting opens it."""
        for name in ("os.execute", "io.popen"):
            expected = f'{name} is not available to scripts: unless lua.allow has "{name}"'
            assert lua.main(f"{name}('true')").error.endswith(expected)
        if lua.engine.name.startswith("LuaJIT"):
            assert lua.main("require 'ffi'").error.endswith('\n\tlua.allow does not have "ffi"')

    def test_module_that_is_broken(self, lua: Inside) -> None:
        """A module's own error is told, with its file."""
        lua.write("broken.lua", "x = = 1")
        assert re.search(r"error loading module 'broken' from file '\S*/broken.lua':\n\t\S*broken.lua:1: ",
                         lua.main("require 'broken'").error)  # fmt: skip


class TestMemory:
    def test_overrun(self, lua: Inside) -> None:
        """A script that takes too much is stopped; its state is not used again; the next one is fine."""
        state = lua.load("function main(env, con) local t = {} for i = 1, 16 do t[i] = ('x'):rep(1e6) .. i end end")
        answer = lua.run(state)
        if not lua.engine.limited:
            assert answer.text == ""
            return
        assert answer.error == "out of memory (lua.memory is 8388608 bytes)"
        assert not state.is_reusable
        state.close()
        assert lua.main("con:puts('next')").text == "next"

    @pytest.mark.parametrize("catch", ["pcall(f)", "xpcall(f, tostring)", "coroutine.resume(coroutine.create(f))"])
    def test_overrun_cannot_be_caught(self, lua: Inside, catch: str) -> None:
        """A script that catches the error does not go on: the state is at its end."""
        if not lua.engine.limited:
            pytest.skip("lupa cannot limit its memory")
        statements = f"""
            local function f() local t = {{}} for i = 1, 16 do t[i] = ("x"):rep(1e6) .. i end end
            {catch}
            con:puts("went on")
        """
        answer = lua.main(statements)
        assert answer.failure is not None
        assert answer.failure.message == "out of memory (lua.memory is 8388608 bytes)"

    def test_overrun_while_loading(self, lua: Inside) -> None:
        """A script that takes too much at its top does not load."""
        if lua.engine.limited:
            text = "local t = {} for i = 1, 16 do t[i] = ('x'):rep(1e6) .. i end"
            assert str(broken(lua, text)) == f"{lua.root}/page.lua: out of memory (lua.memory is 8388608 bytes)"

    def test_garbage_does_not_count(self, lua: Inside) -> None:
        """Requests that leave garbage, each of it within the limit, go on for ever."""
        state = lua.load("n = 0 function main() n = n + 1 for i = 1, 2 do local s = ('x'):rep(1e6) .. i .. n end end")
        for _ in range(20):
            assert lua.run(state).failure is None
            assert state.is_healthy

    def test_finalizers(self, lua: Inside) -> None:
        """An error in a finalizer hurts nobody, wherever the collector runs it, also while a script loads."""
        state = lua.load(
            """
            local function garbage()
                local function fail() error("in a finalizer") end
                if newproxy then getmetatable(newproxy(true)).__gc = fail end
                return setmetatable({}, { __gc = fail })
            end
            for i = 1, 100 do garbage() end
            function main(env, con)
                for i = 1, 100 do garbage() end
                con:puts("fine")
            end
            """
        )
        for _ in range(50):
            assert lua.run(state, Request({"A": "x" * 20000})).text == "fine"
        state.close()

    def test_finalizers_are_called(self, lua: Inside) -> None:
        """A finalizer is called with its object, once."""
        statements = """
            local calls = 0
            local meta = { __gc = function(object) calls = calls + (object.weight or 100) end }
            local object = setmetatable({ weight = 1 }, meta)
            assert(getmetatable(object) == meta)
            setmetatable(object, meta)
            if newproxy then
                local proxy = newproxy(true)
                getmetatable(proxy).__index = { weight = 1 }
                getmetatable(proxy).__gc = meta.__gc
                assert(getmetatable(newproxy(proxy)) == getmetatable(proxy) and newproxy(false))
            end
            object = nil
            collectgarbage() collectgarbage()
            con:puts(calls >= 1 and calls < 100 and "called" or calls)
        """
        assert lua.main(statements).text == "called"


class TestCoroutines:
    def test_con_inside(self, lua: Inside) -> None:
        """Everything of con can be used in coroutines, also nested ones, and between their steps."""
        request = Request(body=b"abcdef")
        statements = """
            local function step(name)
                return coroutine.wrap(function()
                    for i = 1, 3 do
                        con:puts(name .. i .. con:gets(1))
                        con:sleep(0.5)
                        coroutine.yield()
                    end
                end)
            end
            local a, b = step("a"), step("b")
            for i = 1, 3 do coroutine.wrap(function() a() b() con:flush() con:log("round") end)() end
        """
        answer = lua.main(statements, request)
        assert answer.text == "a1ab1ba2cb2da3eb3f"
        assert request.slept == [0.5] * 6
        assert lua.log().count(": round\n") == 3

    def test_waiting_inside_functions_of_lua(self, lua: Inside) -> None:
        """A script can wait inside a comparison, a replacement, a metamethod, an iterator."""
        request = Request()
        statements = """
            local t = { 3, 1, 2 }
            table.sort(t, function(a, b) con:sleep(1) return a < b end)
            con:puts(table.concat(t))
            con:puts((("ab"):gsub(".", function(c) con:sleep(1) return c:upper() end)))
            con:puts(setmetatable({}, { __index = function(_, k) con:sleep(1) return k end }).key)
            for i in function(_, last) con:sleep(1) if last < 3 then return last + 1 end end, nil, 0 do con:puts(i) end
        """
        assert lua.main(statements, request).text == "123ABkey123"
        assert len(request.slept) >= 8

    def test_error_inside(self, lua: Inside) -> None:
        """An error in a coroutine comes out of it as in any Lua."""
        statements = """
            local co = coroutine.create(function() con:status(1) end)
            local ok, problem = coroutine.resume(co)
            con:puts(tostring(ok) .. type(problem) .. problem:match("status 1") .. coroutine.status(co))
        """
        assert lua.main(statements).text == "falsestringstatus 1dead"

    def test_left_over(self, lua: Inside) -> None:
        """A coroutine of an earlier request can be resumed, but not write into the page of a later one."""
        state = lua.load(
            """
            function main(env, con)
                if kept then con:puts(tostring(coroutine.resume(kept))) return end
                kept = coroutine.create(function() con:puts("a") coroutine.yield() con:puts("b") end)
                coroutine.resume(kept)
            end
            """
        )
        assert [lua.run(state).text, lua.run(state).text] == ["a", "false"]

    def test_substitutions_and_coroutines_inside_each_other(self, lua: Inside) -> None:
        """Recursion through many gsubs, then a coroutine, and so on, ends with an error: both take of one C stack."""
        statements = """
            local function f(n)
                if n % 150 == 0 then return coroutine.wrap(function() return f(n + 1) end)() end
                return (("a"):gsub("a", function() return f(n + 1) end))
            end
            f(1)
        """
        answer = lua.main(statements)
        assert answer.failure is not None
        assert re.search("overflow|out of memory", answer.failure.message)

    def test_substitutions_that_failed_do_not_count(self, lua: Inside) -> None:
        """Any number of gsubs may end with an error, outside and inside coroutines, and the next one works in both."""
        statements = """
            local function fail() return (("a"):gsub("a", function() error("x") end)) end
            for n = 1, 1000 do pcall(fail) pcall(coroutine.wrap(fail)) end
            local function work() return (("a"):gsub("a", function() return "ok" end)) end
            con:puts(work() .. coroutine.wrap(work)())
        """
        assert lua.main(statements).text == "okok"

    @pytest.mark.parametrize("nest", ["coroutine.wrap(f)()", "assert(coroutine.resume(coroutine.create(f)))"])
    def test_coroutines_inside_coroutines(self, lua: Inside, nest: str) -> None:
        """Recursion through coroutines, each of which takes some of the C stack, ends with an error."""
        recurse = f"local function f() {nest} end f()"
        state = lua.load(f"function main(env, con) if env.N then {recurse} end con:puts('on') end")
        answer = lua.run(state, Request({"N": "1"}))
        assert answer.failure is not None
        assert re.search("C stack overflow|out of memory", answer.failure.message)
        if state.is_healthy:
            assert lua.run(state, Request()).text == "on"


class TestProtectedCalls:
    @pytest.mark.parametrize(
        "call",
        ["con.puts, con, {}", "con.puts", "con.header, con, 'a'", "con.status, con, 1", "con.sleep, con, 'x'",
         "con.gets, con, 'x'", "con.log, con, 'loud', 'x'", "con.gets, con"],
    )  # fmt: skip
    def test_failing_call(self, lua: Inside, call: str) -> None:
        """A script can catch what con raises: a text, and nothing else; the request goes on."""
        request = Request()
        request.failure = OSError(5, "Input/output error")
        statements = f"local ok, problem = pcall({call}) con:log(tostring(ok) .. ' ' .. type(problem)) con:puts('on')"
        assert lua.main(statements, request).body == b"on"
        assert ": false string\n" in lua.log()

    def test_xpcall(self, lua: Inside) -> None:
        """xpcall's handler gets the same text."""
        statements = "con:puts(select(2, xpcall(function() con:status(1) end, function(e) return type(e) end)))"
        assert lua.main(statements).text == "string"
