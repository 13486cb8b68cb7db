"""How a configuration is brought in: the first one at the start, each other one by SIGHUP; and the way back.

A configuration is proven when one of its processes has been ready. Until then the one before is kept, with its
listeners, its error log and all of its processes, and comes back if a process of the new one cannot serve. Then
processes are replaced one by one: a new one is ready before an old one leaves.

::

    phase       previous   event                                             next phase
    ---------   --------   -----------------------------------------------   ---------------------------------------
    STARTING    none       a process is ready                                COMPLETING
                           a process ends before it is ready                 none: the start fails
    COMPLETING  none       all are ready                                     SERVING
                           a process ends before it is ready                 none: the start fails
    SERVING     none       SIGHUP: the new configuration cannot be used      SERVING
                           SIGHUP: it has been read, and listened on         TRYING
    TRYING      kept       a process of the new one is ready                 REPLACING
                           a process of the new one ends                     SERVING: rolled back
    REPLACING   kept       the new ones are ready, all old ones leave        SERVING: committed
                           a process of the new one ends                     FAILING
    FAILING     kept       the new ones are ready, all old ones leave        SERVING: committed
                           SIGHUP, while the old listeners are still open    SERVING: rolled back; then SIGHUP as there
                           SIGHUP, when they have been closed                SERVING: committed; then SIGHUP as there

SIGHUP in any other phase is remembered until SERVING. That a process ends which nobody has asked to, in ways that the
table does not name, changes no phase: another takes its place, as `restarts` says when. The old listeners are closed
(committed) just before the last old process leaves, which takes what still waits to be accepted there.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import NamedTuple

from ..config.load import Config
from ..errors import BindError, ConfigError
from ..logs.error_log import ErrorLog
from ..logs.text import counted
from ..system import listen, systemd
from ..system.privileges import Identity, prepare_logs, remarks_on_reading, resolve_identity
from ..version import NAME
from .children import Child, Children
from .listeners import ListenerSet
from .open_logs import error_log
from .restarts import Restarts

#: Seconds for hooks and logs after a graceful stop.
CLEANUP_TIMEOUT = 2.0
#: Seconds for a process to end that does not serve yet.
ABORT_TIMEOUT = 1.0
#: What a reload does not change.
_FIXED = ("socket_mode", "backlog", "pidfile")


class Phase(Enum):
    """Where a rollout is; see the table above."""

    STARTING = "starting"
    COMPLETING = "completing"
    SERVING = "serving"
    TRYING = "trying"
    REPLACING = "replacing"
    FAILING = "failing"


class Setup(NamedTuple):
    """A configuration and what comes with it. `generation` marks its processes."""

    generation: int
    config: Config
    identity: Identity
    #: How many there are to be: SIGTTIN and SIGTTOU change it.
    processes: int
    log: ErrorLog


class Rollout:
    """Brings the processes that there are nearer to those that there should be.

    `read` reads the configuration again; it raises `ConfigError`. `start` starts a process of the current setup.
    """

    def __init__(
        self, first: Setup, read: Callable[[], Config], start: Callable[[], None], children: Children,
        listeners: ListenerSet, restarts: Restarts, max_processes: int,
    ) -> None:  # fmt: skip
        self.phase = Phase.STARTING
        self.current = first
        #: What is kept until the current one has taken its place.
        self.previous: Setup | None = None
        self._last_generation = first.generation
        #: Another SIGHUP came meanwhile.
        self._reload_pending = False
        self._read = read
        self._start = start
        self._children = children
        self._listeners = listeners
        self._restarts = restarts
        self._max_processes = max_processes

    @property
    def is_settled(self) -> bool:
        """Nothing is being started or replaced."""
        return self.phase is Phase.SERVING

    @property
    def is_started(self) -> bool:
        """Once all processes have been ready: from then on a process that ends is no failed start."""
        return self.phase not in (Phase.STARTING, Phase.COMPLETING)

    @property
    def is_proven(self) -> bool:
        """A process of the current configuration has been ready."""
        return self.phase not in (Phase.STARTING, Phase.TRYING)

    @property
    def setups(self) -> list[Setup]:
        """The current one, and the one that may come back."""
        return [self.current] if self.previous is None else [self.current, self.previous]

    # What the processes do

    def on_ready(self, child: Child) -> None:
        """A process can serve."""
        if child.generation == self.current.generation:
            if self.phase is Phase.STARTING:
                self.phase = Phase.COMPLETING
            elif self.phase is Phase.TRYING:
                self.phase = Phase.REPLACING

    def on_unexpected_exit(self, child: Child, problem: str) -> bool:
        """A process has ended that nobody had asked to. False when none has to take its place."""
        if child.generation == self.current.generation:
            if self.phase is Phase.TRYING:
                self._roll_back(problem)
                return False
            if self.phase is Phase.REPLACING:
                self.phase = Phase.FAILING
        return True

    def reconcile(self) -> bool:
        """Take one step from what is to what should be. False when there is none to take now."""
        wanted = self.current.processes
        active = [child for child in self._children if not child.is_leaving]
        fresh = [child for child in active if child.generation == self.current.generation]
        old = [child for child in active if child.generation != self.current.generation]
        ready = sum(child.is_ready for child in fresh)
        is_booting = ready < len(fresh)
        if len(fresh) < wanted and not (old and is_booting) and monotonic() >= self._restarts.not_before:
            # At the start all at once; while old ones serve, one after the other.
            self._start()
        elif old and ready and len(old) > wanted - ready:
            if len(old) == 1:
                # The last one takes what still waits to be accepted there.
                self._listeners.commit()
            retire(old[0])
        elif len(fresh) > wanted and not old:
            retire(fresh[-1])
        else:
            if ready == len(fresh) == wanted and not old:
                self._on_converged()
            return False
        return True

    def _on_converged(self) -> None:
        """All processes are ready, and all of the current configuration."""
        if self.phase is Phase.COMPLETING:
            self.phase = Phase.SERVING
            config = self.current.config
            self.current.log.info(
                f"{NAME} ({config.lua.version}, {self.processes_text()}) serves {config.scripts.root} "
                f"on {listen.names(self._listeners.bound)}"
            )
            self._notify_ready()
        elif self.phase is not Phase.SERVING:
            self._commit()
            self.current.log.info(f"configuration reloaded, {self.processes_text()} running")
            self._notify_ready()
        if self._reload_pending:
            self._reload_pending = False
            self.reload()

    # What the operator wants

    def reload(self) -> None:
        """SIGHUP: bring in the configuration as it is in the file now."""
        if self.phase is Phase.FAILING:
            # Its processes end again and again, and somebody comes with another one.
            if self._listeners.can_roll_back:
                self._roll_back("its processes do not last")
            else:
                self._commit()
        if self.phase is not Phase.SERVING:
            self._reload_pending = True
            self.current.log.info("SIGHUP: noted, processes are still being started or replaced")
            return
        systemd.reloading()
        setup = self._prepare()
        if setup is None:
            self._notify_ready()
            return
        old = self.current
        old.log.info("SIGHUP: the configuration has been read, replacing processes")
        for level, text in [*listen.remarks(self._listeners.bound), *remarks_on_reading(setup.identity)]:
            setup.log.log(level, text)
        for name in _FIXED:
            if getattr(setup.config, name) != getattr(old.config, name):
                old.log.warning(f"SIGHUP: {name} cannot change without a restart; keeping the old value")
        self.previous, self.current, self.phase = old, setup, Phase.TRYING
        self._restarts.reset()

    def _prepare(self) -> Setup | None:
        """The configuration as it is now, with its log open and its sockets listening. None when it cannot be used."""
        log = None
        try:
            config = self._listeners.adapt(self._read())
            identity = resolve_identity(config)
            self._check_processes(config.processes)
            prepare_logs(config, identity)
            log = error_log(config)
            self._listeners.change(config, identity)
        except (ConfigError, BindError, OSError) as problem:
            if log is not None:
                log.close()
            self.current.log.error(f"SIGHUP: keeping the old configuration: {problem}")
            return None
        self._last_generation += 1
        return Setup(self._last_generation, config, identity, config.processes, log)

    def resize(self, by: int) -> None:
        """SIGTTIN and SIGTTOU: one process more, or one fewer. Raises `ConfigError` when there would be too many."""
        processes = max(1, self.current.processes + by)
        self._check_processes(processes)
        self.current = self.current._replace(processes=processes)

    def _check_processes(self, count: int) -> None:
        if not 1 <= count <= self._max_processes:
            raise ConfigError(
                f"processes: found {count}; without a restart, from 1 to {self._max_processes} are possible"
            )

    # The two ends of a rollout

    def _commit(self) -> None:
        """The current configuration stays: nothing of the one before is needed any more."""
        assert self.previous is not None
        self._listeners.commit()
        self.previous.log.close()
        self.previous = None
        self.phase = Phase.SERVING

    def _roll_back(self, reason: str) -> None:
        """The current configuration cannot serve: the one before comes back."""
        assert self.previous is not None
        failed = self.current
        self._listeners.roll_back()
        failed.log.close()
        self.current, self.previous, self.phase = self.previous, None, Phase.SERVING
        for child in self._children:
            if child.generation == failed.generation and not child.is_leaving:
                if child.is_ready:
                    retire(child)
                else:
                    child.leave(signal.SIGTERM, ABORT_TIMEOUT)
        self.current.log.error(
            f"SIGHUP: keeping the old configuration: a process of the new one could not serve ({reason})"
        )
        self._notify_ready()

    # Messages

    def processes_text(self) -> str:
        """How many processes there are to be: "2 processes"."""
        return counted(self.current.processes, "process")

    def _notify_ready(self) -> None:
        systemd.notify("READY=1", f"STATUS={self.processes_text()} on {listen.names(self._listeners.bound)}")


def retire(child: Child) -> None:
    """Let another process take over what this one has."""
    child.leave(signal.SIGHUP, child.config.graceful_timeout + CLEANUP_TIMEOUT)
