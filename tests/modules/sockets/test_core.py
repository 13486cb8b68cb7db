"""The rest of socket.core: protected calls, time, names, datagrams, select."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ...support.inside import Inside, Request
from .peers import echoes, is_silent, sends, serving, together
from .scripts import LUAS, results, said


@pytest.fixture(params=LUAS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Some Luas."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


def test_protected_calls(lua: Inside) -> None:
    """newtry raises what protect returns; other errors go through, and finalizers may fail."""
    found = results(
        lua,
        (
            "try('value', 2)", "socket.protect(function() try(nil, 'broken', 3) end)()",
            "socket.protect(function(...) return ..., 'fine' end)(1, 2)", "closed",
            "socket.protect(function() error('my own', 0) end)()", "socket.protect(function() error({}) end)() == nil",
            "socket.protect(function() failing(nil, 'first') end)()", "socket.newtry()(nil, 'plain')",
            "socket.protect(function() try(false) end)()", "socket.protect(function() try() end)()",
            "socket.protect(function() return socket.protect(function() try(nil, 'inner') end)() end)()",
            "pcall(try, nil, 'caught')", "getmetatable(select(2, pcall(try, nil, 'x')))",
            "coroutine.wrap(socket.protect(function() try(nil, 'in a coroutine') end))()",
        ),
        """
        local closed = 0
        local try = socket.newtry(function() closed = closed + 1 end)
        local failing = socket.newtry(function() error("of the finalizer") end)
        """,
    )  # fmt: skip
    found[5] = found[5].partition(" 0x")[0]
    assert found == [
        "value 2", "nil broken", "1 fine", "1", "error: my own", "error: table:", "nil first", "error: plain",
        "nil nil", "nil nil", "nil inner", "false caught", "false", "nil in a coroutine",
    ]  # fmt: skip


def test_time_and_sleep(lua: Inside) -> None:
    """Seconds since 1970; sleep takes the time it says, and ends at the script's deadline."""
    found = said(lua, "show(math.abs(socket.gettime() - os.time()) < 2) socket.sleep(0.05) socket.sleep(0)")
    assert found == ["true"]
    late = lua.main("require('socket.core').sleep(1e300) con:puts('never')", Sleepless(seconds=0.1))
    assert late.failure is not None
    assert late.failure.status == 504


class Sleepless(Request):
    """A request whose client waits."""

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def test_names(lua: Inside) -> None:
    """The system's resolver is asked, in a thread."""
    found = said(
        lua,
        """
        local dns = socket.dns
        show(dns.gethostname())
        local ip, entry = dns.toip("localhost")
        show(ip, type(entry.name), type(entry.alias), entry.ip[1])
        show(dns.toip("127.0.0.1"))
        local name, reverse = dns.tohostname("127.0.0.1")
        show(name ~= nil, name == nil or reverse.ip[1] == "127.0.0.1")
        local list = dns.getaddrinfo("127.0.0.1")
        show(#list > 0, list[1].family, list[1].addr)
        local names, service = dns.getnameinfo("127.0.0.1", "80")
        show(type(names[1]), service ~= nil)
        show(select("#", dns.getnameinfo("127.0.0.1")))
        show(dns.toip("no.such.host.invalid"))
        """,
    )
    assert found[0] == socket.gethostname()
    assert found[1] == "127.0.0.1 string table 127.0.0.1"
    assert found[2].startswith("127.0.0.1 table: ")
    assert found[3].endswith("true")
    assert found[4:8] == ["true inet 127.0.0.1", "string true", "2", "nil host not found"]


def test_a_name_is_looked_for_while_others_run(lua: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes long holds up nobody, and the script's time ends the wait."""
    import gevent

    real = socket.getaddrinfo

    def slow(host: str, *arguments: Any) -> object:
        if host == "slow.example" and not arguments[-1] & socket.AI_NUMERICHOST:
            time.sleep(0.5)
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return real(host, *arguments)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    ticks = []

    def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            gevent.sleep(0.01)

    greenlet = gevent.spawn(tick)
    found = lua.main("require('socket.core').connect('slow.example', 80)", Request(seconds=0.2))
    greenlet.kill()
    assert found.failure is not None
    assert found.failure.status == 504
    assert len(ticks) > 5
    assert said(lua, "show(socket.connect('slow.example', 80))") == [
        "nil host or service not provided, or not known"
    ]  # fmt: skip


def test_datagrams(lua: Inside) -> None:
    """Connected or not, cut to a size, empty, with whom they are from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        port = peer.getsockname()[1]
        found = said(
            lua,
            f"""
            local udp = socket.udp()
            show(udp.class, udp:setsockname("127.0.0.1", 0), udp:getfamily())
            udp:settimeout(0.05)
            show(udp:receive())
            show(udp:receivefrom())
            local me = select(2, udp:getsockname())
            local other = socket.udp()
            show(other:sendto("to all", "127.0.0.1", me), other:sendto("", "127.0.0.1", me))
            local data, ip, from = udp:receivefrom()
            show(data, ip, from == tonumber((select(2, other:getsockname()))))
            show(udp:receive() == "")
            other:sendto("a long one", "127.0.0.1", me)
            show(udp:receive(6))
            show(udp:receive(6))
            show(udp:setpeername("127.0.0.1", {port}), udp.class, udp:getpeername())
            show(udp:send("from udp"), udp:send(""))
            show(pcall(udp.sendto, udp, "x", "127.0.0.1", 9))
            other:sendto("from a stranger", "127.0.0.1", me)
            show(udp:receive())
            show(udp:setpeername("*"), udp.class, udp:getpeername == nil)
            """.replace(", udp:getpeername == nil", ""),
        )
        assert [peer.recv(100) for _ in range(2)] == [b"from udp", b""]
    assert found == [
        "udp{unconnected} 1 inet4", "nil timeout", "nil timeout", "6 0", "to all 127.0.0.1 true", "true", "a long",
        "nil timeout", f"1 udp{{connected}} 127.0.0.1 {port} inet", "1 1",
        "false calling 'sendto' on bad self (udp{unconnected} expected)", "nil timeout", "1 udp{unconnected}",
    ]  # fmt: skip


def test_datagrams_of_files(lua: Inside, tmp_path: Path) -> None:
    """Unix sockets, too."""
    found = said(
        lua,
        """
        local unix = require "socket.unix"
        local one, two = unix.dgram(), unix.dgram()
        show(one.class, one:bind("one.sock"), two:connect("one.sock"), two.class)
        show(two:send("across"), one:receive())
        show(unix.dgram():sendto("again", "one.sock"))
        show(one:receivefrom())
        show(unix.dgram():sendto("nobody", "none.sock"))
        """,
    )
    assert found == [
        "unixdgram{unconnected} 1 1 unixdgram{connected}", "1 across", "5", "again ", "nil No such file or directory",
    ]  # fmt: skip


def test_select(lua: Inside) -> None:
    """What can be read or written, by position and by object; buffers count; closed sockets are passed over."""
    with serving(together(sends(b"one\ntwo\n"))) as talking, serving(together(is_silent)) as silent:
        found = said(
            lua,
            f"""
            local talks, silent = socket.connect("127.0.0.1", {talking}), socket.connect("127.0.0.1", {silent})
            local closed = socket.tcp()
            closed:close()
            local wrapped = {{ getfd = function() return talks:getfd() end, dirty = function() return false end }}
            local function pick(list) return #list, list[talks], list[silent], list[wrapped] end
            local r, w, problem = socket.select({{silent, talks, closed}}, nil, 5)
            show(problem, r[1] == talks, #w, pick(r))
            r, w, problem = socket.select({{silent}}, {{silent, talks}}, 5)
            show(problem, #r, pick(w))
            show(talks:receive())
            -- The second line is in the buffer.
            r, w, problem = socket.select({{silent, talks}}, {{}}, 5)
            show(problem, pick(r))
            show(talks:receive())
            r = socket.select({{wrapped, silent}}, nil, 5)
            show(pick(r))
            show(talks:receive())
            r, w, problem = socket.select({{silent}}, nil, 0.02)
            show(problem, #r, #w)
            r, w, problem = socket.select({{silent, closed}}, nil, 0)
            show(problem, #r, #w)
            r, w, problem = socket.select({{closed}}, {{closed}}, 0)
            show(problem, #r, #w)
            local all = {{}}
            for i = 1, 1025 do all[i] = silent end
            show(pcall(socket.select, all))
            show(socket._SETSIZE, socket._VERSION)
            """,
        )
    assert found == [
        "nil true 0 1 1 nil nil", "nil 0 2 2 1 nil", "one nil nil", "nil 1 1 nil nil", "two nil nil",
        "1 nil nil 1", "nil closed ", "timeout 0 0", "timeout 0 0", "timeout 0 0",
        "false bad argument #1 to 'select' (more than 1024 sockets)", "1024 LuaSocket 3.0.0",
    ]  # fmt: skip


def test_select_waits_for_one_to_accept(lua: Inside) -> None:
    """A listening socket can be read when somebody connects."""
    found = said(
        lua,
        """
        local server = socket.tcp()
        server:bind("127.0.0.1", 0)
        server:listen()
        show(#socket.select({server}, nil, 0.01))
        local client = socket.tcp()
        client:settimeout(0)
        client:connect("127.0.0.1", (select(2, server:getsockname())))
        local r = socket.select({server}, nil, 5)
        show(r[1] == server)
        local _, w = socket.select(nil, {client}, 5)
        show(w[1] == client, client:connect("127.0.0.1", (select(2, server:getsockname()))))
        show(server:accept().class)
        """,
    )
    assert found == ["0", "true", "true 1", "tcp{client}"]


def test_one_byte_at_a_time(lua: Inside) -> None:
    """Lines and numbers of bytes are the same however they come."""

    def drips(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"first\r\nsecond line\n123456":
            connection.sendall(bytes((byte,)))
            time.sleep(0.001)

    with serving(drips) as port:
        found = said(
            lua,
            f"local tcp = socket.connect('127.0.0.1', {port}) show(tcp:receive()) show(tcp:receive()) "
            "show(tcp:receive(4)) show(tcp:receive('*a'))",
        )
    assert found == ["first nil nil", "second line nil nil", "1234 nil nil", "56 nil nil"]


def test_a_line_without_an_end(tmp_path: Path) -> None:
    """A peer that sends gigabytes meets the memory of the state, which ends the request and nothing else."""
    lua = Inside(tmp_path, settings='[lua]\nmemory = "4M"\n')

    def floods(connection: socket.socket) -> None:
        while True:
            connection.sendall(os.urandom(50_000).replace(b"\n", b""))

    with serving(floods) as port:
        for pattern in ("'*l'", "'*a'", "1e9"):
            found = lua.main(f"require('socket.core').connect('127.0.0.1', {port}):receive({pattern})")
            assert found.failure is not None
            assert "memory" in found.failure.message
            assert said(lua, "show('well')") == ["well"]
    lua.close()


@pytest.mark.parametrize("flavour", LUAS)
def test_deep_calls(tmp_path: Path, flavour: str) -> None:
    """At the end of the stack there is an error, and the socket works afterwards."""
    lua = Inside(tmp_path, flavour, settings='[lua]\nmemory = "256M"\n')
    with serving(together(echoes)) as port:
        found = said(
            lua,
            f"""
            local tcp = socket.connect("127.0.0.1", {port})
            -- Each takes much of the stack, since a deep one is looked through again and again.
            local function deeper(...) tcp:gettimeout() return 1 + deeper(...) end
            show(pcall(deeper, (table.unpack or unpack)({{}}, 1, 100)) == false)
            local function within() return pcall(within) and tcp:settimeout(5) end
            pcall(within)
            tcp:send("still there\\n")
            show(tcp:receive())
            """,
        )
    assert found == ["true", "still there nil nil"]
    lua.close()


def test_the_family(lua: Inside) -> None:
    """Without one there is no descriptor; what succeeds first decides, and a socket that is bound stays so."""
    with serving(together(echoes)) as port:
        found = said(
            lua,
            f"""
            local function has(one) return one:getfd() >= 0 end
            show(has(socket.tcp4()), has(socket.udp4()), has(socket.tcp()), has(socket.udp()))
            local tcp = socket.tcp()
            show(tcp:connect("127.0.0.1", 1))
            show(has(tcp), tcp:connect("127.0.0.1", {port}), has(tcp))
            local udp = socket.udp()
            show(udp:setsockname("127.0.0.1", 0), has(udp), udp:sendto("x", "::1", 1) == nil, (udp:getsockname()))
            local bound = socket.tcp()
            bound:bind("127.0.0.1", 0)
            local _, own = bound:getsockname()
            show(bound:connect("::1", {port}) == nil, bound:connect("localhost", {port}))
            show(select(2, bound:getsockname()) == own)
            local later = socket.tcp()
            later:settimeout(0)
            show(later:connect("127.0.0.1", {port}))
            show(has(later), #select(2, socket.select(nil, {{ later }}, 5)))
            """,
        )
    assert found == [
        "true true false false", "nil connection refused", "false 1 true", "1 true true 127.0.0.1", "true 1", "true",
        "nil timeout", "true 1",
    ]  # fmt: skip


def test_no_host(lua: Inside) -> None:
    """A host that is an empty string is not this machine; "*" is any address, to bind to."""
    with serving(together(echoes)) as port:
        found = said(
            lua,
            f"""
            show(socket.connect("", {port}))
            show(socket.tcp():bind("", 0))
            show(socket.udp():setpeername("", {port}))
            show(socket.udp():sendto("x", "", {port}))
            show(socket.tcp():bind("*", 0))
            """,
        )
    unknown = "nil host or service not provided, or not known"
    assert found == [unknown, unknown, unknown, "nil Name or service not known", "1"]


def test_coroutines(lua: Inside) -> None:
    """A wait in a coroutine is the script's wait; each may have a socket of its own."""
    with serving(together(echoes)) as port:
        found = said(
            lua,
            f"""
            local function talk(name)
                return coroutine.create(function()
                    local tcp = socket.connect("127.0.0.1", {port})
                    for i = 1, 3 do
                        tcp:send(name .. i .. "\\n")
                        coroutine.yield((tcp:receive()))
                    end
                end)
            end
            local one, two = talk("a"), talk("b")
            for _ = 1, 3 do show(select(2, coroutine.resume(one)), select(2, coroutine.resume(two))) end
            """,
        )
    assert found == ["a1 b1", "a2 b2", "a3 b3"]
