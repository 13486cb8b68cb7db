"""Files as scripts open them: names, what they may not reach, how many at a time, and the standard streams."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.lua.file_rules import FileRules
from greenfcgi.quota import Quota

from ..support.developing import Developing
from ..support.inside import FLAVOURS, Inside, Request, run_python
from ..support.running import Server


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """One flavour after the other, with a pipe beside the script, and room for 300 files."""
    inside = Inside(tmp_path_factory.mktemp(request.param), request.param)
    inside.engine.files = Quota(300)
    os.mkfifo(inside.root / "pipe")
    inside.write("text.txt", "one\ntwo\n")
    inside.write("mod.lua", "return 'mod'")
    yield inside
    inside.close()


#: Its files become garbage at all depths of calls.
FORGETS = """
    local function f()
        for i = 1, 100 do garbage = { i } end
        pcall(f)
        io.open("forgotten.txt", "w")
        pcall(f)
    end
    function main() pcall(f) end
"""


class TestNames:
    @pytest.mark.parametrize("name", ["", "./", ".//", ".", "././"])
    def test_the_folder_of_the_script_stays(self, lua: Inside, name: str) -> None:
        """No spelling of it can be renamed or removed."""
        statements = f"con:puts(tostring(os.rename('{name}', 'moved')), tostring(os.remove('{name}')))"
        assert lua.main(statements).text == "nilnil"
        assert (lua.root / "page.lua").exists()

    def test_the_empty_name(self, lua: Inside) -> None:
        """There is no such file."""
        statements = """
            local ok, problem, number = io.open("")
            con:puts(tostring(ok), " ", number, " ", tostring(pcall(io.lines, "")), tostring(pcall(io.input, "")))
        """
        assert lua.main(statements).text == "nil 2 falsefalse"

    def test_numbers_are_names_beside_the_script(self, lua: Inside) -> None:
        """As text would be."""
        statements = """
            local file = assert(io.open(1795, "w"))
            file:write("there")
            file:close()
            assert(os.rename(1795, 1796))
            con:puts(io.open("1796"):read("*a"), tostring(os.remove(1796)), tostring(os.remove(1796)))
        """
        assert lua.main(statements).text == "theretruenil"
        assert not Path("1795").exists()

    def test_what_is_no_name(self, lua: Inside) -> None:
        """It is an error of the script's line."""
        for call in ("os.rename(nil, 'x')", "os.rename('x')", "os.remove({})", "io.open({})"):
            assert "page.lua:3: bad argument #" in lua.main(f"local a\nlocal b = {call}").error


class TestReach:
    @pytest.mark.parametrize(
        "name",
        [
            "/proc/self/fd/0", "/proc/self/fd/../mem", "/proc/thread-self/mem", "//proc//self/./mem", "/proc/kcore",
            "/proc/self/task/1/fd/0", "/proc/self/root/etc/hostname", "/proc/self/cwd/config.toml", "/dev/fd/0",
            "/proc/self/map_files/x", "/dev/stdin", "/dev/stderr", "../../../../../../../../../../../../proc/self/mem",
            "to_descriptors/0", "to_memory", "/proc/self/mem\\0.txt", "/dev/zero", "/dev/full", "pipe",
        ],
    )  # fmt: skip
    def test_is_refused_by_every_way(self, lua: Inside, name: str) -> None:
        """The process itself, devices and pipes: neither opened, run, read by lines, nor moved."""
        for link, target in (("to_descriptors", "/proc/self/fd"), ("to_memory", "/proc/self/mem")):
            path = lua.root.parent / link
            if not path.is_symlink():
                path.symlink_to(target)
        if name.startswith("to_"):
            name = "../" + name
        statements = f"""
            local name, found = "{name}", {{}}
            for _, mode in ipairs {{ "r", "a", "r+" }} do
                if io.open(name, mode) then found[#found + 1] = "open " .. mode end
            end
            for _, way in ipairs {{ "lines", "input", "output" }} do
                if pcall(io[way], name) then found[#found + 1] = way end
            end
            if loadfile(name) then found[#found + 1] = "loadfile" end
            if pcall(dofile, name) then found[#found + 1] = "dofile" end
            package.path = name:gsub("%z.*", "")
            if pcall(require, "nothing") then found[#found + 1] = "require" end
            if name ~= "pipe" and os.rename(name, "elsewhere") then found[#found + 1] = "rename" end
            con:puts(table.concat(found, ", "))
        """
        assert lua.main(statements).text == ""

    def test_what_is_left(self, lua: Inside) -> None:
        """Figures of the system, and the null device."""
        statements = """
            assert(io.open("/proc/meminfo")):close()
            assert(io.open("/proc/self/status")):close()
            local null = assert(io.open("/dev/null", "w"))
            con:puts(tostring(io.open("/proc/self/comm", "w")), tostring(null:write("x") ~= nil))
            con:puts(tostring(null:close()))
        """
        assert lua.main(statements).text == "niltruetrue"

    def test_random_bytes(self, lua: Inside) -> None:
        """/dev/urandom is read by numbers of bytes; it has no end, and no lines."""
        statements = """
            local file = assert(io.open("/dev/urandom", "rb"))
            con:puts(#file:read(16), " ", #file:read(1000), " ", io.type(file), " ")
            local ok, problem = pcall(file.read, file, "*a")
            con:puts(problem)
            assert(not pcall(file.read, file, "*l") and not pcall(file.lines, file) and not pcall(file.read, file, 2e9))
            assert(file:close() and io.type(file) == "closed file" and not pcall(file.read, file, 1))
        """
        expected = "16 1000 file /dev/urandom has no end: read a number of bytes, 1048576 at most"
        assert lua.main(statements).text == expected

    def test_searchpath_finds_what_require_finds(self, lua: Inside) -> None:
        """Beside the script, where this Lua has the function; a pipe is not waited for."""
        statements = """
            if not package.searchpath then con:puts("ROOT/mod.lua nil") return end
            con:puts(package.searchpath("mod", "./?.lua"), " ", tostring(package.searchpath("pipe", "./?")))
        """
        assert lua.main(statements).text.replace("ROOT", str(lua.root)) == f"{lua.root}/mod.lua nil"


def test_links_are_followed(tmp_path: Path) -> None:
    """Through links of links and loops, outside the folder of the script."""
    rules = FileRules(os.fsencode(tmp_path / "scripts"))
    (tmp_path / "scripts").mkdir()
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("/proc/self")
    (tmp_path / "loop").symlink_to("loop")
    for name, expected in (
        ("a/mem", True), ("a/status", False), ("b/../1/fd/3", True), ("loop/mem", False), ("x", False),
    ):  # fmt: skip
        assert rules.leads_inside(os.fsencode(tmp_path / name)) == expected, name
    assert not rules.leads_inside(os.fsencode(tmp_path / "scripts" / "mem"))
    assert rules.leads_inside(os.fsencode(tmp_path / "scripts" / ".." / "a" / "mem"))


class TestLimit:
    def test_of_a_state(self, lua: Inside) -> None:
        """Past 256 files, opening fails as it does in plain Lua; closed ones count no more."""
        statements = """
            local kept = {}
            local file, problem, number
            repeat
                file, problem, number = io.open("text.txt")
                kept[#kept + 1] = file
            until not file
            con:puts(#kept, " ", problem:match("[^/]*$"), " ", number, " ")
            assert(not pcall(io.lines, "text.txt") and not io.tmpfile())
            for i, file in ipairs(kept) do file:close() end
            con:puts(io.open("text.txt"):read("*l"))
        """
        assert lua.main(statements).text == "256 text.txt: Too many open files 24 one"

    def test_left_files(self, lua: Inside) -> None:
        """What was opened and forgotten is collected before anything fails."""
        statements = """
            for i = 1, 600 do assert(io.open("text.txt")) end
            for i = 1, 600 do for line in io.lines("text.txt") do break end end
            for i = 1, 600 do local file = assert(io.open("text.txt")) file:close() end
            for i = 1, 300 do assert(io.tmpfile()) io.input("text.txt") end
            con:puts("all")
        """
        assert lua.main(statements).text == "all"

    def test_random_bytes_are_no_open_files(self, lua: Inside) -> None:
        """They count neither as open nor as lost."""
        assert lua.engine.files is not None
        before = lua.engine.files.taken
        state = lua.load(
            """
            function main(env, con)
                kept = {}
                for i = 1, 600 do
                    kept[i % 10] = assert(io.open("/dev/urandom"))
                    assert(#kept[i % 10]:read(4) == 4)
                end
                collectgarbage()
                con:puts("read")
            end
            """
        )
        assert lua.run(state).text == "read"
        assert state.is_healthy
        assert lua.engine.files.taken == before
        state.close()
        assert lua.engine.lost_files == 0

    def test_of_the_process(self, lua: Inside) -> None:
        """States share what the process has; it is given back after a request, and at the end of a state."""
        assert lua.engine.files is not None
        before = lua.engine.files.taken
        text = """
            function main(env, con)
                kept = kept or {}
                for i = 1, tonumber(env.N) do
                    local file, problem, number = io.open("text.txt")
                    if not file then con:puts(number) return end
                    kept[i] = file
                end
                if env.CLOSE then for _, file in ipairs(kept) do file:close() end kept = nil end
                con:puts("opened")
            end
        """
        one, other = lua.load(text), lua.load(text)
        assert lua.run(one, Request({"N": "200"})).text == "opened"
        assert lua.engine.files.taken - before == 200
        assert lua.run(other, Request({"N": "200"})).text == "24"
        other.close()
        assert lua.run(one, Request({"N": "0", "CLOSE": "1"})).text == "opened"
        assert lua.engine.files.taken - before == 0
        assert lua.run(one, Request({"N": "200"})).text == "opened"
        one.close()
        assert lua.engine.files.taken == before

    def test_the_server_keeps_some(self, tmp_path: Path) -> None:
        """A script that opens all files there are leaves requests enough to be served."""
        opens = """
            kept = {}
            function main() while true do kept[#kept + 1] = io.open('/dev/null') or error('no more') end end
        """
        scripts = {f"open{number}.lua": opens for number in range(6)}
        scripts["good.lua"] = "function main(env, con) con:puts('good') end"
        limited = """
            import os, resource, sys
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
            os.execv(sys.argv[1], sys.argv[1:])
        """
        with Server(tmp_path, scripts, before=(sys.executable, "-c", textwrap.dedent(limited))) as server:
            for name in scripts:
                assert server.get(name).status == (200 if name == "good.lua" else 500)
                assert server.get("good.lua").body == b"good"

    @pytest.mark.parametrize("version", FLAVOURS)
    def test_files_that_lua_forgets(self, version: str, tmp_path: Path) -> None:
        """Where finalizers fail, too deep in calls, files stay open: the limits hold, and what is lost is told."""
        program = f"""
            import os
            from pathlib import Path
            from greenfcgi.quota import Quota
            from tests.support.inside import Inside, Request

            def opened():
                found = 0
                for name in os.listdir("/proc/self/fd"):
                    if os.path.lexists("/proc/self/fd/" + name):
                        found += os.readlink("/proc/self/fd/" + name).endswith("forgotten.txt")
                return found

            lua = Inside(Path({str(tmp_path)!r}), {version!r}, "[lua]\\nmemory = '4M'\\n")
            lua.engine.files = Quota(400)
            for requests in (1, 2):
                state = lua.load({FORGETS!r})
                before = lua.engine.files.taken
                lua.run(state, Request(seconds=0.7))
                state.close()
                lost = lua.engine.files.taken - before
                assert lost <= 256 and lua.engine.files.taken == lua.engine.lost_files
                # One that the end of a request has kept from being counted is closed by its finalizer, or lost as well.
                assert 0 <= opened() - lua.engine.lost_files <= requests
                assert (f": {{lost}} files stay open" in lua.log()) == (lost > 0)
                lua.forget_log()
            print("ended", lua.engine.lost_files > 0)
        """
        done = run_python(program)
        assert (done.returncode, done.stdout[:6]) == (0, "ended "), done.stdout + done.stderr
        if version == "lua54":
            assert done.stdout == "ended True\n"

    def test_a_process_that_has_lost_many(self, tmp_path: Path) -> None:
        """Another takes its place."""
        good = "function main(env, con) io.open('x', 'w'):close() con:puts('good') end"
        scripts = {"forgets.lua": FORGETS, "good.lua": good}
        settings = 'processes = 1\ntimeout = 1\n[lua]\nversion = "lua54"\nmemory = "4M"\n'
        with Server(tmp_path, scripts, settings, before=("prlimit", "--nofile=2200:2200")) as server:
            assert server.get("forgets.lua").status == 504
            server.logged("files of scripts stay open for ever: leaving for another process")
            server.logged("replacing it")
            assert server.get("good.lua").body == b"good"


class TestStreams:
    def test_output_goes_to_the_log(self, lua: Inside) -> None:
        """Line by line, as `print` does; errors as warnings; the rest when the request ends."""
        statements = """
            io.write("a", 1, "\\nb")
            io.stdout:write("c\\n", "left")
            io.stderr:write("bad\\27[2J\\n")
            assert(io.output() == io.stdout and io.type(io.stdout) == "file" and io.type(io.stderr) == "file")
            assert(not io.stdout:close() and tostring(io.stdout):find("^file %("))
            con:puts("page")
        """
        assert lua.main(statements).text == "page"
        texts = [line.partition("] [")[2].partition("] [")[2] for line in lua.log().splitlines()]
        found = [(text.partition("]")[0], text.rpartition(": ")[2]) for text in texts]
        assert found == [("INFO", "a1"), ("INFO", "bc"), ("WARNING", "bad\\x1b[2J"), ("INFO", "left")]

    def test_output_that_is_set(self, lua: Inside) -> None:
        """io.output leads to a file, and back."""
        statements = """
            io.output("out.txt")
            io.write("to the file")
            io.close()
            io.output(io.stdout)
            con:puts(io.open("out.txt"):read("*a"))
        """
        assert lua.main(statements).text == "to the file"
        assert lua.log() == ""

    def test_what_cannot_be_written(self, lua: Inside) -> None:
        """The error is that of Lua's own files."""
        error = lua.main("local a\nio.write({})").error
        assert "page.lua:3: bad argument #1 to 'write' (string expected, got table)" in error

    def test_warnings(self, lua: Inside) -> None:
        """From 5.4 on there are warnings: off at first, and then for the log."""
        assert lua.main("if warn then warn('a') warn('@on') warn('b', 'c') end con:puts('on')").text == "on"
        assert ("Lua warning: bc" in lua.log()) == (lua.engine.name in ("Lua 5.4", "Lua 5.5"))
        assert "warning: a" not in lua.log()


READS = """
function main(env, con)
    io.write("by io.write\\n")
    io.stdout:write("by stdout\\n")
    io.stderr:write("by stderr\\n")
    print("by print")
    local lines = 0
    for line in io.lines() do lines = lines + 1 end
    con:puts(tostring(io.read()), " ", tostring(io.stdin:read("*l")), " ", lines, " ")
    con:puts(tostring(io.read("*a") == ""), " ", tostring(io.stdin:read(1)))
end
"""
READ = b"nil nil 0 true nil"
WRITTEN = ("by io.write", "by stdout", "by stderr", "by print")


@pytest.mark.parametrize("closed", [(), (0,), (1,), (0, 1, 2)], ids=["open", "no input", "no output", "none"])
@pytest.mark.parametrize("processes", [0, 1, 2])
def test_standard_streams(tmp_path: Path, processes: int, closed: tuple[int, ...]) -> None:
    """Whatever the process was started with as its input, it is at its end at once; output goes to the log."""
    server = Server(tmp_path, {"read.lua": READS}, f'processes = {processes}\nerrorlog = "error.log"\n')
    server.log_path = tmp_path / "error.log"
    program = f"""
        import os, sys
        for descriptor in {closed}: os.close(descriptor)
        os.execv(sys.executable, [sys.executable, "-m", "greenfcgi", "config.toml"])
    """
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with open(tmp_path / "output", "wb") as output, subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=tmp_path, env=environment,
    ) as process:  # fmt: skip
        server.process = process
        try:
            # The file of the socket is there a moment before anybody may connect.
            server.logged(" serves ")
            assert server.get("read.lua").body == READ
            for line in WRITTEN:
                assert server.log().count(f"GET /read.lua: {line}\n") == 1
            server.stop()
        finally:
            process.kill()
    assert not any(line in (tmp_path / "output").read_text() for line in WRITTEN)


def test_standard_streams_of_one_request(tmp_path: Path) -> None:
    """--try: the input is not read, and only the page is in the output."""
    server = Server(tmp_path, {"read.lua": READS})
    done = subprocess.run(
        [sys.executable, "-m", "greenfcgi", "--try", "/read.lua", str(server.config)],
        input=b"some input\n", capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.endswith(b"\r\n\r\n" + READ)
    for line in WRITTEN:
        assert line in done.stderr.decode()
        assert line not in done.stdout.decode()


def test_standard_streams_of_the_developer_mode(tmp_path: Path) -> None:
    """The terminal shows what is written; its input is not read."""
    with Developing(tmp_path, {"read.lua": READS}) as dev:
        assert dev.ask("/read.lua").text == READ.decode()
        for line in WRITTEN:
            assert dev.logged(f"GET /read.lua: {line}\n").count(line) == 1
