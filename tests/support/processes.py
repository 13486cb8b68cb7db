"""What the kernel knows of a process: its children, its descriptors, whether it runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path


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
    """Kill every process whose environment has this variable, but this one; returns their command lines."""
    mark = f"{name}={value}".encode()
    ended = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) == os.getpid() or mark not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            # It has ended, or is somebody else's.
            continue
        if command:
            ended.append(f"{folder.name}: {command[:200]}")
    return ended
