"""Which tasks have run, and which run now, where all processes of a supervisor see it.

A file without a name, in memory, as that of the last good versions: made before the processes are, and passed on to
those that are started later, and to a new binary. It has one record for each task, which is found by a digest of the
task's name. A process locks the first byte while it looks at a record, and a byte behind the records while a task runs;
the system takes both locks back when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import time
from typing import Final, NamedTuple

from ..system.temporary_files import nameless_file

#: Digest of the name; when it was due last, has begun and has ended last, in seconds of the epoch; whether that went
#: well; how often it has run, and failed.
_RECORD: Final = struct.Struct("=16sdddBQQ")
_SIZE: Final = 64
#: Tasks that can be told apart.
MAX_TASKS: Final = 1024
#: Where the bytes are that are locked while a task runs: behind the records.
_RUNNING: Final = _SIZE * MAX_TASKS
#: Tries to lock a record, and seconds between two of them: no process holds it for longer, unless it was stopped.
_TRIES: Final = 200
_PAUSE: Final = 0.001


class Run(NamedTuple):
    """What is known of a task. Times are seconds of the epoch; 0: never."""

    due: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    is_good: bool = True
    runs: int = 0
    failures: int = 0

    @property
    def is_running(self) -> bool:
        """It has begun, and not ended."""
        return self.began > self.ended


class TaskBoard:
    """What `descriptor` holds; without one, a new board. Raises `OSError`."""

    def __init__(self, descriptor: int = -1) -> None:
        #: To be passed on to a new binary.
        self.descriptor = descriptor if descriptor != -1 else nameless_file()
        os.ftruncate(self.descriptor, _RUNNING + MAX_TASKS)
        #: Names of those that run in this process, which a lock does not keep from itself.
        self._own: set[str] = set()

    def begin(self, name: str, due: float) -> bool | None:
        """A task is due. True: run it in this process. False: it still runs. None: another process has seen to it."""
        with _Locked(self, name) as record:
            run, now = record.read(), time.time()
            # What lies ahead was written before the clock was set back.
            if due <= run.due <= now:
                return None
            if name in self._own or not self._lock(_RUNNING + record.slot, wait=False):
                record.write(run._replace(due=due))
                return False
            ended = run.ended if run.ended < now else 0.0
            record.write(run._replace(due=due, began=now, ended=ended, runs=run.runs + 1))
        self._own.add(name)
        return True

    def end(self, name: str, is_good: bool) -> None:
        """A task that has begun in this process has ended."""
        with _Locked(self, name) as record:
            run = record.read()
            failures = run.failures + (not is_good)
            record.write(run._replace(ended=max(time.time(), run.began), is_good=is_good, failures=failures))
            self._unlock(_RUNNING + record.slot)
        self._own.discard(name)

    def run(self, name: str) -> Run:
        """What is known of a task. One whose process has died in its midst is said to run until it is due again."""
        with _Locked(self, name) as record:
            return record.read()

    def _lock(self, at: int, wait: bool) -> bool:
        for _ in range(_TRIES if wait else 1):
            try:
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
            except OSError:
                if wait:
                    time.sleep(_PAUSE)
            else:
                return True
        return False

    def _unlock(self, at: int) -> None:
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, at)

    def find(self, name: str) -> int:
        """The number of a task's record. A new one is put where there is room."""
        digest = _digest(name)
        first = int.from_bytes(digest[:4], "big") % MAX_TASKS
        for step in range(MAX_TASKS):
            slot = (first + step) % MAX_TASKS
            found = os.pread(self.descriptor, 16, slot * _SIZE)
            if found == digest:
                return slot
            if found == bytes(16):
                os.pwrite(self.descriptor, _RECORD.pack(digest, *Run()), slot * _SIZE)
                return slot
        # Configurations have come and gone: what was known of some task goes, too.
        os.pwrite(self.descriptor, _RECORD.pack(digest, *Run()), first * _SIZE)
        return first


class _Locked:
    """The record of a task, for as long as the block runs. Without the lock where a process that has it was stopped."""

    def __init__(self, board: TaskBoard, name: str) -> None:
        self._board = board
        self._name = name
        self.slot = 0

    def __enter__(self) -> _Locked:
        # One lock for all of them: the search must see what another process puts in.
        self._board._lock(0, wait=True)
        self.slot = self._board.find(self._name)
        return self

    def __exit__(self, *_: object) -> None:
        self._board._unlock(0)

    def read(self) -> Run:
        """What it says."""
        _, due, began, ended, is_good, runs, failures = _RECORD.unpack(
            os.pread(self._board.descriptor, _RECORD.size, self.slot * _SIZE)
        )
        return Run(due, began, ended, bool(is_good), runs, failures)

    def write(self, run: Run) -> None:
        """Have it say something else."""
        os.pwrite(self._board.descriptor, _RECORD.pack(_digest(self._name), *run), self.slot * _SIZE)


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).digest()
