"""What works where: each measurement gives what is expected, and the table in the documents is made of all of them."""

from __future__ import annotations

import pytest

from .expected import EXPECTED
from .fronts import SERVERS
from .installed import has_xsendfile
from .measure import MEASUREMENTS, sent_files
from .site import Site
from .table import PAGES, chief, measured, table, written

_rows: dict[str, dict[str, str]] = {}


def _measured(title: str, site: Site) -> dict[str, str]:
    cells = measured(title, site)
    if MEASUREMENTS[title] is sent_files and not has_xsendfile():
        del cells["apache"]
    return cells


@pytest.mark.parametrize("title", MEASUREMENTS)
def test_what_works_where(title: str, site: Site) -> None:
    """By each transport alike."""
    _rows[title] = _measured(title, site)
    assert _rows[title] == {server: EXPECTED[title].of(server) for server in _rows[title]}


def test_the_tables_in_the_documents(site: Site) -> None:
    """They have what this run has seen, and of a server that is not installed what is expected."""
    rows = {title: _rows.get(title) or _measured(title, site) for title in MEASUREMENTS}
    missing = {
        title: {server: EXPECTED[title].of(server) for server in SERVERS if server not in cells}
        for title, cells in rows.items()
    }
    whole = {title: cells | missing[title] for title, cells in rows.items()}
    for page, titles in PAGES.items():
        assert written(page) == table(chief(whole, titles)), page
