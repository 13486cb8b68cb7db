"""greenfcgi.url: parts, links, queries, spellings; and what is no URL."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, unquote

import pytest

from ...support.inside import Inside

_HEAD = 'local url = require "greenfcgi.url"\nlocal function say(...) for i = 1, select("#", ...) do ' \
    'con:puts(tostring((select(i, ...))), "\\n") end end\n'  # fmt: skip

#: RFC 3986, section 5.4, for the base http://a/b/c/d;p?q.
_LINKS = {
    "g:h": "g:h", "g": "http://a/b/c/g", "./g": "http://a/b/c/g", "g/": "http://a/b/c/g/", "/g": "http://a/g",
    "//g": "http://g", "?y": "http://a/b/c/d;p?y", "g?y": "http://a/b/c/g?y", "#s": "http://a/b/c/d;p?q#s",
    "g#s": "http://a/b/c/g#s", "g?y#s": "http://a/b/c/g?y#s", ";x": "http://a/b/c/;x", "g;x": "http://a/b/c/g;x",
    "g;x?y#s": "http://a/b/c/g;x?y#s", "": "http://a/b/c/d;p?q", ".": "http://a/b/c/", "./": "http://a/b/c/",
    "..": "http://a/b/", "../": "http://a/b/", "../g": "http://a/b/g", "../..": "http://a/", "../../": "http://a/",
    "../../g": "http://a/g", "../../../g": "http://a/g", "../../../../g": "http://a/g", "/./g": "http://a/g",
    "/../g": "http://a/g", "g.": "http://a/b/c/g.", ".g": "http://a/b/c/.g", "g..": "http://a/b/c/g..",
    "..g": "http://a/b/c/..g", "./../g": "http://a/b/g", "./g/.": "http://a/b/c/g/", "g/./h": "http://a/b/c/g/h",
    "g/../h": "http://a/b/c/h", "g;x=1/./y": "http://a/b/c/g;x=1/y", "g;x=1/../y": "http://a/b/c/y",
    "g?y/./x": "http://a/b/c/g?y/./x", "g?y/../x": "http://a/b/c/g?y/../x", "g#s/./x": "http://a/b/c/g#s/./x",
    "g#s/../x": "http://a/b/c/g#s/../x", "http:g": "http:g",
}  # fmt: skip


def said(lua: Inside, statements: str) -> list[str]:
    """What a script says, line by line."""
    return lua.main(_HEAD + statements).text.split("\n")[:-1]


def test_links(lua: Inside) -> None:
    """The RFC's examples."""
    calls = "\n".join(f'say(url.join("http://a/b/c/d;p?q", "{link}"))' for link in _LINKS)
    assert said(lua, calls) == list(_LINKS.values())


def test_parts(lua: Inside) -> None:
    """Each part, and which are not there."""
    assert said(lua, """
        local p = url.parse("HTTPS://me:pw@Example.COM:8443/a/b?x=1#top")
        say(p.scheme, p.userinfo, p.host, p.port, p.path, p.query, p.fragment)
        p = url.parse("/only?")
        say(p.scheme, p.host, p.port, p.path, p.query, p.fragment)
        p = url.parse("http://[::1]:80")
        say(p.host, p.port, p.path, url.parse("mailto:a@b.c").path, url.parse("").path, url.parse("file:///etc").host)
    """) == [
        "https", "me:pw", "example.com", "8443", "/a/b", "x=1", "top", "nil", "nil", "nil", "/only", "", "nil",
        "[::1]", "80", "", "a@b.c", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    [
        r"http://a/\n", r"http://a/\0", "http://a b/", "http://a:port/", "http://a:70000/", "http://[::1/", "http://a@b@c/",
        "http://[::1]80/",
        "http://::1/", "http:///path", "1http://a", ":a", "http://a/%zz", "http://a/%4", 'http://a/\\"', "http://a\\\\b",
    ],
)  # fmt: skip
def test_what_is_no_url(lua: Inside, bad: str) -> None:
    """Nil and a message from each function that reads one."""
    lines = said(
        lua,
        f"""
        for _, f in ipairs {{ url.parse, url.normalise, function(u) return url.join("http://a/", u) end }} do
            local found, problem = f("{bad}")
            say(found, type(problem))
        end
    """,
    )
    assert lines == ["nil", "string"] * 3


def test_building(lua: Inside) -> None:
    """What may not stand in a part is escaped, once; what would be read as another part is not."""
    assert said(lua, """
        local query = { q = "x&y", n = { 1, 2 } }
        say(url.build { scheme = "https", host = "example.com", port = 8443, path = "a b/ä", query = query })
        say(url.build { host = "::1", path = "/%41" }, url.build { path = "//host/x" }, url.build { path = "a:b" })
        say(url.build { path = "/a?b#c", query = "x y", fragment = "z#" })
        say(url.build { scheme = "http", userinfo = "a@b:c", host = "h", path = "" })
        say(url.build { path = "/100% of %4 %%41" })
    """) == [
        "https://example.com:8443/a%20b/%C3%A4?n=1&n=2&q=x%26y", "//[::1]/%41", "/.//host/x", "./a:b",
        "/a%3Fb%23c?x%20y#z%23", "http://a%40b:c@h", "/100%25%20of%20%254%20%25%41",
    ]  # fmt: skip


def test_spellings(lua: Inside) -> None:
    """One for all that mean the same."""
    assert said(
        lua,
        """
        say(url.normalise("HTTP://Example.com:80/%7euser/./a/../%c3%a4"), url.normalise("https://a"))
        say(url.normalise("https://a:443/?%41=%2f"), url.normalize("../x"))
    """,
    ) == ["http://example.com/~user/%C3%A4", "https://a/", "https://a/?A=%2F", "../x"]


def test_queries(lua: Inside) -> None:
    """Lists, order, and odd ones; the same as Python's."""
    query = "a=1&b=x+y&a=2&&c&=d&%C3%A4=%zz&e=%26%3D"
    lines = said(
        lua,
        f"""
        local fields, list = url.parse_query("{query}")
        say(fields.a[1], fields.a[2], fields.b, fields.c, fields[""], fields["ä"], fields.e)
        for _, pair in ipairs(list) do con:puts(pair[1], "=", pair[2], ";") end
        say("", url.query {{ {{ "b", 1 }}, {{ "a", "x y" }}, {{ "b", true }} }})
        say(url.query {{ z = "&", a = {{ "1", "2" }} }}, url.query {{}})
        say(select(2, url.parse_query(("a&"):rep(10001))))
    """,
    )
    expected = parse_qs(query, keep_blank_values=True)
    assert lines[:7] == [*expected["a"], expected["b"][0], "", expected[""][0], "%zz", expected["e"][0]]
    assert lines[7:] == [
        "a=1;b=x y;a=2;c=;=d;ä=%zz;e=&=;",
        "b=1&a=x+y&b=true",
        "a=1&a=2&z=%26",
        "",
        "more than 10000 fields",
    ]


def test_escaping(lua: Inside) -> None:
    """All bytes, there and back, as Python has it."""
    text = bytes(range(1, 256))
    lines = said(
        lua,
        """
        local bytes = {}
        for i = 1, 255 do bytes[i] = string.char(i) end
        local text = table.concat(bytes)
        say(url.escape(text), url.unescape(url.escape(text)) == text, url.unescape("%zz%4+%41"), #url.escape("\\0"))
    """,
    )
    assert lines == [quote(text, safe="-._~"), "true", "%zz%4+A", "3"]
    assert unquote(lines[0], "latin-1").encode("latin-1") == text


def test_local_paths(lua: Inside) -> None:
    """Where one may be redirected to, whoever says so."""
    assert said(
        lua,
        r"""
        local texts = { "/", "/a?b=//c", "//evil", "/\\evil", "http://evil", "a", "", "/a\nb", "/a\0", "/a\\b" }
        for _, text in ipairs(texts) do say(url.is_local(text)) end
        say(url.is_local(nil))
    """,
    ) == ["true", "true", *["false"] * 9]


def test_wrong_arguments(lua: Inside) -> None:
    """The error names the argument, at the script's line."""
    for call, says in (
        ("url.parse()", "bad argument #1 to 'parse' (string expected, got nil)"),
        ("url.join('a')", "bad argument #2 to 'join' (string expected, got nil)"),
        ("url.query('a')", "bad argument #1 to 'query' (table expected, got string)"),
        ("url.query { a = {{}} }", "the value of 'a' is a table"),
        ("url.query { 'x' }", "found a string in the list, expected {name, value}"),
        ("url.build { port = 'x' }", "bad field 'port'"),
        ("url.build { path = 1 }", "bad field 'path'"),
        ("url.build { scheme = '1:' }", "bad field 'scheme'"),
        ("url.build { host = 'a/b' }", "bad field 'host'"),
    ):
        error = lua.main(_HEAD + call).error
        assert says in error
        assert "page.lua:4: " in error


def test_a_path_never_becomes_a_host(lua: Inside) -> None:
    """What is left when dots are gone begins with one slash: with two, a browser would leave the site."""
    assert said(lua, """
        say(url.normalise("/.//evil.test/"), url.normalise("/a/..//evil.test"), url.join("/a", "/.//evil.test"))
        say(url.join("http://a/b", "/.//evil.test"), url.normalise("file:/.//x"))
    """) == ["/.//evil.test/", "/.//evil.test", "/.//evil.test", "http://a//evil.test", "file:/.//x"]  # fmt: skip


@pytest.mark.timeout(20)
def test_long_hosts(lua: Inside) -> None:
    """Reading one takes time as its length, not as the square of it."""
    assert said(lua, """
        say(url.parse("http://" .. ("1"):rep(300000) .. ":x/"))
    """) == ["nil", "a host or port that is none"]  # fmt: skip
