"""The server's key: what it signs, it knows again, also in other processes and after a restart.

It lies in the file ``session.key`` beside config.toml, or where ``key_file`` says, and is made when it is first needed.
Each line of it is a key, of 32 characters or more: the first signs, and all of them are tried on what comes back, so
that a new key is put before the old one.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from typing import Final

from ...errors import ConfigError
from ..text.digests import digest, hmac

_NAME: Final = "session.key"
_MIN_LENGTH: Final = 32
_MAX_SIZE: Final = 65536

#: By file: what it was when it was read, and the keys.
_read: dict[str, tuple[tuple[int, ...], tuple[bytes, ...]]] = {}


def keys(folder: str, key_file: str, purpose: bytes) -> tuple[bytes, ...]:
    """The keys for a purpose, 32 bytes each; what is signed for one is nothing for another.

    `folder` is that of config.toml, and `key_file` relative to it, or "". Raises `ConfigError`, one line.
    """
    return _derived(_keys_of(_path(folder, key_file)), purpose)


@lru_cache(maxsize=16)
def _path(folder: str, key_file: str) -> str:
    return os.path.join(folder, key_file or _NAME)


@lru_cache(maxsize=16)
def _derived(found: tuple[bytes, ...], purpose: bytes) -> tuple[bytes, ...]:
    return tuple(hmac("sha256", key, purpose) for key in found)


def _keys_of(path: str) -> tuple[bytes, ...]:
    try:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            _make(path)
            found = os.stat(path)
        signature = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)
        known = _read.get(path)
        if known is None or known[0] != signature:
            known = _read[path] = signature, _keys_in(path, found)
    except OSError as problem:
        raise ConfigError(
            f"{path}: {problem.strerror}; the server's user must be able to read it, or to make it: make it for that "
            f"user, with mode 0600 and 32 random bytes in hexadecimal, or name another file as key_file in [app]"
        ) from None
    return known[1]


def _keys_in(path: str, found: os.stat_result) -> tuple[bytes, ...]:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path}: found no regular file, expected one with a key in each line")
    if found.st_mode & 0o027:
        raise ConfigError(
            f"{path}: found mode {stat.S_IMODE(found.st_mode):04o}, expected 0600: others can read or change the key"
        )
    with open(path, "rb") as file:
        lines = [line.strip() for line in file.read(_MAX_SIZE).splitlines()]
    lines = [line for line in lines if line and not line.startswith(b"#")]
    if not lines or min(map(len, lines)) < _MIN_LENGTH:
        what = "a key of fewer characters" if lines else "no key"
        raise ConfigError(f"{path}: found {what}, expected a line of {_MIN_LENGTH} characters or more for each key")
    return tuple(digest("sha256", line) for line in lines)


def _make(path: str) -> None:
    """Make the file, whole from the start; another process may do so at the same time."""
    beside = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, os.urandom(32).hex().encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            # Unlike a rename, it does not replace what another process has made.
            os.link(beside, path)
        except FileExistsError:
            pass
    finally:
        os.unlink(beside)
