"""Which processes are well: those that come to serve, send heartbeats, and end when they have been asked to.

A process is killed when it is

- not ready within 30 s (and `timeout`, where there is a `scripts.startup`),
- ready, and has sent no heartbeat for `timeout` + 2 s: something holds it that no hook of Lua's can stop. It has a
  second to write to the error log where it is stuck;
- still there when the time that it had to end is over.

What takes the place of one that has ended is the supervisor's business.
"""

from __future__ import annotations

import signal
from time import monotonic

from ..config.load import Config
from ..logs.error_log import ErrorLog
from ..status.scoreboard import Scoreboard
from ..status.totals import Totals
from ..system import systemd
from .children import Child, Children

#: Heartbeats may be late by so many seconds, beside the time that a script has.
_MAX_DELAY = 2.0
#: Seconds for a process to be ready, beside the time that `scripts.startup` has.
_BOOT_TIMEOUT = 30.0
#: Seconds for a process that is stuck to write its traceback.
_TRACEBACK_TIMEOUT = 1.0


class Health:
    """Checks all `children`. A process that had to be replaced is counted in `totals`."""

    def __init__(self, children: Children, scoreboard: Scoreboard, totals: Totals) -> None:
        self._children = children
        self._scoreboard = scoreboard
        self._totals = totals
        #: When processes were checked last, and since when heartbeats can be expected of them.
        self._checked_at = self._expected_since = monotonic()
        #: When systemd's watchdog has been fed last.
        self._fed_at = 0.0

    def check(self, log: ErrorLog) -> None:
        """Kill what has to be killed. To be called several times a second."""
        now = monotonic()
        if now - self._checked_at > _MAX_DELAY:
            # Everybody was frozen: a terminal's Ctrl-Z, a container's pause, a laptop's sleep.
            self._expected_since = now
        self._checked_at = now
        for child in self._children:
            if child.kill_at is not None and now >= child.kill_at:
                child.kill_at = None
                child.send(signal.SIGKILL)
            elif child.is_leaving:
                continue
            elif child.is_ready:
                self._check_heartbeat(child, now, log)
            elif now - max(child.started, self._expected_since) > _boot_timeout(child.config):
                child.problem = f"not ready after {_boot_timeout(child.config):.0f} s"
                child.send(signal.SIGKILL)
        self._feed_watchdog(now)

    def _check_heartbeat(self, child: Child, now: float, log: ErrorLog) -> None:
        silence = now - max(self._scoreboard.last_heartbeat(child.slot), self._expected_since)
        if silence > child.config.timeout + _MAX_DELAY:
            log.critical(f"process {child.pid} sent no heartbeat for {silence:.1f} s; replacing it")
            child.request_traceback()
            child.leave(None, _TRACEBACK_TIMEOUT)
            self._totals.count_replaced()

    def _feed_watchdog(self, now: float) -> None:
        """Notify systemd that the supervisor's loop runs; it looks after the processes itself."""
        interval = systemd.watchdog()
        if interval and now - self._fed_at >= interval:
            self._fed_at = now
            systemd.notify("WATCHDOG=1")


def _boot_timeout(config: Config) -> float:
    """`scripts.startup` has as much time as any script."""
    return _BOOT_TIMEOUT + (config.timeout if config.scripts.startup else 0)
