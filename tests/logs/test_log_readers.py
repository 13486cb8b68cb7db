"""Logs that nobody reads: a pipe, a terminal, a socket, a named pipe. Requests go on, and so do signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from greenfcgi.logs.error_log import ErrorLog

from ..support.processes import children
from ..support.running import Server, until
from .test_logs import stream_replaced

KINDS = ("pipe", "terminal", "socket")
#: Writes four times what a pipe holds.
TALK = "function main(env, con) for i = 1, 1300 do con:log(('x'):rep(200)) end con:puts('said') end"


@contextmanager
def stream(kind: str) -> Iterator[tuple[int, int]]:
    """(reader, writer): what is written to the second comes from the first, which nobody reads."""
    if kind == "terminal":
        near, far = os.openpty()
        attributes = termios.tcgetattr(far)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(far, termios.TCSANOW, attributes)
    elif kind == "socket":
        near, far = (end.detach() for end in socket.socketpair())
    else:
        near, far = os.pipe()
    os.set_blocking(near, False)
    try:
        yield near, far
    finally:
        os.close(near)
        os.close(far)


def everything(reader: int) -> bytes:
    """What can be read now."""
    found = b""
    try:
        while data := os.read(reader, 65536):
            found += data
    except BlockingIOError:
        pass
    return found


@contextmanager
def started(server: Server, stderr: int) -> Iterator[Server]:
    """The server with another stderr; no test can read what it says there."""
    server.process = subprocess.Popen(
        [sys.executable, "-m", "greenfcgi", str(server.config)],
        stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
    )  # fmt: skip

    def answers() -> bool:
        try:
            server.connect().socket.close()
        except OSError:
            return False
        return True

    with server:
        until(answers, "the server's start")
        yield server


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("processes", [0, 2])
def test_nobody_reads_stderr(tmp_path: Path, kind: str, processes: int) -> None:
    """Requests are answered although their lines go nowhere, a process that ends is replaced, SIGTERM ends it all.

    When somebody reads again, the log says how many lines are missing.
    """
    settings = f'processes = {processes}\naccesslog = "-"\n'
    with stream(kind) as (reader, writer), started(Server(tmp_path, {"talk.lua": TALK}, settings), writer) as server:
        for _ in range(3):
            assert server.get("talk.lua").body == b"said"
        if processes:
            before = set(children(server.pid))
            os.kill(min(before), signal.SIGKILL)
            until(lambda: len(set(children(server.pid)) - before) == 1, "another process")
        assert everything(reader).count(b"x" * 200) < 3 * 1300
        for _ in range(4 * max(1, processes)):
            assert server.get("talk.lua").body == b"said"
        written = b""

        def has_reported() -> object:
            nonlocal written
            server.get("none.lua")
            written += everything(reader)
            return re.search(rb"\[WARNING\] [0-9]+ log lines were lost\r?\n", written)

        until(has_reported, "a report of the loss")
        assert server.get("talk.lua").body == b"said"
        assert server.stop() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_of_others_stays_as_it_is(kind: str) -> None:
    """Whoever shares stderr still waits at its writes: a shell would fail in strange ways otherwise."""
    with stream(kind) as (reader, writer), stream_replaced(2, writer):
        log = ErrorLog("-", "info")
        for _ in range(2000):
            log.info("x" * 200)
        assert os.get_blocking(2)
        everything(reader)
        log.close()
        log.info("lost")
        assert os.get_blocking(2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_cannot_be_opened_again(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belonged to another user, or this is no Linux: it is asked whether it has room before each write."""
    real = os.open

    def refused(path: str, flags: int, mode: int = 0o777) -> int:
        if path.startswith("/proc/self/fd/"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, mode)

    with stream(kind) as (reader, writer), stream_replaced(2, writer):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refused)
            log = ErrorLog("-", "info")
        for _ in range(2000):
            log.info("x" * 200)
        assert os.get_blocking(2)
        everything(reader)

        def goes_on() -> bool:
            log.info("again")
            return everything(reader).endswith(b"[INFO] again\n")

        until(goes_on, "the log to go on")
        log.close()
        log.info("lost")


def test_nobody_reads_a_named_pipe(tmp_path: Path) -> None:
    """The same of a log that is one; read again, it goes on."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = ErrorLog(str(path), "info")
    for _ in range(2000):
        log.info("x" * 200)
    written = everything(reader)
    log.info("again")
    written += everything(reader)
    os.close(reader)
    log.close()
    lost = sum(map(int, re.findall(rb"\[WARNING\] ([0-9]+) log lines? w", written)))
    assert lost > 1000
    assert lost + written.count(b"x" * 200) == 2000
    assert written.endswith(b"[INFO] again\n")
