"""What `dictionary.lua` calls, for one state: the dictionaries of [shared], by their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ...config.shared import Shared
from ...errors import ConfigError
from ...logs.text import decode, described, traceback_of
from ...lua.bridge import Bridge, ModuleFunction, Outcome
from ...system.memory_folder import MemoryFolder
from .store import METHODS, Kind
from .stores import stores_of

if TYPE_CHECKING:
    from .redis_connection import Pending
    from .redis_store import Finish

_BROKEN: Final = b"the dictionary cannot be used at the moment"
_CLOSING: Final = (None, b"the state is being closed", int(Kind.FALSE))


def functions(bridge: Bridge, shared: Shared, folder: MemoryFolder | None) -> Mapping[str, ModuleFunction]:
    """The functions by their names. Dictionaries are opened when a script first asks for one, unless they are."""
    calls = _Calls(bridge, shared, folder)
    named: dict[str, ModuleFunction] = {"number": calls.number, "wait": calls.wait}
    return named | {name: calls.method(name) for name in METHODS}


class _Calls:
    """The calls of one state."""

    def __init__(self, bridge: Bridge, shared: Shared, folder: MemoryFolder | None) -> None:
        self._bridge = bridge
        self._stores = stores_of(shared, folder)
        self._names = [name.encode() for name in shared.sizes]
        #: By its name, a method of each dictionary, once they are open.
        self._methods: dict[str, list[Any]] = {}
        self._is_remote = shared.redis is not None
        #: Commands that are waited for on, by the numbers that Lua has for them.
        self._pending: dict[int, tuple[Pending, Finish]] = {}
        self._last = 0

    def number(self, name: bytes) -> Outcome:
        """The number of a dictionary; or nil and why there is none."""
        if name not in self._names:
            return self._problem(f'shared: no dictionary "{decode(name[:64])}" in [shared] of config.toml')
        try:
            self._stores.open()
        except ConfigError as problem:
            return self._problem(str(problem))
        for method, bound in self._methods.items():
            if not bound:
                bound += [getattr(store, method) for store in (self._stores.local or self._stores.remote).values()]
        return self._names.index(name)

    def method(self, name: str) -> ModuleFunction:
        """A function that gets the number of a dictionary, and calls that method of it."""
        bound = self._methods[name] = []
        take = self._sent if self._is_remote else self._given

        def call(number: int, *arguments: Any) -> Any:
            try:
                outcome = bound[number](*arguments)
            except Exception as problem:
                # The border to Lua: whatever the disk or LMDB has come to.
                self._bridge.log_error(f"[shared]: {described(problem)}", traceback_of(problem), self._bridge.title())
                outcome = None, _BROKEN, int(Kind.FALSE)
            return take(outcome)

        return call

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
        connection = self._stores.connection
        assert connection is not None
        return self._awaited(connection.send(command.arguments), command.finish)

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
        return self._given(finish(pending.reply))

    def _problem(self, text: str) -> Outcome:
        data = text.encode("utf-8", "backslashreplace")
        return (None, data) if self._bridge.reserve(len(data)) else False
