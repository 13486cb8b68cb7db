"""What clients send reaches scripts, behind each web server by each transport."""

from __future__ import annotations

import http.client
import os
import threading
from urllib.parse import unquote

import pytest

from ...support.running import PATIENCE
from .client import Web
from .expected import EXPECTED


def test_a_get_with_a_query(web: Web) -> None:
    """The request's variables reach the script."""
    found = web.get("/env.lua?a=1&b=%20x", ("X-Thing", "some thing")).variables()
    assert (found["REQUEST_METHOD"], found["SCRIPT_NAME"]) == ("GET", "/env.lua")
    assert (found["QUERY_STRING"], found["HTTP_X_THING"]) == ("a=1&b=%20x", "some thing")
    assert found["PATH_INFO"] in ("", "nil")
    assert found["REMOTE_ADDR"] == "127.0.0.1"
    assert found["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_no_query(web: Web) -> None:
    """QUERY_STRING is there, and empty."""
    found = web.get("/env.lua").variables()
    assert found["QUERY_STRING"] == ""
    assert found["CONTENT_LENGTH"] in ("", "0", "nil")


@pytest.mark.parametrize(
    "path_info",
    ["/", "/a/b", "/a/other.lua/c", "/with%20space", "/a+b", "/%C3%A4", "/%E2%82%AC/x", "/100%25", "/.x", "/a;b"],
)
def test_what_follows_the_script_is_path_info(web: Web, path_info: str) -> None:
    """/env.lua/a/b runs env.lua, and decodes the rest."""
    found = web.get(f"/env.lua{path_info}?q=1").variables()
    assert (found["SCRIPT_NAME"], found["QUERY_STRING"]) == ("/env.lua", "q=1")
    assert found["PATH_INFO"] == unquote(path_info)


@pytest.mark.parametrize(
    "target", ["/env.lua%0a", "/env.lua%0a/x", "/%0aenv.lua", "/env%0a.lua", "/env.lua%00", "/%00"]
)
def test_control_characters_in_names(server_web: Web, target: str) -> None:
    """Another file is another file."""
    assert server_web.get(target).status in (400, 403, 404, 500)


@pytest.mark.parametrize("target", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/env.lua/../../../etc/passwd"])
def test_nothing_leads_out(server_web: Web, target: str) -> None:
    """Above the root there is nothing."""
    response = server_web.get(target)
    assert b"root:" not in response.body
    assert response.status in (200, 400, 403, 404)
    assert response.status != 200 or response.variables()["SCRIPT_NAME"] == "/env.lua"


def test_headers_that_are_nobodys_to_set(web: Web) -> None:
    """HTTP_PROXY is for the operator (CVE-2016-5385), and REMOTE_USER for who has checked a password."""
    basic = "Basic YWRhOnNlY3JldA=="
    found = web.get("/env.lua", ("Proxy", "http://evil.example"), ("Authorization", basic)).variables()
    assert found["HTTP_PROXY"] in ("", "nil")
    assert found["REMOTE_USER"] in ("", "nil")
    assert found["HTTP_AUTHORIZATION"] == basic


def test_a_form_is_posted(web: Web) -> None:
    """Its body, type and length reach the script."""
    body = b"name=Ada&text=one+two%21"
    response = web.ask("POST", "/form.lua", body, ("Content-Type", "application/x-www-form-urlencoded"))
    assert response.status == 200
    assert response.body == b"application/x-www-form-urlencoded 24 Ada one two!"


@pytest.mark.parametrize("length", [0, 1, 300_000, 2**20])
def test_a_body_comes_whole(web: Web, length: int) -> None:
    """Any bytes come back as they were sent."""
    body = os.urandom(length)
    response = web.ask("POST", "/upload.lua", body)
    assert (response.status, response.body == body) == (200, True)
    assert response.headers["X-Length"] in (str(length), "" if not length else "none")


def test_a_chunked_body_comes_whole(web: Web) -> None:
    """The web server takes the chunks off, and the script knows how long the body was; HAProxy takes 64 KB."""
    parts = [b"x" * 10_000, b"y" * 40_000, b"z"]
    response = web.upload("/upload.lua", parts)
    assert response.body == b"".join(parts)
    assert response.headers["X-Length"] == "50001"


def test_two_cookies_both_ways(web: Web) -> None:
    """In one header, as browsers send them, and back in two."""
    assert web.get("/env.lua", ("Cookie", "a=1; b=2")).variables()["HTTP_COOKIE"] == "a=1; b=2"
    assert web.get("/headers.lua").headers.get_all("Set-Cookie") == ["a=1; Path=/", "b=2; HttpOnly"]


def test_the_next_request_after_one_that_is_too_large(web: Web) -> None:
    """413 passes through, although the body has not been read, and the next request is served."""
    assert web.curl("/upload.lua", body=bytes(25 * 2**20)).status == 413
    assert web.ask("POST", "/upload.lua", b"small").body == b"small"


def test_http2(server_web: Web) -> None:
    """Requests by HTTP/2 are the same to scripts, and cookies in headers of their own are one variable."""
    found = server_web.http2("/env.lua/a?b=1", "-H", "X-Thing: x", "-H", "Cookie: a=1; b=2").variables()
    assert (found["PATH_INFO"], found["QUERY_STRING"], found["HTTP_X_THING"]) == ("/a", "b=1", "x")
    assert found["HTTP_COOKIE"] == "a=1; b=2"
    body = os.urandom(2**20)
    assert server_web.http2("/upload.lua", "-H", "Content-Type: text/plain", body=body).body == body
    assert server_web.http2("/status.lua?404").status == 404
    response = server_web.http2("/headers.lua", "-I")
    assert (response.status, response.headers["X-Thing"], response.body.strip()) == (201, "one, two", b"")


class Browser(threading.Thread):
    """Makes requests on one connection, and keeps what is wrong with the answers."""

    def __init__(self, web: Web, number: int, requests: int) -> None:
        super().__init__(daemon=True)
        self._web = web
        self._number = number
        self._requests = requests
        self.right = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        connection = self._web.connect()
        for at in range(self._requests):
            query = f"browser={self._number}&request={at}"
            try:
                connection.request("GET", f"/env.lua?{query}")
                response = connection.getresponse()
                body = response.read().decode()
            except (OSError, http.client.HTTPException) as problem:
                self.wrong.append(repr(problem))
                connection.close()
                continue
            if response.status == 200 and f"QUERY_STRING={query}\x1e" in body:
                self.right += 1
            else:
                self.wrong.append(f"{response.status} {body}")
        connection.close()


def test_fifty_clients_at_once(web: Web) -> None:
    """Each of 500 requests gets its own answer."""
    browsers = [Browser(web, number, requests=10) for number in range(50)]
    for browser in browsers:
        browser.start()
    for browser in browsers:
        browser.join(PATIENCE)
    assert [complaint for browser in browsers for complaint in browser.wrong] == []
    assert sum(browser.right for browser in browsers) == 500


def test_every_measurement_has_its_expectation() -> None:
    """No reason stands for what is not measured."""
    from .measure import MEASUREMENTS

    assert list(EXPECTED) == list(MEASUREMENTS)
