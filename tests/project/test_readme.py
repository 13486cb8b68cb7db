"""The README and the pages beside it say what is so."""

from __future__ import annotations

import re
from pathlib import Path

from greenfcgi.command_line import OPTIONS
from greenfcgi.config.load import describe

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
DOCS = REPOSITORY / "greenfcgi" / "docs"


def test_every_setting_is_listed_with_its_default_and_reason() -> None:
    """The tables of settings are what `settings` says."""
    page = (DOCS / "settings.md").read_text()
    for row in describe():
        if row.key not in ("modules", "shared", "tasks", "apps", "app"):
            default = row.default.replace("|", "\\|")
            assert f"| `{row.key}` | `{default}` | {row.reason} |" in page


def test_every_option_is_on_its_page() -> None:
    """With all of its names, and what it takes."""
    page = (DOCS / "command-line.md").read_text()
    for option in OPTIONS:
        for name in option.names:
            assert f"`{name} {option.metavar}`" in page if option.takes else f"`{name}`" in page, name


def test_every_lua_source_is_in_the_source_tour() -> None:
    """The tour names the Lua sources too."""
    tour = (DOCS / "contributing.md").read_text()
    paragraph = tour.partition("The prelude in `lua/prelude/`")[2].partition("\n\n")[0]
    sources = {path.stem for path in (REPOSITORY / "greenfcgi" / "lua" / "prelude").glob("*.lua")}
    assert set(re.findall(r"`(\w+)`", paragraph)) == sources


def test_the_readme_is_short() -> None:
    """What it is, how to run it, and where to read on."""
    assert len(README.splitlines()) <= 170


def test_every_page_is_in_the_table_of_the_readme() -> None:
    """Nobody has to look for one."""
    linked = set(re.findall(r"greenfcgi/docs/([a-z-]+)\.md", README))
    assert linked == {path.stem for path in DOCS.glob("*.md")}
