"""require "luafcgid", and scripts in luafcgid's style that run as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..support.inside import FLAVOURS, Inside, Request
from ..support.running import Server

#: Runs the Lua source that it gets as the body. `roundtrip` compares a value with what its text is loaded as.
SCRIPT = """
fcgi = require "luafcgid"
local load = loadstring or load

local function differs(a, b, where)
    if type(a) ~= type(b) then return where .. ": " .. type(a) .. " became " .. type(b) end
    if type(a) == "table" then
        for k, v in pairs(a) do
            local difference = differs(v, b[k], where .. "." .. tostring(k))
            if difference then return difference end
        end
        for k in pairs(b) do
            if a[k] == nil then return where .. "." .. tostring(k) .. " is new" end
        end
    elseif a ~= b and (a == a or b == b) then
        return where .. ": " .. tostring(a) .. " became " .. tostring(b)
    end
end

function same(a, b)
    puts(differs(a, b, "value") or "same")
end

function roundtrip(value)
    local text = fcgi.serialize(value)
    if text:find("[%c\\127]") then puts("control characters, ") end
    same(value, assert(load("return " .. text))())
end

function main(env, con)
    function puts(text) con:puts(text) end
    assert(load(con:gets(), "=body"))()
end
"""


class Runner:
    """Runs Lua source in one state that has the module as `fcgi`, and returns what the source `puts`."""

    def __init__(self, lua: Inside) -> None:
        self._lua = lua
        self._state = lua.load(SCRIPT)

    def __call__(self, source: str) -> str:
        """The output of the source."""
        answer = self._lua.run(self._state, Request(body=source.encode()))
        assert answer.failure is None, (source, answer.failure)
        return answer.body.decode("utf-8", "surrogateescape")

    def error(self, source: str) -> str:
        """The message of the error that the source ends with."""
        return self._lua.run(self._state, Request(body=source.encode())).error


@pytest.fixture(scope="module", params=FLAVOURS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """One flavour after the other."""
    inside = Inside(tmp_path_factory.mktemp(request.param), request.param)
    yield Runner(inside)
    inside.close()


def literal(value: object) -> str:
    """A Python value as Lua source. Each byte of a text is written by its number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "(0/0)" if value != value else "(1/0)" if value > 1e308 else "(-1/0)" if value < -1e308 else repr(value)
    if isinstance(value, bytes):
        return '"' + "".join(f"\\{byte:03d}" for byte in value) + '"'
    if isinstance(value, dict):
        return "{" + ",".join(f"[{literal(key)}]={literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ",".join(literal(item) for item in value) + "}"
    return str(value)


KEYS = st.binary(max_size=5) | st.integers(-(2**53), 2**53) | st.booleans()
VALUES = st.recursive(
    st.booleans() | st.binary() | st.floats() | st.integers(-(2**63) + 1, 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


class TestSerialize:
    @given(value=VALUES)
    def test_round_trip(self, run: Runner, value: object) -> None:
        """Any value of tables, text, numbers and booleans is the same after the way through text, on one line."""
        assert run(f"roundtrip({literal(value)})") == "same"

    @pytest.mark.parametrize(
        "value",
        ["nil", "true", "''", "'\\0\\r\\n\\\\\\\"\\127\\255'", "'1\\0002'", "0", "-0.0", "-1", "0.1", "1e300",
         "-1e-300", "2^53", "2^53 + 1", "-2^53", "2^63", "9223372036854775807", "-9223372036854775808",
         "9007199254740993", "-9223372036854775807 - 1", "1/0", "-1/0", "0/0", "5e-324",
         "{}", "{{{}}}", "{1, 2, nil, 4}",
         "{[true] = false, [0.5] = 1, [-3] = {a = 'b'}}", "{ { 1 }, { 1 } }", "{[1/0] = 1, [-1/0] = 2}",
         "(function() local t = {} return { t, t } end)()"],
    )  # fmt: skip
    def test_edges(self, run: Runner, value: str) -> None:
        """The ends of each type's range, and a table that is in there twice."""
        assert run(f"roundtrip({value})") == "same"

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("print", "serialize: a value of type function, expected table, string, number or boolean"),
            ("{a = {print}}", "serialize: a value of type function"),
            ("coroutine.create(print)", "serialize: a value of type thread"),
            ("io.stdout", "serialize: a value of type userdata"),
            ("{[{}] = 1}", "serialize: a key of type table, expected string, number or boolean"),
            ("(function() local t = {} t.t = t return t end)()", "serialize: a table that contains itself"),
            ("(function() local t = {} t[1] = {a = {t}} return t end)()", "serialize: a table that contains itself"),
        ],
    )
    def test_what_cannot_be(self, run: Runner, value: str, message: str) -> None:
        """What has no text is an error that says what it was."""
        assert run.error(f"fcgi.serialize({value})").startswith(message)


class TestUrls:
    @given(data=st.binary())
    def test_round_trip(self, run: Runner, data: bytes) -> None:
        """Any bytes come back, and what stands for them is harmless in a URL."""
        assert run(f"same({literal(data)}, fcgi.urldecode(fcgi.urlencode({literal(data)})))") == "same"
        assert run(f"puts(fcgi.urlencode({literal(data)}):match('[^%w+%%]') or 'harmless')") == "harmless"

    @pytest.mark.parametrize(
        ("call", "expected"),
        [
            ("urlencode('a b&c=d/\\195\\169')", "a+b%26c%3Dd%2F%C3%A9"),
            ("urlencode('')", ""), ("urlencode(5)", "5"), ("urlencode(nil)", "nil"),
            ("urldecode('a+b%20c%2b%C3%a9')", "a b c+é"),
            ("urldecode('100%')", "100%"), ("urldecode('%zz%4')", "%zz%4"), ("urldecode('%00')", "\0"),
            ("urldecode('%2541')", "%41"), ("urldecode('')", ""), ("urldecode(nil)", "nil"),
        ],
    )  # fmt: skip
    def test_known_texts(self, run: Runner, call: str, expected: str) -> None:
        """Space is +, the rest %XX; what is no such code stays as it is."""
        assert run(f"puts(tostring(fcgi.{call}))") == expected

    def test_one_value(self, run: Runner) -> None:
        """They return one value, so that a call can be the last argument of another."""
        assert run("puts(select('#', fcgi.urlencode('a ')) + select('#', fcgi.urldecode('+')))") == "2"


class TestParse:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("'a=b'", "{a = 'b'}"),
            ("'a=b=c'", "{a = 'b=c'}"),
            ("'a'", "{a = ''}"),
            ("'a='", "{a = ''}"),
            ("'=b'", "{[''] = 'b'}"),
            ("'a=1&b=2'", "{a = '1', b = '2'}"),
            ("'a=1&a=2&b=0&a=3'", "{a = {'1', '2', '3'}, b = '0'}"),
            ("'a&a'", "{a = {'', ''}}"),
            ("'&&a=b&&'", "{a = 'b'}"),
            ("'a%20b=c+d%26'", "{['a b'] = 'c d&'}"),
            ("'a%3D=b'", "{['a='] = 'b'}"),
            ("'a%00=%0A'", "{['a\\0'] = '\\n'}"),
            ("''", "{}"), ("'&'", "{}"), ("nil", "{}"),
        ],
    )  # fmt: skip
    def test_texts(self, run: Runner, text: str, expected: str) -> None:
        """Pairs to a table; a name that comes again has the list of its values."""
        assert run(f"same(fcgi.parse({text}), {expected})") == "same"

    @given(pairs=st.dictionaries(st.binary(max_size=8), st.binary(max_size=8), max_size=4))
    def test_undoes_urlencode(self, run: Runner, pairs: dict[bytes, bytes]) -> None:
        """What has been put together with urlencode comes apart again."""
        encoded = " .. '&' .. ".join(
            f"fcgi.urlencode({literal(name)}) .. '=' .. fcgi.urlencode({literal(value)})"
            for name, value in pairs.items()
        )
        assert run(f"same(fcgi.parse({encoded or repr('')}), {literal(pairs)})") == "same"


#: A guest book: written for luafcgid, with nothing in it that only greenfcgi has.
GUESTBOOK = """\
#!/usr/bin/env luafcgid
-- guest book: keeps its entries as long as the state lives
local fcgi = require("luafcgid")

entries = entries or {}

function escape(s)
    return (s:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

function main(env, con)
    local args = fcgi.parse(env.QUERY_STRING)
    if env.REQUEST_METHOD == "POST" then
        local form = fcgi.parse(con:gets())
        if type(form.name) == "string" and form.name ~= "" then
            table.insert(entries, { name = form.name, text = form.text or "" })
            con:log("new entry")
        else
            con:header("Status", "400 Bad Request")
            con:puts("who are you?\\n")
            return
        end
    end
    con:header("Content-Type", "text/html; charset=utf-8")
    con:header("X-Entries: " .. #entries)
    con:puts("<ul>\\n")
    for i, entry in ipairs(entries) do
        if not args.only or args.only == entry.name then
            con:puts(string.format("<li>%d. <b>%s</b>: %s</li>\\n", i, escape(entry.name), escape(entry.text)))
        end
    end
    con:puts("</ul>\\n")
end
"""

#: What a luafcgid user writes first: everything about the request.
INSPECT = """\
local lf = require "luafcgid"

function main(env, con)
    con:reset()
    con:header("Content-Type", "text/plain")
    con:config("unused")
    con:config("unused", "value")
    con:puts("version " .. env.LUAFCGID_VERSION .. "\\n")
    local names = {}
    for name in pairs(env) do table.insert(names, name) end
    table.sort(names)
    for _, name in ipairs(names) do
        if name:sub(1, 5) == "HTTP_" then con:puts(name, "=", env[name]) con:puts("\\n") end
    end
    con:flush()
    for name, value in pairs(lf.parse(env.QUERY_STRING)) do
        if type(value) == "table" then value = table.concat(value, ",") end
        con:puts(lf.urlencode(name) .. "=" .. lf.urlencode(value) .. "\\n")
    end
    local body = con:gets()
    if body then con:puts(lf.serialize({ size = #body }) .. "\\n") end
end
"""


class TestScriptsOfLuafcgid:
    @pytest.fixture(params=["luajit21", "lua51", "lua52", "lua54"])
    def server(self, request: pytest.FixtureRequest, serve: Callable[..., Server]) -> Server:
        """The real server, on the Lua of luafcgid's days and on others."""
        scripts = {"guestbook.lua": GUESTBOOK, "inspect.lua": INSPECT}
        return serve(scripts, f'[lua]\nversion = "{request.param}"\n[states]\nclones = 1\n')

    def test_guest_book(self, server: Server) -> None:
        """A form is posted, parsed, kept in a global across requests, and shown, filtered by the query."""
        form = "application/x-www-form-urlencoded"
        assert server.get("guestbook.lua").body == b"<ul>\n</ul>\n"
        assert server.get("guestbook.lua", b"name=ada&text=2+%3C+3", CONTENT_TYPE=form).status == 200
        reply = server.get("guestbook.lua", b"text=b%26w&name=bob", CONTENT_TYPE=form)
        assert reply.head["content-type"] == ["text/html; charset=utf-8"]
        assert reply.head["x-entries"] == ["2"]
        assert reply.body == b"<ul>\n<li>1. <b>ada</b>: 2 &lt; 3</li>\n<li>2. <b>bob</b>: b&amp;w</li>\n</ul>\n"
        assert server.get("guestbook.lua?only=bob").body == b"<ul>\n<li>2. <b>bob</b>: b&amp;w</li>\n</ul>\n"
        reply = server.get("guestbook.lua", b"text=nobody", CONTENT_TYPE=form)
        assert (reply.status, reply.body) == (400, b"who are you?\n")
        assert server.log().count("POST /guestbook.lua: new entry") == 2

    def test_inspection(self, server: Server) -> None:
        """A script that walks through env, flushes in between, and asks for settings and a body."""
        reply = server.get("inspect.lua?a=1&a=2&b+c=%2F", HTTP_HOST="example.org", HTTP_PROXY="evil")
        assert reply.head == {"status": ["200 OK"], "content-type": ["text/plain"]}
        lines = reply.body.decode().split("\n")
        assert lines[0] == "version 1"
        assert sorted(lines[1:]) == sorted(["HTTP_HOST=example.org", "a=1%2C2", "b+c=%2F", '{["size"] = 0}', ""])
