"""The memory of a dictionary that LMDB keeps: bounded, the oldest first, and what is over before that."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from greenfcgi.modules.shared.lmdb_store import LmdbStore
from greenfcgi.modules.shared.store import Kind, Mode

from ..support.inside import Inside, Request
from ..support.processes import resident

SIZE = 2**20
DONE = {Kind.TRUE, Kind.FORCED}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    """An empty dictionary of a megabyte."""
    found = LmdbStore(str(tmp_path / "things"), SIZE)
    yield found
    found.close()


def put(store: LmdbStore, key: str, value: bytes = b"x" * 60, ttl: float = 0, mode: int = Mode.SET) -> int:
    """The kind of what `put` answers."""
    outcome = store.put(key.encode(), value, ttl, 0, mode)
    assert isinstance(outcome, tuple)
    kind = outcome[2]  # type: ignore[misc]
    assert isinstance(kind, int)
    return kind


def has(store: LmdbStore, key: str) -> bool:
    """There is such an entry. To ask makes it no younger here: nothing is written."""
    return store.ttl(key.encode()) == 0


def test_the_oldest_go_first(store: LmdbStore) -> None:
    """In the order in which they came, and no more of them than must."""
    kinds = {put(store, f"k{number}") for number in range(20_000)}
    assert kinds == DONE
    there = [number for number in range(20_000) if has(store, f"k{number}")]
    assert there == [*range(there[0], 20_000)]
    # 60 bytes each, beside a key that is there twice.
    assert len(there) > SIZE / 260


def test_what_is_used_stays(store: LmdbStore) -> None:
    """Read or written now and then; what is neither goes."""
    for name in ("read", "written", "counted", "unused"):
        put(store, name)
    store.put(b"counted", 0, 0, 0, Mode.SET)
    for number in range(30_000):
        put(store, f"k{number}")
        if number % 50 == 0:
            assert store.get(b"read") is not None
            put(store, "written")
            store.incr(b"counted", 1, None, 0)
    assert [has(store, name) for name in ("read", "written", "counted", "unused")] == [True, True, True, False]
    assert store.get(b"counted") == 600


def test_what_is_over_goes_before(store: LmdbStore) -> None:
    """However young it is: nothing that is alive goes for a while then."""
    number = 0
    while put(store, f"old{number}") == Kind.TRUE:
        number += 1
    # In place of some of those: whose time is over in the second that has begun.
    for expiring in range(500):
        put(store, f"e{expiring}", ttl=0.001)
    oldest = next(index for index in range(number) if has(store, f"old{index}"))
    while not put(store, "new", b"y" * 60) or store.ttl(b"e499") != (None, b"not found", Kind.FALSE):
        pass
    wait_a_second(store)
    assert {put(store, f"n{index}") for index in range(100)} == {Kind.TRUE}
    assert has(store, f"old{oldest}")


def wait_a_second(store: LmdbStore) -> None:
    """Until the second is over in which things have expired."""
    second = int(monotonic())
    while int(monotonic()) <= second:
        store.get(b"nothing")


def test_safe_ones_remove_nothing(store: LmdbStore) -> None:
    """They fail where there is no room, and do where time has made some."""
    number = 0
    while put(store, f"k{number}", mode=Mode.SAFE) == Kind.TRUE:
        number += 1
    assert number > 2000
    assert all(has(store, f"k{index}") for index in range(number))
    assert store.put(b"more", b"x", 0, 0, Mode.ADD | Mode.SAFE) == (None, b"no memory", Kind.FALSE)
    assert put(store, "k0", b"y" * 60, mode=Mode.SAFE) == Kind.TRUE
    for index in range(200):
        store.expire(f"k{index}".encode(), 0.001)
    wait_a_second(store)
    assert put(store, "more", mode=Mode.SAFE) == Kind.TRUE


def test_whatever_fits_is_kept(store: LmdbStore) -> None:
    """Values of all sizes in any order, each there when it has been set; only what is too large is refused."""
    for number in range(2000):
        key, value = f"k{number % 300}", bytes((number % 256,)) * ((number * 7919) % (SIZE // 4))
        assert put(store, key, value) in DONE
        assert store.get(key.encode()) == value
    assert put(store, "large", b"x" * (SIZE // 4 + 1)) == Kind.FALSE
    assert put(store, "large", b"x" * (SIZE // 4)) in DONE


def test_lists_go_too(store: LmdbStore) -> None:
    """With all of their elements, a few at a time; a queue that is used stays."""
    for number in range(3000):
        store.push(b"old", b"x" * 50, number % 2 == 0)
    for number in range(40_000):
        assert store.push(b"queue", b"%d" % number, True) == min(number, 10) + 1
        if number >= 10:
            assert store.pop(b"queue", False) == b"%d" % (number - 10)
        assert put(store, f"k{number}") in DONE
    assert store.length(b"old") == 0
    assert store.length(b"queue") == 10


def test_locks_stay(store: LmdbStore) -> None:
    """Nobody gets one because others wrote much, or removed all there is."""
    assert store.lock(b"job", b"token", 1000) == b"token"
    for number in range(20_000):
        put(store, f"k{number}")
    store.flush_all(b"")
    assert store.lock(b"job", b"other", 1000) == (None, b"locked", Kind.FALSE)
    assert store.unlock(b"job", b"token") == (None, None, Kind.TRUE)


def test_memory_stays(tmp_path: Path) -> None:
    """Over 100,000 sets by a script: the process's, the state's and the dictionary's."""
    inside = Inside(tmp_path, settings='[lua]\nmemory = "2M"\n[shared]\nthings = "1M"\n')
    state = inside.load(
        textwrap.dedent("""
        local d = require("greenfcgi.shared").things
        function main(env, con)
            local from = tonumber(env.QUERY_STRING)
            for i = from, from + 9999 do assert(d:set("key" .. i, ("v"):rep(i % 200), i % 3 == 0 and 0.01 or nil)) end
            con:puts(#d:keys(0) > 100 and "done" or "lost")
        end
        """)
    )
    sizes = []
    for turn in range(10):
        assert inside.run(state, Request({"QUERY_STRING": str(turn * 10_000)})).text == "done"
        sizes.append(resident())
    assert sizes[-1] - sizes[2] < 2**20
    inside.close()
