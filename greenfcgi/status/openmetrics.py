"""The figures in the OpenMetrics 1.0 format, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from ..logs.text import escape
from .figures import statuses, time_classes
from .snapshot import Snapshot
from .totals import Overview


def render(overview: Overview, now: float) -> bytes:
    """The exposition in UTF-8; `now` is in seconds of the epoch."""
    return ("\n".join([*_families(overview, now), "# EOF"]) + "\n").encode()


def _families(overview: Overview, now: float) -> Iterator[str]:
    one = overview.total
    yield from _family("uptime_seconds", "gauge", "Since the server began.", [("", now - overview.began)])
    yield from _family("processes", "gauge", "Processes that serve.", [("", len(overview.processes))])
    yield from _family("processes_replaced", "counter", "Processes that had to be replaced.", [("", overview.replaced)])
    yield from _family(
        "requests", "counter", "Requests by status; 499: the client had gone before anything was sent.",
        [(f'{{status="{status}"}}', count) for status, count in statuses(one).items()],
    )  # fmt: skip
    yield from _family("requests_running", "gauge", "Requests under way.", [("", one.running)])
    yield from _family("requests_waiting", "gauge", "Requests that wait for a worker.", [("", one.waiting)])
    yield from _family(
        "requests_waiting_for_state", "gauge", "Requests that wait for a state.", [("", one.waiting_for_state)]
    )
    yield from _family("queue_longest", "gauge", "Longest queue for a worker so far.", [("", one.longest_queue)])
    yield from _family("requests_turned_away", "counter", "Answered with 503: queue full.", [("", one.rejected)])
    yield from _family("workers", "gauge", "Worker greenlets.", [("", one.workers)])
    yield from _family("connections", "gauge", "Connections that are open.", [("", one.connections)])
    yield from _family("connections_accepted", "counter", "Connections accepted.", [("", one.accepted)])
    yield from _family("states", "gauge", "Lua states.", [("", one.states)])
    yield from _family("states_evicted", "counter", "States that made room for others.", [("", one.evictions)])
    yield from _family("flushes", "counter", "Scripts reloaded after a change.", [("", one.flushes)])
    yield from _family("timeouts", "counter", "Runs of scripts past timeout.", [("", one.timeouts)])
    yield from _family("memory_kills", "counter", "Runs of scripts past lua.memory.", [("", one.memory_kills)])
    yield from _held_families(one)
    yield from _histogram(one)
    yield from _script_families(one)
    if one.tasks:
        yield from _task_families(one)


def _held_families(one: Snapshot) -> Iterator[str]:
    def of(value: str) -> list[tuple[str, int | float]]:
        return [(f'{{share="{name}"}}', getattr(share, value)) for name, share in one.held.items()]

    yield from _family("held", "gauge", "Bytes of memory, or descriptors, held for clients and scripts.", of("taken"))
    yield from _family("held_limit", "gauge", "Limit of the same.", of("limit"))
    yield from _family("held_refused", "counter", "How often that limit was reached.", of("refused"))


def _histogram(one: Snapshot) -> Iterator[str]:
    yield from _head("request_duration_seconds", "histogram", "From a request to the end of its reply.")
    for bound, count in time_classes(one):
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


def _task_families(one: Snapshot) -> Iterator[str]:
    def of(value: str) -> list[tuple[str, int | float]]:
        return [(f'{{task="{_label(line.name)}"}}', getattr(line, value)) for line in one.tasks]

    yield from _family("task_runs", "counter", "Runs of a task.", of("runs"))
    yield from _family("task_failures", "counter", "Runs that failed.", of("failures"))
    yield from _family("task_failed", "gauge", "The last run has failed.", of("failed"))
    yield from _family("task_running", "gauge", "The task runs now.", of("running"))
    yield from _family("task_last_start_seconds", "gauge", "When it began last, since 1970.", of("began"))
    yield from _family("task_duration_seconds", "gauge", "How long its last run has taken.", of("seconds"))


def _label(text: str) -> str:
    return escape(text).replace("\\", "\\\\").replace('"', '\\"')


def _head(name: str, kind: str, help_text: str) -> Iterator[str]:
    yield f"# TYPE greenfcgi_{name} {kind}"
    unit = name.rpartition("_")[2]
    if unit in ("seconds", "bytes"):
        yield f"# UNIT greenfcgi_{name} {unit}"
    yield f"# HELP greenfcgi_{name} {help_text}"


def _family(name: str, kind: str, help_text: str, values: list[tuple[str, int | float]]) -> Iterator[str]:
    yield from _head(name, kind, help_text)
    suffix = "_total" if kind == "counter" else ""
    for labels, value in values:
        yield f"greenfcgi_{name}{suffix}{labels} {value}"
