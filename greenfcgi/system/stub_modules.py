"""Stand-ins for modules that other packages import, and that a running server does not use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


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
