"""Other ends that are down, hang, close in the middle or send garbage: nil and a message, and nothing stays open."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest

from greenfcgi.lua.engine import LuaEngine
from greenfcgi.lua.loader import StateLoader
from greenfcgi.modules.configured import modules
from greenfcgi.quota import Quota

from ...support.inside import Inside, Request
from ...support.limits import descriptors_left
from .peers import Serve, echoes, is_silent, sends, serving, together
from .scripts import LUAS, said


@pytest.fixture(params=LUAS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Some Luas, which must not leave a descriptor open."""
    inside = Inside(tmp_path, request.param)
    before = descriptors()
    yield inside
    end = time.monotonic() + 10
    # The threads of the peers close theirs.
    while descriptors() > before and time.monotonic() < end:
        gevent.sleep(0.01)
    assert descriptors() <= before
    assert "Traceback" not in inside.log()
    inside.close()


def descriptors() -> int:
    """How many sockets this process has open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:
            pass
    return found


@contextmanager
def full() -> Iterator[int]:
    """A listener whose queue is full, so that who connects hears nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        time.sleep(0.05)
        try:
            yield listener.getsockname()[1]
        finally:
            for each in waiting:
                each.close()


def hang_up(connection: socket.socket) -> None:
    """Reset it."""
    connection.recv(10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


#: What the other end does, what the script does, and what that comes to.
FAULTS: dict[str, tuple[Serve, str, str]] = {
    "closes at once": (sends(), "tcp:receive()", "nil closed "),
    "closes in a line": (sends(b"half a li"), "tcp:receive()", "nil closed half a li"),
    "closes in a number of bytes": (sends(b"half"), "tcp:receive(10)", "nil closed half"),
    "resets": (hang_up, "(function() tcp:send('hello') return tcp:receive() end)()", "nil closed "),
    "says nothing": (is_silent, "tcp:receive()", "nil timeout "),
    "reads nothing": (
        lambda connection: time.sleep(0.5), "(function() return (tcp:send(('x'):rep(8000000))) end)()", "nil",
    ),
    "sends garbage": (sends(bytes(range(256)) * 4), "#tcp:receive('*a')", "1024"),
    "sends garbage to TLS": (
        sends(bytes(range(256)) * 4), "ssl.wrap(tcp, {mode = 'client'}):dohandshake()", "false wrong version number",
    ),
    "closes in a handshake": (
        sends(b"\x16\x03\x03"), "ssl.wrap(tcp, {mode = 'client'}):dohandshake()", "false closed",
    ),
    "hangs in a handshake": (is_silent, "ssl.wrap(tcp, {mode = 'client'}):dohandshake()", "false wantread"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_other_ends(lua: Inside, name: str) -> None:
    """Each comes to what LuaSocket says, and the script goes on."""
    serve, statement, expected = FAULTS[name]
    with serving(together(serve)) as port:
        found = said(
            lua,
            f"""
            local ssl = require "ssl"
            local tcp = assert(socket.connect("127.0.0.1", {port}))
            tcp:settimeout(0.2)
            show({statement})
            """,
        )
    # In the midst of a handshake, a system says either.
    assert found == [expected]


def test_nobody_takes_the_connection(lua: Inside) -> None:
    """It hangs: the time of the socket ends it, or that of the script."""
    with full() as port:
        found = said(
            lua,
            f"""
            local tcp = socket.tcp()
            tcp:settimeout(0.05)
            show(tcp:connect("127.0.0.1", {port}))
            show(tcp:close())
            """,
        )
        assert found == ["nil timeout", "1"]
        late = lua.main(
            f"pcall(require('socket.core').connect, '127.0.0.1', {port}) con:puts('on')", Request(seconds=0.1)
        )
        assert late.failure is not None
        assert late.failure.status == 504


@pytest.mark.parametrize("wait", ["tcp:receive()", "tcp:send(('x'):rep(8000000))", "socket.select({tcp})",
                                  "ssl.wrap(tcp, {mode = 'client'}):dohandshake()", "server:accept()"])  # fmt: skip
def test_the_deadline_strikes_in_the_midst(lua: Inside, wait: str) -> None:
    """Whatever waits, and however often the script catches it."""
    with serving(together(lambda connection: time.sleep(0.6))) as port:
        found = lua.main(
            f"""
            local socket, ssl = require "socket.core", require "ssl"
            local server = socket.tcp()
            server:bind("127.0.0.1", 0)
            server:listen()
            while true do
                pcall(function()
                    local tcp = socket.connect("127.0.0.1", {port})
                    {wait}
                end)
            end
            """,
            Request(seconds=0.2),
        )
    assert found.failure is not None
    assert found.failure.status == 504


def test_too_many_descriptors_of_the_process(tmp_path: Path) -> None:
    """The system has no more: nil and what it says, and all is well when it has."""
    lua = Inside(tmp_path)
    quota = lua.engine.files = Quota(10_000)
    assert said(lua, "show(socket.tcp() ~= nil)") == ["true"]
    with descriptors_left(8):
        found = said(
            lua,
            """
            local all = {}
            local problem
            for i = 1, 100 do
                all[i], problem = socket.tcp()
                if not all[i] then break end
            end
            show(#all < 100, problem)
            """,
        )
    assert found == ["true Too many open files"]
    assert said(lua, "show(socket.tcp() ~= nil)") == ["true"]
    assert quota.taken == 0
    lua.close()


def test_finalizers_of_scripts(lua: Inside) -> None:
    """They may use sockets at any moment, also when memory is short and when the state is closed."""
    with serving(together(echoes)) as port:
        state = lua.load(
            f"""
            local socket = require "socket.core"
            local function finalized(f)
                if newproxy then
                    local proxy = newproxy(true)
                    getmetatable(proxy).__gc = f
                    return proxy
                end
                return setmetatable({{}}, {{ __gc = f }})
            end
            kept = socket.connect("127.0.0.1", {port})
            function main(env, con)
                for i = 1, 20 do
                    local tcp = socket.connect("127.0.0.1", {port})
                    finalized(function() tcp:send("late\\n") tcp:receive() tcp:close() socket.tcp() end)
                    finalized(function() kept:send("late\\n") kept:receive() end)
                    kept:send("hello\\n")
                    kept:receive()
                    collectgarbage()
                end
                last = finalized(function() kept:send("the end\\n") kept:receive() kept:close() end)
                con:puts("done")
            end
            """
        )
        for _ in range(3):
            assert lua.run(state).text == "done"
        state.close()


def test_the_slow_log_says_where_a_script_waits(tmp_path: Path) -> None:
    """Each kind of wait is told of at the script's line, and goes on: nothing is lost, and nothing twice."""

    def answers(connection: socket.socket) -> None:
        time.sleep(0.3)
        connection.sendall(b"answer\n")
        connection.recv(10)

    for flavour in LUAS:
        lua = Inside(tmp_path, flavour, "slowlog_timeout = 0.1\n")
        slow: list[bytes] = []

        def tell(script: str, title: str, seconds: float, traceback: bytes, to: list[bytes] = slow) -> None:
            to.append(traceback)

        config = lua.engine.config
        lua.engine = LuaEngine(config, lua.engine.log, modules(config), log_slow=tell)
        lua.loader = StateLoader(lua.engine)
        with serving(together(answers)) as port:
            for wait in ("tcp:receive()", "#socket.select({tcp}) > 0 and tcp:receive()"):
                slow.clear()
                found = lua.main(
                    f"local socket = require 'socket.core'\nlocal tcp = socket.connect('127.0.0.1', {port})\n"
                    f"local line =\n{wait}\ncon:puts(line)"
                )
                assert found.text == "answer"
                assert len(slow) == 1
                assert re.search(rb"page.lua:5", slow[0]), slow
                assert b"greenfcgi" not in slow[0]
        lua.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Starts a Redis, always on the same port, or ends it; returns the port."""
    program = shutil.which("redis-server")
    if program is None or not Path("/usr/share/lua/5.1/redis.lua").exists():
        pytest.skip("no Redis, or no redis-lua (Debian: redis-server, lua-redis)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    running: list[subprocess.Popen[bytes]] = []

    def act(what: str) -> int:
        if what == "start":
            running.append(
                subprocess.Popen(
                    [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
                    stdout=subprocess.DEVNULL,
                )
            )
            for _ in range(500):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.02)
        else:
            while running:
                process = running.pop()
                process.kill()
                process.wait(10)
        return port

    yield act
    act("end")


def test_a_redis_that_is_restarted_under_load(tmp_path: Path, redis: Callable[[str], int]) -> None:
    """Scripts get errors while it is down, no other answers, and all is well when it is back."""
    port = redis("start")
    lua = Inside(tmp_path)
    script = f"""
    local redis = require "redis"
    function main(env, con)
        local ok, problem = pcall(function()
            client = client or redis.connect("127.0.0.1", {port})
            client:set("key" .. env.NUMBER, env.NUMBER)
            return client:get("key" .. env.NUMBER)
        end)
        if not ok then client = nil end
        con:puts(ok and "got " or "lost ", tostring(problem))
    end
    """
    states = [lua.load(script) for _ in range(8)]
    answers: list[str] = []
    stop = threading.Event()

    def load(number: int) -> None:
        while not stop.is_set():
            answers.append(f"{number} " + lua.run(states[number], Request({"NUMBER": str(number)})).text)
            gevent.sleep(0)

    before = descriptors()
    greenlets = [gevent.spawn(load, number) for number in range(8)]
    for what in ("", "end", "start"):
        if what:
            redis(what)
        answers.clear()
        gevent.sleep(0.2)
    last = list(answers)[-8:]
    stop.set()
    gevent.joinall(greenlets, timeout=10)
    assert all(re.fullmatch(r"(\d) got \1", each) for each in last), last
    for state in states:
        state.close()
    assert descriptors() <= before
    lua.close()
