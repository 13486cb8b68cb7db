"""The real server for tests: `greenfcgi config.toml` in a process of its own, and a client that speaks to it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from greenfcgi.fastcgi.client import Client, Reply

#: Seconds that anything may take before a test gives up on it; slow machines can have more.
PATIENCE = 10 * float(os.environ.get("TEST_PATIENCE", "1"))


def until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait until `condition()` is true, and return what it returned."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not come true in {PATIENCE:g} s"
        time.sleep(0.005)


class Connection:
    """A connection to the server, for whatever bytes a test wants to send."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        if isinstance(address, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self.client = Client()
        #: The server has closed the connection.
        self.closed = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def receive_some(self) -> None:
        """Wait for the next bytes, or for the end of the connection."""
        data = self.socket.recv(65536)
        self.closed = not data
        self.client.receive(data)

    def reply(self, request_id: int = 1) -> Reply:
        """Wait for END_REQUEST of a request."""
        replies = self.client.replies
        while not (request_id in replies and replies[request_id].ended):
            self.receive_some()
            assert not self.closed or (request_id in replies and replies[request_id].ended), (
                f"the server closed the connection before request {request_id} had ended"
            )
        return replies.pop(request_id)

    def truncated(self, request_id: int = 1) -> Reply:
        """A reply that is cut: the connection ends, by a reset where there is one, and no END_REQUEST comes."""
        try:
            self.until_closed()
        except ConnectionResetError:
            self.closed = True
        reply = self.client.replies.pop(request_id)
        assert not reply.stdout_ended
        assert reply.ended is None
        return reply

    def until_closed(self) -> Client:
        """Read all that comes until the server closes the connection."""
        while not self.closed:
            self.receive_some()
        return self.client


class Running:
    """A process with a folder of scripts and a log; `start` makes it. Ended by the end of the block."""

    root: Path
    log_path: Path
    process: subprocess.Popen[bytes] | None = None

    def has_ended(self) -> bool:
        """It was started, and has ended."""
        return self.process is not None and self.process.poll() is not None

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def write(self, name: str, text: str) -> Path:
        """Save a file below the root as a simple program does: it is emptied, and written anew."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def log(self) -> str:
        """What it has written to its terminal, or to its log, so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def logged(self, text: str) -> str:
        """Wait until the log has `text`, and return the whole log."""
        until(lambda: text in self.log(), f"{text!r} in the log")
        return self.log()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, wait for the end, and return the exit status."""
        assert self.process is not None
        self.send_signal(number)
        return self.process.wait(PATIENCE)


class Server(Running):
    """A server process with scripts of its own in a folder. Use it as a context manager.

    `settings` is TOML for the top level and the tables; `bind`, `heartbeat` and `processes = 0` are added unless it
    has them. `before` is a command that becomes the server's, such as prlimit.
    """

    def __init__(
        self,
        folder: Path,
        scripts: Mapping[str, str] | None = None,
        settings: str = "",
        *,
        arguments: tuple[str, ...] = (),
        before: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.root = folder / "lua_scripts"
        self.root.mkdir(parents=True, exist_ok=True)
        self.socket_path = str(folder / "s.sock")
        #: Where `connect` goes.
        self.address: str | tuple[str, int] = self.socket_path
        for name, text in (scripts or {}).items():
            self.write(name, text)
        self.config = folder / "config.toml"
        settings = textwrap.dedent(settings)
        if "bind =" not in settings:
            settings = f'bind = "unix:{self.socket_path}"\n' + settings
        if "heartbeat =" not in settings:
            settings = "heartbeat = 0.05\n" + settings
        if "processes =" not in settings:
            settings = "processes = 0\n" + settings
        self.config.write_text(settings)
        self.log_path = folder / "stderr.log"
        self._arguments = arguments
        self._before = before

    def __enter__(self) -> Server:
        if self.process is None:
            self.start()
        return self

    def start(self) -> None:
        """Start the process, and wait until it listens."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self._before, sys.executable, "-m", "greenfcgi", *self._arguments, str(self.config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until(lambda: " serves " in self.log() or self.has_ended(), "the server's start")
        assert not self.has_ended(), f"the server did not start:\n{self.log()}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def use_logged_address(self) -> None:
        """Connect to where the log says that it listens: to port 0, which has become another."""
        found = re.search(r" on 127\.0\.0\.1:(\d+)", self.log())
        if found:
            self.address = "127.0.0.1", int(found[1])

    def connect(self, address: str | tuple[str, int] | None = None) -> Connection:
        """A new connection, to the unix socket unless another address is given."""
        return Connection(address or self.address)

    def params(self, script: str, **more: str) -> dict[str, str]:
        """The params of a GET of a script, with some added or replaced."""
        name, _, query = script.partition("?")
        params = {
            "SCRIPT_FILENAME": f"{self.root}/{name}",
            "SCRIPT_NAME": f"/{name}",
            "REQUEST_METHOD": "GET",
            "REQUEST_URI": f"/{script}",
            "QUERY_STRING": query,
            "CONTENT_LENGTH": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "192.0.2.1",
        }
        return params | more

    def request(self, script: str, **more: str) -> bytes:
        """The records of a GET of a script."""
        return Client.request(self.params(script, **more))

    def get(self, script: str, stdin: bytes = b"", **more: str) -> Reply:
        """One request on a connection of its own; a body makes it a POST."""
        if stdin:
            more = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(stdin))} | more
        with self.connect() as connection:
            connection.send(Client.request(self.params(script, **more), stdin))
            return connection.reply()

    def get_truncated(self, script: str, **more: str) -> Reply:
        """One request on a connection of its own, whose reply is cut."""
        with self.connect() as connection:
            connection.send(self.request(script, **more))
            return connection.truncated()
