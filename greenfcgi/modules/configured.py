"""The modules that scripts may require: those that come with greenfcgi, and those that the configuration names.

Each that comes with it is a file NAME.lua in this folder, `require "greenfcgi.NAME"`, or one that a table here names.
Where it needs the server, NAME.py beside it has a function `functions(bridge)`, which makes for one state what the Lua
source calls. Both are read when a script first requires the module.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import Final

from ..config.load import Config
from ..lua.bridge import Bridge, Module, ModuleFunction
from ..system.memory_folder import MemoryFolder

_FOLDER: Final = os.path.dirname(__file__)
#: What scripts require by another name than that of its file, or what lies in a folder below.
_OTHER_NAMES: Final[Mapping[str, str]] = {
    "greenfcgi.cookie": "web/cookie",
    "greenfcgi.crypto": "text/crypto",
    "greenfcgi.form": "web/form",
    "greenfcgi.html": "text/html",
    "greenfcgi.http": "http/http",
    "greenfcgi.http_date": "web/http_date",
    "greenfcgi.json": "text/json",
    "greenfcgi.lapis": "apps/lapis",
    "greenfcgi.router": "web/router",
    "greenfcgi.session": "web/session",
    "greenfcgi.shared": "shared/dictionary",
    "greenfcgi.sql": "sql/sql",
    "greenfcgi.template": "text/template",
    "greenfcgi.url": "text/url",
    "greenfcgi.wsapi": "apps/wsapi",
    "luafcgid": "luafcgid",
    "luasql.postgres": "sql/luasql",
    "luasql.sqlite3": "sql/luasql",
    "mime.core": "sockets/mime",
    "socket.core": "sockets/core",
    "socket.unix": "sockets/unix",
    "ssl": "sockets/ssl",
    "wsapi": "apps/rock",
}
#: What several of them share.
_PARTS: Final[Mapping[str, str]] = {
    "fields": "text/fields",
    "markup": "text/markup",
    "reply_head": "apps/reply_head",
    "sending": "web/sending",
    "session_stores": "web/session_stores",
    "sockets": "sockets/sockets",
    "sorting": "text/sorting",
    "stored": "web/stored",
}
#: What is not required, but defines functions of Lua's own, where `lua.allow` names one of these.
_AT_START: Final[Mapping[str, tuple[str, ...]]] = {"programs": ("os.execute", "io.popen")}


def modules(config: Config, folder: MemoryFolder | None = None) -> list[Module]:
    """All of them. `folder` is what the processes of this server have in common; a process alone needs none."""
    #: What some get for their functions, beside the bridge.
    given = {
        "shared/dictionary": (config.shared, folder),
        "web/cookie": (config.folder,),
        "web/session": (config.folder,),
    }
    found = [_shipped(name, file, *given.get(file, ())) for name, file in _names().items()]
    found += [_shipped(name, file, *given.get(file, ()))._replace(is_part=True) for name, file in _PARTS.items()]
    found += [_shipped(name, name)._replace(at_start=True) for name in _at_start(config)]
    if config.modules:
        # Threads, and what they need: a process without such modules does without.
        from . import python_modules

        found += python_modules.modules(config)
    return found


def import_shipped(config: Config, is_closed: bool) -> None:
    """Read what would be read when a script requires it: it may not be readable any more by then.

    What lies in folders takes megabytes (databases, OpenSSL): it is read where it cannot be later (`is_closed`). Then
    a module's `LATE_IMPORTS` names what it imports only when that is needed, as `import_module` takes it.
    """
    for file in (*_names().values(), *_PARTS.values(), *_at_start(config)):
        if is_closed or "/" not in file:
            _lua_source(file)
            if _has_python(file):
                _python_of(file)
    if config.modules:
        from . import python_modules

        python_modules.lua_source()
    if is_closed:
        _import_late()


def _import_late() -> None:
    assert __package__ is not None
    seen: set[str] = set()
    # What comes late may name more.
    while found := [name for name in sys.modules if name.startswith(__package__) and name not in seen]:
        seen.update(found)
        for module in [sys.modules[name] for name in found]:
            for late in getattr(module, "LATE_IMPORTS", ()):
                try:
                    import_module(late, module.__package__)
                except Exception:
                    # It is not installed, or it is broken. The module that needs it reports that.
                    pass


def import_users(config: Config) -> None:
    """Import modules that users have written in Python. Raises `ConfigError`, one line, where one cannot be."""
    if config.modules:
        from . import python_modules

        python_modules.import_all(config)


def _names() -> Mapping[str, str]:
    """What scripts may require, and the file that it is, without its ending."""
    here = (os.path.splitext(file) for file in sorted(os.listdir(_FOLDER)))
    others = {*_OTHER_NAMES.values(), *_AT_START}
    named = {f"greenfcgi.{name}": name for name, end in here if end == ".lua" and name[0] != "_" and name not in others}
    return {**_OTHER_NAMES, **named}


def _at_start(config: Config) -> Iterator[str]:
    return (name for name, allow in _AT_START.items() if not set(allow).isdisjoint(config.lua.allow))


def _shipped(name: str, file: str, *given: object) -> Module:
    return Module(name, partial(_lua_source, file), partial(_functions, file, given))


@cache
def _lua_source(file: str) -> bytes:
    with open(os.path.join(_FOLDER, f"{file}.lua"), "rb") as source:
        return source.read()


@cache
def _has_python(file: str) -> bool:
    return os.path.exists(os.path.join(_FOLDER, f"{file}.py"))


def _python_of(file: str) -> ModuleType:
    return import_module("." + file.replace("/", "."), __package__)


def _functions(file: str, given: tuple[object, ...], bridge: Bridge) -> Mapping[str, ModuleFunction]:
    if not _has_python(file):
        return {}
    functions: Mapping[str, ModuleFunction] = _python_of(file).functions(bridge, *given)
    return functions
