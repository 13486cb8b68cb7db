"""`greenfcgi.lapis`, with a stand-in for Lapis that has its shape: an application that is dispatched.

Lapis itself is installed by users, and is in no distribution.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ...support.developing import Developing
from ...support.inside import Inside, Request

FLAVOURS = ("luajit21", "lua51", "lua54")

#: Small modules of the same names: routes are plain paths, and a handler returns a table of options or text.
STAND_IN = {
    "lapis/config.lua": """
        local defaults = { secret = "please-change-me", logging = { queries = true, requests = true } }
        local M = { default_config = defaults }
        function M.get()
            local name = package.loaded["lapis.config_module_name"] or "config"
            local ok, own = pcall(require, name)
            local values = { _name = require("lapis.environment").default_environment() }
            for key, value in pairs(defaults) do values[key] = value end
            for key, value in pairs(ok and own or {}) do values[key] = value end
            return values
        end
        return M
    """,
    "lapis/environment.lua": """
        local name
        return {
            set_default_environment = function(set) name = set end,
            default_environment = function() return name or "development" end,
        }
    """,
    "lapis/logging.lua": """
        local write = function(text) io.stderr:write(text) end
        local function query(text) write("\\27[1mSQL:\\27[0m", text) end
        return { set_print = function(set) write = set end, query = query }
    """,
    "lapis/nginx/context.lua": "return { after_dispatch = function() return ngx.ctx end }",
    "lapis/application.lua": """
        local Application = {}
        Application.__index = Application

        function Application:build_router()
            self.router = { url_for = function(_, name, params) return "/" .. name .. (params or "") end }
        end
        function Application.handle_error(request, message) return { status = 500, "Lapis: " .. message } end
        function Application.handle_404(request) error("Failed to find route") end
        function Application.default_route(request) return request.app.handle_404(request) end

        local function render(request, result)
            local res = request.res
            if type(result) == "string" then result = { result } end
            if result.skip_render then return end
            res.status = result.status
            for name, value in pairs(result.headers or {}) do res:add_header(name, value) end
            res.headers["Content-Type"] = result.content_type or "text/html"
            if result.redirect_to then res:add_header("Location", result.redirect_to) res.status = res.status or 302 end
            res.content = result[1]
        end

        function Application:dispatch(req, res)
            local request = {
                app = self, req = req, res = res, params = {},
                url_for = function(_, ...) return self.router:url_for(...) end,
                build_url = function(_, path, url) return path .. (url and url.query and "?" .. url.query or "") end,
            }
            local message, trace
            local ok = xpcall(function()
                for name, value in pairs(req.params_get) do request.params[name] = value end
                for name, value in pairs(req.params_post) do request.params[name] = value end
                local result = (self.routes[req.parsed_url.path] or self.default_route)(request)
                render(request, result)
            end, function(problem) message, trace = problem, debug.traceback("", 2) end)
            if not ok then render(request, self.handle_error(request, message, trace)) end
            return ok, request
        end

        return { Application = Application }
    """,
    "lapis.lua": """
        local Application = require("lapis.application").Application
        return { Application = Application, load_app = function(app)
            if type(app or "app") == "string" then app = require(app or "app") end
            app:build_router()
            return app
        end }
    """,
}
APP = """
    local app = setmetatable({ routes = {} }, require("lapis").Application)
    local routes = app.routes
    %s
    return app
"""


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Scripts in one flavour, beside the stand-in."""
    inside = Inside(tmp_path, request.param)
    for name, text in STAND_IN.items():
        inside.write(name, text)
    yield inside
    inside.close()


def ask(lua: Inside, app: str, request: Request | None = None, arguments: str = '"app"') -> list[str]:
    """The body of the reply to one request, its status and headers."""
    lua.write("app.lua", APP % app)
    state = lua.load(f'main = require("greenfcgi.lapis").main({arguments})')
    answer = lua.run(state, request)
    state.close()
    return [answer.text, *answer.lines]


def test_a_reply(lua: Inside) -> None:
    """Status, headers with lists, and content."""
    route = """routes["/"] = function(r)
        r.res:add_header("Set-Cookie", "a") r.res:add_header("Set-Cookie", "b")
        return { status = 201, headers = { ["X-A"] = "1" }, "made" }
    end"""
    text, status, *headers = ask(lua, route, Request({"REQUEST_URI": "/"}))
    assert (text, status) == ("made", "Status: 201 Created")
    assert sorted(headers) == ["Content-Type: text/html", "Set-Cookie: a", "Set-Cookie: b", "X-A: 1"]


def test_the_request(lua: Inside) -> None:
    """All that Lapis looks at."""
    route = """routes["/a/b"] = function(r)
        local req, url = r.req, r.req.parsed_url
        local t = {
            req.method, req.request_uri, req.scheme, req.port, req.remote_addr, req.referer, req.srv, req.cmd_mth,
            req.cmd_url, req.relpath, url.scheme, url.host, url.port, url.path, url.query, req.headers["user-agent"],
            req.headers["X_Forwarded-For"], req.headers["Content-Type"], tostring(req.headers.nope),
            req.headers.proxy or "-", r.params.q, tostring(r.params.flag), r.params.x, tostring(req.nope)
        }
        return table.concat(t, " ")
    end"""
    params = {
        "REQUEST_URI": "/a/b?q=1+%2B&flag&x=1&x=2&=3", "QUERY_STRING": "q=1+%2B&flag&x=1&x=2&=3",
        "REQUEST_METHOD": "GET", "HTTPS": "on", "SERVER_PORT": "443", "REMOTE_ADDR": "192.0.2.1",
        "SERVER_ADDR": "192.0.2.2",
        "HTTP_HOST": "example.org:8443", "HTTP_USER_AGENT": "test", "HTTP_X_FORWARDED_FOR": "192.0.2.3",
        "HTTP_REFERER": "there", "CONTENT_TYPE": "text/plain",
    }  # fmt: skip
    assert ask(lua, route, Request(params))[0] == (
        "GET /a/b?q=1+%2B&flag&x=1&x=2&=3 https 443 192.0.2.1 there 192.0.2.2 GET /a/b?q=1+%2B&flag&x=1&x=2&=3 /a/b "
        "https example.org 8443 /a/b q=1+%2B&flag&x=1&x=2&=3 test 192.0.2.3 text/plain nil - 1 + true 2 nil"
    )


def test_a_form_and_a_body(lua: Inside) -> None:
    """params_post, and the body as text, which stays."""
    route = """routes["/"] = function(r)
        return tostring(r.params.a) .. "|" .. r.req:read_body_as_string() .. "|" .. r.req:read_body_as_string()
    end"""
    params = {"REQUEST_URI": "/", "REQUEST_METHOD": "POST", "CONTENT_TYPE": "application/x-www-form-urlencoded"}
    assert ask(lua, route, Request(params, b"a=b+c"))[0] == "b c|a=b+c|a=b+c"
    params["CONTENT_TYPE"] = "application/json"
    assert ask(lua, route, Request(params, b'{"a":1}'))[0] == 'nil|{"a":1}|{"a":1}'


def test_an_upload(lua: Inside) -> None:
    """Files as Lapis has them, names as they are, and the last of those that come twice."""
    pytest.importorskip("multipart")
    route = """routes["/"] = function(r)
        local file = r.params.photo
        return table.concat({ file.filename, file["content-type"], file.size, file.content, r.params["tags[]"],
            tostring(r.params.tags) }, "|")
    end"""
    lines = [
        "--B", 'Content-Disposition: form-data; name="tags[]"', "", "one",
        "--B", 'Content-Disposition: form-data; name="tags[]"', "", "two",
        "--B", 'Content-Disposition: form-data; name="photo"; filename="a.png"', "Content-Type: image/png", "", "data",
        "--B--", "",
    ]  # fmt: skip
    params = {"REQUEST_URI": "/", "REQUEST_METHOD": "POST", "CONTENT_TYPE": "multipart/form-data; boundary=B"}
    body = "\r\n".join(lines).encode()
    assert ask(lua, route, Request(params, body))[0] == "a.png|image/png|4|data|two|nil"
    answer = ask(lua, route, Request(params, body[:100]))
    assert answer[1] == "Status: 400 Bad Request"


def test_a_prefix(lua: Inside) -> None:
    """The application sees the path behind it, and its links begin with it."""
    route = 'routes["/cart"] = function(r) return r:url_for("item", 7) end routes["/"] = function() return "top" end'
    for uri, script, expected in (
        ("/shop/cart", "/shop", "/shop/item7"), ("/cart", "", "/item7"), ("/cart?x", "/app.lua", "/item7"),
        ("/shop", "/shop", "top"), ("http://a/cart", "", "/item7"),
    ):  # fmt: skip
        assert ask(lua, route, Request({"REQUEST_URI": uri, "SCRIPT_NAME": script}))[0] == expected
    request = Request({"SCRIPT_NAME": "/shop", "PATH_INFO": "/cart", "QUERY_STRING": "a"})
    assert ask(lua, route, request)[0] == "/shop/item7"
    lines = ask(lua, route, Request({"REQUEST_URI": "/shop/cart/?x=1", "SCRIPT_NAME": "/shop", "QUERY_STRING": "x=1"}))
    assert lines[1] == "Status: 301 Moved Permanently"
    assert "Location: /shop/cart?x=1" in lines


def test_no_route(lua: Inside) -> None:
    """A URL that nobody knows is no failure of the application."""
    assert ask(lua, "", Request({"REQUEST_URI": "/x"}))[:2] == ["Not Found\n", "Status: 404 Not Found"]
    own = 'function app.handle_404() return { status = 404, "own" } end'
    assert ask(lua, own, Request({"REQUEST_URI": "/x"}))[0] == "own"
    other = """routes["/"] = function(r) error("don't know how to respond to PUT") end"""
    assert ask(lua, other, Request({"REQUEST_URI": "/"}))[1] == "Status: 405 Method Not Allowed"


def test_an_error(lua: Inside) -> None:
    """It is the server's to show: with the line of the application, and the way to it."""
    lua.write("app.lua", APP % 'routes["/"] = function()\nlocal t\nreturn t.x end')
    state = lua.load('main = require("greenfcgi.lapis").main()')
    failure = lua.run(state, Request({"REQUEST_URI": "/"})).failure
    assert failure is not None
    assert "app.lua:6: attempt to index" in failure.message
    assert "app.lua:6: in function" in failure.traceback
    assert "in function 'dispatch'" in failure.traceback or "in method 'dispatch'" in failure.traceback
    assert "greenfcgi" not in failure.traceback
    # What comes later is its own.
    assert lua.run(state, Request({"REQUEST_URI": "/x"})).text == "Not Found\n"
    state.close()


def test_an_error_that_a_script_catches(lua: Inside) -> None:
    """Its traceback is not that of the next."""
    lua.write("app.lua", APP % 'routes["/"] = function() error("first") end')
    state = lua.load("""
        local app = require("greenfcgi.lapis").main()
        function main(env, con)
            pcall(app, env, con)
            local function second() error("second") end
            second()
        end
    """)
    failure = lua.run(state, Request({"REQUEST_URI": "/"})).failure
    assert failure is not None
    assert "second" in failure.message
    assert "app.lua" not in failure.traceback
    state.close()


def test_errors_that_the_application_handles(lua: Inside) -> None:
    """Its own page is sent."""
    own = """
        function app.handle_error(r, message) return { status = 503, "own" } end
        routes["/"] = function() error("x") end
    """
    assert ask(lua, own, Request({"REQUEST_URI": "/"}))[:2] == ["own", "Status: 503 Service Unavailable"]


def test_settings(lua: Inside) -> None:
    """The environment is production; the module of the settings can be another."""
    route = 'routes["/"] = function() local c = require("lapis.config").get() return c._name .. " " .. c.secret end'
    request = Request({"REQUEST_URI": "/"})
    assert ask(lua, route, request)[0] == "production please-change-me"
    assert "sets no secret of its own" in lua.log()
    lua.forget_log()
    lua.write("settings.lua", 'return { secret = "mine" }')
    assert ask(lua, route, request, '"app", { config = "settings" }')[0] == "production mine"
    assert "secret" not in lua.log()
    lua.write("lapis_environment.lua", 'return "staging"')
    assert ask(lua, route, request)[0] == "development please-change-me"


def test_the_log(lua: Inside) -> None:
    """What Lapis logs has no colours; requests are in the server's log already."""
    route = """routes["/"] = function()
        require("lapis.logging").query("select 1")
        return tostring(require("lapis.config").default_config.logging.requests)
    end"""
    assert ask(lua, route, Request({"REQUEST_URI": "/"}))[0] == "false"
    assert "SQL: select 1\n" in lua.log()


def test_callbacks(lua: Inside) -> None:
    """after_dispatch is called when the reply is made."""
    route = """routes["/"] = function()
        require("lapis.nginx.context").after_dispatch(function() print("after") end)
        return "x"
    end"""
    assert ask(lua, route, Request({"REQUEST_URI": "/"}))[0] == "x"
    assert "after\n" in lua.log()


def test_a_global_ngx(lua: Inside) -> None:
    """Lapis would take its ways for nginx."""
    with pytest.raises(Exception, match="a global ngx is there"):
        lua.load('ngx = {} main = require("greenfcgi.lapis").main()')


def test_lapis_is_missing(tmp_path: Path) -> None:
    """The error says what to install."""
    lua = Inside(tmp_path)
    with pytest.raises(Exception, match=r"Lapis is not there \(luarocks install lapis; see lua.path and lua.cpath\)"):
        lua.load('main = require("greenfcgi.lapis").main()')
    lua.close()


def test_the_developer_mode_shows_the_error(tmp_path: Path) -> None:
    """With the line of the application; and Lapis is in its environment for development."""
    routes = """
        routes["/env"] = function() return require("lapis.config").get()._name end
        routes["/"] = function()
            local nothing
            return nothing.there
        end
    """
    files = {name: textwrap.dedent(text) for name, text in {**STAND_IN, "app.lua": APP % routes}.items()}
    files["page.lua"] = 'main = require("greenfcgi.lapis").main()'
    with Developing(tmp_path, files) as site:
        assert site.ask("/page.lua/env").text == "development"
        answer = site.ask("/page.lua/", Accept="text/html")
        assert answer.status == 500
        assert "nothing.there" in re.sub("<[^>]*>", "", answer.text)
        assert "app.lua" in answer.text
        assert "dispatch" in answer.text
