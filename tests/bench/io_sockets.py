"""What waiting at other servers costs: scripts beside a hello, requests at once, and a GET beside LuaSocket's in C.

The servers are a redis-server and one of Python's own; LuaSocket in C and redis-lua are Debian's lua-socket and
lua-redis, in plain lua5.1. Figures that are ratios are taken in pairs in one run, since the machine's speed changes.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import gevent

from ..support.inside import Inside, Request
from .errors import NotInstalled
from .figure import Figure

_STATES, _REQUESTS, _ROUNDS, _GETS = 100, 20, 15, 3000
#: Seconds that the web server takes, and that scripts wait at Redis.
_SLOW, _WAIT = 0.2, 1.0

_WAITER = """
local client = require("redis").connect("127.0.0.1", %d)
function main(env, con) con:puts(client:blpop("nothing", 1) == nil and "waited" or "wrong") end
"""
_HELLO = "function main(env, con) con:puts('hello') end"
_PAGE = """
local http = require "socket.http"
function main(env, con) con:puts((http.request("http://127.0.0.1:%d/"))) end
"""
_GET = """
local client = require("redis").connect("127.0.0.1", %d)
client:set("key", ("x"):rep(60))
local clock = require("socket").gettime
local function measured(number)
    local began, value = clock(), nil
    for _ = 1, number do value = client:get("key") end
    assert(#value == 60)
    return (clock() - began) / number * 1e6
end
"""


def figures() -> list[Figure]:
    """Milliseconds, seconds, and a ratio. Raises `NotInstalled`."""
    for program, file, package in (
        ("redis-server", "", "redis-server"), ("lua5.1", "socket.lua", "lua5.1 and lua-socket"),
        ("lua5.1", "redis.lua", "lua-redis"),
    ):  # fmt: skip
        if shutil.which(program) is None or (file and not Path("/usr/share/lua/5.1", file).exists()):
            raise NotInstalled(f"Debian's {package}")
    with TemporaryDirectory() as folder, _redis(Path(folder)) as redis:
        inside = Inside(Path(folder), "luajit21")
        found = [*_waiting(inside, redis), *_requests(inside), *_gets(inside, redis)]
        inside.close()
    return found


def _waiting(inside: Inside, redis: int) -> list[Figure]:
    """A hello beside many states that wait."""
    states = [inside.load(_WAITER % redis, "waiter.lua") for _ in range(_STATES)]
    hello = inside.load(_HELLO, "hello.lua")
    took: list[float] = []
    ends: list[float] = []

    def wait(number: int) -> None:
        assert inside.run(states[number]).text == "waited"
        ends.append(time.perf_counter())

    began = time.perf_counter()
    waiting = [gevent.spawn(wait, number) for number in range(_STATES)]
    while len(ends) < _STATES:
        # As a client of another process: it asks at a time, whether or not anybody looks.
        due = time.perf_counter() + 0.002
        gevent.sleep(0.002)
        assert inside.run(hello).text == "hello"
        took.append(time.perf_counter() - due)
    gevent.joinall(waiting, raise_error=True)
    for state in (*states, hello):
        state.close()
    return [
        Figure(f"p99 of a hello beside {_STATES} that wait at Redis", quantiles(took, n=100)[-1] * 1e3, "ms", 10),
        Figure(f"{_STATES} states that wait {_WAIT:g} s", max(ends) - began, "s", 1.2),
    ]


def _requests(inside: Inside) -> list[Figure]:
    """Many requests at a time to a server that takes long."""
    with _slow_pages() as port:
        states = [inside.load(_PAGE % port, "ask.lua") for _ in range(_REQUESTS)]
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            asking = [gevent.spawn(inside.run, state) for state in states]
            gevent.joinall(asking, raise_error=True)
            best = min(best, time.perf_counter() - began)
            assert [each.get().text for each in asking] == ["page"] * _REQUESTS
        for state in states:
            state.close()
    return [Figure(f"{_REQUESTS} requests by socket.http to a server of {_SLOW * 1e3:g} ms", best, "s", 0.3)]


def _gets(inside: Inside, redis: int) -> list[Figure]:
    """A GET of 60 bytes, as a ratio to the same in plain Lua with LuaSocket in C."""
    plain = _GET % redis + f"io.read() while true do print(measured({_GETS})) io.stdout:flush() io.read() end"
    state = inside.load(_GET % redis + f"function main(env, con) con:puts(measured({_GETS})) end", "get.lua")
    process = subprocess.Popen(["lua5.1", "-e", plain], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    ours, ratios = [], []
    for _ in range(_ROUNDS):
        ours.append(float(inside.run(state, Request(seconds=600)).text))
        process.stdin.write("\n")
        process.stdin.flush()
        ratios.append(ours[-1] / float(process.stdout.readline()))
    process.kill()
    process.communicate()
    state.close()
    return [
        Figure("a GET by redis-lua", min(ours), "us", None),
        Figure("a GET by redis-lua, to LuaSocket in C in lua5.1", median(ratios), "ratio", 1.3),
    ]


@contextmanager
def _redis(folder: Path) -> Iterator[int]:
    port = _free_port()
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def _slow_pages() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            time.sleep(_SLOW)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage")

    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
