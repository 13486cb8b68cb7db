"""The tables of docs/webservers.md and README.md, from what servers do: `python -m tests.programs.webservers.table`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .fronts import FRONTS, SERVERS
from .measure import MEASUREMENTS
from .site import Site, plain_site

_PROJECT = Path(__file__).parents[3]
#: The rows that README.md has.
_CHIEF = (
    "static files", "connections to greenfcgi are kept", "HTTP/2 in front", "an upload of 20 MB",
    "a chunked upload of 300 KB", "with `X-Accel-Buffering: no`", "a client that leaves ends a script that writes",
    "a page that fails after `con:flush()` is seen as cut",
)  # fmt: skip
#: Each page that has a table, with the titles of its rows.
PAGES = {_PROJECT / "greenfcgi" / "docs" / "webservers.md": tuple(MEASUREMENTS), _PROJECT / "README.md": _CHIEF}
_ALONE = {"with `X-Accel-Buffering: no`": "`con:flush()` arrives at once, if the script wants it"}
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


def chief(rows: Mapping[str, Cells], titles: Sequence[str]) -> dict[str, Cells]:
    """Some of the rows, with titles that need no other row above them."""
    if len(titles) == len(rows):
        return dict(rows)
    return {_ALONE.get(title, title): rows[title] for title in titles}


def written(page: Path) -> str:
    """The table that a page has."""
    return page.read_text().partition(_BEGIN)[2].partition(_END)[0]


def _main() -> None:
    with plain_site(FRONTS) as site:
        rows = {title: measured(title, site) for title in MEASUREMENTS}
    for page, titles in PAGES.items():
        before, _, rest = page.read_text().partition(_BEGIN)
        page.write_text(before + _BEGIN + table(chief(rows, titles)) + _END + rest.partition(_END)[2])


if __name__ == "__main__":
    _main()
