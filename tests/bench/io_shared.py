"""What a call of greenfcgi.shared costs a script, on LuaJIT, with a dictionary that LMDB keeps.

CPU of the process for a call, the best of some rounds, without what the loop around it takes. The results are checked.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import process_time

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


def figures() -> list[Figure]:
    """Microseconds for each call."""
    loops = "\n".join(
        f'loops["{name}"] = function(calls) for i = 1, calls do {statement} end end' for name, statement, _ in _MEASURED
    )
    with tempfile.TemporaryDirectory() as folder:
        inside = Inside(Path(folder), "luajit21", '[shared]\nthings = "16M"\n')
        state = inside.load(_SCRIPT % (loops, _CALLS))
        best = dict.fromkeys(("empty", *(name for name, _, _ in _MEASURED)), float("inf"))
        for _ in range(_ROUNDS):
            for name in best:
                before = process_time()
                assert inside.run(state, Request({"QUERY_STRING": name}, seconds=600)).text == "right"
                best[name] = min(best[name], process_time() - before)
        inside.close()
    empty = best["empty"]
    return [Figure(name, round((best[name] - empty) / _CALLS * 1e6, 2), "us", goal) for name, _, goal in _MEASURED]
