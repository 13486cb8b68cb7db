"""mime.core: base64, quoted-printable, lines of a length, ends of lines and dots, as LuaSocket's own in C answers."""

from __future__ import annotations

import base64
import quopri
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ...support.inside import FLAVOURS, Inside


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


#: Calls, and what the original (LuaSocket 3.1 in Lua 5.1) returns for them.
KNOWN: Final = r"""
b64("a") -> "YQ==" nil
b64("ab") -> "YWI=" nil
b64("abc") -> "YWJj" nil
b64("") -> nil nil
b64(nil) -> nil nil
b64("ab", "c") -> "YWJj" ""
b64("a", "b") -> "" "ab"
b64("", "") -> "" ""
b64("abcd", "efgh") -> "YWJjZGVm" "gh"
b64(nil, "ab") -> nil nil
b64("a", nil) -> "YQ==" nil
unb64("YQ==") -> "a" nil
unb64("YWI=") -> "ab" nil
unb64("YWJj") -> "abc" nil
unb64("") -> nil nil
unb64("YW Jj\r\nYQ==") -> "abca" nil
unb64("YWJ", "j") -> "abc" ""
unb64("YW", "J") -> "" "YWJ"
unb64("Y") -> nil nil
unb64(nil) -> nil nil
unb64("YQ==YWI=") -> "aab" nil
qp("a=b") -> "a=3Db" nil
qp("a \r\nb\t\r\n") -> "a=20\r\nb=09\r\n" nil
qp("caf\195\169") -> "caf=C3=A9" nil
qp("a ") -> "a=20=\r\n" nil
qp("a\r\n") -> "a\r\n" nil
qp("a\n") -> "a=0A" nil
qp("a\rb") -> "a=0Db" nil
qp("a", " ") -> "a" " "
qp("a ", "") -> "a" " "
qp("a\r", "") -> "a" "\r"
qp("x\r\ny", nil, "=0D=0A") -> "x=0D=0Ay" nil
qp("") -> nil nil
qp(nil) -> nil nil
qp("", "") -> "" ""
qp(" ", " ") -> "" "  "
unqp("a=3Db") -> "a=b" nil
unqp("a=\r\nb") -> "ab" nil
unqp("a=3db") -> "a=b" nil
unqp("a=XY") -> "a=XY" nil
unqp("a=3", "") -> "a" "=3"
unqp("a=", "") -> "a" "="
unqp("caf=C3=A9") -> "caf\195\169" nil
unqp("a\r\nb") -> "a\r\nb" nil
unqp("a\nb") -> "ab" nil
unqp("\200a\1") -> "a" nil
unqp("") -> nil nil
unqp(nil) -> nil nil
unqp("a=\r", "") -> "a" "=\r"
unqp("a=") -> "a" nil
wrp(3, "abcdef", 3) -> "abc\r\ndef" 0
wrp(2, "abcdef", 3) -> "ab\r\ncde\r\nf" 2
wrp(0, "abcdef", 3) -> "\r\nabc\r\ndef" 0
wrp(3, "a\nb\r\nc", 3) -> "a\r\nb\r\nc" 2
wrp(3, nil, 3) -> nil 3
wrp(1, nil, 3) -> "\r\n" 3
wrp(76) -> nil 76
wrp(3, "", 3) -> "" 3
wrp(2, "ab\r\n", 4) -> "ab\r\n" 4
qpwrp(76, ("x"):rep(76)) -> "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=\r\nx" 75
qpwrp(4, "a=3Db=3D", 4) -> "a=\r\n=3D=\r\nb=\r\n=3D" 1
qpwrp(3, "abcdef", 3) -> "ab=\r\ncd=\r\nef" 1
qpwrp(10, "=C3=A9=C3=A9=C3=A9", 10) -> "=C3=A9=C3=\r\n=A9=C3=A9" 1
qpwrp(3, nil, 3) -> nil 3
qpwrp(1, nil, 3) -> "=\r\n" 3
qpwrp(5, "ab\r\ncd", 5) -> "ab\r\ncd" 3
eol(0, "a\nb") -> "a\r\nb" 0
eol(0, "a\rb") -> "a\r\nb" 0
eol(0, "a\r\nb") -> "a\r\nb" 0
eol(0, "a\n\rb") -> "a\r\nb" 0
eol(0, "a\n\nb") -> "a\r\n\r\nb" 0
eol(0, "a\r\n\r\nb") -> "a\r\n\r\nb" 0
eol(0, "a\r") -> "a\r\n" 13
eol(13, "\nb") -> "b" 0
eol(13, "\rb") -> "\r\nb" 0
eol(10, "\rb") -> "b" 0
eol(10, "\nb") -> "\r\nb" 0
eol(13, "b") -> "b" 0
eol(0, nil) -> nil 0
eol(0, "") -> "" 0
eol(0, "a\nb", "!") -> "a!b" 0
eol(13, "") -> "" 13
eol(0, "\r\n\n") -> "\r\n\r\n" 10
eol(13, "\n\r") -> "\r\n" 13
dot(2, ".a") -> "..a" 0
dot(0, ".a") -> ".a" 0
dot(2, "a\r\n.b\r\n") -> "a\r\n..b\r\n" 2
dot(2, "a\r\n") -> "a\r\n" 2
dot(1, "\n.b") -> "\n..b" 0
dot(2, "") -> "" 2
dot(2, nil) -> nil 2
dot(0, "a\r") -> "a\r" 1
dot(1, "\n") -> "\n" 2
dot(2, "\r\n.\r\n") -> "\r\n..\r\n" 2
dot(2, "..") -> "..." 0
""".strip().splitlines()

SHOW: Final = r"""
local mime = require "mime.core"
local function q(v)
    if type(v) ~= "string" then return tostring(v) end
    return '"' .. v:gsub('[^ -~]', function(c)
        return c == "\r" and "\\r" or c == "\n" and "\\n" or ("\\%03d"):format(c:byte())
    end) .. '"'
end
local function show(a, b) con:puts(q(a), " ", q(b), "\n") end
"""


def test_all_answers_of_the_original(lua: Inside) -> None:
    """Whole texts and parts of them, what is left for the next call, and the last call with nil."""
    calls = [line.split(" -> ")[0] for line in KNOWN]
    found = lua.main(SHOW + "\n".join(f"show(mime.{call})" for call in calls)).text.splitlines()
    assert [f"{call} -> {answer}" for call, answer in zip(calls, found, strict=True)] == KNOWN


def test_wrong_arguments_are_named(lua: Inside) -> None:
    """By position and function."""
    wrong = {
        "mime.b64({})": "bad argument #1 to 'b64' (string expected, got table)",
        "mime.unqp('a', {})": "bad argument #2 to 'unqp' (string expected, got table)",
        "mime.wrp('x')": "bad argument #1 to 'wrp' (number expected, got string)",
        "mime.eol()": "bad argument #1 to 'eol' (number expected, got no value)",
        "mime.dot(2, true)": "bad argument #2 to 'dot' (string expected, got boolean)",
    }
    calls = "\n".join(f"con:puts(select(2, pcall(function() {call} end)), '\\n')" for call in wrong)
    found = lua.main(SHOW + calls).text.splitlines()
    assert [line.partition(": ")[2] for line in found] == list(wrong.values())


def test_parts_make_the_whole(lua: Inside) -> None:
    """However a text is cut, what comes out is what Python makes of it as a whole."""
    chance = random.Random(13)
    data = bytes(chance.choices(b"\r\n\r\n \t.=aZ09\x00\xff", k=3000))
    lua.write("data", data)
    found = lua.main(
        """
        local mime = require "mime.core"
        local file = io.open("data", "rb")
        local data = file:read("*a")
        file:close()
        local function all(name)
            local parts, rest, at = {}, "", 1
            while at <= #data do
                local size = (at * 7) % 11 + 1
                parts[#parts + 1], rest = mime[name](rest, data:sub(at, at + size - 1))
                at = at + size
            end
            parts[#parts + 1] = mime[name](rest) or ""
            return table.concat(parts)
        end
        con:puts(mime.unb64(all("b64")) == data and "same" or "other", "\\n")
        con:puts(mime.unqp((all("qp"))) == mime.unqp((mime.qp(data))) and "same" or "other", "\\n")
        con:puts(mime.b64(data), "\\n", (mime.qp(data)))
        """
    )
    first, second, encoded, quoted = found.body.split(b"\n", 3)
    assert (first, second) == (b"same", b"same")
    assert encoded == base64.b64encode(data)
    assert quopri.decodestring(quoted) == data


def test_much_text_holds_up_nobody(lua: Inside) -> None:
    """Others have their turn while megabytes are worked on; the script's time ends it."""
    from ...support.inside import Request

    found = lua.main(
        """
        local mime = require "mime.core"
        local data = ("caf\\233 = x\\r\\n"):rep(100000)
        while true do mime.qp(data) mime.wrp(76, data, 76) mime.eol(0, data) end
        """,
        Request(seconds=0.3),
    )
    assert found.failure is not None
    assert found.failure.status == 504
