"""What scripts reply reaches clients, behind each web server by each transport."""

from __future__ import annotations

import re
from http.client import IncompleteRead

import pytest

from .client import Web
from .fronts import Front, running
from .installed import has_xsendfile, program
from .measure import MEASUREMENTS
from .scripts import SCRIPTS
from .site import Site, temporary_folder


def test_status_and_headers_reach_the_client(web: Web) -> None:
    """Also one that comes twice."""
    response = web.get("/headers.lua")
    assert (response.status, response.body) == (201, b"made")
    assert response.headers.get_all("Set-Cookie") == ["a=1; Path=/", "b=2; HttpOnly"]
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Thing"] == "one, two"
    assert response.headers["Status"] is None


def test_head_has_no_body(web: Web) -> None:
    """The headers are those of a GET."""
    response = web.ask("HEAD", "/headers.lua")
    assert (response.status, response.body) == (201, b"")
    assert response.headers["X-Thing"] == "one, two"


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 418, 500, 502, 503])
def test_the_page_of_an_error_is_the_scripts_own(web: Web, status: int) -> None:
    """A script may answer with any status, and the web server puts no page of its own in the place."""
    response = web.get(f"/status.lua?{status}")
    assert (response.status, response.body) == (status, b"the script's own page")


@pytest.mark.parametrize("status", [204, 205, 304])
def test_replies_without_a_body(web: Web, status: int) -> None:
    """The next request on the same connection gets its own reply."""
    connection = web.connect()
    for target, expected in ((f"/empty.lua?{status}", status), ("/status.lua?200", 200)):
        connection.request("GET", target)
        response = connection.getresponse()
        body = response.read()
        assert response.status == expected
        assert body == (b"the script's own page" if expected == 200 else b"")
    connection.close()


def test_retry_after(web: Web) -> None:
    """503 keeps its Retry-After."""
    response = web.get("/busy.lua")
    assert (response.status, response.headers["Retry-After"], response.body) == (503, "7", b"busy")


def test_a_script_that_is_not_there(web: Web) -> None:
    """404, whoever says so."""
    assert web.get("/none.lua").status == 404


def test_a_script_that_fails(web: Web) -> None:
    """500, without the error."""
    response = web.get("/error.lua")
    assert response.status == 500
    assert b"500 Internal Server Error" in response.body
    assert b"oh dear" not in response.body


def test_a_redirect(web: Web) -> None:
    """A Location alone makes a 302, which the browser follows, not the web server."""
    response = web.get("/redirect.lua")
    assert response.status == 302
    assert re.fullmatch(r"(http://[^/]+)?/env\.lua\?from=redirect", response.headers["Location"])


@pytest.mark.parametrize("status", [201, 300, 301, 302, 303, 307, 308])
def test_a_location_keeps_its_status(web: Web, status: int) -> None:
    """A status beside a Location is the script's, and not 302."""
    response = web.get(f"/moved.lua?{status}")
    assert response.status == status
    assert response.headers["Location"].removeprefix(f"http://127.0.0.1:{web.port}") == "/x"


def test_a_large_response_comes_whole(web: Web) -> None:
    """1 MB with every value that a byte can have."""
    response = web.get("/large.lua")
    assert response.status == 200
    assert response.body == bytes(range(256)) * 4096


def test_a_client_that_has_it_already(web: Web) -> None:
    """If-None-Match and If-Modified-Since are the script's to answer."""
    first = web.get("/news.lua")
    assert (first.status, first.headers["ETag"], first.body) == (200, '"v7"', b"news")
    assert web.get("/news.lua", ("If-None-Match", '"v7"')).status == 304
    assert web.get("/news.lua", ("If-None-Match", '"v6"')).status == 200
    assert web.get("/news.lua", ("If-Modified-Since", first.headers["Last-Modified"])).status == 304


def test_files(web: Web) -> None:
    """con:file sends ranges, says where there is nothing, and knows what the client has."""
    text = SCRIPTS["kept/report.txt"].encode()
    whole = web.get("/file.lua")
    assert (whole.status, whole.body) == (200, text)
    part = web.get("/file.lua", ("Range", "bytes=10-19"))
    assert (part.status, part.body) == (206, text[10:20])
    assert part.headers["Content-Range"] == "bytes 10-19/10000"
    assert web.get("/file.lua", ("Range", "bytes=20000-")).status == 416
    assert web.get("/file.lua", ("If-None-Match", whole.headers["ETag"])).status == 304


def test_a_body_shorter_than_its_length(web: Web) -> None:
    """The client sees that it is cut, and does not wait for the rest."""
    with pytest.raises(Exception, match=r"IncompleteRead|closed connection|reset"):
        web.get("/short.lua")


def test_the_files_of_the_web_server_have_ranges(server_web: Web) -> None:
    """Where the web server sends a file that a script names, the client asks it for a part."""
    text = SCRIPTS["kept/report.txt"].encode()
    way = {"nginx": "accel", "caddy": "accel", "lighttpd": "sendfile", "apache": "sendfile"}.get(server_web.name)
    if way is None or (server_web.name == "apache" and not has_xsendfile()):
        pytest.skip("it sends no files")
    found = server_web.get(f"/file.lua?{way}")
    assert (found.status, found.body) == (200, text)
    assert found.headers["Content-Type"].startswith("text/plain")
    assert found.headers["Cache-Control"] == "max-age=60"
    part = server_web.get(f"/file.lua?{way}", ("Range", "bytes=10-19"))
    assert (part.status, part.body) == (206, text[10:20])


@pytest.mark.parametrize("query", ["", "?length"])
def test_nginx_without_buffering(site: Site, query: str) -> None:
    """What the file says of all scripts: `fastcgi_buffering off`."""
    program("nginx")
    front = Front("nginx", "unix")

    def without(text: str) -> str:
        return text.replace("    fastcgi_buffer_size", "    fastcgi_buffering off;\n    fastcgi_buffer_size")

    with temporary_folder() as folder, running([front], folder, {"unix": site.server.config}, without) as webs:
        assert MEASUREMENTS["`con:flush()` arrives at once"](webs[front], site) == "yes"
        with pytest.raises(IncompleteRead):
            webs[front].get(f"/late.lua{query}")
