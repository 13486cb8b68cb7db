"""Programs that scripts run: what is behind os.execute and io.popen where `lua.allow` names them.

Each is a shell in a process group of its own, in the directory of its script, and is waited for without blocking
anybody else. It has no descriptors of the server's; what it writes to stderr goes to the error log, line by line.
When the request ends, the programs that the script has not waited for are killed with all that they have started.

Only scalars cross over to Lua, which knows a program by a number. What a file object can do is in `programs.lua`.
Uses neither subprocess nor a fork of its own: these cost memory, and copy the page tables of a large process.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from gevent import get_hub
from gevent.event import Event

from ..lua.bridge import Bridge, ModuleFunction, Outcome
from ..lua.budget import LATE, SLOW
from ..system.portable import child_end, descriptors

#: Bytes that are read at once, so that a large output makes neither the server nor the state grow.
_PART = 65536
#: The same of stderr: a thousand lines to log at once would hold up others.
_ERRORS = 2048
#: A longer line of stderr is logged in pieces; with what is read at once, less than what the log cuts.
_MAX_LINE = 4096
#: Seconds between SIGTERM and SIGKILL.
_GRACE = 0.3
#: Seconds between two looks at a program where the system does not report its end.
_LOOKS = 0.01
#: Programs that one script may have at a time.
_MAX_PROGRAMS = 64
#: What each takes of the process's descriptors: its pipe, its stderr, and its pidfd.
_DESCRIPTORS = 3

#: Signals that Python or a process of a supervisor does not listen to; programs do.
_IGNORED = (
    signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip

#: The programs of all states that have not been reaped yet.
_alive: set[Program] = set()


class Program:
    """One shell with its descriptors. `log_line` takes the lines of its stderr. Raises `OSError`.

    `mode` is b"r" (its output is read), b"w" (its input is written) or b"" (neither).
    """

    __slots__ = (
        "_errors",
        "_line",
        "_log_line",
        "_pid",
        "_pidfd",
        "_watchers",
        "ended",
        "pipe",
        "pipe_ready",
        "status",
        "written",
    )  # fmt: skip

    def __init__(self, command: bytes, mode: bytes, log_line: Callable[[bytes], None]) -> None:
        self._log_line = log_line
        self._line = b""
        #: As waitpid returns it; None until it has been reaped.
        self.status: int | None = None
        #: Of what is being written, so much has been.
        self.written = 0
        #: Set when it has ended, before it is reaped.
        self.ended = Event()
        self._pid, self.pipe, self._errors = _spawn(command, mode)
        _alive.add(self)
        loop = get_hub().loop
        #: Tells when the pipe can be read or written.
        self.pipe_ready: Any = loop.io(self.pipe, 1 if mode == b"r" else 2) if mode else None
        self._pidfd = child_end.descriptor(self._pid)
        end = loop.timer(_LOOKS, _LOOKS) if self._pidfd < 0 else loop.io(self._pidfd, 1)
        end.start(self._look)
        errors = loop.io(self._errors, 1)
        errors.start(self.read_errors)
        self._watchers: dict[str, Any] = {"end": end, "errors": errors}

    def close_pipe(self) -> None:
        """The script is done with it."""
        if self.pipe >= 0:
            self.pipe_ready.stop()
            self.pipe_ready.close()
            os.close(self.pipe)
            self.pipe = -1

    def reap(self) -> int:
        """It has ended: give everything back. Returns its status."""
        self._give_back()
        if self.status is None:
            _, self.status = os.waitpid(self._pid, 0)
        _alive.discard(self)
        return self.status

    def end(self) -> None:
        """End it with all that it has started, and reap it soon. Does not wait.

        It is not reaped before its group has been killed: its process id, which is the group's, may be another's then.
        """
        self._give_back()
        self._signal(signal.SIGTERM)
        timer = self._watchers["kill"] = get_hub().loop.timer(_GRACE, _GRACE)
        timer.start(self.kill)

    def kill(self) -> None:
        """End it at once, with all that it has started, and reap it when it has ended.

        Does not wait, since a disk that hangs may hold it for long; then it is reaped later, or by whoever is left.
        """
        if self.status is None:
            self._signal(signal.SIGKILL)
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if not pid:
                return
            self.status = status
        _alive.discard(self)
        timer = self._watchers.pop("kill", None)
        if timer is not None:
            timer.close()

    def _signal(self, number: int) -> None:
        # Not there yet, or all of them run as somebody else by now.
        with suppress(OSError):
            os.killpg(self._pid, number)

    def _look(self) -> None:
        if self._has_ended():
            self._watchers["end"].stop()
            self.ended.set()

    def _has_ended(self) -> bool:
        has_ended, self.status = child_end.look(self._pid)
        return has_ended

    def read_errors(self) -> bool:
        """Log the next lines that it has written to stderr. True when there may be more."""
        try:
            data = os.read(self._errors, _ERRORS)
        except BlockingIOError:
            return False
        *lines, self._line = (self._line + data).split(b"\n")
        if not data or len(self._line) >= _MAX_LINE:
            lines.append(self._line)
            self._line = b""
        for line in filter(None, lines):
            self._log_line(line)
        if not data:
            self._watchers["errors"].stop()
        return len(data) == _ERRORS

    def _give_back(self) -> None:
        """Give its descriptors back, and no longer look at it."""
        self.close_pipe()
        if self._errors < 0:
            return
        # What it wrote last may have come together with its end.
        self.read_errors()
        if self._line:
            self._log_line(self._line)
        for watcher in self._watchers.values():
            watcher.stop()
            watcher.close()
        self._watchers.clear()
        os.close(self._errors)
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._errors = self._pidfd = -1


class Programs:
    """The programs of one state.

    A script may have kept the number of a program that was ended with an earlier request.
    """

    __slots__ = ("_bridge", "_directory", "_last", "_programs")

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        quoted = os.fsencode(bridge.directory).replace(b"'", b"'\\''")
        # On the same line as the command, so that the shell counts lines right.
        self._directory = b"cd '" + quoted + b"' || exit; "
        self._last = 0
        self._programs: dict[int, Program] = {}

    def start(self, command: bytes, mode: bytes) -> Outcome:
        """Start a program, and return its number; or (nil, problem, errno)."""
        if len(self._programs) >= _MAX_PROGRAMS or not self._bridge.take_descriptors(_DESCRIPTORS):
            return self._problem(OSError(24, "Too many open files"))
        try:
            # C's strings end at a zero byte.
            program = Program(self._directory + command.partition(b"\0")[0], mode, self._log_line)
        except OSError as problem:
            self._bridge.give_descriptors(_DESCRIPTORS)
            return self._problem(problem)
        self._last += 1
        self._programs[self._last] = program
        return self._last

    def read(self, number: int) -> Outcome:
        """The next bytes of a program's output, "" at its end. A number: call again, as in `Answer`."""
        program = self._programs.get(number)
        while program is not None and program.pipe >= 0:
            try:
                data = os.read(program.pipe, _PART)
            except BlockingIOError:
                answer = self._wait_for_pipe(program)
                if answer is not None:
                    return answer
                continue
            except OSError as problem:
                return self._problem(problem)
            if not data:
                # A script that forgets to close it holds no descriptor.
                program.close_pipe()
            return self._bridge.text(data)
        return b""

    def write(self, number: int, data: bytes) -> Outcome:
        """Write to a program's input. Returns ""; a number: call again with the same, as in `Answer`."""
        program = self._programs.get(number)
        if program is None:
            return self._problem(OSError(9, "Bad file descriptor"))
        view = memoryview(data)
        while program.written < len(data):
            try:
                program.written += os.write(program.pipe, view[program.written : program.written + _PART])
            except BlockingIOError:
                answer = self._wait_for_pipe(program)
                if answer is not None:
                    return answer
            except OSError as problem:
                program.written = 0
                return self._problem(problem)
        program.written = 0
        return b""

    def finish(self, number: int) -> Outcome:
        """Close the pipe, wait until the program has ended, and return ("", status as waitpid returns it)."""
        program = self._programs.get(number)
        if program is None:
            return self._problem(OSError(10, "No child processes"))
        program.close_pipe()
        while not program.ended.is_set():
            answer = self._bridge.wait(program.ended)
            if answer is not None:
                return answer
        while program.read_errors():
            found = self._bridge.budget.tick()
            if found in (LATE, SLOW):
                return True if found == LATE else 0
        del self._programs[number]
        self._bridge.give_descriptors(_DESCRIPTORS)
        return b"", program.reap()

    def end(self) -> None:
        """The run is over: end what the script has left. Does not wait."""
        while self._programs:
            self._programs.popitem()[1].end()
            self._bridge.give_descriptors(_DESCRIPTORS)

    def _log_line(self, line: bytes) -> None:
        self._bridge.log(b"warning", b"a program's stderr: " + line)

    def _wait_for_pipe(self, program: Program) -> Outcome:
        ready = Event()
        program.pipe_ready.start(ready.set)
        try:
            return self._bridge.wait(ready)
        finally:
            program.pipe_ready.stop()

    def _problem(self, problem: OSError) -> Outcome:
        text = (problem.strerror or str(problem)).encode()
        return self._bridge.failure(text, problem.errno or 0)


def functions(bridge: Bridge) -> Mapping[str, ModuleFunction]:
    """What `programs.lua` calls, for one state."""
    programs = Programs(bridge)
    bridge.at_end.append(programs.end)
    return {one.__name__: one for one in (programs.start, programs.read, programs.write, programs.finish)}


@atexit.register
def kill_all() -> None:
    """Leave no program behind: end those of all states at once."""
    for program in list(_alive):
        program.kill()


def _spawn(command: bytes, mode: bytes) -> tuple[int, int, int]:
    """Start a shell. Returns its process id, the server's end of its pipe (-1: none), and that of its stderr."""
    ours: list[int] = []
    theirs: list[int] = []
    try:
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        for target in (2,) if not mode else (2, 1) if mode == b"r" else (2, 0):
            read, write = os.pipe()
            ours.append(write if target == 0 else read)
            theirs.append(read if target == 0 else write)
            os.set_blocking(ours[-1], False)
            actions.append((os.POSIX_SPAWN_DUP2, theirs[-1], target))
        actions += [(os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in descriptors.inheritable()]
        pid = os.posix_spawn(
            "/bin/sh", (b"sh", b"-c", command), os.environ, file_actions=actions,
            setpgroup=0, setsigmask=(), setsigdef=_IGNORED,
        )  # fmt: skip
    except OSError:
        for descriptor in ours:
            os.close(descriptor)
        raise
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    return pid, ours[1] if mode else -1, ours[0]
