"""Entries of a dictionary in LMDB, the two orders that they stand in, and the room that is made for new ones.

One tree has all of it; the first byte of a key says what it is: ::

    k NAME              an entry: head, value
    m NAME              the same of a lock, which nobody but time and its holder removes
    i LIST PLACE        an element of a list: tag, value
    l STAMP             the key of an entry: the order of use, the least recent one first
    e SECOND KEY        the order of expiry
    g LIST              a list that has been removed, with elements that are still to be: first place, count

    head                when it expires (seconds of the monotonic clock, which all processes share; 0: never), its stamp
                        (0: it has none), flags, tag

A stamp is the number of the transaction that gave it. An entry that is used gets a new one only when it has become old
(an eighth of all entries have come behind it), and only while the dictionary is more than half full, since nothing is
removed before. So what is read often costs a write now and then, and the order is right within that eighth.

LMDB writes each changed page to another place, and the one before is free two transactions later. So even to remove
something takes free pages: a part of them is kept free, and only a few entries go at once. What is in use is counted
every few writes, since to ask costs a microsecond. Once it is too much, each entry that comes in removes others that
take twice as much: those whose time is over, then the least recently used.
"""

from __future__ import annotations

import struct
from time import monotonic
from typing import Any, Final

from . import values

ENTRY: Final = b"k"
LOCK: Final = b"m"
ITEM: Final = b"i"
RECENT: Final = b"l"
EXPIRY: Final = b"e"
GARBAGE: Final = b"g"
#: It has no meaning: to write it makes a transaction count.
TICK: Final = b"t"

HEAD: Final = struct.Struct("=dQIB")
#: A list's value: its number, the place of its first element, how many there are.
LIST: Final = struct.Struct("=QQI")
ITEM_KEY: Final = struct.Struct(">cQQ")
_STAMP: Final = struct.Struct(">cQ")
_SECOND: Final = struct.Struct(">cI")

PAGE: Final = 4096
#: Bytes that an entry takes beside its key, twice, and its value; a part of a page stays empty.
_OVERHEAD: Final = 64
#: The part of the pages that is kept free, and how many at least.
_FREE_PART: Final = 1 / 8
_MIN_FREE: Final = 64
#: The part of the pages that may be written before those in use are counted again; and how many at most.
_UNCOUNTED_PART: Final = 1 / 512
_MAX_UNCOUNTED: Final = 32
#: An entry is old when so large a part of all entries has been written since it was used.
_OLD_PART: Final = 1 / 8
#: So many times what comes in is removed; and where the half of what is kept free is in use, too.
_SURPLUS: Final = 2
_LARGE_SURPLUS: Final = 16
#: Entries that are removed at once: so many, or as many as there are pages in such a part. Each takes some pages.
_MIN_BATCH: Final = 4
_BATCH_PART: Final = 1 / 64
#: Elements of lists that are removed at once; these lie beside each other.
_MAX_ITEMS: Final = 64

#: A transaction of LMDB.
Transaction = Any


class Entries:
    """The entries of one environment, within transactions that the store begins and ends. `size` is in bytes."""

    def __init__(self, environment: Any, size: int) -> None:
        self._environment = environment
        self._tree = environment.open_db()
        pages = size // PAGE
        #: What may be in use, and from where on the order of use counts.
        self._max_used = pages - max(_MIN_FREE, int(pages * _FREE_PART))
        self._is_urgent_from = (self._max_used + pages) // 2
        self._half = pages // 2
        #: Entries that are removed in one transaction.
        self.max_batch = max(_MIN_BATCH, int(pages * _BATCH_PART))
        self._uncounted = max(1, min(_MAX_UNCOUNTED, int(pages * _UNCOUNTED_PART)))
        self._due = 0
        #: What is removed for each byte that comes in; 0 while there is room.
        self._surplus = 0
        #: Entries that were alive have been removed. Whoever wants to know sets it back.
        self.has_forced = False
        #: An entry whose stamp lies further back is old; None while there is room.
        self.max_age: int | None = None

    # One entry

    def write(
        self, txn: Transaction, key: bytes, old: bytes | None, expires: float, flags: int, tag: int, data: bytes
    ) -> None:
        """Put an entry, in place of `old` where there is one. Its use counts."""
        before, stamp = 0.0, 0
        if old is not None:
            before, stamp, _, was = HEAD.unpack_from(old)
            if was == values.LIST and tag != values.LIST:
                self._drop_items(txn, old)
        if before != expires:
            self._move_expiry(txn, key, before, expires)
        txn.put(key, HEAD.pack(expires, self._stamped(txn, key, stamp), flags, tag) + data)

    def _stamped(self, txn: Transaction, key: bytes, stamp: int) -> int:
        """The stamp of an entry that is used; a new one where it has none, or is old."""
        if stamp:
            if self.max_age is None or txn.id() - stamp <= self.max_age:
                return stamp
            txn.delete(_STAMP.pack(RECENT, stamp))
        elif key[:1] == LOCK:
            return 0
        fresh: int = txn.id()
        txn.put(_STAMP.pack(RECENT, fresh), key)
        return fresh

    @staticmethod
    def _move_expiry(txn: Transaction, key: bytes, before: float, after: float) -> None:
        first, second = int(before), int(after)
        if first != second:
            if first:
                txn.delete(_SECOND.pack(EXPIRY, first) + key)
            if second:
                txn.put(_SECOND.pack(EXPIRY, second) + key, b"")

    def remove(self, txn: Transaction, key: bytes, old: bytes) -> None:
        """Remove an entry, which is `old`."""
        expires, stamp, _, tag = HEAD.unpack_from(old)
        if tag == values.LIST:
            self._drop_items(txn, old)
        if stamp:
            txn.delete(_STAMP.pack(RECENT, stamp))
        self._move_expiry(txn, key, expires, 0.0)
        txn.delete(key)

    @staticmethod
    def _drop_items(txn: Transaction, old: bytes) -> None:
        """The elements of a list go, a few at a time."""
        number, first, count = LIST.unpack_from(old, HEAD.size)
        if count > _MAX_ITEMS:
            txn.put(_STAMP.pack(GARBAGE, number), LIST.pack(number, first, count))
            return
        for place in range(first, first + count):
            txn.delete(ITEM_KEY.pack(ITEM, number, place))

    def clear(self, txn: Transaction) -> None:
        """Remove everything but the locks."""
        kept = []
        cursor = txn.cursor()
        if cursor.set_range(LOCK):
            for key, data in cursor:
                if key[:1] != LOCK:
                    break
                kept.append((key, data))
        del cursor
        txn.drop(self._tree, delete=False)
        for key, data in kept:
            txn.put(key, data)
            self._move_expiry(txn, key, 0.0, HEAD.unpack_from(data)[0])

    # Room

    def need(self, txn: Transaction, key: bytes, size: int, is_safe: bool) -> bool:
        """`size` bytes are about to be written for the entry of this key: make room where there is none.

        False where that is not possible. `is_safe`: nothing goes whose time is not over.
        """
        self._due -= 1 + size // PAGE
        if self._due <= 0:
            self.count(txn)
        if not self._surplus:
            return True
        if is_safe:
            return self._remove_garbage(txn) + self.remove_expired(txn, size, self.max_batch)[1] >= size
        self.evict(txn, self._surplus * size, key)
        return True

    def count(self, txn: Transaction) -> None:
        """Count the pages that are in use."""
        found = txn.stat(self._tree)
        used = found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
        self._surplus = 0 if used <= self._max_used else _SURPLUS if used < self._is_urgent_from else _LARGE_SURPLUS
        self.max_age = 1 + int(found["entries"] / 2 * _OLD_PART) if used > self._half else None
        self._due = 1 if self._surplus else self._uncounted

    def evict(self, txn: Transaction, size: int, but: bytes) -> int:
        """Remove entries that took `size` bytes together: those whose time is over, then the least recently used.

        At most `max_batch`. Returns the bytes of all that went. The entry of the key `but` stays.
        """
        gone = self._remove_garbage(txn)
        removed, expired = self.remove_expired(txn, size - gone, self.max_batch)
        gone += expired
        while gone < size and removed < self.max_batch:
            cursor = txn.cursor()
            found = cursor.set_range(RECENT) and cursor.key()[:1] == RECENT
            if found and cursor.value() == but:
                found = cursor.next() and cursor.key()[:1] == RECENT
            if not found:
                break
            key = cursor.value()
            del cursor
            old = txn.get(key)
            self.remove(txn, key, old)
            gone += size_of(key, old)
            removed += 1
            self.has_forced = True
        return gone

    def remove_expired(self, txn: Transaction, size: float, count: int) -> tuple[int, int]:
        """Remove entries whose time is over, until `count` or `size` bytes have gone. Returns how many, and bytes."""
        now = monotonic()
        removed = gone = 0
        while removed < count and gone < size:
            cursor = txn.cursor()
            if not cursor.set_range(EXPIRY):
                break
            found = cursor.key()
            del cursor
            # Those of the second that has begun may have some of it left.
            if found[:1] != EXPIRY or _SECOND.unpack_from(found)[1] >= int(now):
                break
            key = found[_SECOND.size :]
            old = txn.get(key)
            self.remove(txn, key, old)
            removed += 1
            gone += size_of(key, old)
        return removed, gone

    @staticmethod
    def _remove_garbage(txn: Transaction) -> int:
        """Remove elements of lists that are gone. Returns their bytes."""
        cursor = txn.cursor()
        if not cursor.set_range(GARBAGE) or cursor.key()[:1] != GARBAGE:
            return 0
        found, (number, first, count) = cursor.key(), LIST.unpack(cursor.value())
        del cursor
        gone = 0
        for place in range(first, first + min(count, _MAX_ITEMS)):
            data = txn.pop(ITEM_KEY.pack(ITEM, number, place))
            gone += len(data) + _OVERHEAD
        if count > _MAX_ITEMS:
            txn.put(found, LIST.pack(number, first + _MAX_ITEMS, count - _MAX_ITEMS))
        else:
            txn.delete(found)
        return gone


def size_of(key: bytes, data: bytes) -> int:
    """Bytes that an entry takes."""
    return 2 * len(key) + len(data) + _OVERHEAD
