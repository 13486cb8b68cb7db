"""What a process reports of itself: its figures for the status page, and for the other processes of its supervisor.

Imported with a `status_path` only: figures, and json with them, are 0.3 MB that other servers do without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ..lua.engine import LuaEngine
from ..lua.state import State
from ..scripts.catalogue import Catalogue
from ..scripts.pool import Pool
from ..scripts.script import Script
from ..serving.exchange import Exchange
from ..serving.server import Server
from ..tasks.board import Run
from . import collect, snapshot, totals
from .request_times import RequestTimes
from .snapshot import Snapshot
from .totals import Overview


class Reporter:
    """Counts requests, and takes snapshots of what it is given. `flushes` is how many scripts have been reloaded."""

    def __init__(
        self, server: Server, pool: Pool[Script, State], catalogue: Catalogue, engine: LuaEngine,
        flushes: Callable[[], int], task_runs: Callable[[], Mapping[str, Run]],
    ) -> None:  # fmt: skip
        self._server = server
        self._pool = pool
        self._catalogue = catalogue
        self._engine = engine
        self._flushes = flushes
        self._task_runs = task_runs
        self._times = RequestTimes()
        self._started = time.time()
        #: With a supervisor: adds the snapshot of this process to those that the others have published.
        self.combine: Callable[[Snapshot], Overview] = totals.single

    def observe(self, exchange: Exchange) -> None:
        """A request has ended."""
        if exchange.is_logged:
            self._times.observe(exchange.status, time.monotonic() - exchange.started)

    def overview(self) -> Overview:
        """All processes, with what this one does now."""
        return self.combine(self._snapshot())

    def message(self, max_bytes: int) -> bytes:
        """What this process does now, for the others, in at most so many bytes."""
        return snapshot.pack(self._snapshot(), max_bytes)

    def _snapshot(self) -> Snapshot:
        return collect.snapshot(
            self._started, self._server, self._pool, self._catalogue, self._times, self._engine, self._flushes(),
            self._task_runs(),
        )  # fmt: skip
