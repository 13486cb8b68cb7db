"""Hashes of passwords: Argon2id by argon2-cffi (extra `passwords`), and scrypt, which Python has, where it is missing.

They are texts in the form that other programs have, too (PHC): ``$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`` and
``$scrypt$ln=15,r=8,p=3$SALT$HASH``. What costs are right is OWASP's advice (Password Storage Cheat Sheet): 19 MB and
two passes, or 32 MB and three.

Whoever can write hashes into a database must not be able to use up the memory or the CPU of the server, so that what a
hash may cost has bounds.
"""

from __future__ import annotations

import os
import re
from binascii import Error, a2b_base64, b2a_base64
from functools import cache
from typing import Any, Final, NamedTuple

from .digests import equal

_SALT: Final = 16
_LENGTH: Final = 32
_ARGON2: Final = re.compile(
    rb"\$(argon2(?:id|i|d))\$v=(\d{1,4})\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$([A-Za-z0-9+/]{11,128})\$([A-Za-z0-9+/]{16,128})"
)
_SCRYPT: Final = re.compile(
    rb"\$scrypt\$ln=(\d{1,3}),r=(\d{1,9}),p=(\d{1,9})\$([A-Za-z0-9+/]{11,128})\$([A-Za-z0-9+/]{16,128})"
)
#: What a hash may cost: memory in KiB, and memory times passes. The new ones have a fifth of either.
_MAX_MEMORY: Final = 256 * 1024
_MAX_WORK: Final = 1024 * 1024
_MAX_LANES: Final = 16
#: Imported when it is needed: see `configured.import_shipped`.
LATE_IMPORTS: Final = ("argon2.low_level", "hashlib")


class UnusableHash(Exception):
    """A hash that cannot be verified, and why."""


class _Argon2(NamedTuple):
    """Costs of Argon2id: memory in KiB, passes, lanes."""

    memory: int = 19456
    passes: int = 2
    lanes: int = 1


class _Scrypt(NamedTuple):
    """Costs of scrypt: the logarithm of N, r, p."""

    log_n: int = 15
    r: int = 8
    p: int = 3


@cache
def _argon2() -> Any:
    try:
        from argon2 import low_level
    except ImportError:
        return None
    return low_level


def hashed(password: bytes) -> bytes:
    """A hash with a salt of its own. Takes some 70 ms, scrypt several times that.

    Raises `MemoryError`, or what the libraries raise.
    """
    argon2 = _argon2()
    if argon2 is not None:
        memory, passes, lanes = _Argon2()
        found: bytes = argon2.hash_secret(
            password, os.urandom(_SALT), passes, memory, lanes, _LENGTH, argon2.Type.ID, argon2.ARGON2_VERSION
        )
        return found
    costs = _Scrypt()
    salt = os.urandom(_SALT)
    return b"$scrypt$ln=%d,r=%d,p=%d$%b$%b" % (*costs, _text(salt), _text(_scrypt(password, salt, costs, _LENGTH)))


def verified(password: bytes, hash_: bytes) -> bool:
    """It is the password of this hash. As long as `hashed`. Raises `UnusableHash`."""
    found = _SCRYPT.fullmatch(hash_)
    if found is not None:
        costs = _Scrypt(int(found[1]), int(found[2]), int(found[3]))
        _check_scrypt(costs)
        expected = _bytes(found[5])
        return equal(_scrypt(password, _bytes(found[4]), costs, len(expected)), expected)
    found = _ARGON2.fullmatch(hash_)
    if found is None:
        known = hash_[:4].decode("ascii", "replace")
        if known.startswith(("$2", "$1$", "$5$", "$6$")):
            raise UnusableHash("a hash of bcrypt or crypt, expected one of Argon2 or scrypt")
        raise UnusableHash("no hash of a password, expected $argon2id$... or $scrypt$...")
    _check_argon2(int(found[2]), _Argon2(int(found[3]), int(found[4]), int(found[5])))
    argon2 = _argon2()
    if argon2 is None:
        raise UnusableHash("a hash of Argon2, which needs: pip install 'greenfcgi[passwords]'")
    kind = {b"argon2id": argon2.Type.ID, b"argon2i": argon2.Type.I, b"argon2d": argon2.Type.D}[found[1]]
    expected = _bytes(found[7])
    result: bytes = argon2.hash_secret_raw(
        password, _bytes(found[6]), int(found[4]), int(found[3]), int(found[5]), len(expected), kind, int(found[2])
    )
    return equal(result, expected)


def is_outdated(hash_: bytes) -> bool:
    """`hashed` would make one of another kind, or other costs, now."""
    found = _ARGON2.fullmatch(hash_)
    if found is not None:
        costs = _Argon2(int(found[3]), int(found[4]), int(found[5]))
        return found[1] != b"argon2id" or int(found[2]) != 19 or costs != _Argon2()
    found = _SCRYPT.fullmatch(hash_)
    if found is None or _argon2() is not None:
        return True
    return _Scrypt(int(found[1]), int(found[2]), int(found[3])) != _Scrypt()


def _check_argon2(version: int, costs: _Argon2) -> None:
    if version not in (16, 19) or costs.passes < 1 or costs.lanes < 1 or costs.memory < 8 * costs.lanes:
        raise UnusableHash("a hash of Argon2 with costs that it cannot have")
    if costs.memory > _MAX_MEMORY or costs.memory * costs.passes > _MAX_WORK or costs.lanes > _MAX_LANES:
        raise UnusableHash("a hash of Argon2 that costs more than the server allows")


def _check_scrypt(costs: _Scrypt) -> None:
    # RFC 7914, section 2: N is less than 2 to the power of 16 r.
    if not (1 <= costs.log_n <= 30 and costs.log_n < 16 * costs.r and costs.p >= 1):
        raise UnusableHash("a hash of scrypt with costs that it cannot have")
    memory = (costs.r << costs.log_n) // 8
    if memory > _MAX_MEMORY or memory * costs.p > _MAX_WORK or costs.r * costs.p > _MAX_LANES * 8:
        raise UnusableHash("a hash of scrypt that costs more than the server allows")


def _scrypt(password: bytes, salt: bytes, costs: _Scrypt, length: int) -> bytes:
    from hashlib import scrypt

    memory = (costs.r * 128 << costs.log_n) + costs.r * costs.p * 128 + (1 << 20)
    return scrypt(password, salt=salt, n=1 << costs.log_n, r=costs.r, p=costs.p, maxmem=memory, dklen=length)


def _text(data: bytes) -> bytes:
    """Base64 as PHC has it, without "="."""
    return b2a_base64(data, newline=False).rstrip(b"=")


def _bytes(text: bytes) -> bytes:
    try:
        return a2b_base64(text + b"=" * (-len(text) % 4))
    except Error:
        raise UnusableHash("a hash of a password that has been cut off") from None
