"""Functions of Lua that are written in C: none is busy for ever by numbers alone, and what takes long is stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.inside import FLAVOURS, Inside, Request, run_python


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """One flavour after the other, with memory for long texts."""
    inside = Inside(tmp_path_factory.mktemp(request.param), request.param, '[lua]\nmemory = "128M"\n')
    yield inside
    inside.close()


@pytest.mark.parametrize(
    "call",
    [
        "table.insert({}, -2 ^ 31, 1)",
        "table.insert({}, -2 ^ 31 - 1, 1)",
        "table.insert({}, 2 ^ 31, 1)",
        "table.insert({}, 1e100, 1)",
        "table.insert({}, 0 / 0, 1)",
        "table.insert({}, -1 / 0, 1)",
        "table.insert(long, 1, 1)",
        "table.insert(long, 1, nil)",
        "table.remove(long, 1)",
        "table.move({}, 1, 2 ^ 40, 2)",
        "table.move({}, -2 ^ 40, 1, 2)",
    ],
)
def test_items_moved_by_numbers_alone(lua: Inside, call: str) -> None:
    """An error of the script's line, at once; or, where this Lua has no such loop, nothing."""
    statements = f"""
        local long = setmetatable({{}}, {{ __len = function() return 2 ^ 31 end }})
        local ok, problem = pcall(function() {call} end)
        con:puts(ok and "done" or problem:match("[^:]*$"))
    """
    began = time.thread_time()
    assert lua.main(statements).failure is None
    assert time.thread_time() - began < 5


def test_tables_work_as_before(lua: Inside) -> None:
    """What the bounded functions do with usual arguments."""
    statements = """
        local t = { 1, 2, 3 }
        table.insert(t, 4) table.insert(t, 1, 0) table.insert(t, 6, 5)
        con:puts(table.concat(t, ","), " ", table.remove(t), table.remove(t, 1), tostring((table.remove({}))), " ")
        table.sort(t, function(a, b) return a > b end)
        con:puts(table.concat(t, ""), " ", ("ab"):rep(3), ("x"):upper(), ("aXb"):gsub("%u", "-"))
        if table.move then assert(table.move({ 1, 2 }, 1, 2, 2)[3] == 2 and #table.move({ 1, 2 }, 1, 2, 1, {}) == 2) end
    """
    assert lua.main(statements).text == "0,1,2,3,4,5 50nil 4321 abababXa-b1"


def test_text_of_objects_within_text_of_objects(tmp_path: Path) -> None:
    """LuaJIT 2.0 has 8 KB of the C stack in use for each; what goes too deep is an error."""
    lua = Inside(tmp_path, "luajit20")
    statements = """
        local deep
        function deep() return ("%s"):format(setmetatable({}, { __tostring = deep })) end
        for _ = 1, 3 do con:puts(tostring(pcall(deep)) .. " ") end
        con:puts(("%s %d"):format("text", 5))
    """
    assert lua.main(statements).text == "false false false text 5"
    lua.close()


@pytest.mark.parametrize("version", ["luajit21", "luajit20"])
def test_memory_that_runs_out_in_error_handlers(version: str, tmp_path: Path) -> None:
    """Nothing is written where a function is still in use."""
    script = """
        local depth
        local function deep()
            depth = depth + 1
            if depth % 2 == 0 then pcall(deep) end
            if depth % 2 == 1 then xpcall(error, deep) end
        end
        function main(env, con)
            for _ = 1, 200 do
                depth = 0 pcall(coroutine.wrap(deep))
                depth = 0 pcall(deep)
            end
            error("the end")
        end
    """
    program = f"""
        from pathlib import Path
        from tests.support.inside import Inside, Request
        lua = Inside(Path({str(tmp_path)!r}), {version!r}, "timeout = 2\\n[lua]\\nmemory = '1M'\\n")
        for _ in range(5):
            state = lua.load({script!r})
            assert lua.run(state, Request(seconds=1)).failure is not None
            state.close()
        print("ended")
    """
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


HEAVY = {
    "gsub": "local text = ('x'):rep(3e6) while true do text:gsub('.', 'y') end",
    "rep": "while true do local a = ('xy'):rep(7e6) end",
    "concat": "local t = {} for i = 1, 3e5 do t[i] = 'text' end while true do local a = table.concat(t) end",
    "upper": "local text = ('x'):rep(7e6) while true do local a = text:upper() end",
    "serialize": "local serialize = require('luafcgid').serialize local t = {}"
    " for i = 1, 300 do t[i] = ('x'):rep(3e5) end while true do serialize(t) end",
    "named like the server": "(loadstring or load)('while true do pcall(error) end', '=greenfcgi')()",
    "sort": "local t = {} for i = 1, 2e5 do t[i] = i end while true do table.sort(t) end",
}


@pytest.mark.parametrize("way", HEAVY)
def test_heavy_calls_in_a_loop(lua: Inside, way: str) -> None:
    """They end at the deadline or little later; one call is as long as it is."""
    began = time.thread_time()
    answer = lua.main(HEAVY[way], Request(seconds=0.5))
    assert answer.failure is not None
    assert answer.failure.status in (504, 500)
    # A thousand instructions would be hundreds of these calls. What others make of the machine meanwhile is no matter.
    assert time.thread_time() - began < 4
