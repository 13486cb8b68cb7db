"""The status page: an `Overview` as text, JSON, HTML or OpenMetrics. Pure functions of what they show and the time."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from .. import __version__
from ..logs.text import escape
from .request_times import BOUNDS
from .snapshot import ScriptLine, Share, Snapshot
from .totals import Overview

#: Seconds after which a page in a browser shows itself anew.
_REFRESH = 5
_UTF8 = "; charset=utf-8"
#: The client had gone before anything was sent: nginx logs such requests so.
_GONE = 499


def page(form: str, overview: Overview) -> tuple[str, bytes]:
    """The content type and the page. `form` is the query: json, html or openmetrics, and text for anything else."""
    now = time.time()
    if form == "json":
        return "application/json", _json(overview, now)
    if form == "html":
        return "text/html" + _UTF8, _html(overview, now)
    if form == "openmetrics":
        # The content type of the OpenMetrics specification 1.0.
        return "application/openmetrics-text; version=1.0.0" + _UTF8, _openmetrics(overview, now)
    return "text/plain" + _UTF8, _text(overview, now)


# What there is to show, in words and values


def _figures(overview: Overview, now: float) -> dict[str, int | float]:
    one = overview.total
    return {
        "uptime": round(now - overview.began, 3),
        "processes": len(overview.processes),
        "processes replaced": overview.replaced,
        "requests": one.requests,
        "running": one.running,
        "waiting": one.waiting,
        "waiting for a state": one.waiting_for_state,
        "longest queue": one.longest_queue,
        "turned away": one.rejected,
        "workers": one.workers,
        "connections": one.connections,
        "accepted connections": one.accepted,
        "states": one.states,
        "evictions": one.evictions,
        "flushes": one.flushes,
        "timeouts": one.timeouts,
        "memory kills": one.memory_kills,
    }


def _script(line: ScriptLine) -> dict[str, object]:
    return {
        "path": escape(line.path),
        "requests": line.requests,
        "states": line.states,
        "busy": line.busy,
        "age": round(line.age, 1),
        "memory": line.memory,
        "loaded": _moment(line.loaded),
        "version": _version(line),
        "problem": escape(line.problem),
    }


def _version(line: ScriptLine) -> str:
    if not line.problem:
        return "current" if line.loaded else "none"
    return "last good" if line.loaded else "broken"


def _share(name: str, share: Share) -> dict[str, object]:
    return {"share": name, **share._asdict()}


def _process(one: Snapshot, now: float) -> dict[str, int | float]:
    return {
        "pid": one.pid,
        "uptime": round(now - one.started, 3),
        "requests": one.requests,
        "running": one.running,
        "waiting": one.waiting,
        "workers": one.workers,
        "connections": one.connections,
        "states": one.states,
    }


def _classes(one: Snapshot) -> list[tuple[str, int]]:
    """Of the histogram: each upper bound in seconds with the requests that took at most so long."""
    return list(zip([*(f"{bound:g}" for bound in BOUNDS), "+Inf"], accumulate(one.histogram), strict=True))


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "-"


# Text


def _text(overview: Overview, now: float) -> bytes:
    lines = [f"greenfcgi {__version__}", ""]
    lines += _pairs(_figures(overview, now))
    lines += ["", "requests by status", *_pairs(_statuses(overview.total))]
    lines += ["", "requests that took at most so many seconds", *_pairs(dict(_classes(overview.total)))]
    lines += ["", "held for others", *_table([_share(*item) for item in overview.total.held.items()])]
    lines += ["", "processes", *_table([_process(one, now) for one in overview.processes])]
    lines += ["", "scripts", *_table([_script(line) for line in overview.total.scripts])]
    return ("\n".join(lines) + "\n").encode()


def _statuses(one: Snapshot) -> dict[str, int]:
    return {str(status or _GONE): count for status, count in one.statuses.items()}


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


# JSON


def _json(overview: Overview, now: float) -> bytes:
    document = {
        "version": __version__,
        **{name.replace(" ", "_"): value for name, value in _figures(overview, now).items()},
        "statuses": _statuses(overview.total),
        "seconds": {"classes": dict(_classes(overview.total)), "sum": overview.total.seconds},
        "held": {name: share._asdict() for name, share in overview.total.held.items()},
        "process": [_process(one, now) for one in overview.processes],
        "scripts": [_script(line) for line in overview.total.scripts],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


# HTML

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


def _html(overview: Overview, now: float) -> bytes:
    one = overview.total
    figures = "".join(
        f"<div><dt>{name}</dt><dd>{_duration(value) if name == 'uptime' else value}</dd></div>"
        for name, value in _figures(overview, now).items()
    )
    scripts = [{**_script(line), "memory": _size(line.memory)} for line in one.scripts]
    processes = [{**_process(each, now), "uptime": _duration(now - each.started)} for each in overview.processes]
    parts = [
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{_REFRESH}">'
        f'<meta name="viewport" content="width=device-width"><title>greenfcgi status</title><style>{_STYLE}</style>'
        f"</head>\n<body><h1>greenfcgi <small>{__version__}, since {_moment(overview.began)}</small></h1>\n"
        f"<dl>{figures}</dl>",
        "<h2>Requests by status</h2>",
        _html_table([{"status": status, "requests": count} for status, count in _statuses(one).items()]),
        "<h2>Requests by time</h2>",
        _html_table(_times(one), raw="share"),
        "<h2>Held for others</h2>",
        _html_table([_share(*item) for item in one.held.items()]),
        "<h2>Scripts</h2>",
        _html_table(scripts, bad="problem"),
        "<h2>Processes</h2>",
        _html_table(processes),
        "</body></html>\n",
    ]  # fmt: skip
    return "\n".join(parts).encode()


def _times(one: Snapshot) -> list[dict[str, object]]:
    names = [f"up to {bound:g} s" for bound in BOUNDS] + ["longer"]
    all_of_them = one.requests or 1
    return [
        {
            "seconds": name,
            "requests": count,
            "share": f'<meter value="{count / all_of_them:.3f}"></meter> {100 * count / all_of_them:.1f} %',
        }
        for name, count in zip(names, one.histogram, strict=True)
        if count
    ]


def _html_table(rows: Sequence[Mapping[str, object]], bad: str = "", raw: str = "") -> str:
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


# OpenMetrics


def _openmetrics(overview: Overview, now: float) -> bytes:
    return ("\n".join([*_families(overview, now), "# EOF"]) + "\n").encode()


def _families(overview: Overview, now: float) -> Iterator[str]:
    one = overview.total
    yield from _family("uptime_seconds", "gauge", "Since the server began.", [("", now - overview.began)])
    yield from _family("processes", "gauge", "Processes that serve.", [("", len(overview.processes))])
    yield from _family("processes_replaced", "counter", "Processes that had to be replaced.", [("", overview.replaced)])
    yield from _family(
        "requests", "counter", "Requests by status; 499: the client had gone before anything was sent.",
        [(f'{{status="{status}"}}', count) for status, count in _statuses(one).items()],
    )  # fmt: skip
    yield from _family("requests_running", "gauge", "Requests under way.", [("", one.running)])
    yield from _family("requests_waiting", "gauge", "Requests that wait for a worker.", [("", one.waiting)])
    yield from _family(
        "requests_waiting_for_state", "gauge", "Requests that wait for a state.", [("", one.waiting_for_state)]
    )
    yield from _family("queue_longest", "gauge", "The most that ever waited for a worker.", [("", one.longest_queue)])
    yield from _family("requests_turned_away", "counter", "Answered with 503: queue full.", [("", one.rejected)])
    yield from _family("workers", "gauge", "Worker greenlets.", [("", one.workers)])
    yield from _family("connections", "gauge", "Connections that are open.", [("", one.connections)])
    yield from _family("connections_accepted", "counter", "Connections accepted.", [("", one.accepted)])
    yield from _family("states", "gauge", "Lua states.", [("", one.states)])
    yield from _family("states_evicted", "counter", "States that made max_bytes for others.", [("", one.evictions)])
    yield from _family("flushes", "counter", "Versions of scripts replaced by newer ones.", [("", one.flushes)])
    yield from _family("timeouts", "counter", "Runs of scripts that took too long.", [("", one.timeouts)])
    yield from _family("memory_kills", "counter", "Runs of scripts out of memory.", [("", one.memory_kills)])
    yield from _held_families(one)
    yield from _histogram(one)
    yield from _script_families(one)


def _held_families(one: Snapshot) -> Iterator[str]:
    def of(value: str) -> list[tuple[str, int | float]]:
        return [(f'{{share="{name}"}}', getattr(share, value)) for name, share in one.held.items()]

    yield from _family("held", "gauge", "Memory in bytes, or descriptors, that are held for others.", of("taken"))
    yield from _family("held_limit", "gauge", "The most that may be held.", of("limit"))
    yield from _family("held_refused", "counter", "How often there was no more to hold.", of("refused"))


def _histogram(one: Snapshot) -> Iterator[str]:
    yield from _head("request_duration_seconds", "histogram", "From a request to the end of its reply.")
    for bound, count in _classes(one):
        yield f'greenfcgi_request_duration_seconds_bucket{{le="{_canonical(bound)}"}} {count}'
    yield f"greenfcgi_request_duration_seconds_count {one.requests}"
    yield f"greenfcgi_request_duration_seconds_sum {one.seconds}"


def _canonical(bound: str) -> str:
    """Numbers of labels are floats in their shortest form (OpenMetrics 1.0, canonical numbers)."""
    return bound if bound == "+Inf" else str(float(bound))


def _script_families(one: Snapshot) -> Iterator[str]:
    def of(value: str) -> list[tuple[str, int | float]]:
        return [(f'{{script="{_label(line.path)}"}}', getattr(line, value)) for line in one.scripts]

    yield from _family("script_requests", "counter", "Requests by script.", of("requests"))
    yield from _family("script_states", "gauge", "States by script.", of("states"))
    yield from _family("script_memory_bytes", "gauge", "Memory of a script's states.", of("memory"))
    yield from _family("script_age_seconds", "gauge", "Age of a script's oldest state.", of("age"))
    broken: list[tuple[str, int | float]] = [
        (f'{{script="{_label(line.path)}"}}', 1 if line.problem else 0) for line in one.scripts
    ]
    yield from _family("script_broken", "gauge", "The script's files do not load.", broken)


def _label(text: str) -> str:
    return escape(text).replace("\\", "\\\\").replace('"', '\\"')


def _head(name: str, kind: str, told: str) -> Iterator[str]:
    yield f"# TYPE greenfcgi_{name} {kind}"
    unit = name.rpartition("_")[2]
    if unit in ("seconds", "bytes"):
        yield f"# UNIT greenfcgi_{name} {unit}"
    yield f"# HELP greenfcgi_{name} {told}"


def _family(name: str, kind: str, told: str, values: list[tuple[str, int | float]]) -> Iterator[str]:
    yield from _head(name, kind, told)
    suffix = "_total" if kind == "counter" else ""
    for labels, value in values:
        yield f"greenfcgi_{name}{suffix}{labels} {value}"
