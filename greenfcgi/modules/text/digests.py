"""Hashes and what is made of them.

`hashlib` brings OpenSSL, which takes 4 MB: hashes of little text are those that Python itself has, in 0.2 MB.
"""

from __future__ import annotations

from _operator import _compare_digest
from collections.abc import Callable
from functools import cache
from typing import Any, Final

#: The functions, and the bytes of their blocks, which HMAC wants to know.
BLOCKS: Final = {"md5": 64, "sha1": 64, "sha256": 64, "sha384": 128, "sha512": 128}
#: Where Python has them: up to 3.11 in modules of their own.
_OWN: Final = {
    "md5": ("_md5",), "sha1": ("_sha1",), "sha256": ("_sha2", "_sha256"), "sha384": ("_sha2", "_sha512"),
    "sha512": ("_sha2", "_sha512"),
}  # fmt: skip
#: Imported when it is needed: see `configured.import_shipped`.
LATE_IMPORTS: Final = (*(module for modules in _OWN.values() for module in modules), "hashlib")
#: Bytes beyond which OpenSSL's are worth their memory: they take a fifth of the time, and hold up no other thread.
MAX_SMALL: Final = 64 * 1024
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))

Hash = Callable[..., Any]


@cache
def _own(name: str) -> Hash:
    for module in _OWN[name]:
        try:
            found: Hash = getattr(__import__(module), name)
        except (ImportError, AttributeError):
            continue
        return found
    return _openssl(name)


@cache
def _openssl(name: str) -> Hash:
    import hashlib

    found: Hash = getattr(hashlib, name)
    return found


def digest(name: str, *parts: bytes) -> bytes:
    """The hash of this name, a key of `BLOCKS`, of these parts."""
    function = _own(name) if sum(map(len, parts)) <= MAX_SMALL else _openssl(name)
    # Not for protection: where an operator forbids MD5 for that, an ETag may have it all the same.
    found = function(usedforsecurity=False)
    for part in parts:
        found.update(part)
    result: bytes = found.digest()
    return result


def hmac(name: str, key: bytes, *parts: bytes) -> bytes:
    """HMAC (RFC 2104) with the hash of this name. Not Python's module, which brings OpenSSL."""
    block = BLOCKS[name]
    if len(key) > block:
        key = digest(name, key)
    key = key.ljust(block, b"\0")
    return digest(name, key.translate(_OUTER), digest(name, key.translate(_INNER), *parts))


class Hmac:
    """HMAC with the hash of this name and a key that is used again and again, for little text."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, name: str, key: bytes) -> None:
        block = BLOCKS[name]
        key = (digest(name, key) if len(key) > block else key).ljust(block, b"\0")
        function = _own(name)
        self._inner = function(key.translate(_INNER), usedforsecurity=False)
        self._outer = function(key.translate(_OUTER), usedforsecurity=False)

    def __call__(self, text: bytes) -> bytes:
        """The HMAC of this text."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        result: bytes = outer.digest()
        return result


def equal(a: bytes, b: bytes) -> bool:
    """They are the same; the time it takes says only how long they are."""
    same: bool = _compare_digest(a, b)
    return same
