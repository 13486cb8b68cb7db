"""Who has which state. Knows no Lua: a state is anything that can be closed and says whether it can be used again.

A request takes an idle state that holds its script; else a new one is made, when the script has fewer than
`clones` states and the pool fewer than `max_states`; else, when the pool is full, the least popular idle state goes and
makes room; else the request waits, first come first served. Popularity counts requests and decays with age
(half of it is gone after `HALF_LIFE` seconds), so that yesterday's favourite does not stay for ever.

A state is with exactly one user between `check_out` and `check_in`; that is what keeps answers right, since lupa's
lock does not keep two greenlets apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar

from gevent.event import AsyncResult

#: Seconds after which a request counts half for its script's popularity.
HALF_LIFE = 60.0


class Member(Hashable, Protocol):
    """What the pool asks of a state."""

    @property
    def is_reusable(self) -> bool:
        """It may be used again."""

    def close(self) -> None:
        """It is not needed any more. Does not raise."""


Script = TypeVar("Script", bound=Hashable)
State = TypeVar("State", bound=Member)


class _ScriptStates(Generic[Script, State]):
    """The states that hold one script."""

    __slots__ = ("count", "idle", "popularity", "script", "since")

    def __init__(self, script: Script) -> None:
        self.script = script
        #: States that nobody uses. The one used last is on top: its memory is warm.
        self.idle: list[State] = []
        #: When each of these was put there, in the pool's time.
        self.since: list[float] = []
        #: All of its states: idle, in use, or being made.
        self.count = 0
        self.popularity = 0.0

    def take(self, at: int = -1) -> State:
        """Take an idle state out: the one on top, unless another place is given."""
        self.since.pop(at)
        return self.idle.pop(at)

    def put(self, state: State, now: float) -> None:
        """Put a state on top of the idle ones."""
        self.idle.append(state)
        self.since.append(now)


class Pool(Generic[Script, State]):
    """At most `max_states` states, at most `clones` for each script; `make` loads a script into a new state.

    `discard` closes a state that has been counted out; it must not wait, since requests do until it returns. `wait` is
    called before a state is made in a full pool, which others may have left for it: until enough of them are closed.
    """

    def __init__(
        self,
        make: Callable[[Script], State],
        max_states: int,
        clones: int,
        discard: Callable[[State], None] = lambda state: state.close(),
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._make = make
        self._discard = discard
        self._wait = wait
        self._max_states = max_states
        self._clones = clones
        self._total = 0
        #: Seconds that have passed, the sum of what `decay` was given.
        self._now = 0.0
        #: States that had to go to make room for others.
        self.evicted = 0
        #: All states there are, idle or in use.
        self.states: set[State] = set()
        self._by_script: dict[Script, _ScriptStates[Script, State]] = {}
        self._waiting: deque[tuple[_ScriptStates[Script, State], AsyncResult[State | None]]] = deque()

    def __len__(self) -> int:
        """How many states there are."""
        return self._total

    def count(self, script: Script) -> int:
        """How many states hold `script`."""
        held = self._by_script.get(script)
        return held.count if held else 0

    @property
    def waiting(self) -> int:
        """How many requests wait for a state."""
        return len(self._waiting)

    def idle(self) -> Iterator[State]:
        """The states that nobody uses now."""
        for held in list(self._by_script.values()):
            yield from list(held.idle)

    def check_out(self, script: Script, seconds: float | None = None) -> State:
        """A state that holds `script`, for the caller alone until it is given back. May wait, at most so long.

        Raises what `make` raises, and `TimeoutError`.
        """
        held = self._by_script.get(script)
        if held is None:
            held = self._by_script[script] = _ScriptStates(script)
        held.popularity += 1
        if held.idle:
            return held.take()
        evicted: list[State] = []
        if self._reserve(held, evicted):
            self._close(evicted)
            return self._fill(held)
        turn: AsyncResult[State | None] = AsyncResult()
        entry = held, turn
        self._waiting.append(entry)
        if not turn.ready():
            turn.wait(seconds)
        if not turn.ready():
            self._waiting.remove(entry)
            raise TimeoutError
        state = turn.get()
        return state if state is not None else self._fill(held)

    def check_out_idle(self, state: State, script: Script) -> bool:
        """Check out this very state, which holds `script`, if it is idle; without making the script popular."""
        held = self._by_script.get(script)
        if held is None or state not in held.idle:
            return False
        held.take(held.idle.index(state))
        return True

    def check_in(self, state: State, script: Script) -> None:
        """The user of `state` is done with it. A state that cannot be used again is closed."""
        held = self._by_script[script]
        is_reusable = state.is_reusable
        if is_reusable:
            held.put(state, self._now)
        else:
            self._release(held)
        if self._waiting:
            self._serve_waiting()
        if not is_reusable:
            self._close([state])

    def add(self, state: State, script: Script) -> None:
        """Take in a state made elsewhere, as an idle one, if there is room for it; else it is closed."""
        held = self._by_script.setdefault(script, _ScriptStates(script))
        unwanted: list[State] = []
        if self._reserve(held, unwanted):
            self.states.add(state)
            held.put(state, self._now)
        else:
            unwanted.append(state)
        self._close(unwanted)

    def flush(self, script: Script) -> int:
        """Close the idle states of `script` that cannot be used again; those in use go when they come back.

        Returns how many were closed.
        """
        held = self._by_script.get(script)
        if held is None:
            return 0
        stale = []
        for at in range(len(held.idle) - 1, -1, -1):
            if not held.idle[at].is_reusable:
                stale.append(held.take(at))
                self._release(held)
        self._close(stale)
        return len(stale)

    def decay(self, seconds: float) -> None:
        """So much time has passed: popularity decays, and scripts that hold nothing are forgotten."""
        self._now += seconds
        factor = 0.5 ** (seconds / HALF_LIFE)
        waited_for = {id(held) for held, _ in self._waiting}
        for script, held in list(self._by_script.items()):
            held.popularity *= factor
            if held.count == 0 and id(held) not in waited_for:
                del self._by_script[script]

    def expire(self, seconds: float) -> bool:
        """Close the states that nobody has used for longer than this; of each script, the last one stays.

        True when there were any.
        """
        found = False
        for held in list(self._by_script.values()):
            # The bottom one has been idle longest.
            while held.idle and held.count > 1 and self._now - held.since[0] > seconds:
                found = True
                self._release(held)
                self._close([held.take(0)])
        return found

    def close(self) -> None:
        """Close all idle states."""
        for held in list(self._by_script.values()):
            while held.idle:
                self._release(held)
                self._close([held.take()])

    def _reserve(self, held: _ScriptStates[Script, State], evicted: list[State]) -> bool:
        """Make room for one more state of this script, and count it.

        A state that has to go for it is put into `evicted`, to be closed when everything is counted right: that may
        wait, and others use the pool in the meantime.
        """
        if held.count >= self._clones:
            return False
        if self._total >= self._max_states:
            idle = [other for other in self._by_script.values() if other.idle]
            if not idle:
                return False
            least = min(idle, key=lambda other: other.popularity)
            # The bottom one has been idle longest.
            evicted.append(least.take(0))
            self.evicted += 1
            self._release(least)
        held.count += 1
        self._total += 1
        return True

    def _release(self, held: _ScriptStates[Script, State]) -> None:
        held.count -= 1
        self._total -= 1

    def _fill(self, held: _ScriptStates[Script, State]) -> State:
        try:
            if self._total >= self._max_states:
                self._wait()
            state = self._make(held.script)
        except BaseException:
            self._release(held)
            self._serve_waiting()
            raise
        self.states.add(state)
        return state

    def _serve_waiting(self) -> None:
        """Give what has become free to those who wait, in their order, as far as it is of use to them."""
        evicted: list[State] = []
        for entry in list(self._waiting):
            held, turn = entry
            if held.idle:
                self._waiting.remove(entry)
                turn.set(held.take())
            elif self._reserve(held, evicted):
                self._waiting.remove(entry)
                turn.set(None)
            elif self._total >= self._max_states and not any(other.idle for other in self._by_script.values()):
                break
        self._close(evicted)

    def _close(self, states: list[State]) -> None:
        for state in states:
            self.states.discard(state)
            self._discard(state)
