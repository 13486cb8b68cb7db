"""Parts of the server's Lua that are compiled when a script first needs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.lua.bytecode import stripped
from tests.support.inside import FLAVOURS, Inside


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


@pytest.mark.parametrize(
    "call",
    [
        "con:status(404)", "con:log('x')", "con:config('x')", "io.open('/nowhere')", "io.write('x')", "os.remove('x')",
        "load(function() end)", "loadfile('page.lua')", "pcall(require, 'no.such')", "math.random(6)", "print('x')",
        "pcall(string.rep)", "pcall(con.status, con, {})",
    ],
)  # fmt: skip
def test_what_the_script_has_changed_does_not_matter(lua: Inside, call: str) -> None:
    """They work where the script has emptied all tables of Lua, and taken its functions away."""
    state = lua.load(
        """
        function main(env, con)
            local next, pcall, load, loadfile, require, print = next, pcall, load, loadfile, require, print
            local keep = { io = { open = io.open, write = io.write }, os = { remove = os.remove }, math = math.random,
                rep = string.rep }
            for _, t in next, { string, table, math, os, io, debug, coroutine, package } do
                for k in next, t do if k ~= "path" then t[k] = nil end end
            end
            for _, name in next, { "error", "type", "select", "tostring", "tonumber", "setmetatable", "ipairs", "pairs",
                "_VERSION", "jit", "unpack", "rawget", "getmetatable", "xpcall", "assert" } do _G[name] = nil end
            local io, os, math, string = keep.io, keep.os, { random = keep.math }, { rep = keep.rep }
            CALL
            con:puts("on")
        end
        """.replace("CALL", call)
    )
    assert lua.run(state).text == "on"


def test_strips_only_what_it_knows() -> None:
    """Anything else than bytecode of these two is refused."""
    with pytest.raises(ValueError, match=r"expected that of Lua 5\.1 or 5\.4"):
        stripped(b"\x1bLJ\x02", False)
