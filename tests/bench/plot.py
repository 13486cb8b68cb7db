"""The ratios as a picture. The only module that needs matplotlib, imported when a plot is asked for."""

from collections.abc import Sequence
from pathlib import Path

from .errors import BenchError
from .machine import Setting
from .report import target_of
from .rounds import Line
from .work import REFERENCE_PEER, REFERENCE_ROW

_COLOURS = ("#2a7f4f", "#777bb3", "#c0803c", "#5b8fb0")


def write_plot(lines: Sequence[Line], setting: Setting, path: Path) -> None:
    """Draw a bar for each line, with its lowest and highest ratio and its target; the suffix is the format.

    A faulty line is left out. The reference is drawn once, in its own row. Raises `BenchError` without
    matplotlib.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise BenchError("a plot needs matplotlib: pip install matplotlib") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = _shown(lines)
    names = list(dict.fromkeys(line.entry.upstream.peer.name for line in shown))
    figure, axes = pyplot.subplots(figsize=(8, 1.4 + 0.42 * len(shown)), layout="constrained")
    for place, line in enumerate(shown):
        name = line.entry.upstream.peer.name
        ratio = line.ratio
        reach = [[ratio.median - ratio.low], [ratio.high - ratio.median]]
        axes.barh(
            place, ratio.median, xerr=reach, capsize=3, color=_COLOURS[names.index(name) % len(_COLOURS)]
        )
        target = target_of(line)
        if target is not None:
            axes.plot([target, target], [place - 0.4, place + 0.4], color="black", linewidth=2)
    axes.axvline(1.0, color="grey", linewidth=1, linestyle=":")
    axes.set_yticks(range(len(shown)), [line.entry.name for line in shown])
    axes.invert_yaxis()
    axes.set_xlabel(f"server CPU per request, {REFERENCE_PEER} {REFERENCE_ROW.name} = 1 (black: target)")
    axes.set_title(f"{setting.date[:10]}, {setting.cpu}, {setting.cores} cores", fontsize=9)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: the plot cannot be written: {error}") from error
    finally:
        pyplot.close(figure)


def _shown(lines: Sequence[Line]) -> list[Line]:
    believed = [line for line in lines if not line.faults]
    own = [line for line in believed if not line.entry.reference]
    return own + [line for line in believed if line.entry.reference][:1]
