"""What `--check-config` checks beside the file itself: whatever else would keep the server from starting.

It starts and changes nothing, and leaves no file behind. Files are looked at as the user who would open them: logs, the
pid file and sockets as whoever starts the server, scripts as `user`.
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
from .system.privileges import may, remarks_on_reading, resolve_identity

if TYPE_CHECKING:
    from .scripts.catalogue import Catalogue

#: Bytes of the path of a unix socket.
_MAX_SOCKET_PATH = 107 if sys.platform.startswith("linux") else 103


def preflight(config: Config) -> Iterator[str]:
    """Each problem in one line that begins with the setting."""
    for name in ("errorlog", "accesslog", "slowlog"):
        path = getattr(config, name)
        if path not in ("", "-"):
            yield from _check_file(name, path, "a file", _log_problem)
    if config.pidfile:
        yield from _check_file("pidfile", config.pidfile, "a file", _pid_file_problem)
    for address in config.bind:
        if address.kind == "unix" and not address.is_abstract:
            yield from _check_file("bind", address.path, "a unix socket", _socket_problem)
        if address.kind == "unix" and len(os.fsencode(address.path)) > _MAX_SOCKET_PATH:
            yield f'bind: found "{escape(address.path)}", expected a path of at most {_MAX_SOCKET_PATH} bytes'
    if not unknown_user(config):
        yield from _check_reading(config)
    yield from _check_lua(config)
    yield from _check_modules(config)
    yield from _check_shared(config)
    yield from _check_tasks(config)
    yield from _check_routes(config)


def unknown_user(config: Config) -> str:
    """The user as whom nothing can be looked at, since only root can become another; "" for none."""
    try:
        resolve_identity(config)
    except ConfigError:
        return config.user or config.group
    return ""


def remarks(config: Config) -> list[str]:
    """What is no mistake, and what an operator should know all the same; one line each."""
    if user := unknown_user(config):
        return [f'only root can see what "{user}" may read: that is left out']
    return [text for _, text in remarks_on_reading(resolve_identity(config))]


# Files


def _check_file(name: str, path: str, expected: str, problem_with: Callable[[str], str]) -> Iterator[str]:
    """What is wrong with the path of a file that the server makes or opens.

    `problem_with` says it of one that is there already: "" for nothing. It raises `_Other` where that is something
    else than `expected`, and `OSError`.
    """
    folder = os.path.dirname(path)
    found = f'{name}: found "{escape(path)}"'
    try:
        is_folder = stat.S_ISDIR(os.stat(folder).st_mode)
    except PermissionError:
        yield f'{found}, but {_name()} may not look for the folder "{escape(folder)}"; expected one that it may'
        return
    except (OSError, ValueError):
        is_folder = False
    if not is_folder:
        yield f'{found}, but there is no folder "{escape(folder)}"; expected one that exists'
        return
    try:
        problem = problem_with(path) if os.path.lexists(path) else _folder_problem(folder)
    except _Other:
        yield f"{found}, where something else is; expected the path of {expected}"
    except OSError as error:
        yield f"{found}, which cannot be opened: {error.strerror}; expected {expected} that {_name()} may write to"
    else:
        if problem:
            yield f"{found}, but {problem}; expected a folder where it can be made"


class _Other(Exception):
    """Something else is in the place of a file."""


def _log_problem(path: str) -> str:
    if os.path.isdir(path):
        raise _Other
    try:
        # As it will be opened, but for making it.
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
    except FileNotFoundError:
        # A link, to a file that will be made.
        return _folder_problem(os.path.dirname(os.path.realpath(path)))
    return ""


def _pid_file_problem(path: str) -> str:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise _Other
    return "" if may(path, os.W_OK) else _folder_problem(os.path.dirname(path))


def _socket_problem(path: str) -> str:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise _Other
    return _folder_problem(os.path.dirname(path))


def _folder_problem(folder: str) -> str:
    """Why no file can be made in a folder; "" if one can."""
    if may(folder, os.W_OK | os.X_OK):
        return ""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f'the file system of "{escape(folder)}" is read-only'
    return f'{_name()} may not write to the folder "{escape(folder)}"'


def _check_reading(config: Config) -> list[str]:
    """Folders and files of scripts that the user who runs them may not read."""
    wanted = [("[scripts] root", config.scripts.root, os.R_OK | os.X_OK)]
    if config.scripts.startup:
        wanted.append(("[scripts] startup", config.scripts.startup, os.R_OK))
    wanted += [("[lua] path", folder, os.X_OK) for folder in config.lua.path if os.path.isdir(folder)]
    with resolve_identity(config).acting():
        return [
            f'{name}: found "{escape(path)}", which {_name()} may not read; expected what it may'
            for name, path, how in wanted
            if not may(path, how)
        ]


def _name() -> str:
    """The user as whom this runs, or acts."""
    import pwd

    try:
        return f'user "{pwd.getpwuid(os.geteuid()).pw_name}"'
    except KeyError:
        return f"user {os.geteuid()}"


# What is run


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
