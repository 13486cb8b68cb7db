"""Redis as scripts see it: when it is down, hangs, talks nonsense or is full, and when it is back."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest

from greenfcgi.modules.shared import redis_connection

from ..support.inside import Inside, Request
from ..support.processes import descriptors
from ..support.redis import PROGRAM, RedisServer
from ..support.running import Server, until

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs redis-server")

Serve = Callable[..., Server]

GET = """
local value, problem = require("greenfcgi.shared").things:get("k")
con:puts(tostring(value), " ", tostring(problem))
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis."""
    with RedisServer(tmp_path) as server:
        yield server


@contextmanager
def using(folder: Path, url: str, settings: str = "") -> Iterator[Inside]:
    """A state's world whose dictionary is there."""
    inside = Inside(folder, settings=f'{settings}\n[shared]\nthings = "1M"\nurl = "{url}"\n')
    yield inside
    inside.close()


def text(inside: Inside, statements: str) -> str:
    """What statements write that have `d`."""
    return inside.main(f'local d = require("greenfcgi.shared").things {statements}').text


@contextmanager
def fake(folder: Path, behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """What claims to be a Redis, and does this with each connection."""
    path = folder / "fake.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection:
                    behave(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"unix:{path}"
        listener.shutdown(socket.SHUT_RDWR)


def test_down_and_back(tmp_path: Path, redis: RedisServer) -> None:
    """Nil and a message while it is not there; everything by itself when it is."""
    with using(tmp_path, redis.url) as inside:
        state = inside.load(f"function main(env, con) {GET} end")
        assert inside.run(state).text == "nil nil"
        before = descriptors()
        for _ in range(3):
            redis.stop()
            assert inside.run(state).text == "nil redis: no such file or directory"
            redis.start()
            assert inside.run(state).text == "nil nil"
        # Of tests before, some may have gone meanwhile.
        assert descriptors() <= before


def test_what_held_up_the_process_is_not_its_fault(
    tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that is sent late, since something else took longer than a reply may, has all of its time."""
    monkeypatch.setattr(redis_connection, "_TIMEOUT", 1.0)
    with using(tmp_path, redis.url) as inside:
        state = inside.load(f"function main(env, con) {GET} end")
        assert inside.run(state).text == "nil nil"
        sleep(1.2)
        redis.command("CLIENT", "PAUSE", "400")
        assert inside.run(state).text == "nil nil"


def test_every_method_says_it(tmp_path: Path) -> None:
    """Each has nil or false, and the message second."""
    with using(tmp_path, f"unix:{tmp_path}/none") as inside:
        assert text(
            inside,
            """
            local function p(...)
                local parts = {}
                for i = 1, 2 do parts[i] = tostring((select(i, ...))) end
                con:puts(table.concat(parts, " "), "\\n")
            end
            p(d:get("k")) p(d:set("k", 1)) p(d:add("k", 1)) p(d:replace("k", 1)) p(d:incr("k", 1, 0)) p(d:delete("k"))
            p(d:expire("k", 1)) p(d:ttl("k")) p(d:keys()) p(d:flush_all()) p(d:flush_expired()) p(d:lpush("k", 1))
            p(d:rpop("k")) p(d:llen("k")) p(d:lock("k", 1)) p(d:unlock("k", "t"))
            """,
        ).splitlines() == [
            f"{value} redis: no such file or directory"
            for value in ("nil", "false", "false", "false", "nil", "false", *["nil"] * 10)
        ]


def test_by_tcp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a password, and a database of its own; what is wrong is said."""
    monkeypatch.setattr(redis_connection, "_TIMEOUT", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with RedisServer(tmp_path, "port", str(port), "bind", "127.0.0.1", "requirepass", "secret") as server:
        set_one = 'con:puts(tostring(d:set("k", 1)), " ", tostring((select(2, d:set("k", 1)))))'
        for index, (url, expected) in enumerate(
            [
                (f"redis://:secret@127.0.0.1:{port}/2", "true nil"),
                (f"redis://default:secret@127.0.0.1:{port}", "true nil"),
                (f"redis://127.0.0.1:{port}", "false redis: NOAUTH Authentication required."),
                (
                    f"redis://:wrong@127.0.0.1:{port}",
                    "false redis: WRONGPASS invalid username-password pair",
                ),
                (f"redis://:secret@127.0.0.1:{port}/99", "false redis: ERR DB index is out of range"),
                (f"redis://:secret@127.0.0.1:{free_port()}/2", "false redis: connection refused"),
                (f"redis://:secret@no.such.host.invalid:{port}", "false redis: "),
                (f"rediss://:secret@127.0.0.1:{port}", "false redis: "),
            ]
        ):
            folder = tmp_path / str(index)
            folder.mkdir()
            with using(folder, url) as inside:
                found = text(inside, set_one)
                assert found.startswith(expected), url
                assert "Error" not in found
        assert server.process is not None


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "nil redis: "),
        (b"\xff\x00\xff", "nil redis: "),
        (b"", "nil redis: connection closed"),
        (b"$100\r\nhalf of it", "nil redis: connection closed"),
        (b"-ERR out of order\r\n", "nil redis: ERR out of order"),
        (b"*2\r\n:1\r\n:2\r\n", "nil redis: "),
        (b":5\r\n", "nil redis: "),
        (b"+12\r\n+13\r\n+14\r\n", "12 nil"),
    ],
)
def test_nonsense(tmp_path: Path, data: bytes, expected: str) -> None:
    """What it sends, or that it closes in the midst, ends with a message, and with no descriptor left."""

    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)

    with fake(tmp_path, behave) as url, using(tmp_path, url) as inside:
        found = text(inside, 'local v, problem = d:get("k") con:puts(tostring(v), " ", problem or "nil")')
        assert found.startswith(expected)
        assert "Error" not in found
        assert "object" not in found


def test_what_others_have_put_there(tmp_path: Path, redis: RedisServer) -> None:
    """A value of another program's, or another type."""
    redis.command("SET", "greenfcgi:things:odd", "odd")
    redis.command("SADD", "greenfcgi:things:set", "x")
    redis.command("SET", "elsewhere", "1")
    with using(tmp_path, redis.url) as inside:
        assert text(
            inside,
            """
            for _, key in ipairs { "odd", "set" } do
                con:puts(select(2, d:get(key)), ",", select(2, d:incr(key, 1)), ",", select(2, d:lpush(key, 1)), ";")
            end
            con:puts(#d:keys()) d:flush_all() con:puts(#d:keys())
            """,
        ) == (
            "redis: the value is none of greenfcgi's,not a number,value not a list;"
            "value is a list,not a number,value not a list;20"
        )
    assert redis.command("GET", "elsewhere") == b"$1\r\n1\r\n"


def test_its_memory_is_full(tmp_path: Path) -> None:
    """Where it removes nothing by itself."""
    with (
        RedisServer(tmp_path, "maxmemory", "2mb", "maxmemory-policy", "noeviction") as server,
        using(tmp_path, server.url) as inside,
    ):
        assert (
            text(
                inside,
                """
            local ok, problem
            for i = 1, 10000 do ok, problem = d:set("k" .. i, ("x"):rep(10000)) if not ok then break end end
            con:puts(tostring(ok), " ", problem)
            """,
            )
            == "false no memory"
        )


def test_it_hangs(tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command fails after some seconds; the script's own time ends it sooner; and then all goes on."""
    monkeypatch.setattr(redis_connection, "_TIMEOUT", 0.5)
    with using(tmp_path, redis.url, "timeout = 20") as inside:
        state = inside.load(f"function main(env, con) {GET} end")
        assert inside.run(state).text == "nil nil"
        assert redis.process is not None
        redis.process.send_signal(signal.SIGSTOP)
        assert inside.run(state).text == "nil redis: timed out"
        before = monotonic()
        late = inside.run(state, Request(seconds=0.2))
        assert late.failure is not None
        assert late.failure.status == 504
        assert monotonic() - before < 0.5
        redis.process.send_signal(signal.SIGCONT)
        state = inside.load(f"function main(env, con) {GET} end")

        def works() -> bool:
            return inside.run(state).text == "nil nil"

        until(works)


def test_others_go_on_while_it_hangs(serve: Serve, tmp_path: Path, redis: RedisServer) -> None:
    """A hello is answered; who waits is logged as slow, and ends with its client or its time."""
    server = serve(
        {
            "hello.lua": "function main(env, con) con:puts('hello') end",
            "get.lua": f"function main(env, con) {GET} end",
            "left.lua": f"function main(env, con) con:log('waits') {GET} con:log('goes on') end",
        },
        f"""
        timeout = 1.5
        slowlog = "slow.log"
        slowlog_timeout = 0.2
        [shared]
        things = "1M"
        url = "{redis.url}"
        """,
    )
    assert server.get("get.lua").body == b"nil nil"
    assert redis.process is not None
    redis.process.send_signal(signal.SIGSTOP)
    with server.connect() as waiting:
        waiting.send(server.request("get.lua"))
        assert server.get("hello.lua").body == b"hello"
        with server.connect() as leaving:
            leaving.send(server.request("left.lua"))
            server.logged("waits")
        assert waiting.reply().status == 504
    slow = (tmp_path / "slow.log").read_text()
    assert "get.lua:2: in function" in slow
    redis.process.send_signal(signal.SIGCONT)
    until(lambda: server.get("get.lua").body == b"nil nil")
    assert "goes on" not in server.log()


def test_restarted_under_load(serve: Serve, redis: RedisServer) -> None:
    """Nothing but nil and a message while it is away; exact again when it is back."""
    server = serve(
        {
            "count.lua": """
                function main(env, con)
                    local d = require("greenfcgi.shared").things
                    local n, problem = d:incr(env.QUERY_STRING, 1, 0)
                    con:puts(n or problem)
                end
            """
        },
        f'processes = 2\n[shared]\nthings = "1M"\nurl = "{redis.url}"\n',
    )
    seen: set[bytes] = set()
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            reply = server.get("count.lua?n")
            seen.add(reply.body if not reply.body.isdigit() else b"")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        redis.stop(signal.SIGKILL)
        redis.start()
    is_over.set()
    for thread in threads:
        thread.join()
    assert seen <= {b"", b"redis: no such file or directory", b"redis: connection closed", b"redis: connection refused",
                    b"redis: broken pipe", b"redis: connection reset by peer"}  # fmt: skip
    assert [int(server.get("count.lua?m").body) for _ in range(10)] == [*range(1, 11)]


def test_finalizers(tmp_path: Path, redis: RedisServer) -> None:
    """They may call while the state is closed, when nothing can be waited for."""
    with using(tmp_path, redis.url) as inside:
        state = inside.load(
            """
            local d = require("greenfcgi.shared").things
            kept = newproxy(true)
            getmetatable(kept).__gc = function() d:set("from a finalizer", 1) end
            function main(env, con) con:puts(tostring(d:set("k", 1))) end
            """
        )
        assert inside.run(state).text == "true"
        assert redis.process is not None
        redis.process.send_signal(signal.SIGSTOP)
        before = monotonic()
        state.close()
        assert monotonic() - before < 1
        redis.process.send_signal(signal.SIGCONT)
        assert "Error" not in inside.log()
        assert text(inside, "con:puts(tostring(d:get('k')))") == "1"


def test_large_values(tmp_path: Path, redis: RedisServer) -> None:
    """More than a socket takes at once, there and back, and others behind them."""
    with using(tmp_path, redis.url) as inside:
        assert (
            text(
                inside,
                """
            local large = ("0123456789abcdef"):rep(500000)
            con:puts(tostring(d:set("large", large)), " ", tostring(d:get("large") == large), " ")
            con:puts((d:incr("n", 1, 0)))
            """,
            )
            == "true true 1"
        )
