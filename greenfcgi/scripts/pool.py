"""Who has which state. Knows no Lua: a state is anything that can be closed and says whether it can be used again.

A request takes an idle state that holds its script; else a new one is made, when the script has fewer than
`clones` states and the pool fewer than `most`; else, when the pool is full, the least popular idle state goes and
makes room; else the request waits, first come first served. Popularity counts requests and decays with age
(half of it is gone after `HALF_LIFE` seconds), so that yesterday's favourite does not stay for ever.

A state is with exactly one user between `checkout` and `give_back`; that is what keeps answers right, since lupa's
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


class _Holding(Generic[Script, State]):
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
    """At most `most` states, at most `clones` for each script; `make` loads a script into a new state.

    `discard` closes a state that has been counted out; it must not wait, since requests do until it returns.
    """

    def __init__(
        self,
        make: Callable[[Script], State],
        most: int,
        clones: int,
        discard: Callable[[State], None] = lambda state: state.close(),
    ) -> None:
        self._make = make
        self._discard = discard
        self._most = most
        self._clones = clones
        self._total = 0
        #: Seconds that have passed, as `age` tells.
        self._now = 0.0
        #: States that had to go to make room for others.
        self.evicted = 0
        #: All states there are, idle or in use.
        self.states: set[State] = set()
        self._holdings: dict[Script, _Holding[Script, State]] = {}
        self._waiting: deque[tuple[_Holding[Script, State], AsyncResult[State | None]]] = deque()

    def __len__(self) -> int:
        """How many states there are."""
        return self._total

    def count(self, script: Script) -> int:
        """How many states hold `script`."""
        holding = self._holdings.get(script)
        return holding.count if holding else 0

    @property
    def waiting(self) -> int:
        """How many requests wait for a state."""
        return len(self._waiting)

    def idle(self) -> Iterator[State]:
        """The states that nobody uses now."""
        for holding in list(self._holdings.values()):
            yield from list(holding.idle)

    def checkout(self, script: Script, seconds: float | None = None) -> State:
        """A state that holds `script`, for the caller alone until it is given back. May wait, at most so long.

        Raises what `make` raises, and `TimeoutError`.
        """
        holding = self._holdings.get(script)
        if holding is None:
            holding = self._holdings[script] = _Holding(script)
        holding.popularity += 1
        if holding.idle:
            return holding.take()
        evicted: list[State] = []
        if self._reserve(holding, evicted):
            self._close(evicted)
            return self._fill(holding)
        turn: AsyncResult[State | None] = AsyncResult()
        entry = holding, turn
        self._waiting.append(entry)
        if not turn.ready():
            turn.wait(seconds)
        if not turn.ready():
            self._waiting.remove(entry)
            raise TimeoutError
        state = turn.get()
        return state if state is not None else self._fill(holding)

    def take(self, state: State, script: Script) -> bool:
        """Check out this very state, which holds `script`, if it is idle; without making the script popular."""
        holding = self._holdings.get(script)
        if holding is None or state not in holding.idle:
            return False
        holding.take(holding.idle.index(state))
        return True

    def give_back(self, state: State, script: Script) -> None:
        """The user of `state` is done with it. A state that cannot be used again is closed."""
        holding = self._holdings[script]
        is_reusable = state.is_reusable
        if is_reusable:
            holding.put(state, self._now)
        else:
            self._release(holding)
        if self._waiting:
            self._serve_waiting()
        if not is_reusable:
            self._close([state])

    def add(self, state: State, script: Script) -> None:
        """Take in a state made elsewhere, as an idle one, if there is room for it; else it is closed."""
        holding = self._holdings.setdefault(script, _Holding(script))
        unwanted: list[State] = []
        if self._reserve(holding, unwanted):
            self.states.add(state)
            holding.put(state, self._now)
        else:
            unwanted.append(state)
        self._close(unwanted)

    def flush(self, script: Script) -> int:
        """Close the idle states of `script` that cannot be used again; those in use go when they come back.

        Returns how many were closed.
        """
        holding = self._holdings.get(script)
        if holding is None:
            return 0
        stale = []
        for at in range(len(holding.idle) - 1, -1, -1):
            if not holding.idle[at].is_reusable:
                stale.append(holding.take(at))
                self._release(holding)
        self._close(stale)
        return len(stale)

    def age(self, seconds: float) -> None:
        """So much time has passed: popularity decays, and scripts that hold nothing are forgotten."""
        self._now += seconds
        factor = 0.5 ** (seconds / HALF_LIFE)
        waited_for = {id(holding) for holding, _ in self._waiting}
        for script, holding in list(self._holdings.items()):
            holding.popularity *= factor
            if holding.count == 0 and id(holding) not in waited_for:
                del self._holdings[script]

    def expire(self, seconds: float) -> bool:
        """Close the states that nobody has used for longer than this; of each script, the last one stays.

        True when there were any.
        """
        found = False
        for holding in list(self._holdings.values()):
            # The bottom one has been idle longest.
            while holding.idle and holding.count > 1 and self._now - holding.since[0] > seconds:
                found = True
                self._release(holding)
                self._close([holding.take(0)])
        return found

    def close(self) -> None:
        """Close all idle states."""
        for holding in list(self._holdings.values()):
            while holding.idle:
                self._release(holding)
                self._close([holding.take()])

    def _reserve(self, holding: _Holding[Script, State], evicted: list[State]) -> bool:
        """Make room for one more state of this script, and count it.

        A state that has to go for it is put into `evicted`, to be closed when everything is counted right: that may
        wait, and others use the pool in the meantime.
        """
        if holding.count >= self._clones:
            return False
        if self._total >= self._most:
            idle = [other for other in self._holdings.values() if other.idle]
            if not idle:
                return False
            least = min(idle, key=lambda other: other.popularity)
            # The bottom one has been idle longest.
            evicted.append(least.take(0))
            self.evicted += 1
            self._release(least)
        holding.count += 1
        self._total += 1
        return True

    def _release(self, holding: _Holding[Script, State]) -> None:
        holding.count -= 1
        self._total -= 1

    def _fill(self, holding: _Holding[Script, State]) -> State:
        try:
            state = self._make(holding.script)
        except BaseException:
            self._release(holding)
            self._serve_waiting()
            raise
        self.states.add(state)
        return state

    def _serve_waiting(self) -> None:
        """Give what has become free to those who wait, in their order, as far as it is of use to them."""
        evicted: list[State] = []
        for entry in list(self._waiting):
            holding, turn = entry
            if holding.idle:
                self._waiting.remove(entry)
                turn.set(holding.take())
            elif self._reserve(holding, evicted):
                self._waiting.remove(entry)
                turn.set(None)
            elif self._total >= self._most and not any(other.idle for other in self._holdings.values()):
                break
        self._close(evicted)

    def _close(self, states: list[State]) -> None:
        for state in states:
            self.states.discard(state)
            self._discard(state)
