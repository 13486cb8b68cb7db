"""The processes of a supervisor: each is forked here, says when it is ready, and is asked, stopped and reaped.

Forks before gevent and lupa are imported: the new process imports them. When there are to be how many of them, and
what follows from the end of one, is the supervisor's business.
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

#: What a process says when it serves; anything else is why it cannot.
READY = b"!"


class Child:
    """One process. `ready` and `traceback_pipe` are the supervisor's ends of its pipes; -1 when closed."""

    def __init__(self, pid: int, slot: int, generation: int, config: Config, ready: int, traceback_pipe: int) -> None:
        self.pid = pid
        self.slot = slot
        self.generation = generation
        self.config = config
        self.started = monotonic()
        self.is_ready = False
        #: Why it could not serve.
        self.problem = ""
        #: It has been told to go.
        self.is_leaving = False
        #: The logs have been moved before it was ready: it opens them anew then.
        self.reopens = False
        #: When it is killed; None: not at all.
        self.killed_at: float | None = None
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
        """Tell it to go, unless it could not hear, and kill it after so long."""
        self.is_leaving = True
        self.killed_at = monotonic() + seconds
        if number is not None:
            self.send(number)

    def hear(self) -> None:
        """Its pipe has something: it is ready, or has ended."""
        word = os.read(self.ready, 4096)
        self.is_ready = word == READY
        if not self.is_ready and word:
            self.problem = word.decode("utf-8", "replace")
        if self.is_ready and self.reopens:
            self.send(signal.SIGUSR1)
        os.close(self.ready)
        self.ready = -1

    def reopen_logs(self) -> None:
        """Have it open its logs anew, now or when it is ready: before that, the signal would end it."""
        if self.is_ready:
            self.send(signal.SIGUSR1)
        else:
            self.reopens = True

    def request_traceback(self) -> None:
        """Ask where it is stuck; the answer goes to the error log."""
        try:
            os.write(self.traceback_pipe, b"?")
        except OSError:
            # It has not come so far, or is gone.
            pass

    def close(self) -> None:
        """It has been reaped."""
        for descriptor in (self.ready, self.traceback_pipe):
            if descriptor != -1:
                os.close(descriptor)
        self.ready = self.traceback_pipe = -1


class Children:
    """All processes there are. `work` is what each does: it gets its slot and its ends of the pipes (ready, lifeline,
    traceback_pipe), and returns its exit status.
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
        """Fork another one. None when no slot is free. Raises `OSError`."""
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
        # The pages that are shared stay so: the collector does not write to what it does not look at.
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
                _say(is_ready, str(problem))
            except BaseException as problem:
                _say(is_ready, f"a process failed: {problem!r}")
            finally:
                # Not the way out of the supervisor whose copy this is.
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
        """Those that have ended since the last call, with their wait status.

        In a container, the supervisor may be process 1, which inherits every orphan: they are reaped, too, and are no
        `Child`.
        """
        ended: list[tuple[int, Child | None, int]] = []
        while (found := _waited()) is not None:
            pid, status = found
            child = self._by_pid.pop(pid, None)
            if child is not None:
                if child.ready != -1:
                    child.hear()
                child.close()
            ended.append((pid, child, status))
        return ended


def _waited() -> tuple[int, int] | None:
    try:
        found = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return found if found[0] else None


def _say(ready: int, problem: str) -> None:
    try:
        os.write(ready, problem.encode("utf-8", "replace"))
    except OSError:
        # It has been ready, and the supervisor has closed its end.
        print(f"greenfcgi: {problem}", file=sys.stderr, flush=True)


def how(status: int) -> str:
    """A wait status in words: "SIGKILL", "exit status 3"."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        # Real-time signals have no names.
        return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"exit status {os.WEXITSTATUS(status)}"
