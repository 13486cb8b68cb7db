"""Texts that a client keeps for the server: signed, or encrypted as well.

``1.TEXT.SIGNATURE`` is signed with HMAC-SHA256, ``2.TEXT`` encrypted with AES-GCM by cryptography (extra `sessions`,
10 MB); the parts are base64url. The name of the cookie is signed with it, so that it is none of another name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from ...errors import ConfigError
from ..text.crypto import base64url, decoded
from ..text.digests import Hmac, equal, hmac

_NONCE = 12
#: Imported when it is needed: see `configured.import_shipped`.
LATE_IMPORTS: Final = ("cryptography.exceptions", "cryptography.hazmat.primitives.ciphers.aead")


def signed(keys: Sequence[bytes], name: bytes, text: bytes) -> bytes:
    """The text with a signature."""
    body = b"1." + base64url(text)
    return body + b"." + base64url(_signature(keys[0], name, body))


def encrypted(keys: Sequence[bytes], name: bytes, text: bytes) -> bytes:
    """The text as nobody else can read it. Raises `ConfigError` without cryptography."""
    nonce = os.urandom(_NONCE)
    return b"2." + base64url(nonce + _cipher(keys[0]).encrypt(nonce, text, name))


def opened(keys: Sequence[bytes], name: bytes, sealed: bytes) -> bytes | None:
    """The text; None where it is none of the server's."""
    kind, _, rest = sealed.partition(b".")
    if kind == b"1":
        body, _, signature = sealed.rpartition(b".")
        for key in keys:
            if equal(signature, base64url(_signature(key, name, body))):
                return decoded(body[2:], b"base64url")
        return None
    if kind != b"2":
        return None
    data = decoded(rest, b"base64url")
    return None if data is None or len(data) < _NONCE else _decrypted(keys, name, data)


def _signature(key: bytes, name: bytes, body: bytes) -> bytes:
    return _hmac(key)(name + b"\0" + body)


@lru_cache(maxsize=32)
def _hmac(key: bytes) -> Hmac:
    return Hmac("sha256", key)


def _decrypted(keys: Sequence[bytes], name: bytes, data: bytes) -> bytes | None:
    try:
        from cryptography.exceptions import InvalidTag

        ciphers = [_cipher(key) for key in keys]
    except (ImportError, ConfigError):
        # Whoever has sent it may have made it up.
        return None
    for cipher in ciphers:
        try:
            text: bytes = cipher.decrypt(data[:_NONCE], data[_NONCE:], name)
        except (InvalidTag, ValueError):
            continue
        return text
    return None


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise ConfigError("encrypted sessions need: pip install 'greenfcgi[sessions]'") from None
    # Not the key that signs.
    return AESGCM(hmac("sha256", key, b"encryption"))
