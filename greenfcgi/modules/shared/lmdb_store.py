"""A dictionary that LMDB keeps, in a file that all processes of the server have in their memory.

Each operation is one transaction. A write waits for that of another process, which is a matter of microseconds: nothing
gives way to other greenlets within one. A process that is killed in one leaves what was there before.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Final

import lmdb

from ...system.portable import disk_room
from . import values
from .lmdb_entries import ENTRY, HEAD, ITEM, ITEM_KEY, LIST, LOCK, PAGE, TICK, Entries, Transaction, size_of
from .lmdb_readers import Readers
from .lmdb_usual import Outcome, counter, reader, writer
from .store import BATCH, DONE, Kind, Mode, Number

_FORCED: Final = (None, None, int(Kind.FORCED))
_EXISTS: Final = (None, b"exists", int(Kind.FALSE))
_ABSENT: Final = (None, b"not found", int(Kind.FALSE))
_NO_MEMORY: Final = (None, b"no memory", int(Kind.FALSE))
_NOT_A_NUMBER: Final = (None, b"not a number", int(Kind.FALSE))
_NO_LIST: Final = (None, b"value not a list", int(Kind.FALSE))
_LOCKED: Final = (None, b"locked", int(Kind.FALSE))
_NOT_LOCKED: Final = (None, b"not locked", int(Kind.FALSE))

#: Processes that may read at a time, each by two of their transactions.
_MAX_READERS: Final = 1022
#: The largest value, as a part of the dictionary: the one before it is there, too, until the next one is.
_MAX_VALUE: Final = 1 / 4
#: Bytes of entries that are removed at least where no page is free.
_MIN_ROOM: Final = 16 * PAGE
#: Transactions until pages are free that others have left.
_DELAY: Final = 2
#: Times that a write is tried where nothing is left to remove.
_TRIES: Final = 8
_ALL: Final = float("inf")
#: The place of a new list's first element: there is as much before it as behind it.
_MIDDLE: Final = 2**62


class LmdbStore:
    """The dictionary in the file `path`, which is made unless it is there, of `size` bytes. Raises `OSError`.

    To be opened once in a process.
    """

    def __init__(self, path: str, size: int) -> None:
        self._environment: Any = _opened(path, size)
        self._begin: Callable[..., Transaction] = self._environment.begin
        self._entries = Entries(self._environment, size)
        self._readers = Readers(self._environment)
        self._max_value = int(size * _MAX_VALUE)
        self.get = reader(self._begin, self._entries, self._use, lambda size: True)
        self.beat()

    def usual(
        self, general: Callable[[Callable[..., Outcome]], Callable[..., Any]], reserve: Callable[[int], bool]
    ) -> dict[str, Callable[..., Any]]:
        """`get`, `set` and `incr` for one state, in half of the time.

        `general` makes of another function what its Lua calls, and `reserve` makes room there.
        """
        return {
            "get": reader(self._begin, self._entries, self._use, reserve),
            "set": writer(self._begin, self._entries, general(self.set)),
            "incr": counter(self._begin, self._entries, general(self.incr)),
        }

    def beat(self) -> None:
        """At each heartbeat: forget readers that have been killed, and see how full it is."""
        self._environment.reader_check()
        with self._begin() as txn:
            self._entries.count(txn)

    def close(self) -> None:
        """The process does not use it any more."""
        self._environment.close()

    # Values

    def _use(self, key: bytes) -> None:
        """An entry that has become old is used."""
        txn = self._begin(None, None, True)
        try:
            old = txn.get(key)
            if old is not None:
                expires, _, flags, tag = HEAD.unpack_from(old)
                self._entries.write(txn, key, old, expires, flags, tag, old[HEAD.size :])
            txn.commit()
        except lmdb.MapFullError:
            # Then it stays old.
            txn.abort()

    def set(self, key: bytes, value: values.Value) -> Outcome:
        """See `Store`."""
        return self._put(ENTRY + key, *values.packed(value), 0.0, 0, Mode.SET)

    def put(self, key: bytes, value: values.Value, ttl: float, flags: int, mode: int) -> Outcome:
        """See `Store`."""
        tag, data = values.packed(value)
        return self._put(ENTRY + key, tag, data, ttl, flags, mode)

    def _put(self, key: bytes, tag: int, data: bytes, ttl: float, flags: int, mode: int) -> Outcome:
        size = size_of(key, data)
        if len(data) > self._max_value:
            return _NO_MEMORY
        what, is_safe = mode & ~Mode.SAFE, mode >= Mode.SAFE

        def put(txn: Transaction) -> Outcome:
            now = monotonic() if ttl or what else 0.0
            old = txn.get(key)
            if what and what == (Mode.ADD if _is_alive(old, now) else Mode.REPLACE):
                return _EXISTS if what == Mode.ADD else _ABSENT
            if (old is None or len(old) < len(data)) and not self._entries.need(txn, key, size, is_safe):
                return _NO_MEMORY
            self._entries.write(txn, key, old, now + ttl if ttl else 0.0, flags, tag, data)
            return _FORCED if self._entries.has_forced else DONE

        return self._write(put, key, size, is_safe)

    def incr(self, key: bytes, by: Number, init: Number | None = None, init_ttl: float = 0) -> Outcome:
        """See `Store`."""
        key = ENTRY + key

        def incr(txn: Transaction) -> Outcome:
            old = txn.get(key)
            now = monotonic()
            if old is not None:
                expires, _, flags, tag = HEAD.unpack_from(old)
                if not expires or expires > now:
                    before = values.number(tag, old, HEAD.size)
                    if before is None:
                        return _NOT_A_NUMBER
                    after = values.added(before, by)
                    self._entries.write(txn, key, old, expires, flags, *values.packed(after))
                    return after
            if init is None:
                return _ABSENT
            after = values.added(init, by)
            if old is None:
                self._entries.need(txn, key, size_of(key, b""), False)
            self._entries.write(txn, key, old, now + init_ttl if init_ttl else 0.0, 0, *values.packed(after))
            return (after, None, int(Kind.FORCED)) if self._entries.has_forced else after

        return self._write(incr, key, size_of(key, b""))

    def delete(self, key: bytes) -> Outcome:
        """See `Store`."""
        key = ENTRY + key

        def delete(txn: Transaction) -> Outcome:
            old = txn.get(key)
            if old is not None:
                self._entries.remove(txn, key, old)
            return DONE

        return self._write(delete, key, 0)

    # Time

    def expire(self, key: bytes, ttl: float) -> Outcome:
        """See `Store`."""
        key = ENTRY + key

        def expire(txn: Transaction) -> Outcome:
            old, now = txn.get(key), monotonic()
            if not _is_alive(old, now):
                return _ABSENT
            _, _, flags, tag = HEAD.unpack_from(old)
            self._entries.write(txn, key, old, now + ttl if ttl else 0.0, flags, tag, old[HEAD.size :])
            return DONE

        return self._write(expire, key, 0)

    def ttl(self, key: bytes) -> Outcome:
        """See `Store`."""
        data, now = self._begin().get(ENTRY + key), monotonic()
        if not _is_alive(data, now):
            return _ABSENT
        expires: float = HEAD.unpack_from(data)[0]
        return expires - now if expires else 0

    # All of them

    def keys(self, place: bytes, count: int) -> Outcome:
        """See `Store`. A place is the last key that has been looked at."""
        now, found = monotonic(), []
        txn = self._begin()
        cursor = txn.cursor()
        key = ENTRY + place
        if cursor.set_range(key + b"\0" if place else key):
            for looked_at, (key, data) in enumerate(cursor):
                if key[:1] != ENTRY:
                    break
                if _is_alive(data, now):
                    found.append((len(key) - 1).to_bytes(2, "big") + key[1:])
                if len(found) == count or looked_at == BATCH:
                    return b"".join(found), key[1:]
        return b"".join(found), None

    def flush_all(self, place: bytes) -> Outcome:
        """See `Store`. All at once."""

        def clear(txn: Transaction) -> Outcome:
            self._entries.clear(txn)
            return None

        return self._write(clear, b"", 0)

    def flush_expired(self, count: int) -> Outcome:
        """See `Store`."""
        removed = 0
        while removed < count:
            wanted = min(count - removed, self._entries.max_batch)
            gone = self._write(partial(self._remove_expired, wanted), b"", 0)
            if not isinstance(gone, int):
                return gone
            removed += gone
            if gone < wanted:
                break
        return removed

    def _remove_expired(self, count: int, txn: Transaction) -> Outcome:
        return self._entries.remove_expired(txn, _ALL, count)[0]

    # Lists

    def push(self, key: bytes, value: bytes | Number, left: bool) -> Outcome:
        """See `Store`."""
        key = ENTRY + key
        tag, data = values.packed(value)
        if len(data) > self._max_value:
            return _NO_MEMORY
        item, size = bytes((tag,)) + data, size_of(key, data)

        def push(txn: Transaction) -> Outcome:
            old = txn.get(key)
            expires, flags, number, first, count = 0.0, 0, txn.id(), _MIDDLE, 0
            if old is not None and _is_alive(old, monotonic()):
                expires, _, flags, tag = HEAD.unpack_from(old)
                if tag != values.LIST:
                    return _NO_LIST
                number, first, count = LIST.unpack_from(old, HEAD.size)
            elif old is not None:
                self._entries.remove(txn, key, old)
                old = None
            self._entries.need(txn, key, size, False)
            if left:
                first -= 1
            txn.put(ITEM_KEY.pack(ITEM, number, first if left else first + count), item)
            head = LIST.pack(number, first, count + 1)
            self._entries.write(txn, key, old, expires, flags, values.LIST, head)
            return count + 1

        return self._write(push, key, size)

    def pop(self, key: bytes, left: bool) -> Outcome:
        """See `Store`."""
        key = ENTRY + key

        def pop(txn: Transaction) -> Outcome:
            old = txn.get(key)
            if old is None or not _is_alive(old, monotonic()):
                return None
            expires, _, flags, tag = HEAD.unpack_from(old)
            if tag != values.LIST:
                return _NO_LIST
            number, first, count = LIST.unpack_from(old, HEAD.size)
            data = txn.pop(ITEM_KEY.pack(ITEM, number, first if left else first + count - 1))
            head = LIST.pack(number, first + 1 if left else first, count - 1)
            if count == 1:
                self._entries.remove(txn, key, old[: HEAD.size] + head)
            else:
                self._entries.write(txn, key, old, expires, flags, tag, head)
            return values.shown(data[0], data, 1)

        return self._write(pop, key, 0)

    def length(self, key: bytes) -> Outcome:
        """See `Store`."""
        data = self._begin().get(ENTRY + key)
        if not _is_alive(data, monotonic()):
            return 0
        if HEAD.unpack_from(data)[3] != values.LIST:
            return _NO_LIST
        count: int = LIST.unpack_from(data, HEAD.size)[2]
        return count

    # Locks

    def lock(self, name: bytes, token: bytes, ttl: float) -> Outcome:
        """See `Store`."""
        found = self._put(LOCK + name, values.STRING, token, ttl, 0, Mode.ADD)
        return token if found in (DONE, _FORCED) else _LOCKED if found == _EXISTS else found

    def unlock(self, name: bytes, token: bytes) -> Outcome:
        """See `Store`."""
        key = LOCK + name

        def unlock(txn: Transaction) -> Outcome:
            old = txn.get(key)
            if old is None or not _is_alive(old, monotonic()) or old[HEAD.size :] != token:
                return _NOT_LOCKED
            self._entries.remove(txn, key, old)
            return DONE

        return self._write(unlock, key, 0)

    # Transactions

    def _write(self, work: Callable[[Transaction], Outcome], key: bytes, size: int, is_safe: bool = False) -> Outcome:
        """Do `work` in a transaction; where it finds no free page, once more when there are some.

        `size` bytes are to be written for the entry of this key. `is_safe`: nothing is removed for it.
        """
        self._entries.has_forced = False
        failed = 0
        while failed < _TRIES:
            txn = self._begin(None, None, True)
            try:
                outcome = work(txn)
                txn.commit()
                return outcome
            except lmdb.MapFullError:
                txn.abort()
            except BaseException:
                txn.abort()
                raise
            if not self._readers.wait():
                break
            failed += 1
            if self._free_pages(key, size, is_safe or failed <= _DELAY):
                failed = _DELAY
        return _NO_MEMORY

    def _free_pages(self, key: bytes, size: int, is_safe: bool) -> bool:
        """Remove entries, unless `is_safe`, in a transaction of its own. Returns whether there were any.

        Pages are free in the transaction after the next: so this also counts where nothing is removed.
        """
        try:
            with self._begin(None, None, True) as txn:
                gone = 0 if is_safe else self._entries.evict(txn, 2 * size + _MIN_ROOM, key)
                txn.put(TICK, b"")
                return gone > 0
        except lmdb.MapFullError:
            # What the next one finds may be enough.
            return False


def _is_alive(data: bytes | None, now: float) -> bool:
    """There is an entry, and its time is not over."""
    if data is None:
        return False
    expires: float = HEAD.unpack_from(data)[0]
    return not expires or expires > now


def _opened(path: str, size: int) -> Any:
    """An environment whose file takes all of its room now: a page that cannot be had later would end the process."""
    try:
        environment = lmdb.open(
            path, map_size=size, subdir=False, mode=0o600, sync=False, metasync=False, writemap=True, meminit=False,
            max_readers=_MAX_READERS, max_spare_txns=2,
        )  # fmt: skip
    except lmdb.Error as problem:
        raise OSError(errno.EIO, str(problem)) from None
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            disk_room.reserve(file, size)
        finally:
            os.close(file)
    except OSError:
        environment.close()
        raise
    return environment
