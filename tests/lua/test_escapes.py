"""Ways out of a Lua state, one file each in `escapes/`: every Lua holds against every one of them."""

from __future__ import annotations

import locale
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.inside import FLAVOURS, Inside, Request, run_python

MODULE = """
import sys, greenfcgi
@greenfcgi.export
def echo(*values): return values
@greenfcgi.export
def fail(*values): raise ValueError(*values)
@greenfcgi.export
def odd(): return sys
@greenfcgi.export(blocking=True)
def wait(*values): return values
"""
ESCAPES = sorted(Path(__file__).parent.joinpath("escapes").glob("*.lua"))


@pytest.fixture(scope="module", params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """One flavour after the other, with a module that is written in Python."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / f"holds_{request.param}.py").write_text(MODULE)
    inside = Inside(folder, request.param, f'[modules]\nmine = "holds_{request.param}"\n')
    yield inside
    inside.close()


def request() -> Request:
    """A request with something in it."""
    return Request({"A": "1", "QUERY_STRING": "a=b"}, b"a body of some length")


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda path: path.stem)
def test_holds(lua: Inside, escape: Path) -> None:
    """The attempt gets nothing, twice in one state; the process, its locale and its streams are as before."""
    before = locale.setlocale(locale.LC_ALL)
    state = lua.load(escape.read_bytes(), escape.name)
    for _ in range(2):
        assert lua.run(state, request()).text == "held"
        assert state.is_healthy
    state.close()
    assert locale.setlocale(locale.LC_ALL) == before
    for descriptor in (0, 1, 2):
        os.fstat(descriptor)
    assert lua.main("con:puts(('next'):upper())").text == "NEXT"


def test_changed_libraries_in_the_response(lua: Inside) -> None:
    """With the whole standard library replaced, headers, log and errors are as they should be."""
    lua.forget_log()
    state = lua.load(Path(__file__).parent.joinpath("escapes", "changed_libraries.lua").read_bytes())
    answer = lua.run(state, request())
    assert answer.lines == ["Status: 203 Mine", "Content-Type: text/html", "X-A: b", "X-C: 5"]
    assert ": logged \\x00\\n\n" in lua.log()
    assert "Content-Length says 100, but the script wrote 4 bytes: header dropped" in lua.log()
    answer = lua.run(state)
    assert answer.failure is not None
    assert answer.error.endswith("status 1: expected a whole number from 200 to 999")
    assert "changed_libraries.lua" not in answer.error
    assert "page.lua:" in answer.failure.traceback


def test_compiler_that_the_operator_has_switched_on(tmp_path: Path) -> None:
    """`lua.jit` decides about LuaJIT's compiler, and a script cannot switch it off either."""
    for version in ("luajit21", "luajit20"):
        lua = Inside(tmp_path, version, "[lua]\njit = true\n")
        assert lua.main("jit.off() con:puts(tostring(jit.status()))").text == "true"
        lua.close()


def test_nothing_of_the_server_is_reachable_from_a_hook(lua: Inside) -> None:
    """A hook's con has the functions that it says, and nothing else."""
    lua.forget_log()
    state = lua.load(
        """
        function main() end
        function heartbeat(con)
            local names = {}
            for name in pairs(getmetatable(con).__index) do names[#names + 1] = name end
            table.sort(names)
            con:log(table.concat(names, " "))
            for name in pairs(con) do con:log("more: " .. name) end
        end
        """
    )
    state.hook("heartbeat")
    assert lua.log().endswith(": config log sleep\n")
    assert "more" not in lua.log()


@pytest.mark.parametrize(
    "statement",
    [
        "debug = nil setmetatable(_G, { __index = function() error('asked') end })",
        "debug = setmetatable({}, { __index = function() error('asked') end })",
        "debug = false",
        "if setfenv then setfenv(0, setmetatable({}, { __index = function() error('asked') end })) end",
        "debug.traceback = function() while true do end end",
        "setmetatable(_G, { __index = function() while true do end end }) debug.traceback = nil debug = nil",
    ],
)
@pytest.mark.parametrize("version", FLAVOURS)
def test_what_lupa_looks_for(tmp_path: Path, version: str, statement: str) -> None:
    """Whatever becomes of the globals, the process goes on; and the script finds them as it has left them."""
    script = f"""
        local runs, was = 0, nil
        function main(env, con)
            runs = runs + 1
            if runs == 1 then {statement} was = rawget(_G, "debug") end
            con:puts(runs, " ", rawget(_G, "debug") == was and "same" or "other")
            if env.FAIL then error("at last") end
        end
    """
    program = f"""
        from pathlib import Path
        from tests.support.inside import Inside, Request

        lua = Inside(Path({str(tmp_path)!r}), {version!r})
        state = lua.load({script!r})
        assert [lua.run(state).text for _ in range(3)] == ["1 same", "2 same", "3 same"]
        assert lua.run(state, Request({{"FAIL": "1"}})).failure.message.endswith("at last")
        state.hook("heartbeat")
        state.close()
        print("ended")
    """
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stdout + done.stderr


def test_memory_runs_out_where_lupa_looks(tmp_path: Path) -> None:
    """The globals have lost `debug`, and there is no memory to give it back."""
    script = """
        debug = nil
        setmetatable(_G, { __index = function() error("asked") end })
        function main() local i = 0 while true do i = i + 1 _G[i + 0.5] = 1 end end
    """
    program = f"""
        from pathlib import Path
        from tests.support.inside import FLAVOURS, Inside

        for version in FLAVOURS:
            if version != "luajit20":
                (folder := Path({str(tmp_path)!r}) / version).mkdir()
                lua = Inside(folder, version, "[lua]\\nmemory = 8000000\\n")
                state = lua.load({script!r})
                failure = lua.run(state).failure
                assert failure is not None and "memory" in failure.message, (version, failure)
                state.close()
        print("ended")
    """
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stdout + done.stderr


@pytest.mark.parametrize("function", ["type", "rawget", "error", "pcall", "assert"])
def test_functions_that_a_script_has_of_its_own(lua: Inside, function: str) -> None:
    """The server does not call them, not while it loads the script either."""
    lua.forget_log()
    text = f"{function} = function() error('mine') end function main(env, con) con:puts('x') end function init() end"
    assert lua.run(lua.load(text)).text == "x"
