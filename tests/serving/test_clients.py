"""Web servers and clients that are slow, silent, too many or too greedy: none holds what others need."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import gevent
import gevent.socket
import pytest

from greenfcgi.config.load import defaults
from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.client import Client
from greenfcgi.logs.error_log import ErrorLog
from greenfcgi.serving.context import Context
from greenfcgi.serving.exchange import Exchange
from greenfcgi.serving.server import Server as Inner
from greenfcgi.serving.timeouts import Timeouts

from ..support.limits import limited
from ..support.load import Load
from ..support.processes import descriptors
from ..support.running import PATIENCE, Connection, Server, until

Serve = Callable[..., Server]

HELLO = "function main(env, con) con:puts('hello') end"
SLEEP = "function main(env, con) con:sleep(tonumber(env.QUERY_STRING)) con:puts('slept') end"
SHORT = Timeouts(header=0.3, params=0.3, body=0.4, rate=10_000.0)
BEAT = 0.02


class Inside:
    """The server's own half, without Lua, in this process: its timeouts are short, and it answers with the body."""

    def __init__(self, folder: Path) -> None:
        (folder / "lua_scripts").mkdir()
        self.log_path = folder / "error.log"
        self._log = ErrorLog(str(self.log_path), "info")
        config = defaults(str(folder))._replace(heartbeat=BEAT, timeout=0.5, keepalive=3600)
        self.server = Inner(Context(config, self._respond, self._log, timeouts=SHORT), config)
        self._beat = gevent.spawn(self._sweep)

    @staticmethod
    def _respond(exchange: Exchange) -> None:
        body = exchange.read(-1) or b"x" * 20_000_000
        exchange.reply((200, b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n", body))

    def _sweep(self) -> None:
        while True:
            gevent.sleep(BEAT)
            self.server.sweep()

    @contextmanager
    def connect(self) -> Iterator[gevent.socket.socket]:
        """A connection to it."""
        near, far = socket.socketpair()
        self.server.connect(far, "test")
        with gevent.socket.socket(near.family, near.type, near.proto, near.detach()) as connection:
            connection.settimeout(PATIENCE)
            yield connection

    def log(self) -> str:
        """What it has logged."""
        return self.log_path.read_text()

    def close(self) -> None:
        """End it."""
        self._beat.kill()
        self._log.close()


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    """The inner half of a server."""
    made = Inside(tmp_path)
    yield made
    made.close()


def request(body: bytes = b"", request_id: int = 1) -> bytes:
    """A whole request on a kept connection."""
    return Client.request({"SCRIPT_FILENAME": "/x.lua"}, body, request_id=request_id, keep_conn=True)


def answered(connection: gevent.socket.socket, request_id: int = 1) -> tuple[int, bytes]:
    """Status and body of the reply to a request."""
    client = Client()
    while not (request_id in client.replies and client.replies[request_id].ended):
        data = connection.recv(65536)
        assert data, "closed without a reply"
        client.receive(data)
    return client.replies[request_id].status, client.replies[request_id].body


class TestDeadlines:
    @pytest.mark.parametrize("start", [b"\x01", b"\x01\x01\x00\x01", records.begin_request(1)[:-1]])
    def test_incomplete_record(self, inside: Inside, start: bytes) -> None:
        """Some bytes of a header or of a record, then silence: the connection is closed."""
        with inside.connect() as connection:
            connection.send(start)
            assert connection.recv(1) == b""
        assert "connection from test closed: incomplete record after 0.3 s" in inside.log()

    def test_silence_is_no_crime(self, inside: Inside) -> None:
        """A connection on which nothing has begun is not late with anything, before a request and behind one."""
        with inside.connect() as connection:
            gevent.sleep(2 * SHORT.header)
            for _ in range(2):
                connection.sendall(request(b"body"))
                assert answered(connection) == (200, b"body")
                gevent.sleep(2 * SHORT.header)

    def test_parameters(self, inside: Inside) -> None:
        """Parameters that do not end are answered with 408, however they trickle."""
        with inside.connect() as connection:
            connection.send(records.begin_request(1, keep_conn=True))
            pair = records.record(records.PARAMS, 1, records.encode_pairs([(b"A", b"b")]))

            def trickle_in() -> None:
                for _ in range(100):
                    connection.send(pair)
                    gevent.sleep(BEAT)

            trickle = gevent.spawn(trickle_in)
            assert answered(connection)[0] == 408
            trickle.kill()
        assert "408: waited 0 s for its parameters" in inside.log()

    def test_body(self, inside: Inside) -> None:
        """So is a body that does not end, and what comes of it afterwards is passed over."""
        whole = request(b"y" * 100)
        with inside.connect() as connection:
            connection.send(whole[:-20])
            assert answered(connection)[0] == 408
            connection.send(whole[-20:])
            connection.sendall(request(b"next"))
            assert answered(connection) == (200, b"next")
        assert "408: waited 0 s for its body, of which 0 bytes have come" in inside.log()

    def test_a_body_that_is_slow_but_comes(self, inside: Inside) -> None:
        """A slow client has more time, the more has come; a large upload is not cut off in its midst."""
        part = b"z" * 1000
        began = time.monotonic()
        with inside.connect() as connection:
            connection.send(request().removesuffix(records.record(records.STDIN, 1)))
            # Twice as fast as the least, for longer than the 0.4 s that a body has at first.
            for _ in range(20):
                connection.send(records.record(records.STDIN, 1, part))
                gevent.sleep(0.05)
            connection.send(records.record(records.STDIN, 1))
            assert time.monotonic() - began > 2 * SHORT.body
            assert answered(connection) == (200, 20 * part)

    def test_one_late_request_among_others(self, inside: Inside) -> None:
        """On one connection, the late request is answered with 408 and the others are served."""
        with inside.connect() as connection:
            connection.send(records.begin_request(7, keep_conn=True))
            for number in (1, 3, 5):
                connection.sendall(request(b"%d" % number, number))
                assert answered(connection, number) == (200, b"%d" % number)
            assert answered(connection, 7)[0] == 408

    def test_a_reply_that_nobody_takes(self, inside: Inside) -> None:
        """A web server that takes nothing of a reply for as long as a script may run is hung up on."""
        with inside.connect() as connection:
            connection.sendall(request())
            with gevent.Timeout(PATIENCE):
                while inside.server.sessions:
                    gevent.sleep(BEAT)
        assert "connection from test closed: no reply has been taken for 0.5 s" in inside.log()
        assert inside.server.context.workers.running == 0

    def test_a_reply_that_is_taken_slowly(self, inside: Inside) -> None:
        """One that takes it in small parts gets all of it."""
        received = 0
        began = time.monotonic()
        with inside.connect() as connection:
            connection.sendall(request())
            while received < 20_000_000:
                received += len(connection.recv(1 << 20))
                gevent.sleep(0.02)
        assert time.monotonic() - began > 0.5
        assert inside.log() == ""


class TestCaps:
    def test_a_full_queue(self, serve: Serve) -> None:
        """More requests than workers and queue hold get 503 and Retry-After at once; the others are served."""
        server = serve({"sleep.lua": SLEEP}, "workers = 2\nqueue = 3\nheartbeat = 0.05\n")
        with ExitStack() as stack:
            connections = [stack.enter_context(server.connect()) for _ in range(8)]
            for connection in connections:
                connection.send(server.request("sleep.lua?0.5"))
            replies = [connection.reply() for connection in connections]
        refused = [reply for reply in replies if reply.status == 503]
        assert len(refused) == 3
        assert all(b"Retry-After: 1\r\n" in reply.stdout for reply in refused)
        assert [reply.body for reply in replies if reply.status == 200] == [b"slept"] * 5
        server.logged("answered with 503")
        assert "queue full: " in server.log()

    def test_connections(self, tmp_path: Path) -> None:
        """At the cap, further connections wait until one is closed, and the log says so once."""
        server = Server(tmp_path, {"hello.lua": HELLO}, "workers = 8\n", before=("prlimit", "--nofile=256:256"))
        with server, ExitStack() as stack:
            idle = [stack.enter_context(server.connect()) for _ in range(144)]
            server.logged("144 connections are open: others wait until one is closed")
            with server.connect() as waiting:
                waiting.send(server.request("hello.lua"))
                idle[0].socket.close()
                assert waiting.reply().body == b"hello"

    def test_many_idle_connections(self, serve: Serve) -> None:
        """With ten thousand connections kept idle, others are served, and afterwards nothing is left of them."""
        number = 10_000
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 2 * number:
            pytest.skip(f"only {hard} descriptors are allowed here")
        with limited(resource.RLIMIT_NOFILE, 2 * number):
            server = serve({"hello.lua": HELLO})
            ask = Client.request(server.params("hello.lua"), keep_conn=True)
            idle: list[Connection] = []
            try:
                for _ in range(number):
                    idle.append(server.connect())
                    idle[-1].send(ask)
                    assert idle[-1].reply().body == b"hello"
                with Load(server, "hello.lua", b"hello", connections=2) as load:
                    load.until(1000)
                assert load.failures == []
            finally:
                for connection in idle:
                    connection.socket.close()
        until(lambda: descriptors(server.pid) < 50, "the connections to be closed")


class TestLeaving:
    def test_what_has_come_is_answered(self, inside: Inside) -> None:
        """A stop closes kept connections behind the requests that have come on them, also several in one read."""
        with inside.connect() as connection:
            connection.sendall(request(b"first"))
            assert answered(connection) == (200, b"first")
            connection.sendall(request(b"one", 1) + request(b"two", 2) + request(b"three", 3))
            stopping = gevent.spawn(inside.server.stop, PATIENCE)
            client = Client()
            while data := connection.recv(65536):
                client.receive(data)
            bodies = {number: reply.body for number, reply in client.replies.items()}
            assert bodies == {1: b"one", 2: b"two", 3: b"three"}
            assert stopping.get(timeout=PATIENCE)

    def test_nothing_stays_taken(self, inside: Inside) -> None:
        """Whatever a connection holds when it ends is given back."""
        half = records.begin_request(7, keep_conn=True) + records.record(records.PARAMS, 7, b"\x01")
        for end in (half, half + b"\1\5", request(b"z" * 3000, 5)[:-9], b"\1\4\0\7\xff\xff\0\0" + b"x" * 50_000):
            with inside.connect() as connection:
                for _ in range(20):
                    connection.sendall(request() + request(b"y" * 1000, 3))
                connection.sendall(end)
            until_none_is_open = time.monotonic() + PATIENCE
            while inside.server.sessions and time.monotonic() < until_none_is_open:
                gevent.sleep(0.01)
            assert [share.taken for share in inside.server.context.memory] == [0, 0, 0]
            assert inside.server.context.descriptors.temporary.taken == 0
