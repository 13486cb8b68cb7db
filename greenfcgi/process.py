"""One server process, put together: configuration in, a running server, a graceful stop. Forks nothing."""

from __future__ import annotations

import gc
import os
import signal
import socket
import time
from collections.abc import Callable

import gevent
from gevent.event import Event

from . import __version__, listening
from .config import Config
from .errors import BindError
from .flush import Flusher
from .flush_queue import FlushQueue
from .heartbeat import Detached, Heartbeat
from .log import ErrorLog
from .pool import Pool
from .responder import Responder
from .scripts import Catalogue, Script
from .server import Server
from .state import Flavour, State
from .watcher import Watcher, watch

# Read when the hub is made. The default imports pprint, and with it dataclasses and inspect: 1.4 MB.
gevent.config.format_context = "builtins.repr"

#: Seconds that `shutdown` hooks get at least, when requests have used up `graceful_timeout`.
_HOOKS = 1.0


class Process:
    """Everything that serves requests. Raises `ConfigError` when the configuration cannot be carried out."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.log = ErrorLog(config.errorlog, config.loglevel)
        self.access = None
        if config.accesslog:
            from .accesslog import AccessLog

            self.access = AccessLog(config.accesslog, config.access_log_format)
        self._flavour = Flavour(config, self.log)
        #: Scripts' hooks at work. They may wait, so each has a greenlet of its own.
        self._hooks: set[gevent.Greenlet[..., None]] = set()
        self._catalogue = Catalogue(config.scripts.root, config.scripts.extensions)
        self.pool: Pool[Script, State] = Pool(
            self._flavour.make, config.states.max, config.states.clones, self._discard
        )
        responder = Responder(config, self._catalogue, self.pool, self.log)
        self.server = Server(config, responder.respond, self.log, self.access, self._flavour.routing())
        self._watcher: Watcher | None = None
        self._heartbeat = Heartbeat(config.heartbeat, self._tasks(), self.log)
        self._sockets: list[tuple[socket.socket, str, int]] = []
        self._stop = Event()

    def _tasks(self) -> list[Callable[[], None]]:
        config = self._config
        tasks: list[Callable[[], None]] = [self.server.sweep, self._age, self._run_heartbeat_hooks]
        if config.reload:
            queue = FlushQueue()
            folders = [config.scripts.root, *config.lua.path]
            self._watcher = watch(
                config.reload_engine, folders, self._catalogue.signatures, queue, config.poll_interval, self.log
            )
            self._catalogue.noticed = self._watcher.add_folder
            flusher = Flusher(queue, self._catalogue, self.pool, self._flavour.make, self.log)
            tasks += [self._watcher.check, Detached(flusher.flush, self.log)]
        if self.access is not None:
            tasks.append(self.access.flush)
        return tasks

    def _age(self) -> None:
        self.pool.age(self._config.heartbeat)

    def _spawn_hook(self, work: Callable[..., None], *arguments: State) -> None:
        # Not gevent.pool.Group: to import it costs 1 MB.
        hook = gevent.spawn(work, *arguments)
        self._hooks.add(hook)
        hook.link(self._hooks.discard)

    def _discard(self, state: State) -> None:
        self._spawn_hook(state.close)

    def _run_heartbeat_hooks(self) -> None:
        for state in self.pool.idle():
            if state.has_hook("heartbeat") and self.pool.take(state, state.script):
                self._spawn_hook(self._run_heartbeat_hook, state)

    def _run_heartbeat_hook(self, state: State) -> None:
        try:
            state.hook("heartbeat")
        finally:
            self.pool.give_back(state, state.script)

    def start(self) -> None:
        """Begin housekeeping, so that `server.connect` can serve connections."""
        if self._watcher is not None:
            self._watcher.start()
        self._heartbeat.start()

    def bind(self) -> None:
        """Listen on every address of `bind`. Raises `BindError`, and listens on none then."""
        try:
            for address in self._config.bind:
                listening_socket = listening.listen(address, self._config.backlog, self._config.socket_mode)
                inode = os.stat(address.path).st_ino if address.kind == "unix" else 0
                self._sockets.append((listening_socket, address.path, inode))
        except BindError:
            self._unbind()
            raise
        self._write_pid()

    def run(self) -> bool:
        """Serve until SIGTERM or SIGINT, then stop gracefully. True when every request was finished."""
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._asked_to_stop, number)
        self.start()
        for listening_socket, _, _ in self._sockets:
            self.server.listen(listening_socket)
        where = ", ".join(listening.name(listening_socket) for listening_socket, _, _ in self._sockets)
        self.log.info(f"greenfcgi {__version__} ({self._flavour.name}) serves {self._catalogue.root} on {where}")
        # What is here now stays: the garbage collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        self._stop.wait()
        return self.stop()

    def _asked_to_stop(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            self.log.warning(f"{number.name} again: not waiting for requests any longer")
            self._unbind()
            if self.access is not None:
                self.access.flush()
            os._exit(1)
        self.log.info(f"{number.name}: stopping, with {self.server.workers.running} requests under way")
        self._stop.set()

    def stop(self) -> bool:
        """Stop accepting, let requests under way finish, close the states. True when every request was finished."""
        deadline = time.monotonic() + self._config.graceful_timeout
        self._unbind()
        finished = self.server.stop(self._config.graceful_timeout)
        self._heartbeat.stop()
        if self._watcher is not None:
            self._watcher.stop()
        self.close_states(max(_HOOKS, deadline - time.monotonic()))
        if not finished:
            self.log.warning(f"stopped with requests unfinished after {self._config.graceful_timeout} s")
        self.log.info("stopped")
        if self.access is not None:
            self.access.close()
        self.log.close()
        return finished

    def close_states(self, seconds: float) -> None:
        """Close all idle states, and wait for the hooks of scripts for at most so long."""
        self.pool.close()
        hooks = list(self._hooks)
        if len(gevent.joinall(hooks, timeout=seconds)) < len(hooks):
            self.log.warning("stopped with hooks of scripts unfinished")

    def _write_pid(self) -> None:
        if self._config.pidfile:
            try:
                with open(self._config.pidfile, "w") as file:
                    file.write(f"{os.getpid()}\n")
            except OSError as problem:
                self._unbind()
                raise BindError(f"pidfile: cannot write {self._config.pidfile!r}: {problem.strerror}") from None

    def _unbind(self) -> None:
        """Remove socket and pid files. The sockets themselves are closed by the server, or with the process."""
        for _, path, inode in self._sockets:
            if path:
                listening.remove(path, inode)
        self._sockets.clear()
        if self._config.pidfile:
            _remove_pid(self._config.pidfile)


def _remove_pid(path: str) -> None:
    """Remove the pid file, if it is still this process's own."""
    try:
        with open(path) as file:
            is_own = file.read().strip() == str(os.getpid())
        if is_own:
            os.unlink(path)
    except OSError:
        pass
