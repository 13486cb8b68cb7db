"""require "greenfcgi.json": what is JSON and what is not, what becomes of it, and the request's body."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from ...support.inside import Answer, Inside, Request

FLAVOURS = ("luajit21", "luajit20", "lua51", "lua53", "lua54", "lua55")

#: Decodes each text of the body, which are sent with their lengths, and answers "y" and the value as text again, or "n"
#: and what is wrong.
DECODE = """
    local json = require "greenfcgi.json"
    function main(env, con)
        while true do
            local length = con:gets(8)
            if not length then break end
            local text = length == "00000000" and "" or con:gets(tonumber(length))
            local value, problem = json.decode(text)
            local answer = problem and "n" .. problem or "y" .. json.encode(value)
            con:puts(("%08d"):format(#answer), answer)
        end
    end
"""

SPACE = ("", " ", "\n", "\t", "\r\n", " \n\t\r ")
SCALARS = ("null", "true", "false", "0", "-1", '"a"', "1.5", "[]", "{}")
NUMBERS = (
    "0",
    "-0",
    "1",
    "-1",
    "10",
    "123456789",
    "0.5",
    "-0.5",
    "1.25",
    "1e2",
    "1E2",
    "1e+2",
    "1e-2",
    "1.5e3",
    "0e1",
    "0e+1",
    "1.0",
    "100000000000000",
    "-100000000000001",
    "4503599627370497",
    "0.1",
    "1e300",
    "1e-300",
    "5e-324",
    "1e-400",
    "-0.0",
    "0.30000000000000004",
    "123.456e-7",
)
NO_NUMBERS = (
    "-",
    "+1",
    "01",
    "-01",
    "00",
    "1.",
    ".5",
    "-.5",
    "1.e2",
    "1e",
    "1e+",
    "1E-",
    "1e1.5",
    "0x10",
    "0b1",
    "1_000",
    "Infinity",
    "-Infinity",
    "NaN",
    "nan",
    "inf",
    "--1",
    "1-",
    "1+2",
    "0.1.2",
    "1e2e3",
    "1 000",
    "\uff11",
    "1f",
    "-a",
    "1e400",
    "-1e400",
)
#: What stands in a string, and is one.
TEXTS = (
    "",
    "a",
    "a b",
    "/",
    "\\/",
    '\\"',
    "\\\\",
    "\\b\\f\\n\\r\\t",
    "\\u0041",
    "\\u00e9",
    "\\u20AC",
    "\\uD834\\uDD1E",
    "\\ud834\\udd1e",
    "\\u0000",
    "\\u001f",
    "\\u007f",
    "\\uffff",
    "\\ufffe",
    "\\udbff\\udfff",
    "\x7f",
    "\u00e9",
    "\u20ac",
    "\U0001d11e",
    "\U0010ffff",
    "\u2028\u2029",
    "\ufeff",
    "\u0080",
    "\u07ff",
    "\u0800",
    "\ud7ff",
    "\ue000",
    "\\\\u0041",
    '\\\\\\"',
    "'",
    "x" * 5000,
    "\u00e9" * 3000,
    "\\n" * 3000,
    "[",
    "{",
    ",",
    ":",
    "]",
    "}",
)
#: What is not.
NO_TEXTS = (
    b"\n",
    b"\t",
    b"\x00",
    b"\x1f",
    b"\r",
    b"\\a",
    b"\\0",
    b"\\x41",
    b"\\'",
    b"\\U0041",
    b"\\u",
    b"\\u1",
    b"\\u12",
    b"\\u123",
    b"\\u12g4",
    b"\\u-123",
    b"\\u 123",
    b"\\\n",
    b"\\",
    b"\\ud800",
    b"\\udc00",
    b"\\ud800x",
    b"\\ud800\\n",
    b"\\ud800\\u0041",
    b"\\ud800\\ud800",
    b"\\udc00\\ud800",
    b"\\ud83",
    b"\x80",
    b"\xff",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xc3",
    b"\xc3(",
    b"\xe2\x82",
    b"\xe2(\xa1",
    b"\xe0\x80\x80",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x9d\x84",
    b"\xf0\x80\x80\x80",
    b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfe",
    b"\xe9t\xe9",
    b"a" * 5000 + b"\x80",
    b"\xc3\xa9" * 3000 + b"\xc3",
)
#: Nothing that is a value.
NOTHING = (
    "",
    " ",
    "\n",
    "nul",
    "nulll",
    "tru",
    "True",
    "TRUE",
    "fals",
    "undefined",
    "a",
    "'a'",
    '"a',
    'a"',
    '"',
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "[1",
    "[1,",
    "[,",
    "[,1]",
    "[1,]",
    "[1,,2]",
    "[1 2]",
    "[1:2]",
    "[1;2]",
    "1]",
    "[1]]",
    "[[1]",
    "[1}",
    "{]",
    "{1}",
    "{1:1}",
    '{"a"',
    '{"a":',
    '{"a" 1}',
    '{"a":}',
    '{"a":1',
    '{"a":1,',
    '{"a":1,}',
    '{,"a":1}',
    '{"a":1,,"b":2}',
    '{"a":1 "b":2}',
    '{"a",1}',
    "{a:1}",
    "{'a':1}",
    '{"a"::1}',
    '{"a":1}}',
    '{"a":1]',
    "{null:1}",
    '{"a":b}',
    '{"a":1;"b":2}',
    "[a]",
    "[nul]",
    "[True]",
    "[undefined]",
    "1 2",
    "1,2",
    "null null",
    '"a""b"',
    "[]{}",
    "{}x",
    "[1]#",
    "# 1",
    "// 1\n1",
    "/* 1 */ 1",
    "[1/**/]",
    "1 // x",
    "\ufeff1",
    "\ufeff[]",
    "\u00a01",
    "1\u00a0",
    "\u20281",
    "\x0b1",
    "\x0c1",
    "1\x00",
    "\x001",
    "[1\x00]",
    "\\u0031",
    "[\\u0031]",
    '{\\u0022a":1}',
    "(1)",
    "<1>",
    "[" * 513,
    '{"a":' * 513 + "1" + "}" * 513,
    "[" * 100_000,
    '[{"a":' * 50_000,
    "[" * 513 + "]" * 513,
    "-true",
    "*",
    "`1`",
    "[...]",
    "{...}",
    "[1,\n2,\n]",
    '{"a":1,"b"}',
    '["a",\n4\n,1,',
    '[""x]',
    '["a" ""]',
)
STRUCTURES = (
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    '{"a":[]}',
    '{"a":{}}',
    "[1]",
    "[1,2,3]",
    "[1,[2,[3]]]",
    '{"a":1}',
    '{"a":1,"b":2}',
    '{"":0}',
    '{"a":{"b":{"c":null}}}',
    '[{"a":[{"b":[]}]}]',
    "[null,null]",
    "[null]",
    '{"a":null}',
    '{"1":1,"2":2}',
    '{"\\u0000":1}',
    '{"\\u0061":1}',
    '{"a b":"c d"}',
    "[" * 512 + "]" * 512,
    '{"a":' * 512 + "1" + "}" * 512,
    "[" * 300 + "1" + "]" * 300,
    "[" + "1," * 10_000 + "1]",
    "[" + '"a",' * 3000 + "{}]",
    '["\u00e9",{"\u20ac":"\U0001d11e"}]',
    '{"a":1.5e3,"b":-0.25}',
    '{"x":[{"id":1,"tags":["a","b"]},{"id":2,"tags":[]}]}',
    "[true,false,null]",
    '{"length":1,"__index":2}',
)


def accepted() -> Iterator[bytes]:
    """Texts that are JSON."""
    for number in NUMBERS:
        yield number.encode()
        yield f"[{number}]".encode()
        yield f'{{"a":{number}, "b":{number}}}'.encode()
    for text in TEXTS:
        yield f'"{text}"'.encode("utf-8", "surrogatepass")
        yield f'{{"{text}":"{text}"}}'.encode("utf-8", "surrogatepass")
    for structure in STRUCTURES:
        yield structure.encode()
    for space in SPACE[1:]:
        for scalar in SCALARS:
            yield f"{space}{scalar}{space}".encode()
        yield f'{space}[{space}1{space},{space}"a"{space}]{space}'.encode()
        yield f'{space}{{{space}"a"{space}:{space}1{space},{space}"b"{space}:{space}[{space}]{space}}}{space}'.encode()
    yield b" " * 10_000 + b"1" + b"\n" * 10_000


def refused() -> Iterator[bytes]:
    """Texts that are not."""
    for number in NO_NUMBERS:
        yield number.encode()
        yield f"[{number}]".encode()
    for text in NO_TEXTS:
        yield b'"' + text + b'"'
        yield b'{"' + text + b'":1}'
    for nothing in NOTHING:
        yield nothing.encode()
    for space in SPACE:
        yield f"{space}[1{space}".encode()
        yield f'{space}{{"a"{space}:{space}'.encode()
    yield b'"' + b"x" * 100_000
    yield b"\xff\xfe[\x00]\x00"
    yield b"\x00[\x00]"


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua."""
    inside = Inside(tmp_path, str(request.param))
    yield inside
    inside.close()


def decode_all(lua: Inside, texts: list[bytes]) -> list[bytes]:
    """What the script makes of each text."""
    body = b"".join(b"%08d%s" % (len(text), text) for text in texts)
    answer = lua.run(lua.load(DECODE), Request(body=body))
    assert answer.failure is None, answer.failure
    found, at = [], 0
    while at < len(answer.body):
        length = int(answer.body[at : at + 8])
        found.append(answer.body[at + 8 : at + 8 + length])
        at += 8 + length
    assert len(found) == len(texts)
    return found


def test_there_are_many_cases() -> None:
    """As many as the table is meant to have."""
    assert len(set(accepted())) > 200
    assert len(set(refused())) > 200


def test_what_is_json(lua: Inside) -> None:
    """It is decoded, and the value is what Python makes of the text."""
    texts = list(accepted())
    for text, found in zip(texts, decode_all(lua, texts), strict=True):
        assert found[:1] == b"y", (text[:100], found[:200])
        assert json.loads(found[1:]) == json.loads(text), text[:100]


def test_what_is_not_json(lua: Inside) -> None:
    """It is refused, with the line and the column."""
    texts = list(refused())
    for text, found in zip(texts, decode_all(lua, texts), strict=True):
        assert found[:1] == b"n", (text[:100], found[:100])
        assert found.startswith(b"nline "), found
        assert b": found " in found
        assert len(found) < 200


def test_what_is_up_to_the_decoder(lua: Inside) -> None:
    """Of names that come twice, the last one counts. Integers are kept in as far as this Lua has them."""
    state = lua.load("""
        local json = require "greenfcgi.json"
        function main(env, con)
            con:puts(json.encode(json.decode('{"a":1,"a":2}')), " ")
            local large, larger = json.decode("9223372036854775807"), json.decode("[18446744073709551616]")[1]
            con:puts(json.encode(large), " ", json.encode(larger))
        end
    """)
    small, large, larger = lua.run(state).text.split()
    assert small == '{"a":2}'
    has_integers = "lua53" <= lua.engine.config.lua.version <= "lua55"
    assert large == ("9223372036854775807" if has_integers else "9.223372036854776e+18")
    assert float(larger) == 2.0**64


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1,\n2,\n x]", "line 3, column 2: found 'x]', expected a value"),
        ('{"a":1', 'line 1, column 7: found the end, expected "," or "}"'),
        ('{"a" 1}', "line 1, column 6: found '1}', expected \":\" behind a name"),
        ("{a:1}", "line 1, column 2: found 'a:1}', expected a name in quotes, or \"}\""),
        ('["\\x"]', "line 1, column 3: found '\\x\"]', expected an escape such as \\n or \\u0041"),
        ('["a\tb"]', "line 1, column 4: found '\\9b\"]', expected an escape in the place of a control character"),
        ("1 2", "line 1, column 3: found '2', expected nothing behind the value"),
        ("[" * 600, f"line 1, column 513: found '{'[' * 20}', expected at most 512 arrays and objects in each other"),
    ],
)
def test_what_is_said_of_it(tmp_path: Path, text: str, problem: str) -> None:
    """Where it is, what was found, and what was expected."""
    lua = Inside(tmp_path)
    assert decode_all(lua, [text.encode()]) == [b"n" + problem.encode()]


def evaluate(lua: Inside, statements: str) -> Answer:
    """What statements `put` that have the module as `json`."""
    return lua.main('local json = require "greenfcgi.json"\n' + statements)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("nil", "null"),
        ("json.null", "null"),
        ("true", "true"),
        ("12", "12"),
        ("-3", "-3"),
        ("0.5", "0.5"),
        ("1e15 + 0.5", "1000000000000000.5"),
        ("1/3", "0.3333333333333333"),
        ("0.1 + 0.2", "0.30000000000000004"),
        ("1e300", "1e+300"),
        ("'a\"b\\\\c'", '"a\\"b\\\\c"'),
        ("'\\0\\n\\127'", '"\\u0000\\n\x7f"'),
        ("{}", "{}"),
        ("json.array()", "[]"),
        ("json.array {}", "[]"),
        ("json.object()", "{}"),
        ("{ 1, 'a', {} }", '[1,"a",{}]'),
        ("{ json.null, json.null }", "[null,null]"),
        ("{ [1] = 'a' }", '["a"]'),
        ("json.object { 'a' }", '{"1":"a"}'),
        ("{ a = { b = json.array() } }", '{"a":{"b":[]}}'),
        ("setmetatable({ 1 }, { __index = error, __len = error, __pairs = error })", "[1]"),
        ("setmetatable({}, { __jsontype = 'array' })", "[]"),
        ("{}, { empty = 'array' }", "[]"),
        ("json.decode('{}'), { empty = 'array' }", "{}"),
        ("{ b = 1, a = 2, c = { e = 1, d = 2 } }, { sort = true }", '{"a":2,"b":1,"c":{"d":2,"e":1}}'),
        ("{ a = { 1, 2 } }, { pretty = true }", '{\n  "a": [\n    1,\n    2\n  ]\n}'),
        ("{ 1 }, { indent = 1 }", "[\n 1\n]"),
        ("{ 1 }, { indent = '\\t' }", "[\n\t1\n]"),
        ("{ {}, json.array() }, { pretty = true }", "[\n  {},\n  []\n]"),
        ("'\\195\\169\\240\\157\\132\\158', { ascii = true }", '"\\u00e9\\ud834\\udd1e"'),
        ("'</script>&\\226\\128\\168', { html = true }", '"\\u003c/script\\u003e\\u0026\\u2028"'),
        ("{ 0/0, 1/0 }, { nan = 'null' }", "[null,null]"),
    ],
)
def test_encode(lua: Inside, value: str, text: str) -> None:
    """Values as text, with the options."""
    found = evaluate(lua, f"con:puts(json.encode({value}))").text
    assert found == text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("print", "found a function, expected nil, boolean, number, string, or a table of these"),
        ("{ a = { b = { 1, print } } }", "a.b[2]: found a function"),
        ("{ x = 0/0 }", "x: found not a number (NaN)"),
        ("{ 1/0 }", "[1]: found infinity, which JSON does not have"),
        ("{ -1/0 }", "[1]: found -infinity"),
        ("{ 1, nil, 3 }", "found an array with holes (2 values, the last one at 3): json.null can fill them"),
        ("{ 1, x = 2 }", "found a table with a key of type string beside elements"),
        ("{ [{}] = 1 }", "found a key of type table"),
        ("{ [true] = 1 }", "found a key of type boolean"),
        ("json.array { x = 1 }", "key of type string beside elements"),
        ("{ a = '\\255' }", "a: found text that is not UTF-8, at its byte 1"),
        ("('x'):rep(5000) .. '\\128'", "at its byte 5001"),
        ("{ ['\\255'] = 1 }", "found text that is not UTF-8"),
        ("loop", "found a table that contains itself"),
        ("deep(513)", "found tables nested more than 512 deep"),
        ("deep(100000)", "found tables nested more than 512 deep"),
        ("{}, 1", "bad argument #2 to 'encode' (table expected, got number)"),
        ("{}, { depth = 0 }", "bad argument #2 to 'encode' (depth: found 0, expected a whole number from 1 to 1000)"),
        (
            "{}, { indent = 'x' }",
            "bad argument #2 to 'encode' (indent: expected true, a number of spaces, or white space)",
        ),
        ("{ { 1 } }, { depth = 1 }", "found tables nested more than 1 deep"),
        ("coroutine.create(print)", "found a thread"),
    ],
)
def test_what_cannot_be_encoded(lua: Inside, value: str, problem: str) -> None:
    """An error at the script's line, with the way to the value."""
    answer = evaluate(
        lua,
        f"""
        local loop = {{ a = {{}} }} loop.a.b = loop
        local function deep(n) local t = {{}} for i = 2, n do t = {{ t }} end return t end
        json.encode({value})
    """,
    )
    assert problem in answer.error
    assert "page.lua:6: " in answer.error


@pytest.mark.parametrize(
    "statement",
    [
        "json.decode()",
        "json.decode(12)",
        "json.decode('1', 2)",
        "json.array(1)",
        "json.object('x')",
        "json.array(json.null)",
    ],
)
def test_wrong_arguments(lua: Inside, statement: str) -> None:
    """They are the script's own mistakes."""
    assert "page.lua:3: bad argument #" in evaluate(lua, statement).error


def test_arrays_and_null_round_trip(lua: Inside) -> None:
    """What decode returns, encode writes again; null is one value, whoever loads the module."""
    answer = evaluate(
        lua,
        """
        local text = '{"a":[],"b":{},"c":null,"d":[null,[1,2,[]],{}]}'
        assert(json.encode(json.decode(text), { sort = true }) == text)
        package.loaded["greenfcgi.json"] = nil
        local again = require "greenfcgi.json"
        assert(again ~= json and again.null == json.null)
        assert(json.is_array(json.decode("[]")) and not json.is_array(json.decode("{}")))
        assert(not json.is_array(json.null))
        assert(tostring(json.null) == "null" and not pcall(function() json.null.x = 1 end))
        assert(json.decode("[null]", { null = false })[1] == false and json.decode("null") == json.null)
        con:puts("done")
    """,
    )
    assert answer.text == "done"


def test_numbers_keep_their_value(lua: Inside) -> None:
    """Each double comes back as it was, and is written as shortly as may be."""
    values = [
        math.pi,
        1e-7,
        1e21,
        123456789.123,
        2.0**53,
        -(2.0**60),
        5e-324,
        1.7976931348623157e308,
        0.1,
        100.0,
        1e14,
        -1e14,
    ]
    texts = [repr(value).encode() for value in values]
    for value, found in zip(values, decode_all(lua, texts), strict=True):
        assert float(found[1:]) == value
        assert len(found) <= 25


def read(lua: Inside, body: bytes, kind: str | None = None, options: str = "nil") -> Answer:
    """What a script answers that reads its body."""
    parameters = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(body))} | ({"CONTENT_TYPE": kind} if kind else {})
    state = lua.load(f"""
        local json = require "greenfcgi.json"
        function main(env, con)
            con:puts(json.encode(json.read(con, {options})))
        end
    """)
    return lua.run(state, Request(parameters, body=body))


@pytest.mark.parametrize(
    ("body", "kind", "options", "status", "text"),
    [
        (b'{"a":1}', "application/json", "nil", 200, '{"a":1}'),
        (b"[1]", None, "nil", 200, "[1]"),
        (b"[1]", "Application/JSON; charset=utf-8", "nil", 200, "[1]"),
        (b"1", "application/problem+json", "nil", 200, "1"),
        (b"[1]", "text/plain", "nil", 415, "expected a body of type application/json\n"),
        (b"a=1", "application/x-www-form-urlencoded", "nil", 415, "expected a body of type application/json\n"),
        (b"[1,2", None, "nil", 400, 'the body is not JSON: line 1, column 5: found the end, expected "," or "]"\n'),
        (b"", None, "nil", 400, "the body is empty, expected JSON\n"),
        (b" \n", None, "nil", 400, "the body is empty, expected JSON\n"),
        (b"[1]", None, "{ limit = 2 }", 413, "the body is longer than 2 bytes\n"),
        (b"[1]", None, "{ limit = 3 }", 200, "[1]"),
        (b"[[1]]", None, "{ depth = 1 }", 400, "at most 1 arrays and objects in each other\n"),
        (b"null", None, "nil", 200, "null"),
    ],
)
def test_the_body_of_a_request(
    tmp_path: Path, body: bytes, kind: str | None, options: str, status: int, text: str
) -> None:
    """What is wrong with it is the client's fault, and a reply."""
    lua = Inside(tmp_path)
    answer = read(lua, body, kind, options)
    assert (answer.status, answer.text[-len(text) :]) == (status, text)
    lua.close()


def test_a_body_that_breaks_off(tmp_path: Path) -> None:
    """It is no JSON, even where it parses."""
    lua = Inside(tmp_path)
    request = Request({"CONTENT_LENGTH": "10"}, body=b"[1]")
    request.problem = "the body is 3 bytes, CONTENT_LENGTH says 10"
    state = lua.load('function main(env, con) con:puts(require("greenfcgi.json").read(con)[1]) end')
    answer = lua.run(state, request)
    assert (answer.status, answer.text) == (400, "the body is 3 bytes, CONTENT_LENGTH says 10\n")
    lua.close()


def test_finalizers_may_use_it_meanwhile(lua: Inside) -> None:
    """One that encodes and decodes while a value is on its way does not disturb that."""
    answer = evaluate(
        lua,
        """
        local function garbage()
            local f = function() json.encode({ 1, { a = "x" } }, { pretty = true, depth = 3 }) json.decode("[[1]]") end
            if newproxy then getmetatable(newproxy(true)).__gc = f else setmetatable({}, { __gc = f }) end
        end
        local t = {}
        for i = 1, 2000 do t[i] = { id = i, name = "n" .. i, list = { i, i } } end
        local text = json.encode(t, { sort = true })
        for _ = 1, 5 do
            for _ = 1, 300 do garbage() end
            assert(json.encode(json.decode(text), { sort = true }) == text)
        end
        con:puts("done")
    """,
    )
    assert answer.text == "done"
