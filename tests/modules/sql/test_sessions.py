"""Sessions that a database keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from ...support.databases import DatabaseServer
from ...support.inside import Inside
from ..web.browser import Browser


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_other_databases(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    """PostgreSQL and MariaDB keep sessions as SQLite does."""
    server: DatabaseServer = request.getfixturevalue(kind)
    lua = Inside(tmp_path)
    browser = Browser(lua, f'{{ store = "sql", url = "{server.url}" }}')
    browser.ask(r"s.user = 'ada\0\255' s:regenerate() s:save()")
    assert browser.says(r"say(s.user == 'ada\0\255') s.user = 'eve'") == ["true"]
    before = dict(browser.cookies)
    assert browser.says("say(s.user) s:regenerate()") == ["eve"]
    assert browser.says("say(s.user)") == ["eve"]
    browser.cookies = before
    assert browser.says("say(s.user)") == ["nil"]
    lua.close()
