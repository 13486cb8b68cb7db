"""The developer mode over HTTP and in the terminal; what a browser makes of it is in test_browser."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import pytest

from greenfcgi.errors import ExitStatus
from greenfcgi.fastcgi.client import Client

from ..support.developing import WAYS, Answer, Developing
from ..support.processes import is_alive
from ..support.running import PATIENCE, Connection, until

Develop = Callable[..., Developing]

HELLO = "function main(env, con) con:puts('hello') end"
ECHO = """
function main(env, con)
    local names = {}
    for name in pairs(env) do names[#names + 1] = name end
    table.sort(names)
    con:header("Content-Type", "text/plain")
    for _, name in ipairs(names) do con:puts(name .. "=" .. env[name] .. "\\n") end
    con:puts("body=" .. con:gets())
end
"""


@pytest.fixture
def develop(tmp_path: Path) -> Iterator[Develop]:
    """Start the developer mode with `develop({"name.lua": "source"}, "settings")`; it is ended after the test."""
    with ExitStack() as stack:
        yield lambda files=None, settings=None, port=0, scripts="": stack.enter_context(
            Developing(tmp_path, files, settings, port, scripts)
        )


STATUSES = (200, 204, 302, 304, 404, 500)


@pytest.fixture(scope="module")
def statuses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Developing]:
    """The developer mode with a script for each status."""
    text = "function main(env, con) con:status({}) con:puts('the body') end"
    files = {f"{status}.lua": text.format(status) for status in STATUSES}
    with Developing(tmp_path_factory.mktemp("statuses"), files) as dev:
        yield dev


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Developing]:
    """The developer mode with one script for all, and files that are for nobody."""
    secret = "function main(env, con) con:puts('secret\\n') end"
    files = {
        "x.lua": HELLO, "public/.env": "secret\n", "public/.git/config": "secret\n", "data.db": "secret\n",
        "views/page.html": "secret\n", "x.lua~": "secret\n", "x.lua.bak": "secret\n", "public/style.css": "b {}",
        "public/x.lua": secret, "_lib/secret.lua": secret, "_secret.lua": secret, ".lib/secret.lua": secret,
        "public/y.lua": secret,
    }  # fmt: skip
    with Developing(tmp_path_factory.mktemp("secrets"), files) as dev:
        (dev.root.parent / "secret").write_text("secret\n")
        (dev.root / "public" / "link.txt").symlink_to(dev.root.parent / "secret")
        yield dev


def run(*arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The command to its end."""
    return subprocess.run(
        [*before, sys.executable, "-m", "greenfcgi", *arguments],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


class TestDoor:
    def test_a_script(self, develop: Develop) -> None:
        """What nginx would send comes with a request, path info and body included; headers and status go back."""
        dev = develop({"echo.lua": ECHO})
        reply = dev.ask("/echo.lua/a%20b/c?x=1&y=%20", "POST", b"some body", Cookie="k=v", X_Other="é")
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/plain"
        for line in (
            "PATH_INFO=/a b/c", "QUERY_STRING=x=1&y=%20", "SCRIPT_NAME=/echo.lua", "REQUEST_METHOD=POST",
            f"SCRIPT_FILENAME={dev.root}/echo.lua", "REQUEST_URI=/echo.lua/a%20b/c?x=1&y=%20", "CONTENT_LENGTH=9",
            f"DOCUMENT_ROOT={dev.root}", "HTTP_COOKIE=k=v", "REMOTE_ADDR=127.0.0.1", f"SERVER_PORT={dev.port}",
            "REQUEST_SCHEME=http", "SERVER_PROTOCOL=HTTP/1.1", "GATEWAY_INTERFACE=CGI/1.1", "body=some body",
        ):  # fmt: skip
            assert f"{line}\n" in reply.text + "\n"

    @pytest.mark.parametrize("status", STATUSES)
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    def test_statuses(self, statuses: Developing, status: int, method: str) -> None:
        """Every status and method comes through, with a body where there is one."""
        for _ in range(2):
            reply = statuses.ask(f"/{status}.lua", method)
            assert reply.status == status
            assert reply.text == ("" if method == "HEAD" or status in (204, 304) else "the body")

    def test_large_bodies(self, develop: Develop) -> None:
        """Uploads and downloads of megabytes, and one that is too large."""
        dev = develop({"size.lua": "function main(env, con) con:puts(('x'):rep(#con:gets())) end"})
        assert len(dev.ask("/size.lua", "POST", b"y" * 1_000_000).text) == 1_000_000
        assert dev.ask("/size.lua", "POST", b"y" * 1_100_000).status == 413

    def test_flushed_parts_come_at_once(self, develop: Develop) -> None:
        """What a script flushes is there before it ends."""
        dev = develop({"s.lua": "function main(env, con) con:puts('first') con:flush() con:sleep(3600) end"})
        with socket.create_connection(("127.0.0.1", dev.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /s.lua HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while b"first" not in received:
                data = connection.recv(4096)
                assert data, received
                received += data
        until(lambda: "GET  /s.lua" in dev.log(), "the script to end when the client has gone")

    def test_index(self, develop: Develop) -> None:
        """A folder is its index.lua, else its index.html, else a list; without its slash, a way to it."""
        dev = develop({
            "index.lua": HELLO, "public/a/index.html": "<p>page</p>", "b/x.lua": HELLO, "public/b/y z.html": "",
            "b/c/d.lua": HELLO, "b/.hidden.lua": HELLO, "b/_private/d.lua": HELLO, "b/_private.lua": HELLO,
            "public/b/e/f.css": "", "b/view.html": "",
        })  # fmt: skip
        assert dev.ask("/").text == "hello"
        assert dev.ask("/a/").text == "<p>page</p>"
        reply = dev.ask("/a?x=1")
        assert (reply.status, reply.headers["location"]) == (302, "/a/?x=1")
        listing = dev.ask("/b/").text
        assert re.findall(r'href="([^"]+)"', listing) == ["../", "c/", "e/", "x.lua", "y%20z.html"]

    def test_files(self, develop: Develop) -> None:
        """Files have their types and ranges, and browsers keep none of them."""
        dev = develop(
            {
                "public/s.css": "b { color: red }",
                "public/i.svg": "<svg/>",
                "public/j.js": "1",
                "public/d.bin": "0123456789",
            }
        )
        for name, kind in (("s.css", "text/css"), ("i.svg", "image/svg+xml"), ("j.js", "text/javascript")):
            reply = dev.ask(f"/{name}")
            assert reply.status == 200
            assert reply.headers["content-type"].startswith(kind)
            assert reply.headers["cache-control"] == "no-store"
        part = dev.ask("/d.bin", Range="bytes=2-4")
        assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")

    @pytest.mark.parametrize(
        "path",
        [
            "/.env", "/../secret", "/%2e%2e/secret", "/a/../../secret", "/link.txt", "/x.lua%00", "/.git/config",
            "/data.db", "/views/page.html", "/x.lua~", "/x.lua.bak", "/public/style.css", "/public/x.lua",
            "/_lib/secret.lua", "/_secret.lua", "/style.css/x.lua", "/style.css/", "/y.lua", "/public/", "/_lib/",
            "/.lib/secret.lua",
        ],
    )  # fmt: skip
    def test_what_is_not_shown(self, secrets: Developing, path: str) -> None:
        """Hidden files, what is outside the folder, and all in it that is neither a script nor in the public folder."""
        reply = secrets.ask(path)
        assert reply.status == 404
        assert b"secret\n" not in reply.body

    def test_certificates(self, develop: Develop) -> None:
        """Who issues them asks below a name that begins with a dot (RFC 8615)."""
        dev = develop({"public/.well-known/acme-challenge/x": "token"})
        assert dev.ask("/.well-known/acme-challenge/x").text == "token"

    def test_another_public_folder(self, develop: Develop) -> None:
        """Its name is a setting, and there need be none."""
        files = {"htdocs/a.css": "b {}", "public/a.css": "i {}", "public/x.lua": HELLO}
        dev = develop(files, scripts='public = "htdocs"')
        assert dev.ask("/a.css").text == "b {}"
        assert dev.ask("/public/x.lua").text == "hello"
        dev = develop(files, scripts='public = ""')
        assert dev.ask("/a.css").status == 404
        assert dev.ask("/htdocs/a.css").status == 404

    def test_sources_are_not_sent(self, develop: Develop) -> None:
        """A script is run, whatever is asked of it as a file."""
        dev = develop({"x.lua": HELLO})
        assert dev.ask("/x.lua", Range="bytes=0-3").text == "hello"

    def test_other_hosts(self, develop: Develop) -> None:
        """A page of another name, which leads to this machine, reads nothing here (DNS rebinding)."""
        dev = develop({"index.lua": HELLO})
        for host in ("localhost", f"localhost:{dev.port}", "127.0.0.1", "app.localhost:1", "[::1]:80", "10.0.0.1"):
            assert dev.ask("/", Host=host).text == "hello", host
        for host in ("evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example"):
            assert dev.ask("/", Host=host).status == 403, host

    def test_with_a_configuration(self, develop: Develop) -> None:
        """Settings count, and FastCGI is served where `bind` says; the status page is answered, too."""
        script = "function main(env, con) con:puts(con:config('word')) end"
        settings = 'bind = "unix:s.sock"\nstatus_path = "/status"\n[app]\nword = "configured"\n'
        dev = develop({"w.lua": script}, settings)
        assert dev.ask("/w.lua").text == "configured"
        with Connection(str(dev.root.parent / "s.sock")) as connection:
            connection.send(Client.request({"SCRIPT_FILENAME": f"{dev.root}/w.lua"}))
            assert connection.reply().body == b"configured"
        assert dev.ask("/status?json").headers["content-type"] == "application/json"
        assert "  FastCGI on unix:" in dev.log()

    def test_no_scripts(self, develop: Develop) -> None:
        """An empty folder says what to write, and where."""
        dev = develop()
        page = dev.ask("/").text
        assert "function main(env, con)" in page
        assert f"{dev.root}/index.lua" in page

    def test_a_browser_that_leaves(self, develop: Develop) -> None:
        """Before anything has come: the script is ended, and the terminal says nothing but that."""
        dev = develop({"s.lua": "function main(env, con) con:log('begun') con:sleep(3600) end"})
        with socket.create_connection(("127.0.0.1", dev.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /s.lua HTTP/1.1\r\nHost: localhost\r\n\r\n")
            dev.logged("begun")
        dev.logged("GET  /s.lua")
        assert "failed" not in dev.log()
        assert "Traceback" not in dev.log()

    def test_no_host(self, develop: Develop) -> None:
        """Old clients send none."""
        dev = develop({"index.lua": HELLO})
        with socket.create_connection(("127.0.0.1", dev.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            received = b""
            while data := connection.recv(4096):
                received += data
        assert b"hello" in received

    def test_compressed_beside(self, develop: Develop) -> None:
        """What is compressed beside a file may be old, and is not sent for it."""
        dev = develop(
            {
                "public/s.css": "b {}" * 50,
                "public/s.css.gz": "old",
                "public/p.html": "<p>new</p>" * 50,
                "public/p.html.gz": "old",
            }
        )
        assert dev.ask("/s.css", Accept_Encoding="gzip").text == "b {}" * 50
        assert dev.ask("/p.html", Accept_Encoding="gzip").text == "<p>new</p>" * 50
        assert dev.ask("/s.css.gz").text == "old"

    def test_names_of_bytes(self, develop: Develop) -> None:
        """A file whose name is no UTF-8 is listed like others."""
        dev = develop({"a/x.lua": HELLO})
        Path(os.fsdecode(bytes(dev.root / "a") + b"/n\xff.lua")).write_text(HELLO)
        listing = dev.ask("/a/")
        assert listing.status == 200
        assert 'href="n%FF.lua"' in listing.text
        assert dev.ask("/a/n%FF.lua").text == "hello"

    def test_head_of_a_page(self, develop: Develop) -> None:
        """As long as the page that GET gets."""
        dev = develop({"public/p.html": "<p>page</p>"})
        length = len(dev.ask("/p.html", Sec_Fetch_Dest="empty").body)
        assert dev.ask("/p.html", "HEAD").headers["content-length"] == str(length)
        assert dev.ask("/-greenfcgi/events", "HEAD").status == 405

    def test_large_files(self, develop: Develop) -> None:
        """A file of many megabytes leaves as it is read."""
        dev = develop({"public/x": ""})
        (dev.root / "public" / "large.bin").write_bytes(b"x" * 30_000_000)
        assert len(dev.ask("/large.bin").body) == 30_000_000
        assert dev.ask("//sub").status == 404


class TestStart:
    def test_a_taken_port(self, develop: Develop) -> None:
        """The next one that is free is taken, and the terminal says so."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            dev = develop({"index.lua": HELLO}, port=port)
            assert dev.port > port
            # It follows the line that the start has waited for.
            dev.logged(f"port {port} is in use: took the next free one")
            assert dev.ask("/").text == "hello"

    def test_other_addresses_are_warned_of(self, tmp_path: Path) -> None:
        """A warning says what others see, when it is open to them."""
        (tmp_path / "index.lua").write_text(HELLO)
        with open(tmp_path / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "greenfcgi", "--dev", str(tmp_path), "--http", "0.0.0.0:0"], stderr=log
            )
        try:
            until(lambda: "0.0.0.0 can be reached from other machines" in (tmp_path / "log").read_text())
        finally:
            process.kill()
            process.wait()

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--dev", "no/such/folder"], "--dev: found no 'no/such/folder', expected a folder with scripts, or a"),
            (["--dev", "--http", "nonsense"], "--http: found 'nonsense', expected an address and a port such as 127.0"),
            (["--dev", "--http", "unix:x"], "--http: found 'unix:x', expected an address and a port such as 127.0.0.1"),
            (["--http", "127.0.0.1:1"], "--http goes with --dev"),
            (["--dev", ".", "--http", "203.0.113.1:8080"], "--http: cannot listen on 203.0.113.1:8080: Cannot assign"),
        ],
    )
    def test_mistakes(self, arguments: list[str], expected: str) -> None:
        """One line, and the exit status for it."""
        done = run(*arguments)
        assert done.stderr.startswith(f"greenfcgi: {expected}")
        assert done.stderr.count("\n") == 1
        assert done.returncode in (ExitStatus.USAGE, ExitStatus.FAILED)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without the right")
    def test_a_port_of_root(self, tmp_path: Path) -> None:
        """A port below 1024 takes a right that few have."""
        unprivileged = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip()
        if unprivileged == "0":
            pytest.skip("anybody may listen on any port here")
        before = ("setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
        tried = subprocess.run([*before, sys.executable, "-c", "import greenfcgi"], capture_output=True, check=False)
        if tried.returncode != 0:
            pytest.skip("another user cannot load this Python, or what it imports")
        done = run("--dev", "/tmp", "--http", "127.0.0.1:80", before=before)
        assert done.stderr == (
            "greenfcgi: --http: cannot listen on 127.0.0.1:80: Permission denied; ports below 1024 are root's\n"
        )
        assert done.returncode == ExitStatus.FAILED

    def test_ctrl_c(self, develop: Develop) -> None:
        """Ends it at once, also with a browser that listens."""
        dev = develop({"index.lua": HELLO})
        with socket.create_connection(("127.0.0.1", dev.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /-greenfcgi/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"text/event-stream" in connection.recv(4096)
            assert dev.stop() == 0
        assert "Traceback" not in dev.log()

    def test_ctrl_c_beside_a_stream(self, develop: Develop) -> None:
        """A page that streams for as long as somebody looks at it is not waited for."""
        stream = "function main(env, con) while true do con:puts('on ') con:flush() con:sleep(0.1) end end"
        dev = develop({"stream.lua": stream})
        with socket.create_connection(("127.0.0.1", dev.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /stream.lua HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(4096)
            dev.stop()
        assert "Traceback" not in dev.log()

    @pytest.mark.parametrize("is_busy", [False, True])
    def test_a_closed_terminal(self, develop: Develop, is_busy: bool) -> None:
        """It ends with its terminal, and its port is free at once, also while a request is under way."""
        dev = develop({"index.lua": HELLO, "wait.lua": "function main(env, con) con:log('begun') con:sleep(3600) end"})
        assert dev.ask("/").text == "hello"
        with socket.create_connection(("127.0.0.1", dev.port), timeout=PATIENCE) as connection:
            if is_busy:
                connection.sendall(b"GET /wait.lua HTTP/1.1\r\nHost: localhost\r\n\r\n")
                dev.logged("begun")
            dev.send_signal(signal.SIGHUP)
            until(lambda: port_is_free(dev.port), "the port to be free")
        assert dev.process is not None
        assert dev.process.wait(PATIENCE) == ExitStatus.OK

    def test_nohup(self, tmp_path: Path) -> None:
        """Whoever wants it to stay says so, and it stays."""
        (tmp_path / "index.lua").write_text(HELLO)
        with open(tmp_path / "log", "wb") as log:
            process = subprocess.Popen(
                ["nohup", sys.executable, "-m", "greenfcgi", "--dev", str(tmp_path), "--http", "127.0.0.1:0"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            until(lambda: "Ctrl-C ends it" in (tmp_path / "log").read_text())
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", (tmp_path / "log").read_text())
            assert found
            with socket.create_connection(("127.0.0.1", int(found[1])), timeout=PATIENCE) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert connection.recv(4096)
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGUSR2)
            until(lambda: "SIGUSR2 does nothing" in (tmp_path / "log").read_text())
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()


def port_is_free(port: int) -> bool:
    """Nobody listens on it."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class TestSaves:
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("kind", ["script", "module", "template", "static"])
    def test_the_next_request_has_it(self, develop: Develop, way: str, kind: str) -> None:
        """What has been saved is in the very next reply, however it was saved, and never half of it."""
        files = {
            "script.lua": "TEXT = 'version 0' function main(env, con) con:puts(TEXT) end",
            "lib.lua": "return 'version 0'",
            "module.lua": "local text = require 'lib' function main(env, con) con:puts(text) end",
            "view.html": "version 0",
            "template.lua": "function main(env, con) con:puts((io.open('view.html'):read('*a'))) end",
            "public/static.txt": "version 0",
        }
        dev = develop(files)
        name, path, form = {
            "script": ("script.lua", "/script.lua", files["script.lua"]),
            "module": ("lib.lua", "/module.lua", files["lib.lua"]),
            "template": ("view.html", "/template.lua", files["view.html"]),
            "static": ("public/static.txt", "/static.txt", files["public/static.txt"]),
        }[kind]
        assert dev.ask(path).text == "version 0"
        for number in range(1, 6):
            WAYS[way](dev.root / name, form.replace("version 0", f"version {number}"))
            assert dev.ask(path).text == f"version {number}"

    @pytest.mark.parametrize(
        ("path", "saved"), [("/x.lua", "x.lua"), ("/y.lua", "view.html"), ("/p.html", "public/p.html")]
    )
    def test_no_half_saves(self, develop: Develop, path: str, saved: str) -> None:
        """While a large file is saved again and again, a little at a time, each reply is one whole version."""
        lines = "-- a line\n" * 300
        reads = "function main(env, con) con:puts((io.open('view.html'):read('*a'))) end"
        text = "version {} " + lines + " whole"
        if path == "/x.lua":
            text = "local number = {}\n" + lines + "function main(_, con) con:puts('version ', number, ' whole') end\n"
        dev = develop({"y.lua": reads, saved: text.format(0)})
        over = threading.Event()
        seen: list[Answer] = []
        stalls: list[float] = []

        def save() -> None:
            number = 0
            while not over.is_set():
                # The second one often begins while a request is under way.
                for _ in range(2):
                    number += 1
                    content = text.format(number)
                    before = time.monotonic()
                    with open(dev.root / saved, "w") as file:
                        for start in range(0, len(content), 500):
                            file.write(content[start : start + 500])
                            file.flush()
                            # A file that stands still for a tenth of a second is taken for a log, as it is then.
                            if time.monotonic() - before > 0.09:
                                stalls.append(time.monotonic() - before)
                            before = time.monotonic()
                # A reply is one whole version: this one stays until there is one.
                replies = len(seen)
                until(lambda before=replies: len(seen) > before or over.is_set(), "a reply")  # type: ignore[misc]

        thread = threading.Thread(target=save)
        thread.start()
        try:
            for _ in range(100):
                seen.append(dev.ask(path))
        finally:
            over.set()
            thread.join()
        assert {reply.status for reply in seen} == {200}
        halves = [reply.text for reply in seen if not re.fullmatch(r"(?s)version \d+ .*whole", reply.text)]
        assert len(halves) <= len(stalls), (halves, stalls)
        assert len({reply.text for reply in seen}) > 1

    def test_a_file_that_stays_open(self, develop: Develop) -> None:
        """A program that keeps a file open for writing holds up no request for long."""
        dev = develop({"index.lua": HELLO, "data.json": ""})
        with open(dev.root / "data.json", "a", buffering=1) as file:
            for number in range(3):
                file.write(f"{number}\n")
                assert dev.ask("/").text == "hello"

    def test_a_file_that_stayed_open_is_saved(self, develop: Develop) -> None:
        """It counts as any other again when it has been closed, also where it is opened again at once."""
        dev = develop({
            "view.html": "old", "index.lua": "function main(_, con) con:puts((io.open('view.html'):read('*a'))) end",
        })  # fmt: skip
        assert dev.ask("/").text == "old"
        process = dev.process
        assert process

        def halves() -> set[str]:
            """What is replied while it is saved; nothing where that took so long that it counts as a log again."""
            with open(dev.root / "view.html", "w") as file:
                file.write("still")
                file.flush()
                assert dev.ask("/").text == "still", "it is taken for one that a program keeps open"
                # The server hears of both at once.
                process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            with ThreadPoolExecutor() as threads:
                with open(dev.root / "view.html", "w") as file:
                    file.write("ha")
                    file.flush()
                    process.send_signal(signal.SIGCONT)
                    reply = threads.submit(dev.ask, "/")
                    wait([reply], 0.04)
                    file.write("lf")
                return {reply.result().text} if time.monotonic() - began < 0.09 else set()

        assert until(halves, "a save in time") == {"half"}

    def test_a_script_that_does_not_load(self, develop: Develop) -> None:
        """The error is shown until the file is fixed; no good version is served meanwhile."""
        dev = develop({"index.lua": HELLO})
        dev.write("index.lua", "function main(")
        assert dev.ask("/").status == 500
        assert dev.ask("/").status == 500
        dev.write("index.lua", HELLO)
        assert dev.ask("/").text == "hello"
        dev.logged("index.lua: loads again")

    def test_the_terminal_names_the_cause(self, develop: Develop) -> None:
        """A flush is logged with the file that was saved, and the script that it affected."""
        script = "local x = require 'lib.b' function main(env, con) con:puts(x) end"
        dev = develop({"a.lua": script, "lib/b.lua": "return 1"})
        assert dev.ask("/a.lua").text == "1"
        dev.write("lib/b.lua", "return 2")
        dev.logged("a.lua: changed (in lib/b.lua): reloaded")


class TestErrors:
    SCRIPT = """
    local function render(con, user)
        local greeting = "dear <b>" .. user.name
        con:puts("<p>before</p>")
        return user.address.street
    end

    function main(env, con)
        render(con, { name = "<script>alert(1)</script>" })
        return 1
    end
    """

    def test_as_html(self, develop: Develop) -> None:
        """Message, place, source, functions with their variables, parameters, what was written before; all as text."""
        dev = develop({"shop.lua": self.SCRIPT})
        reply = dev.ask("/shop.lua?q=<i>x</i>", Accept="text/html,*/*", X_Evil="<img src=x>")
        page = reply.text
        assert reply.status == 500
        assert "attempt to index field &#x27;address&#x27; (a nil value)" in page
        assert "<code>shop.lua</code>, line 5" in page
        assert "<span class=here><i>5</i>    return user.address.street</span>" in page
        assert "<b>render</b> shop.lua, line 5" in page
        assert "<b>main</b> shop.lua, line 9" in page
        assert "<td>greeting</td><td>&quot;dear &lt;b&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;</td>" in page
        assert "&lt;p&gt;before&lt;/p&gt;" in page
        assert "<td>HTTP_X_EVIL</td><td>&lt;img src=x&gt;</td>" in page
        assert "It took " in page
        for harm in ("<script>", "<img", "<i>x", "<p>before"):
            assert harm not in page

    def test_as_text(self, develop: Develop) -> None:
        """A client that does not ask for HTML gets the same as text."""
        reply = develop({"shop.lua": self.SCRIPT}).ask("/shop.lua", Accept="*/*")
        assert reply.headers["content-type"].startswith("text/plain")
        assert b">    5      return user.address.street" in reply.body
        assert b"<script src=" not in reply.body

    @pytest.mark.parametrize(
        ("files", "place", "line"),
        [
            ({"x.lua": "function main()\n  local = 1\nend\n"}, "x.lua", 2),
            ({"x.lua": "require 'lib.y'", "lib/y.lua": "\n\nreturn +\n"}, "lib/y.lua", 3),
            ({"x.lua": "\nlocal function f() error('at the top') end\nf()\n"}, "x.lua", 2),
            ({"x.lua": "function main() end\nfunction init() local t = nil\n t.x = 1 end\n"}, "x.lua", 3),
            (
                {
                    "x.lua": "local y = require 'y' function main() y.f() end",
                    "y.lua": "return { f = function()\n error({}) end }",
                },
                "y.lua",
                2,
            ),
        ],
        ids=["syntax", "module", "top", "init", "error object"],
    )  # fmt: skip
    def test_where_it_is(self, develop: Develop, files: dict[str, str], place: str, line: int) -> None:
        """Errors of loading, in modules, in hooks: the page shows the line where it is."""
        page = develop(files).ask("/x.lua", Accept="text/html").text
        assert f"<code>{place}</code>, line {line}<" in page
        assert f"<span class=here><i>{line}</i>" in page

    def test_behind_a_part_that_has_gone(self, develop: Develop) -> None:
        """What was sent stays, and the error stands below it."""
        dev = develop({"x.lua": "function main(env, con) con:puts('<p>part</p>') con:flush() error('late') end"})
        reply = dev.ask("/x.lua", Accept="text/html")
        assert reply.status == 200
        assert reply.text.startswith("<p>part</p><!DOCTYPE html>")
        assert "late" in reply.text

    def test_other_failures(self, develop: Develop) -> None:
        """A script that takes too long, or too much memory, is reported in the same way."""
        files = {
            "late.lua": "function main()\n while true do end\nend\n",
            "greedy.lua": "function main() local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end end",
        }
        dev = develop(files, "timeout = 0.3\n[lua]\nmemory = '2M'\n")
        late = dev.ask("/late.lua", Accept="text/html")
        assert late.status == 504
        assert "stopped: it ran longer than timeout, 0.3 s" in late.text
        greedy = dev.ask("/greedy.lua", Accept="text/html")
        assert greedy.status == 500
        assert "out of memory" in greedy.text

    def test_names_of_files_are_no_reason_to_read_them(self, develop: Develop) -> None:
        """An error whose text names a file of others shows nothing of it."""
        dev = develop({"x.lua": "function main(env, con) error(env.QUERY_STRING, 0) end"})
        page = dev.ask("/x.lua?/etc/passwd:1:", Accept="text/html").text
        assert "root:" not in page


class TestTerminal:
    def test_requests_and_logs(self, develop: Develop) -> None:
        """A line for each request, and what its script logs before it; no colours in a file."""
        script = "function main(env, con) con:log('one') print('two') con:status(404) end"
        dev = develop({"a.lua": script, "public/s.css": "b {}"})
        dev.ask("/a.lua?x=1")
        dev.ask("/s.css")
        lines = dev.logged("/s.css").splitlines()
        at = next(number for number, line in enumerate(lines) if line.endswith("one"))
        assert lines[at] == "a.lua: GET /a.lua?x=1: one"
        assert lines[at + 1] == "a.lua: GET /a.lua?x=1: two"
        assert re.fullmatch(r"404  GET  /a\.lua\?x=1  \d+\.\d ms  \d+ KB", lines[at + 2])
        assert re.fullmatch(r"200  GET  /s\.css  \d+\.\d ms", lines[at + 3])
        assert "\x1b" not in dev.log()

    def test_a_path_cannot_colour_it(self, develop: Develop) -> None:
        """What a client sends is text."""
        dev = develop({"a.lua": HELLO})
        with socket.create_connection(("127.0.0.1", dev.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /a.lua?\x1b[31mred HTTP/1.0\r\nHost: localhost\r\n\r\n")
            while connection.recv(4096):
                pass
        assert "\x1b" not in dev.log()

    @pytest.mark.parametrize(
        ("variables", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
    )
    def test_colours(self, tmp_path: Path, variables: dict[str, str], is_coloured: bool) -> None:
        """On a terminal there are colours, unless somebody does not want them."""
        (tmp_path / "index.lua").write_text(HELLO)
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "greenfcgi", "--dev", str(tmp_path), "--http", "127.0.0.1:0"],
            stdout=slave, stderr=slave, env=environment | {"TERM": "xterm"} | variables,
        )  # fmt: skip
        os.close(slave)
        shown = b""
        try:
            while b"Ctrl-C ends it" not in shown:
                shown += os.read(master, 4096)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
            os.close(master)
        assert (b"\x1b[1m" in shown) == is_coloured
        assert not is_alive(process.pid)

    def test_stray_globals(self, develop: Develop) -> None:
        """A global that a request creates is logged once, with its place; those of the file, and of init, are not."""
        dev = develop({"g.lua": """
            meant = 1
            function init() declared = 1 end
            local function work()
                total = 1
            end
            function main(env, con)
                declared, meant = 2, 2
                work()
                total = 2
                con:puts(tostring(total))
            end
        """})  # fmt: skip
        for _ in range(3):
            assert dev.ask("/g.lua").text == "2"
        hints = [line for line in dev.logged("total is a global").splitlines() if "is a global" in line]
        assert len(hints) == 1
        assert hints[0].startswith("g.lua:5: total is a global")

    def test_sessions_in_a_global(self, develop: Develop) -> None:
        """What one state of a script has, and another has not, is said where it shows."""
        dev = develop({"s.lua": """
            sessions = {}
            function main(env, con)
                if env.QUERY_STRING == "in" then sessions.ada = 1 end
                con:log("begun")
                if env.QUERY_STRING == "slow" then con:sleep(0.5) end
                con:puts(tostring(sessions.ada))
            end
        """})  # fmt: skip
        assert dev.ask("/s.lua?in").text == "1"
        thread = threading.Thread(target=dev.ask, args=("/s.lua?slow",))
        thread.start()
        dev.logged("GET /s.lua?slow: begun")
        assert dev.ask("/s.lua").text == "nil"
        thread.join()
        line = next(line for line in dev.logged("is missing here").splitlines() if "is missing here" in line)
        assert line.startswith("s.lua: sessions[ada] is missing here, although another request has set it")

    def test_rules_of_their_own(self, develop: Develop) -> None:
        """A script that has rules for globals, such as strict.lua, keeps them."""
        dev = develop({"g.lua": """
            rawset(_G, "main", false)
            setmetatable(_G, { __newindex = function(_, name) error("no global " .. name, 2) end })
            main = function(env, con) con:puts(tostring(select(2, pcall(function() stray = 1 end)))) end
        """})  # fmt: skip
        assert "no global stray" in dev.ask("/g.lua").text
