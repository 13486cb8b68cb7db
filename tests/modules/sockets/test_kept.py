"""setkeepalive: connections over requests and over states, their time, their number, and ends that have gone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from greenfcgi.quota import Quota

from ...support.inside import Inside, Request
from .peers import Serve, echoes, is_silent, serving, together
from .scripts import LUAS, said


@pytest.fixture(params=LUAS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Some Luas."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


@pytest.fixture
def accepted() -> Iterator[list[socket.socket]]:
    """Connections that a server has accepted."""
    sockets: list[socket.socket] = []
    yield sockets
    for each in sockets:
        each.close()


def counting(serve: Serve, accepted: list[socket.socket]) -> Serve:
    """A server that keeps what it accepts in a list, and serves each in a thread."""
    each = together(serve)

    def run(connection: socket.socket) -> None:
        accepted.append(connection.dup())
        each(connection)

    return run


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, while the event loop runs."""

    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        gevent.sleep(0.01)


USE = """
local function use(port, options, ...)
    local tcp = socket.tcp()
    tcp:settimeout(5)
    assert(tcp:connect("127.0.0.1", port, options))
    local times = tcp:getreusedtimes()
    tcp:send("hello\\n")
    assert(tcp:receive() == "hello")
    show(times, tcp:setkeepalive(...))
    return tcp
end
"""


def test_within_a_state_and_over_states(lua: Inside, accepted: list[socket.socket]) -> None:
    """The connection that was used last is taken; for the script that gave it, it is closed."""
    with serving(counting(echoes, accepted)) as port:
        for first in (0, 2):
            found = said(
                lua,
                USE + f"local tcp = use({port}) show(tcp:send('x')) show(tcp:getreusedtimes()) use({port})",
            )
            assert found == [f"{first} 1", "nil closed 0", "nil closed", f"{first + 1} 1"]
        assert len(accepted) == 1
        # A pool of another name.
        pool = f"{{pool = 'mine{port}'}}"
        assert said(lua, USE + f"use({port}, {pool}) use({port}, {pool})") == ["0 1", "1 1"]
        assert len(accepted) == 2


def test_no_more_than_its_size(lua: Inside, accepted: list[socket.socket]) -> None:
    """The one that was used least recently goes."""
    with serving(counting(echoes, accepted)) as port:
        found = said(
            lua,
            f"""
            local all = {{}}
            for i = 1, 3 do all[i] = socket.connect("127.0.0.1", {port}) end
            for i = 1, 3 do show(all[i]:setkeepalive(60000, 2)) end
            local again = {{}}
            for i = 1, 3 do
                again[i] = socket.connect("127.0.0.1", {port})
                show(again[i]:getreusedtimes())
            end
            """,
        )
        assert found == ["1", "1", "1", "1", "1", "0"]
        # The two that were kept are there again, and a new one.
        until(lambda: len(accepted) == 4)


def test_its_time(lua: Inside, accepted: list[socket.socket]) -> None:
    """After that, the next gets a new connection, and the old one is closed without anybody's asking."""
    with serving(counting(echoes, accepted)) as port:
        assert said(lua, USE + f"use({port}, nil, 20)") == ["0 1"]
        time.sleep(0.03)
        assert said(lua, USE + f"use({port}, nil, 20)") == ["0 1"]
        assert len(accepted) == 2
        closed = os.dup(accepted[1].fileno())
        with socket.socket(fileno=closed) as end:
            end.setblocking(False)

            def is_closed() -> bool:
                try:
                    return end.recv(1, socket.MSG_PEEK) == b""
                except BlockingIOError:
                    return False

            until(is_closed)


def test_ends_that_have_gone(lua: Inside, accepted: list[socket.socket]) -> None:
    """Nobody gets a connection that was closed meanwhile, or on which something came unasked."""
    with serving(counting(echoes, accepted)) as port:
        assert said(lua, USE + f"use({port})") == ["0 1"]
        accepted[0].shutdown(socket.SHUT_RDWR)
        assert said(lua, USE + f"use({port})") == ["0 1"]
        accepted[1].sendall(b"unasked\n")
        assert said(lua, USE + f"use({port})") == ["0 1"]
        assert len(accepted) == 3


def test_what_cannot_be_kept(lua: Inside) -> None:
    """A connection with something unread, one that has ended, one that was accepted, one that is none."""
    with serving(together(echoes)) as port:
        found = said(
            lua,
            f"""
            local tcp = socket.connect("127.0.0.1", {port})
            tcp:send("one\\ntwo\\n")
            tcp:receive()
            show(tcp:setkeepalive())
            show(tcp:receive())
            show(tcp:setkeepalive())
            local server = socket.tcp()
            server:bind("127.0.0.1", 0)
            server:listen()
            local client = socket.connect("127.0.0.1", (select(2, server:getsockname())))
            local accepted = server:accept()
            show(accepted:setkeepalive())
            show(accepted:getfd())
            show(pcall(server.setkeepalive, server))
            socket.select({{client}}, nil, 5)
            show(client:setkeepalive())
            """,
        )
    assert found == [
        "nil unread data in buffer", "two nil nil", "1", "nil not connected", "-1",
        "false calling 'setkeepalive' on bad self (tcp{client} expected)", "nil unread data in buffer, or closed",
    ]  # fmt: skip


def test_options_hold_for_a_kept_connection(lua: Inside) -> None:
    """What the script has set before it connects is set on what it gets."""
    with serving(together(echoes)) as port:
        assert said(lua, USE + f"use({port})") == ["0 1"]
        found = said(
            lua,
            f"""
            local tcp = socket.tcp()
            tcp:setoption("keepalive", true)
            tcp:connect("127.0.0.1", {port})
            show(tcp:getreusedtimes(), tcp:getoption("keepalive"))
            """,
        )
    assert found == ["1 true"]


def test_a_new_socket_comes_before_a_kept_connection(tmp_path: Path) -> None:
    """Where scripts have all descriptors that they may, the connections that wait for somebody are closed."""
    lua = Inside(tmp_path)
    quota = lua.engine.files = Quota(4)
    with serving(together(echoes)) as port:
        found = said(
            lua,
            f"""
            local all = {{}}
            for i = 1, 4 do all[i] = assert(socket.connect("127.0.0.1", {port}, nil, nil)) end
            for i = 1, 4 do show(all[i]:setkeepalive()) end
            for i = 1, 4 do all[i] = socket.udp() end
            show(socket.udp())
            """,
        )
        assert found[-1] == "nil Too many open files"
        assert quota.taken <= 4
        # All of the pool is closed, or counts; the state's own are given back.
        assert said(lua, "show(socket.udp() ~= nil)") == ["true"]
    lua.close()


class Leaving(Request):
    """A request whose client goes as soon as the script waits."""

    def wait(self, event: object, seconds: float) -> None:
        """Go."""
        self.gone = True


def test_an_answer_under_way_is_nobody_elses(lua: Inside) -> None:
    """When a client goes while its script waits for an answer, the connection is closed, however old it is.

    The next run would read the answer to this one's question.
    """
    with serving(together(is_silent)) as port:
        state = lua.load(
            f"""
            local socket = require "socket.core"
            local kept = socket.connect("127.0.0.1", {port})
            local unused = socket.connect("127.0.0.1", {port})
            function main(env, con)
                if env.ASK then
                    kept:send("question\\n")
                    kept:receive()
                end
                con:puts(kept:getfd() < 0 and "closed" or "open", " ", unused:getfd() < 0 and "closed" or "open")
            end
            """
        )
        assert lua.run(state).text == "open open"
        gone = lua.run(state, Leaving({"ASK": "1"}))
        assert gone.failure is not None
        assert gone.failure.message == "the client has gone"
        assert lua.run(state).text == "closed open"
        state.close()
