"""The ratios as a picture. The only module that needs matplotlib, imported when a plot is asked for."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import BenchError
from .machine import Setting
from .rounds import Line
from .spread import Spread
from .work import CANDIDATE_PEER, REFERENCE_PEER, REFERENCE_ROW

#: This project's server and its variants in greens, the others in a colour each.
_COLOURS = {
    CANDIDATE_PEER: "#2a7f4f",
    "greenfcgi-jit": "#57a878",
    "greenfcgi-lua51": "#8cc7a3",
    "greenfcgi-lua54": "#b5ddc4",
    "greenfcgi-log": "#3f6b55",
    "greenfcgi-compiled": "#bb5566",
    "greenfcgi-compiled-log": "#a0404f",
    "greenfcgi-compiled-jit": "#d68a96",
    REFERENCE_PEER: "#777bb3",
    "uwsgi": "#c0803c",
    "wsapi": "#5b8fb0",
    "nginx-lua": "#c9a227",
    "floor": "#999999",
}
_OTHER_COLOUR = "#5f5f87"
#: Between two rows of the table, in bars.
_GAP = 1.0


class Bar(NamedTuple):
    """A line of the table at its place, counted in bars from the top."""

    place: float
    line: Line


def bars(lines: Sequence[Line]) -> list[Bar]:
    """The lines that may be believed, row by row with a gap between; the reference only where it comes first."""
    shown = [line for line in lines if not line.faults]
    first = next((line for line in shown if line.entry.reference), None)
    own = [line for line in shown if not line.entry.reference or line is first]
    found: list[Bar] = []
    place = 0.0
    for _, row in itertools.groupby(own, key=lambda line: line.entry.row.name):
        for line in row:
            found.append(Bar(place, line))
            place += 1
        place += _GAP
    return found


def drawn(line: Line) -> Spread:
    """Its ratio to the reference; in a row whose target is php-fpm at the same work, its ratio to that."""
    if line.entry.row.rival is None:
        return line.ratio
    return line.same_work or Spread(1.0, 1.0, 1.0)


def write_plot(lines: Sequence[Line], setting: Setting, path: Path) -> None:
    """Draw a bar for each line with its lowest and highest ratio, and the targets; the suffix is the format.

    Raises `BenchError` without matplotlib.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise BenchError("a plot needs matplotlib: pip install matplotlib") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = bars(lines)
    figure, axes = pyplot.subplots(figsize=(9, 1.6 + 0.24 * (shown[-1].place + 1)), layout="constrained")
    for bar in shown:
        peer, row, ratio = bar.line.entry.upstream.peer, bar.line.entry.row, drawn(bar.line)
        reach = [[ratio.median - ratio.low], [ratio.high - ratio.median]]
        colour = _COLOURS.get(peer.name, _OTHER_COLOUR)
        axes.barh(bar.place, ratio.median, height=0.85, xerr=reach, capsize=2, color=colour, ecolor="#333333")
        axes.annotate(f"{ratio.median:.2f}", (ratio.high, bar.place), (4, 0), textcoords="offset points", va="center")
        target = row.target or row.rival
        if peer.name == CANDIDATE_PEER and target is not None:
            axes.plot([target, target], [bar.place - 0.5, bar.place + 0.5], color="black", linewidth=2.5)
    axes.axvline(1.0, color="grey", linewidth=1, linestyle=":")
    axes.set_yticks([bar.place for bar in shown], [bar.line.entry.upstream.peer.name for bar in shown])
    for row, group in itertools.groupby(shown, key=lambda bar: bar.line.entry.row):
        name = row.name if row.rival is None else f"{row.name}, {REFERENCE_PEER} at the same work = 1"
        first = next(group).place
        axes.text(0.005, first - 0.75, name, weight="bold", va="center", transform=axes.get_yaxis_transform())
    axes.set_ylim(shown[-1].place + 0.7, -1.3)
    axes.margins(x=0.08)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"server CPU per request, {REFERENCE_PEER} {REFERENCE_ROW.name} = 1 (black: target)")
    axes.set_title(f"{setting.date[:10]}, {setting.cpu}, {setting.cores} cores", fontsize=9)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: the plot cannot be written: {error}") from error
    finally:
        pyplot.close(figure)
