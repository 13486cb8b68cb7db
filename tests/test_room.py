"""A Lua state that is full to the last bytes: what the server pushes into it neither aborts nor hangs the process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from .running import Server

LIMIT = 1 << 20

SCRIPT = """
local fcgi = require "luafcgid"
local rep, count, tonumber = string.rep, collectgarbage, tonumber

-- Take all memory but `left` bytes; less than nothing is left where an allocation has failed.
local function fill(left)
    kept = nil
    collectgarbage()
    local n = 0
    while true do
        local free = LIMIT - count("count") * 1024 - left
        if free < 100 and left >= 0 then return end
        n = n + 1
        kept = { kept, rep("x", free > 4000 and 1000 or 10) .. n }
    end
end

local ways = {
    whole = function(con) return con:gets() end,
    parts = function(con) while con:gets(777) do end end,
    log = function(con) con:log("full") print("full", 1) end,
    sleep = function(con) con:sleep(0) end,
    refused = function(con) con:status(1) end,
    missing = function() return require "no.such.module" end,
    file = function() return dofile "large.lua" end,
    send = function(con) con:puts("a") con:flush() con:puts("b") con:flush() end,
    nothing = function() end,
}

function main(env, con)
    local query = fcgi.parse(env.QUERY_STRING)
    if query.left then
        pcall(fill, tonumber(query.left))
        pcall(ways[query.way], con)
        if query.way ~= "nothing" then kept = nil end
    end
    con:puts("done")
end
"""

WAYS = ("whole", "parts", "log", "sleep", "refused", "missing", "file", "send", "nothing")
SIZES = (0, 1, 100, 3000, 30000, 70000, 300000, 1000000)


@pytest.fixture(params=["luajit21", "lua51", "lua54"])
def server(request: pytest.FixtureRequest, serve: Callable[..., Server]) -> Iterator[Server]:
    """A server whose states are small, one for each script."""
    running = serve(
        {
            "full.lua": SCRIPT.replace("LIMIT", str(LIMIT)),
            "large.lua": "--" + "x" * 100_000 + "\nreturn 1",
            "good.lua": "function main(env, con) con:puts('good') end",
        },
        f'reload = false\n[states]\nclones = 1\n[lua]\nmemory = {LIMIT}\nversion = "{request.param}"\n',
    )
    yield running
    assert "PANIC" not in running.log()
    assert "the server failed" not in running.log()


def lefts(chosen: random.Random) -> list[int]:
    """How many bytes to leave. Lua counts up to 40 KB more than the limit does, so that the edge is below 0."""
    return [-LIMIT, *(chosen.randint(-45_000, 0) for _ in range(16)), *(chosen.randint(0, 150_000) for _ in range(8))]


def test_full_states(server: Server) -> None:
    """States filled to all but so many bytes, and bodies, parameters, files and messages of all sizes."""
    chosen = random.Random(7)
    cases = [(way, left, chosen.choice(SIZES)) for way in WAYS * 2 for left in lefts(chosen)]
    if 'version = "luajit21"' not in server.config.read_text():
        cases = chosen.sample(cases, 80)
    statuses: dict[int, int] = {}
    for way, left, size in cases:
        reply = server.get(f"full.lua?way={way}&left={left}", b"y" * size)
        statuses[reply.status] = statuses.get(reply.status, 0) + 1
        assert reply.status == 500 or reply.body.endswith(b"done"), (way, left, size)
        if way == "nothing":
            # The state is still full when the next request's parameters come.
            reply = server.get("full.lua", LONG="p" * min(size, 100_000))
            statuses[reply.status] = statuses.get(reply.status, 0) + 1
    assert statuses.keys() == {200, 500}
    assert server.get("good.lua").body == b"good"
    assert "out of memory (lua.memory is 1048576 bytes)" in server.log()
