"""The developer mode's HTTP: requests are answered as RFC 9112 has it, and none brings a traceback to the terminal."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest

from ..support.developing import Developing
from ..support.running import PATIENCE

ECHO = """
function main(env, con)
    con:header("Content-Type", "text/plain")
    con:puts(env.HTTP_HOST .. " " .. env.REQUEST_URI .. " " .. env.QUERY_STRING .. " " .. con:gets())
end
"""
REFUSE = """
function main(env, con)
    con:status(403)
    con:header("Content-Type", "text/plain")
    con:puts("no")
end
"""
HOST = b"Host: localhost\r\n"
POST = b"POST /echo.lua HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Developing]:
    """The developer mode with a script that says what it was asked, and one that reads no body."""
    files = {"echo.lua": ECHO, "refuse.lua": REFUSE}
    with Developing(tmp_path_factory.mktemp("http"), files) as started:
        yield started
        assert "Traceback" not in started.log()
        assert "failed" not in started.log()


def exchanged(dev: Developing, request: bytes, closes: bool = True) -> bytes:
    """What comes back to these bytes, until the server closes; with `closes` false, the first thing that comes."""
    with socket.create_connection(("127.0.0.1", dev.port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        received = b""
        while data := connection.recv(65536):
            received += data
            if not closes:
                break
        return received


def status(reply: bytes) -> int:
    """The status of the first reply in these bytes."""
    assert reply.startswith(b"HTTP/1.1 "), reply
    return int(reply[9:12])


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        # The request line
        (b"GET /echo.lua\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /echo.lua HTTP/1.1 \r\n" + HOST + b"\r\n", 400),
        (b"GET  /echo.lua HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET\t/echo.lua\tHTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"G@T /echo.lua HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET echo.lua HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET ftp://localhost/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http:///echo.lua HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://a@localhost/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /echo.lua HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"GET /echo.lua HTTP/0.9\r\n" + HOST + b"\r\n", 505),
        (b"GET /echo.lua HTTP/1\r\n" + HOST + b"\r\n", 400),
        (b"GET /echo.lua http/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /echo.lua HTTP/-1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        # Headers
        (b"GET /echo.lua HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
        (b"GET /echo.lua HTTP/1.1\r\n X: a\r\n" + HOST + b"\r\n", 400),
        (b"GET /echo.lua HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n", 400),
        (b"GET /echo.lua HTTP/1.1\r\n" + HOST + b"X\r\n\r\n", 400),
        (b"GET /echo.lua HTTP/1.1\r\n" + HOST + b": a\r\n\r\n", 400),
        (b"GET /echo.lua HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n", 400),
        (b"GET /echo.lua HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n", 400),
        (b"GET /echo.lua HTTP/1.1\r\n" + HOST + b"X(: a\r\n\r\n", 400),
        (b"GET /echo.lua HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 20_000 + b"\r\n", 431),
        (b"GET /echo.lua HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 500_000 + b"\r\n\r\n", 431),
        # Hosts
        (b"GET /echo.lua HTTP/1.1\r\n\r\n", 400),
        (b"GET /echo.lua HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        (b"GET /echo.lua HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /echo.lua HTTP/1.1\r\nHost: localhost/x\r\n\r\n", 400),
        (b"GET /echo.lua HTTP/1.1\r\nHost: localhost, evil.example\r\n\r\n", 400),
        (b"GET http://evil.example/echo.lua HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 403),
        # Lengths
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
        (POST + b"Content-Length: 1, 1\r\n\r\na", 400),
        (POST + b"Content-Length: +1\r\n\r\na", 400),
        (POST + b"Content-Length: -1\r\n\r\na", 400),
        (POST + b"Content-Length: 1_0\r\n\r\n" + b"a" * 10, 400),
        (POST + b"Content-Length: 0x1\r\n\r\na", 400),
        (POST + b"Content-Length: 1 1\r\n\r\na", 400),
        (POST + b"Content-Length:\r\n\r\n", 400),
        (POST + b"Content-Length: \xd9\xa1\r\n\r\na", 400),
        (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\na", 400),
        # Transfer codings
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: identity\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding : chunked\r\n\r\n", 400),
        (b"POST /echo.lua HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        # Chunks
        (CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n", 400),
        (CHUNKED + b"+1\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"-1\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"0x1\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n", 400),
        (CHUNKED + b" 1\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b";x\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"f" * 40 + b"\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1\r\nabc\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1;" + b"x" * 20_000 + b"\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1\r\na\r\n0\r\nX (: y\r\n\r\n", 400),
        # Expectations
        (POST + b"Expect: 200-maybe\r\nContent-Length: 1\r\n\r\na", 417),
    ],
)  # fmt: skip
def test_what_is_refused(dev: Developing, request_: bytes, expected: int) -> None:
    """At once, with the status for it; the connection is closed, so nothing behind it is taken for a request."""
    reply = exchanged(dev, request_ + b"GET /echo.lua?smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status(reply) == expected
    assert b"smuggled" not in reply


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /echo.lua?a HTTP/1.1\r\nhOST:localhost\r\nConnection: close\r\n\r\n", "localhost /echo.lua?a a "),
        (b"GET /echo.lua HTTP/1.0\r\nHost: localhost\r\n\r\n", "localhost /echo.lua  "),
        (b"GET /echo.lua HTTP/1.0\nHost: localhost\n\n", "localhost /echo.lua  "),
        (b"\r\nGET /echo.lua HTTP/1.0\r\nHost: localhost\r\n\r\n", "localhost /echo.lua  "),
        (b"GET http://localhost/echo.lua?a=1 HTTP/1.0\r\n\r\n", "localhost /echo.lua?a=1 a=1 "),
        (b"GET HTTP://127.0.0.1:1/echo.lua HTTP/1.0\r\nHost: x.example\r\n\r\n", "127.0.0.1:1 /echo.lua  "),
        (b"GET /echo.lua HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n", "localhost /echo.lua  "),
        (b"GET /echo.lua?\xc3\xa9 HTTP/1.0\r\nHost: localhost\r\n\r\n", "localhost /echo.lua?é é "),
        (b"POST /echo.lua HTTP/1.0\r\nHost: localhost\r\nContent-Length: 002\r\n\r\nab", "localhost /echo.lua  ab"),
        (POST + b"Connection: close\r\nContent-Length: 2\r\n\r\nab", "localhost /echo.lua  ab"),
        (POST + b"Connection: x, Close\r\nContent-Length: \t2 \r\n\r\nab", "localhost /echo.lua  ab"),
        (
            POST + b"Connection: close\r\nTransfer-Encoding: Chunked\r\n\r\n"
            b"2;a=b\r\nab\r\n0A\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            "localhost /echo.lua  ab0123456789",
        ),
    ],
)  # fmt: skip
def test_what_is_taken(dev: Developing, request_: bytes, expected: str) -> None:
    """Old and new HTTP, targets with a host, line feeds alone, bytes, lengths and chunks."""
    reply = exchanged(dev, request_)
    assert status(reply) == 200
    assert expected.encode() in reply


def test_several_requests_in_one_send(dev: Developing) -> None:
    """Each is answered, in order."""
    one = POST + b"Content-Length: 3\r\n\r\none"
    two = CHUNKED + b"3\r\ntwo\r\n0\r\n\r\n"
    last = b"GET /echo.lua?last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    reply = exchanged(dev, one + two + last)
    assert reply.count(b"HTTP/1.1 200 OK") == 3
    assert reply.index(b"echo.lua  one") < reply.index(b"echo.lua  two") < reply.index(b"last")


def test_a_body_that_is_announced(dev: Developing) -> None:
    """A client that asks first is answered to go on, and when it is not, the connection ends with the reply."""
    with socket.create_connection(("127.0.0.1", dev.port), timeout=PATIENCE) as connection:
        connection.sendall(POST + b"Expect: 100-Continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        received = b""
        while data := connection.recv(65536):
            received += data
        assert b"echo.lua  abc" in received
    # A page that is no script's reads no body.
    reply = exchanged(dev, b"POST /none HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert status(reply) == 404


def test_half_a_body(dev: Developing) -> None:
    """A client that leaves within its upload is noted in one line, and its script has not run."""
    with socket.create_connection(("127.0.0.1", dev.port), timeout=PATIENCE) as connection:
        connection.sendall(POST + b"Content-Length: 100\r\n\r\nabc")
    dev.logged("HTTP: 400 Bad Request: unexpected end of file")


def test_a_request_whose_body_nobody_reads(dev: Developing) -> None:
    """The next request on the connection is the next."""
    connection = http.client.HTTPConnection("127.0.0.1", dev.port, timeout=PATIENCE)
    try:
        connection.request("POST", "/refuse.lua", b"x" * 100_000)
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (403, b"no")
        connection.request("GET", "/echo.lua?next")
        assert b"next" in connection.getresponse().read()
    finally:
        connection.close()


@pytest.mark.parametrize("at", ["1" * 5000, "-1", "+1", "1_0", "¹", "٣", "", "1:2"])
def test_numbers_of_events(dev: Developing, at: str) -> None:
    """Whoever asks for events with a number that was never given gets the answer "unknown"."""
    instance = dev.ask("/").body.decode().partition('data-at="')[2].partition(":")[0]
    target = f"/-greenfcgi/events?at={instance}:{at}".encode()
    with socket.create_connection(("127.0.0.1", dev.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
        received = b""
        while b"data:" not in received:
            received += connection.recv(4096)
        assert b'"kind": "unknown"' in received


def test_refusals_are_told_in_one_line(dev: Developing) -> None:
    """In the terminal, with what was found; and nothing in it is obeyed there."""
    exchanged(dev, b"GET /\x1b[31m red HTTP/1.1\r\n\r\n")
    line = next(line for line in dev.logged("[31m red").splitlines() if "[31m red" in line)
    assert line.startswith("HTTP: 400 Bad Request: found 'GET /\\x1b[31m red HTTP/1.1', expected a method, a target")
