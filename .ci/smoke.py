"""Does what the README says with an installed greenfcgi, in an empty folder, and prints its version.

    ENVIRONMENT/bin/python -I .ci/smoke.py

-I keeps the checkout out of reach. With the extra `dev`, the developer mode is tried, too.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import greenfcgi
from greenfcgi.fastcgi.client import Client, Reply

_COMMAND = Path(sys.prefix, "bin", "greenfcgi")
_PATIENCE = 30.0
_SCRIPT = """
local lib = require "luafcgid"
local visits = 0
function main(env, con)
    visits = visits + 1
    con:header("Content-Type", "text/plain")
    con:puts("Hello ", lib.parse(env.QUERY_STRING).name or "nobody", ", request ", visits, " of this state.\\n")
end
"""


def run(*arguments: str, status: int = 0) -> str:
    """What the command prints; it must end with this status, and without a traceback."""
    done = subprocess.run(
        [_COMMAND, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    assert done.returncode == status, (arguments, done)
    assert "Traceback" not in done.stderr, done
    return done.stdout + done.stderr


@contextmanager
def running(*arguments: str, until: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command while it serves; it has written `until`, and SIGTERM ends it with status 0."""
    with open("log", "w+b") as log, subprocess.Popen([_COMMAND, *arguments], stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + _PATIENCE
            while until not in Path("log").read_text():
                assert process.poll() is None, Path("log").read_text()
                assert time.monotonic() < deadline, Path("log").read_text()
                time.sleep(0.01)
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(_PATIENCE) == 0, Path("log").read_text()
        finally:
            process.kill()


def ask(path: str) -> Reply:
    """A request as a web server sends it."""
    client = Client()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect("s.sock")
        script = f"{os.getcwd()}/lua_scripts{path}"
        connection.sendall(Client.request({"SCRIPT_FILENAME": script, "SCRIPT_NAME": path, "QUERY_STRING": "name=Ada"}))
        while not (client.replies and client.replies[1].ended):
            data = connection.recv(65536)
            assert data, "the server closed the connection"
            client.receive(data)
    return client.replies[1]


def main() -> None:
    """Everything, in the current folder, which is empty."""
    assert Path(greenfcgi.__file__).is_relative_to(sys.prefix), greenfcgi.__file__
    version = run("--version")
    assert greenfcgi.__version__ in version
    assert run("--check-config", status=2) == "greenfcgi: config.toml: cannot be read: No such file or directory\n"
    Path("lua_scripts").mkdir()
    Path("lua_scripts", "greet.lua").write_text(_SCRIPT)
    Path("config.toml").write_text('bind = "unix:s.sock"\n')
    assert run("--check-config") == "config.toml: OK\n"
    Path("printed.toml").write_text(run("--print-config"))
    assert run("--check-config", "printed.toml") == "printed.toml: OK\n"
    assert "Hello Ada, request 1 of this state." in run("--try", "/greet.lua?name=Ada")
    Path("config.lua").write_text("workers = 4 states = workers * 2")
    assert "\nworkers = 4\n" in run("--import", "config.lua")
    with running("config.toml", until=" serves "):
        for number in (1, 2):
            reply = ask("/greet.lua")
            assert reply.body == b"Hello Ada, request %d of this state.\n" % number, reply
    assert not Path("s.sock").exists()
    if importlib.util.find_spec("whitenoise"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            at = f"127.0.0.1:{free.getsockname()[1]}"
        with (
            running("--dev", "lua_scripts", "--http", at, until=at),
            urllib.request.urlopen(f"http://{at}/greet.lua?name=Ada", timeout=_PATIENCE) as page,
        ):
            assert b"Hello Ada" in page.read()
    for page in ("man1/greenfcgi.1", "man5/greenfcgi.toml.5"):
        assert Path(sys.prefix, "share", "man", page).exists(), page
    docs = Path(greenfcgi.__file__).parent / "docs"
    assert (docs / "settings.md").exists()
    print(version, end="")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        main()
