"""require "greenfcgi.template": pages with Lua in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ...support.developing import Developing
from ...support.inside import Answer, Inside
from ...support.running import Server, until

FLAVOURS = ("luajit21", "luajit20", "lua51", "lua53", "lua54", "lua55")


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua."""
    inside = Inside(tmp_path, str(request.param))
    yield inside
    inside.close()


def render(lua: Inside, text: str, data: str = "{}") -> Answer:
    """What a template makes of data, which is Lua's."""
    lua.write("views/page.html", text.encode())
    return lua.main(
        f"""
        local html = require "greenfcgi.html"
        con:puts(require("greenfcgi.template").render("page", {data}))
        """
    )


def test_cells_of_all_lengths(lua: Inside) -> None:
    """What is escaped may stand anywhere in them."""
    cells = [("x" * at + "<" + "y" * (length - at - 1)) for length in range(1, 11) for at in range(length)]
    listed = ", ".join(f"'{cell}'" for cell in cells)
    text = "<% for _, cell in ipairs(cells) do %><%= cell %>|<% end %>"
    assert render(lua, text, f"{{ cells = {{ {listed} }} }}").text == "".join(
        cell.replace("<", "&lt;") + "|" for cell in cells
    )


@pytest.mark.parametrize(
    ("text", "data", "page"),
    [
        ("", "{}", ""),
        ("plain", "{}", "plain"),
        ("<%= x %>", "{ x = '<&' }", "&lt;&amp;"),
        ("<%- x %>", "{ x = '<&' }", "<&"),
        ("<%= x %><%- x %>", "{ x = html.raw '<i>' }", "<i><i>"),
        ("[<%= x %><%- x %>]", "{}", "[]"),
        ("<%= x %>", "{ x = 12 }", "12"),
        ("<%= x %>", "{ x = false }", "false"),
        ("<% if x then %>a<% else %>b<% end %>", "{ x = true }", "a"),
        ("<% for i = 1, 3 do %><%= i %>,<% end %>", "{}", "1,2,3,"),
        ("a\n<% x = 1 %>\nb", "{}", "a\n\nb"),
        ("a\n<% x = 1 -%>\nb", "{}", "a\nb"),
        ("a\r\n<% x = 1 -%>\r\nb", "{}", "a\r\nb"),
        ("<%= 1 -%>\n2", "{}", "12"),
        ("<%= 1 -%> \n2", "{}", "1 \n2"),
        ("<%= '%>' %>", "{}", "%&gt;"),
        ('<%- "a\\"%>" %>', "{}", 'a"%>'),
        ("<%- [[%>]] %>", "{}", "%>"),
        ("<%- [=[]]%>]=] %>", "{}", "]]%>"),
        ("<% -- it's a comment %>a", "{}", "a"),
        ("<%= 1 -- one %>a", "{}", "1a"),
        ("<% --[[ %> ]] %>a", "{}", "a"),
        ("<%\n-- a comment\nlocal x = 'b'\n%><%= x %>", "{}", "\nb"[1:]),
        ("<% -- x -%>\na", "{}", "a"),
        ("<%= 5 --%>\na", "{}", "5a"),
        ("<%= 7 % 4 %>", "{}", "3"),
        ("<%= 3 - 2 %>", "{}", "1"),
        ("<%= '\\'' %>", "{}", "&#039;"),
        ('a\\n"b"\\', "{}", 'a\\n"b"\\'),
        ("\0\x01\x7f", "{}", "\0\x01\x7f"),
        ("\ufeffa", "{}", "a"),
        ("<% local t = {} %><% (f or function() t.x = 1 end)() %><%= t.x %>", "{}", "1"),
        ("<% if true then return end %>x", "{}", ""),
        ("<%= x %>", "setmetatable({}, { __index = { x = 1 } })", "1"),
        ("<%= type(x) %>", "{}", "nil"),
        ("<%= type %>", "{ type = 'mine' }", "mine"),
        ("<% x = 2 %><%= x %>", "{ x = 1 }", "2"),
        ("<%= tostring(nil) %>", "nil", "nil"),
        ("%> <%= 1 %> %>", "{}", "%> 1 %>"),
        ("<%= ('x'):rep(5000) %>", "{}", "x" * 5000),
        ("<% local a = {} for i = 1, 3000 do %><%= i %><% end %>", "{}", "".join(map(str, range(1, 3001)))),
        ("<% layout = 1 %><%= content %>", "{ content = 'c' }", "c"),
        ("<%= render %>", "{ render = 'r' }", "r"),
    ],
)
def test_pages(lua: Inside, text: str, data: str, page: str) -> None:
    """What each part of the syntax becomes."""
    answer = render(lua, text, data)
    assert answer.failure is None, answer.failure
    assert answer.body.decode() == page


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a\n<% for i = 1, 2 do %>\nb", 3, "'end' expected"),
        ("a\n<%= x", 2, "'<%' is not closed: '%>' expected"),
        ("a\n\n<% if x then %>\n<%= 1 %>\n", 5, "'end' expected"),
        ("a\n<% end %>\n", 2, "<eof>"),
        ("a\n<%= %>", 2, "unexpected symbol"),
        ("a\r\nb\r\n<%= ) %>", 3, "unexpected symbol"),
        ("<% x = %>\na", 1, "unexpected symbol"),
        ("<% return %>\na", 1, ""),
        ("a\n<% [[ %>", 2, "'<%' is not closed"),
        ("<%= 1 %>\n<% for %>", 2, ""),
        ("a\n\n<%= x.y %>\n", 3, "attempt to index"),
        ("<% local a = 1\nlocal b = a.c.d %>", 2, "attempt to index"),
        ("a\n<%=\nx.y\n%>", 3, "attempt to index"),
        ("a\n<%= error('own') %>\nb", 2, "own"),
        ("<% x = 1 -%>\n<%- x.y.z -%>\n", 2, "attempt to index"),
        ("<%= 1 -- c %>\n<%= 2 %><%= x.y %>", 2, "attempt to index"),
        ('"\n\n<%= "\\\n" .. x.y %>', 4, "attempt to"),
    ],
)
def test_errors_have_the_line_of_the_template(lua: Inside, text: str, line: int, problem: str) -> None:
    """Of what does not compile, and of what fails when it runs."""
    answer = render(lua, text)
    assert re.match(rf".*views/page\.html:{line}: ", answer.error), answer.error
    assert problem in answer.error


def test_layouts_and_partials(lua: Inside) -> None:
    """A layout gets the page as `content`, and sees what the page has set; a partial sees its data first."""
    lua.write("views/outer.html", "<title><%= title %></title><%= content %>|<%= side %>")
    lua.write("views/inner.etlua", "<% layout('outer', { side = 's' }) %>(<%- content %>)")
    lua.write("views/blog/item.html", "<li><%= item %> <%= name %> <%= who %></li>")
    answer = render(
        lua,
        """\
<% layout "inner" -%>
<% title = "A & B" -%>
<% for i = 1, 2 do -%>
<%= render("blog/item", { item = i, name = "<" }) -%>
<%- render("blog/item.html") %>
<% end -%>
""",
        "{ who = 'me', item = 'outer' }",
    )
    assert answer.text == (
        "<title>A &amp; B</title>(<li>1 &lt; me</li><li>outer  me</li>\n<li>2 &lt; me</li><li>outer  me</li>\n)|s"
    )


def test_nothing_of_a_page_stays(lua: Inside) -> None:
    """Neither data nor globals of a template are seen by the next request, and the script's own stay as they were."""
    lua.write("views/page.html", "<%= type(x) %><% x = 1 y = 2 %><%= y %>")
    answer = lua.main("""
        local template = require "greenfcgi.template"
        local data = { z = 1 }
        con:puts(template.render("page", data), template.render("page"), tostring(y), tostring(data.y))
    """)
    assert answer.text == "nil2nil2nilnil"


@pytest.mark.parametrize(
    "name",
    ["nope", "../page", "a/../page", "/etc/passwd", ".hidden", "a/.b", "", ".", "a//b", "a\\\\b", "a\\nb", "page/"],
)
def test_names_stay_in_the_folder(lua: Inside, name: str) -> None:
    """No name leads out of it, or to what is hidden."""
    lua.write("views/.hidden", "secret")
    lua.write("page.html", "secret")
    answer = lua.main(f'con:puts(require("greenfcgi.template").render("{name}"))')
    assert "name of a template: found " in answer.error or "template 'nope' not found:" in answer.error
    assert "page.lua:2: " in answer.error


def test_other_ways_to_a_template(lua: Inside) -> None:
    """Of a text, of another folder, and once for all."""
    lua.write("mail/hello.etlua", "Hello <%= name %>")
    answer = lua.main("""
        local template = require "greenfcgi.template"
        con:puts(template.compile("<%= a %>")({ a = "<" }), template.new("mail").render("hello", { name = "A" }))
        local hello = template.new("mail").load("hello")
        con:puts(hello { name = "B" }, " ", select(2, pcall(template.compile, "a\\n<% for", "mine")), " ")
        con:puts(select(2, pcall(template.compile)), select(2, pcall(hello, 1)))
    """)
    assert answer.text == (
        "&lt;Hello AHello B mine:2: '<%' is not closed: '%>' expected "
        "bad argument #1 to 'compile' (string expected, got no value)"
        "bad argument #1 to '?' (table expected, got number)"
    )


def test_templates_that_render_each_other(lua: Inside) -> None:
    """An error, and no end of the process; the next page is whole."""
    lua.write("views/page.html", "<%- render('page') %>")
    lua.write("views/around.html", "<% layout 'around' %>x")
    answer = lua.main("""
        local template = require "greenfcgi.template"
        for _, name in ipairs { "page", "around" } do
            local ok, problem = pcall(template.render, name)
            assert(not ok and problem:find("templates that render each other, more than 50 deep", 1, true), problem)
        end
        con:puts(template.compile("a<%= pcall(render, 'page') %>b")())
    """)
    assert answer.text == "afalseb"


def test_a_page_that_has_ended(lua: Inside) -> None:
    """A function that a template leaves behind writes into no other page."""
    answer = render(lua, "<% late.f = function() %>x<% end %>y", "{ late = late }")
    assert answer.failure is not None
    lua.write("views/page.html", "<% late.f = function() %>x<% end %>y")
    answer = lua.main("""
        local late = {}
        local page = require("greenfcgi.template").render("page", { late = late })
        con:puts(page, select(2, pcall(late.f)))
    """)
    assert answer.text.startswith("y")
    assert "this page has ended" in answer.text


def test_a_changed_template_flushes_the_state(tmp_path: Path) -> None:
    """It is compiled once; when it changes, or one that was missing comes, the next request has it."""
    script = """
        local template = require "greenfcgi.template"
        function main(env, con)
            local ok, page = pcall(template.render, env.QUERY_STRING)
            con:puts(ok and page or "none")
        end
    """
    (tmp_path / "lua_scripts" / "views").mkdir(parents=True)
    (tmp_path / "lua_scripts" / "page.lua").write_text(script)
    view = tmp_path / "lua_scripts" / "views" / "a.html"
    view.write_text("one <%= 1 %>")
    with Server(tmp_path) as server:
        assert server.get("page.lua?a").body == b"one 1"
        assert server.get("page.lua?b").body == b"none"
        view.write_text("two <%= 2 %>")
        until(lambda: server.get("page.lua?a").body == b"two 2")
        (view.parent / "b.etlua").write_text("here")
        until(lambda: server.get("page.lua?b").body == b"here")


def test_the_page_of_developers(tmp_path: Path) -> None:
    """It shows the template's source at the line of the error, and its variables; and follows a save."""
    scripts = {
        "page.lua": """
            local template = require "greenfcgi.template"
            function main(env, con) con:puts(template.render(env.QUERY_STRING)) end
        """,
        "views/run.html": "<ul>\n<% local item = { 1 } %>\n<li><%= item.name.first %></li>\n</ul>\n",
        "views/syntax.html": "<ul>\n<% for x = 1 do %>\n</ul>\n",
        "views/open.html": "<ul>\n<% for x in y do\n",
    }
    with Developing(tmp_path, scripts) as dev:
        for name, line, source in (
            ("run", 3, "&lt;li&gt;&lt;%= item.name.first %&gt;&lt;/li&gt;"), ("syntax", 2, "&lt;% for x = 1 do %&gt;"),
            ("open", 2, "&lt;% for x in y do"),
        ):  # fmt: skip
            shown = dev.ask(f"/page.lua?{name}", Accept="text/html").text
            assert f"<code>views/{name}.html</code>, line {line}<" in shown
            assert f"<span class=here><i>{line}</i>{source}" in shown
        shown = dev.ask("/page.lua?run", Accept="text/html").text
        assert "<td>item</td>" in shown
        assert "<td>__" not in shown
        (dev.root / "views" / "open.html").write_text("mended")
        assert dev.ask("/page.lua?open").text == "mended"
