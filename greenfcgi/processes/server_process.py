"""One server process, put together: configuration in, a running server, a graceful stop.

It listens on what it is given, and forks nothing; who its supervisor is, it knows only through a `Link`.
"""

from __future__ import annotations

import gc
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from ..config.load import Config
from ..errors import ConfigError, ExitStatus, ScriptError
from ..logs.text import traceback_of
from ..lua.engine import LuaEngine
from ..lua.loader import StateLoader
from ..lua.startup import try_startup
from ..lua.state import State
from ..modules.configured import import_shipped, import_users, modules
from ..reload.flush_queue import FlushQueue
from ..reload.reloader import MAX_WAIT, Load, Reloader
from ..reload.watcher import Watcher, watch
from ..scripts.catalogue import Catalogue
from ..scripts.pool import Pool
from ..scripts.script import Script
from ..serving.context import Context
from ..serving.exchange import Exchange
from ..serving.responder import Inspector, Responder
from ..serving.server import Server
from ..serving.shares import shares
from ..status.request_times import RequestTimes
from ..system.listen import Bound
from ..system.malloc import trim_heap
from ..system.privileges import Identity
from ..system.stub_modules import stand_in
from .heartbeat import Detached, Heartbeat
from .open_logs import Logs

if TYPE_CHECKING:
    from ..reload.last_good import LastGood
    from ..reload.version_store import VersionStore
    from ..status.snapshot import Snapshot
    from ..status.totals import Overview
    from .link import Link

# Read when the hub is made. The default imports pprint, and with it dataclasses and inspect: 1.4 MB.
gevent.config.format_context = "builtins.repr"

#: Seconds that `shutdown` hooks get at least, when requests have used up `graceful_timeout`.
_HOOKS = 1.0
#: Seconds for which a developer's next request waits for a changed script whose `init` does.
_MAX_WAIT_OF_DEVELOPERS = 2.0
#: Bytes given back by connections that are worth it to give their memory back to the system.
_MUCH = 4 * 1024 * 1024
#: More is of no use, and some kernels refuse more.
_MOST_DESCRIPTORS = 1 << 20


class ServerProcess:
    """Everything that serves requests. Raises `ConfigError` when the configuration cannot be carried out.

    `logs` and `inspector` are given by the developer mode, which shows what happens to whoever writes the scripts.
    `versions` is where the last good versions of scripts are kept, which all processes of a supervisor share.
    """

    def __init__(
        self,
        config: Config,
        logs: Logs | None = None,
        inspector: Inspector | None = None,
        versions: VersionStore | None = None,
    ) -> None:
        self._config = config
        self._inspector = inspector
        _raise_limit()
        _close_stdin()
        self._shares = shares(config.buffers)
        self._logs = logs or Logs(config)
        self.log = self._logs.error
        self._times = RequestTimes()
        self._engine = LuaEngine(
            config, self.log, modules(config), self._logs.log_slow if config.slowlog else None,
            None if inspector is None else inspector.hint, self._shares.descriptors.scripts,
        )  # fmt: skip
        self._loader = StateLoader(self._engine, self.log)
        #: Scripts' hooks at work. They may wait, so each has a greenlet of its own.
        self._hooks: set[gevent.Greenlet[..., None]] = set()
        #: States whose heartbeat waits for its turn.
        self._queued_beats = 0
        self.catalogue = Catalogue(config.scripts.root, config.scripts.extensions, config.scripts.public)
        self._make: Load = self._loader.make
        self._last_good: LastGood | None = None
        if versions is not None:
            # Here, since a process alone does without.
            from ..reload.last_good import LastGood

            self._last_good = LastGood(self._loader.make, versions, self.log, self._look_again)
            self._make = self._last_good.make
        self.pool: Pool[Script, State] = Pool(self._make, config.states.max, config.states.clones, self._discard)
        turns = self._engine.turns
        responder = Responder(config, self.catalogue, self.pool, self.log, turns, inspector)
        access = self._logs.access
        routing = self._engine.router(access.variables if access is not None else ())
        context = Context(
            config, responder.respond, self.log, access, routing, turns=turns, shares_of_process=self._shares,
            authorizer=self._authorizer(config.scripts.authorizer),
        )  # fmt: skip
        self.server = Server(context, config)
        #: Where changed files wait, who tells of them, and what becomes of them; None with reload = false.
        self.queue: FlushQueue | None = None
        self.watcher: Watcher | None = None
        self.reloader: Reloader | None = None
        #: States have gone, and their memory is still this process's.
        self._has_free_memory = False
        #: Bytes that connections have given back since this process gave memory back to the system, at the last beat.
        self._returned = 0
        self._heartbeat = Heartbeat(config.heartbeat, self._tasks(), self.log)
        self._started = time.time()
        if config.status_path or config.ping_path:
            from ..status.endpoint import Status

            context.internal_handler = Status(config, self._overview).answer
        if config.status_path:
            context.observers.append(self._observe)
        self._link: Link | None = None
        #: Another process takes over what this one has.
        self._is_replaced = False
        self._release: Callable[[], None] = _nothing
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
        sweep = Detached(self.server.sweep, self.log)
        tasks: list[Callable[[], None]] = [sweep, self._age, self._run_heartbeat_hooks]
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
            tasks += [self.watcher.check, Detached(self.reloader.flush, self.log)]
        if self._last_good is not None:
            tasks.append(self._keep_last_good)
        return [*tasks, self._logs.flush]

    def _look_again(self, path: str) -> None:
        if self.queue is not None:
            self.queue.put(path)

    def _keep_last_good(self) -> None:
        assert self._last_good is not None
        self._last_good.keep_all(self.catalogue)

    def _age(self) -> None:
        if self._engine.lost_files > self._shares.descriptors.scripts.limit // 4:
            self._lost_files()
        self.pool.decay(self._config.heartbeat)
        if self._config.states.idle and self.pool.expire(self._config.states.idle):
            self._has_free_memory = True
        elif self._has_free_memory or self._is_quiet():
            # After states, a beat later, when `shutdown` has run, and no more of them go.
            self._has_free_memory = False
            for quota in self._shares.memory:
                quota.returned = 0
            trim_heap()

    def _is_quiet(self) -> bool:
        """Connections have given much memory back, and nothing since the last beat."""
        before, self._returned = self._returned, sum(quota.returned for quota in self._shares.memory)
        return self._returned > _MUCH and self._returned == before

    def _hook_greenlet(self, work: Callable[..., None], *arguments: State) -> gevent.Greenlet[..., None]:
        """A greenlet for a hook of a script, which is to be started."""
        # Not gevent.pool.Group: to import it costs 1 MB.
        hook = gevent.Greenlet(work, *arguments)
        self._hooks.add(hook)
        hook.link(self._hooks.discard)
        return hook

    def _observe(self, exchange: Exchange) -> None:
        if exchange.is_logged:
            self._times.observe(exchange.status, time.monotonic() - exchange.started)

    def _snapshot(self) -> Snapshot:
        # Here and below: figures, and json with them, are 0.3 MB that a server without a status page does without.
        from ..status import collect

        return collect.snapshot(
            self._started, self.server, self.pool, self.catalogue, self._times, self._engine,
            self.reloader.flushes if self.reloader is not None else 0,
        )  # fmt: skip

    def _overview(self) -> Overview:
        from ..status import totals

        own = self._snapshot()
        return self._link.overview(own) if self._link is not None else totals.single(own)

    def _tell(self, max_bytes: int) -> bytes:
        from ..status import snapshot

        return snapshot.pack(self._snapshot(), max_bytes)

    def _discard(self, state: State) -> None:
        state.script.requests += state.requests
        if state.is_healthy:
            # Hundreds at once would hold up everybody: each starts in a turn.
            self._engine.turns.queue(self._hook_greenlet(state.close).start)
        else:
            # It has no hook to run, and much memory perhaps.
            state.close()

    def _run_heartbeat_hooks(self) -> None:
        if self._queued_beats:
            # Those of the last beat have not had their turn yet.
            return
        for state in self.pool.idle():
            if state.has_hook("heartbeat"):
                self._queued_beats += 1
                self._engine.turns.queue(partial(self._start_heartbeat_hook, state))

    def _start_heartbeat_hook(self, state: State) -> None:
        # In a turn, and the state is taken only now: requests need it meanwhile.
        self._queued_beats -= 1
        if self.pool.check_out_idle(state, state.script):
            self._hook_greenlet(self._run_heartbeat_hook, state).start()

    def _run_heartbeat_hook(self, state: State) -> None:
        try:
            state.hook("heartbeat")
        finally:
            self.pool.check_in(state, state.script)

    def become(self, identity: Identity) -> None:
        """Run as them from now on. Raises `ConfigError` when that is not allowed."""
        if (identity.uid, identity.gid) != (-1, -1):
            _import_all(self._config)
        identity.assume()

    def try_startup(self) -> None:
        """Import modules that users have written, and see whether scripts.startup runs. Raises `ConfigError`.

        To be called by who runs scripts.
        """
        import_users(self._config)
        try_startup(self._config, self._loader)

    def start(self) -> None:
        """Begin housekeeping, so that `server.connect` can serve connections."""
        if self.watcher is not None:
            self.watcher.start()
        self._heartbeat.start()

    @property
    def lua(self) -> str:
        """The Lua that runs scripts: "LuaJIT 2.1"."""
        return self._engine.name

    def every(self, seconds: float, task: Callable[[], None]) -> None:
        """Call `task` so often while the event loop runs."""
        timer = gevent.get_hub().loop.timer(seconds, seconds)
        timer.start(task)
        self._timers.append(timer)

    def run(
        self, sockets: Sequence[Bound], link: Link | None = None, release: Callable[[], None] | None = None
    ) -> bool:
        """Serve on `sockets` until a signal says otherwise. True when every request was finished.

        SIGTERM and SIGINT stop gracefully, and at once the second time; SIGQUIT at once; SIGUSR1 opens the logs anew.
        With a `link`, SIGHUP says that another process takes over. `release` is called when the stop begins.
        """
        self._link = link
        self._release = release or _nothing
        self._listen_to_signals()
        self.start()
        for bound in sockets:
            self.server.listen(bound.socket)
        # What is here now stays: the garbage collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        if link is not None:
            link.attach(self.server, self.log, self._orphaned, self._tell if self._config.status_path else None)
        self._stop.wait()
        return self.stop()

    def _listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._asked_to_stop, number)
        gevent.signal_handler(signal.SIGQUIT, self._cut, "SIGQUIT")
        gevent.signal_handler(signal.SIGUSR1, self._reopen_logs)
        if self._link is not None:
            # Ctrl-C reaches all processes of a terminal; here it is the supervisor's.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            gevent.signal_handler(signal.SIGHUP, self._replaced)
            for number in (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
                signal.signal(number, signal.SIG_IGN)
        else:
            if self._inspector is not None and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                # Its terminal has been closed, and nohup was not asked for.
                gevent.signal_handler(signal.SIGHUP, self._asked_to_stop, signal.SIGHUP)
            elif self._inspector is None:
                gevent.signal_handler(signal.SIGHUP, self._without_supervisor, signal.SIGHUP)
            for number in (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
                gevent.signal_handler(number, self._without_supervisor, number)

    def _asked_to_stop(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            if self._link is None:
                self._cut(f"{number.name} again")
            # With a supervisor, both may have been sent it; that one says SIGQUIT when it means at once. But whoever
            # was to take connections over is about to stop, too.
            self.server.context.hand_over = None
            return
        self.log.info(f"{number.name}: stopping, with {self.server.context.workers.running} requests under way")
        self._stop.set()

    def _lost_files(self) -> None:
        """Scripts could open no files soon. A supervisor puts another process in this one's place."""
        if self._link is not None and not self._stop.is_set():
            lost = self._engine.lost_files
            self.log.warning(f"{lost} files of scripts stay open for ever: leaving for another process")
            self._replaced()

    def _replaced(self) -> None:
        if not self._stop.is_set():
            self.log.info(f"replaced: leaving, with {self.server.context.workers.running} requests under way")
            self._is_replaced = True
            self._stop.set()

    def _orphaned(self) -> None:
        if not self._stop.is_set():
            self.log.error("the supervisor has ended: stopping")
            self._stop.set()

    def _without_supervisor(self, number: signal.Signals) -> None:
        self.log.warning(f"{number.name} does nothing without a supervisor (processes = 0)")

    def _cut(self, reason: str) -> None:
        """End now, whatever is under way."""
        self.log.warning(f"{reason}: not waiting for requests any longer")
        self._release()
        self._logs.flush()
        _end_programs()
        os._exit(ExitStatus.FAILED)

    def _reopen_logs(self) -> None:
        self._logs.reopen()
        self.log.info("SIGUSR1: logs opened anew")

    def stop(self) -> bool:
        """Stop accepting, let requests under way finish, close the states. True when every request was finished."""
        seconds = self._config.graceful_timeout
        deadline = time.monotonic() + seconds
        self._release()
        give = None
        if self._link is not None:
            self._link.leave()
            give = self._link.give if self._is_replaced else None
        finished = self.server.stop(seconds, give)
        self._heartbeat.stop()
        if self.watcher is not None:
            self.watcher.stop()
        self.close_states(max(_HOOKS, deadline - time.monotonic()))
        if self._link is not None:
            self._link.close()
        _end_programs()
        if not finished:
            self.log.warning(f"stopped with requests unfinished after {seconds:g} s")
        self.log.info("stopped")
        self._logs.close()
        return finished

    def close_states(self, seconds: float) -> None:
        """Close all idle states, and wait for the hooks of scripts for at most so long."""
        self.pool.close()
        hooks = list(self._hooks)
        if len(gevent.joinall(hooks, timeout=seconds)) < len(hooks):
            self.log.warning("stopped with hooks of scripts unfinished")


def _import_all(config: Config) -> None:
    """Import what a process imports when it is needed: whoever runs scripts may not be able to read it later."""
    import traceback  # noqa: F401

    # All that tempfile has shutil for is folders; that brings what compresses files: 1.2 MB.
    with stand_in("shutil"):
        import tempfile  # noqa: F401
    try:
        import ctypes  # noqa: F401
    except ImportError:
        # Some Pythons are built without; then a process that is stuck cannot tell where.
        pass
    if config.status_path:
        from ..status import collect, page  # noqa: F401
    import_shipped(config)


def _raise_limit() -> None:
    """Allow as many descriptors as the system does. Shells give 1,024, for programs that use select(2)."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


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
    """What a process without files of its own has to release, or to forget."""
