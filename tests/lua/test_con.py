"""The connection object `con`: headers, output, body, settings, log, on every Lua."""

from __future__ import annotations

import http
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.client import Client

from ..support.inside import FLAVOURS, Inside, Request, encoded, run_python
from ..support.running import Server, until

STATUS = "Status: 200 OK"
TYPE = "Content-Type: text/html"


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """One flavour after the other, with default settings."""
    inside = Inside(tmp_path_factory.mktemp(request.param), request.param)
    yield inside
    inside.close()


@pytest.fixture
def luajit(tmp_path: Path) -> Iterator[Callable[[str], Inside]]:
    """The default flavour, with settings of a test's own."""
    made: list[Inside] = []

    def make(settings: str) -> Inside:
        made.append(Inside(tmp_path, settings=settings))
        return made[-1]

    yield make
    for inside in made:
        inside.close()


def warnings(lua: Inside) -> list[str]:
    """The warnings in the log, without those about the flavour."""
    lines = re.findall(r"\[WARNING\] (.*)", lua.log())
    return [line for line in lines if not line.startswith("lua.memory")]


def page(lua: Inside) -> str:
    """The name that messages have for the script."""
    return str(lua.root / "page.lua")


def placed(error: str, line: int) -> bool:
    """An error's message begins with this line of the script. Lua shortens a long path at its beginning."""
    return re.match(rf"\S*/page\.lua:{line}: ", error) is not None


class TestHeaders:
    @pytest.mark.parametrize(
        ("statements", "expected"),
        [
            ("", [STATUS, TYPE]),
            ("con:header('X-A', 'b c')", [STATUS, TYPE, "X-A: b c"]),
            ("con:header('X-A: b: c')", [STATUS, TYPE, "X-A: b: c"]),
            ("con:header('X-A:  b')", [STATUS, TYPE, "X-A: b"]),
            ("con:header('X-A', '')", [STATUS, TYPE, "X-A: "]),
            ("con:header('X-A:')", [STATUS, TYPE, "X-A: "]),
            ("con:header('X-A', 1) con:header('X-A', 2)", [STATUS, TYPE, "X-A: 1", "X-A: 2"]),
            ("con:header('Set-Cookie', 'a=1') con:header('Set-Cookie', 'b=2')",
             [STATUS, TYPE, "Set-Cookie: a=1", "Set-Cookie: b=2"]),
            ("con:header('Content-Type', 'text/plain')", [STATUS, "Content-Type: text/plain"]),
            ("con:header('content-TYPE: a') con:header('Content-Type', 'b')", [STATUS, "Content-Type: b"]),
            ("con:header('ETag', '1') con:header('X', 'y') con:header('etag', '2')", [STATUS, TYPE, "etag: 2", "X: y"]),
            ("con:header('Last-Modified', 'a') con:header('Last-Modified', 'b')", [STATUS, TYPE, "Last-Modified: b"]),
            ("con:header('X-Accel-Redirect', '/a') con:header('X-Accel-Redirect', '/b')",
             [STATUS, TYPE, "X-Accel-Redirect: /b"]),
            ("con:header('X-Sendfile', '/a')", [STATUS, TYPE, "X-Sendfile: /a"]),
            ("con:header('Status', '404 Nowhere')", ["Status: 404 Nowhere", TYPE]),
            ("con:header('Status: 404')", ["Status: 404 Not Found", TYPE]),
            ("con:header('status', 404)", ["Status: 404 Not Found", TYPE]),
            ("con:header('Status', '404 Nowhere') con:status(410)", ["Status: 410 Gone", TYPE]),
            ("con:header('Location', '/x')", ["Status: 302 Found", TYPE, "Location: /x"]),
            ("con:header('Location', '/x') con:status(201)", ["Status: 201 Created", TYPE, "Location: /x"]),
            ("con:status(301) con:header('location', '/x')", ["Status: 301 Moved Permanently", TYPE, "location: /x"]),
            ("con:header('X-Half', 0.5)", [STATUS, TYPE, "X-Half: 0.5"]),
            ("con:header('X-Five', 10 / 2)", [STATUS, TYPE, "X-Five: 5"]),
            ("con:header('X-Tab', 'a\\tb')", [STATUS, TYPE, "X-Tab: a\tb"]),
            ("con:header('X-High', '\\195\\169')", [STATUS, TYPE, "X-High: é"]),
        ],
    )  # fmt: skip
    def test_become_lines(self, lua: Inside, statements: str, expected: list[str]) -> None:
        """Each way to set headers gives these lines, and no warning."""
        assert lua.main(statements).lines == expected
        assert warnings(lua) == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("'X-A', 'b\\r\\nX-B: c'", "header 'X-A': its value has a line break or a zero byte"),
            ("'X-A', 'b\\rc'", "header 'X-A': its value has a line break"),
            ("'X-A', 'b\\nc'", "header 'X-A': its value has a line break"),
            ("'X-A', 'b\\0c'", "header 'X-A': its value has a line break or a zero byte"),
            ("'X-A: b\\r\\nX-B: c'", "header 'X-A': its value has a line break"),
            ("'X-A: b\\n'", "header 'X-A': its value has a line break"),
            ("'Location', '/x\\r\\n\\r\\n<script>'", "header 'Location': its value has a line break"),
            ("'Status', '200 OK\\nX: y'", "header 'Status': its value has a line break"),
            ("'X A', 'b'", "header 'X A': its name has a character"),
            ("'X:A', 'b'", "header 'X:A': its name has a character"),
            ("'', 'b'", "header '': its name has a character"),
            ("' X-A: b'", "header ' X-A': its name has a character"),
            ("'X-A : b'", "header 'X-A ': its name has a character"),
            ("'X\\r\\nY', 'b'", "header 'X\\x0D\\x0AY': its name has a character"),
            ("'X\\0', 'b'", "header 'X\\x00': its name has a character"),
            ("'\\195\\169', 'b'", "its name has a character"),
            ("'no colon'", "header 'no colon': expected 'Name: value', found no colon"),
            ("'Status', '99'", "header 'Status': found '99', expected a number from 200 to 999"),
            ("'Status', '100 Continue'", "header 'Status': found '100 Continue', expected"),
            ("'Status', '2001'", "header 'Status': found '2001', expected"),
            ("'Status', 'OK'", "header 'Status': found 'OK', expected"),
            ("'Content-Length', '-1'", "header 'Content-Length': found '-1', expected a number of bytes"),
            ("'Content-Length', '0x10'", "header 'Content-Length': found '0x10', expected"),
            ("'Content-Length', 1.5", "header 'Content-Length': found '1.5', expected"),
            ("'Content-Length', ('9'):rep(400)", "header 'Content-Length': found '999"),
            ("", "bad argument #1 to 'header' (string expected, got nil)"),
            ("5, 'x'", "bad argument #1 to 'header' (string expected, got number)"),
            ("'X', {}", "bad argument #2 to 'header' (string expected, got table)"),
            ("'X', true", "bad argument #2 to 'header' (string expected, got boolean)"),
            ("'X', false", "bad argument #2 to 'header' (string expected, got boolean)"),
        ],
    )
    def test_bad_ones_are_refused(self, lua: Inside, arguments: str, message: str) -> None:
        """A header that could break the reply is an error that names it and the line; nothing of it is sent."""
        error = lua.main(f"local a = 1\ncon:header({arguments})").error
        assert placed(error, 3)
        assert message in error
        answer = lua.main(f"pcall(con.header, con, {arguments or 'nil'})")
        assert answer.lines == [STATUS, TYPE]

    def test_transfer_encoding_is_dropped(self, lua: Inside) -> None:
        """The web server chooses the transfer encoding: the header is left out, with a warning."""
        assert lua.main("con:header('transfer-Encoding', 'chunked') con:puts('x')").lines == [STATUS, TYPE]
        assert len(warnings(lua)) == 1
        assert "header Transfer-Encoding dropped" in warnings(lua)[0]

    def test_after_they_have_been_sent(self, lua: Inside) -> None:
        """Headers and a status that come too late are left out, with a warning each."""
        answer = lua.main("con:puts('a') con:flush() con:header('X-Late', 'b') con:status(404) con:puts('c')")
        assert (answer.lines, answer.text) == ([STATUS, TYPE], "ac")
        assert warnings(lua) == [
            f"{page(lua)}: GET /page.lua: {what} ignored: the headers have been sent already"
            for what in ("header 'X-Late'", "status 404")
        ]

    def test_one_request_leaves_none_for_the_next(self, lua: Inside) -> None:
        """Status and headers of one request are gone in the next one, also after an error."""
        state = lua.load(
            """
            n = 0
            function main(env, con)
                n = n + 1
                if n == 1 then con:status(404) con:header('X-A', 'b') con:header('Content-Type', 'c') con:puts('d') end
                if n == 2 then con:header('X-A', 'b') con:puts('d') error('e') end
            end
            """
        )
        assert lua.run(state).lines == ["Status: 404 Not Found", "Content-Type: c", "X-A: b"]
        assert "e" in lua.run(state).error
        answer = lua.run(state)
        assert (answer.status, answer.lines, answer.text) == (200, [STATUS, TYPE], "")

    def test_defaults_are_settings(self, luajit: Callable[[str], Inside]) -> None:
        """http_status, content_type and headers of the configuration are what every reply begins with."""
        lua = luajit(
            """
            [scripts]
            http_status = "203 As Told"
            content_type = "text/plain; charset=utf-8"
            headers = ["X-Powered-By: Lua", "X-Two:a", "X-Two: b"]
            """
        )
        mine = ["Content-Type: text/plain; charset=utf-8", "X-Powered-By: Lua", "X-Two: a", "X-Two: b"]
        assert lua.main("").lines == ["Status: 203 As Told", *mine]
        assert lua.main("").status == 203
        assert lua.main("con:status(500)").lines == ["Status: 500 Internal Server Error", *mine]
        assert lua.main("con:header('X-C', 'd')").lines == ["Status: 203 As Told", *mine, "X-C: d"]
        assert lua.main("con:header('Content-Type', 'e')").lines[:2] == ["Status: 203 As Told", "Content-Type: e"]

    def test_large_block_warns_once(self, serve: Callable[..., Server]) -> None:
        """A header block over 4 KiB is sent as it is; the log warns of it once for each script."""
        server = serve(
            {
                "a.lua": "function main(env, con) con:header('X-A', ('a'):rep(4096)) end",
                "b.lua": "function main(env, con) con:header('X-A', ('a'):rep(4000)) end",
            }
        )
        for name in ("a.lua", "a.lua", "b.lua", "a.lua"):
            reply = server.get(name)
            assert (reply.status, set(reply.head["x-a"][0])) == (200, {"a"})
        assert server.log().count("a header block of ") == 1
        assert f"{server.root}/a.lua: a header block of 4" in server.log()


class TestStatus:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ("200", "200 OK"), ("404", "404 Not Found"), ("404, 'Nowhere To Be Seen'", "404 Nowhere To Be Seen"),
            ("299", "299 Status"), ("999", "999 Status"), ("404.0", "404 Not Found"), ("404, ''", "404 "),
        ],
    )  # fmt: skip
    def test_line(self, lua: Inside, arguments: str, expected: str) -> None:
        """A number, and a reason of the script's or the usual one."""
        answer = lua.main(f"con:status({arguments})")
        assert answer.lines[0] == f"Status: {expected}"
        assert answer.status == int(expected[:3])
        assert type(answer.status) is int

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("100", "status 100: expected a whole number from 200 to 999"),
            ("199", "status 199: expected"),
            ("1000", "status 1000: expected"),
            ("-200", "status -200: expected"),
            ("200.5", "status 200.5: expected"),
            ("1/0", "expected a whole number"),
            ("0/0", "expected a whole number"),
            ("'200'", "bad argument #1 to 'status' (number expected, got string)"),
            ("", "bad argument #1 to 'status' (number expected, got nil)"),
            ("200, 5", "bad argument #2 to 'status' (string expected, got number)"),
            ("200, 'a\\r\\nb'", "status: its reason has a line break or a zero byte"),
            ("200, 'a\\0b'", "status: its reason has a line break or a zero byte"),
        ],
    )
    def test_refused(self, lua: Inside, arguments: str, message: str) -> None:
        """What no response can have is an error at the line of the call."""
        error = lua.main(f"con:status({arguments})").error
        assert placed(error, 2)
        assert message in error


class TestOutput:
    @pytest.mark.parametrize(
        ("statements", "expected"),
        [
            ("con:puts('a') con:puts('') con:puts('b')", "ab"),
            ("con:puts('a\\0b\\r\\n\\255')", "a\0b\r\n\udcff"),
            ("con:puts(5) con:puts(0.5) con:puts(-1)", "50.5-1"),
            ("con:puts('a') con:reset() con:puts('b')", "b"),
            ("con:puts('a') con:flush() con:puts('b') con:reset() con:puts('c')", "ac"),
            ("con:flush() con:flush() con:puts('a') con:flush() con:flush()", "a"),
            ("con:reset() con:reset()", ""),
            ("local puts = con.puts puts(con, 'a')", "a"),
            ("for i = 1, 40000 do con:puts(i % 10) end", "1234567890" * 4000),
        ],
    )
    def test_puts(self, lua: Inside, statements: str, expected: str) -> None:
        """Text and numbers, whatever bytes; what has been reset is gone, what has been flushed is not."""
        assert lua.main(statements).body.decode("utf-8", "surrogateescape") == expected

    @pytest.mark.parametrize(
        ("statements", "message"),
        [
            ("con:puts(nil)", "bad argument #1 to 'puts' (string expected, got nil)"),
            ("con:puts()", "bad argument #1 to 'puts' (string expected, got nil)"),
            ("con:puts({})", "bad argument #1 to 'puts' (string expected, got table)"),
            ("con:puts(true)", "bad argument #1 to 'puts' (string expected, got boolean)"),
            ("con.puts('a')", "con.puts called with a dot: write con:puts(...)"),
            ("con.puts()", "con.puts called with a dot"),
            ("con.header('X', 'y')", "con.header called with a dot: write con:header(...)"),
            ("con.status(200)", "con.status called with a dot"),
            ("con.gets()", "con.gets called with a dot"),
            ("con.flush()", "con.flush called with a dot"),
            ("con.reset()", "con.reset called with a dot"),
            ("con.log('a')", "con.log called with a dot: write con:log(...)"),
            ("con:sleep()", "bad argument #1 to 'sleep' (found nil, expected seconds from 0 up)"),
            ("con:sleep(-1)", "(found -1, expected seconds from 0 up)"),
            ("con:sleep(0/0)", "expected seconds from 0 up"),
            ("con:sleep('1')", "(found 1, expected seconds from 0 up)"),
            ("con:log('loud', 'a')", "log level 'loud': expected debug, info, warning, error or critical"),
            ("con:log('a\\nb', 'a')", "log level 'a\\x0Ab': expected debug"),
            ("con:gets(-1)", "bad argument #1 to 'gets' (found -1, expected a whole number of bytes from 0 up)"),
            ("con:gets(1.5)", "(found 1.5, expected a whole number"),
            ("con:gets(1/0)", "expected a whole number"),
            ("con:gets('5')", "(found 5, expected a whole number"),
        ],
    )
    def test_wrong_calls(self, lua: Inside, statements: str, message: str) -> None:
        """A wrong call is an error at the script's own line, that says what was found."""
        error = lua.main(f"local a = 1\n{statements}").error
        assert placed(error, 3)
        assert message in error

    def test_con_of_a_request_that_has_ended(self, lua: Inside) -> None:
        """A con that was kept does nothing to the next request, nor to a hook."""
        state = lua.load(
            """
            function main(env, con)
                if kept then
                    local results = {}
                    for _, name in ipairs { "puts", "flush", "reset", "header", "status", "gets" } do
                        local ok, problem = pcall(function() kept[name](kept, 200) end)
                        results[#results + 1] = tostring(ok) .. problem:match("con:%a+: .*")
                    end
                    con:puts(table.concat(results, "\\n"))
                end
                kept, puts = con, con.puts
            end
            function heartbeat(con)
                con:log(tostring(pcall(puts, nil, "a")) .. tostring(pcall(puts, kept, "a")) .. tostring(con.puts))
            end
            """
        )
        lua.run(state)
        assert lua.run(state).text.split("\n") == [
            f"falsecon:{name}: this con belongs to a request that has ended"
            for name in ("puts", "flush", "reset", "header", "status", "gets")
        ]
        state.hook("heartbeat")
        assert "falsefalsenil" in lua.log()

    def test_long_output_leaves_in_parts(self, lua: Inside) -> None:
        """Past 1 MiB, output streams: a state of a few megabytes can send any length."""
        request = Request()
        answer = lua.main("local line = ('x'):rep(1023) .. '\\n' for i = 1, 20000 do con:puts(line) end", request)
        assert answer.body == (b"x" * 1023 + b"\n") * 20000
        assert len(request.parts) == 19
        assert max(len(data) for _, _, data in request.parts) < 1100000

    def test_small_pieces_need_little_memory(self, lua: Inside) -> None:
        """A page of more than a million single characters stays within the memory of a state."""
        answer = lua.main("for i = 1, 1100000 do con:puts('x') end")
        assert (answer.failure, len(answer.body)) == (None, 1100000)

    def test_unbuffered(self, luajit: Callable[[str], Inside]) -> None:
        """With buffering off, each puts leaves at once, the first one with the headers."""
        request = Request()
        lua = luajit("[scripts]\nbuffering = false")
        assert lua.main("con:status(404) con:puts('a') con:puts('') con:puts('b')", request).text == "ab"
        assert [(status, data) for status, _, data in request.parts] == [(404, b"a"), (0, b"b")]

    @pytest.mark.parametrize("call", ["con:puts(('x'):rep(2e6))", "con:flush()", "con:sleep(1)"])
    def test_client_that_has_gone(self, lua: Inside, call: str) -> None:
        """What waits for a client that has gone ends the script, and nothing that it does keeps it going."""
        first, second = Request(), Request()
        first.gone = second.gone = True
        assert lua.main(call, first).error == "the client has gone"
        loop = f"while true do pcall(function() {call} end) xpcall(function() {call} end, tostring) end"
        assert "the client has gone" in lua.main(f"coroutine.wrap(function() {loop} end)()", second).error


class TestNoBody:
    @pytest.mark.parametrize("rest", ["", "con:flush() con:puts('b')", "con:puts(('x'):rep(2e6))"])
    @pytest.mark.parametrize("status", [204, 304])
    def test_status_without(self, lua: Inside, status: int, rest: str) -> None:
        """204 and 304 have no body, whatever the script writes."""
        answer = lua.main(f"con:status({status}) con:header('X-A', 'b') con:puts('a') {rest}")
        assert (answer.status, answer.text, answer.lines[-1]) == (status, "", "X-A: b")

    @pytest.mark.parametrize("rest", ["", "con:flush() con:puts('b')", "con:puts(('x'):rep(2e6))"])
    def test_head(self, lua: Inside, rest: str) -> None:
        """A reply to HEAD has the headers of the reply to GET, and no body."""
        request = Request({"REQUEST_METHOD": "HEAD"}, head_only=True)
        answer = lua.main(f"con:header('Content-Length', 3) con:puts('abc') {rest}", request)
        assert (answer.text, answer.lines) == ("", [STATUS, TYPE, "Content-Length: 3"])
        assert warnings(lua) == []

    def test_content_length_of_not_modified(self, lua: Inside) -> None:
        """304 may tell the length that the body of a 200 would have."""
        assert "Content-Length: 300" in lua.main("con:status(304) con:header('Content-Length', 300)").lines
        assert warnings(lua) == []

    def test_through_the_server(self, serve: Callable[..., Server]) -> None:
        """No byte of a body leaves the server for HEAD."""
        server = serve({"a.lua": "function main(env, con) con:puts(env.REQUEST_METHOD) end"})
        assert server.get("a.lua").body == b"GET"
        reply = server.get("a.lua", REQUEST_METHOD="HEAD")
        assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize("result", ["nil", "{}"])
def test_what_is_logged_is_text(lua: Inside, result: str) -> None:
    """A `__tostring` that returns something else is an error of the script."""
    statements = f"""
        local value = setmetatable({{}}, {{ __tostring = function() return {result} end }})
        local ok, problem = pcall(con.log, con, value)
        con:puts(tostring(ok) .. " " .. type(problem) .. " " .. tostring(problem))
    """
    assert lua.main(statements).text.startswith("false string ")


@pytest.mark.parametrize("buffering", ["true", "false"])
@pytest.mark.parametrize("version", FLAVOURS)
def test_finalizers_that_write(version: str, buffering: str, tmp_path: Path) -> None:
    """They may run while something else is being written: nothing is sent twice, and nothing is lost."""
    lua = Inside(tmp_path, version, f"[scripts]\nbuffering = {buffering}\n")
    script = """
        local ran = 0
        local function make()
            local function finalizer()
                ran = ran + 1
                for _ = 1, 5 do con:puts("g") end
            end
            if not newproxy then return setmetatable({}, { __gc = finalizer }) end
            local proxy = newproxy(true)
            getmetatable(proxy).__gc = finalizer
            return proxy
        end
        function main(env, c)
            con = c
            for i = 1, 3000 do
                make()
                con:puts(("z"):rep(100) .. i % 10, ".", i % 10)
                if i % 500 == 0 then con:flush() end
            end
            for i = 1, 20000 do con:puts("y") end
            collectgarbage() collectgarbage()
            con:header("X-Late", "ignored")
            con:puts("=", ran, ";")
        end
    """
    for _ in range(3):
        body = lua.run(lua.load(script)).text
        found = re.search(r"=(\d+);", body)
        assert found is not None
        ran = int(found[1])
        assert ran > 0
        assert [body.count(letter) for letter in "zgy."] == [300_000, 5 * ran, 20_000, 3000]
    lua.close()


@pytest.mark.parametrize("version", ["luajit21", "luajit20"])
def test_numbers_of_ffi_in_text(version: str, tmp_path: Path) -> None:
    """LuaJIT's parser loads its ffi for them, which scripts do not get; what it needs stays to the state's end."""
    statements = """
        local number = loadstring("return 1LL")()
        for _ = 1, 5 do
            collectgarbage()
            for i = 1, 5000 do kept = { kept and i, i, x = i } end
        end
        for i = 1, 300 do
            pcall(function() return number + {} end)
            pcall(function() return number.x end)
            pcall(function() return number == "a" end)
            pcall(function() return #number end)
            pcall(tostring, number)
        end
        assert(package.loaded.ffi == nil and not pcall(require, "ffi"))
        con:puts("on")
    """
    program = f"""
        from pathlib import Path
        from tests.support.inside import Inside
        lua = Inside(Path({str(tmp_path)!r}), {version!r})
        for _ in range(5):
            state = lua.load({"function main(env, con) " + statements + " end"!r})
            assert lua.run(state).text == "on"
            state.close()
        print("ended")
    """
    # What has been freed is overwritten, where the C library knows this.
    done = run_python(program, MALLOC_PERTURB_="165")
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


class TestContentLength:
    def test_right(self, lua: Inside) -> None:
        """A length that is kept is sent without a word."""
        answer = lua.main("con:header('Content-Length', 3) con:puts('abc')")
        assert (answer.text, answer.lines[-1]) == ("abc", "Content-Length: 3")
        assert warnings(lua) == []

    @pytest.mark.parametrize("flush", ["", "con:flush()"])
    def test_too_small(self, lua: Inside, flush: str) -> None:
        """Output beyond the length is cut off, with one warning."""
        puts = " ".join(f"con:puts('{text}') {flush}" for text in ("ab", "cd", "ef"))
        answer = lua.main(f"con:header('Content-Length', '3') {puts}")
        assert (answer.text, answer.lines[-1]) == ("abc", "Content-Length: 3")
        assert len(warnings(lua)) == 1
        assert "Content-Length says 3, but the script wrote more: cut off" in warnings(lua)[0]

    def test_too_large(self, lua: Inside) -> None:
        """A length that the body does not reach is taken out of the headers, with a warning."""
        headers = "con:header('X-A', 'b') con:header('Content-Length', 5) con:header('X-C', 'd')"
        answer = lua.main(f"{headers} con:puts('abc')")
        assert (answer.text, answer.lines) == ("abc", [STATUS, TYPE, "X-A: b", "X-C: d"])
        assert len(warnings(lua)) == 1
        assert "Content-Length says 5, but the script wrote 3 bytes: header dropped" in warnings(lua)[0]

    def test_too_large_for_a_stream(self, lua: Inside) -> None:
        """When the header has gone already, the reply fails behind what has been written: it must not look whole."""
        answer = lua.main("con:header('Content-Length', 5) con:puts('ab') con:flush() con:puts('c')")
        assert (answer.body, answer.lines[-1]) == (b"abc", "Content-Length: 5")
        assert answer.error == "Content-Length says 5, but the script wrote 3 bytes"

    def test_too_large_for_a_stream_of_head(self, lua: Inside) -> None:
        """The reply to HEAD has no body, whatever its header says."""
        request = Request({"REQUEST_METHOD": "HEAD"})
        answer = lua.main("con:header('Content-Length', 5) con:puts('ab') con:flush()", request)
        assert (answer.text, answer.lines[-1]) == ("", "Content-Length: 5")


class TestBody:
    @pytest.mark.parametrize(
        ("body", "statements", "expected"),
        [
            (b"abc", "con:puts(con:gets())", "abc"),
            (b"a\0b\r\n\xff", "con:puts(#con:gets())", "6"),
            (b"", "con:puts(type(con:gets()) .. type(con:gets(1)))", "stringnil"),
            (b"abcdefg", "for part in function() return con:gets(3) end do con:puts(part .. '.') end", "abc.def.g."),
            (b"abc", "con:puts(con:gets(2)) con:puts(con:gets()) con:puts(type(con:gets(1)))", "abcnil"),
            (b"abc", "con:gets() con:puts('[' .. con:gets() .. ']')", "[]"),
            (b"abc", "con:puts(con:gets(2.0))", "ab"),
            (b"abc", "con:puts('[', con:gets(0), ']', con:gets(), '[', con:gets(0), ']')", "[]abc[]"),
            (b"", "con:puts('[', con:gets(0), ']')", "[]"),
            (b"abc", "con:puts(con:gets(1e300))", "abc"),
            (b"abc", "con:puts(select('#', con:gets()))", "1"),
        ],
    )
    def test_gets(self, lua: Inside, body: bytes, statements: str, expected: str) -> None:
        """The whole rest, or parts; at the end "" for the rest, and nil for a part."""
        assert lua.main(statements, Request(body=body)).text == expected

    @pytest.mark.parametrize("call", ["con:gets()", "con:gets(100)", "f()"])
    def test_difference_is_the_second_value(self, lua: Inside, call: str) -> None:
        """A body that differs from CONTENT_LENGTH is handed over, with a text that says how."""
        request = Request(body=b"abc")
        request.problem = "the body has 3 bytes, but CONTENT_LENGTH says 5"
        statements = f"""
            function f() con:gets(3) return con:gets(1) end
            local body, problem = {call}
            con:puts(tostring(body) .. ": " .. problem)
        """
        body = "nil" if call == "f()" else "abc"
        assert lua.main(statements, request).text == f"{body}: the body has 3 bytes, but CONTENT_LENGTH says 5"

    def test_body_that_cannot_be_read(self, lua: Inside) -> None:
        """A disk that fails is an error that a script can catch."""
        request = Request()
        request.failure = OSError(5, "Input/output error")
        assert lua.main("con:gets()", request).error == "cannot read the request's body: Input/output error"
        assert lua.main("con:puts(select(2, pcall(con.gets, con)))", request).text.startswith("cannot read")

    @pytest.mark.parametrize(
        ("length", "expected"),
        [
            ("3", "abc nil"), ("", "abc nil"), ("-1", "abc nil"), ("junk", "abc nil"),
            ("5", "abc the body has 3 bytes, but CONTENT_LENGTH says 5"),
            ("1", "abc the body has 3 bytes, but CONTENT_LENGTH says 1"),
        ],
    )  # fmt: skip
    def test_through_the_server(self, serve: Callable[..., Server], length: str, expected: str) -> None:
        """The end of the stream ends the body, and CONTENT_LENGTH is compared where it is a length."""
        main = "function main(env, con) local a, b = con:gets() con:puts(a .. ' ' .. tostring(b)) end"
        server = serve({"a.lua": main})
        assert server.get("a.lua", b"abc", CONTENT_LENGTH=length).body.decode() == expected


CONFIG = """
[app]
text = "a\\n\\"b\\"\\u0000\\u007f é"
number = -7
half = 0.5
large = 9007199254740991
yes = true
no = false
list = [1, "two", [3]]
day = 1979-05-27
[app.deep.down]
name = "d"
"1" = "one"
"""


class TestConfig:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("text", "a\n\"b\"\0\x7f é"), ("number", "-7"), ("half", "0.5"), ("yes", "true"), ("no", "false"),
            ("list.1", "1"), ("list.2", "two"), ("list.3.1", "3"), ("deep.down.name", "d"), ("deep.down.1", "one"),
            ("day", "1979-05-27"), ("missing", "nil"), ("deep.missing", "nil"), ("text.missing", "nil"),
            ("list.9", "nil"), ("missing.too", "nil"), ("deep..down.name", "d"), (".", "table"), ("list", "table"),
        ],
    )  # fmt: skip
    def test_values(self, tmp_path: Path, name: str, expected: str) -> None:
        """A setting of [app] by its name, with dots into tables and lists; nil where there is none."""
        for version in FLAVOURS:
            lua = Inside(tmp_path, version, CONFIG)
            text = lua.main(f"con:puts((tostring(con:config('{name}')):gsub('^(table): .*', '%1')))").text
            lua.close()
            assert text == expected, version

    def test_numbers_are_numbers(self, luajit: Callable[[str], Inside]) -> None:
        """Numbers and flags have their type, and whole tables can be had."""
        lua = luajit(CONFIG)
        assert lua.main("con:puts(con:config('number') * 6)").text == "-42"
        assert lua.main("con:puts(string.format('%d', con:config('large')))").text == "9007199254740991"
        assert lua.main("con:puts(#con:config('list') .. con:config('deep').down.name)").text == "3d"
        assert lua.main("con:puts(con:config('no') == false and 'no' or 'wrong')").text == "no"

    def test_like_luafcgid(self, lua: Inside) -> None:
        """A call with a name and a value, as luafcgid's scripts make, does not fail and changes nothing."""
        statements = "con:config('a', 'b') con:puts(tostring(con:config('a')) .. tostring(con:config(5)))"
        assert lua.main(statements).text == "nilnil"


class TestLog:
    @pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical"])
    def test_levels(self, lua: Inside, level: str) -> None:
        """A line of the level, with the script and the request it was written in."""
        lua.main(f"con:log('{level}', 'hello \\0\\r\\n\\27[31m')")
        expected = f"[{level.upper()}] {page(lua)}: GET /page.lua: hello \\x00\\r\\n\\x1b[31m\n"
        assert lua.log().endswith(expected)

    @pytest.mark.parametrize(
        ("call", "expected"),
        [
            ("con:log('hello')", "hello"),
            ("con:log(5)", "5"),
            ("con:log('info', true)", "true"),
            ("print('a', nil, 1, true)", "a\\tnil\\t1\\ttrue"),
            ("print()", ""),
            ("print(nil)", "nil"),
            ("print(setmetatable({}, { __tostring = function() return 'mine' end }))", "mine"),
        ],
    )
    def test_info(self, lua: Inside, call: str, expected: str) -> None:
        """One argument, and print, are of the level info."""
        lua.main(call)
        assert lua.log().endswith(f"[INFO] {page(lua)}: GET /page.lua: {expected}\n")


class TestSleep:
    def test_seconds(self, lua: Inside) -> None:
        """Fractions too, also from a coroutine, and the script goes on afterwards."""
        request = Request()
        statements = "con:sleep(0) coroutine.wrap(function() con:sleep(0.25) con:puts('a') end)() con:sleep(2)"
        assert lua.main(statements, request).text == "a"
        assert request.slept == [0, 0.25, 2]

    def test_others_run_meanwhile(self, serve: Callable[..., Server]) -> None:
        """A script that sleeps holds up nobody, and wakes when its client goes."""
        server = serve(
            {
                "sleep.lua": "function main(env, con) con:log('asleep') con:sleep(3600) con:log('overslept') end",
                "a.lua": "function main(env, con) con:puts('a') end",
            },
            "[states]\nclones = 1\n",
        )
        with server.connect() as connection:
            connection.send(Client.request(server.params("sleep.lua")))
            server.logged("asleep")
            assert server.get("a.lua").body == b"a"
        # Its only state is free again, without an hour's wait.
        with server.connect() as connection:
            connection.send(Client.request(server.params("sleep.lua")))
            until(lambda: server.log().count("asleep") == 2, "the second request's turn")
        assert "overslept" not in server.log()


class TestFlush:
    def test_streams(self, serve: Callable[..., Server]) -> None:
        """What has been flushed reaches the client while the script still runs."""
        server = serve({"a.lua": "function main(env, con) con:puts('a') con:flush() con:sleep(3600) end"})
        with server.connect() as connection:
            connection.send(Client.request(server.params("a.lua")))
            while 1 not in connection.client.replies or connection.client.replies[1].body != b"a":
                connection.receive_some()
            assert connection.client.replies[1].ended is None

    def test_error_after_it(self, serve: Callable[..., Server]) -> None:
        """An error after a part has been sent ends the connection; before that, the reply is a whole 500.

        What ends with END_REQUEST looks complete to every web server.
        """
        server = serve(
            {
                "late.lua": "function main(env, con) con:puts('a') con:flush() con:puts('b') error('late') end",
                "early.lua": "function main(env, con) con:status(201) con:puts('a') error('early') end",
            }
        )
        late, early = server.get_truncated("late.lua"), server.get("early.lua")
        assert (late.status, late.body) == (200, b"a")
        assert (early.status, early.ended) == (500, (0, records.REQUEST_COMPLETE))
        assert b"Internal Server Error" in early.body
        assert "late.lua:1: late" in server.log()


class TestEnvironment:
    @pytest.mark.parametrize(
        ("pairs", "name", "expected"),
        [
            ([], "LUAFCGID_VERSION", "1"),
            ([("A", "b")], "A", "b"),
            ([("A", "b")], "B", "nil"),
            ([("A", "")], "A", ""),
            ([("", "b")], "", "b"),
            ([("A", "a\0b\r\n\udcff")], "A", "a\0b\r\n\udcff"),
            ([("A", "x" * 127)], "A", "x" * 127),
            ([("A", "x" * 128)], "A", "x" * 128),
            ([("A", "x" * 100000), ("B", "c")], "A", "x" * 100000),
            ([("A", "x" * 100000), ("B", "c")], "B", "c"),
            ([("N" * 127, "b")], "N" * 127, "b"),
            ([("N" * 128, "b"), ("C", "d")], "N" * 128, "b"),
            ([("N" * 70000, "x" * 70000), ("C", "d")], "N" * 70000, "x" * 70000),
            ([("N" * 70000, "x" * 70000), ("C", "d")], "C", "d"),
            ([("HTTP_PROXY", "http://evil"), ("A", "b")], "HTTP_PROXY", "nil"),
            ([("HTTP_COOKIE", "a=1"), ("X", "y"), ("HTTP_COOKIE", "b=2")], "HTTP_COOKIE", "a=1; b=2"),
            ([("HTTP_COOKIE", "a=1")] * 3, "HTTP_COOKIE", "a=1; a=1; a=1"),
            ([("A", "b"), ("A", "c")], "A", "c"),
            ([("HTTP_X", "b"), ("HTTP_X", "c"), ("HTTP_X", "d")], "HTTP_X", "b, c, d"),
            ([("HTTP_X", "b" * 200), ("HTTP_X", "c" * 200)], "HTTP_X", "b" * 200 + ", " + "c" * 200),
            ([("HTTP_HOST", "b"), ("HTTP_HOST", "c")], "HTTP_HOST", "b"),
            ([("HTTP_X", ""), ("HTTP_X", "c")], "HTTP_X", ", c"),
            ([], "QUERY_STRING", ""),
            ([], "SERVER_SOFTWARE", ""),
            ([("QUERY_STRING", "\x0f\x01SCRIPT_FILENAMEx")], "SCRIPT_FILENAME", "nil"),
        ],
    )
    def test_values(self, lua: Inside, pairs: list[tuple[str, str]], name: str, expected: str) -> None:
        """The table of a request's parameters: any bytes, any lengths, cookies joined, HTTP_PROXY dropped."""
        request = Request(encoded(("NAME", name), *pairs))
        answer = lua.main("con:puts(tostring(env[env.NAME]))", request)
        assert answer.body.decode("utf-8", "surrogateescape") == expected

    def test_all_readers_of_parameters_agree(self, lua: Inside) -> None:
        """What a script gets is what Python reads, where names come again and lengths have four bytes."""
        chosen = random.Random(5)
        names = ["HTTP_COOKIE", "HTTP_X", "HTTP_HOST", "HTTP_" + "Y" * 130, "HTTP", "H", "QUERY_STRING", "A" * 128]
        state = lua.load(
            """
            function main(env, con)
                for name, value in pairs(env) do
                    if value ~= "" and value ~= 1 then con:puts(name .. "=" .. value .. "\\n") end
                end
            end
            """
        )
        for _ in range(200):
            pairs = [(chosen.choice(names), chosen.choice("abc") * chosen.choice([1, 127, 128])) for _ in range(6)]
            params = encoded(*pairs)
            found = dict(line.split("=") for line in lua.run(state, Request(params)).text.splitlines())
            assert found == {name.decode(): value.decode() for name, value in records.params(params).items()}

    def test_what_is_always_there(self, lua: Inside) -> None:
        """The variables that RFC 3875 demands are there, though the web server has sent none."""
        names = (
            "GATEWAY_INTERFACE QUERY_STRING REMOTE_ADDR REQUEST_METHOD SCRIPT_NAME SERVER_NAME SERVER_PORT "
            "SERVER_PROTOCOL SERVER_SOFTWARE"
        )
        statements = f"for name in ('{names}'):gmatch('%S+') do con:puts(name .. '=' .. env[name] .. ' ') end"
        assert lua.main(statements).text.split() == [f"{name}=" for name in names.split()]

    def test_needlessly_long_lengths(self, lua: Inside) -> None:
        """A length below 128 may be written with four bytes."""
        params = b"\x80\x00\x00\x01\x80\x00\x00\x02Abc" + b"\x01\x80\x00\x00\x01Cd" + b"\x80\x00\x00\x01\x01Ef"
        assert lua.main("con:puts(env.A .. env.C .. env.E)", Request(params)).text == "bcdf"

    def test_pairs(self, lua: Inside) -> None:
        """It is an ordinary table: scripts walk through it, and change it."""
        statements = "local n = 0 env.B = 'c' for k, v in pairs(env) do n = n + 1 end con:puts(n .. env.B)"
        assert lua.main(statements, Request({"A": "b"})).text == "12c"

    def test_every_request_has_its_own(self, lua: Inside) -> None:
        """What a script puts there is gone in the next request; its globals are not."""
        statements = "con:puts(tostring(env.X) .. (g or 0)) env.X = 1 g = (g or 0) + 1"
        state = lua.load(f"function main(env, con) {statements} end")
        assert [lua.run(state).text for _ in range(3)] == ["nil0", "nil1", "nil2"]


def test_several_values(lua: Inside) -> None:
    """con:puts writes all that it is given; what is no text is an error of the script's line."""
    assert lua.main("con:puts('a', 'b', 3) con:puts('c') con:puts(1, 2, 3, 4, 5, 6, 7, 8)").text == "ab3c12345678"
    for call, problem in (
        ("con:puts('a', {})", "bad argument #2 to 'puts' (string expected, got table)"),
        ("con:puts('a', nil, 'b')", "bad argument #2 to 'puts' (string expected, got nil)"),
        ("con:puts(1, 2, 3, 4, 5, 6, 7, 8, 9)", "con:puts: more than 8 values: call it again for the others"),
    ):
        error = lua.main(f"local a\n{call}\nlocal b").error
        assert "page.lua:3: " + problem in error


def test_reasons_are_those_of_the_registry(lua: Inside) -> None:
    """Each code that HTTP knows has its name, as RFC 9110 spells it."""
    expected = {code.value: code.phrase for code in http.HTTPStatus if code >= 200}
    # Before Python 3.13, these have the names of RFC 2616.
    expected |= {
        413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content",
    }  # fmt: skip
    state = lua.load("function main(env, con) con:status(tonumber(env.CODE)) end")
    for code in range(200, 600):
        status = f"Status: {code} {expected.get(code, 'Status')}"
        assert lua.run(state, Request({"CODE": str(code)})).lines[0] == status


def test_a_reset_has_no_body(lua: Inside) -> None:
    """205, as 204 and 304."""
    for code in (204, 205, 304):
        assert lua.main(f"con:status({code}) con:puts('text')").body == b""


def test_con_has_no_other_fields(lua: Inside) -> None:
    """Whatever the key is."""
    assert lua.main("con:puts(tostring(con[nil]), tostring(con[0/0]), tostring(con.other))").text == "nilnilnil"
