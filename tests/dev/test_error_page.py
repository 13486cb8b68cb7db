"""The developer mode's page of an error, on every Lua: the right line, all functions on the way, no other files."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from ..support.developing import Answer, Developing
from ..support.inside import FLAVOURS

SECRET = "nobody's business"

SCRIPTS = {
    "template.lua": """
        local template = require "greenfcgi.template"
        function main(env, con)
            con:puts(template.render(env.QUERY_STRING, { items = { 1 } }))
        end
    """,
    "views/runtime.html": """\
<ul>
<% for _, item in ipairs(items) do %>
  <li>a \\ "text"</li>
  <li><%= item.name.first %></li>
<% end %>
</ul>
""",
    "views/syntax.html": "<ul>\n<li>\n<% for x = 1 do %>\n<% end %></ul>\n",
    "wrapped.lua": """
        local function each(list)
            return coroutine.wrap(function()
                for at, item in ipairs(list) do
                    local doubled = item * 2
                    coroutine.yield(doubled)
                end
            end)
        end
        function main(env, con)
            local total = 0
            for value in each({ 1, 2, {} }) do total = total + value end
        end
    """,
    "resumed.lua": """
        local function inner(depth)
            local secret = "from inside"
            error("inner trouble")
        end
        function main(env, con)
            local outer = "from outside"
            local thread = coroutine.create(function() inner(1) end)
            local ok, problem = coroutine.resume(thread)
            if env.QUERY_STRING == "0" then error(problem, 0) end
            if env.QUERY_STRING == "assert" then assert(ok, problem) end
            if env.QUERY_STRING == "other" then error("another matter") end
            error(problem)
        end
    """,
    "nested.lua": """
        function main(env, con)
            coroutine.wrap(function()
                local middle = "in the middle"
                coroutine.wrap(function()
                    local deep = "deep down"
                    error({ code = 42 })
                end)()
            end)()
        end
    """,
    "caught.lua": """
        local function fail() error("the same", 0) end
        function main(env, con)
            if env.QUERY_STRING == "catch" then
                local stale = "of an earlier request"
                coroutine.resume(coroutine.create(function() local inside = stale fail() end))
            else
                fail()
            end
        end
    """,
    "dead.lua": """
        function main(env, con)
            local thread = coroutine.create(function() local first = "of the first error" error("first") end)
            coroutine.resume(thread)
            assert(coroutine.resume(thread))
        end
    """,
    "many.lua": """
        function main(env, con)
            for _ = 1, 20000 do coroutine.resume(coroutine.create(function() error("caught") end)) end
            error("at last")
        end
    """,
    "object.lua": """
        function main(env, con)
            error({ code = 404, text = "no <b>user</b>", more = { deep = true }, [7] = print, f = main })
        end
    """,
    "recursion.lua": """
        local function down(n)
            local here = n
            if n == tonumber(DEPTH) then error("at the bottom") end
            down(n + 1)
            return here
        end
        function main(env, con)
            DEPTH = env.QUERY_STRING
            local top = "at the top"
            down(1)
            return top
        end
    """,
    "overflow.lua": "local function down() return 1 + down() end\nfunction main() down() end\n",
    "missing.lua": "function main(env, con)\n    require 'no.such.module'\nend\n",
    "body.lua": "function main(env, con) con:gets(3) error('with a body') end",
    "says.lua": "function main(env, con) error((env.QUERY_STRING:gsub('%%20', ' ')), 0) end",
    "named.lua": """
        function main(env, con)
            local name = con:gets()
            assert((loadstring or load)("local text = 1 error('in a chunk')", name))()
        end
    """,
    "opens.lua": """
        function main(env, con)
            io.open(".env"):close()
            io.open("../outside.txt"):close()
            local ok = io.open("_lib/.hidden")
            error((env.QUERY_STRING), 0)
        end
    """,
    "lines.lua": 'function main(env, con)\r\n    local a = "\f"\r\n    error("third")\r\nend\r\n',
    ".env": f"{SECRET}\n",
    "data.db": f"{SECRET}\n",
    "_lib/.hidden": f"{SECRET}\n",
}


@pytest.fixture(scope="module", params=FLAVOURS)
def dev(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Developing]:
    """The developer mode with the scripts above."""
    folder = tmp_path_factory.mktemp("errors")
    (folder / "outside.txt").write_text(f"{SECRET}\n")
    scripts = {name: text.removeprefix("\n") for name, text in SCRIPTS.items()}
    made = Developing(folder, scripts, f'timeout = 9\n[lua]\nversion = "{request.param}"\n')
    (made.root / "lines.lua").write_bytes(SCRIPTS["lines.lua"].encode())
    with made:
        yield made


def page(dev: Developing, target: str, method: str = "GET", body: bytes | None = None, **headers: str) -> str:
    """The page of an error."""
    reply: Answer = dev.ask(target, method, body, Accept="text/html", **headers)
    assert reply.status == 500, reply.text
    return html.unescape(reply.text)


def functions(shown: str) -> list[str]:
    """The functions on the way, each with its place: "main x.lua, line 3"."""
    return [f"{name} {place}" for name, place in re.findall(r"<summary><b>(.*?)</b> (.*?)</summary>", shown)]


def heading(shown: str) -> str:
    """What stands on top."""
    return str(re.findall("<h1>(.*?)</h1>", shown, re.DOTALL)[0])


def test_an_error_in_a_template(dev: Developing) -> None:
    """The template's own line, and its variables."""
    shown = page(dev, "/template.lua?runtime.html")
    assert "<code>views/runtime.html</code>, line 4<" in shown
    assert "<span class=here><i>4</i>  <li><%= item.name.first %></li></span>" in shown
    assert "<td>item</td><td>1</td>" in shown
    assert any(function.endswith("views/runtime.html, line 4") for function in functions(shown))
    assert any(function.startswith("main template.lua, line 3") for function in functions(shown))


def test_a_template_that_does_not_load(dev: Developing) -> None:
    """The line where it does not, too."""
    shown = page(dev, "/template.lua?syntax.html")
    assert "<code>views/syntax.html</code>, line 3<" in shown
    assert "<span class=here><i>3</i><% for x = 1 do %></span>" in shown


def test_an_error_in_a_wrapped_coroutine(dev: Developing) -> None:
    """Its functions come first, with their variables, then those that resumed it."""
    shown = page(dev, "/wrapped.lua")
    assert "<code>wrapped.lua</code>, line 4<" in shown
    assert functions(shown)[0].endswith("wrapped.lua, line 4")
    assert "<td>at</td><td>3</td>" in shown
    assert "main wrapped.lua, line 11" in functions(shown)
    assert "<td>total</td><td>6</td>" in shown


@pytest.mark.parametrize("how", ["", "0", "assert"])
def test_an_error_that_a_coroutine_handed_on(dev: Developing, how: str) -> None:
    """The same where the script resumes it, and raises what comes back."""
    shown = page(dev, f"/resumed.lua?{how}")
    assert functions(shown)[0] == "inner resumed.lua, line 3"
    assert '<td>secret</td><td>"from inside"</td>' in shown
    assert '<td>outer</td><td>"from outside"</td>' in shown


def test_another_error_than_the_coroutines(dev: Developing) -> None:
    """What was caught has no place on the page of another."""
    shown = page(dev, "/resumed.lua?other")
    assert functions(shown) == ["main resumed.lua, line 11"]
    assert dev.ask("/caught.lua?catch").status == 200
    assert "<td>inside</td>" not in page(dev, "/caught.lua")
    dead = page(dev, "/dead.lua")
    assert "cannot resume dead coroutine" in heading(dead)
    assert "<td>first</td>" not in dead


def test_a_coroutine_in_a_coroutine(dev: Developing) -> None:
    """From the innermost outward."""
    shown = page(dev, "/nested.lua")
    assert shown.index('<td>deep</td><td>"deep down"') < shown.index('<td>middle</td><td>"in the middle"')
    assert functions(shown)[-1].startswith("main nested.lua, line ")
    assert "code = 42" in heading(shown)


def test_many_errors_in_coroutines(dev: Developing) -> None:
    """They cost no time to speak of."""
    assert heading(page(dev, "/many.lua")) == "at last"


def test_an_error_object(dev: Developing) -> None:
    """It is shown with its fields, on the page and in the terminal."""
    shown = heading(page(dev, "/object.lua"))
    for part in (
        "(error object is a table value): {", "code = 404", 'text = "no <b>user</b>"', "more = { deep = true }",
        "[7] = function (built in)",
    ):  # fmt: skip
        assert part in shown
        assert part in dev.log()
    assert re.search(r"f = function \(\S*object\.lua:1\)", shown)


def test_a_recursion(dev: Developing) -> None:
    """It is folded, whatever its depth, and shows who began it."""
    for depth in (2, 3, 45, 5000):
        shown = page(dev, f"/recursion.lua?{depth}")
        assert functions(shown)[0] == "down recursion.lua, line 3"
        assert functions(shown)[-1] == "main recursion.lua, line 10"
        assert len(functions(shown)) <= 4
        assert '"at the top"' in shown
        assert (" more from the same line" in shown) == (depth > 2)
        assert (" functions left out" in shown) == (depth == 5000)


def test_an_overflow(dev: Developing) -> None:
    """A full stack is reported as briefly."""
    shown = page(dev, "/overflow.lua")
    assert re.search("stack overflow|out of memory", heading(shown))
    assert len(functions(shown)) < 9


def test_a_module_that_is_missing(dev: Developing) -> None:
    """One line on top, and below it where it was looked for."""
    shown = page(dev, "/missing.lua")
    assert heading(shown) == "module 'no.such.module' not found:"
    assert '<pre class="text">' in shown
    assert "_no/such" not in shown
    assert "no/such/module.lua: No such file or directory" in shown


def test_a_posted_form(dev: Developing) -> None:
    """Its fields are shown, although the script has read a part of it."""
    form = "application/x-www-form-urlencoded; charset=utf-8"
    shown = page(dev, "/body.lua", "POST", b"name=Ada+L&empty=&x=%3Cb%3E", Content_Type=form)
    assert "The body, 27 bytes" in shown
    assert "<td>name</td><td>Ada L</td></tr><tr><td>empty</td><td></td></tr><tr><td>x</td><td><b></td>" in shown


def test_other_bodies(dev: Developing) -> None:
    """As text; of a long one the beginning; nothing of what is none."""
    assert '<pre class="text">{"a": 1}</pre>' in page(dev, "/body.lua", "POST", b'{"a": 1}', Content_Type="text/json")
    long = page(dev, "/body.lua", "POST", b"x" * 100_000)
    assert "The body, 100000 bytes; these are the first 8192" in long
    assert "x" * 8192 + "<" in long
    assert "It is not text." in page(dev, "/body.lua", "POST", bytes(range(256)))
    assert "The body" not in page(dev, "/body.lua")
    assert "The body" not in page(dev, "/body.lua", "POST", b"")


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", ".env", "{root}/.env", "data.db", "{root}/data.db", "../outside.txt", "_lib/.hidden", "...env"],
)
def test_names_that_a_client_chose(dev: Developing, name: str) -> None:
    """A message is no reason to read a file, also when the script has opened it but it is hidden or outside."""
    name = name.format(root=dev.root)
    for script in ("says", "opens"):
        for form in ("{0}:1:", "{0}:1: x", "error loading module 'x' from file '{0}':\n\t{0}:1: x"):
            shown = page(dev, f"/{script}.lua?{quote(form.format(name), safe='/:')}")
            assert SECRET not in shown
            assert "root:" not in shown
    for sign in "@=":
        shown = page(dev, "/named.lua", "POST", f"{sign}{name}".encode())
        assert SECRET not in shown
        assert "root:" not in shown


def test_a_long_message(dev: Developing) -> None:
    """Its beginning stands on top, and all of it below."""
    shown = page(dev, f"/says.lua?{'word' * 200}")
    assert heading(shown) == "word" * 75 + "..."
    assert f'<pre class="text">{"word" * 200}</pre>' in shown


def test_lines_are_counted_as_lua_does(dev: Developing) -> None:
    """A form feed ends no line, and two characters may."""
    shown = page(dev, "/lines.lua")
    assert '<span class=here><i>3</i>    error("third")</span>' in shown
