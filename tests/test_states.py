"""How long a state lives: renewed after so many requests, fresh for each, let go when nobody uses it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from .running import Server, until

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
