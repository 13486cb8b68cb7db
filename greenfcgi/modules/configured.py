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
from types import ModuleType

from ..config.load import Config
from ..lua.bridge import Bridge, Module, ModuleFunction

_FOLDER = os.path.dirname(__file__)
#: What scripts of luafcgid require.
_OLD_NAMES = {"luafcgid": "luafcgid"}
#: What is not required, but defines functions of Lua's own, where `lua.allow` names one of these.
_AT_START = {"programs": ("os.execute", "io.popen")}


def modules(config: Config) -> list[Module]:
    """All of them."""
    found = [_shipped(name, with_python) for name, with_python in _shipped_names(config)]
    if config.modules:
        # Threads, and what they need: a process without such modules does without.
        from . import python_modules

        found += python_modules.modules(config)
    return found


def import_shipped(config: Config) -> None:
    """Import what would be when a script requires it: it may not be readable any more by then."""
    for name, with_python in _shipped_names(config):
        if with_python:
            _python_of(name)


def import_users(config: Config) -> None:
    """Import modules that users have written in Python. Raises `ConfigError`, one line, where one cannot be."""
    if config.modules:
        from . import python_modules

        python_modules.import_all(config)


def _shipped_names(config: Config) -> Iterator[tuple[str, bool]]:
    """Those that come with greenfcgi, and whether a Python module is beside each."""
    files = set(os.listdir(_FOLDER))
    for file in sorted(files):
        name, ending = os.path.splitext(file)
        allow = _AT_START.get(name)
        is_allowed = allow is None or not set(allow).isdisjoint(config.lua.allow)
        if ending == ".lua" and not name.startswith("_") and is_allowed:
            yield name, f"{name}.py" in files


def _shipped(name: str, with_python: bool) -> Module:
    with open(os.path.join(_FOLDER, f"{name}.lua"), "rb") as file:
        source = file.read()
    functions = partial(_functions, name) if with_python else _no_functions
    return Module(_OLD_NAMES.get(name, f"greenfcgi.{name}"), source, functions, name in _AT_START)


def _python_of(name: str) -> ModuleType:
    return import_module(f".{name}", __package__)


def _functions(name: str, bridge: Bridge) -> Mapping[str, ModuleFunction]:
    functions: Mapping[str, ModuleFunction] = _python_of(name).functions(bridge)
    return functions


def _no_functions(_: Bridge) -> Mapping[str, ModuleFunction]:
    return {}
