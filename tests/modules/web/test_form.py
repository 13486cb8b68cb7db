"""greenfcgi.form: fields, files, limits, and what is broken. Nothing of a form is left when its request has ended."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.modules.web.multipart_form import Limits, read_form, safe_name
from greenfcgi.modules.web.uploads import Upload

from ...support.inside import FLAVOURS, Answer, Inside, Request, run_python

BOUNDARY = "----WebKitFormBoundary7MA4YWxk"
LINE = f"--{BOUNDARY}\r\n".encode()
END = f"--{BOUNDARY}--\r\n".encode()
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"

#: Shows all of a form: names in order, lists in brackets.
SHOW = """
local form = require "greenfcgi.form"
local options = %s
local function shown(value)
    if type(value) == "string" then return value end
    if value.path then
        local file = assert(io.open(value.path, "rb"))
        local text = file:read("*a")
        file:close()
        return value.name .. "," .. value.type .. "," .. value.size .. "," .. text
    end
    local parts = {}
    for i, part in ipairs(value) do parts[i] = shown(part) end
    return "[" .. table.concat(parts, "|") .. "]"
end
local function all(values)
    local names = {}
    for name in pairs(values) do names[#names + 1] = name end
    table.sort(names)
    for i, name in ipairs(names) do names[i] = name .. "=" .. shown(values[name]) end
    return table.concat(names, ";")
end
function main(env, con)
    local fields, files = form.read(env, con, options)
    con:puts(all(fields), "/", all(files))
end
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files are: nothing is left there, nor is a descriptor open."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())
    assert not [path for path in map(_target, os.listdir("/proc/self/fd")) if path.startswith(str(folder))]


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def part(head: str, data: bytes = b"", *more: str) -> bytes:
    """A part of a form, with its line of the boundary."""
    lines = "".join(f"{line}\r\n" for line in (f"Content-Disposition: form-data; {head}", *more))
    return LINE + lines.encode("utf-8", "surrogateescape") + b"\r\n" + data + b"\r\n"


def posted(body: bytes, content_type: str = MULTIPART, **more: str) -> Request:
    """A request with a form."""
    return Request({"REQUEST_METHOD": "POST", "CONTENT_TYPE": content_type} | more, body)


def read(lua: Inside, body: bytes, content_type: str = MULTIPART, options: str = "nil") -> Answer:
    """What SHOW answers to a form."""
    state = lua.load(SHOW % options)
    try:
        return lua.run(state, posted(body, content_type))
    finally:
        state.close()


URLENCODED = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ""),
        (b"a=1&b=2", "a=1;b=2"),
        (b"a=1&a=2&a=3", "a=[1|2|3]"),
        (b"a[]=1", "a=[1]"),
        (b"a%5B%5D=1&a[]=2", "a=[1|2]"),
        (b"a=1&a[]=2", "a=[1|2]"),
        (b"a[]=1&a=2", "a=[1|2]"),
        (b"a=1&a=2&a[]=3", "a=[1|2|3]"),
        (b"[]=1", "[]=1"),
        (b"a[b]=1", "a[b]=1"),
        (b"a=x+y%20z%2B", "a=x y z+"),
        (b"a=%C3%A4", "a=\u00e4"),
        (b"a=%zz%4", "a=%zz%4"),
        (b"a", "a="),
        (b"a==b", "a==b"),
        (b"&&a=1&&", "a=1"),
        (b"a=1;b=2", "a=1;b=2"),
        (b"a=%00", "a=\0"),
        (b"a=" + b"x" * 200000 + b"&b=2", "a=" + "x" * 200000 + ";b=2"),
        (b"b=" + b"%41" * 50000 + b"&c", "b=" + "A" * 50000 + ";c="),
    ],
)
def test_an_urlencoded_form(lua: Inside, body: bytes, expected: str) -> None:
    """A name that comes twice has a list; one that ends in [] has one always, without the []."""
    assert read(lua, body, URLENCODED).text == expected + "/"


def test_brackets_as_they_are(lua: Inside) -> None:
    """Where a script wants them so."""
    assert read(lua, b"a[]=1&a[]=2&b=3", URLENCODED, "{ brackets = false }").text == "a[]=[1|2];b=3/"
    body = part('name="a[]"', b"1") + part('name="f[]"; filename="a"', b"1") + END
    assert read(lua, body, options="{ brackets = false }").text == "a[]=1/f[]=a,application/octet-stream,1,1"


FILE = 'name="f"; filename="%s"'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (END, "/"),
        (part('name="a"', b"1"), "a=1/"),
        (part('name="a"'), "a=/"),
        (part('name="a"', b"1") + part('name="a"', b"2"), "a=[1|2]/"),
        (part('name="a[]"', b"1"), "a=[1]/"),
        (part('name="a"', b"x\r\ny\r\n"), "a=x\r\ny\r\n/"),
        (part('name="a"', f"--{BOUNDARY}x".encode()), f"a=--{BOUNDARY}x/"),
        (part("name=a", b"1"), "a=1/"),
        (part('NAME="a"', b"1"), "a=1/"),
        (part('name="a\\"b"', b"1"), 'a"b=1/'),
        (part('name="a%22b%0D%0A"', b"1"), 'a"b\r\n=1/'),
        (part('name="\u00e4"', "\u00f6".encode()), "\u00e4=\u00f6/"),
        (part('name="a"', b"\xe4", "Content-Type: text/plain; charset=ISO-8859-1"), "a=\u00e4/"),
        (part('name="a"', b"\x80", "Content-Type: text/plain; charset=windows-1252"), "a=\u20ac/"),
        (part('name="a"', "\u00e4".encode(), "Content-Type: text/plain; charset=UTF-8"), "a=\u00e4/"),
        (part(FILE % "a.txt", b"12345", "Content-Type: text/plain"), "/f=a.txt,text/plain,5,12345"),
        (part(FILE % "a.txt", b"1", "Content-Type: Text/HTML; charset=x"), "/f=a.txt,text/html,1,1"),
        (part(FILE % "a.txt", b"1"), "/f=a.txt,application/octet-stream,1,1"),
        (part(FILE % "a.txt", b"1", "Content-Type: <b>"), "/f=a.txt,application/octet-stream,1,1"),
        (part(FILE % "a", b"1") + part(FILE % "b", b"2"),
         "/f=[a,application/octet-stream,1,1|b,application/octet-stream,1,2]"),
        (part('name="f[]"; filename="a"', b"1"), "/f=[a,application/octet-stream,1,1]"),
        (part(FILE % "a.txt"), "/f=a.txt,application/octet-stream,0,"),
        # No file was chosen.
        (part(FILE % "", b"", "Content-Type: application/octet-stream"), "/"),
        (part(FILE % "", b"1"), "/f=file,application/octet-stream,1,1"),
        (part(FILE % "../../etc/passwd", b"1"), "/f=passwd,application/octet-stream,1,1"),
        (part(FILE % "C:\\Users\\me\\a.txt", b"1"), "/f=a.txt,application/octet-stream,1,1"),
        (part(FILE % 'a\\"b.txt', b"1"), '/f=a"b.txt,application/octet-stream,1,1'),
        (part(FILE % "a%22b.txt", b"1"), '/f=a"b.txt,application/octet-stream,1,1'),
        (part("name=\"f\"; filename*=UTF-8''na%C3%AFve%20.txt", b"1"),
         "/f=na\u00efve .txt,application/octet-stream,1,1"),
        (part("name=\"f\"; filename=\"x.txt\"; filename*=utf-8'en'%C3%A4.txt", b"1"),
         "/f=\u00e4.txt,application/octet-stream,1,1"),
        (part("name=\"f\"; filename*=iso-8859-1''%E4.txt", b"1"), "/f=\u00e4.txt,application/octet-stream,1,1"),
        (part("name=\"a; filename*=UTF-8''b\"", b"1"), "a; filename*=UTF-8''b=1/"),
        (part('name="f"; filename="\udcff.txt"', b"1"), "/f=_.txt,application/octet-stream,1,1"),
        (b"a preamble\r\n" + part('name="a"', b"1"), "a=1/"),
        (b"\r\n" + part('name="a"', b"1"), "a=1/"),
        (part('name="a"', b"1", "X-Other: y", "Content-Transfer-Encoding: binary"), "a=1/"),
        (part('name="a"', b"1", "Content-Length: 1"), "a=1/"),
    ],
)  # fmt: skip
def test_a_multipart_form(lua: Inside, body: bytes, expected: str) -> None:
    """Fields and files as browsers and others send them."""
    assert read(lua, body if body.endswith(END) else body + END).text == expected


def test_what_is_behind_the_end_does_not_count(lua: Inside) -> None:
    """An epilogue, of whatever length."""
    assert read(lua, part('name="a"', b"1") + END + b"an epilogue\r\n" * 100000).text == "a=1/"


@pytest.mark.parametrize("size", [0, 1, 70000, 262143, 262144, 262145, 3000000])
def test_a_file_arrives_as_it_was_sent(tmp_path: Path, size: int) -> None:
    """Whatever the parts are that it is read in, and with what looks like the boundary."""
    data = (f"\r\n--{BOUNDARY[:-1]}\r\n".encode() + os.urandom(999))[:size] * (size // 999 + 1)
    lua = Inside(tmp_path)
    lua.write("page.lua", """
        local form = require "greenfcgi.form"
        function main(env, con)
            local _, files = form.read(env, con)
            assert(files.f:move("copy"))
        end
    """)  # fmt: skip
    state = lua.load()
    assert lua.run(state, posted(part(FILE % "a", data[:size]) + END)).text == ""
    assert (lua.root / "copy").read_bytes() == data[:size]
    state.close()
    lua.close()


GOOD = part('name="a"', b"1")
HEAD = b'Content-Disposition: form-data; name="a"'
BROKEN = {
    "no boundary": (GOOD + END, "multipart/form-data"),
    "an empty boundary": (GOOD + END, 'multipart/form-data; boundary=""'),
    "a boundary without a value": (GOOD + END, "multipart/form-data; boundary="),
    "two boundaries": (GOOD + END, f"{MULTIPART}; boundary=x"),
    "a boundary of 71": (GOOD + END, "multipart/form-data; boundary=" + "x" * 71),
    "a boundary that ends in a blank": (GOOD + END, 'multipart/form-data; boundary="x "'),
    "a line break in a boundary": (GOOD + END, 'multipart/form-data; boundary="a\r\nb"'),
    "a zero byte in a boundary": (GOOD + END, 'multipart/form-data; boundary="a\0b"'),
    "a quote that does not end": (GOOD + END, 'multipart/form-data; boundary="x'),
    "a boundary with a star": (GOOD + END, "multipart/form-data; boundary=x*y"),
    "rubbish behind the boundary": (GOOD + END, f"{MULTIPART} x y"),
    "another boundary": (GOOD + END, "multipart/form-data; boundary=other"),
    "a boundary beyond ASCII": (GOOD + END, "multipart/form-data; boundary=\u00e4"),
    "nothing": (b"", MULTIPART),
    "a text": (b"hello", MULTIPART),
    "an urlencoded form": (b"a=1&b=2", MULTIPART),
    "half a boundary": (LINE[:10], MULTIPART),
    "a boundary alone": (LINE, MULTIPART),
    "no last boundary": (GOOD, MULTIPART),
    "half a last boundary": (GOOD + END[:-4], MULTIPART),
    "cut in a head": (GOOD + LINE + HEAD[:20], MULTIPART),
    "cut behind a head": (GOOD + LINE + HEAD + b"\r\n\r\n", MULTIPART),
    "cut in a field": (GOOD + LINE + HEAD + b"\r\n\r\nabc", MULTIPART),
    "cut in a file": (GOOD + part(FILE % "a", b"12345")[:-4], MULTIPART),
    "bytes before the boundary": (b"x" + GOOD + END, MULTIPART),
    "bytes behind the boundary": (LINE[:-2] + b"xy\r\n" + HEAD + b"\r\n\r\n1\r\n" + END, MULTIPART),
    "bytes behind a later boundary": (GOOD + LINE[:-2] + b"xy\r\n" + HEAD + b"\r\n\r\n1\r\n" + END, MULTIPART),
    "a boundary with a blank behind it": (GOOD + LINE[:-2] + b" \r\n" + HEAD + b"\r\n\r\n1\r\n" + END, MULTIPART),
    "line feeds only": ((GOOD + END).replace(b"\r\n", b"\n"), MULTIPART),
    "a line feed behind the boundary": (LINE[:-2] + b"\n" + HEAD + b"\r\n\r\n1\r\n" + END, MULTIPART),
    "line feeds in a head": (LINE + HEAD + b"\nX: y\n\n1\r\n" + END, MULTIPART),
    "no head": (LINE + b"\r\n1\r\n" + END, MULTIPART),
    "no Content-Disposition": (LINE + b"Content-Type: text/plain\r\n\r\n1\r\n" + END, MULTIPART),
    "another disposition": (LINE + b'Content-Disposition: attachment; name="a"\r\n\r\n1\r\n' + END, MULTIPART),
    "no name": (LINE + b"Content-Disposition: form-data\r\n\r\n1\r\n" + END, MULTIPART),
    "an empty name": (part('name=""', b"1") + END, MULTIPART),
    "only the name of a file": (part('filename="a"', b"1") + END, MULTIPART),
    "a head without a colon": (LINE + HEAD + b"\r\nrubbish\r\n\r\n1\r\n" + END, MULTIPART),
    "a header without a name": (LINE + HEAD + b"\r\n: x\r\n\r\n1\r\n" + END, MULTIPART),
    "a header with a strange name": (LINE + HEAD + b"\r\nA B: x\r\n\r\n1\r\n" + END, MULTIPART),
    "Content-Disposition twice": (LINE + HEAD + b"\r\n" + HEAD + b"\r\n\r\n1\r\n" + END, MULTIPART),
    "a head that goes on before it begins": (LINE + b" x\r\n" + HEAD + b"\r\n\r\n1\r\n" + END, MULTIPART),
    "a wrong length": (part('name="a"', b"1", "Content-Length: 5") + END, MULTIPART),
    "a length that is none": (part('name="a"', b"1", "Content-Length: -1") + END, MULTIPART),
    "base64": (part('name="a"', b"MQ==", "Content-Transfer-Encoding: base64") + END, MULTIPART),
    "an unknown charset": (part('name="a"', b"1", "Content-Type: text/plain; charset=zlib") + END, MULTIPART),
    "not in its charset": (part('name="a"', b"\xff", "Content-Type: text/plain; charset=us-ascii") + END, MULTIPART),
    "a file's name in no charset": (part("name=\"f\"; filename*=hex''00", b"1") + END, MULTIPART),
    "a file's name not in its charset": (part("name=\"f\"; filename*=UTF-8''%FF", b"1") + END, MULTIPART),
}


@pytest.mark.parametrize(("body", "content_type"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_answered_with_400(lua: Inside, body: bytes, content_type: str) -> None:
    """One line says what is wrong; the state goes on."""
    state = lua.load(SHOW % "nil")
    answer = lua.run(state, posted(body, content_type))
    assert answer.lines[0] == "Status: 400 Bad Request"
    assert answer.text.endswith("\n")
    assert answer.text.count("\n") == 1
    assert state.is_reusable
    assert lua.run(state, posted(GOOD + END)).text == "a=1/"
    state.close()


@pytest.mark.parametrize("content_type", [MULTIPART, URLENCODED])
def test_a_body_that_is_cut_is_answered_with_400(lua: Inside, content_type: str) -> None:
    """It differs from CONTENT_LENGTH."""
    state = lua.load(SHOW % "nil")
    request = posted(GOOD + END, content_type)
    request.problem = "the body has 10 bytes, but CONTENT_LENGTH says 20"
    answer = lua.run(state, request)
    assert answer.status == 400
    assert answer.text == request.problem + "\n"
    state.close()


MANY = 20 * part('name="a"', b"1")
FILES = 3 * part(FILE % "a", b"12345")


@pytest.mark.parametrize(
    ("body", "options", "expected"),
    [
        (MANY, "max_fields = 19", "the form has more than 19 fields"),
        (20 * part(FILE % ""), "max_fields = 19", "the form has more than 19 fields"),
        (part('name="a"', b"12345"), "max_field_size = 5", "a field of the form has more than 5 bytes"),
        (part('name="abcde"', b"1"), "max_field_size = 5", "a field of the form has more than 5 bytes"),
        (MANY, "max_fields_size = 39", "the fields of the form have more than 39 bytes"),
        (FILES, "max_files = 2", "the form has more than 2 files"),
        (FILES, "max_file_size = 4", "a file of the form has more than 4 bytes"),
        (FILES, "max_files = 0", "the form has more than 0 files"),
        (part('name="a"', b"1", *(f"X-{n}: x" for n in range(10))), "", "maximum part header count exceeded"),
        (part('name="a"', b"1", "X: " + "x" * 5000), "", "maximum part header length exceeded"),
        (part('name="a"', b"x" * 1048576), "", "a field of the form has more than 1048576 bytes"),
        (b"".join(part('name="a"', b"x" * 1000000) for _ in range(3)), "",
         "the fields of the form have more than 2097152 bytes"),
        (1001 * part('name="a"'), "", "the form has more than 1000 fields"),
        (21 * part(FILE % "a"), "", "the form has more than 20 files"),
    ],
)  # fmt: skip
def test_what_is_too_much_is_answered_with_413(lua: Inside, body: bytes, options: str, expected: str) -> None:
    """By limits of the script's, and by those that hold without."""
    answer = read(lua, body + END, options=f"{{ {options} }}")
    assert (answer.status, answer.text) == (413, expected + "\n")


def test_what_is_within_the_limits_is_read(lua: Inside) -> None:
    """A limit is the most that there may be."""
    options = "{ max_fields = 20, max_field_size = 2, max_fields_size = 40, max_files = 3, max_file_size = 5 }"
    assert read(lua, MANY + FILES + END, options=options).status == 200


@pytest.mark.parametrize(
    ("body", "options", "expected"),
    [
        (b"a=1&" * 20, "max_fields = 19", "the form has more than 19 fields"),
        (b"a=12345", "max_field_size = 5", "a field of the form has more than 5 bytes"),
        (b"a=1&" * 20, "max_fields_size = 39", "the fields of the form have more than 39 bytes"),
        (b"a=" + b"%41" * 400000, "max_field_size = 300000", "a field of the form has more than 300000 bytes"),
        (b"a=" + b"x" * 1048576, "", "a field of the form has more than 1048576 bytes"),
        (b"&".join([b"a=" + b"x" * 1000000] * 3), "", "the fields of the form have more than 2097152 bytes"),
    ],
)
def test_the_same_of_an_urlencoded_form(lua: Inside, body: bytes, options: str, expected: str) -> None:
    """The limits are those of both kinds."""
    answer = read(lua, body, URLENCODED, f"{{ {options} }}")
    assert (answer.status, answer.text) == (413, expected + "\n")


def test_a_form_is_not_read_within_its_reading(lua: Inside) -> None:
    """A finalizer may try to."""
    answer = lua.main("""
        local form = require "greenfcgi.form"
        local problem
        local function try() local ok, text = pcall(form.read, env, con) problem = problem or text end
        for _ = 1, 100 do
            if newproxy then
                getmetatable(newproxy(true)).__gc = try
            else
                setmetatable({}, { __gc = try })
            end
        end
        local fields = form.read(env, con)
        collectgarbage()
        con:puts(type(fields.a))
    """, posted(900 * part('name="a"', b"1") + END))  # fmt: skip
    assert answer.text == "table"


def test_a_script_may_look_at_what_is_wrong(lua: Inside) -> None:
    """By pcall; the same again when it reads again."""
    answer = lua.main("""
        local form = require "greenfcgi.form"
        for _ = 1, 2 do
            local ok, problem = pcall(form.read, env, con)
            con:puts(tostring(ok), " ", problem.status, " ", problem.message, "\\n")
        end
    """, posted(GOOD))  # fmt: skip
    assert answer.text == 2 * "false 400 broken multipart: unexpected end of multipart stream\n"


def test_a_form_is_read_once(lua: Inside) -> None:
    """Whoever reads it again gets the same tables."""
    answer = lua.main("""
        local form = require "greenfcgi.form"
        local fields, files = form.read(env, con)
        local again, others = form.read(env, con)
        con:puts(tostring(fields == again and files == others), fields.a)
    """, posted(GOOD + END))  # fmt: skip
    assert answer.text == "true1"


def test_other_bodies_are_no_forms(lua: Inside) -> None:
    """They are left as they are."""
    for content_type in ("application/json", "text/plain", "", "multipart/mixed; boundary=x"):
        answer = lua.main("""
            local fields, files = require "greenfcgi.form".read(env, con)
            con:puts(tostring(next(fields)), tostring(next(files)), con:gets())
        """, posted(b"{}", content_type))  # fmt: skip
        assert answer.text == "nilnil{}"


@pytest.mark.parametrize("name", [b"a", b"\xc3\xa4", b"\xe4"], ids=["ascii", "utf-8", "latin-1"])
@pytest.mark.parametrize("value", [b"b", b"\xf0\x9f\x8d\xb5", b"\xed\xa0\x80"], ids=["ascii", "utf-8", "surrogate"])
def test_what_is_not_utf_8_is_refused_where_a_script_asks(lua: Inside, name: bytes, value: bytes) -> None:
    """For databases and JSON, which take nothing else. Otherwise a field is as it was sent."""
    head = f'name="{name.decode("utf-8", "surrogateescape")}"'
    bodies = {URLENCODED: name + b"=" + value, MULTIPART: part(head, value) + END}
    is_utf_8 = name != b"\xe4" and value != b"\xed\xa0\x80"
    for content_type, body in bodies.items():
        answer = read(lua, body, content_type, "{ utf8 = true }")
        if is_utf_8:
            assert answer.status == 200
        else:
            assert (answer.status, answer.text) == (400, "a field of the form is not UTF-8\n")
        assert read(lua, body, content_type, "{ utf8 = false }").status == 200


def test_a_query_string(lua: Inside) -> None:
    """As an urlencoded form."""
    answer = lua.main("""
        local form = require "greenfcgi.form"
        local fields = form.query(env)
        con:puts(fields.a, fields.b[1], fields.b[2], #fields.c, fields.d)
        con:puts(form.first(fields.b), form.first(fields.a))
        con:puts(#form.list(fields.a), #form.list(fields.b), #form.list(nil))
    """, Request({"QUERY_STRING": "a=1&b=2&b=3&c[]=4&d=%20x"}))  # fmt: skip
    assert answer.text == "1231 x21120"
    assert lua.main('require "greenfcgi.form".query({})').text == ""
    limited = 'require "greenfcgi.form".query(env, { max_fields = 1 })'
    assert lua.main(limited, Request({"QUERY_STRING": "a&b"})).status == 413


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("form.read()", "bad argument #1 to 'read' (table expected, got nil)"),
        ("form.read(env)", "bad argument #2 to 'read' (con expected, got nil)"),
        ("form.read(env, {})", "con:form.read: this con belongs to a request that has ended"),
        ("form.read(env, con, 5)", "bad argument #3 to 'read' (table expected, got number)"),
        ("form.read(env, con, { max = 1 })", "form.read: unknown option 'max'"),
        ("form.read(env, con, { max_files = '1' })", "form.read: max_files: found 1, expected a number from 0 up"),
        ("form.read(env, con, { utf8 = 1 })", "form.read: utf8: found 1, expected true or false"),
        ("form.query(env, { max_fields = -1 })", "form.query: max_fields: found -1, expected a number from 0 up"),
        ("form.query(5)", "bad argument #1 to 'query' (table expected, got number)"),
        ("con:finish() form.read(env, con)", "con:form.read: con:finish() has sent the reply already"),
        (
            "local _, files = form.read(env, con) files.f.move('x')",
            "file.move called with a dot, or on what is no file",
        ),
        ("local _, files = form.read(env, con) files.f:move()", "bad argument #1 to 'move' (string expected, got nil)"),
    ],
)
def test_wrong_arguments_are_errors(lua: Inside, call: str, expected: str) -> None:
    """They name what was found, at the line of the script."""
    answer = lua.main(f'local form = require "greenfcgi.form"\n{call}', posted(part(FILE % "a", b"1") + END))
    assert expected in answer.error
    assert "page.lua:3: " in answer.error


def moved(lua: Inside, target: str, body: bytes = part(FILE % "a", b"12345") + END) -> str:
    """What `move` returns for a path beside the script."""
    answer = lua.main(f"""
        local _, files = require "greenfcgi.form".read(env, con)
        local ok, problem, code = files.f:move("{target}")
        con:puts(tostring(ok), " ", tostring(problem), " ", tostring(code), " ", files.f.path)
    """, posted(body))  # fmt: skip
    result, _, path = answer.text.rpartition(" ")
    assert (path == str(lua.root / target)) == (result == "true nil nil")
    return result.replace(f"{lua.root}/", "")


def test_a_file_is_moved_beside_the_script(lua: Inside) -> None:
    """It is there when the request has ended, with the mode of a new file."""
    assert moved(lua, "kept.txt") == "true nil nil"
    path = lua.root / "kept.txt"
    assert path.read_bytes() == b"12345"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_file_takes_the_place_of_another(lua: Inside) -> None:
    """As a whole, with the mode that was there, also behind a link; but it does not run as its owner."""
    lua.write("old.txt", "a longer text").chmod(0o4640)
    (lua.root / "link.txt").symlink_to("old.txt")
    assert moved(lua, "link.txt") == "true nil nil"
    assert (lua.root / "link.txt").is_symlink()
    assert (lua.root / "old.txt").read_bytes() == b"12345"
    assert stat.S_IMODE((lua.root / "old.txt").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("missing/a.txt", "nil missing/a.txt: No such file or directory 2"),
        ("folder", "nil folder: Is a directory 21"),
        ("folder/", "nil folder/: Is a directory 21"),
        ("", "nil : Is a directory 21"),
        ("pipe", "nil pipe: Invalid argument 22"),
        ("/dev/null", "nil /dev/null: Invalid argument 22"),
        ("/proc/self/mem", "nil /proc/self/mem: Permission denied 13"),
        ("/dev/stdout", "nil /dev/stdout: Permission denied 13"),
        ("page.lua/x", "nil page.lua/x: Not a directory 20"),
    ],
)
def test_a_file_is_not_moved_where_io_open_could_not_write(
    lua: Inside, target: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nil, a message and errno, as of io.open."""
    rename = os.rename

    def rename_below(source: str, to: bytes) -> None:
        # What root would do to /dev/null.
        assert os.fsdecode(to).startswith(str(lua.root))
        rename(source, to)

    monkeypatch.setattr(os, "rename", rename_below)
    (lua.root / "folder").mkdir()
    os.mkfifo(lua.root / "pipe")
    assert moved(lua, target).replace(str(lua.root), "") == expected


def test_a_file_that_may_not_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename would take its place."""
    lua = Inside(tmp_path)
    lua.write("old.txt", "old").chmod(0o444)
    # For root, everything may be written.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert moved(lua, "old.txt") == "nil old.txt: Permission denied 13"
    assert (lua.root / "old.txt").read_text() == "old"
    lua.close()


def test_a_file_is_copied_to_another_file_system(lua: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """It appears there as a whole; nothing else does."""
    rename, linked = os.rename, []

    def refuse(source: str, target: bytes) -> None:
        linked.append(target)
        if len(linked) == 1:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    data = os.urandom(1000000)
    assert moved(lua, "kept.bin", part(FILE % "a", data) + END) == "true nil nil"
    assert (lua.root / "kept.bin").read_bytes() == data
    assert len(linked) == 2
    assert sorted(os.listdir(lua.root)) == ["kept.bin", "page.lua"]


def test_a_copy_that_fails_leaves_nothing(lua: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a part of it, nor the temporary file."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "rename", refuse)
    assert moved(lua, "kept.bin") == "nil kept.bin: Invalid cross-device link 18"
    assert os.listdir(lua.root) == ["page.lua"]


def test_a_file_is_moved_once(lua: Inside) -> None:
    """Then it is not there any more; nor is it in a later request."""
    state = lua.load("""
        local form = require "greenfcgi.form"
        local kept
        function main(env, con)
            local _, files = form.read(env, con)
            local file = kept or files.f
            if env.KEEP then kept = file return end
            con:puts(tostring(file:move("a.txt")), " ", select(2, file:move("b.txt")) or "moved")
        end
    """)  # fmt: skip
    body = part(FILE % "a", b"1") + END
    assert "it was moved before, or its request has ended" in lua.run(state, posted(body)).text
    lua.run(state, posted(body, KEEP="1"))
    assert lua.run(state, posted(body)).text.startswith("nil ")
    state.close()


ENDS = {
    "an error": "error('x')",
    "its time": "while true do end",
    "its memory": "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end",
    "con:finish": "con:finish()",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_files_go_when_the_request_ends(lua: Inside, temporary: Path, end: str) -> None:
    """Whatever it ends by. `temporary` looks whether any are left."""
    state = lua.load(f"""
        local form = require "greenfcgi.form"
        function main(env, con)
            local _, files = form.read(env, con)
            con:log(files.f.path)
            {end}
        end
    """)  # fmt: skip
    request = posted(part(FILE % "a", b"12345") + END)
    request.deadline -= 29.5
    lua.run(state, request)
    assert str(temporary) in lua.log()
    assert not list(temporary.iterdir())
    state.close()


def test_nothing_is_kept_of_a_form_that_is_broken_in_its_midst(lua: Inside, temporary: Path) -> None:
    """Files before that, and the one under way, go."""
    state = lua.load(SHOW % "nil")
    body = part(FILE % "a", b"12345") + part(FILE % "b", b"x" * 500000)[:-10]
    assert lua.run(state, posted(body)).status == 400
    assert not list(temporary.iterdir())
    state.close()


@pytest.mark.parametrize("version", FLAVOURS)
def test_a_client_that_goes_ends_it(tmp_path: Path, temporary: Path, version: str) -> None:
    """In the midst of a file."""
    lua = Inside(tmp_path, version)
    state = lua.load(SHOW % "nil")

    class Leaving(Request):
        def read(self, most: int) -> bytes:
            data = super().read(most)
            self.gone = len(self._body) < 8000000
            return data

    request = Leaving({"CONTENT_TYPE": MULTIPART}, part(FILE % "a", b"x" * 9000000) + END)
    answer = lua.run(state, request)
    assert "the client has gone" in answer.error
    assert request.read(1), "it was read to its end"
    assert not list(temporary.iterdir())
    assert state.is_reusable
    assert lua.run(state, posted(GOOD + END)).text == "a=1/"
    state.close()
    lua.close()


def test_a_full_disk_is_a_value(lua: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """nil and a message: neither the client's fault nor the script's."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    statements = """
        local fields, problem = require "greenfcgi.form".read(env, con)
        con:puts(tostring(fields), " ", problem)
    """
    monkeypatch.setattr(os, "write", full)
    answer = lua.main(statements, posted(part(FILE % "a", b"1") + END))
    monkeypatch.undo()
    assert answer.text == "nil the form cannot be kept: No space left on device"


def test_without_the_package_files_say_what_to_install(tmp_path: Path) -> None:
    """An urlencoded form does without it."""
    done = run_python(
        """
        import sys
        from pathlib import Path
        sys.modules["multipart"] = None
        from tests.modules.web.test_form import END, GOOD, SHOW, URLENCODED, posted
        from tests.support.inside import Inside
        lua = Inside(Path(sys.argv[1]))
        state = lua.load(SHOW % "nil")
        print(lua.run(state, posted(b"a=1", URLENCODED)).text)
        print(lua.run(state, posted(GOOD + END)).error)
        """,
        str(tmp_path),
    )
    first, second = done.stdout.splitlines()
    assert first == "a=1/"
    assert second.endswith("forms with files need a package: pip install 'greenfcgi[forms]'")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a.txt", b"a.txt"),
        (b"..", b"file"),
        (b"", b"file"),
        (b"/", b"file"),
        (b"a/..", b"file"),
        (b".htaccess", b"htaccess"),
        (b"a.txt. .", b"a.txt"),
        (b"a\0b\nc.txt", b"a_b_c.txt"),
        ("a\u202etxt.exe".encode(), b"a_txt.exe"),
        (b"\xff\xfe", b"__"),
        (b"x" * 300 + b".jpeg", b"x" * 250 + b".jpeg"),
        ("\u00e4".encode() * 200 + b".txt", "\u00e4".encode() * 125 + b".txt"),
        (b"a." + b"x" * 300, b"a." + b"x" * 62),
        ("Foto \u6c49 (1).JPG".encode(), "Foto \u6c49 (1).JPG".encode()),
    ],
)
def test_names_of_files_are_safe(name: bytes, expected: bytes) -> None:
    """No directories, no control characters, not hidden, not too long, and UTF-8."""
    found = safe_name(name)
    assert found == expected
    assert len(found) <= 255


def test_others_have_turns_while_headers_are_read() -> None:
    """Headers on thousands of lines take a second; others do not wait for it."""
    head = b'--x\r\nContent-Disposition: form-data; name="a"\r\nX-A: b\r\n' + b" x\r\n" * 1000
    body = [(head + b"\r\nv\r\n") * 250 + b"--x--\r\n"]

    def read(size: int) -> bytes:
        data, body[0] = body[0][:size], body[0][size:]
        return data

    limits = Limits(1000, 1000, 1000000, 10, 1000)
    found = list(read_form(read, "x", limits, Upload))
    assert len([item for item in found if item is not None]) == 250
    assert found.count(None) > 20


def test_a_form_of_nothing_but_ampersands(lua: Inside) -> None:
    """It is read as fast as other bodies: 10 MB of it took 4 s of CPU."""
    request = Request(
        {"CONTENT_TYPE": "application/x-www-form-urlencoded"}, b"&" * 5_000_000 + b"a=1&&b=2&", seconds=1.2
    )
    answer = lua.main('local f = require "greenfcgi.form".read(env, con) con:puts(f.a, f.b)', request)
    assert answer.text == "12"
