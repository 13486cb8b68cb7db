"""What each web server does, where servers differ: a look at each, and what was seen in a few words.

`python -m tests.programs.webservers.table` makes the table of docs/webservers.md of it.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from typing import Any

from ...support.running import PATIENCE, until
from .client import Web
from .scripts import SCRIPTS
from .site import Site

Measurement = Callable[[Web, Site], str]


def _yes(found: bool, otherwise: str = "no") -> str:
    return "yes" if found else otherwise


def uploads(web: Web, _: Site) -> str:
    """A body of 20 MB comes back whole."""
    body = os.urandom(1000) * 20_000
    return _yes(web.ask("POST", "/upload.lua", body).body == body)


def chunked(web: Web, _: Site) -> str:
    """A body of 300 KB whose length was not said."""
    response = web.curl("/upload.lua", "-H", "Transfer-Encoding: chunked", body=b"x" * 300_000)
    return _yes(response.body == b"x" * 300_000, str(response.status))


def chunked_http2(web: Web, _: Site) -> str:
    """The same by HTTP/2."""
    try:
        response = web.http2("/upload.lua", "-H", "Transfer-Encoding: chunked", body=b"x" * 300_000)
    except AssertionError:
        return "no"
    return _yes(response.body == b"x" * 300_000, str(response.status))


def many_headers(web: Web, _: Site) -> str:
    """60 headers of 1 KB."""
    response = web.get("/many.lua", *((f"X-Many-{i}", f"{i}{'x' * 1000}") for i in range(60)))
    return _yes(response.body == b"60", str(response.status))


def _path_info(path_info: str) -> Measurement:
    def measure(web: Web, _: Site) -> str:
        response = web.get(f"/env.lua{path_info}")
        if response.status != 200:
            return str(response.status)
        variables = response.variables()
        found = variables["PATH_INFO"] if variables["SCRIPT_NAME"] == "/env.lua" else str(variables)
        return "`" + found.replace("\n", "\\n").replace("\0", "\\0") + "`"

    return measure


def headers_twice(web: Web, _: Site) -> str:
    """X-Thing: one, and X-Thing: two."""
    return '"' + web.get("/env.lua", ("X-Thing", "one"), ("X-Thing", "two")).variables()["HTTP_X_THING"] + '"'


def cookies_twice(web: Web, _: Site) -> str:
    """Two headers Cookie."""
    return '"' + web.get("/env.lua", ("Cookie", "a=1"), ("Cookie", "b=2")).variables()["HTTP_COOKIE"] + '"'


def authorization(web: Web, _: Site) -> str:
    """Authorization reaches the script."""
    return _yes(web.get("/env.lua", ("Authorization", "Bearer x")).variables()["HTTP_AUTHORIZATION"] == "Bearer x")


def large_header(web: Web, _: Site) -> str:
    """36 KB of headers in a reply."""
    response = web.get("/large_header.lua")
    return _yes(sum(len(value) for name, value in response.headers.items()) > 36_000, str(response.status))


def _in_time(query: str) -> Measurement:
    def measure(web: Web, site: Site) -> str:
        go = site.server.root / "go"
        go.unlink(missing_ok=True)
        with web.open(b"GET /stream.lua?%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % query.encode()) as client:
            client.settimeout(0.7)
            try:
                found = b""
                while b"first" not in found:
                    found += client.recv(10_000)
                in_time = True
            except TimeoutError:
                in_time = False
            go.touch()
            client.settimeout(PATIENCE)
            while b"second" not in found:
                part = client.recv(10_000)
                assert part, found
                found += part
        return _yes(in_time)

    return measure


def cut(web: Web, _: Site) -> str:
    """A page that fails after con:flush() does not look complete."""
    return _yes(_is_cut(web, "/late.lua"))


def cut_length(web: Web, _: Site) -> str:
    """The same with a Content-Length."""
    return _yes(_is_cut(web, "/late.lua?length"))


def _is_cut(web: Web, target: str) -> bool:
    try:
        web.get(target)
    except (http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionResetError):
        return True
    return False


def _status(site: Site) -> Any:
    return json.loads(site.server.get("status", SCRIPT_NAME="/status", QUERY_STRING="json").body)


def _is_busy(site: Site, script: str) -> bool:
    return any(one["busy"] for one in _status(site)["scripts"] if one["path"].endswith(f"/{script}"))


def _leaves(script: str, seconds: float) -> Measurement:
    def measure(web: Web, site: Site) -> str:
        until(lambda: not _is_busy(site, script), f"the end of {script}")
        client = web.open(b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % script.encode())
        until(lambda: _is_busy(site, script), f"the start of {script}")
        if script == "endless.lua":
            client.recv(1000)
        client.close()
        start = time.monotonic()
        until(lambda: not _is_busy(site, script), f"the end of {script}")
        return _yes(time.monotonic() - start < seconds)

    return measure


def half_upload(web: Web, site: Site) -> str:
    """The first half of a body, and then nothing more."""
    before = site.server.log().count("began.lua runs")
    with web.open(b"POST /began.lua HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n" + b"x" * 1000):
        time.sleep(0.1)
    # One that is whole goes the same way, and comes later.
    assert web.ask("POST", "/began.lua", b"whole").body == b"5"
    return _yes(site.server.log().count("began.lua runs") == before + 1)


def sent_files(web: Web, _: Site) -> str:
    """Which header has the web server send a file."""
    found = []
    for way, name in (("accel", "`X-Accel-Redirect`"), ("sendfile", "`X-Sendfile`")):
        response = web.get(f"/file.lua?{way}")
        if response.body.decode() == SCRIPTS["kept/report.txt"] and "X-Accel-Redirect" not in response.headers:
            found.append(name)
    return ", ".join(found) or "no"


def ranges(web: Web, _: Site) -> str:
    """The second line of a file that con:file sends."""
    response = web.get("/file.lua", ("Range", "bytes=10-19"))
    return _yes((response.status, response.body) == (206, b"line 0001\n"), str(response.status))


def expects(web: Web, _: Site) -> str:
    """Expect: 100-continue: the client is told to go on, and the body comes."""
    head = b"POST /upload.lua HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n"
    with web.open(head + b"Connection: close\r\n\r\n") as client:
        client.settimeout(0.7)
        try:
            found = client.recv(10_000)
        except TimeoutError:
            found = b""
        client.settimeout(PATIENCE)
        client.sendall(b"body")
        told = found.startswith(b"HTTP/1.1 100")
        while part := client.recv(10_000):
            found += part
    assert b"body" in found
    return _yes(told, "not told")


def http2(web: Web, _: Site) -> str:
    """HTTP/2 from the client."""
    return _yes(web.http2("/env.lua/x?y").variables()["PATH_INFO"] == "/x")


def error_log(web: Web, _: Site) -> str:
    """A script's error in the web server's log."""
    web.get("/error.lua")
    end = time.monotonic() + 0.3
    while time.monotonic() < end and "oh dear" not in web.log():
        time.sleep(0.01)
    return _yes("oh dear" in web.log())


def static_files(web: Web, _: Site) -> str:
    """A file in scripts.public."""
    return _yes(web.get("/style.css").body.decode() == SCRIPTS["public/style.css"])


def kept(web: Web, site: Site) -> str:
    """Ten requests share a connection to greenfcgi."""
    connection = web.connect()
    before = _status(site)["accepted_connections"]
    for _ in range(10):
        connection.request("GET", "/env.lua")
        connection.getresponse().read()
    connection.close()
    # Each look is a connection, too.
    return _yes(_status(site)["accepted_connections"] - before <= 2)


def too_large(web: Web, _: Site) -> str:
    """A body larger than scripts.max_post."""
    return str(web.curl("/upload.lua", body=bytes(25 * 2**20)).status)


#: What is measured, by its title in the table.
MEASUREMENTS: dict[str, Measurement] = {
    "static files": static_files,
    "connections to greenfcgi are kept": kept,
    "HTTP/2 in front": http2,
    "an upload of 20 MB": uploads,
    "a chunked upload of 300 KB": chunked,
    "the same by HTTP/2": chunked_http2,
    "60 headers of 1 KB": many_headers,
    "`Expect: 100-continue` is answered": expects,
    "half an upload never starts its script": half_upload,
    "a body beyond `max_post`": too_large,
    "PATH_INFO of `/env.lua/a/../b`": _path_info("/a/../b"),
    "of `/env.lua//a`": _path_info("//a"),
    "of `/env.lua/a%0ab`": _path_info("/a%0ab"),
    "of `/env.lua/a%00b`": _path_info("/a%00b"),
    "of `/env.lua/a%2Fb`": _path_info("/a%2Fb"),
    "a header that comes twice": headers_twice,
    "two `Cookie` headers (HTTP/1.1)": cookies_twice,
    "`Authorization` reaches the script": authorization,
    "36 KB of headers in a reply": large_header,
    "`con:flush()` arrives at once": _in_time(""),
    "with `X-Accel-Buffering: no`": _in_time("unbuffered"),
    "a page that fails after `con:flush()` is seen as cut": cut,
    "one with a Content-Length": cut_length,
    "a client that leaves ends a script that writes": _leaves("endless.lua", PATIENCE),
    "one that sleeps": _leaves("sleep.lua", 0.6),
    "`con:file`: the web server sends the file by": sent_files,
    "a range of a file that `con:file` sends": ranges,
    "errors with `scripts.stderr` in its log": error_log,
}
