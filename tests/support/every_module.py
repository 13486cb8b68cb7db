"""A script for each module that comes with greenfcgi. It uses all that the module may import late, and replies "ok"."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Final

#: A form with a file, and a field in each charset that forms may have.
CHARSETS: Final = (
    "utf-8", "us-ascii", "ascii", "iso-8859-1", "latin1", "iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251",
    "windows-1252", "koi8-r", "shift_jis", "euc-jp", "euc-kr", "gbk", "gb18030", "big5",
)  # fmt: skip
FORM_TYPE: Final = "multipart/form-data; boundary=x"
FORM: Final = (
    "".join(
        f'--x\r\nContent-Disposition: form-data; name="f"\r\nContent-Type: text/plain; charset={charset}\r\n\r\nabc\r\n'
        for charset in CHARSETS
    )
    + '--x\r\nContent-Disposition: form-data; name="photo"; filename="a.txt"\r\n\r\n'
    + "y" * 300_000
    + "\r\n--x--\r\n"
).encode()


def scripts(plain: str, encrypted: str, authority: str) -> Mapping[str, str]:
    """By their names. `plain` and `encrypted` are URLs of a server, `authority` is the certificate of its authority."""
    host, _, port = encrypted.removeprefix("https://").partition("/")[0].partition(":")
    bodies = {
        "cookie.lua": """
            local cookie = require "greenfcgi.cookie"
            assert(cookie.verify("a", cookie.sign("a", "b")) == "b")
            cookie.set(con, "c", "d", { signed = true, expires = 2000000000 })
        """,
        "crypto.lua": """
            local crypto = require "greenfcgi.crypto"
            for _, name in ipairs { "md5", "sha1", "sha256", "sha384", "sha512" } do
                assert(#crypto[name]("a", "raw") == #crypto["hmac_" .. name]("k", ("a"):rep(100000), "raw"))
            end
            assert(crypto.verify_password("a", crypto.hash_password("a")))
            local scrypt = "$scrypt$ln=4,r=8,p=1$c2FsdHNhbHQ$" .. ("A"):rep(43)
            assert(crypto.verify_password("a", scrypt) == false)
            assert(crypto.verify_password("a", nil) == false)
            assert(#crypto.uuid(7) == 36 and #crypto.random(5) == 5)
        """,
        "form.lua": """
            local form = require "greenfcgi.form"
            local fields, files = form.read(env, con)
            assert(#fields.f == 17 and files.photo.size == 300000, #fields.f)
            assert(files.photo:move("kept.txt"))
            assert(form.query({ QUERY_STRING = "a=%C3%A9" }).a == "\\195\\169")
        """,
        "html.lua": "assert(tostring(require('greenfcgi.html').escape('<')) == '&lt;')",
        "http.lua": f"""
            local http = require "greenfcgi.http"
            local got = assert(http.get("{plain}"))
            assert(got.status == 200 and got.body:find("^hello from"), got.body)
            got = assert(http.get("{encrypted}", {{ verify = "{authority}" }}))
            assert(got.body:find("^hello from"))
            got = assert(http.get("{encrypted}", {{ verify = false, stream = true }}))
            assert(got:read("a"):find("^hello from"))
            local _, problem = http.get("{encrypted}")
            assert(problem:find("certificate", 1, true), problem)
            _, problem = http.get("http://nobody.invalid/")
            assert(problem:find("host or service", 1, true), problem)
        """,
        "http_date.lua": """
            local dates = require "greenfcgi.http_date"
            assert(dates.format(0) == "Thu, 01 Jan 1970 00:00:00 GMT")
            assert(#dates.etag(("x"):rep(100000)) > 2)
        """,
        "json.lua": """
            local json = require "greenfcgi.json"
            assert(json.encode(json.decode('{"a":[1.5,"\\\\u00e9"]}')))
        """,
        "lapis.lua": """
            local _, problem = pcall(function() return require("greenfcgi.lapis").main("app")(env, con) end)
            assert(tostring(problem):find("apis", 1, true), problem)
        """,
        "luafcgid.lua": "assert(require('luafcgid').serialize({ 1 }))",
        "luasql.lua": """
            local c = assert(require "luasql.sqlite3".sqlite3():connect(":memory:"))
            assert(c:execute("select 7"):fetch() == 7)
            local _, problem = require "luasql.postgres".postgres():connect("a", "b", "c", "127.0.0.1", 1)
            assert(problem:find("refused", 1, true), problem)
        """,
        "router.lua": """
            local r = require("greenfcgi.router").new()
            r:get("/", function() end)
            r:run({ REQUEST_METHOD = "GET", PATH_INFO = "/" }, con)
        """,
        "session.lua": """
            local session = require "greenfcgi.session"
            for number, options in ipairs {
                { store = "cookie", name = "a" }, { store = "cookie", encrypt = true, name = "b" },
                { store = "shared", dictionary = "things", name = "c" },
                { store = "sql", url = "sqlite:kept.db", name = "d" },
            } do
                local s = assert(session.start(env, con, options))
                s.count = (s.count or 0) + 1
                assert(#s:csrf() > 0)
                assert(s:save())
                con:puts(s.count, " ")
            end
        """,
        "shared.lua": """
            local things = require("greenfcgi.shared").things
            assert(things:set("k", "v") and things:get("k") == "v" and things:incr("n", 1, 0))
            things:lock("l", 1)
        """,
        "sockets.lua": f"""
            local socket, unix = require "socket.core", require "socket.unix"
            local ssl, mime = require "ssl", require "mime.core"
            assert(mime.b64("abc") == "YWJj" and mime.qp("=") == "=3D")
            assert(socket.dns.toip("localhost") == "127.0.0.1")
            assert(socket.dns.getaddrinfo("localhost") and socket.dns.gethostname())
            assert(not socket.dns.toip("caf\\195\\169.invalid"))
            assert(not socket.connect("b\\195\\188cher.invalid", 80))
            assert(not unix.stream():connect("nowhere.sock"))
            local c = assert(socket.connect("{host}", {port}))
            c = assert(ssl.wrap(c, {{ mode = "client", protocol = "any", verify = "peer", cafile = "{authority}" }}))
            c:sni("b\\195\\188cher.invalid")
            c:settimeout(5)
            assert(c:dohandshake())
            assert(c:getpeercertificate():digest("sha256"))
            assert(c:getpeercertificate():getsignaturename() and c:info().protocol)
            c:send("GET /hello HTTP/1.0\\r\\nHost: a\\r\\n\\r\\n")
            assert(c:receive("*l"):find("200", 1, true))
            c:close()
            local server = socket.bind and socket.bind("127.0.0.1", 0) or socket.tcp()
            server:close()
        """,
        "sql.lua": """
            local sql = require "greenfcgi.sql"
            local db = assert(sql.connect("sqlite::memory:"))
            assert(db:query("select 7 as n")[1].n == 7)
            local _, problem = db:query("select * from nope")
            assert(problem:find("no such table", 1, true), problem)
            for _, kind in ipairs { "postgresql", "mysql" } do
                _, problem = assert(sql.connect(kind .. "://a:b@127.0.0.1:1/c")):query("select 1")
                assert(problem:find("efused", 1, true) or problem:find("onnect", 1, true), problem)
            end
        """,
        "template.lua": "assert(require('greenfcgi.template').compile('<%= 1 %>')({}) == '1')",
        "url.lua": "assert(require('greenfcgi.url').normalise('HTTP://A:80/') == 'http://a/')",
        "wsapi.lua": """
            assert(require "wsapi")
            require("greenfcgi.wsapi").main(function() return 200, {}, function() end end)(env, con)
        """,
        "file.lua": "con:file(env.SCRIPT_FILENAME, { download = 'b\\195\\188cher.lua' })",
        "replies.lua": "con:json({ 1 })",
    }  # fmt: skip
    return {name: script(body) for name, body in bodies.items()}


def script(body: str) -> str:
    """One whose page is made by these statements."""
    return f"function main(env, con)\n{textwrap.dedent(body)}\ncon:puts('ok')\nend"
