"""The running server on its connections: raw FastCGI over sockets, to a process of its own."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.client import Client, Reply
from greenfcgi.serving.body import MAX_IN_MEMORY

from ..support.processes import resident
from ..support.running import Connection, Server, until

Serve = Callable[..., Server]

HELLO = """
    function main(env, con)
        con:puts("hello " .. env.QUERY_STRING)
    end
"""
# Sleeps for as long as the query says, and counts the requests that its state has begun.
SLEEP = """
    count = 0
    function main(env, con)
        count = count + 1
        con:log("begun " .. env.QUERY_STRING)
        if env.QUERY_STRING ~= "" then con:sleep(tonumber(env.QUERY_STRING)) end
        con:puts("request " .. count)
    end
"""
ECHO = """
    function main(env, con)
        local data, problem = con:gets()
        con:header("X-Length", #data)
        con:header("X-Problem", problem or "none")
        con:puts(data)
    end
"""
# One worker and one state: whatever holds either of them stops everybody else.
ALONE = """
    workers = 1
    [states]
    max = 1
"""
TCP = 'bind = "127.0.0.1:0"\n'
LONG = 600


def port(server: Server) -> tuple[str, int]:
    """Where a server with `TCP` listens."""
    return "127.0.0.1", int(server.log().partition("127.0.0.1:")[2].split()[0])


def opening(server: Server, script: str, *, request_id: int = 1, keep_conn: bool = True, **params: str) -> bytes:
    """A request up to the end of its parameters; its body is still to come."""
    request = Client.request(server.params(script, **params), request_id=request_id, keep_conn=keep_conn)
    return request[: -records.HEADER_SIZE]


def asleep(server: Server, connection: Connection, request_id: int = 1, keep_conn: bool = True) -> None:
    """Begin a request that does not end by itself, and wait until its script sleeps."""
    before = server.log().count(f"begun {LONG}")
    params = server.params(f"sleep.lua?{LONG}")
    connection.send(Client.request(params, request_id=request_id, keep_conn=keep_conn))
    until(lambda: server.log().count(f"begun {LONG}") > before, "the script's start")


def abort(request_id: int = 1) -> bytes:
    """An ABORT_REQUEST record."""
    return records.record(records.ABORT_REQUEST, request_id)


def managed(connection: Connection) -> tuple[int, bytes]:
    """Wait for a management record: its type and content."""
    while not connection.client.management:
        connection.receive_some()
    return connection.client.management.pop(0)


def received(connection: Connection, text: bytes, request_id: int = 1) -> Reply:
    """Read until `text` has come in a reply, which may not be complete."""
    replies = connection.client.replies
    while request_id not in replies or text not in replies[request_id].stdout:
        connection.receive_some()
        assert not connection.closed
    return replies[request_id]


def open_files(server: Server) -> list[str]:
    """What the server process has open."""
    folder = f"/proc/{server.pid}/fd"
    found = []
    for number in os.listdir(folder):
        try:
            found.append(os.readlink(f"{folder}/{number}"))
        except FileNotFoundError:
            # Closed in the meantime.
            continue
    return found


# Kept connections


def test_many_requests_go_over_one_connection(serve: Serve) -> None:
    """A connection with KEEP_CONN serves one request after the other, with the same id or another."""
    server = serve({"hello.lua": HELLO})
    with server.connect() as connection:
        for number in range(100):
            request_id = 1 + number % 3
            connection.send(Client.request(server.params(f"hello.lua?{number}"), request_id=request_id, keep_conn=True))
            assert connection.reply(request_id).body == b"hello %d" % number


def test_an_idle_connection_holds_no_worker_and_no_state(serve: Serve) -> None:
    """With one worker and one state, twenty kept connections that idle do not stop the twenty-first."""
    server = serve({"hello.lua": HELLO}, ALONE)
    connections = [server.connect() for _ in range(20)]
    for number, connection in enumerate(connections * 2):
        connection.send(Client.request(server.params(f"hello.lua?{number}"), keep_conn=True))
        assert connection.reply().body == b"hello %d" % number
    assert server.get("hello.lua?last").body == b"hello last"
    for connection in connections:
        connection.socket.close()


def test_a_connection_without_keep_conn_is_closed_behind_the_reply(serve: Serve) -> None:
    """KEEP_CONN off: the reply, then the end of the connection."""
    server = serve({"hello.lua": HELLO})
    with server.connect() as connection:
        connection.send(Client.request(server.params("hello.lua?x")))
        reply = connection.until_closed().replies[1]
        assert reply.body == b"hello x"
        assert reply.ended == (0, 0)


def test_an_idle_connection_is_closed_after_keepalive(serve: Serve) -> None:
    """Idle connections go after `keepalive` seconds, used or not; one with a request under way stays."""
    server = serve({"hello.lua": HELLO, "sleep.lua": SLEEP}, "keepalive = 0.2\nheartbeat = 0.05")
    with server.connect() as unused, server.connect() as used, server.connect() as busy:
        asleep(server, busy)
        since = time.monotonic()
        used.send(Client.request(server.params("hello.lua?"), keep_conn=True))
        used.reply()
        used.until_closed()
        assert time.monotonic() - since > 0.15
        unused.until_closed()
        busy.send(Client.request(server.params("hello.lua?still"), request_id=3, keep_conn=True))
        assert busy.reply(3).body == b"hello still"


# Requests side by side


def test_requests_in_one_write_are_all_answered(serve: Serve) -> None:
    """Requests with different ids that come in one write each get their own reply."""
    server = serve({"hello.lua": HELLO})
    with server.connect() as connection:
        connection.send(
            b"".join(
                Client.request(server.params(f"hello.lua?{number}"), request_id=number, keep_conn=True)
                for number in range(1, 51)
            )
        )
        assert [connection.reply(number).body for number in range(1, 51)] == [
            b"hello %d" % number for number in range(1, 51)
        ]


def test_a_request_behind_another_is_not_lost(serve: Serve) -> None:
    """A second request that stands behind the first in one write, with the same id, is served after it."""
    server = serve({"echo.lua": ECHO})
    with server.connect() as connection:
        first, second = (
            Client.request(server.params("echo.lua", CONTENT_LENGTH="3"), body, keep_conn=True)
            for body in (b"one", b"two")
        )
        connection.send(first + second[:20])
        assert connection.reply().body == b"one"
        connection.send(second[20:])
        assert connection.reply().body == b"two"


def test_records_of_several_requests_may_interleave(serve: Serve) -> None:
    """Two requests whose records alternate on one connection keep their own parameters and bodies."""
    server = serve({"echo.lua": ECHO})
    with server.connect() as connection:
        both = []
        for request_id in (1, 3):
            whole = Client.request(server.params("echo.lua"), b"", request_id=request_id, keep_conn=True)
            parts = [records.record(kind, number, content) for kind, number, content in records.split(whole)]
            body = [records.record(records.STDIN, request_id, b"%d" % request_id * 3) for _ in range(5)]
            both.append([*parts[:-1], *body, parts[-1]])
        connection.send(b"".join(part for pair in zip(*both, strict=True) for part in pair))
        assert connection.reply(3).body == b"3" * 15
        assert connection.reply(1).body == b"1" * 15


def test_a_slow_request_does_not_hold_up_others(serve: Serve) -> None:
    """While the script of one id sleeps, other ids on the same connection are served."""
    server = serve({"hello.lua": HELLO, "sleep.lua": SLEEP})
    with server.connect() as connection:
        asleep(server, connection)
        for number in range(3, 9):
            connection.send(Client.request(server.params(f"hello.lua?{number}"), request_id=number, keep_conn=True))
            assert connection.reply(number).body == b"hello %d" % number
        connection.send(abort())
        assert connection.reply(1).ended == (0, 0)


def test_requests_beyond_the_workers_wait_for_their_turn(serve: Serve) -> None:
    """More requests than workers, on many connections, are all served."""
    server = serve({"sleep.lua": SLEEP}, "workers = 2")
    connections = [server.connect() for _ in range(20)]
    for connection in connections:
        connection.send(Client.request(server.params("sleep.lua?0.005")))
    for connection in connections:
        assert connection.reply().status == 200
        connection.socket.close()


def test_waiting_requests_are_served_in_their_order(serve: Serve) -> None:
    """With one worker, requests end in the order in which they came."""
    server = serve({"sleep.lua": SLEEP}, ALONE)
    with server.connect() as connection:
        ids = [9, 2, 7, 4, 1]
        for request_id in ids:
            params = server.params("sleep.lua?0.005")
            connection.send(Client.request(params, request_id=request_id, keep_conn=True))
        bodies = {request_id: connection.reply(request_id).body for request_id in ids}
        assert bodies == {request_id: b"request %d" % number for number, request_id in enumerate(ids, 1)}


# Requests taken back


def test_abort_ends_a_sleeping_script(serve: Serve) -> None:
    """ABORT_REQUEST gets its END at once, the state and the worker are free again, and no error is logged."""
    server = serve({"sleep.lua": SLEEP}, ALONE)
    with server.connect() as connection:
        asleep(server, connection)
        connection.send(abort())
        reply = connection.reply()
        assert reply.ended == (0, 0)
        assert reply.stdout == b""
        connection.send(Client.request(server.params("sleep.lua"), keep_conn=True))
        assert connection.reply().body == b"request 2"
    assert "ERROR" not in server.log()


def test_abort_without_keep_conn_closes_the_connection(serve: Serve) -> None:
    """Without KEEP_CONN an aborted request still gets its END, before the connection is closed."""
    server = serve({"sleep.lua": SLEEP}, ALONE)
    with server.connect() as connection:
        asleep(server, connection, keep_conn=False)
        connection.send(abort())
        assert connection.until_closed().replies[1].ended == (0, 0)
    assert server.get("sleep.lua").body == b"request 2"


@pytest.mark.parametrize("keep_conn", [True, False])
@pytest.mark.parametrize("cut", [16, 60, None], ids=["begin", "params", "stdin"])
def test_abort_of_a_request_that_has_not_come_in_whole(serve: Serve, keep_conn: bool, cut: int | None) -> None:
    """ABORT_REQUEST gets its END when PARAMS or STDIN had not ended, also in one write with what it takes back."""
    server = serve({"hello.lua": HELLO})
    request = opening(server, "hello.lua", keep_conn=keep_conn)
    if cut == 60:
        request = request[:16] + records.record(records.PARAMS, 1, request[24:60])
    with server.connect() as connection:
        connection.send(request[:cut] + records.record(records.STDIN, 1, b"some") + abort())
        assert connection.reply().ended == (0, 0)
        if keep_conn:
            connection.send(Client.request(server.params("hello.lua?next"), keep_conn=True))
            assert connection.reply().body == b"hello next"
        else:
            connection.until_closed()
    assert "ERROR" not in server.log()


def test_abort_wakes_a_script_that_waits_for_its_client(serve: Serve) -> None:
    """A script that con:flush() holds up, since the client does not read, ends when its request is aborted."""
    script = """
        count = 0
        function main(env, con)
            count = count + 1
            if env.QUERY_STRING ~= "" then con:puts(("x"):rep(900000)); con:flush() end
            con:puts("request " .. count)
        end
    """
    server = serve({"stream.lua": script}, ALONE)
    with server.connect() as connection:
        connection.send(Client.request(server.params("stream.lua?on"), keep_conn=True))
        connection.client.receive(connection.socket.recv(1))
        connection.send(abort())
        assert server.get("stream.lua").body == b"request 2"
        reply = connection.reply()
        assert reply.body == b"x" * 900_000
        assert reply.ended == (0, 0)
    assert "ERROR" not in server.log()


def test_an_id_is_free_while_its_aborted_script_ends(serve: Serve) -> None:
    """A new request may take the id of an aborted one in the same write; what the old one says is not mixed in."""
    script = """
        function main(env, con)
            con:puts(env.QUERY_STRING)
            con:flush()
            pcall(con.sleep, con, tonumber(env.QUERY_STRING))
            pcall(con.puts, con, " and more")
            pcall(con.flush, con)
        end
    """
    server = serve({"stubborn.lua": script})
    with server.connect() as connection:
        connection.send(Client.request(server.params("stubborn.lua?600"), keep_conn=True))
        received(connection, b"600")
        connection.send(abort() + Client.request(server.params("stubborn.lua?0"), keep_conn=True))
        data = b""
        while data.count(records.end_request(1)) < 2:
            data += connection.socket.recv(65536)
        old, new, rest = data.split(records.end_request(1))
        assert old == records.record(records.STDOUT, 1)
        connection.client.replies.clear()
        connection.client.receive(new)
        assert connection.client.replies[1].body == b"0 and more"
        assert rest == b""


def test_a_peer_that_goes_wakes_its_script(serve: Serve) -> None:
    """When the web server closes the connection, a sleeping script ends, and its worker and state are free."""
    server = serve({"sleep.lua": SLEEP}, ALONE)
    for number in (1, 3, 5):
        with server.connect() as connection:
            asleep(server, connection)
        assert server.get("sleep.lua").body == b"request %d" % (number + 1)
    assert "ERROR" not in server.log()


def test_a_request_taken_back_while_it_waits_is_never_run(serve: Serve) -> None:
    """A request whose peer goes before it gets a worker does not reach its script."""
    server = serve({"sleep.lua": SLEEP}, ALONE)
    with server.connect() as first:
        asleep(server, first)
        with server.connect() as second:
            second.send(records.get_values([b"FCGI_MPXS_CONNS"]) + Client.request(server.params("sleep.lua")))
            managed(second)
        with server.connect() as third:
            third.send(Client.request(server.params("sleep.lua"), keep_conn=True))
            first.send(abort())
            assert third.reply().body == b"request 2"


def test_a_peer_that_goes_ends_a_stream(serve: Serve) -> None:
    """A script that streams into a connection that is gone ends, instead of running for nobody."""
    script = """
        count = 0
        function main(env, con)
            count = count + 1
            while env.QUERY_STRING ~= "" do con:puts(("x"):rep(10000)); con:flush() end
            con:puts("request " .. count)
        end
    """
    server = serve({"stream.lua": script}, ALONE)
    with server.connect() as connection:
        connection.send(Client.request(server.params("stream.lua?on")))
        received(connection, b"xxx")
    assert server.get("stream.lua").body == b"request 2"
    assert "ERROR" not in server.log()


# The rest of the protocol


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_management_records_are_answered_at_any_time(serve: Serve, busy: bool) -> None:
    """GET_VALUES and an unknown type are answered on an idle and on a busy connection, which stays open."""
    server = serve({"hello.lua": HELLO, "sleep.lua": SLEEP})
    with server.connect() as connection:
        if busy:
            asleep(server, connection)
        connection.send(records.get_values([b"FCGI_MPXS_CONNS", b"NOBODY_KNOWS"]))
        assert managed(connection) == (
            records.GET_VALUES_RESULT, records.encode_pairs([(b"FCGI_MPXS_CONNS", b"1")])
        )  # fmt: skip
        connection.send(records.record(42, 0, b"what"))
        assert managed(connection) == (records.UNKNOWN_TYPE, b"\x2a\0\0\0\0\0\0\0")
        connection.send(Client.request(server.params("hello.lua?3"), request_id=3, keep_conn=True))
        assert connection.reply(3).body == b"hello 3"


def test_a_management_record_before_the_last_request_is_answered(serve: Serve) -> None:
    """GET_VALUES in one write with a request without KEEP_CONN is answered before the connection is closed."""
    server = serve({"hello.lua": HELLO})
    with server.connect() as connection:
        connection.send(records.get_values([b"FCGI_MPXS_CONNS"]) + Client.request(server.params("hello.lua?x")))
        client = connection.until_closed()
        assert client.replies[1].body == b"hello x"
        assert [kind for kind, _ in client.management] == [records.GET_VALUES_RESULT]


@pytest.mark.parametrize("role", [records.AUTHORIZER, records.FILTER, 99])
def test_an_unknown_role_is_refused(serve: Serve, role: int) -> None:
    """END_REQUEST with UNKNOWN_ROLE; what follows of that request is passed over, and the next one is served."""
    server = serve({"hello.lua": HELLO})
    with server.connect() as connection:
        request = Client.request(server.params("hello.lua?"), b"body", keep_conn=True)
        connection.send(records.begin_request(1, role, True) + request[16:])
        assert connection.reply().ended == (0, records.UNKNOWN_ROLE)
        connection.send(Client.request(server.params("hello.lua?next"), keep_conn=True))
        assert connection.reply().body == b"hello next"


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\xff" * 1000,
        records.record(records.BEGIN_REQUEST, 1, b"abc"),
        records.begin_request(0),
        records.begin_request(1) + records.begin_request(1),
        records.begin_request(1) + records.record(records.PARAMS, 1, b"\x7f\x7fx") + records.record(records.PARAMS, 1),
    ],
    ids=["http", "ones", "short-begin", "begin-zero", "begin-twice", "cut-pair"],
)
def test_garbage_closes_only_its_own_connection(serve: Serve, garbage: bytes) -> None:
    """Bytes that are not FastCGI end their connection with one line in the log; others do not notice."""
    server = serve({"hello.lua": HELLO, "sleep.lua": SLEEP})
    with server.connect() as other, server.connect() as bad:
        asleep(server, other)
        before = server.log()
        bad.send(garbage)
        bad.until_closed()
        other.send(Client.request(server.params("hello.lua?still"), request_id=3, keep_conn=True))
        assert other.reply(3).body == b"hello still"
    lines = server.log().removeprefix(before).splitlines()
    assert len(lines) == 1
    assert "[WARNING] connection from unix socket closed: " in lines[0]


def test_a_request_may_come_byte_by_byte(serve: Serve) -> None:
    """A request that is cut into single bytes is understood."""
    server = serve({"echo.lua": ECHO})
    with server.connect() as connection:
        for byte in Client.request(server.params("echo.lua", CONTENT_LENGTH="5"), b"bytes"):
            connection.send(bytes((byte,)))
        assert connection.reply().body == b"bytes"


def test_ten_thousand_parameters_reach_the_script(serve: Serve) -> None:
    """A request with 10,000 parameters is answered, and its script sees every one."""
    script = """
        function main(env, con)
            local count, sum = 0, 0
            for name, value in pairs(env) do
                if name:find("^P%d+$") then count = count + 1; sum = sum + tonumber(value) end
            end
            con:puts(count .. " " .. sum)
        end
    """
    server = serve({"count.lua": script})
    params = server.params("count.lua") | {f"P{number}": str(number) for number in range(10_000)}
    with server.connect() as connection:
        connection.send(Client.request(params))
        reply = connection.reply()
    assert reply.status == 200
    assert reply.body == b"10000 49995000"


@pytest.mark.parametrize("keep_conn", [True, False])
def test_too_many_parameters_are_refused(serve: Serve, keep_conn: bool) -> None:
    """More than 128 KiB of parameters are answered with 431 and a line in the log; the connection goes on."""
    server = serve({"hello.lua": HELLO}, 'accesslog = "access.log"')
    with server.connect() as connection:
        connection.send(Client.request(server.params("hello.lua", LONG="x" * 140_000), keep_conn=keep_conn))
        assert connection.reply().status == 431
        if keep_conn:
            connection.send(Client.request(server.params("hello.lua?next"), keep_conn=True))
            assert connection.reply().body == b"hello next"
        else:
            connection.until_closed()
    assert "431: more than 131072 bytes of parameters" in server.log()
    log = server.folder / "access.log"
    until(lambda: '"- - -" 431 ' in log.read_text(), "the line in the access log")


def test_too_many_requests_on_one_connection_are_refused(serve: Serve) -> None:
    """Beyond 1,024 requests under way on one connection: END_REQUEST with OVERLOADED; the others are not touched."""
    server = serve({"sleep.lua": SLEEP}, ALONE)
    with server.connect() as connection:
        asleep(server, connection, 1025)
        params = server.params("sleep.lua")
        connection.send(
            b"".join(Client.request(params, request_id=request_id, keep_conn=True) for request_id in range(1, 1025))
        )
        assert connection.reply(1024).ended == (0, records.OVERLOADED)
        connection.send(abort(1025))
        assert connection.reply(1023).body == b"request 1024"


# Bodies

#: Bytes that all bodies together may take in memory, by default.
ROOM_FOR_BODIES = 24 * 1024 * 1024


def temporary_files(server: Server) -> int:
    """How many files without a name the server has open."""
    return sum("(deleted)" in name for name in open_files(server))


@pytest.mark.parametrize("length", [0, 1, 65536, MAX_IN_MEMORY, MAX_IN_MEMORY + 1, 3_000_000])
def test_a_body_arrives_byte_for_byte(serve: Serve, length: int) -> None:
    """A body reaches its script unchanged, kept in memory or in a temporary file, read at once or in parts."""
    parts = """
        function main(env, con)
            repeat
                local part = con:gets(99999)
                con:puts(part or "")
            until not part
        end
    """
    server = serve({"echo.lua": ECHO, "parts.lua": parts}, '[scripts]\nmax_post = "4M"')
    body = random.Random(length).randbytes(length)
    assert server.get("echo.lua", body).body == body
    assert server.get("parts.lua", body).body == body


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_the_file_of_a_large_body_goes_with_its_request(serve: Serve) -> None:
    """A large body costs a file descriptor and no memory; it is given back at the end, or when the peer goes."""
    server = serve({"echo.lua": ECHO}, '[scripts]\nmax_post = "20M"')

    server.get("echo.lua", b"x" * 2_000_000)
    until(lambda: temporary_files(server) == 0, "the end of the first file")
    before = resident(server.pid)
    with server.connect() as connection:
        connection.send(opening(server, "echo.lua"))
        connection.send(b"".join(records.stream(records.STDIN, 1, b"x" * 16_000_000)))
        connection.send(records.get_values([b"FCGI_MPXS_CONNS"]))
        managed(connection)
        assert temporary_files(server) == 1
        assert resident(server.pid) - before < 4_000_000
    until(lambda: temporary_files(server) == 0, "the end of the second file")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_many_bodies_at_once_are_kept_in_files(serve: Serve) -> None:
    """Bodies share a bounded room in memory. One that finds none is in a file, and as whole as the others."""
    server = serve({"echo.lua": ECHO}, f"workers = 64\n[scripts]\nmax_post = {MAX_IN_MEMORY}")
    body = random.Random(1).randbytes(MAX_IN_MEMORY)
    half = len(body) // 2

    with contextlib.ExitStack() as connections:
        opened = [connections.enter_context(server.connect()) for _ in range(ROOM_FOR_BODIES // half + 2)]
        for connection in opened:
            connection.send(opening(server, "echo.lua"))
            connection.send(b"".join(records.stream(records.STDIN, 1, body[:half])))
            connection.send(records.get_values([b"FCGI_MPXS_CONNS"]))
            managed(connection)
        assert 0 < temporary_files(server) <= 3
        for connection in (opened[0], opened[-1]):
            connection.send(b"".join(records.stream(records.STDIN, 1, body[half:])) + records.record(records.STDIN, 1))
            assert connection.reply().body == body
    until(lambda: temporary_files(server) == 0, "the end of the files")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_a_body_in_small_pieces_is_kept_in_a_file(serve: Serve) -> None:
    """What a body takes in memory counts, not its length: a piece of one byte takes far more."""
    server = serve({"echo.lua": ECHO})
    with server.connect() as connection:
        connection.send(opening(server, "echo.lua") + records.record(records.STDIN, 1, b"x") * 30_000)
        connection.send(records.get_values([b"FCGI_MPXS_CONNS"]))
        managed(connection)
        assert temporary_files(server) == 1
        connection.send(records.record(records.STDIN, 1))
        assert connection.reply().body == b"x" * 30_000


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_bodies_of_broken_requests_give_their_room_back(serve: Serve) -> None:
    """A body may be whole before its parameters are, and these broken: nobody ever reads it."""
    server = serve({"echo.lua": ECHO})
    size = MAX_IN_MEMORY // 2
    body = b"".join(records.stream(records.STDIN, 1, b"x" * size)) + records.record(records.STDIN, 1)
    broken = records.record(records.PARAMS, 1, b"\x0f\x0aSCRIPT") + records.record(records.PARAMS, 1)
    for _ in range(ROOM_FOR_BODIES // size + 1):
        with server.connect() as connection:
            connection.send(records.begin_request(1, keep_conn=True) + body + broken)
            connection.until_closed()
    with server.connect() as connection:
        connection.send(opening(server, "echo.lua") + b"".join(records.stream(records.STDIN, 1, b"x" * size)))
        connection.send(records.get_values([b"FCGI_MPXS_CONNS"]))
        managed(connection)
        assert temporary_files(server) == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to")
def test_the_memory_of_bodies_is_given_back(serve: Serve) -> None:
    """After many uploads at once, what they took goes back to the system."""
    server = serve({"echo.lua": ECHO}, "workers = 64")
    server.get("echo.lua", b"x")
    before = resident(server.pid)
    body = b"".join(records.stream(records.STDIN, 1, b"x" * 1_000_000))
    with contextlib.ExitStack() as connections:
        opened = [connections.enter_context(server.connect()) for _ in range(24)]
        for connection in opened:
            connection.send(opening(server, "echo.lua") + body)
            connection.send(records.get_values([b"FCGI_MPXS_CONNS"]))
            managed(connection)
        assert resident(server.pid) - before > 20_000_000
    until(lambda: resident(server.pid) - before < 8_000_000, "the memory to be given back")


@pytest.mark.parametrize("length", ["10", "2", "4", "", "-1", "junk"])
def test_the_end_of_stdin_is_believed(serve: Serve, length: str) -> None:
    """Whatever CONTENT_LENGTH says, the script runs with what has come, and gets() warns when that differs."""
    server = serve({"echo.lua": ECHO})
    reply = server.get("echo.lua", b"body", CONTENT_LENGTH=length)
    assert reply.body == b"body"
    differs = length in ("10", "2")
    expected = f"the body has 4 bytes, but CONTENT_LENGTH says {length}" if differs else "none"
    assert reply.head["x-problem"] == [expected]


def test_a_missing_body_is_told(serve: Serve) -> None:
    """A request that announces a body and sends none runs, and gets() says so."""
    server = serve({"echo.lua": ECHO})
    reply = server.get("echo.lua", CONTENT_LENGTH="5")
    assert reply.head["x-problem"] == ["the body has 0 bytes, but CONTENT_LENGTH says 5"]


def test_a_large_content_length_is_refused_before_the_body_comes(serve: Serve) -> None:
    """CONTENT_LENGTH above `max_post` is answered with 413 before any of the body has come; that is passed over."""
    server = serve({"echo.lua": ECHO}, '[scripts]\nmax_post = "10K"')
    with server.connect() as connection:
        connection.send(opening(server, "echo.lua", CONTENT_LENGTH="10241"))
        assert connection.reply().status == 413
        connection.send(b"".join(records.stream(records.STDIN, 1, b"x" * 10241)))
        connection.send(records.record(records.STDIN, 1))
        connection.send(Client.request(server.params("echo.lua", CONTENT_LENGTH="10240"), b"y" * 10240, keep_conn=True))
        assert connection.reply().body == b"y" * 10240
    assert "413: a body of 10241 bytes, scripts.max_post is 10240" in server.log()


def test_a_refused_request_is_never_run(serve: Serve) -> None:
    """413 is the end of a request, also when its STDIN had ended before its parameters."""
    server = serve({"sleep.lua": SLEEP}, '[scripts]\nmax_post = "10K"')
    with server.connect() as connection:
        request = opening(server, "sleep.lua", CONTENT_LENGTH="10241")
        connection.send(request[:16] + records.record(records.STDIN, 1) + request[16:])
        assert connection.reply().status == 413
        connection.send(Client.request(server.params("sleep.lua"), keep_conn=True))
        assert connection.reply().body == b"request 1"


def test_a_large_body_without_content_length_is_refused(serve: Serve) -> None:
    """Without CONTENT_LENGTH the bytes are counted as they come: 413 with the first one too many."""
    server = serve({"echo.lua": ECHO}, '[scripts]\nmax_post = "10K"')
    with server.connect() as connection:
        connection.send(opening(server, "echo.lua"))
        connection.send(records.record(records.STDIN, 1, b"x" * 10240) + records.get_values([b"FCGI_MPXS_CONNS"]))
        managed(connection)
        assert 1 not in connection.client.replies
        connection.send(records.record(records.STDIN, 1, b"x"))
        assert connection.reply().status == 413


def test_an_early_refusal_is_not_lost_to_a_reset(serve: Serve) -> None:
    """KEEP_CONN off: the client that sends a large body first reads the whole 413 afterwards, and a proper end."""
    server = serve({"echo.lua": ECHO}, TCP)
    with server.connect(port(server)) as connection:
        connection.send(opening(server, "echo.lua", keep_conn=False, CONTENT_LENGTH="8000000"))
        connection.send(b"".join(records.stream(records.STDIN, 1, b"x" * 8_000_000)))
        reply = connection.until_closed().replies[1]
        assert reply.status == 413
        assert reply.body.endswith(b"</html>\n")
        assert reply.ended == (0, 0)


@pytest.mark.parametrize("why", ["413", "431", "role"])
def test_a_client_may_send_for_a_while_after_an_early_refusal(serve: Serve, why: str) -> None:
    """KEEP_CONN off: what a refused request still sends is passed over; its sender reads the refusal afterwards."""
    server = serve({"echo.lua": ECHO}, TCP + "heartbeat = 0.01")
    opened = {
        "413": opening(server, "echo.lua", keep_conn=False, CONTENT_LENGTH="8000000"),
        "431": opening(server, "echo.lua", keep_conn=False, LONG="x" * 140_000),
        "role": records.begin_request(1, records.FILTER),
    }
    with server.connect(port(server)) as connection:
        connection.send(opened[why])
        until(lambda: connection.socket.recv(1, socket.MSG_PEEK), "the refusal")
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            connection.send(records.record(records.STDIN, 1, b"x" * 1000))
        reply = connection.until_closed().replies[1]
        assert (reply.status, reply.ended) == {
            "413": (413, (0, 0)), "431": (431, (0, 0)), "role": (403, (0, records.UNKNOWN_ROLE))
        }[why]  # fmt: skip


def test_a_client_that_stays_silent_after_a_refusal_is_let_go(serve: Serve) -> None:
    """A connection on which all is said is closed when its peer neither sends nor closes."""
    server = serve({"echo.lua": ECHO})
    with server.connect() as connection:
        connection.send(opening(server, "echo.lua", keep_conn=False, CONTENT_LENGTH="8000000"))
        connection.until_closed()
        end = records.record(records.STDIN, 1)
        until(lambda: _refuses(connection, end), "the close")


def _refuses(connection: Connection, data: bytes) -> bool:
    try:
        connection.send(data)
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("closes", [True, False], ids=["gone", "aborted"])
def test_a_request_taken_back_is_logged_once(serve: Serve, closes: bool) -> None:
    """A request whose body never came in whole is a line in the access log, as any other."""
    server = serve({"echo.lua": ECHO}, 'accesslog = "access.log"')
    with server.connect() as connection:
        connection.send(opening(server, "echo.lua", REQUEST_URI="/back") + records.record(records.STDIN, 1, b"some"))
        connection.send(b"" if closes else abort())
        connection.send(records.get_values([b"FCGI_MPXS_CONNS"]))
        managed(connection)
    assert server.get("echo.lua", REQUEST_URI="/next").status == 200
    path = server.folder / "access.log"
    until(lambda: "/next" in path.read_text(), "the access log")
    assert path.read_text().count("/back") == 1


def test_a_client_that_goes_before_its_refusal_is_logged_once(serve: Serve) -> None:
    """A refusal that reaches nobody any more is one request in the access log."""
    server = serve({"echo.lua": ECHO}, 'accesslog = "access.log"')
    server.send_signal(signal.SIGSTOP)
    with server.connect() as connection:
        connection.send(opening(server, "echo.lua", CONTENT_LENGTH="8000000", REQUEST_URI="/refused"))
    server.send_signal(signal.SIGCONT)
    assert server.get("echo.lua", REQUEST_URI="/next").status == 200
    path = server.folder / "access.log"
    until(lambda: "/next" in path.read_text(), "the access log")
    assert path.read_text().count("/refused") == 1


# Streaming


@pytest.mark.parametrize("buffering", [True, False])
def test_output_reaches_the_client_while_the_script_goes_on(serve: Serve, tmp_path: Path, buffering: bool) -> None:
    """con:flush(), or puts without buffering, sends at once."""
    go = tmp_path / "go"
    script = f"""
        function main(env, con)
            con:puts("first")
            if env.QUERY_STRING == "flush" then con:flush() end
            while not io.open("{go}") do con:sleep(0.01) end
            con:puts("second")
        end
    """
    server = serve({"stream.lua": script}, f"[scripts]\nbuffering = {str(buffering).lower()}")
    with server.connect() as connection:
        connection.send(Client.request(server.params("stream.lua?flush" if buffering else "stream.lua")))
        first = received(connection, b"first")
        assert first.status == 200
        assert first.body == b"first"
        assert first.ended is None
        go.touch()
        assert connection.reply().body == b"firstsecond"


def test_a_slow_client_makes_flush_wait(serve: Serve) -> None:
    """con:flush() returns when the client has taken the output; others are served meanwhile."""
    script = """
        function main(env, con)
            con:puts(("x"):rep(900000))
            con:flush()
            con:log("flushed")
        end
    """
    server = serve({"hello.lua": HELLO, "stream.lua": script})
    with server.connect() as connection:
        connection.send(Client.request(server.params("stream.lua")))
        connection.client.receive(connection.socket.recv(1))
        assert server.get("hello.lua?x").body == b"hello x"
        assert "flushed" not in server.log()
        assert connection.reply().body == b"x" * 900_000
    server.logged("flushed")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_stream_into_a_slow_client_takes_no_memory(serve: Serve) -> None:
    """200 MB through con:flush() into a client that reads now and then: memory stays bounded, others are served."""
    script = """
        function main(env, con)
            local part = ("0123456789"):rep(5000)
            for i = 1, 4000 do con:puts(part); con:flush() end
        end
    """
    server = serve({"hello.lua": HELLO, "stream.lua": script})
    head = server.get("hello.lua?").stdout.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    before, peak, total = resident(server.pid), 0, 0
    with server.connect() as connection:
        connection.send(Client.request(server.params("stream.lua")))
        next_look = 0
        while data := connection.socket.recv(1 << 20):
            total += len(data)
            tail = data
            if total >= next_look:
                next_look += 20_000_000
                assert server.get("hello.lua?x").body == b"hello x"
                peak = max(peak, resident(server.pid))
    # 4,000 records, the header block in the first, and the end: an empty STDOUT and END_REQUEST.
    assert total == 4000 * (records.HEADER_SIZE + 50_000) + len(head) + 24
    assert tail.endswith(records.end_request(1))
    assert peak - before < 30_000_000


def test_a_slow_client_of_a_whole_reply_holds_no_worker(serve: Serve) -> None:
    """With one worker and one state, a client that does not read its large reply stops nobody."""
    script = 'function main(env, con) con:puts(("x"):rep(tonumber(env.QUERY_STRING))) end'
    server = serve({"big.lua": script}, ALONE)
    with server.connect() as slow:
        slow.send(Client.request(server.params("big.lua?1000000"), keep_conn=True))
        slow.client.receive(slow.socket.recv(1))
        for _ in range(3):
            assert server.get("big.lua?5").body == b"xxxxx"
        assert slow.reply().body == b"x" * 1_000_000
        slow.send(Client.request(server.params("big.lua?3"), keep_conn=True))
        assert slow.reply().body == b"xxx"


def test_streams_on_one_connection_share_it(serve: Serve) -> None:
    """Of two scripts that stream on one slow connection, neither waits until the other has ended."""
    script = """
        function main(env, con)
            for i = 1, tonumber(env.QUERY_STRING) do con:puts(("x"):rep(400000)); con:flush() end
        end
    """
    server = serve({"stream.lua": script})
    with server.connect() as connection:
        for request_id, parts in ((1, 20), (2, 3)):
            params = server.params(f"stream.lua?{parts}")
            connection.send(Client.request(params, request_id=request_id, keep_conn=True))
        assert len(connection.reply(2).body) == 1_200_000
        assert connection.client.replies[1].ended is None
        assert len(connection.reply(1).body) == 8_000_000


# Trouble


def test_a_connection_that_breaks_in_a_reply_harms_nobody(serve: Serve) -> None:
    """Clients that go in the middle of a large reply leave nothing behind, and no error in the log."""
    script = 'function main(env, con) con:puts(("x"):rep(900000)) end'
    server = serve({"hello.lua": HELLO, "big.lua": script}, ALONE)
    for _ in range(20):
        with server.connect() as connection:
            connection.send(Client.request(server.params("big.lua"), keep_conn=True))
            connection.socket.recv(1)
    assert server.get("hello.lua?x").body == b"hello x"
    assert "ERROR" not in server.log()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit")
def test_a_process_out_of_descriptors_goes_on_when_it_has_some(serve: Serve) -> None:
    """Connections beyond the limit of open files wait; they are served when others have gone."""
    server = serve({"hello.lua": HELLO})
    server.get("hello.lua?")
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (40, 40))
    connections = [server.connect() for _ in range(60)]
    log = server.logged("cannot accept a connection: Too many open files")
    assert "Traceback" not in log
    for connection in connections[:-1]:
        connection.socket.close()
    connections[-1].send(Client.request(server.params("hello.lua?last")))
    assert connections[-1].reply().body == b"hello last"
    connections[-1].socket.close()


def test_clients_at_once(serve: Serve) -> None:
    """Eight clients, each with its own connection and its own state of mind, get their own answers."""
    server = serve({"hello.lua": HELLO, "sleep.lua": SLEEP}, "workers = 4")
    wrong: list[object] = []

    def ask(client: int) -> None:
        with server.connect() as connection:
            for number in range(50):
                query = f"{client}-{number}"
                params = server.params(f"hello.lua?{query}")
                connection.send(Client.request(params, request_id=1 + number, keep_conn=True))
                if (body := connection.reply(1 + number).body) != b"hello " + query.encode():
                    wrong.append(body)

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_client_that_leaves_a_loop_frees_the_server(serve: Callable[..., Server]) -> None:
    """A script that catches every error in a loop without end stops when its client has gone."""
    server = serve(
        {
            "loop.lua": """
                function main(env, con)
                    local function tick() con:puts("x") con:flush() con:sleep(0.01) end
                    while true do pcall(tick) end
                end
            """,
            "a.lua": "function main(env, con) con:puts('a') end",
        },
        "workers = 1\n[states]\nmax = 1\n",
    )
    with server.connect() as connection:
        connection.send(connection.client.request(server.params("loop.lua")))
        connection.receive_some()
    assert server.get("a.lua").body == b"a"


def test_replies_that_nobody_reads_stop_the_reading(serve: Callable[..., Server]) -> None:
    """A peer that sends requests and takes no reply is not read any further; when it reads, all are answered."""
    server = serve({"big.lua": "local page = ('x'):rep(200000) function main(env, con) con:puts(page) end"})
    with server.connect() as connection:
        connection.socket.settimeout(0.5)
        request = Client.request(server.params("big.lua"), keep_conn=True)
        with pytest.raises(TimeoutError):
            connection.send(request * 2000)
        assert resident(server.pid) < 60_000_000
    assert len(server.get("big.lua").body) == 200_000
