"""The pool: who has which state. The states here are fakes; no Lua runs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from greenfcgi.scripts.pool import HALF_LIFE, Pool

from ..support.running import PATIENCE


class Refusal(Exception):
    """A script that does not load."""


class Fake:
    """A state that notices two users at a time, and use after its end."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.is_reusable = True
        self.closed = False
        self.users = 0
        #: Closing waits for it, as a `shutdown` of a script can.
        self.may_close = Event()
        self.may_close.set()

    def close(self) -> None:
        """The pool lets it go."""
        assert not self.closed, "closed twice"
        assert not self.users, "closed while in use"
        self.closed = True
        self.may_close.wait()

    def __enter__(self) -> Fake:
        assert not self.closed, "used after its end"
        assert not self.users, "two users at a time"
        self.users += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.users -= 1


class Maker:
    """Makes states, notes each, and fails or waits when it is told to."""

    def __init__(self) -> None:
        self.made: list[Fake] = []
        self.broken: set[str] = set()
        #: Making waits for it, as an `init` of a script can.
        self.may_make = Event()
        self.may_make.set()

    def __call__(self, script: str) -> Fake:
        self.may_make.wait()
        if script in self.broken:
            raise Refusal(script)
        self.made.append(Fake(script))
        return self.made[-1]

    @property
    def live(self) -> Counter[str]:
        """How many states of each script are not closed."""
        return Counter(state.script for state in self.made if not state.closed)


@pytest.fixture
def maker() -> Maker:
    """What makes the states."""
    return Maker()


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """A test whose greenlets wait for each other for ever fails."""
    with gevent.Timeout(PATIENCE):
        yield


def settle() -> None:
    """Let every other greenlet go on until all of them wait."""
    gevent.idle()


class Visit:
    """A greenlet that checks out a state, and holds it until `leave`."""

    def __init__(self, pool: Pool[str, Fake], script: str) -> None:
        self._pool = pool
        self._script = script
        self._leave = Event()
        self.state: Fake | None = None
        self.failed = False
        self._greenlet = gevent.spawn(self._visit)
        settle()

    def _visit(self) -> None:
        try:
            state = self._pool.check_out(self._script)
        except Refusal:
            self.failed = True
            return
        with state:
            self.state = state
            self._leave.wait()
        self._pool.check_in(state, self._script)

    @property
    def waits(self) -> bool:
        """It has got nothing yet."""
        return self.state is None and not self.failed

    def leave(self) -> None:
        """Give the state back."""
        self._leave.set()
        self._greenlet.join()
        settle()


def visit(pool: Pool[str, Fake], *scripts: str) -> list[Visit]:
    """Visits that begin one after the other."""
    return [Visit(pool, script) for script in scripts]


def use(pool: Pool[str, Fake], script: str, times: int = 1) -> Fake:
    """So many requests, one after the other."""
    for _ in range(times):
        state = pool.check_out(script)
        with state:
            pass
        pool.check_in(state, script)
    return state


# Idle states


def test_a_state_is_used_again(maker: Maker) -> None:
    """Requests that come one after the other share one state."""
    pool = Pool(maker, 10, 10)
    assert use(pool, "a") is use(pool, "a", 100)
    assert len(pool) == pool.count("a") == len(maker.made) == 1


def test_the_state_used_last_is_used_first(maker: Maker) -> None:
    """Of several idle states the one with the warmest memory is taken."""
    pool = Pool(maker, 10, 10)
    first, second, third = visit(pool, "a", "a", "a")
    for visitor in (second, first, third):
        visitor.leave()
    taken = [visitor.state for visitor in visit(pool, "a", "a", "a")]
    assert taken == [third.state, first.state, second.state]


def test_scripts_do_not_share_states(maker: Maker) -> None:
    """A state holds one script for good."""
    pool = Pool(maker, 10, 10)
    assert use(pool, "a").script == "a"
    assert use(pool, "b").script == "b"
    assert use(pool, "a") is maker.made[0]
    assert (pool.count("a"), pool.count("b"), pool.count("c"), len(pool)) == (1, 1, 0, 2)


def test_the_idle_ones_can_be_listed(maker: Maker) -> None:
    """`idle` tells the states that nobody uses."""
    pool = Pool(maker, 10, 10)
    (held,) = visit(pool, "a")
    assert list(pool.idle()) == []
    idle = use(pool, "b")
    assert list(pool.idle()) == [idle]
    held.leave()
    assert set(pool.idle()) == {idle, held.state}


# Limits


def test_clones_are_made_on_demand_up_to_their_limit(maker: Maker) -> None:
    """So many requests of one script run at once, and the next one waits although the pool has room."""
    pool = Pool(maker, 10, 3)
    visitors = visit(pool, "a", "a", "a", "a")
    assert [visitor.waits for visitor in visitors] == [False, False, False, True]
    assert (pool.count("a"), pool.waiting) == (3, 1)
    (other,) = visit(pool, "b")
    assert not other.waits, "another script has clones of its own"
    visitors[1].leave()
    assert visitors[3].state is visitors[1].state
    assert (pool.count("a"), pool.waiting) == (3, 0)


def test_a_full_pool_lets_the_least_popular_idle_state_go(maker: Maker) -> None:
    """The script with the fewest requests loses a state to the one that needs it."""
    pool = Pool(maker, 3, 3)
    use(pool, "often", 5)
    use(pool, "rarely", 2)
    use(pool, "usually", 3)
    use(pool, "new")
    assert maker.live == {"often": 1, "usually": 1, "new": 1}
    assert (len(pool), pool.count("rarely")) == (3, 0)


def test_of_two_states_of_the_least_popular_script_the_older_one_goes(maker: Maker) -> None:
    """The state that was idle longest is the coldest."""
    pool = Pool(maker, 2, 2)
    first, second = visit(pool, "a", "a")
    second.leave()
    first.leave()
    use(pool, "b")
    assert [state.closed for state in maker.made] == [False, True, False]


def test_a_state_in_use_is_never_evicted(maker: Maker) -> None:
    """When every state of a full pool is in use, the request waits, also for the state of another script."""
    pool = Pool(maker, 2, 2)
    first, second, third = visit(pool, "a", "b", "c")
    assert (third.waits, pool.waiting, len(pool)) == (True, 1, 2)
    second.leave()
    assert third.state is not None
    assert third.state.script == "c"
    assert maker.live == {"a": 1, "c": 1}
    assert not first.waits


@pytest.mark.parametrize(("today", "gone"), [(1, "today"), (2, "yesterday")])
def test_popularity_decays_with_age(maker: Maker, today: int, gone: str) -> None:
    """Half of it is gone after each half-life: 100 requests count 100 / 64 six half-lives later."""
    pool = Pool(maker, 2, 2)
    use(pool, "yesterday", 100)
    pool.decay(6 * HALF_LIFE)
    use(pool, "today", today)
    use(pool, "new")
    assert pool.count(gone) == 0
    assert len(pool) == 2


def test_many_short_ages_are_one_long_age(maker: Maker) -> None:
    """How often housekeeping comes round does not matter."""
    pool = Pool(maker, 2, 2)
    use(pool, "a", 65)
    for _ in range(600):
        pool.decay(HALF_LIFE / 100)
    use(pool, "b", 2)
    use(pool, "c")
    assert pool.count("a") == 0, "65 / 64 is less than 2"


def test_a_script_that_holds_nothing_is_forgotten(maker: Maker) -> None:
    """A server that has seen thousands of scripts keeps nothing of those that are gone, popularity included."""
    pool = Pool(maker, 1, 1)
    use(pool, "a", 50)
    use(pool, "b")
    pool.decay(1)
    use(pool, "a")
    use(pool, "b", 2)
    assert maker.live == {"b": 1}
    assert len(pool._by_script) == 2
    pool.decay(1)
    assert list(pool._by_script) == ["b"]


def test_a_script_that_is_waited_for_is_not_forgotten(maker: Maker) -> None:
    """Housekeeping leaves the place of a request that waits."""
    pool = Pool(maker, 1, 1)
    first, second = visit(pool, "a", "b")
    pool.decay(1)
    first.leave()
    assert second.state is not None
    second.leave()
    assert (len(pool), pool.count("b")) == (1, 1)


# Waiting


def test_first_come_is_first_served(maker: Maker) -> None:
    """Requests that wait for a state get it in their order, also when they want different scripts."""
    pool = Pool(maker, 1, 1)
    (holder,) = visit(pool, "a")
    waiting = visit(pool, "b", "a", "c", "a")
    while waiting:
        holder.leave()
        assert [visitor.waits for visitor in waiting] == [False] + [True] * (len(waiting) - 1)
        holder = waiting.pop(0)
    assert pool.waiting == 0


def test_one_that_waits_for_its_script_does_not_hold_up_others(maker: Maker) -> None:
    """A request whose script has all its clones out is passed over by one that can use what became free."""
    pool = Pool(maker, 2, 1)
    first, second, same, other = visit(pool, "a", "b", "a", "c")
    assert same.waits
    assert other.waits
    second.leave()
    assert same.waits
    assert other.state is not None
    first.leave()
    assert same.state is first.state


def test_a_newcomer_does_not_overtake(maker: Maker) -> None:
    """What became free belongs to the one who waited, before a newcomer can ask for it."""
    pool = Pool(maker, 1, 1)
    state = pool.check_out("a")
    (second,) = visit(pool, "a")
    pool.check_in(state, "a")
    # The one who waits has not run yet.
    assert list(pool.idle()) == []
    (third,) = visit(pool, "a")
    assert second.state is state
    assert third.waits
    second.leave()
    assert third.state is state


def test_a_script_that_does_not_load_gives_its_place_to_the_next(maker: Maker) -> None:
    """`make` fails: whoever asked is told, and nobody waits for a place that is free."""
    pool = Pool(maker, 1, 1)
    maker.broken = {"broken"}
    (holder,) = visit(pool, "a")
    broken, next_one, last = visit(pool, "broken", "broken", "b")
    holder.leave()
    assert broken.failed
    assert next_one.failed
    assert last.state is not None
    last.leave()
    assert (len(pool), pool.count("broken"), pool.waiting) == (1, 0, 0)


def test_a_script_that_fails_while_others_wait_for_it(maker: Maker) -> None:
    """The first request's `make` waits and fails; the second, which waited for a clone, makes its own try."""
    pool = Pool(maker, 5, 1)
    maker.may_make.clear()
    first, second = visit(pool, "a", "a")
    assert pool.waiting == 1
    maker.broken = {"a"}
    maker.may_make.set()
    settle()
    assert first.failed
    assert second.failed
    maker.broken.clear()
    assert use(pool, "a").script == "a"
    assert len(pool) == 1


# Flush


def test_a_flush_closes_the_idle_states_that_are_not_fit(maker: Maker) -> None:
    """The others stay: they hold the version that is served."""
    pool = Pool(maker, 5, 5)
    visitors = visit(pool, "a", "a", "a")
    for visitor in visitors:
        visitor.leave()
    use(pool, "b")
    maker.made[0].is_reusable = maker.made[2].is_reusable = maker.made[3].is_reusable = False
    assert pool.flush("a") == 2
    assert [state.closed for state in maker.made] == [True, False, True, False]
    assert (len(pool), pool.count("a")) == (2, 1)
    assert pool.flush("unknown") == 0


def test_a_busy_state_goes_when_it_comes_back(maker: Maker) -> None:
    """A request under way keeps its state, and nobody gets it after that."""
    pool = Pool(maker, 5, 5)
    (visitor,) = visit(pool, "a")
    maker.made[0].is_reusable = False
    assert pool.flush("a") == 0
    assert not maker.made[0].closed
    visitor.leave()
    assert maker.made[0].closed
    assert len(pool) == 0
    assert use(pool, "a") is maker.made[1]


def test_who_waits_gets_a_new_state_for_one_that_goes(maker: Maker) -> None:
    """The place of a state that comes back unfit is used at once, by the first who waits."""
    pool = Pool(maker, 1, 1)
    first, second = visit(pool, "a", "a")
    maker.made[0].is_reusable = False
    first.leave()
    assert second.state is maker.made[1]
    assert len(pool) == 1


# States made elsewhere, and this very state


def test_a_state_made_elsewhere_is_taken_in(maker: Maker) -> None:
    """`add` brings in an idle state, which the next request gets."""
    pool = Pool(maker, 5, 5)
    state = Fake("a")
    pool.add(state, "a")
    assert use(pool, "a") is state
    assert (len(pool), maker.made) == (1, [])


def test_a_state_made_elsewhere_goes_to_who_waits(maker: Maker) -> None:
    """One who waits for a clone gets it at once, when a place has become free for it."""
    pool = Pool(maker, 2, 2)
    first, second, third = visit(pool, "a", "a", "a")
    maker.may_make.clear()
    maker.made[0].is_reusable = False
    first.leave()
    assert third.waits, "it has a place, and its state is being made"
    pool.add(Fake("b"), "b")
    assert pool.count("b") == 0, "there is no room: both places are taken"
    maker.may_make.set()
    settle()
    assert not third.waits
    assert not second.waits


@pytest.mark.parametrize(("most", "clones"), [(1, 5), (5, 1)])
def test_a_state_made_elsewhere_is_closed_when_there_is_no_room(maker: Maker, most: int, clones: int) -> None:
    """All states are in use, or all clones of the script are."""
    pool = Pool(maker, most, clones)
    (visitor,) = visit(pool, "a")
    state = Fake("a")
    pool.add(state, "a")
    assert state.closed
    visitor.leave()
    assert len(pool) == 1


def test_this_very_state_can_be_taken_while_it_is_idle(maker: Maker) -> None:
    """`take` checks out one state, once, and it can be given back as usual."""
    pool = Pool(maker, 5, 5)
    state = use(pool, "a")
    assert not pool.check_out_idle(state, "b")
    assert pool.check_out_idle(state, "a")
    assert not pool.check_out_idle(state, "a")
    assert list(pool.idle()) == []
    assert use(pool, "a") is not state
    pool.check_in(state, "a")
    assert use(pool, "a") is state


def test_taking_makes_no_script_popular(maker: Maker) -> None:
    """Housekeeping looks after all states, and is no reason to keep one."""
    pool = Pool(maker, 2, 2)
    state = use(pool, "a")
    for _ in range(10):
        assert pool.check_out_idle(state, "a")
        pool.check_in(state, "a")
    use(pool, "b", 2)
    use(pool, "c")
    assert maker.live == {"b": 1, "c": 1}


def test_closing_closes_what_is_idle(maker: Maker) -> None:
    """At the end every idle state is closed, and the pool is empty."""
    pool = Pool(maker, 5, 5)
    for visitor in visit(pool, "a", "a", "b"):
        visitor.leave()
    pool.close()
    assert not maker.live
    assert len(pool) == 0


# Closing and making wait


def test_while_an_evicted_state_closes_another_may_become_free(maker: Maker) -> None:
    """A `shutdown` that waits holds up nobody, and the one who waited is served once."""
    pool = Pool(maker, 2, 1)
    first, second, third, fourth = visit(pool, "a", "b", "c", "d")
    assert first.state is not None
    assert second.state is not None
    first.state.may_close.clear()
    second.state.may_close.clear()
    first._leave.set()
    settle()
    assert third.state is not None, "its place is free before the old state has closed"
    second._leave.set()
    settle()
    assert fourth.state is not None
    first.state.may_close.set()
    second.state.may_close.set()
    third.leave()
    fourth.leave()
    assert (len(pool), pool.waiting, maker.live) == (2, 0, {"c": 1, "d": 1})


def test_while_a_flushed_state_closes_the_script_is_served(maker: Maker) -> None:
    """Closing a flushed state, busy or idle, keeps no request waiting."""
    pool = Pool(maker, 2, 2)
    first, second = visit(pool, "a", "a")
    for state in maker.made:
        state.is_reusable = False
        state.may_close.clear()
    first._leave.set()
    second._leave.set()
    third, fourth = visit(pool, "a", "a")
    assert not third.waits
    assert not fourth.waits
    for state in maker.made:
        state.may_close.set()
    third.leave()
    fourth.leave()
    assert (len(pool), maker.live) == (2, {"a": 2})


def test_a_state_that_is_being_made_counts(maker: Maker) -> None:
    """While `make` waits its place is taken, so that no more states are made than there may be."""
    pool = Pool(maker, 3, 2)
    maker.may_make.clear()
    visitors = visit(pool, "a", "a", "a", "b", "b")
    assert (pool.count("a"), pool.count("b"), len(pool), pool.waiting) == (2, 1, 3, 2)
    maker.may_make.set()
    settle()
    assert maker.live == {"a": 2, "b": 1}
    for visitor in visitors[:2]:
        visitor.leave()
    assert not any(visitor.waits for visitor in visitors)


# Everything at once


class Crowd:
    """Hundreds of greenlets that use one pool in every way, at random, and check what it promises."""

    def __init__(self, seed: int, most: int, clones: int) -> None:
        self._random = random.Random(seed)
        self._made: list[Fake] = []
        self._scripts = "abcdefg"
        self.most, self.clones = most, clones
        self.pool: Pool[str, Fake] = Pool(self._make, most, clones)
        self.served = 0

    def run(self, greenlets: int) -> None:
        """All come at once; each makes ten requests or so."""
        ways: list[Callable[[], None]] = [self._request] * 10 + [self._flush, self._housekeeping, self._add, self._take]
        jobs = [gevent.spawn(self._repeat, self._random.choice(ways)) for _ in range(greenlets)]
        gevent.joinall(jobs, raise_error=True)
        self._check()
        assert self.pool.waiting == 0
        idle = list(self.pool.idle())
        assert sorted(map(id, idle)) == sorted(id(state) for state in self._made if not state.closed)
        assert len(self.pool) == len(idle)
        assert all(self.pool.count(script) == sum(state.script == script for state in idle) for script in self._scripts)
        assert self.served > greenlets
        self.pool.close()
        assert all(state.closed for state in self._made)
        assert len(self.pool) == 0

    def _pause(self) -> None:
        for _ in range(self._random.choice((0, 0, 1, 2, 5))):
            gevent.sleep(0)

    def _make(self, script: str) -> Fake:
        self._pause()
        if self._random.random() < 0.1:
            raise Refusal(script)
        return self._new(script)

    def _new(self, script: str) -> Fake:
        state = Fake(script)
        if self._random.random() < 0.3:
            state.may_close.clear()
            gevent.spawn_later(0, state.may_close.set)
        self._made.append(state)
        return state

    def _repeat(self, way: Callable[[], None]) -> None:
        for _ in range(10):
            way()
            self._check()
            self._pause()

    def _check(self) -> None:
        assert len(self.pool) <= self.most
        counts = [self.pool.count(script) for script in self._scripts]
        assert sum(counts) == len(self.pool)
        assert max(counts) <= self.clones
        # A new one may begin only when no idle state fits, and nobody may wait for what is there.
        assert not (self.pool.waiting and len(self.pool) < self.most and max(counts) < self.clones)

    def _request(self) -> None:
        script = self._random.choice(self._scripts)
        try:
            state = self.pool.check_out(script)
        except Refusal:
            return
        assert state.script == script
        with state:
            self._pause()
            state.is_reusable = state.is_reusable and self._random.random() > 0.1
        self.pool.check_in(state, script)
        self.served += 1

    def _flush(self) -> None:
        script = self._random.choice(self._scripts)
        for state in self._made:
            if state.script == script:
                state.is_reusable = False
        self.pool.flush(script)

    def _housekeeping(self) -> None:
        self.pool.decay(self._random.random() * HALF_LIFE)

    def _add(self) -> None:
        script = self._random.choice(self._scripts)
        self.pool.add(self._new(script), script)

    def _take(self) -> None:
        for state in self.pool.idle():
            if self.pool.check_out_idle(state, state.script):
                with state:
                    self._pause()
                self.pool.check_in(state, state.script)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), most=st.integers(1, 30), clones=st.integers(1, 12))
def test_a_state_never_has_two_users(seed: int, most: int, clones: int) -> None:
    """Whatever hundreds of greenlets do, each state has one user, limits are kept, and the counts are right."""
    Crowd(seed, most, clones).run(200)


def test_a_full_pool_waits_before_it_makes_another() -> None:
    """Until those that have left it are closed; where there is room, nobody waits, nor for a state that is idle."""
    waits: list[int] = []
    pool: Pool[str, Fake] = Pool(Fake, 2, 2, wait=lambda: waits.append(len(pool)))
    for script in ("a", "a", "b", "b"):
        pool.check_in(pool.check_out(script), script)
    # The second script's takes the last room.
    assert waits == [2]
    pool.check_in(pool.check_out("c"), "c")
    assert (waits, pool.evicted) == ([2, 2], 1)
