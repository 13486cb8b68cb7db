"""Whatever arrives is done in turns: who computes little waits for two time slices at most, whatever else is going on.

The clock is that of the scripts: it goes on by 50 us with each thousand instructions of Lua, and by nothing else. So a
wait is counted, not measured, and is the same on any machine.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import gevent
import gevent.socket
import pytest

from greenfcgi.config.load import load
from greenfcgi.fastcgi.client import Client
from greenfcgi.lua import budget, turns
from greenfcgi.lua.budget import Budget
from greenfcgi.processes.server_process import ServerProcess
from greenfcgi.serving import exchange, server

from ..support.running import PATIENCE

SLICE = 0.01
TICK = 50e-6
#: What code may use that has not waited for its turn, with what passes until its next look at the clock.
SHORT = SLICE / 32 + 2 * TICK
#: The clients here wait in the server's own event loop, which costs them a turn of somebody else's more.
MAX_WAIT = 2 * SLICE + 4 * SHORT

HELLO = "function main(env, con) con:puts('hello') end"
#: Computes for so many ticks: an instruction for the loop, and one for its body.
WORK = """
    function main(env, con)
        local n = 0
        for _ = 1, 500 * tonumber(env.QUERY_STRING) do n = n + 1 end
        con:puts("done")
    end
"""


class Clock:
    """Seconds that scripts have computed."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of everything that looks at how long scripts compute.

    All of it has imported the function by name: compiled, it would keep a module where nobody else gets at it.
    """
    made, tick = Clock(), Budget.tick

    def count(self: Budget) -> object:
        made.now += TICK
        return tick(self)

    monkeypatch.setattr(Budget, "tick", count)
    monkeypatch.setattr(budget, "monotonic", made.monotonic)
    monkeypatch.setattr(turns, "monotonic", made.monotonic)
    monkeypatch.setattr(exchange, "monotonic", made.monotonic)
    monkeypatch.setattr(server, "monotonic", made.monotonic)
    return made


class Inside:
    """A whole server in this process, and clients of it."""

    def __init__(self, folder: Path, clock: Clock, settings: str = "", lua: str = "") -> None:
        self.root = folder / "lua_scripts"
        self.root.mkdir()
        (self.root / "hello.lua").write_text(HELLO)
        for name in range(64):
            (self.root / f"work{name}.lua").write_text(WORK)
        path = folder / "config.toml"
        path.write_text(f'errorlog = "error.log"\nreload = false\n{settings}\n[lua]\ntime_slice = {SLICE}\n{lua}\n')
        self.clock = clock
        self.process = ServerProcess(load(str(path)))
        self.listener = gevent.socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "s.sock"))
        self.listener.listen(256)
        bare = socket.socket(fileno=self.listener.detach())
        bare.setblocking(False)
        self.process.server.listen(bare)
        self.address = str(folder / "s.sock")

    def connect(self) -> gevent.socket.socket:
        """A connection; nothing is served before the caller waits."""
        made = gevent.socket.socket(socket.AF_UNIX)
        made.settimeout(PATIENCE)
        made.connect(self.address)
        return made

    def request(self, script: str, query: object = "", request_id: int = 1) -> bytes:
        """A kept request."""
        params = {"SCRIPT_FILENAME": f"{self.root}/{script}", "REQUEST_METHOD": "GET", "QUERY_STRING": str(query)}
        return Client.request(params, request_id=request_id, keep_conn=True)

    def reply(self, connection: gevent.socket.socket, request_id: int = 1) -> bytes:
        """Wait for the reply to a request."""
        client = Client()
        while not (request_id in client.replies and client.replies[request_id].ended):
            data = connection.recv(65536)
            assert data
            client.receive(data)
        return client.replies[request_id].body

    def close(self) -> None:
        """End it."""
        self.process.server.stop(0)
        self.process.log.close()


@pytest.fixture
def inside(tmp_path: Path, clock: Clock) -> Iterator[Inside]:
    """A server."""
    made = Inside(tmp_path, clock)
    yield made
    made.close()


Source = Callable[[Inside, int], None]


def new_connections(inside: Inside, ticks: int) -> None:
    """Sixteen clients, each with a new connection for each request."""

    def ask(name: int) -> None:
        for _ in range(4):
            connection = inside.connect()
            connection.sendall(inside.request(f"work{name}.lua", ticks))
            assert inside.reply(connection) == b"done"
            connection.close()

    gevent.joinall([gevent.spawn(ask, name % 3) for name in range(16)], raise_error=True)


def in_sequence(inside: Inside, ticks: int) -> None:
    """One client with one request after the other, each on a connection of its own."""
    for _ in range(16):
        connection = inside.connect()
        connection.sendall(inside.request("work3.lua", ticks))
        assert inside.reply(connection) == b"done"
        connection.close()


def in_one_read(inside: Inside, ticks: int) -> None:
    """Many requests in one read."""
    connection = inside.connect()
    connection.sendall(b"".join(inside.request("work4.lua", ticks, number) for number in range(1, 85)))
    client = Client()
    while not all(number in client.replies and client.replies[number].ended for number in range(1, 85)):
        client.receive(connection.recv(65536))
    connection.close()


def many_kept(inside: Inside, ticks: int) -> None:
    """Forty scripts that nobody has seen, on kept connections that are all ready at the same moment."""
    opened = [inside.connect() for _ in range(40)]
    for connection in opened:
        connection.sendall(inside.request("hello.lua"))
        assert inside.reply(connection) == b"hello"
    for number, connection in enumerate(opened):
        connection.sendall(inside.request(f"work{20 + number}.lua", ticks))
    for connection in opened:
        assert inside.reply(connection) == b"done"
        connection.close()


def waiting_for_workers(inside: Inside, ticks: int) -> None:
    """More requests than there are workers."""
    opened = [inside.connect() for _ in range(150)]
    for connection in opened:
        connection.sendall(inside.request("work5.lua", ticks))
    for connection in opened:
        assert inside.reply(connection) == b"done"
        connection.close()


def states_that_go(inside: Inside, ticks: int) -> None:
    """A hundred states whose scripts compute in `shutdown`, all let go at once."""
    for name in range(100):
        text = f"TICKS = {ticks}\nfunction shutdown() local n = 0 for _ = 1, 500 * TICKS do n = n + 1 end end\n"
        (inside.root / f"go{name}.lua").write_text(text + HELLO)
        connection = inside.connect()
        connection.sendall(inside.request(f"go{name}.lua"))
        assert inside.reply(connection) == b"hello"
        connection.close()
    inside.process.close_states(PATIENCE)


SOURCES = (states_that_go, new_connections, in_sequence, in_one_read, many_kept, waiting_for_workers)


def worst_wait(inside: Inside, sources: tuple[Source, ...], ticks: int) -> float:
    """The longest wait of a hello on a kept connection while all sources are at work, in seconds of scripts' time."""
    connection = inside.connect()
    connection.sendall(inside.request("hello.lua"))
    assert inside.reply(connection) == b"hello"
    busy = [gevent.spawn(source, inside, ticks) for source in sources]
    waits = []
    while not all(one.dead for one in busy):
        began = inside.clock.now
        connection.sendall(inside.request("hello.lua"))
        assert inside.reply(connection) == b"hello"
        waits.append(inside.clock.now - began)
        gevent.sleep(0.0001)
    gevent.joinall(busy, raise_error=True)
    connection.close()
    assert waits
    return max(waits)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
@pytest.mark.parametrize("ticks", [5, 60, 500])
def test_nobody_waits_long_for_one_source(inside: Inside, source: Source, ticks: int) -> None:
    """Scripts of 0.25 ms, 3 ms and 25 ms, from each source alone."""
    assert worst_wait(inside, (source,), ticks) <= MAX_WAIT


def test_nobody_waits_long_for_all_of_them(inside: Inside) -> None:
    """All sources at once."""
    assert worst_wait(inside, SOURCES, 60) <= MAX_WAIT


def test_a_script_that_has_become_quick_starts_at_once_again(inside: Inside) -> None:
    """What a script has computed the last time decides, not what it once did."""
    connection = inside.connect()
    long_scripts = inside.process.server.context.long_scripts
    for ticks, is_long in ((60, True), (1, False), (60, True)):
        connection.sendall(inside.request("work1.lua", ticks))
        assert inside.reply(connection) == b"done"
        assert bool(long_scripts.names) == is_long
    connection.close()


def test_who_waits_is_not_passed(inside: Inside) -> None:
    """Of a script that is long now and then, requests are answered in the order in which they came, or nearly so."""
    asked, answered = count(), list[int]()

    def ask() -> None:
        connection = inside.connect()
        for _ in range(20):
            number = next(asked)
            connection.sendall(inside.request("work1.lua", 20 if number % 10 == 0 else 2))
            assert inside.reply(connection) == b"done"
            answered.append(number)
        connection.close()

    clients = 16
    gevent.joinall([gevent.spawn(ask) for _ in range(clients)], raise_error=True)
    passed = [sum(other > number for other in answered[:place]) for place, number in enumerate(answered)]
    assert max(passed) <= 2 * clients


def test_a_quick_script_does_not_wait_behind_another(inside: Inside) -> None:
    """It has computed for long once, while another one does so all the time: it is quick again after its next turn."""
    waits: list[list[float]] = []

    def ask(name: str, ticks: list[int]) -> None:
        waits.append([])
        mine = waits[-1]
        connection = inside.connect()
        for one in ticks:
            began = inside.clock.now
            connection.sendall(inside.request(name, one))
            assert inside.reply(connection) == b"done"
            mine.append(inside.clock.now - began)
        connection.close()

    busy = [gevent.spawn(ask, "work2.lua", [500] * 4) for _ in range(16)]
    gevent.sleep(0.01)
    waits.clear()
    gevent.joinall([gevent.spawn(ask, "work1.lua", [10, *[1] * 20]) for _ in range(4)], raise_error=True)
    assert not any(one.dead for one in busy)
    for mine in waits:
        assert max(mine[-10:]) <= 1.5 * SLICE
    gevent.joinall(busy, raise_error=True)


def test_pages_of_a_site_that_come_by_one_name(inside: Inside) -> None:
    """Where a web server sends the folder of the scripts for all of them, a quick page does not wait for a slow one."""

    def request(page: str, ticks: int) -> bytes:
        params = {
            "SCRIPT_FILENAME": str(inside.root), "REQUEST_METHOD": "GET", "QUERY_STRING": str(ticks),
            "SCRIPT_NAME": f"/{page}", "REQUEST_URI": f"/{page}?{ticks}",
        }  # fmt: skip
        return Client.request(params, keep_conn=True)

    def ask(ticks: int, times: int, waits: list[float]) -> None:
        page = "work2.lua" if ticks > 1 else "work1.lua"
        connection = inside.connect()
        for _ in range(times):
            began = inside.clock.now
            connection.sendall(request(page, ticks))
            assert inside.reply(connection) == b"done"
            waits.append(inside.clock.now - began)
        connection.close()

    slow = [gevent.spawn(ask, 60, 30, list[float]()) for _ in range(16)]
    gevent.sleep(0.01)
    quick: list[float] = []
    gevent.joinall([gevent.spawn(ask, 1, 20, quick) for _ in range(2)], raise_error=True)
    assert not all(one.dead for one in slow)
    assert max(quick[4:]) <= MAX_WAIT
    gevent.joinall(slow, raise_error=True)


def test_long_scripts_run_without_a_queue(tmp_path: Path, clock: Clock) -> None:
    """With `queue = 0` nobody waits for a worker; to wait for a turn, while workers are free, is something else."""
    inside = Inside(tmp_path, clock, "queue = 0")
    opened = [inside.connect() for _ in range(6)]
    for _ in range(3):
        for connection in opened:
            connection.sendall(inside.request("work1.lua", 60))
        for connection in opened:
            assert inside.reply(connection) == b"done"
    for connection in opened:
        connection.close()
    inside.close()


#: Calls a function of the server's own once, with an argument that has been made before.
def seconds_of_own_loop(inside: Inside, clock: Clock, script: str) -> float:
    """What the clock has moved on by while a script looped, and no other request waited too long."""
    (inside.root / "own.lua").write_text(script)
    # Once before, so that the state is there.
    connection = inside.connect()
    connection.sendall(inside.request("own.lua"))
    assert inside.reply(connection) == b"done"
    began = clock.now

    def ask(inside: Inside, ticks: int) -> None:
        connection.sendall(inside.request("own.lua"))
        assert inside.reply(connection) == b"done"

    assert worst_wait(inside, (ask,), 0) <= MAX_WAIT
    passed = clock.now - began
    connection.close()
    inside.close()
    return passed


OWN_LOOP = """
    local fcgi = require "luafcgid"
    local argument
    function init()
        local parts = {{}}
        for i = 1, {number} do parts[i] = {part} end
        argument = {argument}
    end
    function main(env, con)
        for _ = 1, {rounds} do fcgi.{function}(argument) end
        con:puts("done")
    end
"""


@pytest.mark.parametrize(
    ("function", "part", "argument"),
    [
        ("serialize", "i", "parts"),
        ("serialize", "{ i }", "parts"),
        ("serialize", r"('\n'):rep(100)", "parts"),
        ("serialize", "'x'", "table.concat(parts, '\\n')"),
        ("parse", "'a=b'", "table.concat(parts, '&')"),
        ("parse", "'%41'", "table.concat(parts)"),
        ("urlencode", "'/'", "table.concat(parts)"),
        ("urldecode", "'%41'", "table.concat(parts)"),
    ],
)
@pytest.mark.parametrize("version", ["luajit21", "lua54"])
def test_loops_of_the_servers_own_give_others_their_turn(
    tmp_path: Path, clock: Clock, version: str, function: str, part: str, argument: str
) -> None:
    """What loops over something that a script chooses looks at the clock at each hundred steps."""
    number = 500 if "rep" in part else 50_000
    steps = 50_000
    script = OWN_LOOP.format(function=function, part=part, argument=argument, number=number, rounds=3)
    inside = Inside(tmp_path, clock, lua=f'version = "{version}"')
    assert seconds_of_own_loop(inside, clock, script) >= 3 * steps / 100 * TICK


#: The same of the modules for text.
TEXT_LOOP = """
    local json, html, template = require "greenfcgi.json", require "greenfcgi.html", require "greenfcgi.template"
    local row = template.compile("<% for _, v in ipairs(list) do %><%= v %><% end %>")
    local calls = {{
        encode = json.encode, decode = json.decode, escape = html.escape,
        pretty = function(v) return json.encode(v, {{ pretty = true, sort = true }}) end,
        render = function(v) return row {{ list = v }} end,
        text = template.compile,
    }}
    local argument
    function init()
        local parts = {{}}
        for i = 1, {number} do parts[i] = {part} end
        argument = {argument}
    end
    function main(env, con)
        for _ = 1, 3 do assert(calls.{function}(argument)) end
        con:puts("done")
    end
"""
_NAMED = "(function() local t = {} for i = 1, #parts do t['n' .. i] = i end return t end)()"


@pytest.mark.parametrize(
    ("function", "number", "part", "argument", "ticks"),
    [
        ("encode", 50_000, "i", "parts", 50),
        ("encode", 20_000, "{ i }", "parts", 100),
        ("encode", 100, "('x'):rep(10000) .. i", "parts", 20),
        ("encode", 100, "('x'):rep(10000)", "table.concat(parts)", 20),
        ("encode", 1000, "('\\n'):rep(100)", "parts", 20),
        ("pretty", 20_000, "i", _NAMED, 100),
        ("decode", 50_000, "'1'", "'[' .. table.concat(parts, ',') .. ']'", 400),
        ("decode", 20_000, "'{}'", "'[' .. table.concat(parts, ',') .. ']'", 150),
        ("decode", 20_000, "'\\\\n'", "'\"' .. table.concat(parts) .. '\"'", 150),
        ("decode", 200, "('x'):rep(10000)", "'\"' .. table.concat(parts) .. '\"'", 15),
        ("decode", 200, "(' '):rep(10000)", "table.concat(parts) .. '1'", 15),
        ("decode", 200, "('\\195\\169'):rep(5000)", "'\"' .. table.concat(parts) .. '\"'", 3),
        ("escape", 200, "('<'):rep(10000)", "table.concat(parts)", 15),
        ("render", 200, "('<'):rep(10000)", "parts", 15),
        ("render", 20_000, "i", "parts", 20),
        ("text", 5_000, "'<%= 1 %>'", "table.concat(parts)", 100),
    ],
)
@pytest.mark.parametrize("version", ["luajit21", "lua54"])
def test_text_gives_others_their_turn(
    tmp_path: Path, clock: Clock, version: str, function: str, number: int, part: str, argument: str, ticks: int
) -> None:
    """However large what a script, or its client, hands to the modules for JSON, HTML and templates.

    `ticks` looks at the clock, at least, in each of three rounds.
    """
    script = TEXT_LOOP.format(function=function, part=part, argument=argument, number=number)
    inside = Inside(tmp_path, clock, lua=f'version = "{version}"\nmemory = "64M"')
    assert seconds_of_own_loop(inside, clock, script) >= 3 * ticks * TICK
