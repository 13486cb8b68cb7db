"""The real nginx and the real lighttpd in front of the real server, with the configurations that come with it."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from ..support.programs import program
from ..support.running import PATIENCE, Server, until

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "greenfcgi" / "deploy"
IS_ROOT = os.geteuid() == 0
MEGABYTE = 2**20

SCRIPTS = {
    "env.lua": """
        function main(env, con)
            con:header("Content-Type", "text/plain")
            local names = "REQUEST_METHOD SCRIPT_NAME PATH_INFO QUERY_STRING HTTP_X_THING HTTP_COOKIE CONTENT_LENGTH"
            for name in names:gmatch("%S+") do
                con:puts(name .. "=" .. tostring(env[name]) .. "\\n")
            end
            con:puts("HTTP_PROXY=" .. tostring(env.HTTP_PROXY) .. "\\n")
        end
    """,
    "form.lua": """
        local fcgi = require "luafcgid"
        function main(env, con)
            local values = fcgi.parse(con:gets())
            con:puts(env.CONTENT_TYPE .. " " .. env.CONTENT_LENGTH .. " " .. values.name .. " " .. values.text)
        end
    """,
    "upload.lua": """
        function main(env, con)
            con:header("Content-Type", "application/octet-stream")
            local part = con:gets(10000)
            while part do
                con:puts(part)
                part = con:gets(10000)
            end
        end
    """,
    "headers.lua": """
        function main(env, con)
            con:status(201)
            con:header("Content-Type", "text/plain; charset=utf-8")
            con:header("Set-Cookie", "a=1; Path=/")
            con:header("Set-Cookie", "b=2; HttpOnly")
            con:header("Cache-Control", "no-store")
            con:header("X-Thing", "one, two")
            con:puts("made")
        end
    """,
    "status.lua": """
        function main(env, con)
            con:status(tonumber(env.QUERY_STRING))
            con:puts("the script's own page")
        end
    """,
    "error.lua": 'function main(env, con) error("oh dear") end',
    "moved.lua": 'function main(env, con) con:status(tonumber(env.QUERY_STRING)) con:header("Location", "/x") end',
    "late.lua": """
        function main(env, con)
            if env.QUERY_STRING == "length" then con:header("Content-Length", 20000) end
            con:header("X-Accel-Buffering", "no")
            con:puts(("x"):rep(5000))
            con:flush()
            con:sleep(0.1)
            error("late")
        end
    """,
    "short.lua": """
        function main(env, con)
            con:header("Content-Length", 20000)
            con:puts(("x"):rep(5000))
            con:flush()
        end
    """,
    "redirect.lua": 'function main(env, con) con:header("Location", "/env.lua?from=redirect") end',
    "large.lua": """
        function main(env, con)
            con:header("Content-Type", "application/octet-stream")
            local all = {}
            for byte = 0, 255 do all[#all + 1] = string.char(byte) end
            local block = table.concat(all):rep(16)
            for _ = 1, 256 do con:puts(block) end
        end
    """,
    "stream.lua": """
        function main(env, con)
            con:header("Content-Type", "text/plain")
            if env.QUERY_STRING == "unbuffered" then con:header("X-Accel-Buffering", "no") end
            con:puts("first\\n")
            con:flush()
            while true do
                local go = io.open("go")
                if go then go:close() break end
                con:sleep(0.01)
            end
            con:puts("second\\n")
        end
    """,
    "sleep.lua": """
        function main(env, con)
            assert(io.open("began", "w")):close()
            con:sleep(1000)
        end
    """,
    "public/style.css": "body { color: #234 }",
    "public/sub/index.html": "an index",
    "public/empty/x.txt": "text",
    "public/.well-known/acme-challenge/x": "a token",
}
#: What no visitor ever sees: each of these files has this in it, the scripts among them as what they would answer.
SECRET = "nobody's business"
_PRIVATE_SCRIPT = f'function main(env, con) con:puts("{SECRET}") end'
PRIVATE = {
    "guestbook.db": SECRET,
    ".env": SECRET,
    ".git/config": SECRET,
    "env.lua~": SECRET,
    "env.lua.bak": SECRET,
    "views/x.html": SECRET,
    "views.lua/x.html": SECRET,
    "_lib/x.lua": _PRIVATE_SCRIPT,
    "_x.lua": _PRIVATE_SCRIPT,
    ".lib/x.lua": _PRIVATE_SCRIPT,
    ".x.lua": _PRIVATE_SCRIPT,
    "public/.env": SECRET,
    "public/.git/config": SECRET,
    "public/sub/.env": SECRET,
    "public/x.lua": _PRIVATE_SCRIPT,
    "public/sub/x.lua": _PRIVATE_SCRIPT,
    "public/other.lua": SECRET,
}


def changed(text: str, **places: str) -> str:
    """`text` with each of the places that its reader has to change, and finds once, replaced."""
    for old, new in places.items():
        assert text.count(old) == 1, f"{old!r} is not there once"
        text = text.replace(old, new)
    return text


class Response(NamedTuple):
    """What a browser gets."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Web:
    """A web server that runs on a port of the loopback; `name` is "nginx" or "lighttpd"."""

    def __init__(self, port: int, name: str) -> None:
        self.port = port
        self.name = name

    def connect(self) -> http.client.HTTPConnection:
        """A connection that can be used for several requests."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(
        self, method: str, target: str, body: bytes | None = None, header: tuple[str, str] | None = None
    ) -> Response:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            connection.request(method, target, body, dict([header] if header else []))
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, target: str, header: tuple[str, str] | None = None) -> Response:
        """A GET."""
        return self.ask("GET", target, header=header)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(name: str, command: list[str], port: int, log: Path) -> Iterator[Web]:
    """A web server in a process of its own, once it listens, until the end of the block."""

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with open(log, "wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            until(listens, f"the start of {name}")
            yield Web(port, name)
        finally:
            process.terminate()
            process.wait(PATIENCE)


@contextmanager
def nginx(folder: Path, root: Path, server: str, **places: str) -> Iterator[Web]:
    """nginx with deploy/nginx.conf, in front of `server`; `places` are further changes of that file."""
    path = program("nginx")
    folder.mkdir()
    shutil.copy("/etc/nginx/fastcgi_params", folder)
    port = free_port()
    places |= {
        "server 127.0.0.1:9000;": f"server {server};",
        "listen 80;": f"listen 127.0.0.1:{port};",
        "/srv/www/lua_scripts/public;": f"{root}/public;",
        "/srv/www/lua_scripts;": f"{root};",
    }
    (folder / "greenfcgi.conf").write_text(changed((DEPLOY / "nginx.conf").read_text(), **places))
    kinds = ("client_body", "fastcgi", "proxy", "scgi", "uwsgi")
    (folder / "nginx.conf").write_text(
        "daemon off;\n"
        + ("user root;\n" if IS_ROOT else "")
        + "worker_processes 1;\npid nginx.pid;\nerror_log stderr;\nevents { worker_connections 512; }\nhttp {\n"
        + "access_log off;\n"
        + "".join(f"{kind}_temp_path {kind};\n" for kind in kinds)
        + "include greenfcgi.conf;\n}\n"
    )
    command = [path, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with running("nginx", command, port, folder / "log") as web:
        yield web


@contextmanager
def lighttpd(folder: Path, root: Path, server: str, **places: str) -> Iterator[Web]:
    """lighttpd with deploy/lighttpd.conf, in front of `server`; `places` are further changes of that file."""
    path = program("lighttpd")
    folder.mkdir()
    port = free_port()
    places |= {'"host" => "127.0.0.1", "port" => 9000': server, "/srv/www/lua_scripts": str(root)}
    (folder / "greenfcgi.conf").write_text(changed((DEPLOY / "lighttpd.conf").read_text(), **places))
    (folder / "lighttpd.conf").write_text(
        f'server.bind = "127.0.0.1"\nserver.port = {port}\nserver.upload-dirs = ("{folder}")\n'
        f'include "{folder}/greenfcgi.conf"\n'
    )
    command = [path, "-D", "-f", str(folder / "lighttpd.conf")]
    with running("lighttpd", command, port, folder / "log") as web:
        yield web


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """greenfcgi with the scripts above, on a unix socket and on a port of the loopback."""
    settings = 'bind = ["unix:s.sock", "127.0.0.1:0"]\n[scripts]\nmax_post = "1M"\n'
    with Server(tmp_path_factory.mktemp("backend"), SCRIPTS | PRIVATE, settings) as server:
        yield server


def tcp_port(server: Server) -> int:
    """Where it listens by TCP."""
    found = re.search(r"on unix:\S+, 127\.0\.0\.1:(\d+)$", server.log(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def nginx_upstream(server: Server, transport: str) -> str:
    """What nginx calls the server."""
    return f"unix:{server.socket_path}" if transport == "unix" else f"127.0.0.1:{tcp_port(server)}"


def lighttpd_backend(server: Server, transport: str) -> str:
    """What lighttpd calls the server."""
    return (
        f'"socket" => "{server.socket_path}"'
        if transport == "unix"
        else f'"host" => "127.0.0.1", "port" => {tcp_port(server)}'
    )


@pytest.fixture(scope="module", params=["nginx-unix", "nginx-tcp", "lighttpd-unix", "lighttpd-tcp"])
def web(request: pytest.FixtureRequest, backend: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Each web server, by each transport."""
    name, transport = request.param.split("-")
    folder = tmp_path_factory.mktemp(name) / "web"
    if name == "nginx":
        more = {"client_max_body_size 1m": "client_max_body_size 8m"}
        with nginx(folder, backend.root, nginx_upstream(backend, transport), **more) as running_nginx:
            yield running_nginx
    else:
        with lighttpd(folder, backend.root, lighttpd_backend(backend, transport)) as running_lighttpd:
            yield running_lighttpd


def variables(response: Response) -> dict[str, str]:
    """What env.lua has answered."""
    assert response.status == 200
    return dict(line.split("=", 1) for line in response.body.decode().splitlines())


# Requests


def test_a_get_with_a_query(web: Web) -> None:
    """The request's variables reach the script."""
    found = variables(web.get("/env.lua?a=1&b=%20x", ("X-Thing", "some thing")))
    assert (found["REQUEST_METHOD"], found["SCRIPT_NAME"]) == ("GET", "/env.lua")
    assert (found["QUERY_STRING"], found["HTTP_X_THING"]) == ("a=1&b=%20x", "some thing")
    assert found["PATH_INFO"] in ("", "nil")


@pytest.mark.parametrize("path_info", ["/", "/a/b", "/a/other.lua/c", "/with%20space"])
def test_what_follows_the_script_is_path_info(web: Web, path_info: str) -> None:
    """/env.lua/a/b runs env.lua, and decodes the rest."""
    found = variables(web.get(f"/env.lua{path_info}?q=1"))
    assert (found["SCRIPT_NAME"], found["QUERY_STRING"]) == ("/env.lua", "q=1")
    assert found["PATH_INFO"] == path_info.replace("%20", " ")


def test_the_proxy_header_does_not_become_a_variable(web: Web) -> None:
    """HTTP_PROXY is for the operator, not for clients (CVE-2016-5385)."""
    assert variables(web.get("/env.lua", ("Proxy", "http://evil.example")))["HTTP_PROXY"] in ("", "nil")


def test_a_form_is_posted(web: Web) -> None:
    """Its body, type and length reach the script."""
    body = b"name=Ada&text=one+two%21"
    response = web.ask("POST", "/form.lua", body, ("Content-Type", "application/x-www-form-urlencoded"))
    assert response.status == 200
    assert response.body == b"application/x-www-form-urlencoded 24 Ada one two!"


def test_a_large_body_comes_whole(web: Web) -> None:
    """300 KB of any bytes come back as they were sent."""
    body = os.urandom(300 * 1024)
    response = web.ask("POST", "/upload.lua", body)
    assert response.status == 200
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()


def test_a_chunked_body_comes_whole(web: Web) -> None:
    """The web server takes the chunks off, and says how long the body is."""
    connection = web.connect()
    parts = [b"x" * 10_000, b"y" * 70_000, b"z"]
    connection.request("POST", "/upload.lua", iter(parts), encode_chunked=True)
    assert connection.getresponse().read() == b"".join(parts)
    connection.close()


# Responses


def test_status_and_headers_reach_the_client(web: Web) -> None:
    """Also one that comes twice."""
    response = web.get("/headers.lua")
    assert (response.status, response.body) == (201, b"made")
    assert response.headers.get_all("Set-Cookie") == ["a=1; Path=/", "b=2; HttpOnly"]
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Thing"] == "one, two"
    assert response.headers["Status"] is None


@pytest.mark.parametrize("status", [400, 403, 404, 418, 500, 503])
def test_the_page_of_an_error_is_the_scripts_own(web: Web, status: int) -> None:
    """A script may answer with any status, and the web server puts no page of its own in the place."""
    response = web.get(f"/status.lua?{status}")
    assert (response.status, response.body) == (status, b"the script's own page")


def test_a_script_that_is_not_there(web: Web) -> None:
    """404, whoever says so."""
    assert web.get("/none.lua").status == 404


def test_a_script_that_fails(web: Web) -> None:
    """500, without the error."""
    response = web.get("/error.lua")
    assert response.status == 500
    assert b"500 Internal Server Error" in response.body
    assert b"oh dear" not in response.body


def test_a_body_that_is_too_large(web: Web) -> None:
    """413 passes through, although the body has not been read, and the next request is served."""
    response = web.ask("POST", "/upload.lua", bytes(2 * MEGABYTE))
    assert response.status == 413
    assert web.ask("POST", "/upload.lua", b"small").body == b"small"


def test_head_has_no_body(web: Web) -> None:
    """The headers are those of a GET."""
    response = web.ask("HEAD", "/headers.lua")
    assert (response.status, response.body) == (201, b"")
    assert response.headers["X-Thing"] == "one, two"


def test_a_redirect(web: Web) -> None:
    """A Location alone makes a 302, which the browser follows, not the web server."""
    response = web.get("/redirect.lua")
    assert response.status == 302
    assert re.fullmatch(r"(http://[^/]+)?/env\.lua\?from=redirect", response.headers["Location"])


def test_a_large_response_comes_whole(web: Web) -> None:
    """1 MB with every value that a byte can have."""
    response = web.get("/large.lua")
    assert response.status == 200
    assert response.body == bytes(range(256)) * 4096


def test_static_files_are_the_web_servers(web: Web) -> None:
    """They lie in a folder of their own, and never reach greenfcgi."""
    response = web.get("/style.css")
    assert (response.status, response.body.decode()) == (200, SCRIPTS["public/style.css"])
    assert web.get("/sub/").body == b"an index"
    assert web.get("/sub").headers["Location"].endswith("/sub/")
    assert web.get("/.well-known/acme-challenge/x").body == b"a token"


def secrets() -> list[str]:
    """The URLs by which somebody may try to see what is private: by its place, and as a static file."""
    targets = [f"/{name}" for name in PRIVATE] + [f"/{name.removeprefix('public/')}" for name in PRIVATE]
    more = ["/.%65nv", "/%2eenv", "/sub/../.env", "//.env", "/sub/.%2fenv", "/%5fx.lua", "/views/x.html/y.lua"]
    more += ["/guestbook.db/x.lua", "/guestbook.db%0a.lua", "/public/", "/public", "/views.lua/", "/_lib/x.lua/y"]
    more += ["/env.lua/../guestbook.db", "/env.lua/..%2fguestbook.db", "/x.lua/../.env", "/public/style.css/x.lua"]
    return sorted({*targets, *more})


@pytest.mark.parametrize("target", secrets())
def test_what_is_neither_script_nor_public_is_not_there(web: Web, target: str) -> None:
    """Data, templates, backups, hidden files and modules: nobody can ask for them, by whatever spelling."""
    response = web.get(target)
    assert SECRET.encode() not in response.body
    assert b"color" not in response.body
    # lighttpd says 403 to hidden files and to what stands behind a file, and 400 to line breaks.
    assert response.status in ((400, 403, 404) if web.name == "lighttpd" else (404,))


@pytest.mark.parametrize("target", ["/", "/empty/", "/style.css/x.lua", "/style.css/x", "/none", "/none/", "/?x"])
def test_what_is_not_there(web: Web, target: str) -> None:
    """404, also for a folder without an index, and for what stands behind a static file."""
    assert web.get(target).status == (403 if web.name == "lighttpd" and target == "/style.css/x" else 404)


@pytest.mark.parametrize("path_info", ["/x%0ay", "/%0a", "/a%0a/b%0a", "/x.lua%0a/y"])
def test_line_breaks_in_path_info(web: Web, path_info: str) -> None:
    """They are characters like any other; lighttpd takes none."""
    if web.name == "lighttpd":
        assert web.get(f"/env.lua{path_info}").status == 400
        return
    found = web.get(f"/env.lua{path_info}")
    assert found.status == 200
    assert f"SCRIPT_NAME=/env.lua\nPATH_INFO={urllib.parse.unquote(path_info)}\n" in found.body.decode()


@pytest.mark.parametrize("target", ["/env.lua%0a", "/env.lua%0a/x", "/%0aenv.lua", "/env%0a.lua"])
def test_line_breaks_in_names(web: Web, target: str) -> None:
    """Another file is another file."""
    assert web.get(target).status == (400 if web.name == "lighttpd" else 404)


# Many requests


@pytest.mark.parametrize("status", [201, 301, 303, 308])
def test_a_location_keeps_its_status(web: Web, status: int) -> None:
    """A status beside a Location is the script's, and not 302."""
    response = web.get(f"/moved.lua?{status}")
    assert response.status == status
    assert response.headers["Location"].removeprefix(f"http://127.0.0.1:{web.port}") == "/x"


@pytest.mark.parametrize("target", ["/late.lua", "/late.lua?length", "/short.lua"])
def test_a_reply_that_is_cut_can_be_seen(web: Web, target: str) -> None:
    """A page that fails after a part of it has been sent does not look complete."""
    if web.name == "lighttpd" and target == "/late.lua":
        pytest.skip("lighttpd keeps a reply until its end, unless server.stream-response-body says otherwise")
    assert_cut(web, target)


def assert_cut(web: Web, target: str) -> None:
    """The client sees that the end of the reply is missing; nginx may not have sent anything of it yet."""
    with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)) as problem:
        web.get(target)
    if isinstance(problem.value, http.client.IncompleteRead):
        assert problem.value.partial == b"x" * 5000


def test_a_header_that_comes_twice(web: Web) -> None:
    """Headers are joined as lists, cookies in their own way; of those that are no list, the first counts."""
    connection = web.connect()
    connection.putrequest("GET", "/env.lua")
    for name, value in (("X-Thing", "one"), ("X-Thing", "two"), ("Cookie", "a=1"), ("Cookie", "b=2")):
        connection.putheader(name, value)
    connection.endheaders()
    found = dict(line.split("=", 1) for line in connection.getresponse().read().decode().splitlines())
    connection.close()
    assert (found["HTTP_X_THING"], found["HTTP_COOKIE"]) == ("one, two", "a=1; b=2")


def test_lighttpd_asks_an_authorizer(serve: Callable[..., Server], tmp_path: Path) -> None:
    """lighttpd delivers a file only when the script lets it through; without the setting, never."""
    door = """
        function main(env, con)
            con:status(env.HTTP_X_KEY == "sesame" and 200 or 401)
            con:header("Variable-AUTH_USER", "ada")
        end
    """
    secret = tmp_path / "secret" / "page.txt"
    secret.parent.mkdir()
    secret.write_text("the secret")
    for setting, statuses in (('authorizer = "door.lua"', [401, 200]), ("", [403, 403])):
        server = Server(tmp_path / f"server{len(setting)}", {"door.lua": door}, f"[scripts]\n{setting}\n")
        config = (
            f'server.port = {(port := free_port())}\nserver.bind = "127.0.0.1"\nserver.modules = ("mod_fastcgi")\n'
            f'server.document-root = "{tmp_path}"\nmimetype.assign = ("" => "text/plain")\n'
            f'fastcgi.server = ("/secret/" => (("socket" => "{server.socket_path}", "mode" => "authorizer", '
            f'"docroot" => "{tmp_path}", "check-local" => "disable")))\n'
        )
        path = tmp_path / f"lighttpd{len(setting)}.conf"
        path.write_text(config)
        command = [program("lighttpd"), "-D", "-f", str(path)]
        with server, running("lighttpd", command, port, path.with_suffix(".log")) as web:
            found = [web.get("/secret/page.txt"), web.get("/secret/page.txt", ("X-Key", "sesame"))]
        assert [response.status for response in found] == statuses
        assert [response.body == b"the secret" for response in found] == [status == 200 for status in statuses]


def test_nginx_logs_what_scripts_report(tmp_path: Path) -> None:
    """With `scripts.stderr`, the error of a script is in the web server's log, too."""
    with Server(tmp_path / "server", SCRIPTS, "[scripts]\nstderr = true\n") as server:
        with nginx(tmp_path / "web", server.root, nginx_upstream(server, "unix")) as web:
            assert web.get("/error.lua").status == 500
            log = tmp_path / "web" / "log"
            until(lambda: "oh dear" in log.read_text(), "the error in the web server's log")
        assert "FastCGI sent in stderr" in log.read_text()


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
            if response.status == 200 and f"QUERY_STRING={query}\n" in body:
                self.right += 1
            else:
                self.wrong.append(f"{response.status} {body}")
        connection.close()


def test_fifty_clients_at_once(web: Web) -> None:
    """Each of a thousand requests gets its own answer."""
    browsers = [Browser(web, number, requests=20) for number in range(50)]
    for browser in browsers:
        browser.start()
    for browser in browsers:
        browser.join(PATIENCE)
    assert [complaint for browser in browsers for complaint in browser.wrong] == []
    assert sum(browser.right for browser in browsers) == 1000


def connections(server: Server) -> set[str]:
    """The sockets of a server, each by its inode: a new connection is a new one."""
    folder = Path(f"/proc/{server.pid}/fd")
    links = [os.readlink(entry) for entry in folder.iterdir() if entry.exists() or entry.is_symlink()]
    return {link for link in links if link.startswith("socket:")}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_nginx_keeps_its_connections(backend: Server, transport: str, tmp_path: Path) -> None:
    """Requests that come one after the other share one connection to greenfcgi, which stays open."""
    with nginx(tmp_path / "web", backend.root, nginx_upstream(backend, transport)) as front:
        before = connections(backend)
        assert front.get("/env.lua").status == 200
        kept = connections(backend) - before
        assert len(kept) == 1
        for _ in range(20):
            assert front.get("/env.lua").status == 200
        assert connections(backend) - before == kept


# Waiting


def reads_before_the_end(web: Web, backend: Server, target: str) -> None:
    """The first part of stream.lua's answer comes while it waits for the file `go`."""
    go = backend.root / "go"
    go.unlink(missing_ok=True)
    connection = web.connect()
    connection.request("GET", target)
    response = connection.getresponse()
    assert response.readline() == b"first\n"
    go.touch()
    assert response.read() == b"second\n"
    connection.close()


@pytest.mark.parametrize("web", ["nginx-unix", "nginx-tcp"], indirect=True)
def test_nginx_streams_when_the_script_says_so(web: Web, backend: Server) -> None:
    """X-Accel-Buffering: no."""
    reads_before_the_end(web, backend, "/stream.lua?unbuffered")


def test_nginx_streams_when_it_is_set_to(backend: Server, tmp_path: Path) -> None:
    """fastcgi_buffering off."""
    places = {"#fastcgi_buffering off;": "fastcgi_buffering off;"}
    with nginx(tmp_path / "web", backend.root, nginx_upstream(backend, "unix"), **places) as front:
        reads_before_the_end(front, backend, "/stream.lua")


def test_lighttpd_streams_when_it_is_set_to(backend: Server, tmp_path: Path) -> None:
    """server.stream-response-body = 1: output reaches the client in time, and a cut is seen."""
    places = {"#server.stream-response-body": "server.stream-response-body"}
    with lighttpd(tmp_path / "web", backend.root, lighttpd_backend(backend, "unix"), **places) as front:
        reads_before_the_end(front, backend, "/stream.lua")
        assert_cut(front, "/late.lua")


def test_a_client_that_leaves_wakes_its_script(serve: Callable[..., Server], tmp_path: Path) -> None:
    """nginx hangs up when its client does: a script that sleeps gives its worker back."""
    server = serve(SCRIPTS, "workers = 1")
    with nginx(tmp_path / "web", server.root, nginx_upstream(server, "unix")) as front:
        with socket.create_connection(("127.0.0.1", front.port)) as client:
            client.sendall(b"GET /sleep.lua HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until((server.root / "began").exists)
        assert front.get("/env.lua").status == 200, "the only worker is free"


# What the documents show


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("README.md", "nginx"), ("greenfcgi/docs/webservers.md", "nginx"),
        ("greenfcgi/docs/webservers.md", "lighttpd"),
    ],
)  # fmt: skip
def test_documents_show_the_tested_configuration(page: str, name: str) -> None:
    """Every line of it is in the file that the tests use, in the same order."""

    def settings(text: str) -> list[str]:
        lines = (re.sub(r"\s+#.*|^#.*", "", line).strip() for line in text.splitlines())
        return [line for line in lines if line]

    shown = settings((PROJECT / page).read_text().partition(f"```{name}\n")[2].partition("```")[0])
    whole = iter(settings((DEPLOY / f"{name}.conf").read_text()))
    assert shown
    assert [line for line in shown if line not in whole] == []
