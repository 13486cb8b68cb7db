"""The processes of a supervisor: each is forked here, reports that it is ready, and is signalled, killed and reaped.

It is forked before gevent and lupa are imported, and imports them itself. How many there should be, and what follows
from the end of one, is not decided here.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from time import monotonic

from ..config.load import Config
from ..errors import ExitStatus, GreenfcgiError
from ..status.scoreboard import Scoreboard
from ..system.signals import Signals

#: What a process writes to its pipe when it serves; anything else is why it cannot.
READY = b"!"


class Child:
    """One process, as its supervisor sees it.

    `ready` and `traceback_pipe` are the supervisor's ends of its pipes, -1 when closed. Times are of the monotonic
    clock.
    """

    def __init__(self, pid: int, slot: int, generation: int, config: Config, ready: int, traceback_pipe: int) -> None:
        self.pid = pid
        self.slot = slot
        self.generation = generation
        self.config = config
        self.started = monotonic()
        self.is_ready = False
        #: Why it could not serve.
        self.problem = ""
        #: It has been asked to end, or is about to be killed.
        self.is_leaving = False
        #: The logs have been rotated before it was ready: it reopens them then.
        self._must_reopen_logs = False
        #: When it is to be killed; None: not at all.
        self.kill_at: float | None = None
        self.ready = ready
        self.traceback_pipe = traceback_pipe

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            # It is reaped at the next turn.
            pass

    def leave(self, number: signal.Signals | None, seconds: float) -> None:
        """Ask it to end by a signal (None: it could not react to one), and have it killed after so many seconds."""
        self.is_leaving = True
        self.kill_at = monotonic() + seconds
        if number is not None:
            self.send(number)

    def read_ready(self) -> None:
        """Read from its pipe, which has something: it is ready, or has ended."""
        message = os.read(self.ready, 4096)
        self.is_ready = message == READY
        if not self.is_ready and message:
            self.problem = message.decode("utf-8", "replace")
        if self.is_ready and self._must_reopen_logs:
            self.send(signal.SIGUSR1)
        os.close(self.ready)
        self.ready = -1

    def reopen_logs(self) -> None:
        """Have it reopen its logs, now or when it is ready: before that, the signal would end it."""
        if self.is_ready:
            self.send(signal.SIGUSR1)
        else:
            self._must_reopen_logs = True

    def request_traceback(self) -> None:
        """Ask where it is stuck; it writes that to the error log."""
        try:
            os.write(self.traceback_pipe, b"?")
        except OSError:
            # It does not listen yet, or is gone.
            pass

    def close(self) -> None:
        """Close the pipes of a process that has been reaped."""
        for descriptor in (self.ready, self.traceback_pipe):
            if descriptor != -1:
                os.close(descriptor)
        self.ready = self.traceback_pipe = -1


class Children:
    """All processes there are.

    `lifeline` is a pipe that nobody writes to: when the supervisor ends, its processes see it closed.
    """

    def __init__(self, scoreboard: Scoreboard, signals: Signals, lifeline: tuple[int, int]) -> None:
        self._scoreboard = scoreboard
        self._signals = signals
        self._lifeline = lifeline
        self._by_pid: dict[int, Child] = {}

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_pid.values()))

    def __len__(self) -> int:
        return len(self._by_pid)

    def start(self, generation: int, config: Config, work: Callable[[int, int, int, int], int]) -> Child | None:
        """Fork another one, which does `work`. None when no slot is free. Raises `OSError`.

        `work` gets the slot and the process's ends of the pipes (ready, lifeline, traceback_pipe), and returns the exit
        status.
        """
        taken = {child.slot for child in self}
        slot = next((slot for slot in range(1, self._scoreboard.slots) if slot not in taken), None)
        if slot is None:
            return None
        ready, is_ready = os.pipe()
        try:
            traceback_pipe, ask = os.pipe()
        except OSError:
            os.close(ready)
            os.close(is_ready)
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        # Pages that are shared stay so: the collector does not write to what is frozen.
        gc.collect()
        gc.freeze()
        self._signals.block()
        try:
            pid = os.fork()
        except OSError:
            self._signals.unblock()
            for descriptor in (ready, is_ready, traceback_pipe, ask):
                os.close(descriptor)
            raise
        if pid == 0:
            status: int = ExitStatus.BOOT
            try:
                self._become_child(ready, ask)
                status = work(slot, is_ready, self._lifeline[0], traceback_pipe)
            except GreenfcgiError as problem:
                status = ExitStatus.USAGE
                _report(is_ready, str(problem))
            except BaseException as problem:
                _report(is_ready, f"a process failed: {problem!r}")
            finally:
                # Not through the rest of the supervisor, whose copy this is.
                os._exit(status)
        self._signals.unblock()
        os.close(is_ready)
        os.close(traceback_pipe)
        child = Child(pid, slot, generation, config, ready, ask)
        self._by_pid[pid] = child
        return child

    def _become_child(self, *foreign: int) -> None:
        for descriptor in (*foreign, self._lifeline[1]):
            os.close(descriptor)
        for child in self:
            child.close()
        self._signals.forget()

    def reap(self) -> Sequence[tuple[int, Child | None, int]]:
        """(process id, `Child`, wait status) of each that has ended since the last call.

        In a container, the supervisor may be process 1, which inherits every orphan: they are reaped, too, with None
        for a `Child`.
        """
        ended: list[tuple[int, Child | None, int]] = []
        while (found := _wait()) is not None:
            pid, status = found
            child = self._by_pid.pop(pid, None)
            if child is not None:
                if child.ready != -1:
                    child.read_ready()
                child.close()
            ended.append((pid, child, status))
        return ended


def _wait() -> tuple[int, int] | None:
    try:
        found = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return found if found[0] else None


def _report(ready: int, problem: str) -> None:
    try:
        os.write(ready, problem.encode("utf-8", "replace"))
    except OSError:
        # It has been ready, and the supervisor has closed its end.
        print(f"greenfcgi: {problem}", file=sys.stderr, flush=True)


def describe_exit(status: int) -> str:
    """A wait status in words: "SIGKILL", "exit status 3"."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        # Real-time signals have no names.
        return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"exit status {os.WEXITSTATUS(status)}"
