"""What is measured in one run of the benchmark, and in which order."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .candidates import greenfcgi, variants, with_room
from .errors import NotInstalled
from .frontend import frontend
from .growth import measure_growth
from .machine import Setting, describe
from .memory import Holder, measure_memory, resident
from .nginx_lua import nginx_lua
from .peers import Peer, Upstream, started
from .regression import measure_regression
from .results import Results
from .rivals import floor, php_fpm, uwsgi, wsapi
from .rounds import Line, Plan, measure_row
from .throughput import CLIENTS, Passed, measure_throughput
from .work import CANDIDATE_PEER, REFERENCE_PEER, ROWS, Row

MEMORY = "memory"
GROWTH = "growth"
WAITING = "wait"
REGRESSION = "regression"
NAMES = (*(row.name for row in ROWS), WAITING, GROWTH, MEMORY, REGRESSION)

#: Those of the short form, unless others are chosen.
_SHORT_PEERS = (CANDIDATE_PEER, REFERENCE_PEER)
#: Workers and states where all clients wait at once, with some to spare.
_ROOM = CLIENTS + 56


class Choice(NamedTuple):
    """What was asked for: parts by their names and servers by theirs, all of them when there are none."""

    plan: Plan
    short: bool
    only: Sequence[str]
    names: Sequence[str]
    null: bool
    #: The revision that this tree is compared with; None is the one before it, in the short form only.
    against: str | None = None

    @property
    def peers(self) -> list[Peer]:
        """The servers that are compared; the reference is always among them."""
        if self.null:
            return [php_fpm("php-fpm-again"), php_fpm()]
        names = self.names or (_SHORT_PEERS if self.short else available())
        return [peer for name, peer in available().items() if name in names or name == REFERENCE_PEER]

    @property
    def rows(self) -> list[Row]:
        """The rows that a server beside the reference can do, and that were asked for."""
        able = [row for row in ROWS if any(peer.does(row) and peer.name != REFERENCE_PEER for peer in self.peers)]
        if self.only:
            return [row for row in able if row.name in self.only]
        return [row for row in able if row.short or not self.short]

    @property
    def compares(self) -> bool:
        """Whether another revision's server is measured beside this one."""
        if self.only or self.null:
            return REGRESSION in self.only
        return self.short or self.against is not None

    def includes(self, part: str, short: bool = False) -> bool:
        """Whether one of the parts that are no rows is measured; `short` says that it belongs to the short form."""
        return part in self.only if self.only else not self.null and (short or not self.short)


def available() -> dict[str, Peer]:
    """Every server that there can be a line of, by name, in the order of the table and of the runs."""
    peers = [greenfcgi(), php_fpm(), *variants(), uwsgi(), wsapi(), nginx_lua(), floor()]
    return {peer.name: peer for peer in peers}


def measure(choice: Choice, folder: Path, progress: Callable[[str], None]) -> Results:
    """Measure what was chosen. Raises `BenchError` when that cannot be done."""
    load = os.getloadavg()[0]
    parts = _Parts(choice, folder, progress)
    # Memory first, since it takes seconds: what is wrong with the server shows before minutes have gone.
    holdings = measure_memory(choice.short, folder, progress) if choice.includes(MEMORY, short=True) else []
    setting, lines, holders = parts.compared()
    setting = setting._replace(load_average=load)
    passed = parts.waiting() if choice.includes(WAITING) else []
    grown = measure_growth(folder, progress) if choice.includes(GROWTH) else []
    comparison = measure_regression(choice.against, folder, progress) if choice.compares else None
    return Results(setting, choice.plan, lines, passed, grown, holders, holdings, list(parts.left_out), comparison)


class _Parts:
    """The parts that compare servers, each with the servers that are installed."""

    def __init__(self, choice: Choice, folder: Path, progress: Callable[[str], None]) -> None:
        self._choice = choice
        self._folder = folder
        self._progress = progress
        #: Why servers are missing, without a reason twice.
        self.left_out: dict[str, None] = {}

    def compared(self) -> tuple[Setting, list[Line], list[Holder]]:
        """All rows, with all servers running behind one nginx; without rows, only what is there."""
        rows, plan = self._choice.rows, self._choice.plan
        with self._running(self._choice.peers, "rows") as (upstreams, home):
            ready = [resident(upstream) for upstream in upstreams]
            setting = describe(upstreams)
            if not rows:
                return setting, [], []
            with frontend(home, upstreams) as door:
                lines = [line for row in rows for line in measure_row(row, upstreams, door, plan, self._progress)]
            holders = [
                Holder(upstream.peer.name, len(upstream.server.pids()), before, resident(upstream))
                for upstream, before in zip(upstreams, ready, strict=True)
            ]
        return setting, lines, holders

    def waiting(self) -> list[Passed]:
        """The clients that wait, for whom greenfcgi is started with as many workers and states as it takes."""
        peers = [peer for peer in self._choice.peers if peer.takes_part(WAITING)]
        roomy = [with_room(_ROOM) if peer.name == CANDIDATE_PEER else peer for peer in peers]
        with self._running(roomy, "waiting") as (upstreams, home), frontend(home, upstreams) as door:
            return measure_throughput(upstreams, door, self._progress)

    @contextlib.contextmanager
    def _running(self, peers: Sequence[Peer], name: str) -> Iterator[tuple[list[Upstream], Path]]:
        home = self._folder / name
        home.mkdir()
        upstreams = []
        with contextlib.ExitStack() as stack:
            for peer in peers:
                try:
                    upstreams.append(stack.enter_context(started(peer, home)))
                except NotInstalled as error:
                    if peer.name == REFERENCE_PEER:
                        raise
                    self.left_out[str(error)] = None
                    self._progress(f"left out: {error}")
            yield upstreams, home
