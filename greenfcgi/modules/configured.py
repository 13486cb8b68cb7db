"""The modules that scripts may require: those that come with greenfcgi, and those that the configuration names.

Each file NAME.lua of this folder is one, `require "greenfcgi.NAME"`. Where it needs the server, NAME.py beside it has a
function `functions(bridge)`, which makes for one state what the Lua source calls. It is imported when a script first
requires the module.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module

from ..config.load import Config
from ..lua.bridge import Bridge, Module, ModuleFunction

#: What scripts of luafcgid require.
_OLD_NAMES = {"luafcgid": "luafcgid"}
#: What is not required, but defines functions of Lua's own, where `lua.allow` names one of these.
_AT_START = {"programs": ("os.execute", "io.popen")}


def modules(config: Config) -> list[Module]:
    """All of them."""
    return [*_shipped(config), *(python_modules(config) if config.modules else ())]


def _shipped(config: Config) -> Iterator[Module]:
    folder = os.path.dirname(__file__)
    files = set(os.listdir(folder))
    for name in sorted(file.removesuffix(".lua") for file in files if file.endswith(".lua")):
        allow = _AT_START.get(name)
        if name.startswith("_") or (allow is not None and not set(allow) & set(config.lua.allow)):
            continue
        with open(os.path.join(folder, f"{name}.lua"), "rb") as file:
            source = file.read()
        functions = partial(_functions, name) if f"{name}.py" in files else _no_functions
        yield Module(_OLD_NAMES.get(name, f"greenfcgi.{name}"), source, functions, allow is not None)


def import_shipped(config: Config) -> None:
    """Import what would be when a script requires it: it may not be readable any more by then."""
    for module in _shipped(config):
        if isinstance(module.functions, partial):
            _module(*module.functions.args)


def import_users(config: Config) -> None:
    """Import modules that users have written in Python. Raises `ConfigError`, one line, where one cannot be."""
    if config.modules:
        from .python_modules import import_all

        import_all(config)


def python_modules(config: Config) -> list[Module]:
    """Those that users have written."""
    # Threads, and what they need: a process without such modules does without.
    from . import python_modules

    return python_modules.modules(config)


def _functions(name: str, bridge: Bridge) -> Mapping[str, ModuleFunction]:
    functions: Mapping[str, ModuleFunction] = _module(name).functions(bridge)
    return functions


def _module(name: str):  # type: ignore[no-untyped-def]  # a module has no type of its own
    return import_module(f".{name}", __package__)


def _no_functions(_: Bridge) -> Mapping[str, ModuleFunction]:
    return {}
