"""Applications of WSAPI 1.1: scripts that are ones, and modules that are named to `greenfcgi.wsapi`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ...support.inside import Inside, Request

FLAVOURS = ("luajit21", "lua51", "lua54")
ROCKS = "/usr/share/lua/5.1"
HELLO = 'return 200, { ["Content-Type"] = "text/plain" }, coroutine.wrap(function() coroutine.yield("hello") end)'

needs_rock = pytest.mark.skipif(
    not Path(ROCKS, "wsapi/request.lua").exists(), reason="needs the rock wsapi (Debian: lua-wsapi)"
)


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Scripts in one flavour."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


@pytest.fixture
def jit(tmp_path: Path) -> Iterator[Inside]:
    """Scripts on LuaJIT, with the rocks of Debian."""
    inside = Inside(tmp_path, "luajit21", f'[lua]\npath = ["{ROCKS}"]\n')
    yield inside
    inside.close()


@pytest.mark.parametrize(
    "script",
    [
        f"return function(env) {HELLO} end",
        f"local app = {{}} function app.run(env) {HELLO} end return app",
        f"function run(env) {HELLO} end",
        f"return setmetatable({{ run = function(env) {HELLO} end }}, {{}})",
        f"main = require('greenfcgi.wsapi').main(function(env) {HELLO} end)",
    ],
)
def test_a_script_that_is_an_application(lua: Inside, script: str) -> None:
    """It has returned a function or a table with run, or defined a global run."""
    answer = lua.run(lua.load(script))
    assert answer.text == "hello"
    assert "Content-Type: text/plain" in answer.lines


@pytest.mark.parametrize("name", ["...", '"other"'])
def test_a_script_that_is_a_module(jit: Inside, name: str) -> None:
    """`module(..., package.seeall)` gets the name of the script; run is looked for in the module."""
    state = jit.load(f"module({name}, package.seeall)\nfunction run(env) {HELLO} end", "shop.lua")
    assert jit.run(state).text == "hello"
    state.close()
    state = jit.load(
        f"module({name}, package.seeall)\nfunction run() return 200, nil, "
        "coroutine.wrap(function() coroutine.yield(_NAME) end) end",
        "shop.lua",
    )
    assert jit.run(state).text == ("shop" if name == "..." else "other")


def test_main_goes_before_an_application(lua: Inside) -> None:
    """A script with both is a script."""
    state = lua.load(f"function main(env, con) con:puts('script') end return function(env) {HELLO} end")
    assert lua.run(state).text == "script"


@pytest.mark.parametrize("script", ["x = 1", "return {}", "return 1", "return { run = 1 }", "run = {}"])
def test_a_script_that_is_neither(lua: Inside, script: str) -> None:
    """It fails as it did."""
    with pytest.raises(Exception, match=r"defines no function main\(env, con\)"):
        lua.load(script)


def test_other_scripts_get_no_name(lua: Inside) -> None:
    """Only what calls module(...) does."""
    assert lua.run(lua.load("local name = ... function main(e, con) con:puts(tostring(name)) end")).text == "nil"


def test_the_environment(lua: Inside) -> None:
    """Missing variables are "", PATH_INFO is "/" at least, APP_PATH the script's folder."""
    state = lua.load("""
        return function(env)
            local parts = { env.NOPE, env.PATH_INFO, env.HTTP_HOST, env.APP_PATH, require("wsapi").app_path }
            return "200 OK", {}, coroutine.wrap(function() coroutine.yield(table.concat(parts, "|")) end)
        end
    """)
    assert lua.run(state, Request({"HTTP_HOST": "a"})).text == f"|/|a|{lua.root}|{lua.root}"
    assert lua.run(state, Request({"PATH_INFO": "/x"})).text == f"|/x||{lua.root}|{lua.root}"


def test_the_body_of_the_request(lua: Inside) -> None:
    """read(n) in parts, read(0) at once, the rest, and the end."""
    state = lua.load("""
        return function(env)
            local input = env.input
            local t = { input:read(0), input:read(2), input:read("3"), input:read(), tostring(input:read(1)) }
            table.insert(t, input:read())
            table.insert(t, input:read(10))
            return 200, {}, coroutine.wrap(function() coroutine.yield(table.concat(t, "|")) end)
        end
    """)
    assert lua.run(state, Request(body=b"abcdefgh")).text == "|ab|cde|fgh|nil|"


@pytest.mark.parametrize("n", ["-1", "1.5", "{}", '"x"', "true"])
def test_a_wrong_number_of_bytes(lua: Inside, n: str) -> None:
    """The error names the argument, and the script's line."""
    state = lua.load(f"return function(env)\nenv.input:read({n}) end")
    assert "page.lua:2: bad argument #1 to 'read' (expected a number of bytes)" in lua.run(state).error


def test_the_error_log(lua: Inside) -> None:
    """What is written to wsapi_env.error is in the log."""
    state = lua.load("return function(env) env.error:write('it is ', 42, '\\n') return 200 end")
    assert lua.run(state).text == ""
    assert "[ERROR]" in lua.log()
    assert ": 42\n" in lua.log()


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("404", "404 Not Found"), ("'302 Found'", "302 Found"), ("'418 I am a teapot'", "418 I am a teapot"),
        ("'303'", "303 See Other"), ("200.0", "200 OK"),
    ],
)  # fmt: skip
def test_statuses(lua: Inside, status: str, line: str) -> None:
    """Numbers and texts."""
    assert lua.run(lua.load(f"return function() return {status}, {{}} end")).lines[0] == f"Status: {line}"


def test_headers(lua: Inside) -> None:
    """Numbers, and lists."""
    state = lua.load("""
        return function()
            return 200, { ["Set-Cookie"] = { "a=1", "b=2" }, ["X-Number"] = 12, ["Content-Type"] = "text/x" }
        end
    """)
    assert sorted(lua.run(state).lines[1:]) == [
        "Content-Type: text/x", "Set-Cookie: a=1", "Set-Cookie: b=2", "X-Number: 12",
    ]  # fmt: skip


STREAM = """
    return function(env)
        return 200, HEADERS, coroutine.wrap(function()
            coroutine.yield("one ")
            coroutine.yield(2)
            coroutine.yield("")
            LAST
        end)
    end
"""


def test_parts_leave_as_they_come(lua: Inside) -> None:
    """Without a Content-Length each is sent at once."""
    request = Request()
    answer = lua.run(lua.load(STREAM.replace("HEADERS", "{}").replace("LAST", 'coroutine.yield("end")')), request)
    assert answer.body == b"one 2end"
    assert [part[2] for part in request.parts] == [b"one ", b"2", b"end"]


def test_parts_of_a_body_of_known_length_wait(lua: Inside) -> None:
    """With one they leave together."""
    request = Request()
    script = STREAM.replace("HEADERS", '{ ["content-length"] = 8 }').replace("LAST", 'coroutine.yield("end")')
    assert lua.run(lua.load(script), request).body == b"one 2end"
    assert request.parts == []


def test_errors_of_the_body(lua: Inside) -> None:
    """After the head they cut the reply, before it they are an error like others."""
    for headers, sent in (("{}", [b"one ", b"2"]), ('{ ["Content-Length"] = 8 }', [])):
        request = Request()
        state = lua.load(STREAM.replace("HEADERS", headers).replace("LAST", 'error("lost")'))
        assert "page.lua:7: lost" in lua.run(state, request).error
        assert [part[2] for part in request.parts] == sent
        state.close()


def test_a_client_that_has_gone(lua: Inside) -> None:
    """Its leaving ends a body without an end."""
    state = lua.load("""
        local n = 0
        return function()
            return 200, {}, function()
                n = n + 1
                if n == 3 then require("socket.core").sleep(0) end
                return "x"
            end
        end
    """)
    request = Request()
    request.gone = True
    assert lua.run(state, request).error == "the client has gone"


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ("", "status: found nil, expected a number such as 200, or text such as '200 OK'"),
        ("'fine'", "status: found 'fine', expected a number"),
        ("{}", "status: found table, expected a number"),
        ("200, 'x'", "headers: found string, expected a table"),
        ("200, { X = true }", "header 'X': found boolean, expected text, a number or a list of these"),
        ("200, { X = {{}} }", "header 'X': found table, expected text"),
        ("200, {}, 'hello'", "body: found string, expected a function that returns its next part"),
        ("200, {}, {}", "body: found table, expected a function"),
        ("200, {}, function() return {} end", "body: found table as its next part, expected text"),
    ],
)
def test_bad_applications(lua: Inside, returned: str, problem: str) -> None:
    """What they return wrongly is named."""
    assert f"application: {problem}" in lua.run(lua.load(f"return function() return {returned} end")).error


@pytest.mark.parametrize("headers", ["{ 'x' }", "{ ['a b'] = 'c' }", "{ A = 'b\\nc' }"])
def test_bad_headers(lua: Inside, headers: str) -> None:
    """Such as are none fail as those of con:header do."""
    assert "header" in lua.run(lua.load(f"return function() return 200, {headers} end")).error


def test_an_application_that_is_a_module(lua: Inside) -> None:
    """APP_PATH is the folder of its file."""
    lua.write(
        "shop/init.lua",
        """
        local path = require("wsapi").app_path
        return { run = function(env)
            return 200, {}, coroutine.wrap(function() coroutine.yield(env.APP_PATH .. "|" .. path) end)
        end }
        """,
    )
    state = lua.load('main = require("greenfcgi.wsapi").main("shop")')
    assert lua.run(state).text == f"{lua.root}/shop|{lua.root}/shop"


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ('"nope"', "module 'nope' not found"),
        ('"string"', "module 'string' is no application: found a table without run"),
        ("42", "what was given is no application: found number, expected a function or a table with a function run"),
        ("nil", "what was given is no application: found nil"),
    ],
)
def test_what_is_no_application(lua: Inside, argument: str, problem: str) -> None:
    """It is an error when the script is loaded."""
    with pytest.raises(Exception, match=problem):
        lua.load(f'main = require("greenfcgi.wsapi").main({argument})')


def test_a_head_request(lua: Inside) -> None:
    """It has the headers, and no body."""
    answer = lua.run(lua.load(STREAM.replace("HEADERS", "{}").replace("LAST", "")), Request({"REQUEST_METHOD": "HEAD"}))
    assert answer.body == b""
    assert answer.lines[0] == "Status: 200 OK"


@needs_rock
def test_the_rocks_own_request_and_response(jit: Inside) -> None:
    """wsapi.request reads queries, forms and uploads; wsapi.response sets cookies."""
    state = jit.load("""
        local request, response = require "wsapi.request", require "wsapi.response"
        return function(env)
            local req, res = request.new(env), response.new()
            local file = req.params.file or {}
            res:write(req.method, " ", req.params.a or "-", " ", req.POST.b or "-", " ", req.cookies.c or "-", " ")
            res:write(file.name or "-", " ", file.contents or "-")
            res:set_cookie("one", "1")
            res:set_cookie("two", { value = "2", path = "/" })
            return res:finish()
        end
    """)
    answer = jit.run(state, Request({"REQUEST_METHOD": "GET", "QUERY_STRING": "a=x+y", "HTTP_COOKIE": "b=1; c=2"}))
    assert answer.text == "GET x y - 2 - -"
    assert "Set-Cookie: one=1" in answer.lines
    assert "Set-Cookie: two=2; path=/" in answer.lines
    form = b"b=z%21"
    params = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(form)), "CONTENT_TYPE": "x-www-form-urlencoded"}
    assert jit.run(state, Request(params, form)).text == "POST - z! - - -"
    upload = b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--X--\r\n'
    params |= {"CONTENT_LENGTH": str(len(upload)), "CONTENT_TYPE": "multipart/form-data; boundary=X"}
    assert jit.run(state, Request(params, upload)).text == "POST - - - a.txt hello"


@needs_rock
def test_the_rocks_own_utilities(jit: Inside) -> None:
    """wsapi.util makes the body readable twice, and encodes URLs."""
    state = jit.load("""
        local util = require "wsapi.util"
        return function(env)
            local again = util.make_rewindable(env)
            local first = again.input:read(5)
            again.input:rewind()
            local text = first .. "|" .. again.input:read(5) .. "|" .. util.url_encode("a b&") .. "|" .. again.NOPE
            return 200, {}, coroutine.wrap(function() coroutine.yield(text) end)
        end
    """)
    assert jit.run(state, Request(body=b"hello")).text == "hello|hello|a+b%26|"


#: Songs by a template, routes, and a blog in SQLite: what small applications of WSAPI are made of.
BLOG = """
    local request, response = require "wsapi.request", require "wsapi.response"
    local database = assert(require("luasql.sqlite3").sqlite3():connect(require("wsapi").app_path .. "/blog.db"))
    assert(database:execute("create table if not exists posts (id integer primary key, title text, body text)"))

    local function filled(template, values)
        return (template:gsub("%$(%a+)(%b[])", function(name, inner)
            local items = {}
            for _, item in ipairs(values[name]) do items[#items + 1] = filled_inner(inner:sub(2, -2), item) end
            return table.concat(items)
        end))
    end
    function filled_inner(template, values) return (template:gsub("%$(%a+)", values)) end

    local routes = {
        { "GET", "^/$", function(req, res)
            local posts, cursor = {}, database:execute("select id, title from posts order by id")
            local row = cursor:fetch({}, "a")
            while row do
                posts[#posts + 1] = { id = tostring(row.id), title = row.title }
                row = cursor:fetch({}, "a")
            end
            cursor:close()
            res:write(filled("<ul>$posts[<li>$id: $title</li>]</ul>", { posts = posts }))
        end },
        { "GET", "^/post/(%d+)$", function(req, res, id)
            local cursor = database:execute("select body from posts where id = " .. id)
            local body = cursor:fetch()
            cursor:close()
            if not body then res.status = "404 Not Found" return res:write("no such post") end
            res:write(body)
        end },
        { "POST", "^/new$", function(req, res)
            local title, body = database:escape(req.POST.title), database:escape(req.POST.body)
            assert(database:execute("insert into posts (title, body) values ('" .. title .. "', '" .. body .. "')"))
            res:redirect(req:link("/"))
        end },
    }

    return { run = function(env)
        local req, res = request.new(env), response.new()
        for _, route in ipairs(routes) do
            local captures = { env.PATH_INFO:match(route[2]) }
            if captures[1] and env.REQUEST_METHOD == route[1] then
                route[3](req, res, captures[1])
                return res:finish()
            end
        end
        return 404, { ["Content-Type"] = "text/plain" }, coroutine.wrap(function() coroutine.yield("no such page") end)
    end }
"""


@needs_rock
@pytest.mark.parametrize("version", ["luajit21", "lua51"])
def test_a_blog(tmp_path: Path, version: str) -> None:
    """An application with routes, templates and a database in its own folder."""
    lua = Inside(tmp_path, version, f'[lua]\npath = ["{ROCKS}"]\n')
    lua.write("blog/blog.lua", BLOG)
    state = lua.load('main = require("greenfcgi.wsapi").main("blog.blog")')

    def ask(path: str, form: bytes = b"") -> tuple[str, str]:
        params = {
            "PATH_INFO": path, "SCRIPT_NAME": "/blog", "REQUEST_METHOD": "POST" if form else "GET",
            "CONTENT_LENGTH": str(len(form)), "CONTENT_TYPE": "application/x-www-form-urlencoded" if form else "",
        }  # fmt: skip
        answer = lua.run(state, Request(params, form))
        return answer.lines[0], "\n".join(answer.lines[1:]) if form else answer.text

    assert ask("/") == ("Status: 200 OK", "<ul></ul>")
    status, head = ask("/new", b"title=It%27s+me&body=Hello%21")
    assert status == "Status: 302 Found"
    assert "Location: /blog/" in head
    assert ask("/") == ("Status: 200 OK", "<ul><li>1: It's me</li></ul>")
    assert ask("/post/1") == ("Status: 200 OK", "Hello!")
    assert ask("/post/2") == ("Status: 404 Not Found", "no such post")
    assert ask("/nope") == ("Status: 404 Not Found", "no such page")
    assert (lua.root / "blog" / "blog.db").exists()
    state.close()
    lua.close()
