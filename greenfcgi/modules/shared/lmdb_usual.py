"""What is done to a dictionary of LMDB's most of the time, done at once: read, write over what is there, count up.

Each function here makes one for a dictionary and a state, with all that it needs at hand: a script calls it in half of
the time that the general way takes. What is not usual (a new entry, one that is old, another type, no room) it leaves
to that.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from lmdb import MapFullError

from . import values
from .lmdb_entries import ENTRY, HEAD, Entries
from .store import DONE, Kind, Number

#: What goes to Lua.
Outcome = bytes | int | float | None | tuple[bytes | int | float | None, bytes | None, int] | tuple[bytes, bytes | None]

_A_LIST: Final = (None, b"value is a list", int(Kind.FALSE))
#: A head, and behind it an integer.
_COUNTER: Final = struct.Struct(HEAD.format + "q")
#: Sums below it have 64 bits.
_LARGE: Final = 2**62


def reader(
    begin: Callable[..., Any], entries: Entries, use: Callable[[bytes], None], reserve: Callable[[int], bool]
) -> Callable[[bytes], Outcome]:
    """`get`. `begin` begins a transaction; `use` is called with the whole key of an entry that is old.

    `reserve` makes room in the state; where there is none, the answer is False.
    """
    unpack, size, string, a_list, shown = HEAD.unpack_from, HEAD.size, values.STRING, values.LIST, values.shown

    def get(key: bytes) -> Outcome:
        key = ENTRY + key
        txn = begin()
        data = txn.get(key)
        if data is None:
            return None
        expires, stamp, flags, tag = unpack(data)
        if expires and expires <= monotonic():
            return None
        if entries.max_age is not None and txn.id() - stamp > entries.max_age:
            del txn
            use(key)
        if tag == string and not flags:
            return data[size:] if reserve(len(data)) else False
        if tag == a_list:
            return _A_LIST if reserve(size) else False
        found = shown(tag, data, size, flags)
        return found if type(found) is not tuple or type(found[0]) is not bytes or reserve(len(data)) else False

    return get


def writer(
    begin: Callable[..., Any], entries: Entries, otherwise: Callable[[bytes, values.Value], Outcome]
) -> Callable[[bytes, values.Value], Outcome]:
    """`set`."""
    unpack, pack, size, a_list, string = HEAD.unpack_from, HEAD.pack, HEAD.size, values.LIST, values.STRING

    def set_(name: bytes, value: values.Value) -> Outcome:
        key = ENTRY + name
        tag, data = (string, value) if type(value) is bytes else values.packed(value)
        txn = begin(None, None, True)
        try:
            old = txn.get(key)
            if old is not None and len(old) >= size + len(data):
                expires, stamp, _, was = unpack(old)
                if not expires and was != a_list and (entries.max_age is None or txn.id() - stamp <= entries.max_age):
                    txn.put(key, pack(0.0, stamp, 0, tag) + data)
                    txn.commit()
                    return DONE
        except MapFullError:
            # The other way makes room.
            pass
        txn.abort()
        return otherwise(name, value)

    return set_


def counter(
    begin: Callable[..., Any], entries: Entries, otherwise: Callable[[bytes, Number, Number | None, float], Outcome]
) -> Callable[..., Outcome]:
    """`incr`."""
    unpack, pack, size, integer = _COUNTER.unpack, _COUNTER.pack, _COUNTER.size, values.INTEGER

    def incr(name: bytes, by: Number, init: Number | None = None, init_ttl: float = 0) -> Outcome:
        key = ENTRY + name
        txn = begin(None, None, True)
        try:
            old = txn.get(key)
            if old is not None and len(old) == size:
                expires, stamp, flags, tag, before = unpack(old)
                after = before + by
                if (
                    tag == integer
                    and type(after) is int
                    and -_LARGE < after < _LARGE
                    and (not expires or expires > monotonic())
                    and (entries.max_age is None or txn.id() - stamp <= entries.max_age)
                ):
                    txn.put(key, pack(expires, stamp, flags, integer, after))
                    txn.commit()
                    return after
        except MapFullError:
            # The other way makes room.
            pass
        txn.abort()
        return otherwise(name, by, init, init_ttl)

    return incr
