"""What goes wrong in a server's life, under load: bad scripts, killed processes, full disks, clients that vanish."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from greenfcgi.fastcgi.client import Client

from ..support.load import Load
from ..support.processes import children, descriptors
from ..support.running import Server, until

Serve = Callable[..., Server]

HELLO = "function main(env, con) con:puts('hello') end"

#: Scripts that do harm, and the statuses that they may be answered with.
HARM = {
    "compute": ("while true do end", {504}),
    "swallow": ("while true do pcall(function() while true do end end) end", {504}),
    "sleep": ("con:sleep(3600)", {504}),
    "memory": ("local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end", {500}),
    "swallowed": ("local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(1e5) .. #t end) end", {500}),
    "error": ("error({})", {500}),
    "recursion": ("local function f() return 1 + f() end f()", {500}),
    "gsub": ("local function f() return (('x'):gsub('.', f)) end f()", {500}),
    "exit": ("os.exit()", {500}),
    "coroutines": ("local function f() return coroutine.wrap(f)() end f()", {500}),
    "output": ("while true do con:puts(('x'):rep(100000)) end", {200}),
    "garbage": ("while true do collectgarbage() end", {504}),
    "strings": ("while true do local s = ('x'):rep(1e6) end", {504}),
}  # fmt: skip


def test_harmful_scripts_under_load(serve: Serve) -> None:
    """While scripts do their worst, again and again, hello is answered without one failure; the process stays."""
    scripts = {f"{name}.lua": f"function main(env, con) {text} end" for name, (text, _) in HARM.items()}
    server = serve({"hello.lua": HELLO} | scripts, 'timeout = 1\n[lua]\nmemory = "4M"\n')
    with Load(server, "hello.lua", b"hello", connections=2, pause=0.001) as load:
        for _ in range(2):
            connections = {name: server.connect() for name in HARM}
            for name, connection in connections.items():
                connection.send(server.request(f"{name}.lua"))
            for name, connection in connections.items():
                with connection:
                    replied = connection.truncated if name == "output" else connection.reply
                    # On a busy machine, the others may have taken all of a script's time.
                    assert replied().status in HARM[name][1] | {504}, name
        load.until(100)
    assert load.failures == []
    assert "the server failed" not in server.log()


def bomb(length: int) -> str:
    """A pattern that takes the matcher for ever: no hook is called in there."""
    return f"('a'):rep({length}):find(('a*'):rep(12) .. 'b')"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"local function deep() return ({bomb(60)}) end\nfunction main() deep() end", "bad.lua:1: in "),
        # Elsewhere than on LuaJIT, the server can interrupt them.
        (
            "function main()\n getmetatable(newproxy(true)).__gc = function() while true do end end\n"
            " collectgarbage()\nend",
            "",
        ),
        ("function main()\n local n = 0 while true do n = n + 1 end\nend", "bad.lua:2: in "),
        # Others have run since it began.
        (f"function main(env, con)\n con:sleep(0.1)\n return ({bomb(60)})\nend", "bad.lua:3: in "),
    ],
    ids=["pattern", "finalizer", "compiled", "wait"],
)
def test_what_no_hook_can_stop(serve: Serve, text: str, place: str) -> None:
    """The process that stalls logs the script and is replaced; the other one answers all the while."""
    is_compiled = "n = n + 1" in text
    version = "luajit21" if is_compiled or "newproxy" in text else "lua54"
    server = serve(
        {"hello.lua": HELLO, "bad.lua": text},
        f'processes = 2\ntimeout = 0.5\n[lua]\nversion = "{version}"\njit = {str(is_compiled).lower()}\n',
    )
    before = set(children(server.pid))
    assert len(before) == 2
    with Load(server, "hello.lua", b"hello", connections=2, keep=False, pause=0.001) as load:
        with server.connect() as connection:
            connection.send(server.request("bad.lua"))
            until(lambda: len(before & set(children(server.pid))) == 1 and len(children(server.pid)) == 2, "another")
        load.until(100)
    # It may have accepted connections whose requests came after it had stalled.
    assert len(load.failures) <= 2, load.failures
    log = server.logged("stuck in ")
    assert re.search(r"\[CRITICAL\] stuck in \S*/bad\.lua: GET /bad\.lua", log)
    assert place in log.partition("Lua traceback:")[2]


def is_replaced(server: Server, victim: int) -> bool:
    """A process has gone, and there are two all the same."""
    there = children(server.pid)
    return victim not in there and len(there) == 2


def pause(seconds: float, *loads: Load) -> None:
    """Let so much time pass, unless something goes wrong."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end or any(load.failures for load in loads))


def test_a_killed_process_is_replaced(serve: Serve) -> None:
    """kill -9 under load costs what was under way in that process, and nothing else."""
    server = serve({"hello.lua": HELLO}, "processes = 2\n")
    with Load(server, "hello.lua", b"hello", connections=4, keep=False) as load:
        for _ in range(3):
            load.until(50)
            victim = children(server.pid)[0]
            os.kill(victim, signal.SIGKILL)
            until(partial(is_replaced, server, victim))
            assert len(load.failures) <= 3 * 4, load.failures
            load.failures.clear()
    assert server.log().count("SIGKILL") >= 3


@pytest.mark.parametrize("address", ["unix", "tcp"])
def test_reloads_lose_nothing(serve: Serve, address: str) -> None:
    """With the configuration read again every second under load, on kept and on new connections, no request fails."""
    bind = 'bind = "127.0.0.1:0"\n' if address == "tcp" else ""
    server = serve({"hello.lua": HELLO}, bind + "processes = 2\n")
    server.use_logged_address()
    generations: set[tuple[int, ...]] = set()
    with (
        Load(server, "hello.lua", b"hello", connections=6) as kept,
        Load(server, "hello.lua", b"hello", connections=2, keep=False) as fresh,
    ):
        while kept.done + fresh.done < 20_000 or len(generations) < 5:
            generations.add(tuple(children(server.pid)))
            server.send_signal(signal.SIGHUP)
            pause(1, kept, fresh)
            assert kept.failures == fresh.failures == []
    assert kept.failures == fresh.failures == []
    assert kept.done
    assert fresh.done
    print(f"{kept.done} requests on kept connections, {fresh.done} on new ones, {len(generations)} generations")


def test_clients_that_vanish(serve: Serve) -> None:
    """Clients that go in the middle of anything leave nothing behind: no descriptor, no worker, no state in use."""
    wait = "function main(env, con) con:puts(con:gets()) con:flush() con:sleep(0.05) con:puts('x') end"
    server = serve({"hello.lua": HELLO, "wait.lua": wait}, "workers = 8\ntimeout = 5\n")
    before = descriptors(server.pid)
    chosen = random.Random(7)
    whole = Client.request(server.params("wait.lua", REQUEST_METHOD="POST"), b"y" * 100_000, keep_conn=True)
    with Load(server, "hello.lua", b"hello", connections=2, pause=0.001) as load:
        for _ in range(300):
            with server.connect() as connection:
                connection.send(whole[: chosen.randrange(len(whole) + 1)])
                if chosen.random() < 0.3:
                    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        load.until(20)
    assert load.failures == []
    until(lambda: descriptors(server.pid) <= before, "all descriptors to be closed")
    assert server.get("wait.lua", b"z").body == b"zx"


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 4 MB."""
    with tempfile.TemporaryDirectory() as name:
        command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0777", "none", name]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a file system cannot be mounted here")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


def fill(disk: Path) -> Path:
    """Take all that is left of a disk."""
    path = disk / "filler"
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    return path


def test_a_full_disk_for_logs(tmp_path: Path, disk: Path) -> None:
    """Requests are answered while the logs' disk is full; afterwards the logs say how many lines are lost."""
    settings = f'accesslog = "{disk}/access.log"\nerrorlog = "{disk}/error.log"\n'
    server = Server(tmp_path, {"hello.lua": HELLO, "log.lua": "function main(env, con) con:log('lines') end"}, settings)
    server.log_path = disk / "error.log"
    with server:
        check_full_disk(server, disk)


def check_full_disk(server: Server, disk: Path) -> None:
    """Fill the disk that the logs are on, and free it again."""
    assert server.get("log.lua").status == 200
    filler = fill(disk)
    for _ in range(200):
        assert server.get("hello.lua").body == b"hello"
        assert server.get("log.lua").status == 200
    filler.unlink()
    until(lambda: server.get("log.lua").status == 200 and "were lost" in (disk / "error.log").read_text())
    until(lambda: server.get("hello.lua").body == b"hello" and "were lost" in (disk / "access.log").read_text())


def test_a_full_disk_for_bodies(serve: Serve, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that cannot be kept is a 500 with a line in the log, and small ones go on."""
    monkeypatch.setenv("TMPDIR", str(disk))
    server = serve({"length.lua": "function main(env, con) con:puts(#con:gets()) end"}, '[scripts]\nmax_post = "4M"')
    free = os.statvfs(disk).f_bfree
    assert server.get("length.lua", b"x" * 2_000_000).body == b"2000000"
    # The reply may be here before its request's file is closed.
    until(lambda: os.statvfs(disk).f_bfree == free, "the space of the body to be free again")
    filler = fill(disk)
    assert server.get("length.lua", b"x" * 2_000_000).status == 500
    server.logged("500: cannot keep the body: No space left on device")
    assert server.get("length.lua", b"x" * 100).body == b"100"
    filler.unlink()
    assert server.get("length.lua", b"x" * 2_000_000).body == b"2000000"


@pytest.mark.parametrize("processes", [0, 2])
def test_log_rotation(serve: Serve, tmp_path: Path, processes: int) -> None:
    """Logs are renamed under load, and SIGUSR1 sent: every request has its line, in one file or the next."""
    settings = f'processes = {processes}\naccesslog = "access.log"\nerrorlog = "error.log"\n'
    server = Server(tmp_path, {"hello.lua": HELLO}, settings)
    log = tmp_path / "error.log"
    server.log_path = log
    with server:
        with Load(server, "hello.lua", b"hello", connections=2, keep=False) as load:
            for number in range(5):
                load.until(50)
                for name in ("access.log", "error.log"):
                    os.rename(tmp_path / name, tmp_path / f"{name}.{number}")
                server.send_signal(signal.SIGUSR1)
                until(lambda: (tmp_path / "access.log").exists() and log.exists())
        assert load.failures == []
        assert server.stop() == 0
    lines = b"".join(path.read_bytes() for path in tmp_path.glob("access.log*"))
    assert lines.count(b"GET /hello.lua") == load.done


def test_a_reload_in_the_middle_of_a_body(serve: Serve) -> None:
    """A request that has come in half when the configuration is read again is finished where it began."""
    server = serve({"length.lua": "function main(env, con) con:puts(#con:gets()) end"}, "processes = 1\n")
    before = children(server.pid)
    request = Client.request(server.params("length.lua", REQUEST_METHOD="POST"), b"x" * 50_000, keep_conn=True)
    with server.connect() as connection:
        connection.send(request[:30_000])
        until(lambda: server.get("length.lua", b"a").body == b"1")
        server.send_signal(signal.SIGHUP)
        until(lambda: set(children(server.pid)) - set(before), "a new process")
        connection.send(request[30_000:])
        assert connection.reply().body == b"50000"
        connection.send(request)
        assert connection.reply().body == b"50000"
    until(lambda: not set(children(server.pid)) & set(before), "the old process to end")
