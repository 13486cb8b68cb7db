"""greenfcgi.http against servers that do wrong, and with arguments that are wrong: nil and a message, or an error.

And what ends a wait: the deadline, the client, the state. Others run meanwhile.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import gevent
import pytest

from greenfcgi.lua.bridge import Waitable
from greenfcgi.modules.http import pool

from ...support.inside import Inside, Request, run_python
from ...support.running import until
from .servers import answers, hangs_after, head_of, serving

pytestmark = pytest.mark.usefixtures("descriptors")

OK = b"HTTP/1.1 200 OK\r\n"


def asked(lua: Inside, url: str, options: str = "") -> str:
    """What a request comes to: "STATUS BODY", or "nil PROBLEM", without the server's name."""
    text = lua.main(f"""
        local response, problem = require "greenfcgi.http".request{{url = "{url}", {options}}}
        con:puts(response and response.status .. " " .. response.body or "nil " .. problem)
    """).text
    return text.replace(url.removeprefix("http://"), "SERVER")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ((), "the connection was closed without a response"),
        ((b"HTTP/1.1 2",), "the connection was closed in the middle of the response's head"),
        ((b"+OK POP3 ready\r\n\r\n",), "what came is no HTTP response"),
        ((b"\x00\xff" * 100,), "what came is no HTTP response"),
        ((b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",), "what came is no HTTP response"),
        ((OK + b"Content-Length: 10\r\n\r\n12345",), "the connection was closed in the middle of the body"),
        ((OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",), "what came is no HTTP response"),
        ((OK + b"Content-Length: -5\r\n\r\n12345",), "what came is no HTTP response"),
        ((OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",),
         "the connection was closed in the middle of the body"),
        ((OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",), "the response's body is not as HTTP has it"),
        ((OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n12345\r\n",), "the response's body is not as HTTP has it"),
        ((OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",), "what came is no HTTP response"),
        ((OK + b"A: b\r\n" * 10000 + b"\r\n",), "the response has more than 256 header lines"),
        ((OK + b"A: " + b"b" * 200000,), "the response's head is longer than 65536 bytes"),
        ((b"HTTP/1.1 100 Continue\r\n\r\n" * 20,), "more than 16 interim responses"),
        ((b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",),
         "what came is no HTTP response"),
    ],
    ids=lambda value: None if isinstance(value, tuple) else value.replace(" ", "-")[:40],
)  # fmt: skip
def test_wrong_responses(lua: Inside, sent: tuple[bytes, ...], expected: str) -> None:
    """Garbage, ends in the middle, wrong lengths, and too much of anything."""
    with serving(answers(*sent)) as url:
        assert asked(lua, url) == f"nil SERVER: {expected}"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", "ok"),
        (OK + b"\r\nuntil the end", "until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", "old"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n3\r\ncde\r\n0\r\nTrailer: x\r\n\r\n", "abcde"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20000 + b"0\r\n\r\n", "x" * 20000),
        (OK + b"Content-Length: 2\r\n\r\nok and more", "ok"),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n" + (b"9c40\r\n" + b"x" * 40000 + b"\r\n") * 9 + b"0\r\n\r\n",
            "x" * 360000,
        ),
    ],
    ids=("interim", "until-the-end", "http-1.0", "chunks", "small-chunks", "too-much", "large-chunks"),
)
def test_unusual_responses(lua: Inside, sent: bytes, expected: str) -> None:
    """What HTTP allows, if seldom seen; bytes that nobody has asked for are no next response."""
    with serving(answers(sent)) as url:
        assert asked(lua, url) == f"200 {expected}"


@pytest.mark.parametrize(
    ("sent", "phase"),
    [
        ((), "waiting for the response"), ((b"HTTP/1.1 200",), "waiting for the response"),
        ((OK + b"Content-Length: 9\r\n\r\nabc",), "reading the body"),
    ],
)  # fmt: skip
def test_servers_that_hang(lua: Inside, sent: tuple[bytes, ...], phase: str) -> None:
    """The timeout is for all of it, also where a byte comes now and then."""
    with serving(hangs_after(*sent)) as url:
        assert asked(lua, url, "timeout = 0.5") == f"nil SERVER: timeout after 0.5 s, {phase}"

    def drips(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(OK + b"Content-Length: 1000\r\n\r\n")
        while True:
            connection.sendall(b"x")
            time.sleep(0.01)

    with serving(drips) as url:
        assert asked(lua, url, "timeout = 0.5") == "nil SERVER: timeout after 0.5 s, reading the body"


def test_connecting(lua: Inside) -> None:
    """Nobody listens; nobody accepts; a handshake that never comes, or is none; a name that nobody knows."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert asked(lua, f"http://127.0.0.1:{port}") == "nil SERVER: connection refused"
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        assert asked(lua, f"http://127.0.0.1:{port}", "timeout = 0.1") == "nil SERVER: timeout after 0.1 s, connecting"
        for each in waiting:
            each.close()

    def is_silent(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with serving(is_silent) as url:
        https = url.replace("http", "https")
        assert asked(lua, https, "timeout = 0.1").endswith("timeout after 0.1 s, in the TLS handshake")
    with serving(lambda connection: connection.sendall(b"HTTP/1.1 400 no\r\n\r\n")) as url:
        assert ": TLS: " in asked(lua, url.replace("http", "https"))
    with serving(lambda connection: None) as url:
        assert asked(lua, url.replace("http", "https")).endswith("the connection was cut")
    assert asked(lua, "http://nobody.invalid") == "nil SERVER: host or service not provided, or not known"


def test_an_early_response(lua: Inside) -> None:
    """A server that refuses a large body before it has read it: its response, not what sending came to."""

    def refuses(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 6\r\nConnection: close\r\n\r\nlarge\n")
        ended.wait(20)

    ended = threading.Event()
    with serving(refuses) as url:
        assert asked(lua, url, 'body = ("x"):rep(1500000), timeout = 5') == "413 large\n"
        assert asked(lua, url, 'body = function() return ("x"):rep(60000) end, timeout = 5') == "413 large\n"
        ended.set()


def test_wrong_arguments(lua: Inside) -> None:
    """Each is an error that names the argument; nothing is connected to."""
    found = lua.main(r"""
        local http = require "greenfcgi.http"
        local u = "http://127.0.0.1:1"
        for _, options in ipairs{
            {}, {url = 5}, {url = "x"}, {url = "file:///etc/passwd"}, {url = "http://"}, {url = "http://h:0/"},
            {url = "http://h:99999/"}, {url = "http://me:secret@h/"}, {url = u .. "/a b"}, {url = u .. "/\r\nX: y"},
            {url = u, method = "GET /\r\n"}, {url = u, method = "connect"}, {url = u, method = {}},
            {url = u, headers = "x"}, {url = u, headers = {"x"}}, {url = u, headers = {["a\r\nb"] = "c"}},
            {url = u, headers = {["X-A"] = "a\nb"}}, {url = u, headers = {["X-A"] = {"a", "b\r"}}},
            {url = u, headers = {["X-A"] = {{}}}}, {url = u, headers = {["X-A"] = "a\0b"}},
            {url = u, headers = {["Transfer-Encoding"] = "chunked"}}, {url = u, headers = {["Content-Length"] = "x"},
            body = print}, {url = u, body = {}}, {url = u, timeout = 0}, {url = u, timeout = "x"},
            {url = u, redirects = -1},
            {url = u, verify = 0 / 0, redirects = 0 / 0}, {url = u, metod = "GET"}, {url = "http://\195\164.de/"},
        } do
            local ok, problem = pcall(http.request, options)
            con:puts(tostring(ok), " ", (problem:gsub("^.-greenfcgi.http: ", "")), "\n")
        end
        con:puts(select(2, pcall(http.get)), "\n")
    """).text.splitlines()
    assert all(line.startswith("false ") for line in found[:-1]), found
    names = [line.split()[1].rstrip(":") for line in found[:-1]]
    assert names == [
        *["url"] * 10, *["method"] * 3, "headers", "headers", "headers", *['headers["X-A"]'] * 4, "headers",
        'headers["Content-Length"]', "body", "timeout", "timeout", "redirects", "redirects", "request", "url",
    ]  # fmt: skip


def test_bodies_that_go_wrong(lua: Inside) -> None:
    """A function that raises, or gives what is no text, or not what Content-Length says."""
    with serving(hangs_after()) as url:
        found = lua.main(f"""
            local http = require "greenfcgi.http"
            local function try(body, headers)
                local _, problem = pcall(http.request, {{url = "{url}", body = body, headers = headers}})
                con:puts(tostring(problem), "\\n")
            end
            try(function() error("mine", 0) end)
            try(function() return {{}} end)
            local short = {{headers = {{["Content-Length"] = 2}}}}
            local response, problem = http.post("{url}", function() return "123" end, short)
            con:puts(tostring(response), " ", problem)
        """).text.splitlines()
    assert found[0] == "mine"
    assert found[1].endswith("greenfcgi.http: body: found a function that returned a table, expected text or nil")
    assert found[2] == f"nil {url[7:]}: body: found another length than Content-Length says"


def test_the_deadline_ends_a_wait(lua: Inside) -> None:
    """A script that tries again and again ends when its time is over."""
    with serving(hangs_after()) as url:
        state = lua.load(f"""
            local http = require "greenfcgi.http"
            function main() while true do pcall(http.get, "{url}") end end
        """)
        before = time.monotonic()
        found = lua.run(state, Request(seconds=0.2))
        assert found.failure is not None
        assert found.failure.status == 504
        assert time.monotonic() - before < 5
        state.close()


class Leaving(Request):
    """A request whose client goes when the script waits."""

    def wait(self, event: Waitable, seconds: float) -> None:
        """Go."""
        self.gone = True
        event.set()


def test_the_client_goes(lua: Inside) -> None:
    """The wait ends; the state is used again."""
    with serving(hangs_after()) as url:
        state = lua.load(f"""
            local http = require "greenfcgi.http"
            function main(env, con) con:puts(select(2, http.get("{url}", {{timeout = 0.1}}))) end
        """)
        gone = lua.run(state, Leaving())
        assert gone.failure is not None
        assert gone.failure.message == "the client has gone"
        assert "timeout after 0.1 s" in lua.run(state).text
        state.close()


def test_a_reader_ends_with_the_run(lua: Inside) -> None:
    """What is not read to its end is closed when the request is over, though the script keeps it."""
    ended: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(OK + b"Content-Length: 9\r\n\r\nabc")
        ended.append(connection.recv(1))

    with serving(serve) as url:
        state = lua.load(f"""
            local http = require "greenfcgi.http"
            function main(env, con)
                if kept then return con:puts(tostring((kept:read(6))), " ", select(2, kept:read(6))) end
                kept = http.get("{url}", {{stream = true}})
                con:puts(kept:read(3))
            end
        """)
        assert lua.run(state).text == "abc"
        until(lambda: ended == [b""], "the connection to be closed")
        assert lua.run(state).text.startswith("nil ")
        state.close()


def test_headers_that_contradict_each_other(lua: Inside) -> None:
    """Nothing is sent."""
    with serving(hangs_after()) as url:
        assert asked(lua, url, 'headers = {Host = {"a", "b"}}').startswith("nil SERVER: headers: ")


def test_ipv6(lua: Inside) -> None:
    """An address in brackets."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        url = f"http://[::1]:{listener.getsockname()[1]}"

        def serve() -> None:
            with listener.accept()[0] as connection:
                head = head_of(connection)
                body = b"yes" if f"Host: {url[7:]}".encode() in head else head
                connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert asked(lua, url) == "200 yes"
        thread.join(10)


def test_others_run_meanwhile(lua: Inside) -> None:
    """A script that waits for a response holds up nobody, nor does one that gets very many small parts."""
    ticks: list[float] = []

    def tick() -> None:
        while True:
            # Of this thread alone: what else the machine does is not what holds it up.
            ticks.append(time.thread_time())
            gevent.sleep(0.002)

    greenlet = gevent.spawn(tick)
    with serving(hangs_after()) as url:
        asked(lua, url, "timeout = 0.2")
    assert len(ticks) > 10
    ticks.clear()
    chunks = b"1\r\nx\r\n" * 50000

    def floods(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")

    with serving(floods) as url:
        asked(lua, url)
    greenlet.kill()
    assert len(ticks) > 10
    assert max(late - early for early, late in pairwise(ticks)) < 0.2


def test_a_finalizer_while_the_state_goes(tmp_path: Path) -> None:
    """It gets nil and a message."""
    lua = Inside(tmp_path, "lua54")
    state = lua.load("""
        local http = require "greenfcgi.http"
        kept = setmetatable({}, {__gc = function()
            io.stderr:write(tostring(select(2, http.get("http://127.0.0.1:1/"))))
        end})
        function main() end
    """)
    assert lua.run(state).failure is None
    state.close()
    assert "closed" in lua.log() or lua.log() == ""
    lua.close()


def test_without_h11(tmp_path: Path) -> None:
    """One line says what to install."""
    program = """
        import sys
        from pathlib import Path
        sys.modules["h11"] = None
        from tests.support.inside import Inside
        lua = Inside(Path(sys.argv[1]))
        print(lua.main('require "greenfcgi.http"').error)
    """
    done = run_python(program, str(tmp_path))
    printed = done.stdout
    assert printed, done.stderr
    assert printed.count("\n") == 1
    assert printed.endswith("module 'greenfcgi.http': h11 is not installed: pip install 'greenfcgi[http]'\n")


def test_what_is_kept_has_limits(lua: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one origin, of all together, and in time; what the other end closes goes, too."""
    monkeypatch.setattr(pool, "MAX_PER_ORIGIN", 2)
    monkeypatch.setattr(pool, "MAX_KEPT", 3)
    open_now: Callable[[], int] = lambda: len(pool._kept)  # noqa: E731

    def serves(connection: socket.socket) -> None:
        while head_of(connection):
            connection.sendall(OK + b"Content-Length: 10\r\n\r\n0123456789")

    with serving(serves) as one, serving(serves) as two:
        for url in (one, two):
            lua.main(f"""
                local http, open = require "greenfcgi.http", {{}}
                for i = 1, 5 do open[i] = http.get("{url}", {{stream = true}}) end
                for i = 1, 5 do open[i]:read("a") end
            """)
            assert open_now() == (2 if url == one else 3)
    deadline = time.monotonic() + 10
    while open_now() and time.monotonic() < deadline:
        gevent.sleep(0.05)
    assert open_now() == 0
