"""States that have left the pool: they are closed in turns, and requests wait where they are too many."""

from __future__ import annotations

from typing import cast

import gevent
from gevent.event import Event

from greenfcgi.lua.state import State
from greenfcgi.lua.turns import Turns
from greenfcgi.processes.heartbeat import Hooks

from ..support.running import PATIENCE

#: More than may wait to be closed.
MANY = 40


class _Script:
    requests = 0


class Fake:
    """A state whose `shutdown` waits until it may end."""

    is_healthy = True
    requests = 1

    def __init__(self) -> None:
        self.script = _Script()
        self.began = False
        self.may_end = Event()

    def close(self) -> None:
        """It leaves."""
        self.began = True
        self.may_end.wait()


def discarded(hooks: Hooks) -> list[Fake]:
    """Many that leave at once, as all clones of a script do that has changed."""
    states = [Fake() for _ in range(MANY)]
    for state in states:
        hooks.discard(cast(State, state))
    return states


def test_many_are_closed_in_turns() -> None:
    """None within the call: hundreds of them, with much memory each, would hold up everybody."""
    hooks = Hooks(Turns(0.01))
    states = discarded(hooks)
    assert not any(state.began for state in states)
    for state in states:
        state.may_end.set()
    assert hooks.join(PATIENCE)
    assert all(state.began for state in states)


def test_new_ones_wait_where_too_many_leave() -> None:
    """Also for those whose `shutdown` takes its time, so that what waits does not grow."""
    hooks = Hooks(Turns(0.01))
    states = discarded(hooks)
    waiting = gevent.spawn(hooks.wait)
    for left, state in zip(range(MANY - 1, -1, -1), states, strict=True):
        gevent.sleep(0.01)
        assert waiting.ready() == (left + 1 < 16)
        state.may_end.set()
    assert hooks.join(PATIENCE)
    assert waiting.successful()
    hooks.wait()
