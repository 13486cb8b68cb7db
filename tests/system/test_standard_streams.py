"""A start with standard streams that are closed: nothing else takes their places."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import children
from tests.support.running import Server, until

pytestmark = pytest.mark.systems

_CLOSED = ("sh", "-c", 'exec "$@" <&- >&-', "sh")
_ALL_CLOSED = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")


@pytest.mark.parametrize("processes", [0, 1])
def test_no_file_becomes_one(tmp_path: Path, processes: int) -> None:
    """What goes to stdout is gone, and not in the file that would have been opened in its place."""
    settings = f'processes = {processes}\naccesslog = "-"\nerrorlog = "error.log"\n'
    server = Server(tmp_path, {"hello.lua": "function main() end"}, settings, before=_CLOSED)
    server.log_path = tmp_path / "error.log"
    with server:
        assert server.get("hello.lua").status == 200
        for process in [server.pid, *children(server.pid)]:
            streams = [os.readlink(f"/proc/{process}/fd/{descriptor}") for descriptor in (0, 1)]
            assert streams == [os.devnull, os.devnull]
        assert server.stop() == 0
        assert "stopped" in server.log()
        assert "GET" not in server.log()


def test_programs_have_them(tmp_path: Path) -> None:
    """A program that a script starts can write to all of them."""
    script = 'function main(_, con) con:puts(tostring(os.execute("echo >&1 && echo >&2"))) end'
    settings = 'errorlog = "error.log"\n[lua]\nallow = ["os.execute"]\n'
    server = Server(tmp_path, {"run.lua": script}, settings, before=_ALL_CLOSED)
    server.log_path = tmp_path / "error.log"
    with server:
        until(lambda: os.path.exists(server.socket_path), "the socket")
        assert server.get("run.lua").body == b"0"


def test_short_commands(tmp_path: Path) -> None:
    """A command that prints ends well, and so does one with a mistake."""
    command = [*_ALL_CLOSED, sys.executable, "-m", "greenfcgi"]
    assert subprocess.run([*command, "--version"], check=False).returncode == 0
    assert subprocess.run([*command, "--print-config", str(tmp_path / "none.toml")], check=False).returncode == 2
