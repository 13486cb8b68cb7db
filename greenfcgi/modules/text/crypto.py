"""What `crypto.lua` calls, for one state: hashes, passwords, base64, the time."""

from __future__ import annotations

import binascii
import time
from collections.abc import Callable, Mapping
from typing import Final

from ...logs.text import described, traceback_of
from ...lua.bridge import Bridge, ModuleFunction, Outcome
from ..threads import Job, Jobs, Threads
from . import digests, passwords

#: Bytes beyond which a hash is made in a thread: 10 ms of OpenSSL's slowest.
_MAX_AT_ONCE: Final = 1 << 20
#: Passwords that are hashed at a time: each takes all of a core, and 19 to 32 MB. More wait.
_MAX_PASSWORDS: Final = 2
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")

_for_passwords = Threads(_MAX_PASSWORDS)
_for_hashes = Threads(_MAX_PASSWORDS)


class _Work(Job):
    """A function that runs in a thread, and returns what Lua gets."""

    def __init__(self, threads: Threads, bridge: Bridge, function: Callable[[], bytes | bool]) -> None:
        super().__init__(threads)
        self._bridge = bridge
        self._function = function
        self._result: bytes | bool = False
        self._problem: Exception | None = None

    def work(self) -> None:
        """Do it."""
        try:
            self._result = self._function()
        except Exception as problem:
            self._problem = problem

    def fail(self, problem: Exception) -> None:
        """No thread can be had."""
        self._problem = problem

    def outcome(self) -> Outcome:
        """Text; "y" or "n"; or nil, the problem and 1."""
        problem, bridge = self._problem, self._bridge
        if problem is None:
            result = self._result
            return bridge.text(result) if isinstance(result, bytes) else b"y" if result else b"n"
        if isinstance(problem, passwords.UnusableHash):
            return bridge.failure(f"found {problem}".encode(), 1)
        bridge.log_error(f"module 'greenfcgi.crypto': {described(problem)}", traceback_of(problem), bridge.title())
        return bridge.failure(b"it could not be done: the log says why", 1)


class _Calls:
    """The calls of one state."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._jobs = Jobs(bridge)
        self.wait = self._jobs.wait

    def digest(self, name: bytes, text: bytes, form: bytes) -> Outcome:
        """A hash of the text, in a form that `_encoded` knows."""
        return self._hash(len(text), lambda: _encoded(digests.digest(name.decode(), text), form))

    def hmac(self, name: bytes, key: bytes, text: bytes, form: bytes) -> Outcome:
        """HMAC of the text."""
        return self._hash(len(text) + len(key), lambda: _encoded(digests.hmac(name.decode(), key, text), form))

    def _hash(self, length: int, function: Callable[[], bytes]) -> Outcome:
        if length <= _MAX_AT_ONCE:
            return self._bridge.text(function())
        return self._jobs.run(_Work(_for_hashes, self._bridge, function))

    def hash_password(self, password: bytes) -> Outcome:
        """Its hash."""
        return self._jobs.run(_Work(_for_passwords, self._bridge, lambda: passwords.hashed(password)))

    def verify_password(self, password: bytes, hash_: bytes | None) -> Outcome:
        """ "y" or "n"; or nil and why the hash is none. Without a hash "n", after as long as with one."""

        def verified() -> bool:
            if hash_ is None:
                passwords.hashed(password)
                return False
            return passwords.verified(password, hash_)

        return self._jobs.run(_Work(_for_passwords, self._bridge, verified))

    def encode(self, data: bytes, form: bytes) -> Outcome:
        """As hex, base64 or base64url."""
        if not self._bridge.reserve(2 * len(data) + 4):
            return False
        return _encoded(data, form)

    def decode(self, text: bytes, form: bytes) -> Outcome:
        """What such a text stands for; nil where it is none."""
        if not self._bridge.reserve(len(text)):
            return False
        return decoded(text, form)


def _encoded(data: bytes, form: bytes) -> bytes:
    if form == b"hex":
        return binascii.b2a_hex(data)
    if form == b"raw":
        return data
    text = binascii.b2a_base64(data, newline=False)
    return text if form == b"base64" else text.translate(_URL_SAFE).rstrip(b"=")


def decoded(text: bytes, form: bytes) -> bytes | None:
    """What such a text stands for; None where it is none. "=" at the end may be left out."""
    try:
        if form == b"hex":
            return binascii.a2b_hex(text)
        if len(text) % 4 == 0 and not text.endswith(b"==="):
            text = text.rstrip(b"=")
        if form == b"base64url":
            if b"+" in text or b"/" in text:
                return None
            text = text.translate(_STANDARD)
        data = binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        return None
    # One text for each value: no bits that are left over.
    return data if binascii.b2a_base64(data, newline=False).rstrip(b"=") == text else None


def _equal(a: bytes, b: bytes) -> int:
    """1 where they are the same, else 0."""
    return int(digests.equal(a, b))


def _is_outdated(hash_: bytes) -> int:
    """1 where a new hash of the password is better, else 0."""
    return int(passwords.is_outdated(hash_))


def base64url(data: bytes) -> bytes:
    """Base64 for URLs and cookies (RFC 4648, section 5), without "="."""
    return _encoded(data, b"base64url")


def functions(bridge: Bridge) -> Mapping[str, ModuleFunction]:
    """What crypto.lua calls."""
    calls = _Calls(bridge)
    return {
        "digest": calls.digest, "hmac": calls.hmac, "hash_password": calls.hash_password,
        "verify_password": calls.verify_password, "encode": calls.encode, "decode": calls.decode, "wait": calls.wait,
        "equal": _equal, "is_outdated": _is_outdated, "now": time.time,
    }  # fmt: skip
