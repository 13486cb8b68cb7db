"""greenfcgi.http against servers that do right: what is asked and answered, redirects, bodies, kept connections."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.modules.http import pool
from greenfcgi.quota import Quota

from ...support.inside import Inside
from .servers import Handler, certificates, head_of, nginx, pages, serving

pytestmark = pytest.mark.usefixtures("descriptors")


@pytest.fixture
def url() -> Iterator[str]:
    """Pages of Python's http.server."""
    with pages() as found:
        yield found


def said(lua: Inside, url: str, statements: str) -> list[str]:
    """What a script writes, line by line."""
    script = f"""
    local http, url = require "greenfcgi.http", "{url}"
    local function say(...)
        for i = 1, select("#", ...) do con:puts(i > 1 and " " or "", tostring((select(i, ...)))) end
        con:puts("\\n")
    end
    """
    return lua.main(script + statements).text.splitlines()


def test_a_response(lua: Inside, url: str) -> None:
    """Status, URL, headers by any spelling, and the body."""
    assert said(lua, url, """
        local r = assert(http.request(url .. "/hello"))
        say(r.status, r.url == url .. "/hello", r.body == "hello\\n")
        say(r.headers["X-One"], r.headers["x-one"], r.headers["X-TWO"], r.headers.missing, rawget(r.headers, "x-one"))
        say(#r.headers["Set-Cookie"], r.headers["set-cookie"][2], getmetatable(r.headers))
        say(http.get(url .. "/nothing").status, r.read)
    """) == ["200 true true", "1 1 a, b nil 1", "2 b=2 false", "404 nil"]  # fmt: skip


def test_what_is_sent(lua: Inside, url: str) -> None:
    """Method, header lines, bodies as text and as a function's parts, with and without their length."""
    found = said(lua, url, """
        say(http.request{url = url .. "/show?q=\\195\\164#part",
            headers = {["X-A"] = {"1", "2"}, ["User-Agent"] = "me"}}.body)
        say(http.post(url .. "/show", "abc",
            {headers = {["Content-Type"] = "text/plain", ["Content-Length"] = 7}}).body)
        local parts = {"one ", 2, "", (" "):rep(200000), nil}
        local n = 0
        local r = assert(http.request{url = url .. "/show", method = "put",
            body = function() n = n + 1 return parts[n] end})
        say(#r.body > 200000, r.body:sub(1, 9), r.body:find("transfer%-encoding: chunked") ~= nil)
        n = 0
        r = assert(http.post(url .. "/show", function() n = n + 1 return n == 1 and "12345" or nil end,
            {headers = {["Content-Length"] = 5}}))
        say(r.body:find("transfer") == nil, r.body:sub(-5), r.body:find("content%-length: 5") ~= nil)
        say(http.request{url = url .. "/show", method = "HEAD"}.body == "")
    """)  # fmt: skip
    assert found[0] == "GET /show?q=%C3%A4"
    assert next(line for line in found if line.startswith("x-a")) == "x-a: 1"
    assert "user-agent: me" in found
    post = found[found.index("POST /show") :]
    assert {"content-length: 3", "content-type: text/plain", "abc"} <= set(post)
    assert post[-3:] == ["true PUT /show true", "true 12345 true", "true"]


def test_redirects(lua: Inside, url: str) -> None:
    """Methods change as RFC 9110 has it; what is secret stays with its origin; loops end."""
    found = said(lua, url, """
        say(http.get(url .. "/to/302/|hello").body == "hello\\n",
            http.get(url .. "/to/302/|hello").url == url .. "/hello")
        for _, status in ipairs{301, 302, 303, 307, 308} do
            say(status, http.post(url .. "/to/" .. status .. "/|show", "sent").body:match("^%u+"),
                http.request{url = url .. "/to/" .. status .. "/|show", method = "PUT",
                    body = "sent"}.body:match("^%u+"))
        end
        say(http.get(url .. "/loop", {redirects = 3}))
        say(http.get(url .. "/loop", {redirects = 0}).status)
        local secret = {headers = {Authorization = "x", Cookie = "y", ["X-Z"] = "z"}}
        local other = url:gsub("127.0.0.1", "localhost"):gsub("/", "|")
        local there = http.get(url .. "/to/302/" .. other .. "|show", secret).body
        say(there:find("authorization"), there:find("cookie"), there:find("x-z: z", 1, true) ~= nil)
        say(http.get(url .. "/to/302/|show", secret).body:find("authorization: x", 1, true) ~= nil)
        say(http.get(url .. "/to/302/file:|||etc|passwd"))
        say(http.post(url .. "/to/307/|show", function() end))
    """)  # fmt: skip
    host = url.removeprefix("http://")
    assert found == [
        "true true", "301 GET PUT", "302 GET PUT", "303 GET GET", "307 POST PUT", "308 POST PUT",
        f"nil {host}: more than 3 redirects", "302", "nil nil true", "true",
        f"nil {host}: redirected to what does not begin with http:// or https://",
        f"nil {host}: redirected, and a body that comes in parts cannot be sent again",
    ]  # fmt: skip


def test_compressed_bodies(lua: Inside, url: str) -> None:
    """gzip, also in several pieces, and deflate with and without its header; not where the script has asked for it."""
    assert said(lua, url, """
        for _, name in ipairs{"gzip", "deflate", "raw"} do
            local r = assert(http.get(url .. "/" .. name))
            say(#r.body, r.body == ("so much text. "):rep(10000), r.headers["content-encoding"],
                r.headers["content-length"])
        end
        local r = http.get(url .. "/gzip", {headers = {["Accept-Encoding"] = "gzip"}})
        say(#r.body < 10000, r.headers["content-encoding"])
        say(http.get(url .. "/cut"))
        say(http.get(url .. "/notgzip"))
    """) == [
        *["140000 true nil nil"] * 3, "true gzip", f"nil {url[7:]}: the compressed body ends too early",
        f"nil {url[7:]}: the body is not compressed as its Content-Encoding says",
    ]  # fmt: skip


def test_a_bomb_is_the_script_s_own_end(lua: Inside, url: str) -> None:
    """64 MB out of 64 KB: read bit by bit they take nothing, and as a whole no more than the script's memory."""
    assert said(lua, url, """
        local r, size = assert(http.get(url .. "/bomb", {stream = true})), 0
        for part in function() return r:read() end do size = size + #part end
        say(size, select(2, r:read()))
    """) == [f"{64 << 20} nil"]  # fmt: skip
    answer = lua.main(f'require "greenfcgi.http".get("{url}/bomb")')
    assert "memory" in answer.error


def test_readers(lua: Inside, url: str) -> None:
    """stream = true: so many bytes, what comes next, the rest, lines; closed when the script says so."""
    assert said(lua, url, """
        local r = assert(http.get(url .. "/big", {stream = true}))
        say(r.status, r.body, #r:read(100000), #r:read() > 0, #r:read(0))
        local rest = #r:read("a")
        say(rest > 1500000, r:read("a") == "", r:read(5), r:read())
        r = assert(http.get(url .. "/lines", {stream = true}))
        for line in r:lines() do say("<" .. line .. ">") end
        r = assert(http.get(url .. "/big", {stream = true}))
        say(r:close(), r:close(), r:read())
        say(pcall(r.read, {}))
    """) == [
        "200 nil 100000 true 0", "true true nil nil nil", "<one>", "<two>", "<>", "<last>", "true true nil closed",
        "false greenfcgi.http: read: call it as response:read()",
    ]  # fmt: skip


def test_connections_are_kept(lua: Inside, url: str) -> None:
    """Over requests and states; also after a redirect and a body that was read to its end, and only then."""
    for _ in range(3):
        said(lua, url, """
            for i = 1, 5 do assert(http.get(url .. "/hello")) assert(http.get(url .. "/to/302/|hello")) end
            assert(http.get(url .. "/big", {stream = true})):read("a")
        """)  # fmt: skip
    assert Handler.connections == 1
    said(lua, url, 'http.get(url .. "/big", {stream = true}):read(1)')
    said(lua, url, 'http.get(url .. "/hello")')
    assert Handler.connections == 2


def test_a_kept_connection_that_was_closed_is_no_error(lua: Inside) -> None:
    """Whether that is seen before the request, or after it was sent; a POST is not sent again then."""
    heads: list[bytes] = []

    def once(connection: object) -> None:
        heads.append(head_of(connection))  # type: ignore[arg-type]
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")  # type: ignore[attr-defined]
        head = head_of(connection)  # type: ignore[arg-type]
        if head:
            heads.append(head)

    with serving(once) as url:
        assert said(lua, url, """
            say(http.get(url).body)
            say(http.get(url).body)
            say(http.post(url, "x"))
        """) == ["ok", "ok", f"nil {url[7:]}: the connection was closed without a response"]  # fmt: skip
    # The second GET came twice.
    assert [head.split()[0] for head in heads] == [b"GET", b"GET", b"GET", b"POST"]


def test_a_thousand_requests_leave_no_descriptor(lua: Inside, url: str) -> None:
    """Bodies that are read, those that are not, and what fails."""
    before = len(os.listdir("/proc/self/fd"))
    times = 250 if lua.engine.config.lua.version == "luajit21" else 50
    state = lua.load(f"""
        local http = require "greenfcgi.http"
        function main(env, con)
            http.get("{url}/hello")
            http.get("{url}/big", {{stream = true}}):read(10)
            http.get("{url}/hello", {{stream = true}}):close()
            assert(not http.get("http://127.0.0.1:1/"))
        end
    """)
    for _ in range(times):
        assert lua.run(state).failure is None
    state.close()
    pool.close_all()
    assert len(os.listdir("/proc/self/fd")) <= before + 8


def test_too_few_descriptors(lua: Inside, url: str) -> None:
    """What is kept makes room; where nothing is, the script gets to know."""
    lua.engine.files = Quota(10)
    said(lua, url, 'http.get(url .. "/hello")')
    assert said(lua, url, """
        local open, problem = {}
        repeat
            local r
            r, problem = http.get(url .. "/big", {stream = true})
            open[#open + 1] = r
        until not r
        say(#open, problem)
    """) == [f"10 {url[7:]}: too many open files"]  # fmt: skip
    assert said(lua, url, 'say(http.get(url .. "/hello").status)') == ["200"]
    pool.close_all()
    assert lua.engine.files.taken == 0


def test_tls_is_verified(lua: Inside, tmp_path: Path) -> None:
    """Unknown authorities and other names are refused, unless the script says so; connections are kept apart."""
    certificates(tmp_path)
    with nginx(tmp_path) as port:
        found = said(lua, f"https://localhost:{port}/", f"""
            say(http.get(url))
            say(http.get("https://127.0.0.1:{port}/", {{verify = "{tmp_path}/ca.pem"}}))
            local mine = http.get(url, {{verify = "../ca.pem"}})
            say(mine.status, mine.body:match("request %d"),
                http.get(url, {{verify = "../ca.pem"}}).body:match("request %d"))
            say(http.get(url, {{verify = false}}).body:match("request %d"))
            say(http.get(url))
            say(pcall(http.get, url, {{verify = "none.pem"}}))
            say(http.get(url, {{verify = "page.lua"}}))
            say(http.get("http://localhost:{port}/").status)
        """)  # fmt: skip
    refused = f"nil localhost:{port}: certificate verify failed: "
    assert found[0].startswith(refused)
    assert found[1].startswith(f"nil 127.0.0.1:{port}: certificate verify failed: IP address mismatch")
    assert found[2:4] == ["200 request 1 request 2", "request 1"]
    assert found[4].startswith(refused)
    assert found[5] == "false greenfcgi.http: verify: found a file that cannot be read: No such file or directory"
    assert found[6].startswith(f"nil localhost:{port}: verify: found ")
    assert found[7] == "400"
