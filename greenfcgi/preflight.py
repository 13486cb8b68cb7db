"""What `--check-config` checks beside the file itself: whatever else would keep the server from starting.

It starts and changes nothing. Permissions are not checked: another user may start the server.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .config.load import Config
from .errors import ConfigError
from .logs.text import escape

if TYPE_CHECKING:
    from .scripts.catalogue import Catalogue

#: Bytes of the path of a unix socket.
_MAX_SOCKET_PATH = 107 if sys.platform.startswith("linux") else 103


def preflight(config: Config) -> Iterator[str]:
    """Each problem in one line that begins with the setting."""
    for name in ("errorlog", "accesslog", "slowlog", "pidfile"):
        path = getattr(config, name)
        if path not in ("", "-"):
            yield from _check_file(name, path, "a file", lambda mode: not stat.S_ISDIR(mode))
    for address in config.bind:
        if address.kind == "unix" and not address.is_abstract:
            yield from _check_file("bind", address.path, "a unix socket", stat.S_ISSOCK)
        if address.kind == "unix" and len(os.fsencode(address.path)) > _MAX_SOCKET_PATH:
            yield f'bind: found "{escape(address.path)}", expected a path of at most {_MAX_SOCKET_PATH} bytes'
    yield from _check_lua(config)
    yield from _check_modules(config)
    yield from _check_shared(config)
    yield from _check_tasks(config)
    yield from _check_routes(config)


def _check_file(name: str, path: str, expected: str, is_right: Callable[[int], bool]) -> Iterator[str]:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        yield f'{name}: found "{escape(path)}", but there is no folder "{escape(folder)}"; expected one that exists'
        return
    try:
        mode = os.stat(path).st_mode
    except OSError:
        # It will be made.
        return
    if not is_right(mode):
        yield f'{name}: found "{escape(path)}", where something else is; expected the path of {expected}'


def _check_modules(config: Config) -> Iterator[str]:
    if config.modules:
        from .modules.python_modules import check_all

        yield from check_all(config)


def _check_shared(config: Config) -> Iterator[str]:
    if config.shared.sizes:
        from .modules.shared.stores import missing

        problem = missing(config.shared)
        if problem:
            yield problem


def _check_tasks(config: Config) -> Iterator[str]:
    if config.tasks:
        from .tasks.runner import check

        problem = check(config.tasks, _catalogue(config))
        if problem:
            yield problem


def _check_routes(config: Config) -> Iterator[str]:
    if config.scripts.front or config.apps:
        from .scripts.routes import Routes

        yield from Routes(_catalogue(config), config.scripts, config.apps, config.lua.path).problems()


def _catalogue(config: Config) -> Catalogue:
    from .scripts.catalogue import Catalogue

    scripts = config.scripts
    return Catalogue(scripts.root, scripts.extensions, scripts.public)


def _check_lua(config: Config) -> Iterator[str]:
    # The only thing that is imported for it, and that needs an event loop.
    from .system.gevent_import import import_gevent

    import_gevent()
    from .logs.error_log import ErrorLog
    from .lua.engine import LuaEngine

    try:
        engine = LuaEngine(config, ErrorLog("-", "critical"))
    except ConfigError as problem:
        yield str(problem)
        return
    startup = config.scripts.startup
    if startup:
        try:
            mistake = engine.syntax_problem(startup)
        except OSError as error:
            mistake = f"{startup}: {error.strerror}"
        if mistake:
            yield f"[scripts] startup: {escape(mistake)}"
