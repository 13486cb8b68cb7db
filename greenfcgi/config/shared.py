"""[shared]: the sizes of dictionaries by their names, and where they are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from . import types
from .value_type import InvalidValue, ValueType

#: As it stands in config.toml; "": in the memory of this machine.
_URL: Final = "url"
_SIZE: Final = types.size(2**20, "1M")
#: Characters of a name, which is a part of a file's.
_MAX_NAME: Final = 64
_REDIS: Final = re.compile(
    r"(?P<scheme>rediss?)://(?:(?P<user>[^:@/\s]*)(?::(?P<password>[^@/\s]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/@\s\[\]]+)(?::(?P<port>[0-9]{1,5}))?(?:/(?P<number>[0-9]{1,4})?)?"
)
_UNIX: Final = re.compile(r"unix:(?://)?(?P<path>/[^?\s]+)(?:\?db=(?P<number>[0-9]{1,4}))?")
_EXPECTED_URL: Final = '"redis://HOST:PORT/NUMBER", "rediss://..." with TLS, "unix:/PATH", or "" for this machine'


class RedisAddress(NamedTuple):
    """Where a Redis listens: a unix socket where `path` is not "", else a host and a port."""

    host: str
    port: int
    path: str
    has_tls: bool
    user: str
    password: str
    #: Of the database.
    number: int


class Shared(NamedTuple):
    """Dictionaries by their names, with their sizes in bytes; the Redis that keeps them, None: this machine does."""

    sizes: Mapping[str, int]
    url: str = ""
    redis: RedisAddress | None = None


def _read(found: object, folder: str) -> Shared:
    if not isinstance(found, dict):
        raise InvalidValue(found, SHARED.expected)
    sizes: dict[str, int] = {}
    for name, size in found.items():
        if name == _URL:
            continue
        if not types.is_identifier(name) or len(name) > _MAX_NAME:
            raise InvalidValue(name, f"names that Lua functions can have, of at most {_MAX_NAME} characters")
        try:
            sizes[name] = _SIZE.read(size, folder)  # type: ignore[assignment]
        except InvalidValue as invalid:
            raise InvalidValue(invalid.found, invalid.expected, f".{name}") from None
    url = found.get(_URL, "")
    if not isinstance(url, str):
        raise InvalidValue(url, _EXPECTED_URL, f".{_URL}")
    return Shared(sizes, url, _address(url) if url else None)


def _address(url: str) -> RedisAddress:
    if match := _UNIX.fullmatch(url):
        return RedisAddress("", 0, match["path"], False, "", "", int(match["number"] or 0))
    match = _REDIS.fullmatch(url)
    port = int(match["port"] or 6379) if match else 0
    if match is None or not 0 < port < 65536:
        raise InvalidValue(url, _EXPECTED_URL, f".{_URL}")
    user, password = _decoded(match["user"] or ""), _decoded(match["password"] or "")
    return RedisAddress(
        match["host"].strip("[]"), port, "", match["scheme"] == "rediss", user, password, int(match["number"] or 0)
    )


def _decoded(text: str) -> str:
    """Without the percent signs that stand for characters with a meaning in a URL."""
    return re.sub("(?:%[0-9A-Fa-f]{2})+", lambda found: bytes.fromhex(found[0].replace("%", "")).decode(), text)


def _written(shared: Shared) -> dict[str, object]:
    return {_URL: shared.url} | {name: _SIZE.write(size) for name, size in shared.sizes.items()}


SHARED: Final = ValueType("a table of dictionaries and their sizes", _read, _written)
