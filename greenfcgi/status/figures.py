"""What the status page shows, whatever its form: names and values made of an `Overview`."""

from __future__ import annotations

import time
from itertools import accumulate

from ..logs.text import escape
from .request_times import BOUNDS
from .snapshot import ScriptLine, Share, Snapshot, TaskLine
from .totals import Overview

#: The client had gone before anything was sent: nginx logs such requests so.
_CLIENT_GONE = 499


def figures(overview: Overview, now: float) -> dict[str, int | float]:
    """The figures of all processes together; the names are JSON's keys, but for their spaces."""
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


def script_row(line: ScriptLine) -> dict[str, object]:
    """A script, by the names of columns."""
    return {
        "path": escape(line.path),
        "requests": line.requests,
        "states": line.states,
        "busy": line.busy,
        "age": round(line.age, 1),
        "memory": line.memory,
        "loaded": format_time(line.loaded),
        "version": _version(line),
        "problem": escape(line.problem),
    }


def _version(line: ScriptLine) -> str:
    if not line.problem:
        return "current" if line.loaded else "none"
    return "last good" if line.loaded else "broken"


def share_row(name: str, share: Share) -> dict[str, object]:
    """A share of memory or descriptors, by the names of columns."""
    return {"share": name, **share._asdict()}


def task_row(line: TaskLine) -> dict[str, object]:
    """A task, by the names of columns."""
    return {
        "task": escape(line.name),
        "runs": line.runs,
        "failures": line.failures,
        "last": format_time(line.began),
        "seconds": round(line.seconds, 3),
        "result": _result(line),
    }


def _result(line: TaskLine) -> str:
    if line.running:
        return "running"
    if not line.runs:
        return "-"
    return "failed" if line.failed else "good"


def process_row(one: Snapshot, now: float) -> dict[str, int | float]:
    """A process, by the names of columns."""
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


def time_classes(one: Snapshot) -> list[tuple[str, int]]:
    """The histogram, cumulative: each upper bound in seconds, as text, with the requests that took at most so long."""
    return list(zip([*(f"{bound:g}" for bound in BOUNDS), "+Inf"], accumulate(one.histogram), strict=True))


def format_time(seconds: float) -> str:
    """Seconds of the epoch as local time; "-" for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "-"


def statuses(one: Snapshot) -> dict[str, int]:
    """Requests by HTTP status."""
    return {str(status or _CLIENT_GONE): count for status, count in one.statuses.items()}
