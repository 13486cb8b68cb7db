"""TCP and unix sockets of scripts: patterns, partial results, timeouts, states of an object, as LuaSocket has them."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from greenfcgi.modules.sockets import sockets

from ...support.inside import FLAVOURS, Inside, Request
from .peers import echoes, is_silent, sends, serving

SHOW = """
local socket = require "socket.core"
local function show(...)
    local parts = {}
    for i = 1, select("#", ...) do
        local value = select(i, ...)
        parts[i] = tostring(value)
        if type(value) == "string" then
            parts[i] = '"' .. value:gsub("\\r", "\\\\r"):gsub("\\n", "\\\\n") .. '"'
        end
    end
    return table.concat(parts, " ")
end
"""


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


def said(lua: Inside, statements: str) -> list[str]:
    """What a script writes, line by line."""
    return lua.main(SHOW + statements).text.splitlines()


def connected(port: str, *statements: str) -> str:
    """A script that is connected to a port: `tcp`."""
    return f"local tcp = socket.tcp() con:puts(show(tcp:connect('127.0.0.1', {port})), '\\n')\n" + "\n".join(
        f"con:puts(show({statement}), '\\n')" for statement in statements
    )


def test_patterns(lua: Inside) -> None:
    """Lines without their ends and any \\r, a number of bytes, all there is; prefixes count."""
    with serving(sends(b"one\r\ntw\ro\n\n12345678rest of ", b"it\n")) as port:
        found = said(
            lua,
            connected(
                port, "tcp:receive()", "tcp:receive('*l', 'pre ')", "tcp:receive('l')", "tcp:receive(3)",
                "tcp:receive(5, '12')", "tcp:receive(2, 'full')", "tcp:receive(0)", "tcp:receive('*a', 'all: ')",
                "tcp:receive('*a')", "tcp:receive()", "tcp:receive(1)",
            ),
        )  # fmt: skip
    assert found == [
        "1", '"one" nil nil', '"pre two" nil nil', '"" nil nil', '"123" nil nil', '"12456" nil nil', '"full" nil nil',
        '"" nil nil', '"all: 78rest of it\\n" nil nil', 'nil "closed" ""', 'nil "closed" ""', 'nil "closed" ""',
    ]  # fmt: skip


def test_what_is_missing_comes_as_the_third_result(lua: Inside) -> None:
    """A timeout loses nothing, nor does an end in the middle of a line."""
    with serving(sends(b"half")) as port:
        found = said(lua, connected(port, "tcp:receive()", "tcp:receive()"))
    assert found == ["1", 'nil "closed" "half"', 'nil "closed" ""']
    with serving(is_silent) as port:
        found = said(
            lua,
            connected(port, "tcp:settimeout(0.02)", "tcp:receive()", "tcp:receive(5, 'ab')", "tcp:settimeout(0)",
                      "tcp:receive()", "tcp:settimeout(0.02, 't')", "tcp:receive('*a')", "tcp:gettimeout()"),
        )  # fmt: skip
    assert found[1:] == [
        "1", 'nil "timeout" ""', 'nil "timeout" "ab"', "1", 'nil "timeout" ""', "1", 'nil "timeout" ""', "0 0.02",
    ]  # fmt: skip


def test_a_total_timeout_holds_for_an_operation_of_many_parts(lua: Inside) -> None:
    """Each part comes within the time of a wait, but not all of them within the whole."""

    def drip(connection: socket.socket) -> None:
        for _ in range(200):
            connection.sendall(b"x")
            time.sleep(0.02)

    with serving(drip) as port:
        found = said(lua, connected(port, "tcp:settimeout(5)", "tcp:settimeout(0.1, 't')", "tcp:receive(200)"))
    assert found[3].startswith('nil "timeout" "x')
    assert found[3].count("x") < 100


def test_a_socket_that_is_closed_says_so(lua: Inside) -> None:
    """Also where nothing is asked for."""
    with serving(sends(b"unread")) as port:
        found = said(
            lua,
            connected(
                port, "tcp:receive(0)", "tcp:close()", "tcp:receive(0)", "tcp:receive(1)", "tcp:receive()",
                "tcp:receive('*a')", "tcp:send('x')", "tcp:send('')",
            ),
        )  # fmt: skip
    assert found == [
        "1", '"" nil nil', "1", 'nil "closed" ""', 'nil "closed" ""', 'nil "closed" ""', 'nil "closed" ""',
        'nil "closed" 0', 'nil "closed" 0',
    ]  # fmt: skip


def test_a_clock_that_is_set_back_lengthens_no_timeout(lua: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that is set on shorten any."""
    hours = iter(range(0, -10_000, -1))
    monkeypatch.setattr(sockets, "time", lambda: 3600.0 * next(hours))

    def drip(connection: socket.socket) -> None:
        for _ in range(200):
            connection.sendall(b"x")
            time.sleep(0.02)

    with serving(drip) as port:
        found = said(lua, connected(port, "tcp:settimeout(0.1, 't')", "tcp:receive(200)"))
    assert found[2].startswith('nil "timeout" "x')


def test_send_takes_parts_of_a_string(lua: Inside) -> None:
    """Indices are those of string.sub, and what comes back is the last that was sent."""
    with serving(echoes) as port:
        found = said(
            lua,
            connected(port, "tcp:send('hello\\n')", "tcp:receive()", "tcp:send('hello\\n', 3)", "tcp:receive()",
                      "tcp:send('hello\\n', 2, 3)", "tcp:send('hello\\n', -1)", "tcp:receive()", "tcp:send('x', 9)",
                      "tcp:send(12, 1, 1)", "tcp:send('\\n')", "tcp:receive()"),
        )  # fmt: skip
    assert found[1:] == [
        "6 nil nil", '"hello" nil nil', "6 nil nil", '"llo" nil nil', "3 nil nil", "6 nil nil", '"el" nil nil',
        "8 nil nil", "1 nil nil", "1 nil nil", '"1" nil nil',
    ]  # fmt: skip


def test_what_does_not_fit_at_once_is_sent_in_parts(lua: Inside) -> None:
    """More than the system buffers arrives whole at a slow reader; who reads nothing gets what the result says."""

    def count(connection: socket.socket) -> None:
        length = 0
        while length < 4_000_000:
            length += len(connection.recv(65536))
        connection.sendall(b"%d\n" % length)

    with serving(count) as port:
        found = said(lua, connected(port, "tcp:send(('x'):rep(4000000))", "tcp:receive()"))
    assert found[1:] == ["4000000 nil nil", '"4000000" nil nil']

    done = threading.Event()

    def reads_nothing(_: socket.socket) -> None:
        done.wait(20)

    with serving(reads_nothing) as port:
        found = said(lua, connected(port, "tcp:settimeout(0.05)", "tcp:send(('x'):rep(9000000))"))
        done.set()
    assert found[2].startswith('nil "timeout" ')
    assert 0 < int(found[2].split()[2]) < 9_000_000


def test_nobody_listens(lua: Inside) -> None:
    """Each failure is nil and what it is called, as in LuaSocket."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        found = said(
            lua,
            connected(
                str(port), "socket.tcp():connect('no.such.host.invalid', 80)",
                "socket.tcp():connect('127.0.0.1', 'no-such-port')", "socket.tcp6():connect('127.0.0.1', 80)",
                f"socket.connect('127.0.0.1', {port})",),
        )  # fmt: skip
    assert found[0] == 'nil "connection refused"'
    assert found[1] in (
        'nil "host or service not provided, or not known"', 'nil "temporary failure in name resolution"',
    )  # fmt: skip
    assert found[2] == 'nil "service not supported for socket type"'
    assert found[3].startswith("nil ")
    assert found[4] == 'nil "connection refused"'


def test_a_script_can_listen(lua: Inside) -> None:
    """It accepts what it has connected to itself; objects change their class."""
    found = said(
        lua,
        """
        local server = socket.tcp()
        con:puts(server.class, " ", tostring(server):match("^[^:]+"), " ", server:bind("*", 0), "\\n")
        con:puts(server:listen(), " ", server.class, "\\n")
        local ip, port, family = server:getsockname()
        con:puts(ip, " ", family, "\\n")
        local client = socket.connect("127.0.0.1", port)
        local accepted = server:accept()
        local same = select(2, accepted:getpeername()) == select(2, client:getsockname())
        con:puts(client.class, " ", accepted.class, " ", tostring(same), "\\n")
        client:send("hello\\n")
        con:puts(accepted:receive(), " ", client:getstats() == 0 and "0" or "?", " ", (accepted:getstats()), "\\n")
        con:puts(show(accepted:shutdown("send")), " ", show(client:receive()), "\\n")
        server:settimeout(0.01)
        con:puts(show(server:accept()), "\\n")
        con:puts(show(accepted:close()), " ", show(accepted:close()), " ", show(accepted:getfd()), "\\n")
        con:puts(show(accepted:send("x")), "\\n")
        """,
    )
    assert found == [
        "tcp{master} tcp{master} 1", "1 tcp{server}", "0.0.0.0 inet", "tcp{client} tcp{client} true", "hello 0 6",
        '1 nil "closed" ""', 'nil "timeout"', "1 1 -1", 'nil "closed" 0',
    ]  # fmt: skip


def test_ipv6(lua: Inside) -> None:
    """A name, or an address, decides about the family."""
    try:
        with serving(sends(b"six\n"), family=socket.AF_INET6) as port:
            found = said(
                lua,
                f"local tcp = socket.tcp() con:puts(show(tcp:connect('::1', {port})), ' ', tcp:receive(), ' ', "
                "show(tcp:getpeername()), ' ', tcp:getfamily(), '\\n')",
            )
    except OSError as problem:
        pytest.skip(f"no IPv6 here: {problem}")
    assert found == [f'1 six "::1" "{port}" "inet6" inet6']


def test_unix_sockets(lua: Inside, tmp_path: Path) -> None:
    """Paths are relative to the script's folder, as those of files."""
    with serving(echoes, tmp_path / "lua_scripts" / "echo.sock"):
        found = said(
            lua,
            """
            local unix = require "socket.unix"
            local stream = unix()
            con:puts(stream.class, " ", show(stream:connect("echo.sock")), " ", stream.class, "\\n")
            con:puts(show(stream:send("hello\\n")), " ", show(stream:receive()), "\\n")
            con:puts(show(unix.stream():connect("none.sock")), "\\n")
            con:puts(show(unix.stream():connect(("x"):rep(200))), "\\n")
            local server = unix.stream()
            con:puts(show(server:bind("own.sock")), " ", show(server:listen()), " ", server.class, "\\n")
            local client = unix.stream()
            client:connect("own.sock")
            client:send("across\\n")
            con:puts(show(server:accept():receive()), "\\n")
            """,
        )
    assert found == [
        "unixstream{master} 1 unixstream{client}", '6 nil nil "hello" nil nil', 'nil "No such file or directory"',
        'nil "path too long"', "1 1 unixstream{server}", '"across" nil nil',
    ]  # fmt: skip
    os.unlink(tmp_path / "lua_scripts" / "own.sock")


def test_the_queue_of_a_unix_socket_is_full(lua: Inside, tmp_path: Path) -> None:
    """A script that connects waits until there is room, or its time is over."""
    path = tmp_path / "full"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        script = f"""
        local stream = require "socket.unix"()
        stream:settimeout(env.SECONDS + 0)
        con:puts(show(stream:connect("{path}")))
        """
        assert lua.main(SHOW + script, Request({"SECONDS": "0.05"})).text == 'nil "timeout"'
        assert lua.main(SHOW + script, Request({"SECONDS": "0"})).text == 'nil "timeout"'
        gevent.spawn_later(0.03, lambda: listener.accept()[0].close())
        assert lua.main(SHOW + script, Request({"SECONDS": "10"})).text == "1"


def test_options(lua: Inside) -> None:
    """Those that are set before a connection hold for it, whatever its family."""
    with serving(is_silent) as port:
        found = said(
            lua,
            "local tcp = socket.tcp()\n"
            + "\n".join(
                f"con:puts(show({each}), '\\n')"
                for each in (
                    "tcp:setoption('keepalive', true)", "tcp:setoption('tcp-nodelay', true)",
                    "tcp:setoption('linger', {on = true, timeout = 3})", f"tcp:connect('127.0.0.1', {port})",
                    "tcp:getoption('keepalive')", "tcp:getoption('tcp-nodelay')", "tcp:getoption('linger').timeout",
                    "tcp:getoption('error')", "tcp:setoption('recv-buffer-size', 16384)",
                    "tcp:getoption('recv-buffer-size') >= 16384",
                )
            ),
        )  # fmt: skip
    assert found == ["1", "1", "1", "1", "true", "true", "3", "nil", "1", "true"]


WRONG = {
    "tcp.receive(5)": "bad argument #1 to 'receive' (tcp{client} expected, got number)",
    "tcp:receive()": "calling 'receive' on bad self (tcp{client} expected)",
    "socket.udp():sendto('x')": "bad argument #3 to 'sendto' (string expected, got no value)",
    "tcp:connect('127.0.0.1', {})": "bad argument #3 to 'connect' (string expected, got table)",
    "tcp:connect()": "bad argument #2 to 'connect' (string expected, got no value)",
    "tcp:settimeout('x')": "bad argument #2 to 'settimeout' (number expected, got string)",
    "tcp:settimeout(1, 'q')": "bad argument #3 to 'settimeout' (invalid timeout mode)",
    "tcp:setoption('nothing', 1)": "bad argument #2 to 'setoption' (unsupported option `nothing')",
    "tcp:setoption('keepalive', 1)": "bad argument #3 to 'setoption' (boolean expected, got number)",
    "tcp:setfd(7)": "bad argument #2 to 'setfd' (only -1: descriptors are the server's)",
    "socket.sleep('x')": "bad argument #1 to 'sleep' (number expected, got string)",
    "socket.select(1)": "bad argument #1 to 'select' (table expected, got number)",
    "socket.dns.toip({})": "bad argument #1 to 'toip' (string expected, got table)",
    "socket.connect('127.0.0.1', 80, nil, nil, 'ipx')": "bad argument #5 to 'connect' (invalid option 'ipx')",
}


def test_wrong_arguments_are_named(lua: Inside) -> None:
    """By position and function, at the script's line."""
    calls = "\n".join(f"con:puts(select(2, pcall(function() {call} end)), '\\n')" for call in WRONG)
    found = said(lua, f"local tcp = socket.tcp()\n{calls}")
    assert [line.partition(": ")[2] for line in found] == list(WRONG.values())
    assert all("page.lua:" in line.partition(": ")[0] for line in found)
