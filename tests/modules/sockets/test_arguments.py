"""Arguments that nobody expects: numbers that are none, zero bytes, ports and names that there are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ...support.inside import FLAVOURS, Inside
from .peers import is_silent, serving, together
from .scripts import LUAS, results, said


@pytest.fixture(params=LUAS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Some Luas."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


NAN: Final = "number expected, got nan"
NO_SERVICE: Final = "nil service not supported for socket type"
UNKNOWN: Final = "nil host or service not provided, or not known"
CONNECTED: Final = {
    "tcp:receive(1e300)": "nil timeout ",
    "tcp:receive(2^40)": "nil timeout ",
    "tcp:receive(0/0)": "error: bad argument #2 to 'receive' (invalid receive pattern)",
    "tcp:receive(-1)": "error: bad argument #2 to 'receive' (invalid receive pattern)",
    "tcp:receive(1.5)": "error: bad argument #2 to 'receive' (invalid receive pattern)",
    "tcp:receive('*n')": "error: bad argument #2 to 'receive' (invalid receive pattern)",
    "tcp:send('abc', 0/0)": f"error: bad argument #3 to 'send' ({NAN})",
    "tcp:send('abc', 1, 0/0)": f"error: bad argument #4 to 'send' ({NAN})",
    "tcp:send('abc', -1e300, 1e300)": "3 nil nil",
    "tcp:send('abc', 1.5)": "3 nil nil",
    "tcp:send('abc', 3, 1)": "2 nil nil",
    "tcp:settimeout(0/0)": f"error: bad argument #2 to 'settimeout' ({NAN})",
    "tcp:settimeout(1e300)": "1",
    "tcp:settimeout(0.02)": "1",
    "tcp:setoption('linger', {on = true, timeout = 2^40})": "nil Invalid argument",
    "tcp:setoption('linger', {on = true, timeout = 0/0})": f"error: bad argument #3 to 'setoption' ({NAN})",
    "tcp:setoption('ip-add-membership', {multiaddr = 'x'})": "nil Invalid argument",
    "tcp:setoption('ip-add-membership', {multiaddr = '224.0.0.1', interface = {}})":
        "error: bad argument #3 to 'setoption' (string expected, got table)",
    "tcp:setoption('ipv6-add-membership', {multiaddr = 'ff02::1', interface = 2^70})": "nil Invalid argument",
    "tcp:setoption('recv-buffer-size', 1e300)": "nil Invalid argument",
    "tcp:setoption('ip-multicast-if', '1.2.3.4.5')": "nil Invalid argument",
    "tcp:getoption('ip-add-membership')": "nil Protocol not available",
    "tcp:setkeepalive(0/0)": f"error: bad argument #2 to 'setkeepalive' ({NAN})",
    "tcp:setkeepalive(-1)":
        "error: bad argument #2 to 'setkeepalive' (found a number below zero, expected milliseconds)",
    "tcp:setkeepalive(1, 0)":
        "error: bad argument #3 to 'setkeepalive' (found 0, expected a number of connections from 1)",
    "tcp:setkeepalive(1, 1e300)": "1",
    "tcp:setkeepalive()": "nil closed",
}  # fmt: skip
ALONE: Final = {
    "socket.tcp():connect('127.0.0.1', 65536)": NO_SERVICE,
    "socket.tcp():connect('127.0.0.1', 1e300)": NO_SERVICE,
    "socket.tcp():connect('127.0.0.1', -1)": NO_SERVICE,
    "socket.tcp():connect('127.0.0.1', 1.5)": NO_SERVICE,
    "socket.tcp():connect('127.0.0.1', 0/0)": NO_SERVICE,
    "socket.tcp():connect('127.0.0.1', 1/0)": NO_SERVICE,
    "socket.tcp():connect('127.0.0.1', 0)": "nil connection refused",
    "socket.tcp():connect('127.0.0.1', '80\\0')": UNKNOWN,
    "socket.tcp():connect('127.0.0.1', '\\255')": UNKNOWN,
    "socket.tcp():connect('127.0.0.1\\0.example', 80)": UNKNOWN,
    "socket.tcp():connect('\\255\\254', 80)": UNKNOWN,
    "socket.tcp():connect(('x'):rep(1000000), 80)": UNKNOWN,
    "socket.tcp():bind('127.0.0.1', 65536)": NO_SERVICE,
    "socket.tcp():bind('127.0.0.1\\0', 0)": UNKNOWN,
    "socket.tcp():listen(0/0)": f"error: bad argument #2 to 'listen' ({NAN})",
    "socket.tcp():listen(1e300)": "nil Invalid argument",
    "socket.udp():receive(-1)":
        "error: bad argument #2 to 'receive' (found a number below zero, expected bytes)",
    "socket.udp():receivefrom(0/0)": f"error: bad argument #2 to 'receivefrom' ({NAN})",
    "socket.udp():sendto('x', '127.0.0.1\\0', 9)": "nil Name or service not known",
    "socket.udp():sendto('x', 'localhost', 9)": "nil Name or service not known",
    "socket.udp():sendto(('x'):rep(70000), '127.0.0.1', 9)": "nil Message too long",
    "socket.dns.toip('a\\0b')": "nil host not found",
    "socket.dns.toip('\\255')": "nil host not found",
    "socket.dns.tohostname('a\\0b')": "nil host not found",
    "socket.dns.getaddrinfo('a\\0b')": UNKNOWN,
    "socket.dns.getnameinfo('a\\0b', '80')": UNKNOWN,
    "socket.dns.getnameinfo()": "error: bad argument #1 to 'getnameinfo' (host and service cannot both be nil)",
    "socket.select({}, nil, 0/0)": f"error: bad argument #3 to 'select' ({NAN})",
    "socket.sleep(0/0)": f"error: bad argument #1 to 'sleep' ({NAN})",
    "socket.sleep(-1)": "",
    "socket.skip(-1)": "error: bad argument #1 to 'skip' (found -1, expected a number of results from 0)",
    "socket.skip(0/0)": f"error: bad argument #1 to 'skip' ({NAN})",
    "socket.skip(1.5, 1, 2, 3)": "2 3",
    "unix.stream():connect('a\\0b')": "error: bad argument #2 to 'connect' (string contains zeros)",
    "unix.stream():bind('a.sock\\0b')": "error: bad argument #2 to 'bind' (string contains zeros)",
    "unix.dgram():sendto('x', 'a\\0b')": "error: bad argument #2 to 'sendto' (string contains zeros)",
}  # fmt: skip


def test_of_a_connected_socket(lua: Inside) -> None:
    """An error that names it, or nil and what the system says; the socket goes on."""
    with serving(together(is_silent)) as port:
        found = results(lua, CONNECTED, f"local tcp = socket.connect('127.0.0.1', {port}) tcp:settimeout(0.02)")
    assert dict(zip(CONNECTED, found, strict=True)) == CONNECTED
    assert lua.log() == ""


def test_of_others(lua: Inside) -> None:
    """As in LuaSocket, where it says anything."""
    found = results(lua, ALONE, "local unix = require 'socket.unix'\n")
    # Where there is no resolver to ask.
    found = [UNKNOWN if line == "nil temporary failure in name resolution" else line for line in found]
    assert dict(zip(ALONE, found, strict=True)) == ALONE
    assert lua.log() == ""


def test_nothing_of_the_server_is_within_reach(tmp_path: Path) -> None:
    """Whatever a script gets is a scalar, one of its own tables, or a function of Lua."""
    for flavour in FLAVOURS:
        lua = Inside(tmp_path, flavour)
        with serving(together(is_silent)) as port:
            found = said(
                lua,
                f"""
                local ssl, unix, mime = require "ssl", require "socket.unix", require "mime.core"
                local tcp = socket.connect("127.0.0.1", {port})
                local seen, bad = {{}}, {{}}
                local function look(value, name)
                    local kind = type(value)
                    if kind == "userdata" and tostring(value):find("Python") then bad[#bad + 1] = name end
                    if kind == "function" then
                        local ok, found = pcall(debug.getupvalue, value, 1)
                        if ok and found then bad[#bad + 1] = name .. "()" end
                    end
                    if kind ~= "table" or seen[value] then return end
                    seen[value] = true
                    for key, each in pairs(value) do look(each, name .. "." .. tostring(key)) end
                    if getmetatable(value) ~= nil then look(getmetatable(value), name .. "#") end
                end
                look(socket, "socket") look(ssl, "ssl") look(unix, "unix") look(mime, "mime")
                look(getmetatable(tcp), "tcp")
                look(getmetatable(socket.udp()), "udp")
                look(getmetatable(ssl.newcontext({{mode = "client"}})), "context")
                look(select(2, pcall(socket.newtry(), nil, "x")), "try")
                look(getmetatable(select(2, pcall(socket.newtry(), nil, "x"))), "tried")
                show(table.concat(bad, " "))
                show(pcall(setmetatable, tcp, nil))
                show(tostring(tcp):match("^tcp{{client}}: ") ~= nil)
                """,
            )
        assert found[0] == ""
        assert found[1].startswith("false ")
        assert found[2] == "true"
        lua.close()
