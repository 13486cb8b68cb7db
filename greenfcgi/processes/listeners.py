"""The sockets of a supervisor: listened on once, kept over reloads, handed to a successor, removed at the end.

Who removes the file of a unix socket: whoever serves on it last. A successor (SIGUSR2) that ends while its predecessor
still serves leaves it alone; so does a predecessor that leaves its sockets to a successor.
"""

from __future__ import annotations

import os
import socket

from ..config.load import Config
from ..system import listen, systemd
from ..system.listen import Bound
from ..system.privileges import Identity
from . import upgrade


class ListenerSet:
    """What this supervisor listens on, and the channel on which its processes hand connections to each other."""

    def __init__(self) -> None:
        inheritance = upgrade.inherited()
        self._inherited = inheritance.sockets if inheritance else {}
        self._predecessor = os.getppid() if inheritance else 0
        self._handed_over = inheritance.handed_over if inheritance else systemd.listening()
        self.channel = inheritance.channel if inheritance else _channel()
        #: The predecessor's store of versions; -1: none. Passed on with the sockets, as whoever has it sets it.
        self.versions = inheritance.versions if inheritance else -1
        self.bound: list[Bound] = []
        #: The process id of the new binary, while there is one; 0: none.
        self.successor = 0
        #: What has been left to it.
        self._left: list[Bound] = []
        #: Those that are left when the configuration that is being tried can serve.
        self._old: list[Bound] | None = None

    def adapt(self, config: Config) -> Config:
        """The sockets of systemd take the place of `bind`."""
        return listen.replace_bind(config, self._handed_over)

    def listen(self, config: Config, identity: Identity) -> None:
        """Listen on the addresses of a configuration, for the first time. Raises `BindError`."""
        self.bound = listen.listen_all(config, identity, self._inherited)
        in_use = {number for one in self.bound for number in (one.socket.fileno(), one.lock)}
        for found in self._inherited.values():
            for descriptor in {*found} - {-1} - in_use:
                os.close(descriptor)

    def change(self, config: Config, identity: Identity) -> None:
        """Listen on the addresses of another configuration; the old ones stay open until `commit` or `roll_back`.

        Raises `BindError`, and leaves everything as it was then.
        """
        old = {str(one.address): one for one in self.bound}
        there = {name: listen.Open(one.socket.fileno(), one.lock) for name, one in old.items()}
        fresh = listen.listen_all(config, identity, there)
        self._old, self.bound = self.bound, []
        for one in fresh:
            kept = old.get(str(one.address))
            if kept is not None and kept.socket.fileno() == one.socket.fileno():
                # The same descriptor under another object.
                one.socket.detach()
                self.bound.append(kept)
            else:
                self.bound.append(one)

    def commit(self) -> None:
        """The new configuration serves: close what only the old one had."""
        self._forget(self._old or [], self.bound)
        self._old = None

    @property
    def can_roll_back(self) -> bool:
        """What the configuration before listened on is still open."""
        return self._old is not None

    def roll_back(self) -> None:
        """The old configuration serves on: close what only the new one had."""
        fresh, self.bound = self.bound, self._old or []
        self._old = None
        self._forget(fresh, self.bound)

    def enter_process(self) -> None:
        """In a new process: close what is the supervisor's alone. A listener that is kept open would never answer."""
        for one in self._old or []:
            if one not in self.bound:
                one.close()
        for one in self.bound:
            if one.lock != -1:
                os.close(one.lock)
        listen.forget_stdin()

    @property
    def has_heir(self) -> bool:
        """Another supervisor serves on the same sockets: a successor, or the predecessor that it has not ended."""
        return self.successor != 0 or self._has_predecessor()

    def hand_over(self) -> int:
        """Start a successor on these sockets. Returns its process id. Raises `OSError`."""
        self.successor = upgrade.start(self.bound, self.channel, self._handed_over, self.versions)
        return self.successor

    def forget_successor(self) -> None:
        """It has ended. What had been left to it has no owner any more."""
        self.successor = 0
        for one in self._left:
            self._remove(one)
        self._left = []

    def close(self) -> None:
        """Listen no longer; with a successor, the files are its own from now on."""
        for one in dict.fromkeys([*self.bound, *(self._old or [])]):
            self._remove(one)
            one.close()
        listen.forget_stdin()
        self.bound, self._old = [], None

    def _forget(self, some: list[Bound], but: list[Bound]) -> None:
        for one in some:
            if one not in but:
                self._remove(one)
                one.close()

    def _has_predecessor(self) -> bool:
        return self._predecessor != 0 and os.getppid() == self._predecessor

    def _remove(self, one: Bound) -> None:
        if self.successor:
            # Its lock is closed here, and the successor's goes with it.
            self._left.append(one._replace(lock=-1))
        elif not (str(one.address) in self._inherited and self._has_predecessor()):
            one.remove()


def _channel() -> tuple[socket.socket, socket.socket]:
    """Two ends of a channel for connections: to give into the first, to take from the second."""
    # A message each, which macOS has for connectionless sockets only.
    ends = socket.socketpair(socket.AF_UNIX, getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM))
    for end in ends:
        end.setblocking(False)
    return ends
