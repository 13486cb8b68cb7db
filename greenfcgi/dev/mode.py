"""`greenfcgi --dev`: the server and the web application in front of it, put together in one process."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from gevent.pywsgi import WSGIServer

from ..config.address import Address
from ..config.load import Config, defaults, load, names
from ..errors import BindError, ConfigError, ExitStatus
from ..processes.server_process import ServerProcess
from ..system import listen
from ..system.listen import Bound
from ..system.privileges import resolve_identity
from ..version import NAME
from .http.gateway import Gateway
from .http_handler import ErrorStream, Handler
from .inspector import DevInspector
from .live_reload import LiveReload
from .save_order import SaveOrder
from .terminal import Terminal, TerminalLogs, has_colours

if TYPE_CHECKING:
    from ..config.overrides import Overrides

try:
    from .app import DevApp
except ImportError as problem:
    raise ConfigError(
        f"--dev: found no module {problem.name!r}, expected what the developer mode needs beside the server: "
        "pip install 'greenfcgi[dev]'"
    ) from None

#: Ports that are tried when the first one is in use.
_TRIES = 100
#: Seconds that Ctrl-C waits for running requests: some stream until the browser closes the page.
_MAX_GRACE = 1.0
#: Connections that may wait to be accepted.
_BACKLOG = 128


def serve(path: str, http: Address, overrides: Overrides | None = None) -> int:
    """Serve a folder of scripts, or what a configuration says, until Ctrl-C. Returns the exit status.

    `overrides` are what is set elsewhere; a folder that is named goes before. Raises `ConfigError` and `BindError`.
    """
    config, has_bind = _configuration(path, overrides)
    config = config._replace(graceful_timeout=min(config.graceful_timeout, _MAX_GRACE))
    terminal = Terminal(config.scripts.root, config.loglevel, has_colours())
    inspector = DevInspector(terminal, config.scripts.root)
    process = ServerProcess(config, TerminalLogs(terminal), inspector)
    # Reloading is what this mode is for, so there is a watcher.
    assert process.watcher is not None
    assert process.queue is not None
    assert process.reloader is not None
    catalogue = process.catalogue
    public = os.path.join(config.scripts.root, config.scripts.public)
    live_reload = LiveReload(public, config.scripts.extensions, lambda name: name in catalogue.signatures())
    catalogue.on_write = live_reload.note_written
    save_order = SaveOrder(process.watcher, process.queue, process.reloader, live_reload.is_relevant, terminal)
    process.reloader.observers.append(live_reload.publish)
    process.server.context.observers.append(inspector.ended)
    internal_paths = tuple(filter(None, (config.status_path, config.ping_path)))
    gateway = Gateway(process.server.connect, config.scripts.root)
    app = DevApp(
        config.scripts, internal_paths, http.host, gateway, save_order, live_reload, terminal, process.routes.covers
    )
    listener = _listen(http)
    port = listener.getsockname()[1]
    bound = _listen_for_web_servers(config, terminal) if has_bind else []
    # Whoever reads the greeting may press Ctrl-C.
    process.listen_to_signals()
    _greet(terminal, config, process.lua, http, port, bound)
    server = WSGIServer(listener, app, log=None, error_log=ErrorStream(terminal), handler_class=Handler)
    save_order.start()
    server.start()
    try:
        return ExitStatus.OK if process.run(bound, release=lambda: _release(server, bound)) else ExitStatus.FAILED
    finally:
        server.stop(timeout=0)


def _configuration(path: str, overrides: Overrides | None) -> tuple[Config, bool]:
    """The configuration, as this mode changes it, and whether it says where web servers connect."""
    if os.path.isdir(path):
        root = os.path.abspath(path)
        if overrides is not None:
            overrides = overrides.plus("--dev", ("scripts", "root"), root)
        found = defaults(root, root, overrides)
        has_bind = False
    elif os.path.exists(path):
        found = load(path, overrides)
        has_bind = "bind" in names(path)
    else:
        raise ConfigError(f"--dev: found no {path!r}, expected a folder with scripts, or a configuration")
    has_bind = has_bind or (overrides is not None and overrides.origin("", "bind") is not None)
    changed = found._replace(
        processes=0, reload=True, errorlog="-", accesslog="", slowlog="", pidfile="", user="", group=""
    )
    return changed, has_bind


def _listen(http: Address) -> socket.socket:
    """A socket on the port, or on the next one that is free."""
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    for port in range(http.port, min(http.port + _TRIES, 65536)) if http.port else [0]:
        try:
            return _listening(listen.bind_tcp(http.host, port, family, is_v6_only=False))
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                continue
            hint = "; ports below 1024 are root's" if problem.errno == errno.EACCES else ""
            reason = problem.strerror or problem
            raise BindError(f"--http: cannot listen on {http.host}:{port}: {reason}{hint}") from None
    raise BindError(f"--http: found no free port from {http.port} on, and {_TRIES} were tried")


def _listening(bound: socket.socket) -> socket.socket:
    try:
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _listen_for_web_servers(config: Config, terminal: Terminal) -> list[Bound]:
    try:
        return listen.listen_all(config, resolve_identity(config), {})
    except BindError as problem:
        terminal.warning(f"no FastCGI: {problem}")
        return []


def _greet(terminal: Terminal, config: Config, flavour: str, http: Address, port: int, bound: list[Bound]) -> None:
    at = http._replace(port=port)
    terminal.print(f"{terminal.bold(NAME)}, developer mode, {flavour}")
    terminal.print(f"  {terminal.bold(f'http://{at}/')} shows {config.scripts.root}")
    if bound:
        terminal.print(f"  FastCGI on {listen.names(bound)}")
    terminal.print("  Save a file, see the page. Ctrl-C ends it.")
    if http.port and port != http.port:
        terminal.warning(f"port {http.port} is in use: took the next free one")
    if config.reload_engine == "poll":
        terminal.warning("reload_engine = poll: changed scripts are noticed late, style sheets and pages not at all")
    if not at.is_loopback():
        terminal.warning(
            f"{http.host} can be reached from other machines, which then see errors with source and variables"
        )


def _release(server: WSGIServer, bound: list[Bound]) -> None:
    """A stop begins."""
    # The port is free at once, while requests under way end.
    server.close()
    for one in bound:
        one.remove()
