"""One server process, put together: a configuration in, a running server, a graceful stop.

It listens on what it is given, and forks nothing; of its supervisor it has only a `Link`.
"""

from __future__ import annotations

import gc
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from ..config.load import Config
from ..errors import ConfigError, ExitStatus, ScriptError
from ..logs.progress import INTERVAL, Progress
from ..logs.text import counted, traceback_of
from ..lua.engine import LuaEngine
from ..lua.loader import StateLoader
from ..lua.startup import try_startup
from ..lua.state import State
from ..modules.configured import import_shipped, import_users, modules
from ..reload.flush_queue import FlushQueue
from ..reload.reloader import MAX_WAIT, Load, Reloader
from ..reload.watcher import Watcher, watch
from ..scripts.catalogue import Catalogue
from ..scripts.long_scripts import LongScripts
from ..scripts.pool import Pool
from ..scripts.routes import Routes
from ..scripts.script import Script
from ..serving.context import Context
from ..serving.responder import Inspector, Responder
from ..serving.server import Server
from ..serving.shares import shares
from ..system.listen import Bound
from ..system.memory_folder import MemoryFolder
from ..system.portable import descriptors
from ..system.privileges import Identity, closed_folder
from ..system.stub_modules import deferred
from .heartbeat import BackgroundTask, Heartbeat, Hooks, MemoryUpkeep
from .open_logs import Logs

if TYPE_CHECKING:
    from ..modules.shared.stores import Stores
    from ..reload.last_good import LastGood
    from ..reload.version_store import VersionStore
    from ..status.reporter import Reporter
    from ..tasks.board import Run, TaskBoard
    from ..tasks.redis_board import RedisBoard
    from ..tasks.runner import TaskRunner
    from .link import Link

# Read when the hub is made. The default imports pprint, and with it dataclasses and inspect: 1.4 MB.
gevent.config.format_context = "builtins.repr"

#: Seconds that `shutdown` hooks get at least, when requests have used up `graceful_timeout`.
_MIN_SHUTDOWN_TIME = 1.0
#: Seconds for which a developer's next request waits for a changed script whose `init` does.
_MAX_WAIT_OF_DEVELOPERS = 2.0
#: The part of the descriptors for scripts' files that may be lost: the others last while another process starts.
_MAX_LOST_FILES = 1 / 4


class ServerProcess:
    """Everything that serves requests. Raises `ConfigError` when the configuration cannot be carried out.

    `logs` and `inspector` are the developer mode's, which shows what happens to whoever writes the scripts. `versions`
    keeps the last good versions of scripts, for all processes of a supervisor, `board` sees to it that one of them runs
    each task, and `folder` is where they have their dictionaries.
    """

    def __init__(
        self,
        config: Config,
        logs: Logs | None = None,
        inspector: Inspector | None = None,
        versions: VersionStore | None = None,
        board: TaskBoard | None = None,
        folder: MemoryFolder | None = None,
    ) -> None:
        self._config = config
        self._inspector = inspector
        self._dictionaries: Stores | None = None
        if config.shared.sizes:
            from ..modules.shared.stores import stores_of

            self._dictionaries = stores_of(config.shared, folder)
        descriptors.raise_limit()
        _close_stdin()
        self._shares = shares(config.buffers)
        self._logs = logs or Logs(config)
        self.log = self._logs.error
        self._engine = LuaEngine(
            config, self.log, modules(config, folder), self._logs.log_slow if config.slowlog else None,
            None if inspector is None else inspector.hint, self._shares.descriptors.scripts,
            None if inspector is None else inspector.globals_used,
        )  # fmt: skip
        self._loader = StateLoader(self._engine)
        self._hooks = Hooks(self._engine.turns)
        self.catalogue = Catalogue(config.scripts.root, config.scripts.extensions, config.scripts.public)
        self._make: Load = self._loader.make
        self._last_good: LastGood | None = None
        if versions is not None:
            # Here, since a process alone does without.
            from ..reload.last_good import LastGood

            self._last_good = LastGood(self._loader.make, versions, self.log, self._check_again)
            self._make = self._last_good.make
        self.pool: Pool[Script, State] = Pool(
            self._make, config.states.max, config.states.clones, self._hooks.discard, self._hooks.wait
        )
        long_scripts = LongScripts(config.scripts.root)
        self.routes = Routes(self.catalogue, config.scripts, config.apps, config.lua.path)
        for problem in self.routes.problems():
            raise ConfigError(problem)
        responder = Responder(config, self.catalogue, self.routes, self.pool, self.log, long_scripts, inspector)
        access = self._logs.access
        routing = self._engine.router(access.wanted if access is not None else ())
        context = Context(
            config, responder.respond, self.log, access, routing, turns=self._engine.turns,
            shares_of_process=self._shares, authorizer=self._authorizer(config.scripts.authorizer),
            long_scripts=long_scripts,
        )  # fmt: skip
        self.server = Server(context, config)
        #: Where changed files wait, what notices them, and what reloads their scripts; None with reload = false.
        self.queue: FlushQueue | None = None
        self.watcher: Watcher | None = None
        self.reloader: Reloader | None = None
        self._heartbeat = Heartbeat(config.heartbeat, self._tasks(), self.log)
        self._reporter: Reporter | None = None
        if config.status_path:
            from ..status.reporter import Reporter

            self._reporter = Reporter(
                self.server, self.pool, self.catalogue, self._engine, self._flushes, self._task_runs
            )
            context.observers.append(self._reporter.observe)
        if config.status_path or config.ping_path:
            from ..status.endpoint import StatusEndpoint

            overview = None if self._reporter is None else self._reporter.overview
            context.internal_handler = StatusEndpoint(config, overview).answer
        self._tasks_by_clock: TaskRunner | None = None
        if config.tasks:
            from ..tasks.board import TaskBoard
            from ..tasks.runner import TaskRunner, check

            problem = check(config.tasks, self.catalogue)
            if problem:
                raise ConfigError(problem)
            self._tasks_by_clock = TaskRunner(
                config.tasks, self._for_all_machines(board or TaskBoard()), self.catalogue, self.pool, self.log,
                config.after_timeout,
            )  # fmt: skip
        self._link: Link | None = None
        self._hears_signals = False
        #: It stops because another process takes its place.
        self._is_replaced = False
        self._on_release: Callable[[], None] = _nothing
        self._timers: list[object] = []
        self._stop = Event()
        # What fails in a callback of the event loop would be a traceback on stderr.
        gevent.get_hub().print_exception = self._failed_in_hub  # type: ignore[method-assign, assignment]

    def _authorizer(self, name: str) -> bytes | None:
        if not name:
            return None
        path = os.path.join(self.catalogue.root, name)
        try:
            self.catalogue.name(path)
        except ScriptError as problem:
            raise ConfigError(f'[scripts] authorizer: found "{name}", expected a script: {problem}') from None
        return os.fsencode(path)

    def _failed_in_hub(self, context: object, kind: object, problem: object, trace: object) -> None:
        if isinstance(problem, BaseException):
            self.log.critical(f"the server failed: {problem!r}", traceback_of(problem))

    def _tasks(self) -> list[Callable[[], None]]:
        config = self._config
        upkeep = MemoryUpkeep(self.pool, config.heartbeat, config.states.idle, self._shares.memory)
        tasks: list[Callable[[], None]] = [
            BackgroundTask(self.server.sweep, self.log), self._check_lost_files, upkeep.run, self._run_heartbeat_hooks,
        ]  # fmt: skip
        if config.reload:
            is_development = self._inspector is not None
            self.queue = FlushQueue()
            self.watcher = watch(
                config.reload_engine, [config.scripts.root, *config.lua.path], self.catalogue.signatures, self.queue,
                config.poll_interval, self.log, is_development,
            )  # fmt: skip
            self.catalogue.on_read = self.watcher.add_file
            self.reloader = Reloader(
                self.queue, self.catalogue, self.pool, self._make, self.log,
                keep_last_good=not is_development, max_wait=_MAX_WAIT_OF_DEVELOPERS if is_development else MAX_WAIT,
                on_gone=_nothing if self._last_good is None else self._last_good.forget,
            )  # fmt: skip
            tasks += [self.watcher.check, BackgroundTask(self.reloader.flush, self.log)]
        if self._last_good is not None:
            tasks.append(self._keep_last_good)
        if self._dictionaries is not None:
            tasks.append(self._dictionaries.beat)
        return [*tasks, self._logs.flush]

    def _check_again(self, path: str) -> None:
        if self.queue is not None:
            self.queue.put(path)

    def _keep_last_good(self) -> None:
        assert self._last_good is not None
        self._last_good.keep_all(self.catalogue)

    def _run_heartbeat_hooks(self) -> None:
        self._hooks.run_heartbeats(self.pool)

    def _check_lost_files(self) -> None:
        """Leave for another process before scripts can open no files any more."""
        lost = self._engine.lost_files
        is_too_many = lost > self._shares.descriptors.scripts.limit * _MAX_LOST_FILES
        if is_too_many and self._link is not None and not self._stop.is_set():
            self.log.warning(f"{lost} files of scripts stay open for ever: leaving for another process")
            self._on_replaced()

    def _for_all_machines(self, board: TaskBoard) -> TaskBoard | RedisBoard:
        if self._config.shared.redis is None:
            return board
        try:
            from ..tasks.redis_board import RedisBoard
        except ImportError:
            raise ConfigError(
                "[[tasks]]: found no module 'hiredis', by which machines with the same [shared] url share tasks; "
                "pip install 'greenfcgi[redis]'"
            ) from None
        return RedisBoard(board, self._config.shared.redis)

    def _task_runs(self) -> Mapping[str, Run]:
        return self._tasks_by_clock.runs() if self._tasks_by_clock is not None else {}

    def _flushes(self) -> int:
        return self.reloader.flushes if self.reloader is not None else 0

    def become(self, identity: Identity) -> None:
        """Run as this user and group from now on. Raises `ConfigError` when that is not allowed."""
        if (identity.uid, identity.gid) != (-1, -1):
            _import_all(self._config, bool(closed_folder(identity)))
        if self._dictionaries is not None:
            self._dictionaries.prepare(identity)
        identity.assume()
        if self._dictionaries is not None:
            self._dictionaries.open()

    def try_startup(self) -> None:
        """Import the modules of `[modules]`, and see whether scripts.startup runs. Raises `ConfigError`.

        To be called as the user who runs scripts.
        """
        import_users(self._config)
        try_startup(self._config, self._loader)

    def start(self) -> None:
        """Start housekeeping. From now on `server.connect` can serve connections."""
        if self.watcher is not None:
            self.watcher.start()
        self._heartbeat.start()

    @property
    def lua(self) -> str:
        """The Lua that runs scripts: "LuaJIT 2.1"."""
        return self._engine.name

    def every(self, seconds: float, task: Callable[[], None]) -> None:
        """Call `task` once in so many seconds, from the event loop."""
        timer = gevent.get_hub().loop.timer(seconds, seconds)
        timer.start(task)
        self._timers.append(timer)

    def run(
        self, sockets: Sequence[Bound], link: Link | None = None, ready: Callable[[], None] | None = None,
        release: Callable[[], None] | None = None,
    ) -> bool:  # fmt: skip
        """Serve on `sockets` until a signal says otherwise. True when every request was finished.

        SIGTERM and SIGINT stop gracefully, and at once the second time; SIGQUIT stops at once; SIGUSR1 reopens the
        logs. With a `link`, SIGHUP means that another process takes over. `ready` is called when it serves, `release`
        when the stop begins.
        """
        self._link = link
        self._on_release = release or _nothing
        self.listen_to_signals()
        self.start()
        for bound in sockets:
            self.server.listen(bound.socket)
        # What the import system remembers of folders; whoever imports more makes it look again.
        sys.path_importer_cache.clear()
        # What is here now stays: the garbage collector need not traverse it again and again.
        gc.collect()
        gc.freeze()
        if link is not None:
            message = None
            if self._reporter is not None:
                self._reporter.combine, message = link.overview, self._reporter.message
            link.attach(self.server, self.log, self._engine.turns, self._on_orphaned, message)
        if ready is not None:
            ready()
        if self._tasks_by_clock is not None:
            self._tasks_by_clock.start()
        self._stop.wait()
        return self.stop()

    def listen_to_signals(self) -> None:
        """Handle signals. `run` calls it, if nobody has: a caller that tells the user about Ctrl-C does so earlier."""
        if self._hears_signals:
            return
        self._hears_signals = True
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._on_stop, number)
        gevent.signal_handler(signal.SIGQUIT, self._quit, "SIGQUIT")
        gevent.signal_handler(signal.SIGUSR1, self._reopen_logs)
        if self._link is not None:
            # Ctrl-C reaches all processes of a terminal; here it is the supervisor's.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            gevent.signal_handler(signal.SIGHUP, self._on_replaced)
            for number in (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
                signal.signal(number, signal.SIG_IGN)
        else:
            if self._inspector is not None and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                # Its terminal has been closed, and nohup was not asked for.
                gevent.signal_handler(signal.SIGHUP, self._on_stop, signal.SIGHUP)
            elif self._inspector is None:
                gevent.signal_handler(signal.SIGHUP, self._without_supervisor, signal.SIGHUP)
            for number in (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
                gevent.signal_handler(number, self._without_supervisor, number)

    def _on_stop(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            if self._link is None:
                self._quit(f"{number.name} again")
            # With a supervisor, both may have been sent it; the supervisor sends SIGQUIT to stop at once. But whoever
            # was to take over connections is about to stop, too.
            self.server.context.hand_over = None
            return
        self.log.info(f"{number.name}: stopping, {self._requests_under_way()}")
        self._stop.set()

    def _on_replaced(self) -> None:
        if not self._stop.is_set():
            self.log.info(f"replaced: leaving, {self._requests_under_way()}")
            self._is_replaced = True
            self._stop.set()

    def _requests_under_way(self) -> str:
        return f"{self._running()} under way"

    def _running(self) -> str:
        return counted(self.server.context.workers.running, "request")

    def _on_orphaned(self) -> None:
        if not self._stop.is_set():
            self.log.error("the supervisor has ended: stopping")
            self._stop.set()

    def _without_supervisor(self, number: signal.Signals) -> None:
        self.log.warning(f"{number.name} does nothing without a supervisor (processes = 0)")

    def _quit(self, reason: str) -> None:
        """End now, whatever is under way."""
        self.log.warning(f"{reason}: not waiting for requests any longer")
        self._on_release()
        self._logs.flush()
        self._close_dictionaries()
        _end_programs()
        os._exit(ExitStatus.FAILED)

    def _reopen_logs(self) -> None:
        self._logs.reopen()
        self.log.info("SIGUSR1: logs reopened")

    def stop(self) -> bool:
        """Stop accepting, let requests under way finish, close the states. True when every request was finished."""
        seconds = self._config.graceful_timeout
        deadline = time.monotonic() + seconds
        self._on_release()
        hand_over = None
        if self._link is not None:
            self._link.stop_taking_over()
            hand_over = self._link.hand_over if self._is_replaced else None
        if self._tasks_by_clock is not None:
            self._tasks_by_clock.stop()
        progress = Progress()
        if self._link is None:
            self.every(INTERVAL, lambda: progress.show(f"stopping: waiting for {self._running()}"))
        finished = self.server.stop(seconds, hand_over)
        if self._tasks_by_clock is not None and not self._tasks_by_clock.join(max(0.0, deadline - time.monotonic())):
            finished = False
        self._heartbeat.stop()
        if self.watcher is not None:
            self.watcher.stop()
        self.close_states(max(_MIN_SHUTDOWN_TIME, deadline - time.monotonic()))
        if self._link is not None:
            self._link.close()
        self._close_dictionaries()
        _end_programs()
        progress.clear()
        if not finished:
            self.log.warning(f"stopped with requests unfinished after {seconds:g} s")
        self.log.info("stopped")
        self._logs.close()
        return finished

    def _close_dictionaries(self) -> None:
        if self._dictionaries is not None:
            self._dictionaries.close()

    def close_states(self, seconds: float) -> None:
        """Close all idle states, and wait for the hooks of scripts for at most so long."""
        self.pool.close()
        if not self._hooks.join(seconds):
            self.log.warning("stopped with unfinished hooks of scripts")


def _import_all(config: Config, is_closed: bool) -> None:
    """Import what is otherwise imported when it is needed: the user who runs scripts may not be able to read it."""
    import traceback

    if is_closed:
        # With its first line, Python 3.13 imports more, and without that it writes none.
        traceback.format_stack(limit=1)
    # All that tempfile has shutil for is folders; that brings what compresses files: 1.2 MB. Debian's tempfile takes a
    # member of it at once.
    with deferred("shutil"):
        import tempfile  # noqa: F401
    try:
        import ctypes  # noqa: F401
    except ImportError:
        # Some Pythons are built without; then a process that is stuck cannot report where.
        pass
    if config.log_format == "json":
        import json  # noqa: F401
    # Addresses of clients, and what Apache's proxy sends.
    import ipaddress  # noqa: F401
    import urllib.parse  # noqa: F401

    from ..lua import dumps, native_modules  # noqa: F401

    if config.status_path:
        from ..status import page, reporter  # noqa: F401
    import_shipped(config, is_closed)


def _close_stdin() -> None:
    """Put /dev/null in its place: a script that reads from a terminal would hold up everybody.

    A socket there is one that the server was started with.
    """
    try:
        if stat.S_ISSOCK(os.fstat(0).st_mode):
            return
    except OSError:
        pass
    null = os.open(os.devnull, os.O_RDONLY)
    if null != 0:
        os.dup2(null, 0)
        os.close(null)


def _end_programs() -> None:
    """End what scripts have started, where they may start anything."""
    programs = sys.modules.get("greenfcgi.modules.programs")
    if programs is not None:
        programs.kill_all()


def _nothing(*_: object) -> None:
    """Release nothing, or forget nothing: for a process that has none of it."""
