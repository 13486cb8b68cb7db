"""What `dictionary.lua` calls, for one state: the dictionaries of [shared], by their numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ...config.shared import Shared
from ...errors import ConfigError
from ...logs.text import decode, described, traceback_of
from ...lua.bridge import Bridge, ModuleFunction, Outcome
from ...system.memory_folder import MemoryFolder
from .store import DONE as _DONE
from .store import METHODS, Kind
from .stores import stores_of

if TYPE_CHECKING:
    from .redis_connection import Pending
    from .redis_store import Finish

_BROKEN: Final = b"the dictionary cannot be used at the moment"
_NONSENSE: Final = (None, b"redis: a reply that none of its commands has", int(Kind.FALSE))
_SCALARS: Final = (bytes, int, float)
_CLOSING: Final = (None, b"the state is being closed", int(Kind.FALSE))


def functions(bridge: Bridge, shared: Shared, folder: MemoryFolder | None) -> Mapping[str, ModuleFunction]:
    """The functions by their names. Dictionaries are opened here, unless they are.

    What is called most has a function for each dictionary, "get 0", "set 0", "incr 0", which need not look for it.
    """
    calls = _Calls(bridge, shared, folder)
    named: dict[str, ModuleFunction] = {"number": calls.number, "wait": calls.wait}
    for number, store in enumerate(calls.stores):
        named |= {f"{name} {number}": call for name, call in calls.usual(store).items()}
    return named | {name: calls.method(name) for name in METHODS}


class _Calls:
    """The calls of one state."""

    def __init__(self, bridge: Bridge, shared: Shared, folder: MemoryFolder | None) -> None:
        self._bridge = bridge
        self._names = [name.encode() for name in shared.sizes]
        self._is_remote = shared.redis is not None
        #: In the order of the names; none where they cannot be opened, and why.
        self.stores: list[Any] = []
        self._why_not = ""
        stores = stores_of(shared, folder)
        try:
            stores.open()
            self.stores = [*(stores.local or stores.remote).values()]
        except ConfigError as problem:
            self._why_not = str(problem)
        self._connection = stores.connection
        #: Commands that are waited for on, by the numbers that Lua has for them.
        self._pending: dict[int, tuple[Pending, Finish]] = {}
        self._last = 0

    def number(self, name: bytes) -> Outcome:
        """The number of a dictionary; or nil and why there is none."""
        if name not in self._names:
            return self._problem(f'shared: no dictionary "{decode(name[:64])}" in [shared] of config.toml')
        return self._names.index(name) if self.stores else self._problem(self._why_not)

    def method(self, name: str) -> ModuleFunction:
        """A function that gets the number of a dictionary, and calls that method of it."""
        each = [self.function(getattr(store, name)) for store in self.stores]

        def call(number: int, *arguments: Any) -> Any:
            return each[number](*arguments)

        return call

    def usual(self, store: Any) -> dict[str, ModuleFunction]:
        """`get`, `set` and `incr` of a dictionary."""
        if self._is_remote:
            return {name: self.function(getattr(store, name)) for name in ("get", "set", "incr")}
        calls: dict[str, ModuleFunction] = store.usual(self.function, self._bridge.reserve)
        return calls

    def function(self, method: Callable[..., Any]) -> ModuleFunction:
        """A function that calls this method of a dictionary, and sees that Lua can take the answer."""
        take, reserve, failed = self._sent if self._is_remote else self._given, self._bridge.reserve, self._failed

        def call(*arguments: Any) -> Any:
            try:
                outcome = method(*arguments)
            except Exception as problem:
                return failed(problem)
            if type(outcome) is bytes:
                return outcome if reserve(len(outcome)) else False
            return outcome if type(outcome) is int or outcome is _DONE else take(outcome)

        return call

    def _failed(self, problem: Exception) -> Any:
        """Whatever the memory or LMDB has come to."""
        self._bridge.log_error(f"[shared]: {described(problem)}", traceback_of(problem), self._bridge.title())
        return self._given((None, _BROKEN, int(Kind.FALSE)))

    def wait(self, number: int) -> Any:
        """Go on waiting for a command."""
        return self._awaited(*self._pending.pop(number))

    def _given(self, outcome: Any) -> Any:
        """What Lua gets, if there is room for it."""
        kind = type(outcome)
        if kind is bytes:
            return outcome if self._bridge.reserve(len(outcome)) else False
        if kind is tuple:
            first, second = outcome[:2]
            length = (len(first) if type(first) is bytes else 0) + (len(second) if second is not None else 0)
            return outcome if not length or self._bridge.reserve(length) else False
        return outcome

    def _sent(self, command: Any) -> Any:
        """What Lua gets for a command, which goes to Redis."""
        if type(command) is tuple:
            return self._given(command)
        if self._bridge.is_ending:
            # A finalizer cannot wait.
            return self._given(_CLOSING)
        assert self._connection is not None
        return self._awaited(self._connection.send(command.arguments), command.finish)

    def _awaited(self, pending: Pending, finish: Finish) -> Any:
        while not pending.ended.is_set():
            answer = self._bridge.wait(pending.ended)
            if answer == 0 and type(answer) is int:
                # Somebody wants to know where the script is, and it waits on.
                self._last += 1
                self._pending[self._last] = pending, finish
                return self._last, None, int(Kind.WAIT)
            if answer is not None:
                pending.is_given_up = True
                return answer
        if pending.problem:
            return self._given((None, pending.problem, int(Kind.FALSE)))
        try:
            outcome = finish(pending.reply)
        except Exception:
            # What answers is no Redis.
            outcome = _NONSENSE
        return self._given(outcome if _may_cross(outcome) else _NONSENSE)

    def _problem(self, text: str) -> Outcome:
        data = text.encode("utf-8", "backslashreplace")
        return (None, data) if self._bridge.reserve(len(data)) else False


def _may_cross(outcome: object) -> bool:
    """It is one of the kinds of `Store`, and no other object."""
    if type(outcome) is not tuple:
        return outcome is None or type(outcome) in _SCALARS
    return all(value is None or type(value) in _SCALARS for value in outcome) and not isinstance(
        outcome[1], (int, float)
    )
