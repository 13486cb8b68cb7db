"""What `lua.allow` opens: each name as in plain Lua of that flavour, and other programs without holding up anybody."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import gevent
import pytest

from greenfcgi.config.types import REACH
from greenfcgi.fastcgi.client import Client

from ..support.inside import FLAVOURS, Inside, Request
from ..support.processes import children, descriptors, is_alive
from ..support.running import PATIENCE, Connection, Server, until

PROGRAMS = '[lua]\nallow = ["os.execute", "io.popen"]\n'
LUAJIT = ("luajit21", "luajit20")

#: Lua that joins what the statements return.
JOINED = """
local function joined(...)
    local values = { ... }
    for i = 1, select("#", ...) do values[i] = tostring(values[i]) end
    return table.concat(values, " ")
end
con:puts(joined((function() %s end)()))
"""

#: Statements, what they return as in Lua 5.1 and LuaJIT, and as in 5.2 and later.
ANSWERS = [
    ("return os.execute('exit 3')", "768", "nil exit 3"),
    ("return os.execute('true')", "0", "true exit 0"),
    ("return os.execute('kill -9 $$')", "9", "nil signal 9"),
    ("return os.execute()", "1", "true"),
    ("return os.execute('exit 3\\0 not seen')", "768", "nil exit 3"),
    ("return select('#', pcall(os.execute, {})), pcall(os.execute, {})",
     *2 * ["2 false bad argument #1 to 'execute' (string expected, got table)"]),
    ("return io.popen('exit 3'):close()", "true", "nil exit 3"),
    ("return io.popen('kill $$'):close()", "true", "nil signal 15"),
    ("return io.popen('printf a; exit 3'):read('*a')", "a", "a"),
    ("local f = io.popen(\"printf 'a\\\\n\\\\nb'\") return f:read('*l', '*l', '*l', '*l')", "a  b nil", "a  b nil"),
    ("local t = {} for l in io.popen(\"printf 'a\\\\nb'\"):lines() do t[#t + 1] = l end return t[1] .. t[2], #t",
     "ab 2", "ab 2"),
    ("local f = io.popen(\"printf '12 0x1F 1.5e3x'\") return f:read('*n', '*n', 1), f:read('*n') == 1500, f:read('*a')",
     "12 true x", "12 true x"),
    ("local f = io.popen('printf abcdef') return f:read(0), f:read(2), f:read(2, 100), f:read(1), f:read(0)",
     " ab cd nil nil", " ab cd nil nil"),
    ("local f = io.popen('printf abcdef') return f:read(1), f:read(2, 100)", "a bc def", "a bc def"),
    ("local f = io.popen('true') return f:seek()", "nil Illegal seek 29", "nil Illegal seek 29"),
    ("local f = io.popen('true') return f:setvbuf('no'), f:flush(), io.type(f), type(f)",
     *2 * ["true true file userdata"]),
    ("local f = io.popen('true') f:close() return io.type(f), tostring(f), pcall(f.read, f)",
     *2 * ["closed file file (closed) false attempt to use a closed file"]),
    ("local f = io.popen('true') return (tostring(f):gsub('0x%x+', 'X'))", "file (X)", "file (X)"),
    ("local f = io.popen('true') return f:write('x')", *2 * ["nil Bad file descriptor 9"]),
    ("local f = io.popen('cat', 'w') return f:read()", *2 * ["nil Bad file descriptor 9"]),
    ("local f = io.popen('cat >written', 'w') f:write('a', 1) f:write('b') f:close()"
     " return io.open('written'):read('*a')", "a1b", "a1b"),
    ("local f = io.popen('exec <&-; sleep 9', 'w') local ok, why repeat ok, why = f:write('x') until not ok"
     " return ok, why",
     "nil Broken pipe", "nil Broken pipe"),
    ("return select('#', io.popen('true', 'rw'))", "3", None),
    ("local f = io.popen('printf abc') io.input(f) return io.read(1), io.read('*a'), io.input() == f, io.close(f)",
     "a bc true true", "a bc true true exit 0"),
    ("local f = io.popen('cat >written', 'w') io.output(f) io.write('by io') io.close()"
     " return io.open('written'):read('*a')", "by io", "by io"),
    ("return io.popen('pwd'):read():match('lua_scripts$')", "lua_scripts", "lua_scripts"),
    ("return io.popen('cat; printf end'):read('*a')", "end", "end"),
]  # fmt: skip


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """One Lua after the other, with programs."""
    inside = Inside(tmp_path_factory.mktemp(request.param), request.param, PROGRAMS)
    yield inside
    inside.close()


def is_old(lua: Inside) -> bool:
    """Programs end as in Lua 5.1."""
    return lua.engine.name.startswith(("LuaJIT", "Lua 5.1"))


def no_child_is_left(others: Sequence[int] = ()) -> bool:
    """All programs but `others` have ended. Those that are ended in the background get their turn here."""
    gevent.sleep(0.01)
    return not set(children()) - set(others)


@pytest.mark.parametrize(("statements", "old", "new"), ANSWERS, ids=[str(case[0])[:60] for case in ANSWERS])
def test_as_in_plain_lua(lua: Inside, statements: str, old: str, new: str | None) -> None:
    """Programs and their files answer as those of this Lua."""
    expected = old if is_old(lua) or new is None else new
    if "'rw'" in statements and not is_old(lua):
        assert "bad argument #2 to 'popen' (invalid mode)" in lua.main(JOINED % statements).error
        return
    assert lua.main(JOINED % statements).text == expected


def test_formats_of_this_lua(lua: Inside) -> None:
    """A program's output takes the formats that a file of this Lua takes, and refuses the others in the same words."""
    lua.write("lines.txt", "a\nb\n12\n")
    answer = lua.main("""
        for _, what in ipairs { "l", "*l", "L", "*L", "a", "*a", "n", "*n", "x", "*x", "", "*" } do
            local function try(file)
                local ok, result = pcall(file.read, file, what)
                file:close()
                return tostring(ok) .. " " .. (ok and tostring(result) or result:match("%b()$") or result)
            end
            local real, program = try(io.open("lines.txt")), try(io.popen("cat lines.txt"))
            if real ~= program then con:puts(what .. ": " .. real .. " / " .. program .. "\\n") end
        end
    """)
    assert answer.text == ""


def test_large_output_and_input(lua: Inside) -> None:
    """Megabytes pass through, in lines, in blocks, and in one piece."""
    answer = lua.main("""
        local f, n = io.popen("seq 1 200000"), 0
        for line in f:lines() do n = n + 1 assert(tonumber(line) == n) end
        con:puts(n .. " ")
        f = io.popen("head -c 5000000 /dev/zero")
        n = 0
        while true do
            local block = f:read(99991)
            if not block then break end
            n = n + #block
        end
        con:puts(n .. " " .. #io.popen("head -c 5000000 /dev/zero"):read("*a") .. " ")
        f = io.popen("wc -c >written", "w")
        f:write(("x"):rep(5000000))
        f:close()
        con:puts((io.open("written"):read("*a"):gsub("%s", "")))
    """)
    assert answer.text == "200000 5000000 5000000 5000000"


def test_nothing_is_left(lua: Inside) -> None:
    """However a request ends: no process, no zombie, and no descriptor is left."""
    endings = [
        "", "error('x')", "f:read(1)", "f:close()", "while true do end",
        "local t = {} while true do t[#t + 1] = {} end",
        "coroutine.wrap(function() io.popen('sleep 99') coroutine.yield() end)()",
        "local f = io.popen('cat', 'w') f:write('x')", "for _ = 1, 70 do io.popen('sleep 99') end",
        "for _ = 1, 20 do io.popen('exit 3'):read('*a') end", "os.execute('sleep 99')", "io.popen('sleep 99'):close()",
    ]  # fmt: skip
    # The event loop has descriptors of its own, from its first turn on.
    gevent.sleep(0.001)
    # States of earlier tests may still hold files that their scripts have not closed.
    gc.collect()
    before, others = descriptors(), children()
    left: dict[int, str] = {}
    for ending in endings:
        if ending.startswith("local t") and not lua.engine.limited:
            continue
        started = "local f = io.popen('printf abc; trap \"\" TERM; sleep 1 &')"
        state = lua.load(f"function main() {started} {ending} end")
        lua.run(state, Request(seconds=0.3))
        assert descriptors() == before, ending
        left = dict.fromkeys(children(), ending) | left
    # All of them have been told to end, and have the same time for it.
    try:
        until(lambda: no_child_is_left(others))
    except AssertionError:
        pytest.fail(f"processes are left of {sorted({left.get(pid, '?') for pid in set(children()) - set(others)})}")


def test_output_beyond_memory(lua: Inside) -> None:
    """An output that does not fit into the state ends the script alone."""
    if not lua.engine.limited:
        pytest.skip("the memory of this Lua cannot be limited")
    state = lua.load("function main(env, con) con:puts(#io.popen('head -c 1000000000 /dev/zero'):read('*a')) end")
    assert lua.run(state).error == "out of memory (lua.memory is 33554432 bytes)"
    assert not state.is_healthy


@pytest.fixture(scope="module")
def small(flavour: Inside, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """The same with little memory, which is full soon."""
    inside = Inside(tmp_path_factory.mktemp("small"), flavour.engine.config.lua.version, PROGRAMS + 'memory = "4M"\n')
    yield inside
    inside.close()


@pytest.mark.parametrize("room", [0, 10_000, 40_000, 70_000, 100_000, 140_000, 200_000])
def test_output_into_a_full_state(small: Inside, room: int) -> None:
    """What a program has written is handed over at any fill level, or the script ends."""
    if not small.engine.limited:
        pytest.skip("the memory of this Lua cannot be limited")
    state = small.load(f"""
        function main(env, con)
            local f, t = io.popen("head -c 65536 /dev/zero"), {{}}
            while collectgarbage("count") * 1024 < 4 * 1048576 - {room} do t[#t + 1] = ("x"):rep(2000) .. #t end
            con:puts(#f:read(65536))
        end
    """)
    answer = small.run(state)
    assert answer.body == b"65536" or "out of memory" in answer.error
    assert small.main("con:puts('next')").text == "next"


def test_file_kept_from_an_earlier_request(lua: Inside) -> None:
    """Its program is not there any more; to use it is an error of the script's, not of the server's."""
    state = lua.load("""
        function main(env, con)
            if not kept then
                kept, fed = io.popen("sleep 99"), io.popen("cat", "w")
            else
                local read, written = kept:read(), select(2, fed:write("x"))
                con:puts(tostring(read) .. " " .. written .. " " .. select(2, fed:close()) .. " " .. io.type(fed))
            end
        end
    """)
    assert lua.run(state).text == ""
    assert lua.run(state).text == "nil Bad file descriptor No child processes closed file"


def test_stderr_goes_to_the_log(lua: Inside) -> None:
    """Line by line, with the script and the request, before the program counts as ended."""
    lua.main("os.execute('echo one >&2; echo two >&2; printf three >&2') io.popen('echo four >&2'):close()")
    found = re.findall(r"\[WARNING\] \S+page\.lua: GET /page\.lua: a program's stderr: (\w+)\n", lua.log())
    assert found == ["one", "two", "three", "four"]
    lua.forget_log()
    lua.main("os.execute('seq 1 5000 >&2')")
    assert lua.log().count("a program's stderr: ") == 5000


def test_no_descriptor_is_inherited(lua: Inside) -> None:
    """A program has its three streams alone, even when the script has files open."""
    answer = lua.main("""
        local file = io.open("open.txt", "w")
        con:puts((io.popen("ls /proc/self/fd"):read("*a"):gsub("%s", " ")))
        file:close()
    """)
    # The fourth is the listing itself.
    assert answer.text == "0 1 2 3 "


def test_while_loading_and_in_hooks(lua: Inside) -> None:
    """Programs run at the top of a script, in init and in heartbeat."""
    state = lua.load("""
        local top = io.popen("echo top"):read("*l")
        local from_init
        function init() from_init = io.popen("echo init"):read("*l") end
        function heartbeat(con) con:log(io.popen("echo heartbeat"):read("*l")) end
        function main(env, con) con:puts(top .. " " .. from_init) end
    """)
    assert lua.run(state).text == "top init"
    state.hook("heartbeat")
    assert lua.log().endswith("heartbeat\n")


# The other names


def test_bytecode(tmp_path: Path) -> None:
    """What string.dump has made is loaded by load, loadstring, loadfile, dofile and require."""
    for version in FLAVOURS:
        lua = Inside(tmp_path / version, version, '[lua]\nallow = ["bytecode"]\n')
        answer = lua.main("""
            local dumped = string.dump(function(a) return (a or 0) + 1 end)
            local file = io.open("dumped.lua", "wb")
            file:write(dumped)
            file:close()
            local at = 0
            local function pieces() at = at + 1 local piece = dumped:sub(at, at) return piece ~= "" and piece or nil end
            con:puts(load(pieces)(1) .. (loadstring or load)(dumped)(2))
            con:puts(loadfile("dumped.lua")(3) .. dofile("dumped.lua"))
            con:puts(pcall(require, "dumped") and "" or " not required")
            if _VERSION ~= "Lua 5.1" or jit then
                con:puts(" " .. select(2, load(dumped, "=x", "t")) .. load(dumped, "=x", "b")(4))
            end
        """)
        # require passes the name of the module on, which cannot be added to.
        assert answer.text.startswith("2341 not required")
        if version != "lua51":
            assert "(mode is 't')" in answer.text
            assert answer.text.endswith("5")
        lua.close()


def test_debug(tmp_path: Path) -> None:
    """The whole library: what reaches into functions, and hooks."""
    for version in FLAVOURS:
        lua = Inside(tmp_path / version, version, '[lua]\nallow = ["debug"]\n')
        answer = lua.main("""
            local x = 5
            local function f() return x end
            debug.setupvalue(f, 1, 6)
            local lines = 0
            debug.sethook(function() lines = lines + 1 end, "l")
            local a = 1
            local b = 2
            debug.sethook()
            con:puts(f() .. " " .. tostring(lines > 1) .. " " .. tostring(debug.getinfo(1, "f").func == main))
            con:puts(" " .. type(debug.getregistry()))
        """)
        assert answer.text == "6 true true table"
        lua.close()


def test_luajit_libraries(tmp_path: Path) -> None:
    """ffi, jit and string.buffer are what they are in LuaJIT, each by itself; on other Luas there is nothing."""
    uses = {
        "ffi": "local ffi = require 'ffi' ffi.cdef 'int abs(int);' con:puts(ffi.C.abs(-3)) con:puts(type(1LL))",
        "jit": "require 'jit.opt'.start(3) jit.on() con:puts(tostring(jit.status())) jit.off() con:puts(type(jit.opt))",
        "string.buffer": "local b = require 'string.buffer'.new() b:put('a', 1) con:puts(b:tostring())",
    }
    for version in LUAJIT:
        for name, use in uses.items():
            if name == "string.buffer" and version == "luajit20":
                continue
            lua = Inside(tmp_path / version / name, version, f'[lua]\nallow = ["{name}"]\n')
            assert lua.main(use).text == {"ffi": "3cdata", "jit": "truetable", "string.buffer": "a1"}[name]
            for other in uses:
                if other not in (name, "jit"):
                    assert lua.main(f"con:puts(tostring((pcall(require, '{other}'))))").text == "false"
            lua.close()
    # What scripts switch is theirs: nothing of the server's is compiled beside it.
    (tmp_path / "off").mkdir()
    lua = Inside(tmp_path / "off", "luajit21", '[lua]\nallow = ["jit"]\n')
    assert lua.main("con:puts(tostring(jit.status()))").text == "false"
    lua = Inside(tmp_path / "54", "lua54", '[lua]\nallow = ["ffi", "jit", "string.buffer"]\n')
    assert lua.main("con:puts(tostring(jit) .. tostring((pcall(require, 'ffi'))))").text == "nilfalse"
    lua.close()


def test_string_buffer_does_not_bring_ffi(tmp_path: Path) -> None:
    """Its pointers and numbers do not make ffi available."""
    lua = Inside(tmp_path, "luajit21", '[lua]\nallow = ["string.buffer"]\n')
    answer = lua.main("""
        local buffer = require "string.buffer"
        local b = buffer.new():put("abc")
        local pointer = b:ref()
        local number = buffer.decode(buffer.encode(loadstring("return 1LL")()))
        con:puts(type(pointer) .. type(number) .. tostring(package.loaded.ffi) .. tostring((pcall(require, "ffi"))))
    """)
    assert answer.text == "cdatacdatanilfalse"
    lua.close()


@pytest.mark.parametrize("version", FLAVOURS)
def test_everything(serve: Callable[..., Server], version: str) -> None:
    """With all names allowed everything works at once, a library is opened, and Python stays out of reach."""
    names = ", ".join(re.findall(r'"[^"]+"', REACH.expected))
    look = """
        local seen, found, bridges = {}, {}, 0
        local look
        local function try(value, path)
            bridges = bridges + 1
            for name, use in pairs {
                index = function() return value.__class__ end, item = function() return value[1] end,
                call = function() return value("x") end, set = function() value.x = 1 end,
            } do
                local ok, result = pcall(use)
                if ok then found[#found + 1] = path .. " " .. name end
            end
            if tostring(value):find("[<']") then found[#found + 1] = path .. " " .. tostring(value) end
        end
        function look(value, path)
            local kind = type(value)
            if value == nil or kind == "string" or kind == "number" or kind == "boolean" or seen[value] then return end
            seen[value] = true
            local meta = debug.getmetatable(value)
            if kind == "userdata" and not io.type(value) then try(value, path) end
            look(meta, path .. ".meta")
            if kind == "table" then
                for k, v in next, value do
                    look(k, path .. " key")
                    look(v, path .. "." .. tostring(k))
                end
            elseif kind == "function" then
                local i = 1
                while true do
                    local name, up = debug.getupvalue(value, i)
                    if not name then break end
                    look(up, path .. "^" .. name)
                    i = i + 1
                end
                if getfenv then look(debug.getfenv(value), path .. ".env") end
            end
        end
        local function everything(con)
            look(_G, "_G")
            look(debug.getregistry(), "registry")
            look(con, "con")
            for level = 1, 20 do
                local info = debug.getinfo(level, "f")
                if not info then break end
                look(info.func, "level " .. level)
            end
            return bridges, found
        end
        function main(env, con)
            local bridges, found = everything(con)
            con:puts(tostring(bridges > 0) .. " " .. table.concat(found, "\\n") .. " ")
            con:puts(type(package.loadlib("%s", "cos")) .. " ")
            con:puts((os.execute("exit 0") and "") .. io.popen("echo program"):read("*l") .. " ")
            con:puts((loadstring or load)(string.dump(function() return "bytecode" end))())
        end
    """
    libm = _libm()
    server = serve({"all.lua": look.replace("%s", libm)}, f'[lua]\nversion = "{version}"\nallow = [{names}]\n')
    for _ in range(2):
        assert server.get("all.lua").body.decode() == "true  function program bytecode", server.log()


def _libm() -> str:
    maps = Path("/proc/self/maps").read_text()
    found = re.search(r"\S+/libm[.-]\S*", maps)
    assert found is not None
    return found.group()


# A server with other requests

#: A program that says that it runs, and waits for the word of the test.
WAITS = "echo >>running; until [ -e go ]; do sleep 0.01; done"
SERVED = {
    "hello.lua": "function main(env, con) con:puts('hello') end",
    "execute.lua": f"function main(env, con) os.execute('{WAITS}') con:puts('done') end",
    "popen.lua": f"function main(env, con) con:puts(io.popen('{WAITS}; printf done'):read('*a')) end",
    "feed.lua": f"""
        function main(env, con)
            local f = io.popen('{WAITS}; cat >/dev/null', 'w')
            f:write(('x'):rep(1000000))
            f:close()
            con:puts('done')
        end
    """,
    "endless.lua": "function main(env, con) os.execute('echo $$ >endless.pid; trap \"\" TERM; sleep 97; sleep 98') end",
    "computes.lua": "function main(env, con) io.popen('echo $$ >computes.pid; sleep 97') while true do end end",
    "flood.lua": "function main(env, con) os.execute('yes >&2') end",
    "reads.lua": "function main(env, con) local f = io.popen('yes') while true do f:read(65536) end end",
}


def send(server: Server, name: str) -> Connection:
    """A request under way."""
    connection = server.connect()
    connection.send(Client.request(server.params(name)))
    return connection


@pytest.mark.parametrize("name", ["execute.lua", "popen.lua", "feed.lua"])
def test_programs_wait_side_by_side(serve: Callable[..., Server], name: str) -> None:
    """Four wait for programs at the same time, and a request beside them is served before the first of them."""
    server = serve(SERVED, "workers = 5\n" + PROGRAMS)
    running = server.write("running", "")
    waiting = [send(server, name) for _ in range(4)]
    until(lambda: running.read_text() == 4 * "\n", "all four programs")
    assert server.get("hello.lua").body == b"hello"
    for connection in waiting:
        connection.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.receive_some()
        connection.socket.settimeout(PATIENCE)
    server.write("go", "")
    assert [connection.reply().body for connection in waiting] == 4 * [b"done"]
    for connection in waiting:
        connection.socket.close()


def pid_in(server: Server, name: str) -> int:
    """The number that a program has written to a file."""
    path = server.root / name
    until(lambda: path.exists() and path.read_text().endswith("\n"), name)
    return int(path.read_text())


@pytest.mark.parametrize("name", ["endless", "computes", "flood", "reads"])
def test_deadline(serve: Callable[..., Server], name: str) -> None:
    """A script past its time is stopped with its programs, whatever they ignore; others are served meanwhile."""
    server = serve(SERVED, "timeout = 0.5\n" + PROGRAMS)
    before = descriptors(server.pid)
    with send(server, f"{name}.lua") as connection:
        assert server.get("hello.lua").body == b"hello"
        assert connection.reply().status == 504
    until(lambda: not children(server.pid), "the end of the programs")
    if name in ("endless", "computes"):
        assert not is_alive(pid_in(server, f"{name}.pid"))
    until(lambda: descriptors(server.pid) <= before, "descriptors are given back")
    assert server.get("hello.lua").body == b"hello"


def test_client_that_leaves(serve: Callable[..., Server]) -> None:
    """A script whose client has gone does not wait for its program any longer."""
    server = serve(SERVED, PROGRAMS)
    with send(server, "endless.lua"):
        pid = pid_in(server, "endless.pid")
        assert is_alive(pid)
    until(lambda: not is_alive(pid), "the end of the program")
    until(lambda: not children(server.pid), "the programs are reaped")
    assert server.get("hello.lua").body == b"hello"


def test_end_of_the_server(serve: Callable[..., Server]) -> None:
    """A server that stops leaves no program behind."""
    server = serve(SERVED, "graceful_timeout = 0.1\n" + PROGRAMS)
    with send(server, "endless.lua"):
        pid = pid_in(server, "endless.pid")
        server.stop()
    until(lambda: not is_alive(pid), "the end of the program")
