"""What a dictionary can do, whoever keeps it; and what of it goes to Lua.

Two stores meet this interface: `lmdb_store` answers at once, with an `Outcome`, and `redis_store` with a command and
what becomes of its reply, which `redis_connection` waits for. Hence the type of an answer is open here.

A function of a module returns to Lua a value, a message, and a number that says what the value is where it does not
speak for itself (`Kind`). A number as such is a value here, so that to wait has a kind of its own, too.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Protocol, TypeVar

Answer = TypeVar("Answer", covariant=True)
#: What is kept, or the amount of `incr`: what Lua calls an integer, and any other number.
Number = int | float

#: Bytes of a key, and of the name of a lock: LMDB takes 511, and some of them are the order's.
MAX_KEY: Final = 500
#: Keys that are looked at in one call, or entries that are removed.
BATCH: Final = 256


class Kind(IntEnum):
    """The third result of a function, as `dictionary.lua` knows it; eight times the flags of a value are added.

    GONE: the client has. WAIT: the value is the number to call `wait` with, after the place has been logged. FORCED: as
    TRUE, or the value, and others have been removed to make room.
    """

    GONE = 0
    FALSE = 1
    TRUE = 2
    WAIT = 3
    FORCED = 4
    VALUE = 5


#: What Lua gets where something has been done.
DONE: Final = (None, None, int(Kind.TRUE))
#: The factor of the flags.
FLAGS: Final = 8


class Mode(IntEnum):
    """What `put` does; SAFE is added where nothing may be removed to make room."""

    SET = 0
    ADD = 1
    REPLACE = 2
    SAFE = 4


class Store(Protocol[Answer]):
    """One dictionary. Keys are bytes of at most `MAX_KEY`, values are encoded by `values`, a `ttl` is in seconds.

    `ttl` 0 is for ever. Messages are those of OpenResty's ngx.shared.DICT.
    """

    def get(self, key: bytes) -> Answer:
        """The value; None where there is none."""

    def put(self, key: bytes, value: bytes | bool | Number, ttl: float, flags: int, mode: int) -> Answer:
        """Set, add or replace. TRUE or FORCED; FALSE with "exists", "not found" or "no memory"."""

    def set(self, key: bytes, value: bytes | bool | Number) -> Answer:
        """As `put` for ever, without flags."""

    def incr(self, key: bytes, by: Number, init: Number | None = None, init_ttl: float = 0) -> Answer:
        """Add to a number, which is the answer, FORCED perhaps; None with "not found", "not a number", "no memory"."""

    def delete(self, key: bytes) -> Answer:
        """TRUE, also where there was none."""

    def expire(self, key: bytes, ttl: float) -> Answer:
        """TRUE; None with "not found"."""

    def ttl(self, key: bytes) -> Answer:
        """Seconds that are left, 0 for ever; None with "not found"."""

    def keys(self, place: bytes, count: int) -> Answer:
        """Keys from a place on, b"" at first: each with its length in two bytes before it; and the next place, or None.

        At most `count`, and there may be fewer, or none, before the end. Some may come twice.
        """

    def flush_all(self, place: bytes) -> Answer:
        """Remove what is there, from a place on as in `keys`. Locks stay. The next place, or None."""

    def flush_expired(self, count: int) -> Answer:
        """Remove at most `count` entries whose time is over. Their number; fewer than `count`: no more are there."""

    def push(self, key: bytes, value: bytes | Number, left: bool) -> Answer:
        """Put a value at an end of a list, which is made where there is none.

        Its new length; None with "value not a list", "no memory".
        """

    def pop(self, key: bytes, left: bool) -> Answer:
        """Take a value from an end of a list; None where there is none, None with "value not a list"."""

    def length(self, key: bytes) -> Answer:
        """The length of a list, 0 where there is none; None with "value not a list"."""

    def lock(self, name: bytes, token: bytes, ttl: float) -> Answer:
        """The token, which is kept for `ttl`; None with "locked" where another one is, None with "no memory"."""

    def unlock(self, name: bytes, token: bytes) -> Answer:
        """TRUE; None with "not locked" where that token is not kept."""


#: The functions that Lua calls with the number of a dictionary first; the others have one for each.
METHODS: Final = (
    "put",
    "delete",
    "expire",
    "ttl",
    "keys",
    "flush_all",
    "flush_expired",
    "push",
    "pop",
    "length",
    "lock",
    "unlock",
)
