"""What the kernel has counted for a server: CPU time, memory and connections, read from /proc (Linux only).

CPU time is that of every living thread of every process of the server, in user and kernel mode. Its source is
the first field of /proc/PID/task/TID/schedstat, nanoseconds on a CPU; a kernel without it gives utime + stime
of /proc/PID/stat, in ticks of usually 10 ms. A thread that ends takes its time with it; the servers here keep
theirs.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import BenchError

_PROC = Path("/proc")
_NANOSECONDS = 1e-9
_CONNECTED = "03"
_QUIET_WINDOW = 0.05
_QUIET_DEADLINE = 3.0
#: Of one CPU: a server that only keeps its timers going counts as quiet.
_QUIET_SHARE = 0.02


class Memory(NamedTuple):
    """Bytes, summed over the processes: `rss` counts a shared page in each of them, `pss` once in all."""

    rss: int
    pss: int


def process_tree(root: int) -> list[int]:
    """The process id `root` and those of all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    tree = [root]
    for pid in tree:
        tree.extend(children.get(pid, []))
    return tree


def cpu_seconds(pids: Sequence[int]) -> float:
    """Seconds of CPU that these processes have used since they began.

    Raises `BenchError` when one of them has ended: its time would be missing from the sum.
    """
    return sum(_cpu_of(pid) for pid in pids)


def memory(pids: Sequence[int]) -> Memory:
    """Resident memory of these processes, from smaps_rollup."""
    rss = pss = 0
    for pid in pids:
        for line in _read(pid, "smaps_rollup").splitlines():
            if line.startswith("Rss:"):
                rss += int(line.split()[1]) * 1024
            elif line.startswith("Pss:"):
                pss += int(line.split()[1]) * 1024
    return Memory(rss, pss)


def wait_until_quiet(pids: Sequence[int]) -> None:
    """Return when these processes have next to nothing left to do.

    Raises `BenchError` when they are still busy after three seconds.
    """
    deadline = time.monotonic() + _QUIET_DEADLINE
    used = cpu_seconds(pids)
    while time.monotonic() < deadline:
        began = time.monotonic()
        time.sleep(_QUIET_WINDOW)
        before, used = used, cpu_seconds(pids)
        if used - before < _QUIET_SHARE * (time.monotonic() - began):
            return
    raise BenchError(f"process {pids[0]} is still busy {_QUIET_DEADLINE:g} s after its last request")


def open_connections(socket: Path) -> int:
    """How many connections to a server's unix socket are open, accepted or waiting."""
    rows = (line.split() for line in (_PROC / "net" / "unix").read_text().splitlines()[1:])
    return sum(row[5] == _CONNECTED and row[-1] == str(socket) for row in rows)


def _cpu_of(pid: int) -> float:
    nanoseconds = 0
    try:
        for thread in (_PROC / str(pid) / "task").iterdir():
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
        return nanoseconds * _NANOSECONDS
    except OSError:
        fields = _stat_fields(pid)
    if not fields:
        raise BenchError(f"process {pid} of a server ended during a measurement")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name (it may hold blanks); none when it has ended."""
    try:
        return _read(pid, "stat").rpartition(")")[2].split()
    except BenchError:
        return []


def _read(pid: int, name: str) -> str:
    try:
        return (_PROC / str(pid) / name).read_text()
    except OSError as error:
        raise BenchError(f"/proc/{pid}/{name}: {error.strerror}") from error
