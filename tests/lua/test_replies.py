"""con:redirect, con:json and con:file."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.fastcgi.client import Client

from ..support.inside import Answer, Inside, Request
from ..support.running import Server, until

FLAVOURS = ("luajit21", "lua51", "lua54")
_BIG = 300_000_000
_TEXT = Path(__file__).parents[2] / "greenfcgi" / "modules" / "text"


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


def test_redirects(lua: Inside) -> None:
    """The usual status, others, what was written before is gone, and URLs are escaped where they must be."""
    assert lua.main('con:puts("x") con:redirect("/there?a=1&b=%20#c")') == (
        302, b"Content-Type: text/html\r\nLocation: /there?a=1&b=%20#c\r\nStatus: 302 Found\r\n\r\n", b"", None,
    )  # fmt: skip
    for status in (301, 303, 307, 308):
        answer = lua.main(f'con:redirect("http://[::1]:8080/ä b\\"<>", {status})')
        assert answer.status == status
        assert "Location: http://[::1]:8080/%C3%A4%20b%22%3C%3E" in answer.lines
    for call, says in (
        ('con:redirect("/a\\r\\nX: y")', "found a control character in the URL"),
        ('con:redirect("/a\\0b")', "found a control character in the URL"),
        ("con:redirect()", "bad argument #1 to 'redirect' (string expected, got nil)"),
        ('con:redirect("")', "found 0 bytes, expected 1 to 8192"),
        ('con:redirect(("x"):rep(8193))', "found 8193 bytes"),
        ('con:redirect("/", 200)', "found 200, expected 301, 302, 303, 307 or 308"),
        ('con.redirect("/")', "con.redirect called with a dot"),
    ):
        error = lua.main(call).error
        assert says in error, call
        assert "page.lua:2: " in error


def sent(lua: Inside, options: str = "nil", name: str = "data.txt", **variables: str) -> Answer:
    """The reply with a file."""
    return lua.main(f'assert(con:file("{name}", {options}))', Request({"REQUEST_METHOD": "GET"} | variables))


def test_a_file(lua: Inside) -> None:
    """Whole: its type by its name, its length, how it is known again."""
    path = lua.write("data.txt", "0123456789")
    os.utime(path, ns=(0, 784111777_500000000))
    answer = sent(lua)
    assert answer.body == b"0123456789"
    assert answer.lines == [
        "Status: 200 OK", "Content-Type: text/plain; charset=utf-8", "X-Content-Type-Options: nosniff",
        'ETag: "784111777-500000000-10"', "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Accept-Ranges: bytes",
        "Content-Length: 10",
    ]  # fmt: skip
    lua.write("empty.bin", "")
    answer = sent(lua, name="empty.bin")
    assert answer.body == b""
    assert "Content-Length: 0" in answer.lines
    assert "Content-Type: application/octet-stream" in answer.lines
    head = lua.main('assert(con:file("data.txt"))', Request({"REQUEST_METHOD": "HEAD"}, head_only=True))
    assert "Content-Length: 10" in head.lines
    assert head.body == b""


@pytest.mark.parametrize("size", [10, 65536, 65537, 200_000])
@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)), ("bytes=2-4", slice(2, 5)), ("bytes=5-", slice(5, None)),
        ("bytes=-3", slice(-3, None)), ("bytes=0-999999999", slice(0, None)), ("bytes=-999999999", slice(0, None)),
        ("BYTES = 1 - 2", slice(1, 3)),
    ],
)  # fmt: skip
def test_ranges(lua: Inside, size: int, asked: str, part: slice) -> None:
    """One range is answered with it, of files that are sent at once and in parts."""
    data = os.urandom(size)
    lua.write("data.bin", data)
    answer = sent(lua, name="data.bin", HTTP_RANGE=asked)
    assert answer.failure is None
    assert answer.body == data[part]
    first, last, _ = part.indices(size)
    assert answer.status == 206
    assert f"Content-Range: bytes {first}-{last - 1}/{size}" in answer.lines
    assert f"Content-Length: {last - first}" in answer.lines


@pytest.mark.timeout(30)
def test_ranges_that_are_none(lua: Inside) -> None:
    """What is no range is the whole; one behind the end is 416; a condition that is not met is the whole."""
    lua.write("data.txt", "0123456789")
    etag = next(line for line in sent(lua).lines if line.startswith("ETag"))[6:]
    date = next(line for line in sent(lua).lines if line.startswith("Last-M"))[15:]
    for asked in (
        "",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=4-2",
        "lines=1-2",
        "bytes=1-2,4-5",
        "bytes=" + "9" * 99 + "-",
        "bytes=" + " " * 100_000 + "x",
    ):
        answer = sent(lua, HTTP_RANGE=asked)
        assert (answer.status, answer.body) == (200, b"0123456789"), asked
    assert sent(lua, HTTP_RANGE="bytes=1-2", REQUEST_METHOD="POST").status == 200
    for asked in ("bytes=10-", "bytes=11-20", "bytes=-0"):
        answer = sent(lua, HTTP_RANGE=asked)
        assert (answer.status, answer.body) == (416, b"")
        assert "Content-Range: bytes */10" in answer.lines
    for condition, status in (
        (etag, 206),
        (date, 206),
        ('"other"', 200),
        ("W/" + etag, 200),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
    ):
        assert sent(lua, HTTP_RANGE="bytes=1-2", HTTP_IF_RANGE=condition).status == status
    assert sent(lua, HTTP_RANGE="bytes=1-2", HTTP_IF_NONE_MATCH=etag).status == 304
    for own, condition, status in (("v1", '"v1"', 206), ("v1", "v1", 200), ('W/\\"v1\\"', 'W/"v1"', 200)):
        answer = sent(lua, f'{{ etag = "{own}" }}', HTTP_RANGE="bytes=1-2", HTTP_IF_RANGE=condition)
        assert answer.status == status, (own, condition)


def test_options(lua: Inside) -> None:
    """Type, a name to save it by, how long it may be kept, and who sends it."""
    lua.write("data.txt", "0123456789")
    lines = sent(lua, '{ type = "image/png", download = "Ä \\"1\\".png", max_age = 60 }').lines
    assert "Content-Type: image/png" in lines
    assert "Content-Disposition: attachment; filename=\"_ _1_.png\"; filename*=UTF-8''%C3%84%20%221%22.png" in lines
    assert "Cache-Control: max-age=60" in lines
    assert 'Content-Disposition: attachment; filename="data.txt"' in sent(lua, "{ download = true }").lines
    assert 'ETag: "v1"' in sent(lua, '{ etag = "v1" }').lines
    assert "ETag" not in str(sent(lua, "{ etag = false }").lines)
    answer = sent(lua, '{ accel = "/kept/ä b.txt", download = true }')
    assert "X-Accel-Redirect: /kept/%C3%A4%20b.txt" in answer.lines
    assert 'Content-Disposition: attachment; filename="data.txt"' in answer.lines
    assert answer.body == b""
    answer = sent(lua, "{ sendfile = true }")
    assert f"X-Sendfile: {lua.root}/data.txt" in answer.lines
    assert answer.body == b""


def test_what_is_no_file(lua: Inside) -> None:
    """Nil and a message, as io.open has it; what io.open may not open is not sent either."""
    (lua.root / "folder").mkdir()
    os.mkfifo(lua.root / "pipe")
    for name, says in (
        ("missing", "/missing: No such file or directory"), ("folder", "/folder: Not a regular file"),
        ("pipe", "/pipe: "), ("/proc/self/mem", "/proc/self/mem: Permission denied"),
        ("/dev/zero", "/dev/zero: "), ("x" * 300, "File name too long"),
    ):  # fmt: skip
        answer = lua.main(f'local sent, problem = con:file("{name}") con:puts(tostring(sent), " ", problem)')
        assert answer.text.startswith("nil "), name
        assert says in answer.text
    for call, says in (
        ("con:file()", "bad argument #1 to 'file' (string expected, got nil)"),
        ("con:file('x', 1)", "bad argument #2 to 'file' (table expected, got number)"),
        ("con:file('x', {name = 1})", "unknown option 'name'; known are accel, download"),
        ("con:file('x', {type = 'a\\n'})", "bad option 'type'"),
        ("con:file('x', {accel = 'http://x'})", "bad option 'accel'"),
        ("con:flush() con:puts('x') con:flush() con:file('page.lua')", "con:file: the headers have been sent already"),
    ):
        error = lua.main(call).error
        assert says in error, call
        assert "page.lua:2: " in error


def test_nothing_stays_open(lua: Inside) -> None:
    """Whatever has become of it."""
    lua.write("data.bin", b"x" * 200_000)

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    sent(lua, name="data.bin")
    before = count()
    for _ in range(20):
        sent(lua, name="data.bin")
        sent(lua, name="data.bin", HTTP_RANGE="bytes=1-2")
        sent(lua, name="data.bin", HTTP_RANGE="bytes=999999-")
        sent(lua, "{ sendfile = true }", name="data.bin")
    assert count() <= before


def test_a_file_that_shrinks(tmp_path: Path) -> None:
    """The reply is cut, so that the client sees that, and the log says why."""
    script = """
        function main(env, con)
            local sent, problem = con:file("data.bin")
            con:log("warning", "said " .. tostring(sent) .. " " .. problem)
        end
    """
    with Server(tmp_path, {"send.lua": script}) as server:
        path = server.root / "data.bin"
        with open(path, "wb") as file:
            file.truncate(50_000_000)
        with server.connect() as connection:
            connection.send(server.request("send.lua"))
            connection.receive_some()
            os.truncate(path, 1000)
            reply = connection.truncated()
        assert b"Content-Length: 50000000" in reply.stdout
        assert "con:file: the file has become shorter while it was sent, or cannot be read" in server.logged("said nil")


def test_a_client_that_leaves(tmp_path: Path) -> None:
    """The script ends, and the file is closed."""
    with Server(tmp_path, {"send.lua": 'function main(env, con) con:file("data.bin") end'}) as server:
        with open(server.root / "data.bin", "wb") as file:
            file.truncate(50_000_000)
        with server.connect() as connection:
            connection.send(server.request("send.lua"))
            connection.receive_some()
            folder = f"/proc/{server.pid}/fd"
            assert any(os.readlink(f"{folder}/{name}").endswith("data.bin") for name in os.listdir(folder))

        def is_closed() -> bool:
            names = os.listdir(folder)
            return not any(
                os.path.lexists(f"{folder}/{name}") and os.readlink(f"{folder}/{name}").endswith("data.bin")
                for name in names
            )

        until(is_closed)


def test_a_slow_client_has_time(tmp_path: Path) -> None:
    """The timeout begins anew with each part that a client takes; one that takes nothing is ended by it."""
    with Server(
        tmp_path, {"send.lua": 'function main(env, con) con:file("data.bin") end'}, "timeout = 0.5\n"
    ) as server:
        with open(server.root / "data.bin", "wb") as file:
            file.truncate(3_000_000)
        with server.connect() as connection:
            connection.send(server.request("send.lua"))
            slowly = threading.Event()
            while len(connection.client.replies.get(1, Reply0()).stdout) < 1_500_000:
                slowly.wait(0.03)
                connection.receive_some()
                assert not connection.closed
            assert len(connection.reply().stdout.partition(b"\r\n\r\n")[2]) == 3_000_000
        with open(server.root / "data.bin", "wb") as file:
            file.truncate(50_000_000)
        with server.connect() as connection:
            connection.send(server.request("send.lua"))
            assert "stopped: it ran longer than timeout, 0.5 s" in server.logged("stopped: ")


class Reply0:
    """A reply of which nothing has come."""

    stdout = b""


def test_a_long_file(tmp_path: Path) -> None:
    """300 MB take no memory, and others are answered meanwhile."""
    scripts = {
        "send.lua": 'function main(env, con) con:file("data.bin") end',
        "hello.lua": "function main(env, con) con:puts('hello') end",
    }
    with Server(tmp_path, scripts) as server:
        with open(server.root / "data.bin", "wb") as file:
            file.truncate(_BIG)
        small = server.get("send.lua", HTTP_RANGE="bytes=0-999999").stdout
        assert len(small) > 999_999
        server.get("hello.lua")
        before = _peak(server.pid)
        with server.connect() as connection:
            connection.socket.setsockopt(1, 8, 4_000_000)
            connection.send(Client.request(server.params("send.lua")))
            size = answered = 0
            while True:
                data = connection.socket.recv(1_000_000)
                size += len(data)
                if size > (answered + 1) * 50_000_000:
                    assert b"hello" in server.get("hello.lua").stdout
                    answered += 1
                if size > _BIG + _BIG // 65536 * 8 or not data:
                    break
        assert size > _BIG
        assert answered >= 5
        assert _peak(server.pid) - before < 4_000_000


def _peak(pid: int) -> int:
    """Bytes that the process has had at most."""
    with open(f"/proc/{pid}/status") as file:
        found = re.search(r"VmHWM:\s+(\d+) kB", file.read())
    assert found
    return int(found[1]) * 1024


@pytest.mark.skipif(not (_TEXT / "json.lua").exists(), reason="greenfcgi.json is not there")
def test_json(lua: Inside) -> None:
    """A value with its type, after what was written, and whatever the script has made of the module."""
    answer = lua.main("""
        require("greenfcgi.json").encode = function() return "mine" end
        con:json({ 1, "a", true }, 201)
    """)
    assert answer.lines == ["Status: 201 Created", "Content-Type: application/json"]
    assert answer.body == b'[1,"a",true]'
    assert "page.lua:2: " in lua.main("con:json(print)").error
