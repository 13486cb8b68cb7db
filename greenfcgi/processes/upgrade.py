"""A new binary on the same sockets (SIGUSR2): how a supervisor passes its descriptors on to the one that it starts.

They are inherited; an environment variable says which of them is what, in lines such as "7 unix:/run/greenfcgi.sock".
"""

from __future__ import annotations

import os
import socket
import sys
from typing import NamedTuple

from ..system.listen import Bound, Open

_VARIABLE = "GREENFCGI_INHERITED"
#: Before an address: the descriptor is that of its lock.
_LOCK = "lock "
#: Before a path: the descriptor is that of the lock of this folder in memory.
_FOLDER = "folder "


class Kept(NamedTuple):
    """What processes share, and a new binary goes on with."""

    #: The descriptors of the `VersionStore` and of the `TaskBoard`; -1 for none.
    versions: int
    tasks: int
    #: The path of the `MemoryFolder`, and the descriptor of its lock; None for none.
    folder: tuple[str, int] | None


class Inheritance(NamedTuple):
    """What a supervisor got from its predecessor.

    `sockets` are open listeners by their addresses, `channel` is the one on which processes hand over connections,
    `handed_over` are the numbers that the sockets of systemd have in their addresses.
    """

    sockets: dict[str, Open]
    channel: tuple[socket.socket, socket.socket]
    handed_over: list[int]
    kept: Kept


def start(bound: list[Bound], channel: tuple[socket.socket, socket.socket], handed_over: list[int], kept: Kept) -> int:
    """Start the command of this process again, with these sockets. Returns its process id. Raises `OSError`."""
    named = [(str(one.address), one.socket.fileno()) for one in bound]
    named += [(_LOCK + str(one.address), one.lock) for one in bound if one.lock != -1]
    named += [("give", channel[0].fileno()), ("take", channel[1].fileno())]
    named += [(name, number) for name, number in (("versions", kept.versions), ("tasks", kept.tasks)) if number != -1]
    named += [(_FOLDER + kept.folder[0], kept.folder[1])] if kept.folder is not None else []
    lines = [f"{number} {name}" for name, number in named] + [f"{number} systemd" for number in handed_over]
    environment = {**os.environ, _VARIABLE: "\n".join(lines)}
    pid = os.fork()
    if pid == 0:
        try:
            for _, number in named:
                os.set_inheritable(number, True)
            if "WATCHDOG_PID" in environment:
                # It feeds the watchdog once it is the service manager's main process.
                environment["WATCHDOG_PID"] = str(os.getpid())
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
        finally:
            os._exit(127)
    return pid


def inherited() -> Inheritance | None:
    """What the predecessor of this process has passed on; None when there is none."""
    text = os.environ.pop(_VARIABLE, "")
    if not text:
        return None
    lines = [(name, int(number)) for number, _, name in (line.partition(" ") for line in text.split("\n"))]
    handed_over = [number for name, number in lines if name == "systemd"]
    named = {name: number for name, number in lines if name != "systemd"}
    for number in named.values():
        os.set_inheritable(number, False)
    channel = socket.socket(fileno=named.pop("give")), socket.socket(fileno=named.pop("take"))
    versions, tasks = named.pop("versions", -1), named.pop("tasks", -1)
    folders = [(name, named.pop(name)) for name in [*named] if name.startswith(_FOLDER)]
    folder = next(((name.removeprefix(_FOLDER), number) for name, number in folders), None)
    locks = {name.removeprefix(_LOCK): number for name, number in named.items() if name.startswith(_LOCK)}
    sockets = {name: Open(number, locks.get(name, -1)) for name, number in named.items() if not name.startswith(_LOCK)}
    return Inheritance(sockets, channel, handed_over, Kept(versions, tasks, folder))
