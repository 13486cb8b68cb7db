"""greenfcgi.cookie: what is read and written, prefixes, signatures, and cookies that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ...support.inside import Inside, Request

_HEAD = 'local cookie = require "greenfcgi.cookie"\nlocal function say(...) for i = 1, select("#", ...) do ' \
    'con:puts(tostring((select(i, ...))), "\\n") end end\n'  # fmt: skip


def said(lua: Inside, statements: str, cookies: str | bytes = "") -> list[str]:
    """What a script says, line by line, for a request with these cookies."""
    text = cookies if isinstance(cookies, str) else cookies.decode("utf-8", "surrogateescape")
    return lua.main(_HEAD + statements, Request({"HTTP_COOKIE": text})).text.split("\n")[:-1]


def written(lua: Inside, statements: str, **variables: str) -> list[str]:
    """The cookies that a script sets."""
    lines = lua.main(_HEAD + statements, Request(variables)).lines
    return [line.removeprefix("Set-Cookie: ") for line in lines if line.startswith("Set-Cookie: ")]


def test_reading(lua: Inside) -> None:
    """Several, the first of a name, values of others as they are."""
    assert said(lua, """
        for _, name in ipairs { "a", "b", "c", "d", "e", "f", "missing", "A" } do say(cookie.get(env, name)) end
        say(cookie.get(env, "b", { raw = true }))
        local all, n = cookie.all(env), 0
        for _ in pairs(all) do n = n + 1 end
        say(n, all.a, all.f)
    """, 'a=1; b=x%20y%3B; c="quoted"; a=2; d=100%;e = sp aces ; f=; =x; alone;;') == [
        "1", "x y;", '"quoted"', "100%", "sp aces", "", "nil", "nil", "x%20y%3B", "6", "1", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "cookies",
    [
        b"",
        b";;;;",
        b"=",
        b"====",
        b"a",
        b"\x01\x02=\xff\xfe",
        b"a=" + b"%" * 5000,
        b"; " * 30000,
        b"a=\x00b",
        b"session",
    ],
)
def test_cookies_that_are_none(lua: Inside, cookies: bytes) -> None:
    """Whatever a client sends is no error."""
    assert said(lua, """
        for _ in pairs(cookie.all(env)) do end
        cookie.get(env, "a")
        cookie.get(env, "a", { signed = true })
        say(cookie.verify("a", cookie.get(env, "session")))
    """, cookies) == ["nil"]  # fmt: skip


def test_any_bytes_come_back(lua: Inside) -> None:
    """A value of all bytes, as a browser sends it back."""
    (line,) = written(
        lua,
        """
        local bytes = {}
        for i = 0, 255 do bytes[i + 1] = string.char(i) end
        cookie.set(con, "all", table.concat(bytes))
    """,
    )
    value = line.partition(";")[0]
    assert value.isascii()
    assert value.isprintable()
    assert not set(' ",\\') & set(value)
    assert said(lua, """
        local value = cookie.get(env, "all")
        for i = 0, 255 do assert(value:byte(i + 1) == i) end
        say(#value)
    """, value) == ["256"]  # fmt: skip


def test_attributes(lua: Inside) -> None:
    """The usual ones, all of them, and that HTTPS makes cookies secure."""
    assert written(lua, """
        cookie.set(con, "a", "1")
        cookie.set(con, "b", 2, { path = "/x", domain = "example.com", max_age = 60.5, expires = 0, httponly = false,
            samesite = "strict", secure = true, partitioned = true })
        cookie.set(con, "c", "", { samesite = "None" })
        cookie.set(con, "d", "", { samesite = false, expires = "Thu, 01 Jan 2037 00:00:00 GMT" })
        cookie.set(con, "__Host-e", "1")
        cookie.delete(con, "f")
        cookie.delete(con, "__Secure-g", { path = "/x", max_age = 5, signed = true })
    """) == [
        "a=1; Path=/; HttpOnly; SameSite=Lax",
        "b=2; Domain=example.com; Path=/x; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Secure; SameSite=Strict; "
        "Partitioned",
        "c=; Path=/; Secure; HttpOnly; SameSite=None",
        "d=; Path=/; Expires=Thu, 01 Jan 2037 00:00:00 GMT; HttpOnly",
        "__Host-e=1; Path=/; Secure; HttpOnly; SameSite=Lax",
        "f=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax",
        "__Secure-g=; Path=/x; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Secure; HttpOnly; SameSite=Lax",
    ]  # fmt: skip
    for variables in ({"HTTPS": "on"}, {"REQUEST_SCHEME": "https"}):
        assert written(lua, "cookie.set(con, 'a', '1')", **variables) == ["a=1; Path=/; Secure; HttpOnly; SameSite=Lax"]
    assert written(lua, "cookie.set(con, 'a', '1', {secure = false})", HTTPS="on") == [
        "a=1; Path=/; HttpOnly; SameSite=Lax"
    ]


def test_signed_values(lua: Inside) -> None:
    """Only what the server has signed, for this name."""
    (line,) = written(lua, 'cookie.set(con, "user", "ada", { signed = true })')
    value = line.partition(";")[0].partition("=")[2]
    forged = value[:-1] + ("A" if value[-1] != "A" else "B")
    assert said(
        lua,
        """
        local options = { signed = true }
        for _, name in ipairs { "user", "other", "forged", "plain" } do say(cookie.get(env, name, options)) end
        say(cookie.verify("x", cookie.sign("x", "\\0;")) == "\\0;")
        say(cookie.verify("y", cookie.sign("x", "1")), cookie.verify("x", nil))
    """,
        f"user={value}; other={value}; forged={forged}; plain=ada",
    ) == ["ada", "nil", "nil", "nil", "true", "nil", "nil"]


def test_what_cannot_be_a_cookie(lua: Inside) -> None:
    """The error names what is wrong, at the script's line, and no header is set."""
    for call, says in (
        ("cookie.set(con, '', '')", "bad argument #2 to 'set' (found ''"),
        ("cookie.set(con, 'a b', '')", "found 'a b', expected a name"),
        ("cookie.set(con, 'a\\r\\nX: y', '')", "found 'a??X: y'"),
        ("cookie.set(con, 'a', nil)", "bad argument #3 to 'set' (string expected, got nil)"),
        ("cookie.set(con, 'a', ('x'):rep(4095))", "found 4097 bytes, expected at most 4096"),
        ("cookie.set(con, 'a', ('\\0'):rep(1400))", "found 4202 bytes"),
        ("cookie.set(con, 'a', '', 1)", "bad argument #4 to 'set' (table expected, got number)"),
        ("cookie.set(con, 'a', '', {same_site = 'Lax'})", "unknown attribute 'same_site'"),
        ("cookie.set(con, 'a', '', {samesite = 'Any'})", "found 'Any', expected \"Lax\", \"Strict\", \"None\" or"),
        ("cookie.set(con, 'a', '', {samesite = 'None', secure = false})", "SameSite=None needs secure"),
        ("cookie.set(con, 'a', '', {partitioned = true, secure = false})", "Partitioned needs secure"),
        ("cookie.set(con, '__Secure-a', '', {secure = false})", "its prefix needs secure"),
        ("cookie.set(con, '__Host-a', '', {path = '/x'})", "with its prefix it has the path / and no domain"),
        ("cookie.set(con, '__host-a', '', {domain = 'a.b'})", "with its prefix it has the path / and no domain"),
        ("cookie.set(con, 'a', '', {path = 'x'})", "bad attribute 'path' of argument #4 to 'set'"),
        ("cookie.set(con, 'a', '', {path = '/;x'})", "bad attribute 'path'"),
        ("cookie.set(con, 'a', '', {domain = 'a;b'})", "bad attribute 'domain'"),
        ("cookie.set(con, 'a', '', {max_age = 'x'})", "bad attribute 'max_age'"),
        ("cookie.set(con, 'a', '', {max_age = 0/0})", "bad attribute 'max_age'"),
        ("cookie.set(con, 'a', '', {expires = 'a;b'})", "bad attribute 'expires'"),
        ("cookie.set(con, 'a', '', {httponly = 1})", "bad attribute 'httponly'"),
        ("cookie.set({}, 'a', '')", "this con belongs to a request that has ended"),
        ("cookie.set('x', 'a', '')", "bad argument #1 to 'set' (con expected, got string)"),
        ("cookie.get(con)", "bad argument #2 to 'get' (string expected, got nil)"),
        ("cookie.get(nil, 'a')", "bad argument #1 to 'get' (table expected, got nil)"),
        ("cookie.sign('a')", "bad argument #2 to 'sign' (string expected, got nil)"),
    ):  # fmt: skip
        error = lua.main(_HEAD + call).error
        assert says in error, call
        assert "page.lua:4: " in error


def test_a_key_that_cannot_be_had(lua: Inside, tmp_path: Path) -> None:
    """The script's error says what to do."""
    (tmp_path / "session.key").write_text("short\n")
    (tmp_path / "session.key").chmod(0o600)
    error = lua.main(_HEAD + 'cookie.sign("a", "b")').error
    assert (
        "session.key: found a key of fewer characters, expected a line of 32 characters or more for each key" in error
    )


@pytest.mark.timeout(20)
def test_cookies_of_nothing_but_spaces(lua: Inside) -> None:
    """What is read grows with the length of the header, not with its square: 120 KB took a minute."""
    spaces = " " * 120_000
    assert said(lua, "local a = cookie.get(env, 'a') say(#a, a:sub(1, 2), cookie.all(env).b, cookie.get(env, 'c'))",
        f"a=x{spaces}y{spaces}; b = {spaces}; c{spaces}") == ["120002", "x ", "", "nil"]  # fmt: skip


@pytest.mark.parametrize("value", ["5", "true", "[1]", '"a\\u0000b"', "{ a = 1 }"])
def test_a_setting_that_is_no_name_of_a_key(tmp_path: Path, value: str) -> None:
    """One clear line, and nothing of Python."""
    lua = Inside(tmp_path, "luajit21", f"[app]\nkey_file = {value}\n")
    for statements in ("require('greenfcgi.cookie').sign('a', 'b')", "require('greenfcgi.session').start(env, con)"):
        answer = lua.main(statements)
        assert answer.error.partition(": ")[2].startswith("[app] key_file: found ")
        assert answer.error.endswith(", expected the name of a file")
    assert lua.log() == ""
    lua.close()
