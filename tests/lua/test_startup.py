"""scripts.startup that fails: no process says that it is ready with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from greenfcgi.errors import ExitStatus

from ..support.developing import Developing
from ..support.processes import children
from ..support.running import PATIENCE, Server, until

pytestmark = pytest.mark.pythons

Serve = Callable[..., Server]

HELLO = "function main(env, con) con:puts(word or 'hello') end"
#: What a startup script does, and what is said of it.
BROKEN = {
    "error('no database', 0)": "no database",
    "x = = 1": "unexpected symbol near '='",
    "require 'no.such'": "module 'no.such' not found:",
    "while true do end": "stopped: it ran longer than timeout, 0.3 s",
}


def with_startup(server: Server, text: str) -> None:
    """Have the configuration name a startup script."""
    (server.folder / "start.lua").write_text(text)
    server.config.write_text(f'timeout = 0.3\n{server.config.read_text()}[scripts]\nstartup = "start.lua"\n')


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("processes", [0, 2])
def test_it_stops_the_start(tmp_path: Path, processes: int, text: str) -> None:
    """With one line and the exit status of a wrong configuration; nothing is left behind."""
    server = Server(tmp_path, {"hello.lua": HELLO}, f'processes = {processes}\npidfile = "pid"\n')
    with_startup(server, text)
    ended = subprocess.run(
        [sys.executable, "-m", "greenfcgi", str(server.config)], capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert ended.returncode == ExitStatus.USAGE
    assert ended.stderr.startswith("greenfcgi: [scripts] startup: ")
    assert ended.stderr.endswith(f"{BROKEN[text]}\n")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "s.sock").exists()
    assert not (tmp_path / "pid").exists()


def test_it_does_not_replace_what_serves(serve: Serve) -> None:
    """SIGHUP: the old configuration stays; when the script is right, it is taken."""
    server = serve({"hello.lua": HELLO}, "processes = 2\n")
    with_startup(server, "word = 'new' error('no database', 0)")
    before = children(server.pid)
    server.send_signal(signal.SIGHUP)
    server.logged("could not serve ([scripts] startup: ")
    assert "no database" in server.log()
    until(lambda: children(server.pid) == before)
    assert {server.get("hello.lua").body for _ in range(8)} == {b"hello"}
    (server.folder / "start.lua").write_text("word = 'new'")
    server.send_signal(signal.SIGHUP)
    server.logged("2 processes running")
    assert {server.get("hello.lua").body for _ in range(8)} == {b"new"}


def test_it_keeps_no_process_from_coming_back(serve: Serve) -> None:
    """A configuration that has served goes on, with the last version that has loaded, and nobody waits."""
    server = Server(serve().folder / "other", {"hello.lua": HELLO}, "processes = 1\n")
    with_startup(server, "word = 'fine'")
    with server:
        assert server.get("hello.lua").body == b"fine"
        (server.folder / "start.lua").write_text("error('no database', 0)")
        (victim,) = children(server.pid)
        subprocess.run(["kill", "-9", str(victim)], check=True)
        until(lambda: children(server.pid) not in ([], [victim]))
        assert server.get("hello.lua").body == b"fine"
        (server.folder / "start.lua").write_text("word = 'again'")
        until(lambda: server.get("hello.lua").body == b"again")


def test_what_it_requires_may_lie_beside_the_scripts(tmp_path: Path) -> None:
    """It is run for a script: in the root, or else below it."""
    server = Server(tmp_path, {"shop/hello.lua": HELLO, "shop/words.lua": "word = 'found'"}, "processes = 1\n")
    with_startup(server, "require 'words'")
    with server:
        assert server.get("shop/hello.lua").body == b"found"


def test_developers_see_the_error(tmp_path: Path) -> None:
    """The developer mode goes on, and its page shows what is wrong; the next save puts it right."""
    developing = Developing(tmp_path, {"hello.lua": HELLO, "start.lua": "error('no database', 0)"}, "")
    with open(tmp_path / "config.toml", "a") as config:
        config.write('startup = "site/start.lua"\n')
    with developing:
        answer = developing.ask("/hello.lua")
        assert answer.status == 500
        assert "no database" in answer.text
        developing.write("start.lua", "word = 'right'")
        assert developing.ask("/hello.lua").text.startswith("right")
