"""LuaSocket's Lua files, LuaSec's and redis-lua, as Debian has them, on real servers and without lua.cpath."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from ...support.inside import Inside
from .conftest import Certificates
from .scripts import LUAS, said

#: Debian's folder of pure Lua for each; redis-lua has none for 5.4, and that for 5.3 does.
FOLDERS = {"luajit21": "5.1", "lua51": "5.1", "lua54": "5.4"}


@pytest.fixture(params=LUAS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Some Luas, with the folders of this system where they look by themselves."""
    folder = Path("/usr/share/lua", FOLDERS[request.param])
    if not (folder / "socket.lua").exists():
        pytest.skip(f"no LuaSocket in {folder} (Debian: lua-socket)")
    more = 'path = ["/usr/share/lua/5.3/?.lua"]\n' if request.param == "lua54" else ""
    inside = Inside(tmp_path, request.param, settings=f"[lua]\n{more}")
    yield inside
    inside.close()


class Pages(http.server.BaseHTTPRequestHandler):
    """Pages of many kinds."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """A page that its path describes."""
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "/plain")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (b"one ", b"two ", b"three"):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
            return
        time.sleep(0.2 if self.path == "/slow" else 0)
        body = b"x" * 1_000_000 if self.path == "/big" else b"plain"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """What was sent, in capitals."""
        body = self.rfile.read(int(self.headers["Content-Length"])).upper()
        self.send_response(200)
        self.send_header("X-Agent", self.headers["User-Agent"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Threads(http.server.ThreadingHTTPServer):
    """Python's own server; a client may go when it likes."""

    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


def http_server(context: ssl.SSLContext | None = None) -> http.server.ThreadingHTTPServer:
    """Python's own, in threads."""
    server = Threads(("127.0.0.1", 0), Pages)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


@pytest.fixture(scope="module")
def pages() -> Iterator[int]:
    """The port of a web server."""
    server = http_server()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_http(lua: Inside, pages: int) -> None:
    """Pages, chunks, redirects, forms, megabytes, and a server that is not there."""
    found = said(
        lua,
        f"""
        local http, ltn12 = require "socket.http", require "ltn12"
        local at = "http://127.0.0.1:{pages}"
        local body, code, headers, status = http.request(at .. "/plain")
        show(body, code, headers["content-length"], status)
        show(http.request(at .. "/chunked"))
        show(select(2, http.request(at .. "/none")), (http.request(at .. "/away")))
        body, code, headers = http.request(at .. "/form", "a=b&c=d")
        show(body, code, headers["x-agent"]:match("^LuaSocket"))
        local parts = {{}}
        show(http.request {{ url = at .. "/big", sink = ltn12.sink.table(parts) }})
        show(#table.concat(parts))
        parts = {{}}
        show(http.request {{
            url = at .. "/post", method = "POST", headers = {{ ["content-length"] = 6 }},
            source = ltn12.source.chain(ltn12.source.string("stream"), function(chunk) return chunk end),
            sink = ltn12.sink.table(parts),
        }})
        show(table.concat(parts))
        show(http.request("http://127.0.0.1:1/"))
        show(require("mime").b64("LuaSocket"), require("socket.url").parse(at).host)
        """,
    )
    found = [line.partition(" table:")[0] for line in found]
    assert found == [
        "plain 200 5 HTTP/1.1 200 OK", "one two three 200", "404 plain", "A=B&C=D 200 LuaSocket", "1 200", "1000000",
        "1 200", "STREAM", "nil connection refused", "THVhU29ja2V0 127.0.0.1",
    ]  # fmt: skip


def test_requests_at_the_same_time(lua: Inside, pages: int) -> None:
    """Twenty scripts that ask a server which takes 200 ms wait for it together."""
    lua.write(
        "page.lua",
        f"""
        local http = require "socket.http"
        function main(env, con) con:puts((http.request("http://127.0.0.1:{pages}/slow"))) end
        """,
    )
    states = [lua.load() for _ in range(20)]
    since = time.monotonic()
    waiting = [gevent.spawn(lua.run, state) for state in states]
    gevent.joinall(waiting, timeout=20)
    assert [each.get().text for each in waiting] == ["plain"] * 20
    assert time.monotonic() - since < 20 * 0.2
    for state in states:
        state.close()


def test_https(lua: Inside, certificates: Certificates) -> None:
    """LuaSec's ssl.https, which verifies where it is told to."""
    if not Path("/usr/share/lua", "5.1", "ssl", "https.lua").exists():
        pytest.skip("no LuaSec (Debian: lua-sec)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    server = http_server(context)
    try:
        found = said(
            lua,
            f"""
            local https, ltn12 = require "ssl.https", require "ltn12"
            local at = "https://localhost:{server.server_address[1]}"
            show(https.request(at .. "/plain"))
            show(#https.request(at .. "/big"))
            show(https.request {{ url = at .. "/plain", verify = "peer", cafile = "{certificates.authority}" }})
            show(https.request {{ url = at .. "/plain", verify = "peer" }})
            """,
        )
    finally:
        server.shutdown()
        server.server_close()
    found = [line.partition(" table:")[0] for line in found]
    assert found == ["plain 200", "1000000", "1 200", "nil certificate verify failed nil nil"]


def test_smtp(lua: Inside) -> None:
    """A message with an attachment arrives as it was written."""
    controller = pytest.importorskip("aiosmtpd.controller")
    received: list[Any] = []

    class Handler:
        async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:  # noqa: N802
            received.append(envelope)
            return "250 accepted"

    smtp = controller.Controller(Handler(), hostname="127.0.0.1", port=free_port())
    smtp.start()
    try:
        found = said(
            lua,
            f"""
            local smtp, mime, ltn12 = require "socket.smtp", require "mime", require "ltn12"
            show(smtp.send {{
                from = "<me@example.org>", rcpt = {{ "<you@example.org>", "<they@example.org>" }},
                server = "127.0.0.1", port = {smtp.port},
                source = smtp.message {{
                    headers = {{ subject = "hello" }},
                    body = {{
                        {{ body = mime.eol(0, "text\\n.\\n..dots\\n") }},
                        {{
                            headers = {{ ["content-transfer-encoding"] = "BASE64" }},
                            body = ltn12.source.chain(ltn12.source.string(("\\0\\255"):rep(100)),
                                ltn12.filter.chain(mime.encode("base64"), mime.wrap())),
                        }},
                    }},
                }},
            }})
            """,
        )
    finally:
        smtp.stop()
    assert found == ["1"]
    assert received[0].rcpt_tos == ["you@example.org", "they@example.org"]
    assert b"\r\ntext\r\n.\r\n..dots\r\n" in received[0].content
    assert b"AP8A/wD/" in received[0].content


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis."""
    program = shutil.which("redis-server")
    if program is None or not os.path.exists("/usr/share/lua/5.1/redis.lua"):
        pytest.skip("no Redis, or no redis-lua (Debian: redis-server, lua-redis)")
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    process = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.02)
    yield port
    process.terminate()
    process.wait(10)


def test_redis(lua: Inside, redis: int) -> None:
    """Commands, pipelines, transactions, messages, and pops that wait."""
    found = said(
        lua,
        f"""
        local client = require("redis").connect("127.0.0.1", {redis})
        client:flushdb()
        show(client:ping(), client:set("key", "value\\r\\n"), client:get("key") == "value\\r\\n", client:get("none"))
        for i = 1, 100 do client:rpush("list", i) end
        local list = client:lrange("list", 0, -1)
        show(#list, list[1], list[100])
        client:set("count", 40)
        -- It does not know 5.3 and later there.
        local replies = _VERSION == "Lua 5.4" and {{ 41, 42, "42" }} or client:pipeline(function(p)
            p:incr("count")
            p:incr("count")
            p:get("count")
        end)
        client:set("count", replies[3])
        show(#replies, replies[3])
        local done = client:transaction({{ cas = true, watch = "count" }}, function(t)
            local before = t:get("count")
            t:multi()
            t:set("count", before * 2)
            t:get("count")
        end)
        show(done[2])
        show(pcall(client.lpush, client, "key", 1))
        local other = require("redis").connect("127.0.0.1", {redis})
        -- It leaves an answer unread.
        local listener = require("redis").connect("127.0.0.1", {redis})
        for message, abort in listener:pubsub {{ subscribe = "channel" }} do
            show(message.kind, message.payload)
            if message.kind == "subscribe" then other:publish("channel", "news") else abort() end
        end
        show(client:blpop("nothing", 1))
        other:rpush("queue", "job")
        show(table.concat(client:blpop("queue", 1), " "))
        local big = ("x"):rep(1000000)
        client:set("big", big)
        show(client:get("big") == big, client:quit())
        """,
    )
    found[4] = found[4].rpartition(": ")[2]
    assert found == [
        "true true true nil", "100 1 100", "3 42", "84",
        "WRONGTYPE Operation against a key holding the wrong kind of value", "subscribe 1", "message news", "nil",
        "queue job", "true true",
    ]  # fmt: skip


def test_two_wait_and_others_run(lua: Inside, redis: int) -> None:
    """While two scripts wait in BLPOP, a third answers at once, many times."""
    waiter = f"""
    local client = require("redis").connect("127.0.0.1", {redis})
    function main(env, con) con:puts(client:blpop("waiting" .. env.NUMBER, 30)[2]) end
    """
    from ...support.inside import Request

    first, second = lua.load(waiter, "waiter.lua"), lua.load(waiter, "waiter.lua")
    hello = lua.load("function main(env, con) con:puts('hello') end", "hello.lua")
    waiting = [gevent.spawn(lua.run, state, Request({"NUMBER": str(n)})) for n, state in enumerate((first, second))]
    gevent.sleep(0.05)
    for _ in range(200):
        assert lua.run(hello).text == "hello"
        gevent.sleep(0)
    assert not any(each.ready() for each in waiting)
    pusher = lua.main(
        f"""
        local client = require("redis").connect("127.0.0.1", {redis})
        client:rpush("waiting0", "first")
        client:rpush("waiting1", "second")
        """
    )
    assert pusher.text == ""
    gevent.joinall(waiting, timeout=20)
    assert [each.get().text for each in waiting] == ["first", "second"]
    for state in (first, second, hello):
        state.close()


def test_copas(lua: Inside, pages: int) -> None:
    """A dispatcher of coroutines over select."""
    if not Path("/usr/share/lua", FOLDERS[lua.engine.config.lua.version], "copas.lua").exists():
        pytest.skip("no copas for this Lua (Debian: lua-copas)")
    found = said(
        lua,
        f"""
        local copas = require "copas"
        local number = 0
        for i = 1, 5 do
            copas.addthread(function()
                local tcp = socket.tcp()
                copas.connect(tcp, "127.0.0.1", {pages})
                copas.send(tcp, "GET /slow HTTP/1.0\\r\\n\\r\\n")
                -- What came before a pause is the third result, where nothing but the end came behind it.
                local all, _, part = copas.receive(tcp, "*a")
                if (all or part):find("plain$") then number = number + 1 end
            end)
        end
        while number < 5 do copas.step(1) end
        show(number)
        """,
    )
    assert found == ["5"]
