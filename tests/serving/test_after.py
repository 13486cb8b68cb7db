"""What a script does after its reply has left: con:finish()."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from greenfcgi.fastcgi.client import Client

from ..support.inside import FLAVOURS, Inside, Request
from ..support.running import Server, until

Serve = Callable[..., Server]


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


def going_on(go: Path, rest: str = "") -> str:
    """A script that replies, and goes on until there is a file."""
    return f"""
        function main(env, con)
            con:header("Content-Type", "text/plain")
            con:puts("early")
            con:finish()
            con:log("goes on")
            while not io.open("{go}") do con:sleep(0.01) end
            {rest}
            con:log("has ended")
        end
    """


def test_the_reply_is_what_was_written_before(lua: Inside) -> None:
    """With its status and its headers; it is sent once, and the state answers the next request as usual."""
    state = lua.load(
        """
        function main(env, con)
            con:status(201)
            con:header("X-A", "b")
            con:puts("early")
            con:finish()
            later = (later or 0) + 1
            con:log(tostring(con:config("nothing")) .. " " .. later)
        end
        """
    )
    for count in (1, 2):
        answer = lua.run(state)
        assert answer.lines == ["Status: 201 Created", "Content-Type: text/html", "X-A: b"]
        assert answer.text == "early"
        assert f"nil {count}" in lua.log()
    state.close()


@pytest.mark.parametrize(
    "call", ["puts('x')", "header('a', 'b')", "status(404)", "flush()", "reset()", "gets()", "finish()"]
)
def test_nothing_more_belongs_to_the_reply(lua: Inside, call: str) -> None:
    """Whoever writes to it still is told, at the script's line."""
    answer = lua.main(f"con:puts('early') con:finish() con:{call}")
    name = call.partition("(")[0]
    assert answer.error.endswith(f"con:{name}: con:finish() has sent the reply already")
    assert answer.body == b"early"


def test_the_client_gets_it_at_once(serve: Serve, tmp_path: Path) -> None:
    """On a kept connection the next request is answered meanwhile, and the client's leaving ends nothing."""
    server = serve(
        {"after.lua": going_on(tmp_path / "go"), "hello.lua": "function main(env, con) con:puts('hello') end"}
    )
    with server.connect() as connection:
        connection.send(Client.request(server.params("after.lua"), keep_conn=True))
        reply = connection.reply()
        assert reply.stdout.endswith(b"\r\n\r\nearly")
        assert b"text/plain" in reply.stdout
        server.logged("goes on")
        connection.send(Client.request(server.params("hello.lua"), keep_conn=True))
        assert connection.reply().stdout.endswith(b"hello")
    assert "has ended" not in server.log()
    (tmp_path / "go").touch()
    server.logged("has ended")


def test_one_whose_client_has_gone_before(serve: Serve, tmp_path: Path) -> None:
    """It goes on all the same, from con:finish() on."""
    go = tmp_path / "go"
    script = going_on(go).replace(
        "con:finish()", f"con:log('begun') while not io.open('{go}.left') do end con:finish()"
    )
    server = serve({"after.lua": script})
    with server.connect() as connection:
        connection.send(server.request("after.lua"))
        server.logged("begun")
    Path(f"{go}.left").touch()
    server.logged("goes on")
    go.touch()
    server.logged("has ended")


def test_after_timeout(serve: Serve, tmp_path: Path) -> None:
    """It has after_timeout instead of timeout; then it is stopped, and the log says which it was."""
    settings = "timeout = 0.2\nafter_timeout = 0.6\n"
    server = serve(
        {"after.lua": going_on(tmp_path / "go"), "loop.lua": going_on(tmp_path / "go", "while true do end")}, settings
    )
    assert server.get("after.lua").stdout.endswith(b"early")
    text = "stopped: it ran longer than after_timeout, 0.6 s"
    server.logged(f"after.lua: GET /after.lua: {text}")
    (tmp_path / "go").touch()
    assert server.get("loop.lua").stdout.endswith(b"early")
    server.logged(f"loop.lua: GET /loop.lua: {text}")
    assert server.get("loop.lua").stdout.endswith(b"early")


def test_an_error_is_logged(serve: Serve, tmp_path: Path) -> None:
    """The reply has left: nobody but the log hears of it."""
    (tmp_path / "go").touch()
    server = serve({"after.lua": going_on(tmp_path / "go", "error('no')")})
    assert server.get("after.lua").stdout.endswith(b"early")
    server.logged("after.lua:8: no")


def test_a_stop_waits_for_it(serve: Serve, tmp_path: Path) -> None:
    """As for any request, for graceful_timeout."""
    server = serve({"after.lua": going_on(tmp_path / "go")})
    assert server.get("after.lua").stdout.endswith(b"early")
    server.logged("goes on")
    server.send_signal(signal.SIGTERM)
    server.logged("stop")
    assert not server.has_ended()
    (tmp_path / "go").touch()
    until(server.has_ended, "the end")
    assert "has ended" in server.log()


def test_what_is_shorter_than_it_says(serve: Serve) -> None:
    """A reply whose header block has gone breaks off, and the log says why."""
    server = serve({"short.lua": """
        function main(env, con)
            con:header("Content-Length", 10)
            con:puts("12345")
            con:flush()
            con:finish()
            con:log("goes on")
        end
    """})  # fmt: skip
    reply = server.get_truncated("short.lua")
    assert reply.stdout.endswith(b"12345")
    server.logged("goes on")
    assert "Content-Length says 10, but the script wrote 5 bytes" in server.log()


def test_hooks_have_none(lua: Inside) -> None:
    """There is no reply to send."""
    state = lua.load("function init(con) seen = con.finish end function main(env, con) con:puts(tostring(seen)) end")
    assert lua.run(state, Request()).text == "nil"
    state.close()
