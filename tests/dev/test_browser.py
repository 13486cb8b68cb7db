"""The developer mode in a real browser: pages follow saves, without anybody touching the browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.developing import BROWSER_ARGUMENTS, CHROMIUM, WAYS, Developing
from ..support.running import PATIENCE

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed here")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")

PAGE = '<!DOCTYPE html><link rel="stylesheet" href="/s.css"><h1>{}</h1>'
MILLISECONDS = 1000 * PATIENCE


def script(text: str) -> str:
    """A script that answers with a page."""
    return f"function main(env, con) con:puts('{PAGE.format(text)}') end"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests of this module."""
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=BROWSER_ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Developing]:
    """The developer mode with a page and its style sheet."""
    files = {"index.lua": script("version 0"), "public/s.css": "h1 { color: rgb(1, 2, 3) }"}
    with Developing(tmp_path, files) as started:
        yield started


@pytest.fixture
def tabs(browser: Any, dev: Developing) -> Iterator[list[Any]]:
    """Eight tabs that show the page: more than the connections that a browser has for a server."""
    context = browser.new_context()
    context.set_default_timeout(MILLISECONDS)
    opened = [context.new_page() for _ in range(8)]
    for tab in opened:
        tab.goto(dev.url())
    yield opened
    context.close()


def expect(tab: Any, text: str) -> None:
    """Wait until a tab shows the text."""
    tab.wait_for_selector(f"h1:text-is('{text}')")


def test_every_way_to_save(dev: Developing, tabs: list[Any]) -> None:
    """However the script is saved, all tabs show it."""
    for number, (way, save) in enumerate(WAYS.items(), 1):
        save(dev.root / "index.lua", script(f"version {number} {way}"))
        for tab in tabs:
            expect(tab, f"version {number} {way}")


def test_a_style_sheet_without_a_reload(dev: Developing, tabs: list[Any]) -> None:
    """A changed style sheet takes the place of the old one; the page itself stays as it is."""
    tab = tabs[0]
    tab.evaluate("window.marker = 'still here'")
    for number, save in enumerate(WAYS.values(), 10):
        save(dev.root / "public" / "s.css", f"h1 {{ color: rgb({number}, 0, 0) }}")
        tab.wait_for_function(f"getComputedStyle(document.querySelector('h1')).color === 'rgb({number}, 0, 0)'")
    tab.wait_for_function("document.querySelectorAll('link').length === 1")
    assert tab.evaluate("window.marker") == "still here"


def test_an_error_and_its_mending(dev: Developing, tabs: list[Any]) -> None:
    """An error shows by itself, marked in its source, and goes by itself when the file is fixed."""
    dev.write("index.lua", "function main(env, con)\n    local user = nil\n    con:puts(user.name)\nend\n")
    for tab in tabs:
        tab.wait_for_selector(".source .here")
        assert "con:puts(user.name)" in tab.inner_text(".source .here")
    dev.write("index.lua", "function main(env con) end")
    for tab in tabs:
        tab.wait_for_selector("h1:has-text('near')")
    dev.write("index.lua", script("fixed"))
    for tab in tabs:
        expect(tab, "fixed")


LONG = """
local function handle_the_order_of_a_customer_who_is_new_here(order)
    local word = ("verylongword"):rep(60)
    error(word .. " " .. "/a/path/that/goes/on/" .. ("and/on/"):rep(40) .. "x.lua")
end
function main(env, con)
    con:puts(("<b>"):rep(100))
    handle_the_order_of_a_customer_who_is_new_here({ con:gets() })
end
"""


@pytest.mark.parametrize("width", [320, 1280])
def test_pages_fit_the_screen(browser: Any, dev: Developing, width: int) -> None:
    """Whatever is on a page of the developer mode, nobody scrolls it sideways, on a phone neither."""
    dev.write("long.lua", LONG)
    dev.write("gone.lua", "function main(env, con) require('a.module.' .. ('of_long_name'):rep(20)) end")
    dev.write("down.lua", "local function down() down() end function main() down() end")
    dev.write("syntax.lua", "local " + "x" * 500 + " = = 1")
    dev.write(f"folder/{'long_name_' * 20}.lua", "")
    tab = browser.new_page(viewport={"width": width, "height": 700})
    tab.set_default_timeout(MILLISECONDS)
    for path in ("/long.lua", "/gone.lua", "/down.lua", "/syntax.lua", "/none/" + "x" * 300, "/folder/"):
        tab.goto(dev.url(f"{path}?q={'w' * 1000}"))
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, path
    tab.close()


def test_a_posted_form_that_fails(browser: Any, dev: Developing) -> None:
    """Its page shows the fields, and where a long word is."""
    form = '<form method="post" action="/long.lua"><input name="name" value="Ada"><button>Send</button></form>'
    dev.write("index.lua", f"function main(env, con) con:puts([[{form}]]) end")
    dev.write("long.lua", LONG)
    tab = browser.new_page()
    tab.set_default_timeout(MILLISECONDS)
    tab.goto(dev.url())
    tab.click("button")
    tab.wait_for_selector(".source .here")
    assert "verylongword" in tab.inner_text("h1")
    assert tab.inner_text("tr:has(td:text-is('name'))").split() == ["name", "Ada"]
    tab.close()


def test_a_server_that_was_away(dev: Developing, tabs: list[Any]) -> None:
    """When the server has been started anew, with other files, the tabs find out."""
    assert dev.stop() == 0
    dev.write("index.lua", script("after a restart"))
    dev.start()
    for tab in tabs:
        expect(tab, "after a restart")
    dev.write("index.lua", script("and on"))
    for tab in tabs:
        expect(tab, "and on")


def test_the_first_script(browser: Any, tmp_path: Path) -> None:
    """The page of an empty folder turns into the first script that is saved."""
    with Developing(tmp_path) as dev:
        tab = browser.new_page()
        tab.goto(dev.url())
        assert "No script yet" in tab.inner_text("h1")
        dev.write("index.lua", script("first"))
        expect(tab, "first")
        tab.close()


def test_a_script_that_writes_files(dev: Developing, tabs: list[Any]) -> None:
    """What a script writes itself is data: its page is not loaded again and again."""
    dev.write(
        "index.lua",
        """
        local times = 0
        function main(env, con)
            times = times + 1
            local file = io.open("data.json", "w")
            file:write(times)
            file:close()
            con:puts("<!DOCTYPE html><h1>written</h1>")
        end
    """,
    )
    for tab in tabs:
        expect(tab, "written")
    before = dev.log().count("GET  /  ")
    tabs[0].wait_for_timeout(500)
    assert dev.log().count("GET  /  ") == before
