"""Which database a URL means, and its driver, which is imported when a script first asks for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from .driver import Driver
from .problem import SqlError

#: What is before the colon of a URL, the kind of database, the name of that, and the extra that its driver comes with.
_KINDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "sqlite": ("sqlite", "SQLite", ""),
    "postgresql": ("postgres", "PostgreSQL", "postgres"),
    "postgres": ("postgres", "PostgreSQL", "postgres"),
    "mysql": ("mysql", "MySQL", "mysql"),
    "mariadb": ("mysql", "MariaDB", "mysql"),
}
MEMORY: Final = ":memory:"

#: Imported when it is needed: see `configured.import_shipped`.
LATE_IMPORTS: Final = (".sqlite", ".postgres", ".mysql")

_loaded: dict[str, Driver] = {}


class Target(NamedTuple):
    """A database."""

    #: Its driver.
    kind: str
    #: What the driver takes: a path, or a URL.
    address: str


def target(url: str, home: str) -> Target:
    """The database that a URL means; a path in it is relative to the folder `home`. Raises `SqlError`."""
    scheme, colon, rest = url.partition(":")
    if not colon or scheme.lower() not in _KINDS:
        raise SqlError(
            f'found the URL "{_without_password(url)}", expected one such as "sqlite:data/app.db", '
            '"postgresql://user@host/name" or "mysql://user@host/name"'
        )
    kind = _KINDS[scheme.lower()][0]
    if kind != "sqlite":
        if not rest.startswith("//"):
            raise SqlError(f'found the URL "{scheme}:...", expected "{scheme}://user:password@host:port/name"')
        return Target(kind, url)
    if rest.startswith("//") or not rest or "\0" in rest:
        raise SqlError('found no path in the URL, expected "sqlite:PATH", for example "sqlite:data/app.db"')
    return Target(kind, rest if rest == MEMORY else os.path.join(home, rest))


def luasql_target(kind: str, home: str, source: str, user: str, password: str, host: str, port: str) -> Target:
    """The database that LuaSQL's `connect` means; for PostgreSQL, empty is not given."""
    if kind != "postgres":
        return Target(kind, MEMORY if source in (MEMORY, "") else os.path.join(home, source))
    if source.startswith(("postgres://", "postgresql://")):
        return Target(kind, source)
    parts = [source if "=" in source else _assigned("dbname", source)]
    given = {"user": user, "password": password, "host": host, "port": port}
    return Target(kind, " ".join([*parts, *[_assigned(name, value) for name, value in given.items() if value]]))


def _assigned(name: str, value: str) -> str:
    """A part of what libpq takes."""
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{quoted}'" if value else ""


def _without_password(url: str) -> str:
    """What of a URL may be shown."""
    head, at, tail = url.rpartition("@")
    return f"...@{tail}" if at and head else url


def is_loaded(kind: str) -> bool:
    """Its driver has been imported."""
    return kind in _loaded


def load(kind: str) -> Driver:
    """The driver of a kind. To import it takes long. Raises `SqlError` where it is not installed."""
    found = _loaded.get(kind)
    if found is None:
        try:
            found = _loaded[kind] = _imported(kind)
        except ImportError:
            _, name, extra = next(entry for entry in _KINDS.values() if entry[0] == kind)
            how = f"pip install 'greenfcgi[{extra}]'" if extra else "a Python that is built with sqlite3"
            raise SqlError(f"the driver for {name} is not installed: {how}") from None
    return found


def _imported(kind: str) -> Driver:
    if kind == "postgres":
        from . import postgres

        return postgres
    if kind == "mysql":
        from . import mysql

        return mysql
    from . import sqlite

    return sqlite
