"""The README says what is so: settings, modules, snippets."""

from __future__ import annotations

import re
from pathlib import Path

from greenfcgi.config.load import describe

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()


def test_every_setting_is_listed_with_its_default_and_reason() -> None:
    """The tables of settings are what `settings` says."""
    for row in describe():
        if row.key not in ("modules", "app"):
            default = row.default.replace("|", "\\|")
            assert f"| `{row.key}` | `{default}` | {row.reason} |" in README


def test_every_lua_source_is_in_the_source_tour() -> None:
    """The tour names the Lua sources too."""
    paragraph = README.partition("The prelude in `lua/prelude/`")[2].partition("\n\n")[0]
    sources = {path.stem for path in (REPOSITORY / "greenfcgi" / "lua" / "prelude").glob("*.lua")}
    assert set(re.findall(r"`(\w+)`", paragraph)) == sources


def test_links_lead_somewhere() -> None:
    """Files that the README links to are there."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (REPOSITORY / target).exists(), target
