"""Replies that end before they are complete: the web server can see it. What ends with END_REQUEST looks whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from greenfcgi.fastcgi.client import Client

from ..support.running import Server

Serve = Callable[..., Server]

SCRIPTS = {
    "error.lua": "function main(env, con) con:puts('part') con:flush() error('late') end",
    "short.lua": """
        function main(env, con)
            con:header("Content-Length", 100)
            con:puts("part")
            con:flush()
            con:puts(" and a rest")
        end
    """,
    "timeout.lua": "function main(env, con) con:puts('part') con:flush() con:sleep(60) end",
    "memory.lua": """
        function main(env, con)
            con:puts("part")
            con:flush()
            local t = {}
            while true do t[#t + 1] = ("x"):rep(1000) .. #t end
        end
    """,
    "large.lua": """
        function main(env, con)
            con:header("Content-Length", 5000000)
            con:flush()
            con:puts(("x"):rep(900000))
        end
    """,
    "hello.lua": "function main(env, con) con:puts('hello') end",
    "sleep.lua": "function main(env, con) con:sleep(0.3) con:puts('slept') end",
}
SETTINGS = 'timeout = 1\n[lua]\nmemory = "4M"\n'
TCP = 'bind = "127.0.0.1:0"\n'


@pytest.mark.parametrize("keep_conn", [True, False])
@pytest.mark.parametrize("script", ["error", "short", "timeout", "memory"])
def test_the_connection_ends_without_the_end_of_the_request(serve: Serve, script: str, keep_conn: bool) -> None:
    """What has been written is sent, and then the connection ends, also one that would have been kept."""
    server = serve(SCRIPTS, SETTINGS)
    with server.connect() as connection:
        connection.send(Client.request(server.params(f"{script}.lua"), keep_conn=keep_conn))
        reply = connection.truncated()
    assert (reply.status, reply.body) == (200, b"part and a rest" if script == "short" else b"part")
    assert server.get("hello.lua").body == b"hello"
    expected = {"short": "Content-Length says 100, but the script wrote 15 bytes", "error": "error.lua:1: late"}
    assert expected.get(script, "") in server.log()
    assert "the server failed" not in server.log()


def test_tcp_connections_are_reset(serve: Serve) -> None:
    """nginx sees that a reply is cut by nothing else."""
    server = serve(SCRIPTS, TCP + SETTINGS)
    server.use_logged_address()
    with server.connect() as connection:
        connection.send(server.request("error.lua"))
        with pytest.raises(ConnectionResetError):
            connection.until_closed()


def test_what_waits_leaves_first(serve: Serve) -> None:
    """A long part that the web server takes slowly has arrived whole when the connection ends."""
    server = serve(SCRIPTS, SETTINGS)
    with server.connect() as connection:
        connection.send(server.request("large.lua"))
        server.logged("Content-Length says 5000000, but the script wrote 900000 bytes")
        assert len(connection.truncated().body) == 900_000


def test_others_on_the_connection_go_on(serve: Serve) -> None:
    """Where ids share a connection, the request ends with an application status of 1, and the others are answered."""
    server = serve(SCRIPTS, SETTINGS)
    with server.connect() as connection:
        connection.send(Client.request(server.params("sleep.lua"), request_id=1, keep_conn=True))
        connection.send(Client.request(server.params("error.lua"), request_id=3, keep_conn=True))
        assert connection.reply(3).ended == (1, 0)
        assert connection.reply(1).body == b"slept"
        connection.send(Client.request(server.params("hello.lua"), request_id=5, keep_conn=True))
        assert connection.reply(5).body == b"hello"
        connection.send(Client.request(server.params("error.lua"), request_id=7, keep_conn=True))
        assert connection.truncated(7).body == b"part"


def test_the_error_reaches_the_web_server_too(serve: Serve) -> None:
    """With `scripts.stderr` an error and its traceback go to the web server's log, line by line, nothing else does."""
    server = serve(
        SCRIPTS | {"early.lua": "function main()\n error('early \\27[2J') end", "broken.lua": "function main("},
        "[scripts]\nstderr = true\n",
    )
    early = server.get("early.lua")
    assert early.status == 500
    first, second, *lines = early.stderr.decode().split("\n")
    assert first.startswith(f"{server.root / 'early.lua'}: GET /early.lua: ")
    assert first.endswith("early.lua:2: early \\x1b[2J")
    assert second == "stack traceback:"
    assert any("early.lua:2: in " in line for line in lines)
    assert server.get_truncated("error.lua").stderr.startswith(str(server.root / "error.lua").encode())
    assert b"broken.lua:1:" in server.get("broken.lua").stderr
    assert b"No such file" in server.get("none.lua").stderr
    assert server.get("hello.lua").stderr == b""


def test_the_web_server_is_not_bothered_by_default(serve: Serve) -> None:
    """Without the setting, errors go to the server's own log alone."""
    server = serve(SCRIPTS | {"early.lua": "function main() error('early') end"})
    assert server.get("early.lua").stderr == b""
