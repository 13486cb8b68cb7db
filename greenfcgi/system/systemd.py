"""What systemd expects of a service, without its library: socket activation, notifications, the watchdog.

sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3). Everything here does nothing where systemd does not ask for it.
"""

from __future__ import annotations

import os
import socket
import time

#: The first descriptor that is handed over.
_FIRST = 3


def notify(*assignments: str) -> None:
    """Notify the service manager: "READY=1", "STATUS=...". Never raises."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(path)
            manager.send("\n".join(assignments).encode())
    except OSError:
        # There is nobody to report it to.
        pass


def reloading() -> None:
    """Notify that the configuration is being reloaded; `notify("READY=1")` ends that."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog() -> float:
    """Seconds between two `notify("WATCHDOG=1")`, half the manager's timeout; 0 where it expects none."""
    expected_pid = os.environ.get("WATCHDOG_PID", "")
    if expected_pid and expected_pid != str(os.getpid()):
        return 0.0
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdecimal() else 0.0


def listening() -> list[int]:
    """The descriptors of sockets from systemd, whose variables are removed from the environment."""
    expected_pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if expected_pid != str(os.getpid()) or not count.isdecimal():
        return []
    numbers = list(range(_FIRST, _FIRST + int(count)))
    for number in numbers:
        os.set_inheritable(number, False)
    return numbers
