"""Programs in processes that may crash: started, watched, and what failed tried again alone, and made smaller."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from . import child, served
from .child import Program, Reporter
from .programs import program, program_text
from .tree import shrink
from .world import BATCH, NOBODY

#: What no program may do.
FAILURES: Final = ("crash", "hang", "exception", "malformed", "corrupt", "leak")
#: Seconds beyond which a program that says nothing hangs. One call into C cannot be interrupted, and takes its time.
PATIENCE: Final = 60.0
#: More than the parent has open.
_MAX_DESCRIPTOR: Final = 1024
#: Frames of a process that hangs that are shown.
_FRAMES: Final = 12
#: Seconds late that are worth a line.
LATE: Final = 1.0


class Result(NamedTuple):
    """What became of a program."""

    flavour: str
    seed: int
    outcome: str
    detail: str
    #: Seconds beyond its time.
    late: float
    #: The seeds that ran in the same process before it.
    before: tuple[int, ...]

    @property
    def is_failure(self) -> bool:
        """It has done what no program may do."""
        return self.outcome.split(":")[0] in FAILURES


class Process:
    """A process that runs programs of one batch."""

    def __init__(self, flavour: str, programs: list[Program], *, whole_server: bool, patience: float) -> None:
        self._flavour = flavour
        self._patience = patience
        self._folder = Path(tempfile.mkdtemp(prefix="fuzzlua-"))
        self._left = [one.seed for one in programs]
        self._done: list[int] = []
        self._started = self._reaped = False
        self._buffer = b""
        self.deadline = time.monotonic() + patience
        self.results: list[Result] = []
        self.pipe, other = os.pipe()
        sys.stdout.flush()
        self._pid = os.fork()
        if not self._pid:
            _in_child(flavour, programs, self._folder, other, whole_server=whole_server)
        os.close(other)

    def read(self) -> bool:
        """Take what the process has told. False when it has ended."""
        data = os.read(self.pipe, 65536)
        self._buffer += data
        *whole, self._buffer = self._buffer.split(b"\n")
        for line in whole:
            self._take(json.loads(line))
        if not data:
            self._ended()
        return bool(data)

    def _take(self, said: dict[str, Any]) -> None:
        self.deadline = time.monotonic() + self._patience
        self._started = True
        if "seed" not in said:
            return
        self._add(said["seed"], said["outcome"], said["detail"], said["late"])

    def _add(self, seed: int, outcome: str, detail: str, late: float = 0.0) -> None:
        self.results.append(Result(self._flavour, seed, outcome, detail, late, tuple(self._done)))
        self._done.append(seed)
        self._left.remove(seed)

    def _ended(self) -> None:
        _, status = os.waitpid(self._pid, 0)
        self._reaped = True
        code = os.waitstatus_to_exitcode(status)
        if not self._started:
            raise RuntimeError(f"no program could be run: {self._stderr()}")
        if self._left:
            name = signal.Signals(-code).name if code < 0 else f"exit {code}"
            self._add(self._left[0], f"crash: {name}", self._stderr())
        elif code:
            # Nothing is left to run, and the end of the process is part of the last program.
            seed = self._done[-1]
            self.results.append(
                Result(self._flavour, seed, f"crash: at the end, {code}", self._stderr(), 0.0, tuple(self._done[:-1]))
            )

    def hangs(self) -> None:
        """It has said nothing for too long."""
        where = _where(self._pid)
        self.kill()
        os.waitpid(self._pid, 0)
        self._reaped = True
        self._add(self._left[0], "hang", where + self._stderr())

    def kill(self) -> None:
        """End it, with whatever it has started, unless it has ended."""
        if self._reaped:
            return
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(self._pid, signal.SIGKILL)

    def _stderr(self) -> str:
        path = self._folder / "stderr"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def close(self) -> None:
        """To be called when it has ended, and nobody listens to its pipe any more."""
        os.close(self.pipe)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def unfinished(self) -> list[int]:
        """The seeds that have not run."""
        return self._left


def _in_child(flavour: str, programs: list[Program], folder: Path, pipe: int, *, whole_server: bool) -> None:
    code = 1
    try:
        os.setsid()
        stderr = os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor, target in ((0, null), (1, null), (2, stderr)):
            os.dup2(target, descriptor)
        # What the parent listens to would stay open, and be told of again under another's number.
        os.closerange(3, pipe)
        os.closerange(pipe + 1, _MAX_DESCRIPTOR)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        os.chdir(folder)
        run = served.run if whole_server else child.run
        run(flavour, programs, folder, Reporter(pipe))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _where(pid: int) -> str:
    """Where a process that hangs is, as far as gdb can tell."""
    gdb = shutil.which("gdb")
    if gdb is None:
        return ""
    command = [gdb, "-p", str(pid), "-batch", "-nx", "-ex", f"bt {_FRAMES}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return "\n".join(line[:120] for line in done.stdout.splitlines() if line.startswith("#")) + "\n"


def run_all(
    flavours: list[str],
    first: int,
    count: int,
    *,
    jobs: int = 1,
    whole_server: bool = False,
    patience: float = PATIENCE,
) -> Iterator[Result]:
    """Run `count` programs from the seed `first` on in each flavour, in `jobs` processes at a time."""
    child.prepare()
    batches = _batches(flavours, first, count)
    selector = selectors.DefaultSelector()
    running: set[Process] = set()
    waiting: list[tuple[str, list[int]]] = []
    try:
        while True:
            while len(running) < jobs:
                batch = waiting.pop() if waiting else next(batches, None)
                if batch is None:
                    break
                programs = [Program(seed, program_text(seed, batch[0])) for seed in batch[1]]
                process = Process(batch[0], programs, whole_server=whole_server, patience=patience)
                running.add(process)
                selector.register(process.pipe, selectors.EVENT_READ, (process, batch[0]))
            if not running:
                return
            events = selector.select(1.0)
            ended = []
            for key, _ in events:
                process, flavour = key.data
                fd = key.fd
                if not process.read():
                    ended.append((process, flavour, fd))
            now = time.monotonic()
            for key in list(selector.get_map().values()):
                process, flavour = key.data
                if now > process.deadline and all(process is not one for one, _, _ in ended):
                    process.hangs()
                    ended.append((process, flavour, key.fd))
            for process, flavour, fd in ended:
                selector.unregister(fd)
                process.close()
                running.discard(process)
                if process.unfinished:
                    waiting.append((flavour, list(process.unfinished)))
            for process in [*running, *(one for one, _, _ in ended)]:
                yield from process.results
                process.results.clear()
    finally:
        for process in running:
            process.kill()


def _batches(flavours: list[str], first: int, count: int) -> Iterator[tuple[str, list[int]]]:
    at = first
    while at < first + count:
        end = min(first + count, (at // BATCH + 1) * BATCH)
        for flavour in flavours:
            yield flavour, list(range(at, end))
        at = end


def run_texts(
    flavour: str, programs: list[Program], *, whole_server: bool = False, patience: float = PATIENCE
) -> list[Result]:
    """Run programs in one process, and return what became of those that it came to."""
    child.prepare()
    process = Process(flavour, programs, whole_server=whole_server, patience=patience)
    with selectors.DefaultSelector() as selector:
        selector.register(process.pipe, selectors.EVENT_READ)
        while True:
            if selector.select(1.0):
                if not process.read():
                    break
            elif time.monotonic() > process.deadline:
                process.hangs()
                break
    process.close()
    return process.results


class Verdict(NamedTuple):
    """What is known of a failure: how to see it again, and the smallest program that shows it."""

    #: "alone", "behind others", or "once".
    when: str
    text: str


def confirm(result: Result, *, whole_server: bool = False, smaller: bool = True, patience: float = PATIENCE) -> Verdict:
    """Try a program that failed again: alone, then behind those that ran before it; and make it smaller."""
    flavour, seed = result.flavour, result.seed
    kind = result.outcome.split(":")[0]

    def fails(text: str, before: tuple[int, ...] = ()) -> bool:
        programs = [Program(one, program_text(one, flavour)) for one in before] + [Program(seed, text)]
        found = run_texts(flavour, programs, whole_server=whole_server, patience=patience)
        return any(one.seed == seed and one.outcome.split(":")[0] == kind for one in found)

    whole = program_text(seed, flavour)
    if any(fails(whole) for _ in range(2)):
        return Verdict("alone", shrink(program(seed, flavour), fails) if smaller else whole)
    if result.before and fails(whole, result.before):
        return Verdict("behind others", whole)
    return Verdict("once", whole)


def summary(counts: dict[str, Counter[str]]) -> str:
    """A table of outcomes by flavour."""
    outcomes = sorted({outcome for counter in counts.values() for outcome in counter})
    rows = [["", *outcomes, "all"]]
    rows += [
        [flavour, *(str(counter[one]) for one in outcomes), str(counter.total())] for flavour, counter in counts.items()
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
