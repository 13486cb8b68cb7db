"""What a process holds for clients is bounded, whoever sends or does not read: memory, and descriptors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.client import Client

from ..support.processes import descriptors, resident
from ..support.running import Connection, Server, until

Serve = Callable[..., Server]

MEGABYTE = 1024 * 1024
#: A page of many different lines.
PAGE = "".join(f"{number:07d}\n" for number in range(1024)).encode() * 128
SCRIPTS = {
    "hello.lua": "function main(env, con) con:puts('hello') end",
    "page.lua": """
        local lines = {}
        for number = 0, 1023 do lines[#lines + 1] = ("%07d\\n"):format(number) end
        local page = table.concat(lines):rep(128)
        function main(env, con) con:puts(page) end
    """,
    "echo.lua": "function main(env, con) con:puts(con:gets()) end",
}


def buffers(server: Server) -> dict[str, dict[str, int]]:
    """What the status page says of memory and descriptors."""
    reply = server.get("", SCRIPT_NAME="/status", QUERY_STRING="json")
    found: dict[str, dict[str, int]] = json.loads(reply.body)["held"]
    return found


@contextmanager
def connections(server: Server, number: int) -> Iterator[list[Connection]]:
    """So many connections at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for _ in range(number)]


def begin(server: Server, script: str, request_id: int = 1, **more: str) -> bytes:
    """A kept request's records up to the end of its parameters."""
    whole = Client.request(server.params(script, **more), request_id=request_id, keep_conn=True)
    return whole.removesuffix(records.record(records.STDIN, request_id))


def test_replies_that_nobody_reads(serve: Serve) -> None:
    """Many small requests for long pages, in one read each: the replies wait in files, and arrive whole."""
    server = serve(SCRIPTS, 'buffers = "8M"\nstatus_path = "/status"\n')
    ask = [Client.request(server.params("page.lua"), request_id=one, keep_conn=True) for one in range(1, 20)]
    assert server.get("page.lua").body == PAGE
    before = resident(server.pid)
    with connections(server, 10) as opened:
        for connection in opened:
            connection.send(b"".join(ask))
        assert server.get("hello.lua").body == b"hello"
        until(lambda: buffers(server)["temporary files"]["taken"] > 0, "a reply in a file")
        assert resident(server.pid) - before < 24 * MEGABYTE
        held = buffers(server)["replies"]
        assert held["taken"] <= held["limit"] == 4 * MEGABYTE
        for connection in opened:
            for one in range(1, 20):
                assert connection.reply(one).body == PAGE
    until(lambda: buffers(server)["replies"]["taken"] == 0, "the end of what waits")
    assert buffers(server)["temporary files"]["taken"] == 0
    until(lambda: resident(server.pid) - before < 8 * MEGABYTE, "the memory to be given back")


def test_a_reply_that_finds_no_room_at_all(tmp_path: Path) -> None:
    """Where neither memory nor a file is left, the connection is closed, with a line in the log; others go on."""
    limits = ("prlimit", "--nofile=128:128")
    with Server(tmp_path, SCRIPTS, 'buffers = "1M"\nstatus_path = "/status"\n', before=limits) as server:
        with connections(server, 16) as opened:
            for connection in opened:
                connection.send(Client.request(server.params("page.lua"), keep_conn=True))
            server.logged("closed: no room for a reply that waits: no descriptor is left for a temporary file")
            assert server.get("hello.lua").body == b"hello"
        until(lambda: buffers(server)["temporary files"]["taken"] == 0, "the end of the files")
        assert server.get("page.lua").body == PAGE


@pytest.mark.parametrize("kind", ["parameters", "records", "requests"])
def test_requests_that_do_not_come_in_whole(serve: Serve, kind: str) -> None:
    """What connections send and never finish has a bound together; beyond it, it is refused.

    Requests that come in one piece, as nearly all do, hold nothing of it and are answered.
    """
    server = serve(SCRIPTS, 'buffers = "1M"\nstatus_path = "/status"\n')
    params = records.begin_request(1, keep_conn=True) + records.record(records.PARAMS, 1, b"\x01\xff" + b"x" * 60_000)
    start = params if kind == "parameters" else params[:-1]
    if kind == "requests":
        start = b"".join(records.begin_request(one, keep_conn=True) for one in range(1, 200))
    with connections(server, 8) as opened:
        for connection in opened:
            try:
                connection.send(start)
            except OSError:
                connection.closed = True
        until(lambda: buffers(server)["requests"]["refused"] > 0, "the first one to be refused")
        if kind != "requests":
            server.logged("no room for ")
        assert server.get("hello.lua").body == b"hello"
        held = buffers(server)["requests"]
        assert 0 < held["taken"] <= held["limit"] == MEGABYTE // 8
        assert held["refused"] > 0
    until(lambda: buffers(server)["requests"]["taken"] == 0, "what was taken to be given back")
    with server.connect() as connection:
        connection.send(begin(server, "echo.lua", LONG="x" * 100_000) + records.record(records.STDIN, 1))
        assert connection.reply().status == 200


def test_bodies_find_no_file(tmp_path: Path) -> None:
    """With neither memory nor a descriptor for it, a body is refused with 503; requests without one are answered."""
    settings = 'buffers = "1M"\nstatus_path = "/status"\n'
    body = records.record(records.STDIN, 1, b"x" * 60_000)
    with Server(tmp_path, SCRIPTS, settings, before=("prlimit", "--nofile=128:128")) as server:
        with connections(server, 20) as opened:
            for connection in opened:
                connection.send(begin(server, "echo.lua") + body + records.get_values([]))
                while not connection.client.management:
                    connection.receive_some()
            server.logged("503: cannot keep the body: no descriptor is left for a temporary file")
            assert server.get("hello.lua").body == b"hello"
            opened[0].send(records.record(records.STDIN, 1))
            assert opened[0].reply().body == b"x" * 60_000
            assert opened[-1].reply().status == 503
        until(lambda: buffers(server)["temporary files"]["taken"] == 0, "the end of the files")
        assert server.get("echo.lua", b"x" * 60_000).body == b"x" * 60_000


def test_what_waits_in_memory_is_read_in_turns(serve: Serve) -> None:
    """A connection that asks for more than it takes is left alone until it has taken it; nothing of it is lost."""
    server = serve(SCRIPTS, 'buffers = "64M"\nstatus_path = "/status"\n')
    with server.connect() as connection:
        ask = b"".join(
            Client.request(server.params("page.lua"), request_id=one, keep_conn=True) for one in range(1, 60)
        )
        connection.send(ask)
        until(lambda: buffers(server)["replies"]["taken"] > 0, "replies that wait")
        # One page beyond the bound of a connection, not as many as were asked for.
        assert buffers(server)["replies"]["taken"] < 4 * MEGABYTE
        for one in range(1, 60):
            assert connection.reply(one).body == PAGE
    assert descriptors(server.pid) < 40
