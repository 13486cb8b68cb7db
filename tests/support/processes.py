"""What the kernel knows of a process: its children, its descriptors, whether it runs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

#: Seconds in which what was left by a test may end by itself.
_ENDING = 5.0


def children(pid: int | str = "self") -> list[int]:
    """The processes that one has started, with those that nobody has reaped; none when it is not there itself."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass
    return found


def descriptors(pid: int | str = "self") -> int:
    """How many a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid: int | str = "self") -> int:
    """Bytes of memory that a process has resident."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def is_alive(pid: int) -> bool:
    """It runs: it is there, and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def end_marked(name: str, value: str) -> list[str]:
    """Kill every process whose environment has this variable, but this one; returns their command lines.

    They have some seconds to end by themselves: processes whose supervisor has been killed need a moment to see it.
    """
    deadline = time.monotonic() + _ENDING
    while (found := _marked(f"{name}={value}".encode())) and time.monotonic() < deadline:
        time.sleep(0.05)
    ended = []
    for pid, command in found.items():
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            # It has ended, or is somebody else's.
            continue
        ended.append(f"{pid}: {command[:200]}")
    return ended


def _marked(mark: bytes) -> dict[int, str]:
    """The command lines of all other processes with this in their environment, by process id; zombies have none."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) == os.getpid() or mark not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            # It has ended, or is somebody else's.
            continue
        if command:
            found[int(folder.name)] = command
    return found
