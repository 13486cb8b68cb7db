"""A Lua state that is full to the last bytes: nothing that happens in it aborts or hangs the process."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from ..support.running import Server

LIMIT = 1 << 20

FILL = """
local rep, count, tonumber = string.rep, collectgarbage, tonumber

-- Take all memory but `left` bytes, as Lua counts; the limit may be up to 45 KB away from that.
local function fill(left)
    kept = nil
    collectgarbage()
    local n = 0
    while true do
        local free = LIMIT - count("count") * 1024 - left
        if free < 100 then return end
        n = n + 1
        kept = { kept, rep("x", free > 4000 and 1000 or 10) .. n }
    end
end
"""

#: Fills the state, and calls a way to need more. `kept` holds what fills it; it goes where the way has survived.
FULL = """
local fcgi = require "luafcgid"
FILL
local ways = {
    whole = function(con) return con:gets() end,
    parts = function(con) while con:gets(777) do end end,
    log = function(con) con:log("full") print("full", 1) end,
    sleep = function(con) con:sleep(0) end,
    refused = function(con) con:status(1) end,
    missing = function() return require "no.such.module" end,
    file = function() return dofile "large.lua" end,
    send = function(con) con:puts("a") con:flush() con:puts("b") con:flush() end,
    header = function(con) con:header("X-A", "b") con:header("Content-Length: 4") con:status(203) end,
    nothing = function() end,
}

function main(env, con)
    local query = fcgi.parse(env.QUERY_STRING)
    if query.left then
        fill(tonumber(query.left))
        pcall(ways[query.way], con)
        if query.way ~= "nothing" then kept = nil end
    end
    con:puts("done")
end
"""

#: Calls one function again and again, and keeps the results until there is no memory left.
GROWING = """
local ways = {
    sub = function(i) return TEXT:sub(i % 1900, i % 1900 + 50) end,
    upper = function(i) return WORDS[i % #WORDS + 1]:upper() end,
    lower = function(i) return WORDS[i % #WORDS + 1]:lower() end,
    reverse = function(i) return WORDS[i % #WORDS + 1]:reverse() end,
    char = function(i) return string.char(i % 256, (i - i % 256) / 256 % 256) end,
    tostring = function(i) return tostring(i) end,
    fraction = function(i) return tostring(i + 0.5) end,
    rep = function(i) return ("ab"):rep(i) end,
    concat = function(i) return "x" .. i end,
    format = function(i) return ("%d %s"):format(i, i) end,
    join = function(i) return table.concat({ i, i }, ",") end,
    gsub = function(i) return (("a" .. i):gsub("%d", "%0%0")) end,
    gsubcall = function(i) return (("a" .. i):gsub("%d", function(d) return d .. d end)) end,
    match = function(i) return ("a" .. i):match("%d+") end,
    gmatch = function(i) local t = {} for d in tostring(i):gmatch("%d") do t[#t + 1] = d end return t end,
    find = function(i) return { ("a" .. i):find("(%d)(.*)") } end,
    byte = function(i) return { ("a" .. i):byte(1, -1) } end,
    array = function(i) local t = {} for j = 1, 20 do t[j] = j end return t end,
    hash = function(i) local t = {} for j = 1, 20 do t["a" .. j] = j end return t end,
    insert = function(i) local t = {} for j = 1, 20 do table.insert(t, j) end return t end,
    sort = function(i) local t = { 3, 2, i } table.sort(t, function(a, b) return a < b end) return t end,
    unpack = function(i) return { (unpack or table.unpack)({ 1, 2, 3, i }) } end,
    vararg = function(...) return { ... } end,
    metatable = function(i) return setmetatable({}, { __index = function() return i end }) end,
    closure = function(i) return function() return i end end,
    coroutine = function(i) return { coroutine.create(print), coroutine.wrap(print) } end,
    resume = function(i) return { coroutine.resume(coroutine.create(function(...) return { ... } end), i) } end,
    wrap = function(i) return coroutine.wrap(function() return { i } end)() end,
    pcall = function(i) return select(2, pcall(function() return { i } end)) end,
    error = function(i) return select(2, pcall(error, "abc" .. i)) end,
    errortable = function(i) return select(2, pcall(error, { i })) end,
    fault = function(i) return { i, select(2, pcall(function() local x return x.y end)) } end,
    xpcall = function(i) return { i, select(2, xpcall(function() error("abc" .. i) end, debug.traceback)) } end,
    recursion = function(i) local function f(n) return n > 0 and { f(n - 1) } or {} end return f(i % 150) end,
    load = function(i) return (loadstring or load)("return function() return { 1, 2, " .. i .. " } end") end,
    getinfo = function(i) return debug.getinfo(1) end,
    traceback = function(i) return debug.traceback("x" .. i) end,
    date = function(i) return os.date("%Y") .. i end,
    file = function(i) return { io.open("/nonexistent/" .. i) } end,
    require = function(i) return select(2, pcall(require, "missing" .. i)) end,
    serialize = function(i) return require("luafcgid").serialize({ i, "x" }) end,
    urlencode = function(i) return require("luafcgid").urlencode("& " .. i) end,
    config = function(i) return { con:config("a.b." .. i) } end,
    gets = function(i) return con:gets(7) end,
    puts = function(i) con:puts("x" .. i) return {} end,
    header = function(i) con:header("X-" .. i, "y") return {} end,
    refused = function(i) return select(2, pcall(con.header, con, "X" .. i, "\\n")) end,
}

function main(env, connection)
    con = connection
    if env.QUERY_STRING == "" then
        for name in pairs(ways) do con:puts(name .. " ") end
        return
    end
    local way, most = env.QUERY_STRING:match("(%a+%d*)&(%d+)")
    way, TEXT, WORDS = ways[way], "", {}
    for i = 1, 2000 do WORDS[i] = "Word" .. i end
    TEXT = table.concat(WORDS, nil, 1, 300)
    local filler = ("x"):rep(most) .. "y"
    local kept
    for i = 1, 1e6 do kept = { kept, way(i) } end
end
"""

#: Calls functions that LuaJIT has in assembly when the state has been full for a moment, from different places of the
#: stack: it writes the message where the last function in C has left the top of it.
PLACES = """
FILL
local words, places = {}, {}
for i = 1, 300 do words[i] = "Word" .. i end
local ways = {
    sub = function(i) return words[i % 300 + 1]:sub(2) end,
    upper = function(i) return words[i % 300 + 1]:upper() end,
    tostring = function(i) return tostring(i) end,
}
for n = 0, 15 do
    local locals = ("local a "):rep(n)
    local loop = "local held for i = 1, 3000 do held = { held, way(i) } end"
    places[n] = (loadstring or load)("local fill, left, way = ... fill(left) " .. locals .. loop)
end

function main(env, con)
    local way, place, left = env.QUERY_STRING:match("(%a+)&(%d+)&(.*)")
    places[tonumber(place)](fill, tonumber(left), ways[way])
end
"""

WAYS = ("whole", "parts", "log", "sleep", "refused", "missing", "file", "send", "header", "nothing")
SIZES = (0, 1, 100, 3000, 30000, 70000, 300000, 1000000)


@pytest.fixture(params=["luajit21", "lua51", "lua52", "lua53", "lua54", "lua55"])
def version(request: pytest.FixtureRequest) -> str:
    """The Luas whose memory is limited."""
    return str(request.param)


@pytest.fixture
def server(version: str, serve: Callable[..., Server]) -> Iterator[Server]:
    """A server whose states are small, one for each script."""
    running = serve(
        {
            "full.lua": FULL.replace("FILL", FILL).replace("LIMIT", str(LIMIT)),
            "places.lua": PLACES.replace("FILL", FILL).replace("LIMIT", str(LIMIT)),
            "growing.lua": GROWING,
            "large.lua": "--" + "x" * 100_000 + "\nreturn 1",
            "good.lua": "function main(env, con) con:puts('good') end",
        },
        f'reload = false\n[states]\nclones = 1\n[lua]\nmemory = {LIMIT}\nversion = "{version}"\n',
    )
    yield running
    assert running.get("good.lua").body == b"good"
    assert "PANIC" not in running.log()
    assert "the server failed" not in running.log()


def lefts(chosen: random.Random) -> list[int]:
    """How many bytes to leave."""
    ranges = [(-45_000, 0)] * 4 + [(0, 1000)] * 8 + [(0, 10_000)] * 8 + [(0, 150_000)] * 8
    return [-LIMIT, *(chosen.randint(*edges) for edges in ranges)]


def test_full_states(server: Server, version: str) -> None:
    """States filled to all but so many bytes, and bodies, parameters, files and messages of all sizes."""
    chosen = random.Random(7)
    cases = [(way, left, chosen.choice(SIZES)) for way in WAYS for left in lefts(chosen)]
    if version != "luajit21":
        cases = chosen.sample(cases, 80)
    statuses: Counter[int] = Counter()
    for way, left, size in cases:
        reply = server.get(f"full.lua?way={way}&left={left}", b"y" * size)
        assert reply.status == 500 or reply.body.endswith(b"done"), (way, left, size)
        statuses[reply.status] += 1
        if way == "nothing":
            # The state is still full when the next request's parameters come.
            many = {f"P{number}": "" for number in range(min(size // 10, 10_000))}
            reply = server.get("full.lua", b"", LONG="p" * min(size, 20_000), **many)
            assert reply.status == 500 or reply.body == b"done", (way, left, size)
            statuses[reply.status] += 1
    assert statuses[200]
    assert statuses[500]
    assert "out of memory (lua.memory is 1048576 bytes)" in server.log()


def test_running_out_of_memory_anywhere(server: Server, version: str) -> None:
    """Whatever function it is in which memory runs out, the request fails, and says so."""
    chosen = random.Random(7)
    for way in server.get("growing.lua").body.decode().split():
        for _ in range(6 if version == "luajit21" else 1):
            reply = server.get(f"growing.lua?{way}&{chosen.randint(0, 5000)}", b"x" * 200_000 if way == "gets" else b"")
            assert reply.status == 500, way
            assert server.log().endswith("out of memory (lua.memory is 1048576 bytes)\n"), way


@pytest.mark.parametrize("version", ["luajit21"])
def test_running_out_of_memory_in_assembly(server: Server, version: str) -> None:
    """LuaJIT's functions in assembly, which would write over their callers when memory runs out, are kept from it."""
    statuses = {
        server.get(f"places.lua?{way}&{place}&{left}").status
        for way in ("sub", "upper", "tostring")
        for place in range(3)
        for left in range(-40_000, 0, 400)
    }
    assert 500 in statuses
