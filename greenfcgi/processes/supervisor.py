"""The supervisor: keeps `processes` processes serving on one listener, and turns signals into what they mean.

Signals only enqueue; one loop takes them up, reaps who has ended, replaces who has stopped beating, and brings what is
nearer to what should be, one step at a time: a new process is ready before an old one leaves. It imports neither
gevent nor lupa, so that each process gets them fresh.

SIGTERM and SIGINT stop gracefully, and at once the second time; SIGQUIT at once. SIGHUP reads the configuration again
and replaces the processes; SIGUSR1 opens the logs anew; SIGUSR2 starts a new binary on the same sockets; SIGTTIN and
SIGTTOU add and take away a process.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from signal import Signals as Number
from time import monotonic
from typing import NamedTuple

from ..config.load import Config
from ..errors import BindError, BootError, ConfigError, ExitStatus
from ..logs.error_log import ErrorLog
from ..logs.text import traceback_of
from ..reload.version_store import VersionStore
from ..status.scoreboard import Scoreboard
from ..status.totals import Totals
from ..system import listen, systemd
from ..system.pidfile import PidFile
from ..system.privileges import Identity, prepare_logs, resolve_identity
from ..system.signals import Signals
from ..version import NAME
from .children import Child, Children, how
from .listeners import ListenerSet
from .open_logs import error_log
from .restarts import Restarts

#: Seconds between two looks at what no signal tells of.
_LOOK = 0.25
#: Beats may be late by so many seconds, beside the time that a script has.
_LATE = 2.0
#: Seconds for a process to be ready, beside the time that `scripts.startup` has.
_BOOT = 30.0
#: Seconds for a process to tell where it is stuck.
_ANSWER = 1.0
#: Seconds for hooks and logs after a graceful stop.
_AFTERWARDS = 2.0
#: The fewest slots: one is the supervisor's, and while processes are replaced there are the old and the new ones.
_SLOTS = 128
_OLD = ".oldbin"
#: What a reload does not change.
_FIXED = ("socket_mode", "backlog", "pidfile")


class _Before(NamedTuple):
    """What was before a reload, until the processes of the new configuration are ready."""

    config: Config
    identity: Identity
    wanted: int
    log: ErrorLog


class Supervisor:
    """`read` reads the configuration again; it raises `ConfigError`. `run` serves until a signal says otherwise."""

    def __init__(self, config: Config, read: Callable[[], Config]) -> None:
        self._listeners = ListenerSet()
        self._config = self._listeners.adapt(config)
        self._identity = resolve_identity(self._config)
        self._read = read
        self._wanted = config.processes
        self._generation = 0
        self._before: _Before | None = None
        #: A process of this generation has been ready: the configuration can serve.
        self._is_proven = False
        #: One has ended since, while the others were being replaced.
        self._is_troubled = False
        self._is_started = False
        self._is_stopping = False
        #: Another SIGHUP came while the processes were being replaced.
        self._again = False
        #: A stop had to cut requests off.
        self._cut = False
        self._restarts = Restarts()
        self._failure: BootError | None = None
        self._is_fed = 0.0
        #: When processes were looked at last, and since when they can be expected to have beaten.
        self._looked = self._expecting = monotonic()
        #: The last turn has changed something, so the next follows at once.
        self._is_moving = True

    def run(self) -> int:
        """Serve. Returns the exit status.

        Raises `ConfigError`, `BindError` and `BootError` before anything is served.
        """
        self._scoreboard = _scoreboard(self._wanted)
        prepare_logs(self._config, self._identity)
        self._log = error_log(self._config)
        self._listeners.listen(self._config, self._identity)
        for level, text in listen.remarks(self._listeners.bound):
            self._log.log(level, text)
        self._pid_file = PidFile(self._config.pidfile)
        self._lifeline = os.pipe()
        self._signals = Signals(_MEANINGS)
        self._totals = Totals(self._scoreboard)
        self._versions = self._version_store()
        self._children = Children(self._scoreboard, self._signals, self._lifeline)
        try:
            self._pid_file.write()
            while not (self._is_stopping and not self._children):
                self._wait()
                self._turn()
        finally:
            self._release()
        if self._failure is not None:
            raise self._failure
        self._log.info("stopped")
        return ExitStatus.FAILED if self._cut else ExitStatus.OK

    def _turn(self) -> None:
        try:
            for number in self._signals.take():
                _MEANINGS[number](self, number)
            self._reap()
            self._look_after()
            self._is_moving = self._approach()
        except Exception as problem:
            # The border of the supervisor: whatever goes wrong in it, the processes go on, and so does it.
            self._is_moving = False
            self._log.critical(f"the supervisor failed: {problem!r}", traceback_of(problem))

    # What should be

    def _active(self) -> list[Child]:
        return [child for child in self._children if not child.is_leaving]

    def _approach(self) -> bool:
        """One step from what is to what should be; False when there is none to take now."""
        if self._is_stopping:
            return False
        active = self._active()
        fresh = [child for child in active if child.generation == self._generation]
        old = [child for child in active if child.generation != self._generation]
        ready = sum(child.is_ready for child in fresh)
        is_booting = ready < len(fresh)
        if len(fresh) < self._wanted and not (old and is_booting) and monotonic() >= self._restarts.not_before:
            self._start()
        elif old and ready and len(old) > self._wanted - ready:
            if len(old) == 1:
                # The last one takes what still waits to be accepted there.
                self._listeners.commit()
            self._retire(old[0])
        elif len(fresh) > self._wanted and not old:
            self._retire(fresh[-1])
        else:
            if ready == len(fresh) == self._wanted and not old:
                self._arrived()
            return False
        return True

    def _arrived(self) -> None:
        """All is as it should be."""
        if not self._is_started:
            self._is_started = True
            self._log.info(
                f"{NAME} ({self._config.lua.version}, {self._processes()}) serves "
                f"{self._config.scripts.root} on {listen.names(self._listeners.bound)}"
            )
            self._tell_ready()
        elif self._before is not None:
            self._listeners.commit()
            self._before.log.close()
            self._before = None
            self._log.info(f"the configuration has been read again, all {self._wanted} processes are new")
            self._tell_ready()
        if self._again:
            self._again = False
            self._reload(Number.SIGHUP)

    def _version_store(self) -> VersionStore | None:
        """Where the processes keep the last good versions of scripts for each other."""
        try:
            store = VersionStore(self._listeners.versions)
        except OSError as problem:
            self._log.warning(
                f"the last good versions of scripts are not kept for other processes: {problem.strerror or problem}"
            )
            return None
        self._listeners.versions = store.descriptor
        return store

    def _tell_ready(self) -> None:
        systemd.notify("READY=1", f"STATUS={self._processes()} on {listen.names(self._listeners.bound)}")

    def _processes(self) -> str:
        return f"{self._wanted} process{'es' if self._wanted > 1 else ''}"

    def _start(self) -> None:
        if self._wanted > 1:
            _import_for_all()
        config, listeners, scoreboard, identity = self._config, self._listeners, self._scoreboard, self._identity
        versions = self._versions
        # A configuration that has served before goes on, whatever a script does now.
        must_try = not self._is_proven
        logs = [self._log] if self._before is None else [self._log, self._before.log]

        def work(slot: int, ready: int, lifeline: int, traceback_pipe: int) -> int:
            # Here, so that the supervisor stays without them.
            from ..system.gevent_import import import_gevent

            import_gevent()
            from .link import Channels, Link
            from .server_process import ServerProcess

            listeners.enter_process()
            for log in logs:
                log.close()
            process = ServerProcess(config, versions=versions)
            process.become(identity)
            if must_try:
                process.try_startup()
            link = Link(Channels(scoreboard, slot, listeners.channel, ready, lifeline, traceback_pipe))
            try:
                return ExitStatus.OK if process.run(listeners.bound, link) else ExitStatus.FAILED
            except Exception as problem:
                process.log.critical(f"a process failed: {problem!r}", traceback_of(problem))
                raise

        try:
            if self._children.start(self._generation, config, work) is None:
                self._log.error(f"no max_bytes for another process: {len(self._children)} are there")
                self._restarts.after_failure(monotonic())
        except OSError as problem:
            self._log.error(f"cannot start a process: {problem.strerror}")
            self._restarts.after_failure(monotonic())

    def _retire(self, child: Child) -> None:
        """Let another process take over what this one has."""
        child.leave(Number.SIGHUP, child.config.graceful_timeout + _AFTERWARDS)

    # What is

    def _wait(self) -> None:
        """Until a signal comes, a process is ready, or some time has passed."""
        poll = select.poll()
        poll.register(self._signals.descriptor, select.POLLIN)
        booting = {child.ready: child for child in self._children if child.ready != -1}
        for descriptor in booting:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(0 if self._is_moving else _LOOK * 1000):
            child = booting.get(descriptor)
            if child is not None:
                child.hear()
                self._is_proven = self._is_proven or (child.is_ready and child.generation == self._generation)

    def _reap(self) -> None:
        for pid, child, status in self._children.reap():
            if child is None:
                if pid == self._listeners.successor:
                    self._go_on_alone()
                continue
            self._totals.add(child.slot)
            if child.is_ready and self._is_stopping and status != ExitStatus.OK:
                self._cut = True
            if not child.is_leaving and not self._is_stopping:
                self._replace(child, status)

    def _go_on_alone(self) -> None:
        self._listeners.forget_successor()
        if self._is_stopping:
            self._log.critical("the new binary has ended, too: nobody serves any more")
            return
        self._pid_file.rename(_OLD, "")
        self._log.error("the new binary has ended; this one goes on")

    def _replace(self, child: Child, status: int) -> None:
        """A process has ended that nobody told to."""
        problem = child.problem or how(status)
        if not child.is_ready and not self._is_started:
            self._give_up(problem, ExitStatus.USAGE if status == ExitStatus.USAGE << 8 else ExitStatus.BOOT)
            return
        if self._before is not None and child.generation == self._generation and not self._is_proven:
            self._go_back(problem)
            return
        self._is_troubled = self._is_troubled or (self._before is not None and child.generation == self._generation)
        self._totals.count_replaced()
        self._log.error(f"process {child.pid} has ended ({problem}): another takes its place")
        if child.is_ready:
            self._restarts.after_service(monotonic(), self._wanted)
        else:
            self._restarts.after_failure(monotonic())

    def _give_up(self, problem: str, status: int) -> None:
        """The start has failed."""
        if self._config.errorlog != "-":
            self._log.critical(f"not started: {problem}")
        self._failure = BootError(problem, status)
        self._is_stopping = True
        for child in self._children:
            child.leave(Number.SIGTERM, _ANSWER)

    def _look_after(self) -> None:
        now = monotonic()
        if now - self._looked > _LATE:
            # Everybody was frozen: a terminal's Ctrl-Z, a container's pause, a laptop's sleep.
            self._expecting = now
        self._looked = now
        for child in self._children:
            if child.killed_at is not None and now >= child.killed_at:
                self._cut = self._cut or (self._is_stopping and child.is_ready)
                child.killed_at = None
                child.send(Number.SIGKILL)
            elif child.is_leaving:
                continue
            elif not child.is_ready and now - max(child.started, self._expecting) > _boot_limit(child.config):
                child.problem = f"not ready after {_boot_limit(child.config):.0f} s"
                child.send(Number.SIGKILL)
            elif child.is_ready:
                silence = now - max(self._scoreboard.last_beat(child.slot), self._expecting)
                if silence > child.config.timeout + _LATE:
                    self._log.critical(f"process {child.pid} has not beaten for {silence:.1f} s: it is replaced")
                    child.request_traceback()
                    child.leave(None, _ANSWER)
                    self._totals.count_replaced()
        self._feed(now)

    def _feed(self, now: float) -> None:
        """Tell systemd's watchdog that this loop goes round; it looks after the processes itself."""
        interval = systemd.watchdog()
        if interval and now - self._is_fed >= interval:
            self._is_fed = now
            systemd.notify("WATCHDOG=1")

    # Signals

    def _stop(self, number: Number) -> None:
        if self._is_stopping:
            self._quit(number)
            return
        self._is_stopping = True
        self._log.info(f"{number.name}: stopping {len(self._children)} processes")
        # From stopping the service manager would go on to end all processes of the service.
        successor = self._listeners.successor
        systemd.notify(f"MAINPID={successor}" if successor else "STOPPING=1")
        # With an heir, connections that are kept go to its processes.
        has_heir = self._listeners.has_heir
        # Nobody would answer what waited here.
        self._listeners.close()
        for child in self._children:
            number = Number.SIGHUP if has_heir and child.is_ready else Number.SIGTERM
            if child.is_leaving:
                # It gives its connections to others, of which there will be none.
                child.send(number)
            else:
                child.leave(number, child.config.graceful_timeout + _AFTERWARDS)

    def _quit(self, number: Number) -> None:
        self._log.warning(f"{number.name}: stopping at once")
        self._is_stopping = True
        for child in self._children:
            child.leave(Number.SIGQUIT, _ANSWER)

    def _reload(self, number: Number) -> None:
        if self._is_stopping:
            return
        if self._before is not None and self._is_troubled:
            self._give_in()
        if self._before is not None or not self._is_started:
            self._again = True
            self._log.info("SIGHUP: noted, processes are still being started or replaced")
            return
        systemd.reloading()
        log = None
        try:
            config = self._listeners.adapt(self._read())
            identity = resolve_identity(config)
            self._check_number(config.processes)
            prepare_logs(config, identity)
            log = error_log(config)
            self._listeners.change(config, identity)
        except (ConfigError, BindError, OSError) as problem:
            if log is not None:
                log.close()
            self._log.error(f"SIGHUP: the old configuration stays: {problem}")
            self._tell_ready()
            return
        self._log.info("SIGHUP: the configuration has been read, processes are being replaced")
        for level, text in listen.remarks(self._listeners.bound):
            log.log(level, text)
        for name in _FIXED:
            if getattr(config, name) != getattr(self._config, name):
                self._log.warning(f"SIGHUP: {name} stays as it was, it takes a new start")
        self._before = _Before(self._config, self._identity, self._wanted, self._log)
        self._config, self._identity, self._wanted, self._log = config, identity, config.processes, log
        self._generation += 1
        self._is_proven = self._is_troubled = False
        self._restarts.reset()

    def _check_number(self, processes: int) -> None:
        most = (self._scoreboard.slots - 1) // 2
        if not 1 <= processes <= most:
            raise ConfigError(f"processes: found {processes}; without a new start, from 1 to {most} are possible")

    def _give_in(self) -> None:
        """Processes of the new configuration end again and again, and somebody comes with another one."""
        assert self._before is not None
        if self._listeners.can_roll_back:
            self._go_back("its processes do not last")
        else:
            self._before.log.close()
            self._before = None

    def _go_back(self, reason: str) -> None:
        """The new configuration cannot serve: the old one stays."""
        assert self._before is not None
        self._listeners.roll_back()
        self._log.close()
        self._config, self._identity, self._wanted, self._log = self._before
        self._before = None
        for child in self._active():
            if child.generation == self._generation:
                if child.is_ready:
                    self._retire(child)
                else:
                    child.leave(Number.SIGTERM, _ANSWER)
        self._generation -= 1
        self._is_proven = True
        self._log.error(f"SIGHUP: the old configuration stays: a process of the new one could not serve ({reason})")
        self._tell_ready()

    def _reopen_logs(self, number: Number) -> None:
        for config, identity, log in self._all_logs():
            prepare_logs(config, identity)
            log.reopen()
        for child in self._children:
            child.reopen_logs()

    def _all_logs(self) -> list[tuple[Config, Identity, ErrorLog]]:
        """Those of the configuration that is served, and of the one before while it may come back."""
        found = [(self._config, self._identity, self._log)]
        if self._before is not None:
            found.append((self._before.config, self._before.identity, self._before.log))
        return found

    def _start_successor(self, number: Number) -> None:
        if self._listeners.successor:
            self._log.warning(
                f"{number.name}: a new binary has been started already, process {self._listeners.successor}"
            )
            return
        if self._is_stopping or self._before is not None or not self._is_started:
            self._log.warning(f"{number.name}: not now, processes are being started, replaced or stopped")
            return
        self._pid_file.rename("", _OLD)
        try:
            successor = self._listeners.hand_over()
        except OSError as problem:
            self._pid_file.rename(_OLD, "")
            self._log.error(f"{number.name}: cannot start the new binary: {problem.strerror}")
            return
        self._log.info(
            f"{number.name}: the new binary is process {successor}; once it serves, end this one with SIGTERM, "
            f"or end that one to go back"
        )

    def _more(self, number: Number) -> None:
        try:
            self._check_number(self._wanted + 1)
        except ConfigError as problem:
            self._log.warning(f"{number.name}: {problem}")
            return
        self._wanted += 1
        self._log.info(f"{number.name}: {self._processes()}")

    def _fewer(self, number: Number) -> None:
        self._wanted = max(1, self._wanted - 1)
        self._log.info(f"{number.name}: {self._processes()}")

    def _nothing(self, number: Number) -> None:
        """It has woken the loop."""

    def _release(self) -> None:
        """Remove what a successor does not need."""
        self._listeners.close()
        self._pid_file.remove()
        self._pid_file.remove(_OLD)


_MEANINGS: dict[Number, Callable[[Supervisor, Number], None]] = {
    signal.SIGTERM: Supervisor._stop,
    signal.SIGINT: Supervisor._stop,
    signal.SIGQUIT: Supervisor._quit,
    signal.SIGHUP: Supervisor._reload,
    signal.SIGUSR1: Supervisor._reopen_logs,
    signal.SIGUSR2: Supervisor._start_successor,
    signal.SIGTTIN: Supervisor._more,
    signal.SIGTTOU: Supervisor._fewer,
    signal.SIGCHLD: Supervisor._nothing,
}


def _boot_limit(config: Config) -> float:
    """Seconds for a process to be ready: `scripts.startup` has as much time as any script."""
    return _BOOT + (config.timeout if config.scripts.startup else 0)


def _import_for_all() -> None:
    """Import what every process imports and needs neither gevent nor Lua: of Python's own library, and of this package.

    Each of several processes takes 0.7 MB less then (PSS); a single one would share it with the supervisor alone.
    """
    import heapq  # noqa: F401
    import traceback  # noqa: F401
    import weakref  # noqa: F401

    from ..scripts import catalogue  # noqa: F401

    try:
        import ctypes  # noqa: F401
    except ImportError:
        # Some Pythons are built without; then files are polled.
        pass


def _scoreboard(processes: int) -> Scoreboard:
    try:
        return Scoreboard(max(_SLOTS, 2 * processes + 2))
    except (OSError, OverflowError, ValueError):
        raise ConfigError(f"processes: found {processes}, for which there is no memory; expected fewer") from None
