"""The classic trap: a script keeps sessions or counters in globals, of which each of its states has its own.

With one state, as with one developer, all goes well. So there is a hint as soon as it shows: a request misses a global
that a request in another state has set, or two states count the same number up. Caches that are filled on demand give
no hint, nor do globals that each request sets before it reads them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..scripts.version import Version

_MISSING: Final = (
    "is missing here, although another request has set it: that was in another state of this script, "
    "and each state has globals of its own"
)
_COUNTED: Final = "is counted in several states of this script, each of which has globals of its own"


class _Used(NamedTuple):
    """What requests in one state have done with globals."""

    written: set[str]
    #: How often each has been counted up.
    counted: dict[str, int]


class GlobalState:
    """What the states of each script have in their globals, as far as requests have written it."""

    def __init__(self) -> None:
        #: By script: the version that is served, and its states by their numbers.
        self._scripts: dict[str, tuple[Version, dict[int, _Used]]] = {}

    def used(self, script: str, version: Version, state: int, report: bytes) -> list[tuple[str, str]]:
        """A request has ended (see `globals.lua` for the report). Returns hints: a name, what is wrong with it."""
        known = self._scripts.get(script)
        if known is None or known[0] is not version:
            known = self._scripts[script] = version, {}
        states = known[1]
        own = states.setdefault(state, _Used(set(), {}))
        found: dict[bytes, list[str]] = {b"w": [], b"m": [], b"c": []}
        for line in report.split(b"\n"):
            found[line[:1]].append(line[2:].decode("utf-8", "replace"))
        own.written.clear()
        own.written.update(found[b"w"])
        for name in found[b"c"]:
            own.counted[name] = own.counted.get(name, 0) + 1
        others = [used for number, used in states.items() if number != state]
        hints = [(name, _MISSING) for name in found[b"m"] if any(name in used.written for used in others)]
        # Once may be by chance.
        hints += [
            (name, _COUNTED)
            for name in found[b"c"]
            if any(max(own.counted[name], used.counted.get(name, 0)) > 1 and name in used.counted for used in others)
        ]
        return hints
