"""A dictionary that Redis keeps, for several machines.

Each operation is one command, or one script that Redis runs, so that it is atomic. What a command's reply becomes is
said with it; `redis_connection` waits for it. How much memory there is, and what goes first, is Redis's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import hiredis

from . import values
from .store import BATCH, DONE, Kind, Mode, Number

#: From a reply to what Lua gets.
Finish = Callable[[Any], Any]


#: KEYS: the key; ARGV: the amount, as `values.written`; the first value, or ""; milliseconds, or "".
#: Redis counts integers by itself, with 64 bits; its Lua has doubles.
_INCR: Final = b"""
local old = redis.pcall('GET', KEYS[1])
if not old then
    if ARGV[2] == '' then return {'not found'} end
    redis.call('SET', KEYS[1], ARGV[2], unpack(ARGV[3] ~= '' and {'PX', ARGV[3]} or {}))
    return ARGV[2]
end
if type(old) == 'table' then return {'not a number'} end
if string.match(old, '^%-?%d+$') and string.match(ARGV[1], '^%-?%d+$') then
    local done = redis.pcall('INCRBY', KEYS[1], ARGV[1])
    if type(done) ~= 'table' then return redis.call('GET', KEYS[1]) end
end
local flags, text = string.match(old, '^(f%d+;)(.*)$')
if not flags then flags, text = '', old end
local before, by = tonumber((string.gsub(text, '^d', ''))), tonumber((string.gsub(ARGV[1], '^d', '')))
if not before or not string.match(text, '^[%d%-d]') then return {'not a number'} end
local after = before + by
if string.match(text, '^d') or string.match(ARGV[1], '^d') or after > 9007199254740992 or after < -9007199254740992 then
    text = 'd' .. string.format('%.17g', after)
else
    text = string.format('%.0f', after)
end
redis.call('SET', KEYS[1], flags .. text, 'KEEPTTL')
return flags .. text
"""
#: ARGV: milliseconds, or "".
_EXPIRE: Final = b"""
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[1] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 1
"""
#: ARGV: a cursor, a pattern, how many to look at. Returns the next cursor.
_FLUSH: Final = b"""
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
if #found[2] > 0 then redis.call('UNLINK', unpack(found[2])) end
return found[1]
"""
#: ARGV: the token.
_UNLOCK: Final = b"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""


class Command(NamedTuple):
    """What is sent to Redis, and what its reply becomes."""

    arguments: tuple[bytes, ...]
    finish: Finish


class RedisStore:
    """The dictionary of this name."""

    def __init__(self, name: str) -> None:
        self._prefix = f"greenfcgi:{name}:".encode()
        self._locks = f"greenfcgi-lock:{name}:".encode()

    def get(self, key: bytes) -> Command:
        """See `Store`."""
        return Command((b"GET", self._prefix + key), _value)

    def put(self, key: bytes, value: values.Value, ttl: float, flags: int, mode: int) -> Command:
        """See `Store`."""
        what = mode & ~Mode.SAFE
        arguments = b"SET", self._prefix + key, values.written(value, flags)
        if ttl:
            arguments += b"PX", _milliseconds(ttl)  # type: ignore[assignment]
        if what:
            arguments += (b"NX" if what == Mode.ADD else b"XX",)  # type: ignore[assignment]
        refused = _no(b"exists" if what == Mode.ADD else b"not found")
        return Command(arguments, lambda reply: _failed(reply) or (refused if reply is None else DONE))

    def set(self, key: bytes, value: values.Value) -> Command:
        """See `Store`."""
        return self.put(key, value, 0, 0, Mode.SET)

    def incr(self, key: bytes, by: Number, init: Number | None = None, init_ttl: float = 0) -> Command:
        """See `Store`."""
        first = b"" if init is None else values.written(values.added(init, by))
        milliseconds = _milliseconds(init_ttl) if init_ttl else b""
        return self._script(_INCR, self._prefix + key, (values.written(by), first, milliseconds), _value)

    def delete(self, key: bytes) -> Command:
        """See `Store`."""
        return Command((b"UNLINK", self._prefix + key), lambda reply: _failed(reply) or DONE)

    def expire(self, key: bytes, ttl: float) -> Command:
        """See `Store`."""
        milliseconds = _milliseconds(ttl) if ttl else b""
        return self._script(_EXPIRE, self._prefix + key, (milliseconds,), _done_unless(b"not found"))

    def ttl(self, key: bytes) -> Command:
        """See `Store`."""

        def ttl(reply: Any) -> Any:
            return _failed(reply) or (_no(b"not found") if reply == -2 else max(reply, 0) / 1000)

        return Command((b"PTTL", self._prefix + key), ttl)

    def keys(self, place: bytes, count: int) -> Command:
        """See `Store`. A place is a cursor of Redis."""

        def keys(reply: Any) -> Any:
            if failed := _failed(reply):
                return failed
            cursor, found = reply
            names = [key[len(self._prefix) :] for key in found]
            packed = b"".join(len(name).to_bytes(2, "big") + name for name in names if len(name) < 65536)
            return packed, None if cursor == b"0" else cursor

        # Redis looks at so many keys of all that it has.
        return Command((b"SCAN", place or b"0", b"MATCH", self._pattern(), b"COUNT", b"%d" % BATCH), keys)

    def flush_all(self, place: bytes) -> Command:
        """See `Store`."""

        def flushed(reply: Any) -> Any:
            return _failed(reply) or (None if reply == b"0" else reply)

        arguments = b"EVAL", _FLUSH, b"0", place or b"0", self._pattern(), b"%d" % BATCH
        return Command(arguments, flushed)

    def flush_expired(self, count: int) -> Command:
        """See `Store`. Redis does it by itself."""
        return Command((b"PING",), lambda reply: _failed(reply) or 0)

    def push(self, key: bytes, value: bytes | Number, left: bool) -> Command:
        """See `Store`."""
        arguments = b"LPUSH" if left else b"RPUSH", self._prefix + key, values.written(value)
        return Command(arguments, lambda reply: _failed(reply, b"value not a list") or reply)

    def pop(self, key: bytes, left: bool) -> Command:
        """See `Store`."""
        arguments = b"LPOP" if left else b"RPOP", self._prefix + key
        return Command(arguments, lambda reply: _value(reply, b"value not a list"))

    def length(self, key: bytes) -> Command:
        """See `Store`."""
        arguments = b"LLEN", self._prefix + key
        return Command(arguments, lambda reply: _failed(reply, b"value not a list") or reply)

    def lock(self, name: bytes, token: bytes, ttl: float) -> Command:
        """See `Store`."""
        arguments = b"SET", self._locks + name, token, b"NX", b"PX", _milliseconds(ttl)
        return Command(arguments, lambda reply: _failed(reply) or (_no(b"locked") if reply is None else token))

    def unlock(self, name: bytes, token: bytes) -> Command:
        """See `Store`."""
        return self._script(_UNLOCK, self._locks + name, (token,), _done_unless(b"not locked"))

    @staticmethod
    def _script(script: bytes, key: bytes, arguments: tuple[bytes, ...], finish: Finish) -> Command:
        return Command((b"EVAL", script, b"1", key, *arguments), finish)

    def _pattern(self) -> bytes:
        return self._prefix + b"*"


def _no(message: bytes) -> tuple[None, bytes, int]:
    return None, message, int(Kind.FALSE)


def _milliseconds(seconds: float) -> bytes:
    return b"%d" % max(1, round(seconds * 1000))


def _failed(reply: Any, wrong_type: bytes = b"value is a list") -> tuple[None, bytes, int] | None:
    """What Lua gets for an error of Redis; None where it is none."""
    if not isinstance(reply, hiredis.ReplyError):
        return None
    text = str(reply)
    if text.startswith("WRONGTYPE"):
        return _no(wrong_type)
    return _no(b"no memory" if text.startswith("OOM") else b"redis: " + text.encode("utf-8", "backslashreplace"))


def _value(reply: Any, wrong_type: bytes = b"value is a list") -> Any:
    if reply is None:
        return None
    if failed := _failed(reply, wrong_type):
        return failed
    if isinstance(reply, list):
        # Of a script of ours: why it has none.
        return _no(reply[0])
    found = values.read(reply)
    return _no(b"redis: the value is none of greenfcgi's") if found is None else found


def _done_unless(message: bytes) -> Finish:
    return lambda reply: _failed(reply) or (DONE if reply else _no(message))
