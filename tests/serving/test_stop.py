"""How the server ends: what it still does after SIGTERM or SIGINT, and what its exit status says."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.client import Client

from ..support.running import PATIENCE, Connection, Server, until

Serve = Callable[..., Server]

SLEEP = """
    function main(env, con)
        con:log("begun")
        con:sleep(tonumber(env.QUERY_STRING))
        con:puts("slept")
    end
"""
ECHO = "function main(env, con) con:puts(con:gets()) end"
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def processed(connection: Connection) -> None:
    """Wait until the server has read all that was sent so far."""
    connection.send(records.get_values([b"FCGI_MPXS_CONNS"]))
    while not connection.client.management:
        connection.receive_some()
    connection.client.management.clear()


def exit_status(server: Server) -> int:
    """Wait for the end of the process."""
    assert server.process is not None
    return server.process.wait(PATIENCE)


@SIGNALS
def test_a_request_under_way_is_finished(serve: Serve, tmp_path: Path, number: signal.Signals) -> None:
    """A stop closes idle connections at once, lets the script that runs reply, and exits with 0."""
    go = tmp_path / "go"
    script = f"""
        function main(env, con)
            con:log("begun")
            while not io.open("{go}") do con:sleep(0.01) end
            con:puts("done")
        end
    """
    server = serve({"wait.lua": script})
    with server.connect() as idle, server.connect() as busy:
        busy.send(Client.request(server.params("wait.lua"), keep_conn=True))
        server.logged("begun")
        processed(idle)
        server.send_signal(number)
        idle.until_closed()
        assert not os.path.exists(server.socket_path)
        go.touch()
        reply = busy.until_closed().replies[1]
        assert reply.body == b"done"
        assert reply.ended == (0, 0)
    assert exit_status(server) == 0
    assert server.log().endswith("stopped\n")
    assert "stopping, 1 request under way" in server.log()


def test_a_stop_without_requests_is_quick(serve: Serve) -> None:
    """With idle connections only, the process ends without waiting for `graceful_timeout`."""
    server = serve({"echo.lua": ECHO})
    connections = [server.connect() for _ in range(20)]
    for connection in connections:
        connection.send(Client.request(server.params("echo.lua"), keep_conn=True))
        connection.reply()
    since = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - since < PATIENCE / 4
    for connection in connections:
        connection.until_closed()
        connection.socket.close()


def test_nothing_new_is_accepted(serve: Serve) -> None:
    """While a stop waits for a request, a new connection is refused."""
    server = serve({"sleep.lua": SLEEP}, 'bind = "127.0.0.1:0"')
    at = "127.0.0.1", int(server.log().partition("127.0.0.1:")[2].split()[0])

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(at) == errno.ECONNREFUSED

    with server.connect(at) as busy:
        busy.send(Client.request(server.params("sleep.lua?60")))
        server.logged("begun")
        assert not refused()
        server.send_signal(signal.SIGTERM)
        until(refused, "the refusal of connections")
        assert "unfinished" not in server.log()
        busy.send(records.record(records.ABORT_REQUEST, 1))
        assert busy.reply().ended == (0, 0)
    assert exit_status(server) == 0


def test_waiting_requests_are_finished(serve: Serve) -> None:
    """Requests that wait for a worker at the stop get one."""
    server = serve({"sleep.lua": SLEEP}, "workers = 1\n[states]\nmax = 1")
    with server.connect() as connection:
        for request_id in (1, 2, 3):
            params = server.params("sleep.lua?0.05")
            connection.send(Client.request(params, request_id=request_id, keep_conn=True))
        processed(connection)
        server.send_signal(signal.SIGTERM)
        replies = connection.until_closed().replies
        assert [replies[request_id].body for request_id in (1, 2, 3)] == [b"slept"] * 3
    assert exit_status(server) == 0


@pytest.mark.parametrize("keep_conn", [True, False])
@pytest.mark.parametrize("part", ["begin", "params", "body"])
def test_a_request_half_received_is_served(serve: Serve, part: str, keep_conn: bool) -> None:
    """A request whose rest comes after the stop has begun, and in time, gets its reply."""
    server = serve({"echo.lua": ECHO})
    request = Client.request(server.params("echo.lua", CONTENT_LENGTH="4"), b"body", keep_conn=keep_conn)
    whole = [records.record(kind, request_id, content) for kind, request_id, content in records.split(request)]
    first = b"".join(whole[: {"begin": 1, "params": 2, "body": -1}[part]])
    with server.connect() as connection:
        connection.send(first)
        processed(connection)
        server.send_signal(signal.SIGTERM)
        server.logged("stopping")
        connection.send(request[len(first) :])
        assert connection.until_closed().replies[1].body == b"body"
    assert exit_status(server) == 0


@pytest.mark.parametrize("keep_conn", [True, False])
def test_a_request_taken_back_in_the_stop_is_not_waited_for(serve: Serve, keep_conn: bool) -> None:
    """A half-received request that is aborted after the stop has begun lets the connection go at once."""
    server = serve({"echo.lua": ECHO})
    with server.connect() as connection:
        connection.send(records.begin_request(1, keep_conn=keep_conn))
        processed(connection)
        server.send_signal(signal.SIGTERM)
        server.logged("stopping")
        connection.send(records.record(records.ABORT_REQUEST, 1))
        assert connection.until_closed().replies[1].ended == (0, 0)
    assert exit_status(server) == 0


def test_a_reply_that_still_leaves_is_finished(serve: Serve) -> None:
    """A slow client gets the rest of its reply after the stop has begun."""
    server = serve({"big.lua": 'function main(env, con) con:puts(("x"):rep(1000000)) end'})
    with server.connect() as slow:
        slow.send(Client.request(server.params("big.lua"), keep_conn=True))
        slow.client.receive(slow.socket.recv(1))
        server.send_signal(signal.SIGTERM)
        server.logged("stopping")
        reply = slow.until_closed().replies[1]
        assert len(reply.body) == 1_000_000
        assert reply.ended == (0, 0)
    assert exit_status(server) == 0


@pytest.mark.parametrize("what", ["script", "body", "reply"])
def test_past_graceful_timeout_the_stop_goes_on(serve: Serve, what: str) -> None:
    """A request that takes longer is cut off: its connection is closed, the log says so, and the exit status is 1."""
    scripts = {
        "script.lua": SLEEP,
        "body.lua": ECHO,
        "reply.lua": 'function main(env, con) con:puts(("x"):rep(1000000)) con:log("begun") end',
    }
    server = serve(scripts, 'graceful_timeout = 0.2\npidfile = "pid"')
    with server.connect() as connection:
        request = Client.request(server.params(f"{what}.lua?60"), keep_conn=True)
        connection.send(request[:-8] if what == "body" else request)
        if what == "body":
            processed(connection)
        else:
            server.logged("begun")
        assert server.stop() == 1
        connection.until_closed()
    assert "stopped with requests unfinished after 0.2 s" in server.log()
    assert "Traceback" not in server.log()
    assert not os.path.exists(server.socket_path)
    assert not (server.folder / "pid").exists()


@SIGNALS
def test_a_second_signal_ends_at_once(serve: Serve, number: signal.Signals) -> None:
    """Who asks twice does not wait for requests; the socket and pid files are removed all the same."""
    server = serve({"sleep.lua": SLEEP}, 'graceful_timeout = 600\npidfile = "pid"')
    with server.connect() as connection:
        connection.send(Client.request(server.params("sleep.lua?600")))
        server.logged("begun")
        server.send_signal(signal.SIGTERM)
        server.logged("stopping")
        assert server.stop(number) == 1
        connection.until_closed()
    assert f"{number.name} again" in server.log()
    assert not os.path.exists(server.socket_path)
    assert not (server.folder / "pid").exists()


def test_shutdown_hooks_run(serve: Serve) -> None:
    """Each state's shutdown() runs once, after the last request; one that fails is logged, and stops no other."""
    script = """
        count = 0
        function main(env, con)
            count = count + 1
            con:puts("ok")
            if env.QUERY_STRING ~= "" then con:sleep(tonumber(env.QUERY_STRING)) end
        end
        function shutdown(con)
            local file = io.open(con:config("file"), "a")
            file:write("shutdown after ", count, "\\n")
            file:close()
        end
    """
    broken = """
        function main(env, con) con:puts("ok") end
        function shutdown() error("no goodbye") end
    """
    server = serve({"hooked.lua": script, "broken.lua": broken})
    notes = server.folder / "notes"
    server.config.write_text(f'{server.config.read_text()}\n[app]\nfile = "{notes}"\n')
    server.stop()
    server.log_path.unlink()
    server.start()
    server.get("broken.lua")
    with server.connect() as connection:
        params = server.params("hooked.lua?0.1")
        connection.send(b"".join(Client.request(params, request_id=number, keep_conn=True) for number in (1, 2)))
        processed(connection)
        server.send_signal(signal.SIGTERM)
        connection.until_closed()
    assert exit_status(server) == 0
    assert notes.read_text() == "shutdown after 1\n" * 2
    assert "no goodbye" in server.log()


def test_a_shutdown_hook_may_wait(serve: Serve) -> None:
    """A shutdown() that sleeps is waited for."""
    script = """
        function main(env, con) con:puts("ok") end
        function shutdown(con)
            con:sleep(0.05)
            con:log("said goodbye")
        end
    """
    server = serve({"hooked.lua": script})
    server.get("hooked.lua")
    assert server.stop() == 0
    assert "said goodbye" in server.log()


def test_a_shutdown_hook_that_waits_does_not_hold_up_the_stop(serve: Callable[..., Server]) -> None:
    """Hooks have what is left of graceful_timeout, all at the same time; past it the stop goes on."""
    server = serve(
        {"a.lua": "function main(env, con) con:puts('a') end function shutdown(con) con:sleep(1000) end"},
        "graceful_timeout = 0.2\n",
    )
    assert server.get("a.lua").body == b"a"
    assert server.stop() == 0
    assert "stopped with unfinished hooks of scripts" in server.log()
