"""The results as JSON for programs."""

import json
from pathlib import Path

from .growth import Grown
from .load import CLIENTS
from .regression import BOUND, Comparison
from .results import Results, of_line
from .rounds import Line
from .spread import Spread
from .throughput import CLIENTS as WAITING_CLIENTS
from .throughput import Passed
from .verdicts import ROOM
from .work import REFERENCE_PEER, REFERENCE_ROW


def write_json(results: Results, path: Path) -> None:
    """Write it all, every sample too: sizes in bytes, latencies in ms, CPU in microseconds per request."""
    document = {
        "setting": results.setting._asdict(),
        "plan": {**results.plan._asdict(), "clients": CLIENTS, "room": ROOM},
        "reference": f"{REFERENCE_PEER} {REFERENCE_ROW.name}",
        "rows": [_line(line) for line in results.lines],
        "waiting": [_passed(line) for line in results.passed],
        "growth": [_grown(point) for point in results.grown],
        "regression": _comparison(results.comparison) if results.comparison else None,
        "servers": [
            {**holder._asdict(), "ready": holder.ready._asdict(), "loaded": holder.loaded._asdict()}
            for holder in results.holders
        ],
        "memory": [holding._asdict() for holding in results.holdings],
        "verdicts": [{**verdict._asdict(), "met": verdict.met} for verdict in results.verdicts],
        "left_out": list(results.left_out),
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def _line(line: Line) -> dict[str, object]:
    return {
        "row": line.entry.row.name,
        "server": line.entry.upstream.peer.name,
        "reference": line.entry.reference,
        "cpu": Spread.of([sample.cpu for sample in line.samples])._asdict(),
        "total": Spread.of([sample.total for sample in line.samples])._asdict(),
        "ratio": line.ratio._asdict(),
        "same_work": line.same_work._asdict() if line.same_work else None,
        "to_base": line.to_base._asdict() if line.to_base else None,
        "to_floor": line.to_floor._asdict() if line.to_floor else None,
        "targets": [verdict._asdict() for verdict in of_line(line)],
        "samples": [{"cpu": sample.cpu, "total": sample.total, **sample.load._asdict()} for sample in line.samples],
        "replies_compared": line.replies,
        "faults": line.faults,
    }


def _passed(line: Passed) -> dict[str, object]:
    return {
        "server": line.peer,
        "clients": WAITING_CLIENTS,
        "rate": line.rate._asdict(),
        "target": line.target,
        "rates": line.rates,
        "replies_compared": line.replies,
        "faults": line.faults,
    }


def _grown(point: Grown) -> dict[str, object]:
    return {**point.point._asdict(), "cpu": point.cpu, "ratio": point.ratio._asdict()}


def _comparison(comparison: Comparison) -> dict[str, object]:
    series = [
        {**one._asdict(), "ratio": one.ratio._asdict(), "quickest": one.quickest, "grew": one.grew}
        for one in comparison.series
    ]
    return {**comparison._asdict(), "series": series, "bound": BOUND, "grown": comparison.grown}
