"""What a terminal shows while something takes longer than a second; and that nothing else gets it."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ..support.command import MODULE, environment, run
from ..support.running import PATIENCE, Server

pytestmark = pytest.mark.pythons

ERASE = "\r\x1b[K"
SLOW = "function main(env, con) con:log('began') con:sleep(2) con:puts('slow') end"


class OnTerminal:
    """A command whose stderr is a terminal."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._near, far = pty.openpty()
        self.process = subprocess.Popen(
            [*MODULE, *arguments], cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=far,
        )  # fmt: skip
        os.close(far)
        self.seen = ""

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._near)

    def shows(self, text: str, times: int = 1) -> str:
        """Wait for a text, and return all that has been shown."""
        deadline = time.monotonic() + PATIENCE
        while self.seen.count(text) < times:
            assert time.monotonic() < deadline, self.seen
            self._read()
        return self.seen

    def ended(self) -> str:
        """Wait for the end, and return all that has been shown."""
        while self._read():
            pass
        return self.seen

    def _read(self) -> bool:
        if not select.select([self._near], [], [], PATIENCE)[0]:
            return False
        try:
            data = os.read(self._near, 65536)
        except OSError:
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def slow(folder: Path) -> Path:
    """A folder with a script that takes two seconds, and a startup script that does."""
    (folder / "lua_scripts" / "slow.lua").write_text(SLOW)
    (folder / "start.lua").write_text("local t = os.time() while os.time() < t + 3 do end")
    return folder


def test_a_try_that_takes_long(slow: Path) -> None:
    """The line goes when the reply comes, which stdout alone has."""
    with OnTerminal(slow, "--try", "/slow.lua") as command:
        assert command.ended().endswith(f"began\r\n{ERASE}waiting for /slow.lua\r{ERASE}")
        assert command.process.stdout is not None
        assert command.process.stdout.read().endswith(b"\r\n\r\nslow")


def test_bytes_that_a_terminal_would_obey(slow: Path) -> None:
    """Nothing of what is waited for reaches the terminal as it is."""
    (slow / "lua_scripts" / "slow.lua").rename(slow / "lua_scripts" / "\x1b[2J.lua")
    with OnTerminal(slow, "--try", "/\x1b[2J.lua?\udcff") as command:
        assert f"{ERASE}waiting for /\\x1b[2J.lua?\\xff\r{ERASE}" in command.ended()
        assert command.process.stdout is not None
        assert command.process.stdout.read().endswith(b"\r\n\r\nslow")


def test_what_is_quick_shows_nothing(slow: Path) -> None:
    """Nor does what takes long where stderr is no terminal."""
    with OnTerminal(slow, "--try", "/echo.lua") as command:
        assert command.ended() == ""
    assert run(slow, "--try", "/slow.lua").err.endswith("began\n")


@pytest.mark.parametrize("processes", [0, 1])
def test_a_start_that_takes_long(slow: Path, processes: int) -> None:
    """scripts.startup runs before a server serves."""
    with OnTerminal(slow, "-p", str(processes), "--set", "scripts.startup=start.lua") as command:
        seen = command.shows(" serves ")
        waiting = "1 process" if processes else "scripts.startup"
        assert f"{ERASE}starting: waiting for {waiting}\r" in seen
        command.process.send_signal(signal.SIGTERM)
        assert "starting" not in command.ended()[len(seen) :]


@pytest.mark.parametrize("processes", [0, 1])
def test_a_stop_that_waits_for_requests(slow: Path, processes: int) -> None:
    """It says for how many."""
    asking = Server(slow)
    with OnTerminal(slow, "-p", str(processes)) as command:
        command.shows(" serves ")
        with asking.connect() as first, asking.connect() as second:
            for connection in (first, second):
                connection.send(asking.request("slow.lua"))
            command.shows("began", 2)
            command.process.send_signal(signal.SIGTERM)
            command.shows(f"{ERASE}stopping: waiting for 2 requests\r")
            assert first.reply().body == second.reply().body == b"slow"
        assert command.ended().rstrip().endswith(" stopped")
        assert command.process.wait(PATIENCE) == 0
