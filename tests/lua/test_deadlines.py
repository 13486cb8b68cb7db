"""The time that scripts have: no script outlasts its deadline, whatever it does, on any Lua."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from greenfcgi.errors import ScriptLate
from greenfcgi.fastcgi.client import Client
from greenfcgi.lua import budget

from ..support.inside import FLAVOURS, Inside, Request
from ..support.running import Server

#: Statements that never end by themselves, each hidden in another way; FOREVER is a function that does not return.
ENDLESS = {
    "loop": "while true do end",
    "strings": "local s = '' while true do s = ('x'):rep(1000) .. 'y' end",
    "recursion": "local function f(n) if n > 0 then f(n - 1) f(n - 1) end end while true do f(20) end",
    "pcall": "while true do pcall(FOREVER) end",
    "pcall of error": "while true do pcall(error, 'x') end",
    "nested pcall": "pcall(pcall, pcall, function() while true do pcall(FOREVER) end end)",
    "xpcall": "while true do xpcall(FOREVER, function(e) return e end) end",
    "xpcall handler": "xpcall(error, FOREVER) while true do end",
    "xpcall handler with pcall": "while true do xpcall(error, function() pcall(FOREVER) end) end",
    "coroutine": "local co = coroutine.create(FOREVER) coroutine.resume(co) while true do end",
    "coroutines": "while true do coroutine.resume(coroutine.create(FOREVER)) end",
    "coroutine in coroutine": """
        coroutine.wrap(function()
            local co = coroutine.create(function() pcall(FOREVER) while true do end end)
            while true do coroutine.resume(co) end
        end)()
        while true do end
    """,
    "yields": """
        local step = coroutine.wrap(function() while true do coroutine.yield() end end)
        while true do step() end
    """,
    "generator": "for _ in coroutine.wrap(function() while true do coroutine.yield(1) end end) do end",
    "iterator": "for _ in function() return 1 end do end",
    "sort": """
        local t = {}
        for i = 1, 100 do t[i] = i end
        while true do table.sort(t, function(a, b) pcall(FOREVER) return a < b end) end
    """,
    "gsub": "while true do pcall(string.gsub, ('x'):rep(100), '.', FOREVER) end",
    "index": "local t = setmetatable({}, { __index = FOREVER }) pcall(function() return t.x end) while true do end",
    "operators": """
        local t = setmetatable({}, { __add = FOREVER, __concat = FOREVER,
            __lt = FOREVER, __call = FOREVER })
        pcall(function() return t + 1 end) pcall(function() return t .. 'x' end)
        pcall(function() return t < t end) pcall(t)
        while true do end
    """,
    "tostring": "local t = setmetatable({}, { __tostring = FOREVER }) while true do pcall(tostring, t) end",
    "error object": "error(setmetatable({}, { __tostring = FOREVER }))",
    "reader": "while true do load(FOREVER) end",
    "loaded": "while true do pcall(assert((loadstring or load)('while true do end'))) end",
    "required": "package.preload.x = FOREVER while true do pcall(require, 'x') end",
    "close": """
        if not coroutine.close then while true do end end
        local load = load([[
            local co = coroutine.create(function()
                local x <close> = setmetatable({}, { __close = FOREVER })
                coroutine.yield()
            end)
            coroutine.resume(co)
            coroutine.close(co)
        ]])
        while true do pcall(load) end
    """,
    "closed": """
        if not coroutine.close then while true do end end
        load([[local x <close> = setmetatable({}, { __close = FOREVER }) while true do end]])()
    """,
    "goto": "local f = (loadstring or load)('::a:: goto a') if f then pcall(f) end while true do end",
    "output": "while true do con:puts('x') con:reset() end",
    "sleep": "con:sleep(3600)",
    "short sleeps": "while true do pcall(con.sleep, con, 0.001) end",
    "sleep in coroutine": "coroutine.wrap(function() pcall(con.sleep, con, 3600) end)() while true do end",
    "log": "while true do con:log('debug', 'x') con:sleep(0.01) end",
}

TIMEOUT = 0.05


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Each Lua in turn."""
    inside = Inside(tmp_path_factory.mktemp(request.param), request.param, f"timeout = {TIMEOUT * 2}\n")
    yield inside
    inside.close()


@pytest.mark.parametrize("name", ENDLESS)
def test_it_ends(lua: Inside, name: str) -> None:
    """A script past its deadline ends with 504, and its state is not used again."""
    statements = ENDLESS[name].replace("FOREVER", "function() while true do end end")
    state = lua.load(f"function main(env, con)\n{statements}\nend\n")
    request = Request(seconds=TIMEOUT)
    if "sleep" in name:
        request.sleep = time.sleep  # type: ignore[method-assign, assignment]  # C functions are positional
    answer = lua.run(state, request)
    assert answer.failure is not None
    assert answer.failure.status == 504, answer.failure
    assert answer.error == f"stopped: it ran longer than timeout, {TIMEOUT * 2:g} s"
    assert not state.is_reusable


@pytest.mark.parametrize(
    "text",
    [
        "while true do end function main() end",
        "function init() while true do pcall(function() while true do end end) end end function main() end",
        "function init(con) con:sleep(3600) end function main() end",
    ],
    ids=["top", "init", "waiting init"],
)
def test_loading_ends(lua: Inside, text: str) -> None:
    """What a script does while it is loaded has the same time."""
    with pytest.raises(ScriptLate, match=r"page\.lua: stopped: it ran longer than timeout, 0\.1 s") as caught:
        lua.load(text)
    assert caught.value.status == 504


def test_hooks_end(lua: Inside) -> None:
    """So do its hooks; the state of one that was stopped is not used again."""
    state = lua.load("function main() end function heartbeat() while true do end end")
    state.hook("heartbeat")
    assert "page.lua: heartbeat: stopped: it ran longer than timeout, 0.1 s" in lua.log()
    assert not state.is_reusable


@pytest.mark.parametrize(
    "text", ["not enough memory", "the client has gone", "the request has run longer than its time"]
)
def test_words_end_nothing(lua: Inside, text: str) -> None:
    """An error that quotes what a client sent can be caught, and is an error like others, whatever the words are."""
    state = lua.load(f"function main(env, con) con:puts(select(2, pcall(error, 'bad value: {text}', 0))) end")
    assert lua.run(state).text == f"bad value: {text}"
    answer = lua.main(f"error('bad value: {text}')")
    assert answer.failure is not None
    assert answer.failure.status == 500
    assert answer.error.endswith(f"page.lua:2: bad value: {text}")


def test_an_idle_state_is_not_late(lua: Inside) -> None:
    """To look whether it has a hook takes nothing of a time that was over long ago."""
    state = lua.load("function main() end")
    time.sleep(2.5 * TIMEOUT)
    for _ in range(2000):
        assert not state.has_hook("heartbeat")
    assert lua.run(state, Request(seconds=TIMEOUT)).status == 200
    assert state.is_reusable


@pytest.mark.parametrize(
    "text",
    [
        "local function r(n) if n > 0 then coroutine.wrap(r)(n - 1) coroutine.wrap(r)(n - 1) end end r(60)",
        "local function r() return xpcall(error, r) end while true do xpcall(error, r) end",
    ],
    ids=["coroutines", "errors"],
)
def test_endless_in_small_steps(lua: Inside, text: str) -> None:
    """Coroutines that each run for a few instructions, and errors that are costly to catch, end at the deadline."""
    began = time.thread_time()
    answer = lua.main(text, Request(seconds=0.3))
    assert answer.failure is not None
    # Lua 5.1 may be out of memory before.
    assert answer.failure.status in (504, 500)
    assert time.thread_time() - began < 8


@pytest.mark.parametrize("is_late", [False, True])
def test_the_way_to_the_place(lua: Inside, is_late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback of a script that was stopped leads to where it was, also behind a late look at the clock."""
    if is_late:
        monkeypatch.setattr(budget, "_MAX_LATE", -1)
    text = "local function work()\n  while true do end\nend\nfunction main()\n  work()\n  return 1\nend\n"
    # Long enough to have come there on a busy machine.
    answer = lua.run(lua.load(text), Request(seconds=10 * TIMEOUT))
    assert answer.failure is not None
    lines = answer.failure.traceback.splitlines()
    assert "page.lua:2: in " in lines[2]
    assert "page.lua:5: in " in lines[3]
    assert len(lines) == 4


ENDLESS_SCRIPT = "function main(env, con) while true do pcall(function() while true do end end) end end"
HELLO = "function main(env, con) con:puts('hello') end"


def test_answered_with_504(serve: Callable[..., Server]) -> None:
    """The client gets a 504, or what has been sent is cut off; the log says where the script was."""
    part = "function main(env, con) con:puts('part') con:flush() while true do end end"
    server = serve({"endless.lua": ENDLESS_SCRIPT, "part.lua": part, "hello.lua": HELLO}, "timeout = 0.2\n")
    reply = server.get("endless.lua")
    assert (reply.status, reply.ended) == (504, (0, 0))
    log = server.logged("GET /endless.lua: stopped: it ran longer than timeout, 0.2 s")
    assert "endless.lua:1: in " in log
    cut = server.get_truncated("part.lua")
    assert (cut.status, cut.body) == (200, b"part")
    assert server.get("hello.lua").body == b"hello"


def test_a_client_that_does_not_read(serve: Callable[..., Server]) -> None:
    """A script that waits for a client to take its page is stopped at its deadline, and its worker is free again."""
    page = "function main(env, con) for _ = 1, 100 do con:puts(('x'):rep(1000000)) con:flush() end end"
    server = serve({"page.lua": page, "hello.lua": HELLO}, "timeout = 0.3\nworkers = 1\n")
    with server.connect() as connection:
        connection.send(Client.request(server.params("page.lua")))
        # The client stays until then, and the hello may have come before the page.
        server.logged("GET /page.lua: stopped: it ran longer than timeout, 0.3 s")
        assert server.get("hello.lua").body == b"hello"


def test_others_have_their_turn(serve: Callable[..., Server]) -> None:
    """While eight scripts compute, hundreds of requests of others are answered."""
    server = serve({"endless.lua": ENDLESS_SCRIPT, "hello.lua": HELLO}, "timeout = 60\n")
    busy = [server.connect() for _ in range(8)]
    try:
        for connection in busy:
            connection.send(Client.request(server.params("endless.lua")))
        for _ in range(200):
            assert server.get("hello.lua").body == b"hello"
        assert not any(connection.client.replies for connection in busy)
    finally:
        for connection in busy:
            connection.__exit__()


def test_those_who_compute_share_alike(serve: Callable[..., Server]) -> None:
    """Scripts that compute get equal parts of the time."""
    count = """
        function main(env, con)
            local n, stop = 0, os.clock() + 2
            while os.clock() < stop do for i = 1, 1000 do n = n + 1 end end
            con:puts(n)
        end
    """
    server = serve({"count.lua": count})
    busy = [server.connect() for _ in range(4)]
    for connection in busy:
        connection.send(Client.request(server.params("count.lua")))
    counts = [int(connection.reply().body) for connection in busy]
    for connection in busy:
        connection.__exit__()
    assert min(counts) > max(counts) / 2, counts
