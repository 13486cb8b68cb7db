"""A real Redis for tests: redis-server in a process of its own, on a unix socket in a folder."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

from .running import PATIENCE, until

#: Where it is; None: tests with it are skipped.
PROGRAM = shutil.which("redis-server")


class RedisServer:
    """Use it as a context manager. `options` are those of redis-server, without their dashes."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.path = folder / "redis.sock"
        #: For [shared] of config.toml.
        self.url = f"unix:{self.path}"
        self._folder = folder
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert PROGRAM is not None
        options = ["unixsocket", str(self.path), "port", "0", "save", "", "appendonly", "no", *self._options]
        arguments = [f"--{option}" if number % 2 == 0 else option for number, option in enumerate(options)]
        self.process = subprocess.Popen(
            [PROGRAM, *arguments], cwd=self._folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(self._answers, "redis-server's start")

    def _answers(self) -> bool:
        try:
            # With a password it answers, too, that it wants one.
            return self.command("PING")[:1] in (b"+", b"-")
        except OSError:
            return False

    def command(self, *words: str) -> bytes:
        """Send one command, and return the first bytes of the reply as they are."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self.path))
            connection.sendall((" ".join(words) + "\r\n").encode())
            return connection.recv(65536)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
            self.process = None
            self.path.unlink(missing_ok=True)
