"""What `session.lua` calls, for one state: cookies that are sealed, ids, tokens against forged requests, the time."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Final

from ...lua.bridge import Bridge, ModuleFunction, Outcome
from ..text.crypto import base64url, decoded
from ..text.digests import digest, equal
from .seals import Seals
from .variables import is_https, variables

_PURPOSE: Final = b"greenfcgi.session"
#: Random bytes of an id, and of a token's secret.
_LENGTH: Final = 32


def functions(bridge: Bridge, folder: str) -> Mapping[str, ModuleFunction]:
    """What session.lua calls. `folder` is that of config.toml."""

    seals = Seals(bridge, folder, _PURPOSE)

    def new_id() -> Outcome:
        """An id that nobody can guess."""
        return bridge.text(base64url(os.urandom(_LENGTH)))

    def hashed(id_: bytes) -> Outcome:
        """What a session is kept under: who can read the store cannot take it over."""
        return bridge.text(base64url(digest("sha256", id_)))

    def variable(name: bytes) -> Outcome:
        """A variable of the request; nil where it has none."""
        value = variables(bridge).get(name)
        return None if value is None else bridge.text(value)

    def https() -> Outcome:
        """1 where the request came by HTTPS, else 0."""
        return int(is_https(bridge))

    def encode(data: bytes) -> Outcome:
        """Bytes as text for any database."""
        return base64url(data) if bridge.reserve(2 * len(data)) else False

    def decode(text: bytes) -> Outcome:
        """The bytes; nil where it is none."""
        return decoded(text, b"base64url") if bridge.reserve(len(text)) else False

    return {
        "seal": seals.seal, "unseal": seals.unseal, "new_id": new_id, "hashed": hashed, "variable": variable,
        "encode": encode, "decode": decode, "mask": _mask, "is_token": _is_token, "now": time.time, "is_https": https,
    }  # fmt: skip


def _mask(secret: bytes) -> bytes:
    """A token for this secret. Each is another: a compressed page must not give it away bit by bit (BREACH)."""
    raw = decoded(secret, b"base64url") or b""
    pad = os.urandom(len(raw))
    return base64url(pad + _xor(raw, pad))


def _is_token(token: bytes, secret: bytes) -> int:
    """1 where it is one for this secret, else 0."""
    raw, given = decoded(secret, b"base64url"), decoded(token, b"base64url")
    if raw is None or given is None or len(given) != 2 * len(raw):
        return 0
    return int(equal(_xor(given[len(raw) :], given[: len(raw)]), raw))


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")
