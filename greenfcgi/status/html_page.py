"""The status page as HTML, which reloads itself every few seconds. No script, no file beside it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from .. import __version__
from .figures import figures, format_time, process_row, script_row, share_row, statuses, task_row
from .request_times import BOUNDS
from .snapshot import Snapshot
from .totals import Overview

#: Seconds after which a page in a browser reloads itself.
_REFRESH = 5
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
h1 small { font-weight: normal; opacity: .7; }
dl { display: grid; gap: .4rem 2rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); margin: 0; }
dt { font-size: .8rem; opacity: .7; } dd { font-size: 1.2rem; font-variant-numeric: tabular-nums; margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { font-weight: 600; } th, td { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; }
tr + tr { border-top: 1px solid #8884; } .bad td { color: #c33; }
meter { width: 12rem; }
"""


def render(overview: Overview, now: float) -> bytes:
    """The page in UTF-8; `now` is in seconds of the epoch."""
    one = overview.total
    items = "".join(
        f"<div><dt>{name}</dt><dd>{_duration(value) if name == 'uptime' else value}</dd></div>"
        for name, value in figures(overview, now).items()
    )
    scripts = [{**script_row(line), "memory": _size(line.memory)} for line in one.scripts]
    processes = [{**process_row(each, now), "uptime": _duration(now - each.started)} for each in overview.processes]
    tasks = [task_row(line) for line in one.tasks]
    parts = [
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{_REFRESH}">'
        f'<meta name="viewport" content="width=device-width"><title>greenfcgi status</title><style>{_STYLE}</style>'
        f"</head>\n<body><h1>greenfcgi <small>{__version__}, since {format_time(overview.began)}</small></h1>\n"
        f"<dl>{items}</dl>",
        "<h2>Requests by status</h2>",
        _table([{"status": status, "requests": count} for status, count in statuses(one).items()]),
        "<h2>Requests by time</h2>",
        _table(_times(one), raw="share"),
        "<h2>Memory and descriptors held for clients and scripts</h2>",
        _table([share_row(*item) for item in one.held.items()]),
        "<h2>Scripts</h2>",
        _table(scripts, bad="problem"),
        *(["<h2>Tasks</h2>", _table(tasks, bad="failures")] if tasks else []),
        "<h2>Processes</h2>",
        _table(processes),
        "</body></html>\n",
    ]  # fmt: skip
    return "\n".join(parts).encode()


def _times(one: Snapshot) -> list[dict[str, object]]:
    names = [f"up to {bound:g} s" for bound in BOUNDS] + ["longer"]
    total = one.requests or 1
    return [
        {
            "seconds": name,
            "requests": count,
            "share": f'<meter value="{count / total:.3f}"></meter> {100 * count / total:.1f} %',
        }
        for name, count in zip(names, one.histogram, strict=True)
        if count
    ]


def _table(rows: Sequence[Mapping[str, object]], bad: str = "", raw: str = "") -> str:
    """Rows as a table; those with something in the column `bad` stand out, the column `raw` is HTML already."""
    if not rows:
        return "<p>none</p>"

    def cells(row: Mapping[str, object]) -> str:
        return "".join(f"<td>{v if name == raw else html.escape(str(v))}</td>" for name, v in row.items())

    head = "".join(f"<th>{name}</th>" for name in rows[0])
    body = "".join(f"<tr{' class=bad' if bad and row[bad] else ''}>{cells(row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _duration(seconds: float) -> str:
    days, left = divmod(int(seconds), 86400)
    return f"{f'{days} d ' if days else ''}{left // 3600:02}:{left // 60 % 60:02}:{left % 60:02}"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MB" if count >= 2**20 else f"{count / 2**10:.0f} KB"
