"""How long a state lives: renewed after so many requests, fresh for each, let go when nobody uses it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..support.running import Server, until

COUNT = """
n = 0
function main(env, con)
    n = n + 1
    con:puts(n)
end
function shutdown(con) con:log("state goes after " .. n) end
"""


def answers(server: Server, times: int) -> list[int]:
    """What so many requests get, one after the other."""
    return [int(server.get("count.lua").body) for _ in range(times)]


def test_max_requests(serve: Callable[..., Server]) -> None:
    """A state that has answered so many requests is shut down, and the next request gets a fresh one."""
    server = serve({"count.lua": COUNT}, "[states]\nmax_requests = 3\n")
    assert answers(server, 7) == [1, 2, 3, 1, 2, 3, 1]
    until(lambda: server.log().count("state goes after 3") == 2)
    assert "state goes after 1" not in server.log()


def test_no_limit(serve: Callable[..., Server]) -> None:
    """With 0, which is the default, a state answers for ever."""
    assert answers(serve({"count.lua": COUNT}), 100) == list(range(1, 101))


def test_per_request(serve: Callable[..., Server]) -> None:
    """With a fresh state for each request, nothing persists."""
    server = serve({"count.lua": COUNT}, "[states]\nper_request = true\n")
    assert answers(server, 20) == [1] * 20
    until(lambda: server.log().count("state goes after 1") == 20)


def test_idle(serve: Callable[..., Server]) -> None:
    """States that nobody has used for a time are shut down, but the last one of a script stays."""
    wait = COUNT.replace("con:puts(n)", "con:sleep(0.2) con:puts(n)")
    server = serve({"count.lua": wait}, "[states]\nidle = 0.5\n")
    connections = [server.connect() for _ in range(4)]
    try:
        for connection in connections:
            connection.send(server.request("count.lua"))
        assert [connection.reply().body for connection in connections] == [b"1"] * 4
    finally:
        for connection in connections:
            connection.socket.close()
    until(lambda: server.log().count("state goes after 1") == 3)
    assert answers(server, 1) == [2]
    assert server.log().count("state goes after") == 3


def resident(server: Server) -> int:
    """What it has in memory, in KB."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give memory back by themselves")
def test_the_memory_of_idle_states_is_given_back(serve: Callable[..., Server]) -> None:
    """After a crowd of requests at once, most of what their states took goes back to the system."""
    wait = COUNT.replace("con:puts(n)", "con:sleep(1) con:puts(n)")
    server = serve({"count.lua": wait}, "[states]\nidle = 0.5\n")
    before = resident(server)
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(60)]
        for connection in connections:
            connection.send(server.request("count.lua"))
        assert [connection.reply().body for connection in connections] == [b"1"] * 60
        grown = resident(server) - before
    assert grown > 4000
    until(lambda: resident(server) - before < grown / 2, "memory to be given back")


FULL = """
function main(env, con)
    local kept = {}
    while true do kept[#kept + 1] = ("x"):rep(1000000) .. #kept end
end
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give memory back by themselves")
def test_the_memory_of_full_states_is_given_back(serve: Callable[..., Server]) -> None:
    """A state that has no memory left goes at once, with what it had."""
    server = serve({"full.lua": FULL, "count.lua": COUNT})
    assert answers(server, 1) == [1]
    before = resident(server)
    for _ in range(40):
        assert server.get("full.lua").status == 500
    until(lambda: resident(server) - before < 10_000, "memory to be given back")


@pytest.mark.parametrize("version", ["luajit21", "lua51", "lua53", "lua54"])
def test_a_state_that_does_not_load_is_closed_there(serve: Callable[..., Server], version: str) -> None:
    """Its finalizers run in the request that made it, and not in somebody else's."""
    broken = """
        local function made(text)
            if not newproxy then return setmetatable({}, { __gc = function() print(text) end }) end
            local proxy = newproxy(true)
            getmetatable(proxy).__gc = function() print(text) end
            return proxy
        end
        kept = made("finalized")
        error("does not load")
    """
    server = serve({"broken.lua": broken}, f'[lua]\nversion = "{version}"\n')
    for times in (1, 2, 3):
        assert server.get("broken.lua").status == 500
        assert server.log().count("finalized") == times
