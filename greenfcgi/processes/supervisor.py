"""The supervisor: keeps `processes` processes serving on one set of listeners, and turns signals into what they mean.

Signals are only noted; one loop handles them, reaps processes that have ended, checks those that run (`health`), and
brings what there is one step nearer to what there should be (`rollout`). It imports neither gevent nor lupa, so that
each process gets them fresh.

SIGTERM and SIGINT stop gracefully, and at once the second time; SIGQUIT stops at once. SIGHUP reads the configuration
again and replaces the processes; SIGUSR1 reopens the logs; SIGUSR2 starts a new binary on the same sockets; SIGTTIN and
SIGTTOU add and remove a process.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from signal import Signals as Number
from time import monotonic
from typing import TYPE_CHECKING

from ..config.load import Config
from ..errors import BootError, ConfigError, ExitStatus
from ..logs.error_log import ErrorLog
from ..logs.progress import Progress
from ..logs.text import counted, traceback_of
from ..reload.version_store import VersionStore
from ..status.scoreboard import Scoreboard
from ..status.totals import Totals
from ..system import listen, systemd
from ..system.memory_folder import MemoryFolder, why_not
from ..system.pidfile import PidFile
from ..system.privileges import prepare_logs, remarks_on_reading, resolve_identity
from ..system.signals import Signals
from .children import Child, Children, describe_exit
from .health import Health
from .listeners import ListenerSet
from .open_logs import error_log
from .restarts import Restarts
from .rollout import ABORT_TIMEOUT, CLEANUP_TIMEOUT, Rollout, Setup

if TYPE_CHECKING:
    from ..tasks.board import TaskBoard

#: Seconds between two turns of the loop when no signal comes and no process becomes ready.
_INTERVAL = 0.25
#: The scoreboard has at least so many slots: one for the supervisor, and while processes are replaced, there are the
#: old ones beside the new ones.
_MIN_SLOTS = 128
#: The pid file of a supervisor that has started a new binary has this behind its name.
_OLD = ".oldbin"


class Supervisor:
    """`read` reads the configuration again; it raises `ConfigError`. `run` serves until a signal says otherwise."""

    def __init__(self, config: Config, read: Callable[[], Config]) -> None:
        self._listeners = ListenerSet()
        self._config = self._listeners.adapt(config)
        self._identity = resolve_identity(self._config)
        self._read = read
        self._is_stopping = False
        #: A stop had to cut requests off.
        self._cut_off = False
        self._restarts = Restarts()
        self._tasks: TaskBoard | None = None
        #: Why the start has failed.
        self._failure: BootError | None = None
        #: The last turn has changed something, so the next follows at once.
        self._is_moving = True
        self._progress = Progress()

    def run(self) -> int:
        """Serve. Returns the exit status.

        Raises `ConfigError`, `BindError` and `BootError` before anything is served.
        """
        self._scoreboard = _make_scoreboard(self._config.processes)
        prepare_logs(self._config, self._identity)
        log = error_log(self._config)
        self._listeners.listen(self._config, self._identity)
        for level, text in [*listen.remarks(self._listeners.bound), *remarks_on_reading(self._identity)]:
            log.log(level, text)
        self._pid_file = PidFile(self._config.pidfile)
        self._lifeline = os.pipe()
        self._signals = Signals(_HANDLERS)
        self._totals = Totals(self._scoreboard)
        self._versions = self._version_store(log)
        #: The generation of the configuration whose dictionaries alone are kept.
        self._tidied = -1
        try:
            self._folder_for(self._config)
        except OSError as problem:
            raise ConfigError(f"[shared]: {why_not(problem)}") from None
        self._children = Children(self._scoreboard, self._signals, self._lifeline)
        self._health = Health(self._children, self._scoreboard, self._totals)
        # Half of the slots, since a reload has the old processes beside the new ones.
        max_processes = (self._scoreboard.slots - 1) // 2
        self._rollout = Rollout(
            Setup(0, self._config, self._identity, self._config.processes, log), self._read, self._start,
            self._children, self._listeners, self._restarts, max_processes,
        )  # fmt: skip
        try:
            self._pid_file.write()
            while not (self._is_stopping and not self._children):
                self._wait()
                self._turn()
                self._show_progress()
        finally:
            self._progress.clear()
            self._release()
        if self._failure is not None:
            raise self._failure
        self._log.info("stopped")
        return ExitStatus.FAILED if self._cut_off else ExitStatus.OK

    @property
    def _log(self) -> ErrorLog:
        return self._rollout.current.log

    def _version_store(self, log: ErrorLog) -> VersionStore | None:
        """Where the processes keep the last good versions of scripts for each other."""
        try:
            store = VersionStore(self._listeners.versions)
        except OSError as problem:
            log.warning(
                f"the last good versions of scripts are not kept for other processes: {problem.strerror or problem}"
            )
            return None
        self._listeners.versions = store.descriptor
        return store

    def _task_board(self, setup: Setup) -> TaskBoard | None:
        """Where the processes see which tasks run; made with the first configuration that has any."""
        if setup.config.tasks and self._tasks is None:
            from ..tasks.board import TaskBoard

            self._tasks = TaskBoard(self._listeners.tasks)
            self._listeners.tasks = self._tasks.descriptor
        return self._tasks

    def _folder_for(self, config: Config) -> MemoryFolder | None:
        """Where processes have their dictionaries, from the first configuration on that has any. Raises `OSError`."""
        if self._listeners.folder is None and config.shared.sizes and config.shared.redis is None:
            self._listeners.folder = MemoryFolder()
        return self._listeners.folder

    def _tidy_folder(self) -> None:
        """A configuration has taken its place: dictionaries that only another one had go."""
        folder, current = self._listeners.folder, self._rollout.current
        if folder is not None and self._tidied != current.generation and not self._listeners.is_shared:
            self._tidied = current.generation
            # Here, since a server without dictionaries does without.
            from ..modules.shared.stores import file_names

            folder.keep(file_names(current.config.shared))

    # The loop

    def _wait(self) -> None:
        """Until a signal comes, a process is ready, or some time has passed."""
        poll = select.poll()
        poll.register(self._signals.descriptor, select.POLLIN)
        booting = {child.ready: child for child in self._children if child.ready != -1}
        for descriptor in booting:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(0 if self._is_moving else _INTERVAL * 1000):
            child = booting.get(descriptor)
            if child is not None:
                child.read_ready()
                if child.is_ready:
                    self._rollout.on_ready(child)

    def _show_progress(self) -> None:
        """On a terminal: what a start or a stop waits for."""
        if self._is_stopping and self._children:
            requests = sum(self._scoreboard.requests(child.slot) for child in self._children)
            what = counted(requests, "request") if requests else counted(len(self._children), "process")
            self._progress.show(f"stopping: waiting for {what}")
        elif not self._rollout.is_started and not self._is_stopping:
            waiting = sum(not child.is_ready for child in self._children)
            self._progress.show(f"starting: waiting for {counted(waiting, 'process')}")
        else:
            self._progress.clear()

    def _turn(self) -> None:
        try:
            for number in self._signals.take():
                _HANDLERS[number](self, number)
            self._reap()
            self._health.check(self._log)
            self._is_moving = not self._is_stopping and self._rollout.reconcile()
            if self._rollout.is_settled:
                self._tidy_folder()
        except Exception as problem:
            # The border of the supervisor: whatever goes wrong in it, the processes go on, and so does it.
            self._is_moving = False
            self._log.critical(f"the supervisor failed: {problem!r}", traceback_of(problem))

    # Children

    def _start(self) -> None:
        """Fork a process of the current configuration."""
        setup = self._rollout.current
        if setup.processes > 1:
            _import_for_all()
        listeners, scoreboard, versions = self._listeners, self._scoreboard, self._versions
        try:
            board = self._task_board(setup)
        except OSError as problem:
            self._log.error(f"tasks do not run: {problem.strerror or problem}")
            board = None
        # A configuration that has served before goes on, whatever a script does now.
        must_try = not self._rollout.is_proven
        logs = [each.log for each in self._rollout.setups]

        def work(slot: int, ready: int, lifeline: int, traceback_pipe: int) -> int:
            # Here, so that the supervisor stays without them.
            from ..system.gevent_import import import_gevent

            import_gevent()
            from .link import Channels, Link
            from .server_process import ServerProcess

            listeners.enter_process()
            for log in logs:
                log.close()
            process = ServerProcess(setup.config, versions=versions, board=board, folder=folder)
            process.become(setup.identity)
            if must_try:
                process.try_startup()
            link = Link(Channels(scoreboard, slot, listeners.channel, ready, lifeline, traceback_pipe))
            try:
                return ExitStatus.OK if process.run(listeners.bound, link) else ExitStatus.FAILED
            except Exception as problem:
                process.log.critical(f"a process failed: {problem!r}", traceback_of(problem))
                raise

        try:
            folder = self._folder_for(setup.config)
            if self._children.start(setup.generation, setup.config, work) is None:
                self._log.error(f"no slot for another process: there are {len(self._children)}")
                self._restarts.after_failure(monotonic())
        except OSError as problem:
            self._log.error(f"cannot start a process: {problem.strerror}")
            self._restarts.after_failure(monotonic())

    def _reap(self) -> None:
        for pid, child, status in self._children.reap():
            if child is None:
                if pid == self._listeners.successor:
                    self._on_upgrade_failed()
                continue
            self._totals.add(child.slot)
            if child.is_ready and self._is_stopping and status != ExitStatus.OK:
                self._cut_off = True
            if not child.is_leaving and not self._is_stopping:
                self._on_unexpected_exit(child, status)

    def _on_unexpected_exit(self, child: Child, status: int) -> None:
        """A process has ended that nobody had asked to."""
        problem = child.problem or describe_exit(status)
        if not child.is_ready and not self._rollout.is_started:
            self._on_failed_start(problem, ExitStatus.USAGE if status == ExitStatus.USAGE << 8 else ExitStatus.BOOT)
            return
        if not self._rollout.on_unexpected_exit(child, problem):
            return
        self._totals.count_replaced()
        self._log.error(f"process {child.pid} ended unexpectedly ({problem}); replacing it")
        if child.is_ready:
            self._restarts.after_service(monotonic(), self._rollout.current.processes)
        else:
            self._restarts.after_failure(monotonic())

    def _on_failed_start(self, problem: str, status: int) -> None:
        """The first configuration cannot serve."""
        if self._config.errorlog != "-":
            self._log.critical(f"not started: {problem}")
        self._failure = BootError(problem, status)
        self._is_stopping = True
        for child in self._children:
            child.leave(Number.SIGTERM, ABORT_TIMEOUT)

    def _on_upgrade_failed(self) -> None:
        """The new binary has ended."""
        self._listeners.forget_successor()
        if self._is_stopping:
            self._log.critical("the new binary has ended, too: nothing serves any more")
            return
        self._pid_file.rename(_OLD, "")
        self._log.error("the new binary has ended; this one keeps serving")

    def _release(self) -> None:
        """Remove what a successor does not need."""
        if self._listeners.folder is not None:
            self._listeners.folder.release()
        self._listeners.close()
        self._pid_file.remove()
        self._pid_file.remove(_OLD)

    # Signals

    def _stop(self, number: Number) -> None:
        if self._is_stopping:
            self._quit(number)
            return
        self._is_stopping = True
        self._progress = Progress()
        self._log.info(f"{number.name}: stopping {counted(len(self._children), 'process')}")
        # From stopping the service manager would go on to end all processes of the service.
        successor = self._listeners.successor
        systemd.notify(f"MAINPID={successor}" if successor else "STOPPING=1")
        # Another supervisor's processes take over the connections that are kept.
        is_shared = self._listeners.is_shared
        # Nobody would answer what waited here.
        self._listeners.close()
        for child in self._children:
            number = Number.SIGHUP if is_shared and child.is_ready else Number.SIGTERM
            if child.is_leaving:
                # It gives its connections to others, of which there will be none.
                child.send(number)
            else:
                child.leave(number, child.config.graceful_timeout + CLEANUP_TIMEOUT)

    def _quit(self, number: Number) -> None:
        self._log.warning(f"{number.name}: stopping at once")
        self._is_stopping = True
        for child in self._children:
            child.leave(Number.SIGQUIT, ABORT_TIMEOUT)

    def _reload(self, number: Number) -> None:
        if not self._is_stopping:
            self._rollout.reload()

    def _reopen_logs(self, number: Number) -> None:
        for setup in self._rollout.setups:
            prepare_logs(setup.config, setup.identity)
            setup.log.reopen()
        for child in self._children:
            child.reopen_logs()

    def _upgrade(self, number: Number) -> None:
        if self._listeners.successor:
            self._log.warning(
                f"{number.name}: a new binary has been started already, process {self._listeners.successor}"
            )
            return
        if self._is_stopping or not self._rollout.is_settled:
            self._log.warning(f"{number.name}: not now, processes are being started, replaced or stopped")
            return
        self._pid_file.rename("", _OLD)
        try:
            successor = self._listeners.start_successor()
        except OSError as problem:
            self._pid_file.rename(_OLD, "")
            self._log.error(f"{number.name}: cannot start the new binary: {problem.strerror}")
            return
        self._log.info(
            f"{number.name}: the new binary is process {successor}; once it serves, end this one with SIGTERM, "
            f"or end that one to go back"
        )

    def _add_process(self, number: Number) -> None:
        self._resize(number, 1)

    def _remove_process(self, number: Number) -> None:
        self._resize(number, -1)

    def _resize(self, number: Number, by: int) -> None:
        try:
            self._rollout.resize(by)
        except ConfigError as problem:
            self._log.warning(f"{number.name}: {problem}")
            return
        self._log.info(f"{number.name}: {self._rollout.processes_text()}")

    def _wake(self, number: Number) -> None:
        """It has woken the loop, which reaps in each turn."""


_HANDLERS: dict[Number, Callable[[Supervisor, Number], None]] = {
    signal.SIGTERM: Supervisor._stop,
    signal.SIGINT: Supervisor._stop,
    signal.SIGQUIT: Supervisor._quit,
    signal.SIGHUP: Supervisor._reload,
    signal.SIGUSR1: Supervisor._reopen_logs,
    signal.SIGUSR2: Supervisor._upgrade,
    signal.SIGTTIN: Supervisor._add_process,
    signal.SIGTTOU: Supervisor._remove_process,
    signal.SIGCHLD: Supervisor._wake,
}


def _import_for_all() -> None:
    """Import what every process imports and needs neither gevent nor Lua: of Python's own library, and of this package.

    Each of several processes takes 0.7 MB less then (PSS); a single one would share it with the supervisor alone.
    """
    import heapq  # noqa: F401
    import weakref  # noqa: F401

    from ..scripts import catalogue  # noqa: F401

    try:
        import ctypes  # noqa: F401
    except ImportError:
        # Some Pythons are built without; then files are polled.
        pass


def _make_scoreboard(processes: int) -> Scoreboard:
    try:
        return Scoreboard(max(_MIN_SLOTS, 2 * processes + 2))
    except (OSError, OverflowError, ValueError):
        raise ConfigError(f"processes: found {processes}, for which there is no memory; expected fewer") from None
