"""What a call of greenfcgi.shared costs a script, on LuaJIT, with a dictionary that LMDB keeps.

CPU of the process for a call, the best of some rounds, without what the loop around it takes. The results are checked.
Beside it what LMDB and lupa take for the same, with nothing of greenfcgi between: no limits of memory or time, no
types, no order of use. That is what a machine allows at best, in the same run.
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from time import process_time

import lmdb
from lupa.luajit21 import LuaRuntime

from greenfcgi.system.memory_folder import base

from ..support.inside import Inside, Request
from .figure import Figure

_CALLS = 20_000
_ROUNDS = 9

#: Name, the statement of a loop, the goal in microseconds; None where there is none.
_MEASURED: tuple[tuple[str, str, float | None], ...] = (
    ("get of 60 bytes", 'value = d:get("text")', 1.5),
    ("set of 60 bytes", 'd:set("text", text)', 3.5),
    ("incr", 'd:incr("number", 1)', 3.0),
    ("get of a number", 'value = d:get("number")', None),
    ("set of another key each time", "d:set(i, text)", None),
    ("set with a ttl", 'd:set("expires", text, 60)', None),
    ("incr with init and init_ttl", 'd:incr("limit", 1, 0, 60)', None),
    ("rpush and lpop", 'd:rpush("queue", text) value = d:lpop("queue")', None),
)
_SCRIPT = """
local d = require("greenfcgi.shared").things
local text, value = ("x"):rep(60), nil
d:set("text", text) d:set("number", 0)
local loops = { empty = function(calls) for i = 1, calls do value = i end end }
%s
function main(env, con)
    loops[env.QUERY_STRING](%d)
    con:puts(d:get("text") == text and type(d:get("number")) == "number" and "right" or "wrong")
end
"""


#: The same with LMDB and lupa alone.
_FLOOR = b"""
if jit then jit.off() end
local get, set, incr, calls, text = ...
local get, set, incr = python.as_function(get), python.as_function(set), python.as_function(incr)
return function(what)
    if what == "get" then for i = 1, calls do get("text") end end
    if what == "set" then for i = 1, calls do set("text", text) end end
    if what == "incr" then for i = 1, calls do incr("number", 1) end end
end
"""
_NUMBER = struct.Struct("=q")


class _Floor:
    """LMDB in a file in memory, called from LuaJIT."""

    def __init__(self, path: str) -> None:
        self._environment = lmdb.open(
            path, map_size=16 * 2**20, subdir=False, sync=False, metasync=False, writemap=True, lock=True
        )
        self._begin = self._environment.begin
        self._set(b"text", b"x" * 60)
        self._set(b"number", _NUMBER.pack(0))
        runtime = LuaRuntime(encoding=None)
        self.run = runtime.execute(_FLOOR, self._get, self._set, self._incr, _CALLS, b"x" * 60)

    def close(self) -> None:
        """Close it, after a look at what is there."""
        assert _NUMBER.unpack(self._get(b"number"))[0] == _ROUNDS * _CALLS
        self._environment.close()

    def _get(self, key: bytes) -> bytes:
        with self._begin() as txn:
            return txn.get(key) or b""

    def _set(self, key: bytes, value: bytes) -> None:
        with self._begin(write=True) as txn:
            txn.put(key, value)

    def _incr(self, key: bytes, by: int) -> int:
        with self._begin(write=True) as txn:
            value: int = _NUMBER.unpack(txn.get(key) or b"")[0] + by
            txn.put(key, _NUMBER.pack(value))
        return value


def figures() -> list[Figure]:
    """Microseconds for each call."""
    loops = "\n".join(
        f'loops["{name}"] = function(calls) for i = 1, calls do {statement} end end' for name, statement, _ in _MEASURED
    )
    with tempfile.TemporaryDirectory(dir=base()) as folder:
        floor = _Floor(f"{folder}/floor")
        floors = dict.fromkeys((b"get", b"set", b"incr"), float("inf"))
        inside = Inside(Path(folder), "luajit21", '[shared]\nthings = "16M"\n')
        state = inside.load(_SCRIPT % (loops, _CALLS))
        best = dict.fromkeys(("empty", *(name for name, _, _ in _MEASURED)), float("inf"))
        for _ in range(_ROUNDS):
            for name in best:
                before = process_time()
                assert inside.run(state, Request({"QUERY_STRING": name}, seconds=600)).text == "right"
                best[name] = min(best[name], process_time() - before)
            for what in floors:
                before = process_time()
                floor.run(what)
                floors[what] = min(floors[what], process_time() - before)
        floor.close()
        inside.close()
    empty = best["empty"]
    found = [Figure(name, round((best[name] - empty) / _CALLS * 1e6, 2), "us", goal) for name, _, goal in _MEASURED]
    for what, took in floors.items():
        found.append(Figure(f"LMDB and lupa alone: {what.decode()}", round(took / _CALLS * 1e6, 2), "us", None))
    return found
