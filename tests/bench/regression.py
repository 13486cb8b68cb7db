"""Whether a hello has become dearer: this tree's server beside that of another revision, in pairs.

Both run at once, behind the same nginx, with the same Python, packages and settings. A series is some rounds in each
of which both are loaded once, in alternating order; it says that a hello grew when the median of its rounds' ratios
is beyond a bound, and so is the ratio of the quickest runs. Then a second series is run, of servers started anew, and
only when it says the same of the same row has the hello grown: single runs on a shared machine prove nothing.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from .candidates import greenfcgi
from .errors import BenchError
from .frontend import Frontend, frontend
from .load import warm_up
from .peers import Peer, Upstream, started
from .replies import Check, checked
from .revisions import NoRevision, describe, other_packages, parent, unpack
from .rounds import WARM_UP_SECONDS, Sample, measure_run
from .spread import Spread
from .work import HELLO, ROWS, Row

#: The highest ratio of CPU per request, here to there, that is no growth.
BOUND = 1.15
_ROUNDS = 9
_SECONDS = 1
_ROWS = tuple(row for row in ROWS if row.work == HELLO)
_OTHER_PEER = "before"


class Series(NamedTuple):
    """Some rounds of a row: microseconds of CPU per request, `here` and `there`, one of each a round.

    `faults` says what was wrong with the replies of this tree's server.
    """

    row: str
    here: tuple[float, ...]
    there: tuple[float, ...]
    faults: tuple[str, ...] = ()

    @property
    def ratio(self) -> Spread:
        """Here to there, round by round."""
        return Spread.of([one / other for one, other in zip(self.here, self.there, strict=True)])

    @property
    def quickest(self) -> float:
        """The quickest run here to the quickest there: what else the machine does only ever adds to a run."""
        return min(self.here) / min(self.there)

    @property
    def grew(self) -> bool:
        """Both ratios say so: noise that moves the one rarely moves the other."""
        return min(self.ratio.median, self.quickest) > BOUND


class Comparison(NamedTuple):
    """All series, of `revision` as git tells it; `notes` are lines on what could not be compared, and why."""

    revision: str
    series: tuple[Series, ...]
    notes: tuple[str, ...] = ()

    @property
    def grown(self) -> list[str]:
        """The rows that grew in each of two series."""
        grew = [one.row for one in self.series if one.grew]
        return sorted({row for row in grew if grew.count(row) > 1})

    @property
    def faults(self) -> list[str]:
        """Why a series must not be believed."""
        return [f"{one.row} beside {self.revision}: {fault}" for one in self.series for fault in one.faults]


def measure_regression(revision: str | None, folder: Path, progress: Callable[[str], None]) -> Comparison:
    """Compare with a revision, or with what came before this tree: then only where there is such, and it starts.

    Raises `BenchError` when this tree's server does not start, a server falls silent, or git does not know a revision
    that was asked for.
    """
    try:
        name = revision or parent()
        told = describe(name)
        home = folder / "regression"
        home.mkdir()
        tree = unpack(name, home)
    except NoRevision as reason:
        if revision:
            raise
        return Comparison("", (), (f"no other revision is compared: {reason}",))
    wanted = other_packages(tree)
    notes = (f"{told} runs with the packages that are installed; it asks for {', '.join(wanted)}",) if wanted else ()
    try:
        _try(_peer(tree), home)
    except BenchError as error:
        return Comparison(told, (), (*notes, f"{told} is not compared: {error}"))
    return Comparison(told, twice(_ROWS, lambda rows: _measure(rows, tree, home, progress)), notes)


def twice(rows: Sequence[Row], measure: Callable[[Sequence[Row]], Sequence[Series]]) -> tuple[Series, ...]:
    """A series of each row by `measure`, and behind them a second one of those that grew."""
    first = measure(rows)
    again = [row for row, series in zip(rows, first, strict=True) if series.grew]
    return (*first, *measure(again)) if again else tuple(first)


def _peer(tree: Path) -> Peer:
    return replace(greenfcgi(tree=tree), name=_OTHER_PEER)


def _try(peer: Peer, folder: Path) -> None:
    """Raises `BenchError` when it does not start, or does not answer a hello as it must."""
    home = folder / "trial"
    home.mkdir()
    with started(peer, home) as upstream, frontend(home, [upstream]) as door:
        for row in _ROWS:
            fault = checked(door, upstream, row.connection, row.work).fault
            if fault:
                raise BenchError(f"{row.name}: {fault}")


def _measure(rows: Sequence[Row], tree: Path, folder: Path, progress: Callable[[str], None]) -> list[Series]:
    """A series of each row, of servers that are started for them. The rows take turns, to have the same weather."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    with (
        started(greenfcgi(), folder) as here,
        started(_peer(tree), folder) as there,
        frontend(folder, [here, there]) as door,
    ):
        pairs = {row: _Pair(row, here, there, door) for row in rows}
        for number in range(_ROUNDS):
            for row, pair in pairs.items():
                ratio = pair.measure_round(number)
                progress(f"{row.name} beside the other revision, round {number + 1} of {_ROUNDS}: {ratio:.2f}")
        return [pair.finished() for pair in pairs.values()]


class _Pair:
    """Both servers at one row, of which a series becomes. They are warm when it has been made."""

    def __init__(self, row: Row, here: Upstream, there: Upstream, door: Frontend) -> None:
        self._row = row
        self._here, self._there = here, there
        self._door = door
        self._samples: dict[Upstream, list[Sample]] = {here: [], there: []}
        self._checks = [self._check()]
        for upstream in self._samples:
            warm_up(door.target(upstream, row.connection, row.work), WARM_UP_SECONDS)

    def measure_round(self, number: int) -> float:
        """One run of each, the order by the round's number; returns their ratio."""
        for upstream in self._samples if number % 2 == 0 else reversed(self._samples):
            self._samples[upstream].append(measure_run(upstream, self._row, self._door, _SECONDS))
        return self._samples[self._here][-1].cpu / self._samples[self._there][-1].cpu

    def finished(self) -> Series:
        """What has been measured, with the replies of this tree's server looked at once more."""
        checks = [*self._checks, self._check()]
        faults = [check.fault for check in checks if check.fault]
        faults += [error for sample in self._samples[self._here] for error in sample.load.errors]
        here, there = (tuple(sample.cpu for sample in samples) for samples in self._samples.values())
        return Series(self._row.name, here, there, tuple(dict.fromkeys(faults)))

    def _check(self) -> Check:
        return checked(self._door, self._here, self._row.connection, self._row.work)
