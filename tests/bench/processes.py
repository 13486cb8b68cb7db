"""Servers as child processes: started in a folder of their own, ended by process id whatever happens."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .accounting import process_tree
from .errors import BenchError

_START_DEADLINE = 15.0
_STOP_DEADLINE = 5.0
_POLL = 0.02


class Server:
    """A running server: its name, its log and its processes."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    def pids(self) -> list[int]:
        """Its first process and all that come from it."""
        return process_tree(self._process.pid)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Return when `condition` holds. Raises `BenchError`, with the end of the log, when it never does."""
        deadline = time.monotonic() + _START_DEADLINE
        while not condition():
            if self._process.poll() is not None:
                raise BenchError(f"{self.name} ended with status {self._process.returncode}{self._last_words()}")
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} is not {what} after {_START_DEADLINE:g} s{self._last_words()}")
            time.sleep(_POLL)

    def stop(self) -> None:
        """End it with SIGTERM, and what is left of it then, or after five seconds, with SIGKILL."""
        pids = self.pids()
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_DEADLINE)
                pids.remove(self._process.pid)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return ": " + " | ".join(lines[-3:]) if lines else " and left no log"


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server that stays in the foreground, its output in `folder`, until the block ends.

    It gets a session of its own, so that Ctrl-C reaches the benchmark alone, which then ends the servers in
    order.
    """
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    server = Server(name, process, log)
    try:
        yield server
    finally:
        server.stop()
