"""The table of docs/webservers.md, from what the web servers do: `python -m tests.programs.webservers.table`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .fronts import FRONTS, SERVERS
from .measure import MEASUREMENTS
from .site import Site, plain_site

PAGE = Path(__file__).parents[3] / "greenfcgi" / "docs" / "webservers.md"
_BEGIN = "<!-- table: python -m tests.programs.webservers.table -->\n"
_END = "<!-- end of the table -->\n"
_NAMES = {"nginx": "nginx", "lighttpd": "lighttpd", "apache": "Apache", "caddy": "Caddy", "haproxy": "HAProxy"}

#: What a row has for each server.
Cells = Mapping[str, str]


def measured(title: str, site: Site) -> dict[str, str]:
    """What each server does; the ways to connect to it, where they are different."""
    cells: dict[str, dict[str, list[str]]] = {}
    for front, web in site.webs.items():
        found = MEASUREMENTS[title](web, site)
        cells.setdefault(front.server, {}).setdefault(found, []).append(str(front))
    return {
        server: next(iter(found)) if len(found) == 1 else "; ".join(f"{ways}: {one}" for one, ways in found.items())
        for server, found in cells.items()
    }


def table(rows: Mapping[str, Cells]) -> str:
    """The rows, by their titles, as a table."""
    lines = [f"| | {' | '.join(_NAMES[server] for server in SERVERS)} |", f"|---|{'---|' * len(SERVERS)}"]
    lines += [f"| {title} | {' | '.join(cells[server] for server in SERVERS)} |" for title, cells in rows.items()]
    return "".join(f"{line}\n" for line in lines)


def written() -> str:
    """The table that the page has."""
    return PAGE.read_text().partition(_BEGIN)[2].partition(_END)[0]


def _main() -> None:
    with plain_site(FRONTS) as site:
        rows = {title: measured(title, site) for title in MEASUREMENTS}
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text(before + _BEGIN + table(rows) + _END + rest.partition(_END)[2])


if __name__ == "__main__":
    _main()
