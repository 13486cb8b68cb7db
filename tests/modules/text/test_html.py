"""require "greenfcgi.html": text and elements for pages."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

import pytest

from ...support.inside import Answer, Inside, Request

FLAVOURS = ("luajit21", "luajit20", "lua51", "lua53", "lua54")


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua."""
    inside = Inside(tmp_path, str(request.param))
    yield inside
    inside.close()


def evaluate(lua: Inside, statements: str, request: Request | None = None) -> Answer:
    """What statements answer that have the module as `html`."""
    return lua.main(f'local html = require "greenfcgi.html"\n{statements}', request)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"plain",
        b"<a href=\"x\">'&'</a>",
        bytes(range(256)),
        b"&" * 10_000,
        b"x" * 100_000,
        b"<" + b"x" * 4096 + b">",
        b"x" * 4095 + b"<>",
        "\u00e9\u20ac<\U0001d11e".encode(),
    ],
)
def test_escape(lua: Inside, text: bytes) -> None:
    """Five characters are escaped, and all else is as it was."""
    answer = evaluate(lua, "con:puts(html.escape(con:gets()))", Request(body=text))
    expected = html.escape(text.decode("latin-1")).replace("&#x27;", "&#039;").encode("latin-1")
    assert answer.failure is None
    assert answer.body == expected


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("html.escape(12)", "12"),
        ("html.escape(nil)", ""),
        ("html.escape(true)", "true"),
        ("html.escape(html.raw '<b>')", "<b>"),
        ("html.escape(setmetatable({}, { __tostring = function() return '<x>' end }))", "&lt;x&gt;"),
        ("html.raw '<b>' .. '<'", "<b>&lt;"),
        ("'<' .. html.raw '<b>'", "&lt;<b>"),
        ("html.raw '<b>' .. html.raw '</b>'", "<b></b>"),
        ("html.raw(html.raw '<b>')", "<b>"),
        ("html.raw(1)", "1"),
        ("html.is_raw(html.raw '')", "true"),
        ("html.is_raw('')", "false"),
        (
            "html.attributes { href = '/?a=1&b=\"', hidden = true, title = false, id = 3 }",
            'hidden href="/?a=1&amp;b=&quot;" id="3"',
        ),
        ("html.attributes {}", ""),
        ("html.attributes { class = { 'a', false, 'b' } }", 'class="a b"'),
        ("html.tag('p')", "<p></p>"),
        ("html.tag('br')", "<br>"),
        ("html.tag('p', nil, 'a<b', 1, nil, html.raw '<i>')", "<p>a&lt;b1<i></p>"),
        ("html.tag('input', { disabled = true })", "<input disabled>"),
        ("html.tag('p', { id = 'x' }, { 'a', { 'b' } })", '<p id="x">ab</p>'),
        ("html.tag('ul', nil, html.tag('li', nil, '<'))", "<ul><li>&lt;</li></ul>"),
        ("html.tag('my-element', nil, '')", "<my-element></my-element>"),
    ],
)
def test_expressions(lua: Inside, expression: str, text: str) -> None:
    """Values, attributes and elements."""
    found = evaluate(lua, f"con:puts(tostring({expression}))").text
    assert sorted(found.split()) == sorted(text.split())


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("html.raw(nil)", "bad argument #1 to 'raw' (string expected, got no value)"),
        ("html.attributes(1)", "bad argument #1 to 'attributes' (table expected, got number)"),
        ("html.attributes { ['a b'] = 1 }", 'no name of an attribute: "a b"'),
        ("html.attributes { 'x' }", "no name of an attribute: a number"),
        ("html.attributes { ['x>'] = 1 }", "no name of an attribute"),
        ("html.tag('a b')", 'no name of an element: "a b"'),
        ("html.tag(nil)", "bad argument #1 to 'tag' (string expected, got no value)"),
        ("html.tag('p', 'text')", "bad argument #2 to 'tag' (table of attributes, or nil expected, got string)"),
        ("html.tag('br', nil, 'x')", "br has no content"),
        ("html.tag('p', nil, loop)", "more than 100 deep"),
        ("html.escape(setmetatable({}, { __tostring = function() error 'inside' end }))", "inside"),
        (
            "html.escape(setmetatable({}, { __tostring = function() return {} end }))",
            "'__tostring' must return a string",
        ),
    ],
)
def test_errors(lua: Inside, expression: str, problem: str) -> None:
    """They name the argument, and the script's line; the module works on."""
    answer = evaluate(lua, f"local loop = {{}} loop[1] = loop\nlocal x = {expression}")
    assert problem in answer.error
    assert "page.lua:4: " in answer.error or "__tostring' must" in problem
    assert evaluate(lua, f"pcall(function() return {expression} end) con:puts(html.escape('<'))").text == "&lt;"


def test_finalizers_may_use_it_meanwhile(lua: Inside) -> None:
    """One that escapes while another text is on its way does not disturb that."""
    answer = evaluate(
        lua,
        """
        local function garbage()
            local f = function() html.escape(("<"):rep(50)) end
            if newproxy then getmetatable(newproxy(true)).__gc = f else setmetatable({}, { __gc = f }) end
        end
        local text = ("a<"):rep(3000)
        local escaped = ("a&lt;"):rep(3000)
        for _ = 1, 30 do
            for _ = 1, 100 do garbage() end
            assert(html.escape(text) == escaped)
        end
        con:puts("done")
    """,
    )
    assert answer.text == "done"
