"""The status page in four forms: text, JSON, HTML, OpenMetrics. Each is a function of an `Overview` and the time."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

from .. import __version__
from . import html_page, openmetrics
from .figures import figures, process_row, script_row, share_row, statuses, task_row, time_classes
from .totals import Overview

_UTF8 = "; charset=utf-8"


def page(form: str, overview: Overview) -> tuple[str, bytes]:
    """The content type and the page. `form` is the query: json, html or openmetrics, and text for anything else."""
    now = time.time()
    if form == "json":
        return "application/json", _json(overview, now)
    if form == "html":
        return "text/html" + _UTF8, html_page.render(overview, now)
    if form == "openmetrics":
        # The content type of the OpenMetrics specification 1.0.
        return "application/openmetrics-text; version=1.0.0" + _UTF8, openmetrics.render(overview, now)
    return "text/plain" + _UTF8, _text(overview, now)


def _text(overview: Overview, now: float) -> bytes:
    lines = [f"greenfcgi {__version__}", ""]
    lines += _pairs(figures(overview, now))
    lines += ["", "requests by status", *_pairs(statuses(overview.total))]
    lines += ["", "requests by time (that took at most so many seconds)", *_pairs(dict(time_classes(overview.total)))]
    held = [share_row(*item) for item in overview.total.held.items()]
    lines += ["", "memory and descriptors held for clients and scripts", *_table(held)]
    lines += ["", "processes", *_table([process_row(one, now) for one in overview.processes])]
    lines += ["", "scripts", *_table([script_row(line) for line in overview.total.scripts])]
    if overview.total.tasks:
        lines += ["", "tasks", *_table([task_row(line) for line in overview.total.tasks])]
    return ("\n".join(lines) + "\n").encode()


def _pairs(values: Mapping[str, int | float]) -> list[str]:
    width = max(map(len, values), default=0)
    return [f"{name + ':':{width + 1}}  {value}" for name, value in values.items()]


def _table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    if not rows:
        return ["none"]
    names = list(rows[0])
    cells = [names, *([str(row[name]) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _json(overview: Overview, now: float) -> bytes:
    document = {
        "version": __version__,
        **{name.replace(" ", "_"): value for name, value in figures(overview, now).items()},
        "statuses": statuses(overview.total),
        "seconds": {"classes": dict(time_classes(overview.total)), "sum": overview.total.seconds},
        "held": {name: share._asdict() for name, share in overview.total.held.items()},
        "process": [process_row(one, now) for one in overview.processes],
        "scripts": [script_row(line) for line in overview.total.scripts],
        "tasks": [task_row(line) for line in overview.total.tasks],
    }
    return json.dumps(document, indent=1).encode() + b"\n"
