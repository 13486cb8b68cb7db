"""What LuaJIT compiles: the loops of the server's own that say so, and no script, so that the count hook ends it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.lua.budget import Budget

from ..support.inside import Inside, Request, run_python

JITS = ("luajit21", "luajit20")

#: Runs a server in a process whose kernel refuses memory that is both writable and executable (prctl(2), Linux 6.3).
HARDENED = """
    import ctypes, mmap, sys
    from pathlib import Path

    PR_SET_MDWE = 65
    if ctypes.CDLL(None).prctl(PR_SET_MDWE, 1, 0, 0, 0) != 0:
        print("no prctl")
        sys.exit()
    from tests.support.inside import Inside, Request

    lua = Inside(Path(sys.argv[1]), sys.argv[2], f"[lua]\\njit = {sys.argv[3]}\\n")
    state = lua.load("function main(env, con) local n = 0 for i = 1, 1e5 do n = n + i end con:puts(n) end")
    for _ in range(200):
        assert lua.run(state, Request()).text == "5000050000"
    route = lua.engine.router()
    for _ in range(200):
        route(b"\\x0f\\x01SCRIPT_FILENAMEx")
    print(lua.log())
"""

#: Fills the memory but for so many bytes, and calls what LuaJIT has compiled until nothing is left.
FULL = """
    local fcgi, json = require "luafcgid", require "greenfcgi.json"
    local html, template = require "greenfcgi.html", require "greenfcgi.template"
    local rep, count, tonumber = string.rep, collectgarbage, tonumber
    local numbers, text = {}, {}
    for i = 1, 60 do numbers[i], text[i] = { i, "line\\n" }, "a" .. i .. "=%41+b" end
    text = table.concat(text, "&")
    local values = { numbers = numbers, text = text, ["\u00e9\\n"] = { 1.5, true, json.null, {} } }
    local document = json.encode(values)
    local marked = rep("<a href='x'>&</a> ", 20)
    local view = template.compile("<% for i = 1, 30 do %><b><%= i %></b> <%= text %><%- text %><% end %>")
    local ways = {
        to_json = function() return json.encode(values) end,
        of_json = function() return json.decode(document) end,
        escape = function() return html.escape(marked) end,
        render = function() return view { text = marked } end,
        serialize = function() return fcgi.serialize(numbers) end,
        parse = function() return fcgi.parse(text) end,
        encode = function() return fcgi.urlencode(text) end,
        coroutine = function() return coroutine.wrap(function() return fcgi.serialize(numbers) end)() end,
        nothing = function() return rep("x", 100) end,
    }
    function main(env, con)
        local way, left = ways[env.WAY], tonumber(env.LEFT)
        if not left then
            for _ = 1, 30 do way() end
            return
        end
        local kept, n = nil, 0
        while true do
            local free = LIMIT - count("count") * 1024 - left
            if free < 100 then break end
            n = n + 1
            kept = { kept, rep("x", free > 4000 and 1000 or 10) .. n }
        end
        for _ = 1, 2000 do kept = { kept, way() } end
        con:puts("done")
    end
"""


@pytest.fixture(params=JITS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each LuaJIT."""
    inside = Inside(tmp_path, str(request.param))
    yield inside
    inside.close()


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the count hook has asked whether the script may go on, in a list of one number."""
    counted, tick = [0], Budget.tick

    def count(self: Budget) -> object:
        counted[0] += 1
        return tick(self)

    monkeypatch.setattr(Budget, "tick", count)
    return counted


def code_areas() -> int:
    """How many parts of this process's memory hold machine code that is in no file."""
    # States that nobody has any more would take theirs with them at any time.
    gc.collect()
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sum("x" in line.split()[1] and len(line.split()) == 5 for line in lines)


@pytest.mark.parametrize(
    "loop",
    [
        "for i = 1, 200000 do n = n + i end",
        "for _ = 1, 20 do removed(list, 1) end",
        "for _ = 1, 20 do moved(list, 1, 10000, 2) end",
        "table.foreachi(list, function(_, v) n = n + v end) for _ = 1, 9 do table.foreach(list, function() end) end",
        "coroutine.wrap(function() for i = 1, 200000 do n = n + i end end)()",
        "assert(loadstring 'local n = 0 for i = 1, 200000 do n = n + i end')()",
    ],
)
def test_what_scripts_loop_over_is_interpreted(lua: Inside, ticks: list[int], loop: str) -> None:
    """However often it has run: the hook comes after each thousand instructions of it, to the end."""
    state = lua.load(f"""
        local function plain() for i = 1, 10000 do i = i + 1 end end
        -- In C before LuaJIT 2.1.
        local removed, moved = table.remove, table.move or plain
        if jit.version_num < 20100 then removed = plain end
        function main(env, con)
            local n, list = 0, {{}}
            for i = 1, 10000 do list[i] = i end
            {loop}
            con:puts("done")
        end
    """)
    found = []
    for _ in range(8):
        before = ticks[0]
        assert lua.run(state, Request()).text == "done"
        found.append(ticks[0] - before)
    assert min(found) >= 100


def test_the_environment_is_compiled(lua: Inside) -> None:
    """After some requests the process has memory for its code; and the script is told that the compiler is off."""
    state = lua.load("function main(env, con) con:puts(tostring(jit.status()), env.SCRIPT_NAME) end")
    parameters = Request({f"NAME{number}": "value" for number in range(20)} | {"SCRIPT_NAME": "/a"})
    assert lua.run(state, parameters).text == "false/a"
    before = code_areas()
    for _ in range(50):
        assert lua.run(state, parameters).text == "false/a"
    assert code_areas() == before + 1


@pytest.mark.parametrize(
    "way",
    ["serialize", "parse", "encode", "coroutine", "nothing", "to_json", "of_json", "escape", "render"],
)
def test_memory_runs_out_in_compiled_code(tmp_path: Path, way: str) -> None:
    """At each level of memory, in each function: the request fails, and the process goes on."""
    limit = 1 << 20
    program = f"""
        from pathlib import Path
        from tests.support.inside import Inside, Request

        lua = Inside(Path({str(tmp_path)!r}), "luajit21", "[lua]\\nmemory = {limit}\\n")
        many = {{f"NAME{{number}}": "value" * number for number in range(30)}}
        for left in range(-45_000, 30_000, 1_000):
            state = lua.load({FULL.replace("LIMIT", str(limit))!r})
            # After six, all is compiled that ever is, but for some side exits.
            for _ in range(6):
                assert lua.run(state, Request(many | {{"WAY": {way!r}}})).failure is None
            answer = lua.run(state, Request(many | {{"WAY": {way!r}, "LEFT": str(left)}}))
            assert answer.failure is not None and "out of memory" in answer.failure.message, (left, answer)
            assert not state.is_healthy
            state.close()
        print("ended")
    """
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stdout + done.stderr


@pytest.mark.parametrize("jit", ["true", "false"])
@pytest.mark.parametrize("version", JITS)
def test_where_the_system_refuses_executable_memory(tmp_path: Path, version: str, jit: str) -> None:
    """LuaJIT would end the process there: all of it is interpreted, and the log says so."""
    done = run_python(HARDENED, str(tmp_path), version, jit)
    if done.stdout == "no prctl\n":
        pytest.skip("the kernel has no such prctl")
    assert done.returncode == 0, done.stderr
    what = "lua.jit is not kept" if jit == "true" else "the server's own Lua is interpreted"
    assert f"{what}: the system refuses memory that is both writable and executable" in done.stdout
