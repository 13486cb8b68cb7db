"""What a script leaves: sockets that nobody holds, its deadline, a client that has gone, a state that goes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from greenfcgi.lua.bridge import Waitable

from ...support.inside import FLAVOURS, Inside, Request
from .peers import echoes, is_silent, serving


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


CONNECT = """
local socket = require "socket.core"
function main(env, con)
    local tcp = assert(socket.connect("127.0.0.1", {port}))
    tcp:send("hello\\n")
    con:puts(tcp:receive())
    {leave}
end
"""


@pytest.mark.parametrize("leave", ["", "tcp:close()", "kept = tcp", "tcp:setkeepalive()"])
def test_a_thousand_requests_leave_no_descriptor(lua: Inside, leave: str) -> None:
    """Whether the script closes its socket, forgets it, keeps it until the next request, or in the pool."""
    number = 1000 if lua.engine.config.lua.version == "luajit21" else 100
    # The server serves one connection at a time, so one that stays open would be seen at once.
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def echo(connection: socket.socket) -> None:
        with connection:
            try:
                echoes(connection)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    state = lua.load(CONNECT.format(port=listener.getsockname()[1], leave=leave))
    before = 0
    for count in range(number):
        assert lua.run(state).text == "hello"
        if count == 3:
            before = descriptors()
    after = descriptors()
    # The other ends are this process's, too.
    assert after <= before + 8
    state.close()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_the_deadline_ends_a_wait(lua: Inside) -> None:
    """A script that catches the timeouts of its sockets, and waits anew, ends when its time is over."""
    with serving(is_silent) as port:
        script = f"""
        local socket = require "socket.core"
        function main()
            local tcp = socket.connect("127.0.0.1", {port})
            while true do pcall(tcp.receive, tcp) end
        end
        """
        state = lua.load(script)
        left, before = descriptors(), time.monotonic()
        found = lua.run(state, Request(seconds=0.2))
        assert found.failure is not None
        assert found.failure.status == 504
        assert time.monotonic() - before < 5
        assert not state.is_healthy
        state.close()
    assert descriptors() <= left


class Leaving(Request):
    """A request whose client goes when the script waits."""

    def wait(self, event: Waitable, seconds: float) -> None:
        """Go."""
        self.gone = True
        event.set()


def test_the_client_goes(lua: Inside) -> None:
    """The wait ends, and what the script had opened is closed, though its state is used again."""
    with serving(is_silent) as port:
        script = f"""
        local socket = require "socket.core"
        function main(env, con)
            if kept then return con:puts(tostring(kept:getfd()), " ", select(2, kept:getsockname())) end
            kept = socket.tcp()
            kept:connect("127.0.0.1", {port})
            kept:receive()
        end
        """
        state = lua.load(script)
        gone = lua.run(state, Leaving())
        assert gone.failure is not None
        assert gone.failure.message == "the client has gone"
        assert state.is_healthy
        assert lua.run(state).text == "-1 closed"
        state.close()


def test_others_run_meanwhile(lua: Inside) -> None:
    """A script that waits for a socket holds up nobody."""
    ticks = []

    def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            gevent.sleep(0.005)

    greenlet = gevent.spawn(tick)
    with serving(is_silent) as port:
        lua.main(
            f"""
            local socket = require "socket.core"
            local tcp = socket.connect("127.0.0.1", {port})
            tcp:settimeout(0.2)
            con:puts(select(2, tcp:receive()))
            """
        )
    greenlet.kill()
    assert len(ticks) > 10


def test_too_many(tmp_path: Path) -> None:
    """There are no more than files of scripts may be: nil, and what the system would say."""
    from greenfcgi.quota import Quota

    lua = Inside(tmp_path)
    lua.engine.files = Quota(10)
    found = lua.main(
        """
        local socket = require "socket.core"
        local all = {}
        for i = 1, 12 do
            local one, problem = socket.tcp()
            if not one then con:puts(i, " ", problem, "\\n") break end
            all[i] = one
        end
        all[1]:close()
        con:puts(tostring(socket.tcp()):match("^[^:]+"))
        """
    )
    assert found.text == "11 Too many open files\ntcp{master}"
    lua.close()
