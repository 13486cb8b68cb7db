"""greenfcgi.router: which function answers, with which values; what is refused when routes are defined."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.inside import FLAVOURS, Answer, Inside, Request


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


ROUTES = """
local router = require "greenfcgi.router"
local r = router.new()

local function shows(name)
    return function(env, con, params)
        local names = {}
        for key in pairs(params) do names[#names + 1] = key end
        table.sort(names)
        con:puts(name)
        for _, key in ipairs(names) do con:puts(" ", key, "=", params[key]) end
    end
end

r:get("/", shows "home")
r:get("/users", shows "users")
r:post("/users", shows "add")
r:get("/users/new", shows "new")
r:get("/users/:id", shows "user")
r:put("/users/:name", shows "put")
r:get("/users/:id(%d+)/posts/:post", shows "post")
r:get("/users/:who/posts", shows "posts")
r:get("/files/*path", shows "file")
r:get("/files/:name/raw", shows "raw")
r:any("/any", shows "any")
r:route({ "GET", "PURGE" }, "/two", shows "two")
r:group("/admin", function(g)
    g:get("/", shows "admin")
    g:get("/log/:day", shows "log")
end)
"""


def ask(lua: Inside, script: str, path: str, method: str = "GET", **more: str) -> Answer:
    """What a script answers to a path."""
    state = lua.load(script)
    try:
        return lua.run(state, Request({"REQUEST_METHOD": method, "PATH_INFO": path, **more}))
    finally:
        state.close()


def test_what_answers(lua: Inside) -> None:
    """Segments that are written out come first, then those with a name, then the rest of the path."""
    state = lua.load(ROUTES + "function main(env, con) r:run(env, con) end")
    found = {
        f"{method} {path}": lua.run(state, Request({"REQUEST_METHOD": method, "PATH_INFO": path})).text
        for method, path in (
            ("GET", "/"), ("GET", ""), ("GET", "/users"), ("GET", "/users/"), ("POST", "/users"), ("GET", "/users/new"),
            ("GET", "/users/newer"), ("PUT", "/users/new"), ("PUT", "/users/7"), ("GET", "/users/7/posts/x y"),
            ("GET", "/users/a/posts/1"), ("GET", "/users/a/posts"), ("GET", "/users/7/posts"),
            ("GET", "/files/a/b.txt"),
            ("GET", "/files/a/raw"), ("GET", "/files"), ("GET", "/files//x"), ("BREW", "/any"), ("PURGE", "/two"),
            ("GET", "/admin"), ("GET", "/admin/"), ("GET", "/admin/log/1"), ("GET", "/users/:id"),
            ("GET", "/users/\xff"),
        )
    }  # fmt: skip
    assert found == {
        "GET /": "home", "GET ": "home", "GET /users": "users", "GET /users/": "users", "POST /users": "add",
        "GET /users/new": "new", "GET /users/newer": "user id=newer", "PUT /users/new": "put name=new",
        "PUT /users/7": "put name=7", "GET /users/7/posts/x y": "post id=7 post=x y",
        "GET /users/a/posts/1": "not found\n", "GET /users/a/posts": "posts who=a", "GET /users/7/posts": "posts who=7",
        "GET /files/a/b.txt": "file path=a/b.txt", "GET /files/a/raw": "raw name=a", "GET /files": "file path=",
        "GET /files//x": "file path=/x", "BREW /any": "any", "PURGE /two": "two", "GET /admin": "admin",
        "GET /admin/": "admin", "GET /admin/log/1": "log day=1", "GET /users/:id": "user id=:id",
        "GET /users/\xff": "user id=\xff",
    }  # fmt: skip


def test_what_does_not(lua: Inside) -> None:
    """404; 405 with what there is; OPTIONS and HEAD by themselves."""
    script = ROUTES + "function main(env, con) r:run(env, con) end"
    answer = ask(lua, script, "/nobody")
    assert (answer.status, answer.text) == (404, "not found\n")
    answer = ask(lua, script, "/users", "DELETE")
    assert (answer.status, answer.text) == (405, "method not allowed; there are GET, POST, HEAD, OPTIONS\n")
    assert "Allow: GET, POST, HEAD, OPTIONS" in answer.lines
    assert "Allow: GET, HEAD, OPTIONS, PURGE" in ask(lua, script, "/two", "POST").lines
    # Of both routes that the path has.
    assert "Allow: GET, PUT, HEAD, OPTIONS" in ask(lua, script, "/users/new", "POST").lines
    answer = ask(lua, script, "/users", "OPTIONS")
    assert (answer.status, answer.text) == (204, "")
    assert "Allow: GET, POST, HEAD, OPTIONS" in answer.lines
    assert (ask(lua, script, "/users", "HEAD").status, ask(lua, script, "/users", "HEAD").text) == (200, "")
    for path in ("x", "/" * 5000, "/users" + "/a" * 5000, "/users/\x00", "/users//posts"):
        assert ask(lua, script, path).status in (200, 404)


def test_what_a_script_says_instead(lua: Inside) -> None:
    """Its own 404 and 405, which know what a function before them has found out."""
    script = (
        ROUTES
        + """
        r:before(function(env, con, params) params.user = env.REMOTE_USER end)
        r:not_found(function(env, con, params) con:status(404) con:puts("no ", env.PATH_INFO, " for ", params.user) end)
        r:not_allowed(function(env, con, params) con:status(405) con:puts("not so, ", params.user) end)
        function main(env, con) r:run(env, con) end
        """
    )
    assert ask(lua, script, "/nobody", REMOTE_USER="Ada").text == "no /nobody for Ada"
    answer = ask(lua, script, "/users", "DELETE", REMOTE_USER="Ada")
    assert (answer.status, answer.text) == (405, "not so, Ada")
    assert "Allow: GET, POST, HEAD, OPTIONS" in answer.lines


def test_before_and_after(lua: Inside) -> None:
    """Those of the router come before those of its groups; false ends it; they see the values."""
    script = """
        local r = require("greenfcgi.router").new()
        local function writes(text) return function(env, con, params) con:puts(text, params.id or "", ";") end end
        r:before(writes "b"):after(writes "a")
        local g = r:group("/g"):before(writes "gb"):after(writes "ga")
        local inner = g:group("/i")
        inner:before(function(env, con) if env.QUERY_STRING == "stop" then con:puts("stopped") return false end end)
        r:get("/x", writes "x")
        g:get("/y/:id", writes "y")
        inner:get("/z", writes "z")
        function main(env, con) r:run(env, con) end
    """
    assert ask(lua, script, "/x").text == "b;x;a;"
    assert ask(lua, script, "/g/y/7").text == "b7;gb7;y7;a7;ga7;"
    assert ask(lua, script, "/g/i/z").text == "b;gb;z;a;ga;"
    assert ask(lua, script, "/g/i/z", QUERY_STRING="stop").text == "b;gb;stopped"
    assert ask(lua, script, "/none").text == "b;not found\na;"


def test_a_strict_one(lua: Inside) -> None:
    """Where a slash at the end counts."""
    script = """
        local r = require("greenfcgi.router").new{ strict = true }
        r:get("/a", function(env, con) con:puts("file") end)
        r:get("/a/", function(env, con) con:puts("folder") end)
        function main(env, con) r:run(env, con) end
    """
    assert [ask(lua, script, path).text for path in ("/a", "/a/", "/a//")] == ["file", "folder", "not found\n"]


@pytest.mark.parametrize(
    ("name", "file", "info", "path"),
    [
        ("/app.lua", "/r/app.lua", "/users", "users"),
        ("/app.lua", "/r/app.lua", "", "home"),
        # All URLs to one script, by a web server that leaves their paths in SCRIPT_NAME.
        ("/users", "/r/app.lua", "", "users"),
        ("/", "/r/app.lua", "", "home"),
        ("", "/r/app.lua", "/users", "users"),
        ("", "", "", "home"),
    ],
)
def test_where_the_path_is(tmp_path: Path, name: str, file: str, info: str, path: str) -> None:
    """What stands behind the script, however the web server says it."""
    lua = Inside(tmp_path)
    script = ROUTES + "function main(env, con) r:run(env, con) end"
    assert ask(lua, script, info, SCRIPT_NAME=name, SCRIPT_FILENAME=file).text == path


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            'r:get("/users/:other", print)',
            "GET /users/:other is there already: a route is defined once, outside of main",
        ),
        ('r:any("/a", print) r:any("/a/", print)', "any method of /a is there already"),
        ('r:get("users", print)', "found the pattern 'users', expected a path that begins with a slash"),
        ("r:get(7, print)", "found the pattern '7'"),
        ('r:get("/a")', "bad argument #3 to 'route' (function expected, got nil)"),
        ('r:get("/:a/:a", print)', "'/:a/:a': the name 'a' comes twice"),
        ('r:get("/:1a", print)', "'1a' is no name of a parameter"),
        ('r:get("/*", print)', "'' is no name of a parameter"),
        ('r:get("/*a/b", print)', "nothing can follow '*a'"),
        ('r:get("/:a([)", print)', "'[' is no pattern of Lua's"),
        ('r:route("get", "/a", print)', "found the method 'get', expected one in capitals"),
        ('r:route({ 7 }, "/a", print)', "found the method '7'"),
        ('r:route(7, "/a", print)', "found methods that are a number"),
        ('r:group("admin")', "found the prefix 'admin', expected a path such as /admin"),
        ('r:group("/admin/")', "found the prefix '/admin/'"),
        ("r:before(7)", "bad argument #1 to 'before' (function expected, got number)"),
        ("r:run()", "run: expected env and con"),
        ("router.new(7)", "bad argument #1 to 'new' (table expected, got number)"),
        ('router.path("/users/:id", {})', "path: '/users/:id' needs a value for 'id'"),
    ],
)
def test_what_is_refused(lua: Inside, statement: str, problem: str) -> None:
    """At the line of the script, with what was found."""
    answer = lua.main(
        f'local router = require("greenfcgi.router") local r = router.new() r:get("/users/:id", print)\n{statement}'
    )
    assert re.match(r".*page\.lua:3: ", answer.error), answer.error
    assert problem in answer.error


def test_paths_made(lua: Inside) -> None:
    """Values are escaped; the rest of a path keeps its slashes."""
    assert (
        lua.main(
            """
            local router = require "greenfcgi.router"
            con:puts(router.path("/users/:id/posts", { id = "a/b c?" }), "\\n",
                router.path("/f/*path", { path = "a/b c" }), "\\n", router.path("/"), "\\n",
                router.path("/x/:n(%d+)/", { n = 7 }))
            """
        ).text
        == "/users/a%2Fb%20c%3F/posts\n/f/a/b%20c\n/\n/x/7/"
    )
