"""What `greenfcgi.json` costs a script, beside dkjson and lua-cjson in the same state, on LuaJIT.

A document of 10 KB is decoded and encoded by each in turns, since the machine's speed changes; the results are
checked. dkjson is a script as any other, so it is interpreted; lua-cjson is written in C. Both are Debian's packages
(lua-dkjson, lua-cjson).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from greenfcgi.lua.state import State

from ..support.inside import Inside, Request
from .errors import NotInstalled
from .figure import Figure

_ROUNDS = 15
_CALLS = 40
_DKJSON = Path("/usr/share/lua/5.1/dkjson.lua")
#: The most that it may take of their time.
_MAX_DKJSON, _MAX_CJSON = 1.5, 6.0

_SCRIPT = """
local ours, dkjson, cjson = require "greenfcgi.json", require "dkjson", require "cjson"
local clock = os.clock
local decoders = { ours = ours.decode, dkjson = function(text) return (dkjson.decode(text)) end, cjson = cjson.decode }
local encoders = { ours = ours.encode, dkjson = dkjson.encode, cjson = cjson.encode }
function main(env, con)
    local text, number = con:gets(), tonumber(env.CALLS)
    local call, argument = decoders[env.WHOSE], text
    if env.WHAT == "encode" then call, argument = encoders[env.WHOSE], decoders[env.WHOSE](text) end
    local result
    local began = clock()
    for _ = 1, number do result = call(argument) end
    local took = (clock() - began) / number * 1e6
    con:puts(took, "\\n", env.WHAT == "encode" and result or encoders[env.WHOSE](result))
end
"""


def document() -> list[dict[str, object]]:
    """Records of the usual kinds of values."""
    return [
        {
            "id": number, "name": f"Person {number}", "email": f"person{number}@example.org", "active": number % 2 == 0,
            "score": number / 8, "tags": ["red", "green", "blue"],
            "address": {"street": f"{number} High Street", "zip": None},
            "note": 'Says "hello",\nand goes.' if number % 5 == 0 else "Nothing to say.",
        }
        for number in range(1, 54)
    ]  # fmt: skip


def figures() -> list[Figure]:
    """Microseconds, and the ratios to the others. Raises `NotInstalled`."""
    if not _DKJSON.exists():
        raise NotInstalled("dkjson is not installed: apt-get install lua-dkjson lua-cjson")
    values = document()
    text = json.dumps(values, separators=(",", ":")).encode()
    found = []
    with TemporaryDirectory() as folder:
        inside = Inside(Path(folder), "luajit21", '[lua]\ncpath = ["system"]\n')
        shutil.copy(_DKJSON, inside.root)
        state = inside.load(_SCRIPT)
        for what in ("decode", "encode"):
            took: dict[str, list[float]] = {"ours": [], "dkjson": [], "cjson": []}
            for _ in range(_ROUNDS):
                for whose, times in took.items():
                    times.append(_time(inside, state, what, whose, text, values))
            found.append(Figure(f"{what} {len(text) / 1000:.0f} KB of JSON", min(took["ours"]), "us"))
            for whose, goal in (("dkjson", _MAX_DKJSON), ("cjson", _MAX_CJSON)):
                ratio = median(a / b for a, b in zip(took["ours"], took[whose], strict=True))
                found.append(Figure(f"{what} JSON, times {whose}", ratio, "", goal))
        state.close()
        inside.close()
    return found


def _time(inside: Inside, state: State, what: str, whose: str, text: bytes, values: object) -> float:
    request = Request({"WHAT": what, "WHOSE": whose, "CALLS": str(_CALLS)}, body=text, seconds=60)
    took, _, result = inside.run(state, request).text.partition("\n")
    if whose != "dkjson":
        # It leaves null out.
        assert json.loads(result) == values
    return float(took)
