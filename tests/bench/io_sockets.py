"""What scripts that wait for sockets cost themselves and others: redis-lua and socket.http, with LuaSocket's Lua files.

The real server runs 100 states that wait for a real Redis, or 20 that wait for a slow web server; a GET is measured
beside the C LuaSocket in plain lua5.1, in turns, since the machine's speed changes. All results are checked. The
packages are Debian's: lua-socket, lua-redis, redis-server and lua5.1.
"""

from __future__ import annotations

import math
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from ..support.inside import Inside, Request
from ..support.redis import PROGRAM, RedisServer
from ..support.running import Server
from ..support.web import web_server
from .client import FastCGIClient
from .errors import BenchError, NotInstalled
from .figure import Figure

_WAITING, _ASKING = 100, 20
_ROUNDS = 5
_PAIRS, _GETS = 15, 2000
#: Seconds between two hellos.
_PAUSE = 0.002

_HELLO = 'function main(env, con) con:puts("hello") end'
_BLOCK = """
local redis = require "redis"
local client = redis.connect("127.0.0.1", %d)
function main(env, con) con:puts(tostring(client:blpop("nothing", 1))) end
"""
_ASK = """
local http = require "socket.http"
function main(env, con) con:puts((http.request("http://127.0.0.1:%d/wait?0.2"))) end
"""
_GET = """
local redis = require "redis"
local clock = require "socket".gettime
local client = redis.connect("127.0.0.1", %d)
local function measure()
    local value
    local began = clock()
    for _ = 1, %d do value = client:get("key") end
    return (clock() - began) * 1e6 / %d .. " " .. value
end
"""


def figures() -> list[Figure]:
    """A hello beside states that wait for Redis, how long these take, 20 requests by socket.http, and a GET."""
    lua = _needed()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with TemporaryDirectory() as folder, RedisServer(Path(folder), "port", str(port)) as redis:
        if redis.command("SET", "key", "x" * 60) != b"+OK\r\n":
            raise BenchError("Redis does not take a value")
        return [*_waiting(Path(folder), port), *_gets(Path(folder), port, lua)]


def _needed() -> str:
    lua = shutil.which("lua5.1")
    if lua is None or PROGRAM is None:
        raise NotInstalled("lua5.1 or redis-server is missing: apt install lua5.1 redis-server")
    found = subprocess.run([lua, "-e", 'require "socket" require "redis"'], capture_output=True, check=False)
    if found.returncode:
        raise NotInstalled("LuaSocket or redis-lua is missing: apt install lua-socket lua-redis")
    return lua


def _waiting(folder: Path, redis: int) -> list[Figure]:
    with web_server() as web:
        scripts = {"hello.lua": _HELLO, "block.lua": _BLOCK % redis, "ask.lua": _ASK % web}
        with Server(folder, scripts) as server:
            p99s, blocked, asked = [], [], []
            # In the first round the states are made.
            for _ in range(_ROUNDS + 1):
                with _asked(server, "block.lua", _WAITING, b"nil") as took:
                    p99s.append(_hellos(server, 0.8))
                blocked += took
                with _asked(server, "ask.lua", _ASKING, b"waited") as took:
                    pass
                asked += took
    return [
        Figure(f"p99 of a hello beside {_WAITING} states that wait for Redis", 1e3 * median(p99s[1:]), "ms", 10),
        Figure(f"{_WAITING} states that each wait 1 s for Redis", median(blocked[1:]), "s", 1.2),
        Figure(f"{_ASKING} requests by socket.http to a server that takes 0.2 s", median(asked[1:]), "s", 0.3),
    ]


@contextmanager
def _asked(server: Server, script: str, number: int, expected: bytes) -> Iterator[list[float]]:
    """So many requests at once; after the block, all have been answered. Its value gets the seconds that they took."""
    took: list[float] = []
    with ExitStack() as stack:
        clients = [stack.enter_context(FastCGIClient(Path(server.socket_path))) for _ in range(number)]
        began = time.perf_counter()
        for client in clients:
            client.ask(server.root / script)
        yield took
        for client in clients:
            reply = client.reply()
            if reply.body != expected:
                raise BenchError(f"wrong reply of {script}: {reply}")
        took.append(time.perf_counter() - began)


def _hellos(server: Server, seconds: float) -> float:
    """The p99 of hellos, in seconds, over a kept connection."""
    found = []
    with FastCGIClient(Path(server.socket_path)) as client:
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            if client.get(server.root / "hello.lua").body != b"hello":
                raise BenchError("wrong reply of hello.lua")
            found.append(time.perf_counter() - began)
            time.sleep(_PAUSE)
    return sorted(found)[math.ceil(0.99 * len(found)) - 1]


def _gets(folder: Path, port: int, lua: str) -> list[Figure]:
    source = _GET % (port, _GETS, _GETS)
    plain = folder / "plain.lua"
    plain.write_text(source + "io.write(measure())")
    ours: dict[str, list[float]] = {"luajit21": [], "lua51": []}
    theirs: dict[str, list[float]] = {version: [] for version in ours}
    with ExitStack() as stack:
        states = {}
        for version in ours:
            inside = Inside(folder / version, version)
            stack.callback(inside.close)
            states[version] = inside.load(source + "function main(env, con) con:puts(measure()) end")
            stack.callback(states[version].close)
        for _ in range(_PAIRS):
            for version, state in states.items():
                ours[version].append(_checked(Inside.run(state, Request()).text))
                done = subprocess.run([lua, str(plain)], capture_output=True, text=True, check=True, timeout=60)
                theirs[version].append(_checked(done.stdout))
    ratios = {version: median(a / b for a, b in zip(ours[version], theirs[version], strict=True)) for version in ours}
    return [
        Figure("a GET by redis-lua", min(ours["luajit21"]), "us"),
        Figure("a GET by redis-lua, times C LuaSocket in lua5.1", ratios["luajit21"], "", 1.3),
        Figure("the same on lua51", ratios["lua51"], ""),
    ]


def _checked(text: str) -> float:
    took, value = text.split(" ")
    if value != "x" * 60:
        raise BenchError(f"wrong value from Redis: {value[:100]}")
    return float(took)
