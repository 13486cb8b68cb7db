"""How long processes could run and did not get a CPU, since others had it: what a busy machine adds to latencies.

It is the second field of /proc/PID/task/TID/schedstat. A kernel without it tells of none.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

_PROC = Path("/proc")
_NANOSECONDS = 1e-9


def waited_seconds(pids: Sequence[int]) -> float:
    """Seconds that all threads of these processes have waited for a CPU since they began."""
    nanoseconds = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in (_PROC / str(pid) / "task").iterdir():
                nanoseconds += int((thread / "schedstat").read_text().split()[1])
    return nanoseconds * _NANOSECONDS
