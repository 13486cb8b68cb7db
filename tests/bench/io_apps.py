"""What a hello costs that an application says: one of WSAPI, and one of Lapis, beside a script's own.

As a multiple of all that a server does for a hello by `main(env, con)` on a new connection: that is measured with its
sockets, and what the application takes more in a state alone, all in one process and in turns. The replies are checked.
The WSAPI application that builds its reply with the rock's `wsapi.response` needs Debian's lua-wsapi; that of Lapis is
measured where the environment variable LAPIS_PATH names a folder with Lapis and what it needs in Lua, and Debian has
the rest (lua-cjson, lua-lpeg, lua-luaossl, lua-socket).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import gevent
from gevent.event import AsyncResult

from ..support.inside import Inside, Request
from .figure import Figure
from .peers import SCRIPTS
from .stages import HelloServer, params

_REQUESTS = 300
_ROUNDS = 15
_BODY = b"Hello, world!\n"
_ROCKS = "/usr/share/lua/5.1"
_SCRIPTS = {
    "script": 'function main(env, con) con:puts("Hello, world!\\n") end',
    "WSAPI": """
        return function(env)
            local function body() coroutine.yield("Hello, world!\\n") end
            return 200, { ["Content-Type"] = "text/html", ["Content-Length"] = 14 }, coroutine.wrap(body)
        end
    """,
    "WSAPI, wsapi.response": """
        local response = require "wsapi.response"
        return function(env)
            local reply = response.new()
            reply:write("Hello, world!\\n")
            return reply:finish()
        end
    """,
    "Lapis": """
        local app = require("lapis").Application()
        app.layout = false
        app:get("/hello", function() return "Hello, world!\\n" end)
        main = require("greenfcgi.lapis").main(app)
    """,
}
_GOALS = {"WSAPI": 1.6, "WSAPI, wsapi.response": None, "Lapis": 1.8}


def figures() -> list[Figure]:
    """Each as a multiple of the script's own hello."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return gevent.spawn(_figures, Path(folder)).get()


def _figures(folder: Path) -> list[Figure]:
    lapis = os.environ.get("LAPIS_PATH", "")
    native = 'cpath = ["system"]\n' if lapis else ""
    inside = Inside(folder, settings=f'[lua]\npath = ["{lapis or _ROCKS}", "{_ROCKS}"]\n{native}')
    names = ["script", "WSAPI"]
    names += ["WSAPI, wsapi.response"] if os.path.exists(f"{_ROCKS}/wsapi/response.lua") else []
    names += ["Lapis"] if lapis else []
    asked = params(SCRIPTS / "hello.lua") | {"REQUEST_URI": "/hello", "SCRIPT_NAME": "/app.lua"}
    works: dict[str, Callable[[], float]] = {name: _asking(inside, _SCRIPTS[name], asked) for name in names}
    works["all"] = HelloServer(folder).new
    found: AsyncResult[dict[str, float]] = AsyncResult()
    gevent.get_hub().loop.run_callback(lambda: found.set(_measured(works)))
    best = found.get()
    assert best is not None
    inside.close()
    return [
        Figure(
            f"hello by {name}, of a script's own", round(1 + (best[name] - best["script"]) / best["all"], 2), "",
            _GOALS[name],
        )
        for name in names[1:]
    ]  # fmt: skip


def _asking(inside: Inside, script: str, asked: dict[str, str]) -> Callable[[], float]:
    state = inside.load(script)
    request = Request(asked)
    assert inside.run(state, request).body == _BODY

    def seconds() -> float:
        began = perf_counter()
        state.run(request)
        return perf_counter() - began

    return seconds


def _measured(works: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Seconds for each: the mean of the quickest round."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(_ROUNDS):
        for name, work in works.items():
            best[name] = min(best[name], sum(work() for _ in range(_REQUESTS)) / _REQUESTS)
    return best
