"""Stand-ins for modules that other packages import, and that a running server does not use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def stand_in(name: str, **members: object) -> Iterator[None]:
    """For as long as the block lasts, whoever imports `name` gets a module that has these members only.

    Whoever imports it later gets the real one. Where that one has been imported already, nothing is changed.
    """
    if name in sys.modules:
        yield
        return
    module = ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    try:
        yield
    finally:
        sys.modules.pop(name, None)


@contextmanager
def deferred(name: str) -> Iterator[None]:
    """As `stand_in`, for a module that is imported when somebody uses a member of it.

    What is imported from it by name while the block lasts can be called, and asked for attributes; it is no class to
    derive from, and no constant.
    """
    is_over = False

    def member(member_name: str) -> Any:
        if member_name.startswith("__"):
            raise AttributeError(member_name)
        found = _Member(name, member_name)
        return found.real() if is_over else found

    with stand_in(name, __getattr__=member):
        yield
    is_over = True


class _Member:
    """A member of a module that has not been imported yet."""

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.real()(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real(), name)

    def real(self) -> Any:
        __import__(self._module)
        return getattr(sys.modules[self._module], self._name)
