"""[apps]: programs that answer all URLs below a path, by the interface that they are written for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from .value_type import InvalidValue, ValueType

#: The interfaces, which are the names of modules of the server's: `require "greenfcgi.wsapi"`.
KINDS: Final = ("wsapi", "lapis")
_PREFIX: Final = re.compile(r"(?:/[^/?#%\s\x00-\x1f\x7f]+)+|/")
_MODULE: Final = re.compile(r"[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*", re.ASCII)


class App(NamedTuple):
    """A program: the Lua module that it is, and the interface that this is written for."""

    kind: str
    module: str


def _read(found: object, folder: str) -> dict[str, App]:
    if not isinstance(found, dict):
        raise InvalidValue(found, APPS.expected)
    apps = {}
    for prefix, table in found.items():
        if not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
            raise InvalidValue(prefix, 'the path of a URL as key, such as "/shop", or "/" for all')
        if not isinstance(table, dict) or len(table) != 1 or next(iter(table)) not in KINDS:
            kinds = " or ".join(f'{{ {kind} = "MODULE" }}' for kind in KINDS)
            raise InvalidValue(table, kinds, f'."{prefix}"')
        kind, module = next(iter(table.items()))
        if not isinstance(module, str) or not _MODULE.fullmatch(module):
            raise InvalidValue(module, "the name of a Lua module, as require takes it", f'."{prefix}".{kind}')
        apps[prefix] = App(kind, module)
    return apps


def _written(apps: Mapping[str, App]) -> dict[str, object]:
    return {prefix: {app.kind: app.module} for prefix, app in apps.items()}


APPS: Final = ValueType("a table of paths and programs", _read, _written)
