"""The sample guestbook.lua in a real browser: people who write, like, and see what others write."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.developing import BROWSER_ARGUMENTS, CHROMIUM, Developing
from ..support.running import PATIENCE

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed here")
image = pytest.importorskip("PIL.Image", reason="Pillow is not installed here")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")

SAMPLES = Path(__file__).parents[2] / "lua_scripts"
# Beside the configuration, since "site", as the folder of the scripts is called here, is a module of Python's.
MODULES = '[modules]\nthumbnails = "small_photos"'
MILLISECONDS = 1000 * PATIENCE
HOME = "/guestbook.lua/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests of this module."""
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=BROWSER_ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Developing]:
    """The developer mode with a copy of the samples."""
    shutil.copytree(SAMPLES, tmp_path / "site")
    shutil.copy(SAMPLES / "_lib" / "thumbnails.py", tmp_path / "small_photos.py")
    with Developing(tmp_path, settings=MODULES) as started:
        yield started


class Visitor:
    """Somebody with a browser of their own, who notes what its console complains about."""

    def __init__(self, browser: Any, dev: Developing, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(MILLISECONDS)
        self.dev = dev
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda line: self.complaints.append(line.text) if line.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._complain_about_dialog)
        self.go()

    def _complain_about_dialog(self, dialog: Any) -> None:
        self.complaints.append(f"a script has run: {dialog.message}")
        dialog.dismiss()

    def go(self, path: str = "") -> None:
        """Load a page of the guestbook."""
        self.page.goto(self.dev.url(HOME + path))

    def register(self, name: str) -> None:
        """Become a user."""
        self.page.click("text=Register")
        self.page.fill("#name", name)
        self.page.fill("#password", "correct horse")
        self.page.click("main button")
        self.page.wait_for_selector(f".notice:text-is('Welcome, {name}.')")

    def write(self, text: str, photo: Path | None = None) -> Any:
        """Post an entry. Returns the element that shows it."""
        self.page.fill("#text", text)
        if photo is not None:
            self.page.set_input_files("input[type=file]", photo)
        self.page.click("#compose button")
        self.page.wait_for_selector(".notice:text-is('Thank you for your entry.')")
        return self.page.locator(".entry").first


def fill(folder: Path, count: int) -> None:
    """Put entries of the first user into the database, as if it had written them."""
    connection = sqlite3.connect(folder / "guestbook.db")
    with connection:
        texts = [(f"entry {number}",) for number in range(count)]
        connection.executemany("insert into entries (user, text, time) values (1, ?, 0)", texts)
    connection.close()


@pytest.fixture
def visitors(browser: Any, dev: Developing) -> Iterator[list[Visitor]]:
    """Two people. Nothing may be wrong in their consoles at the end."""
    opened = [Visitor(browser, dev), Visitor(browser, dev, viewport={"width": 390, "height": 800}, is_mobile=True)]
    yield opened
    complaints = [visitor.complaints for visitor in opened]
    for visitor in opened:
        visitor.context.close()
    assert complaints == [[], []]


def test_a_life_with_the_guestbook(visitors: list[Visitor], tmp_path: Path) -> None:
    """Somebody writes with a photo, somebody else sees it at once, likes it, and answers; scripts in it are text."""
    ada, bob = visitors
    ada.register("Ada")
    photo = tmp_path / "photo.png"
    image.effect_noise((1000, 750), 60).save(photo)
    # A megabyte is more than scripts.max_post.
    assert 300_000 < photo.stat().st_size < 900_000
    entry = ada.write("Hello <script>alert(1)</script><img src=x onerror=alert(2)>\nand on", photo)
    assert "<script>alert(1)</script>" in entry.locator(".text").inner_text()
    shown = "(image) => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"
    assert entry.locator("img.photo").evaluate(shown) == [960, 720]

    # Bob has the page open since before, and has touched nothing.
    live = bob.page.locator(".entry.new")
    live.wait_for()
    assert "onerror=alert(2)" in live.locator(".text").inner_text()
    assert live.locator(".author").inner_text() == "Ada"
    assert live.locator("img.photo").evaluate(shown) == [960, 720]
    assert bob.page.inner_text("#news") == "New entry by Ada"
    assert live.locator("form").count() == 0

    bob.register("Bob")
    answer = bob.write("w" * 600)
    seen = ada.page.locator(".entry.new")
    seen.wait_for()
    seen.locator("button[aria-pressed=false]").click()
    seen.locator("button[aria-pressed=true]").wait_for()
    assert seen.locator(".likes").inner_text() == "1"
    assert seen.locator(".delete").count() == 0
    bob.go()
    assert answer.locator(".likes").inner_text() == "1"
    assert bob.page.evaluate("document.documentElement.scrollWidth") <= 390

    answer.locator("text=Delete").click()
    bob.page.wait_for_selector(".notice:text-is('The entry is gone.')")
    assert bob.page.locator(".entry").count() == 1
    for path in ("login", "register", "?before=1"):
        bob.go(path)
        assert bob.page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_older_entries(visitors: list[Visitor], tmp_path: Path) -> None:
    """They come to the end of the page, without another one; they can be liked there, as everywhere."""
    page = visitors[0].page
    visitors[0].register("Ada")
    fill(tmp_path, 12)
    visitors[0].go()
    page.evaluate("window.marker = 'still here'")
    assert page.locator(".entry").count() == 10
    page.click("#older")
    page.wait_for_selector(".text:text-is('entry 0')")
    texts = page.locator("#entries .text").all_inner_texts()
    assert texts == [f"entry {number}" for number in range(11, -1, -1)]
    page.wait_for_selector("#older", state="detached")
    oldest = page.locator(".entry").last
    oldest.locator("button[aria-pressed=false]").click()
    oldest.locator("button[aria-pressed=true]").wait_for()
    assert page.evaluate("window.marker") == "still here"


def test_without_javascript(browser: Any, dev: Developing, tmp_path: Path) -> None:
    """Pages and forms are enough."""
    visitor = Visitor(browser, dev, java_script_enabled=False)
    page = visitor.page
    visitor.register("Ada")
    fill(tmp_path, 10)
    visitor.write("entry 10")
    page.locator("[aria-pressed=false]").first.click()
    assert page.locator("[aria-pressed=true] .likes").inner_text() == "1"
    page.click("#older")
    assert page.locator(".entry .text").all_inner_texts() == ["entry 0"]
    page.click("text=Log out")
    page.wait_for_selector(".notice:text-is('You have logged out.')")
    page.click("text=Log in >> nth=0")
    page.fill("#name", "ada")
    page.fill("#password", "wrong horse")
    page.click("main button")
    assert "not the name and the password" in page.inner_text(".problem")
    page.fill("#password", "correct horse")
    page.click("main button")
    page.wait_for_selector(".notice:text-is('Welcome, Ada.')")
    visitor.context.close()


def test_a_guestbook_without_the_module(browser: Any, tmp_path: Path) -> None:
    """Without a configuration there are no photos, and the page says what is missing."""
    shutil.copytree(SAMPLES, tmp_path / "site")
    with Developing(tmp_path) as dev:
        visitor = Visitor(browser, dev)
        visitor.register("Ada")
        assert visitor.page.locator("input[type=file]").count() == 0
        assert "thumbnails" in visitor.page.inner_text("#compose small")
        visitor.write("no photo")
        visitor.context.close()
