"""The listeners of a supervisor: opened once, kept over reloads, passed on to a new binary, removed at the end.

A new binary (SIGUSR2) is the successor of this supervisor, and this one its predecessor. The file of a unix socket is
removed by whoever serves on it last: a successor that ends while its predecessor still serves leaves it alone, and so
does a predecessor that ends before its successor.
"""

from __future__ import annotations

import os

from ..config.load import Config
from ..system import listen, systemd
from ..system.listen import Bound
from ..system.memory_folder import MemoryFolder
from ..system.portable.message_pair import message_pair
from ..system.privileges import Identity
from . import upgrade


class ListenerSet:
    """What this supervisor listens on, and the channel on which its processes hand over connections to each other."""

    def __init__(self) -> None:
        inheritance = upgrade.inherited()
        self._inherited = inheritance.sockets if inheritance else {}
        self._predecessor = os.getppid() if inheritance else 0
        self._handed_over = inheritance.handed_over if inheritance else systemd.listening()
        #: For connections, one message each: its end to send on, and its end to receive on.
        self.channel = inheritance.channel if inheritance else message_pair()
        #: The descriptor of the predecessor's `VersionStore`, -1 for none; the supervisor puts its own here. It is
        #: passed on with the sockets.
        self.versions = inheritance.kept.versions if inheritance else -1
        #: The same of the `TaskBoard`.
        self.tasks = inheritance.kept.tasks if inheritance else -1
        #: The same of the folder that dictionaries are in.
        inherited_folder = inheritance.kept.folder if inheritance else None
        self.folder = MemoryFolder(inherited_folder) if inherited_folder is not None else None
        self.bound: list[Bound] = []
        #: The process id of the new binary, while there is one; 0: none.
        self.successor = 0
        #: Sockets closed here whose files it removes at its end.
        self._left: list[Bound] = []
        #: While another configuration is tried: the listeners of the one before.
        self._old: list[Bound] | None = None

    def adapt(self, config: Config) -> Config:
        """The configuration with the sockets of systemd in the place of `bind`, where there are any."""
        return listen.replace_bind(config, self._handed_over)

    def listen(self, config: Config, identity: Identity) -> None:
        """Listen on the addresses of the first configuration. Raises `BindError`."""
        self.bound = listen.listen_all(config, identity, self._inherited)
        in_use = {number for one in self.bound for number in (one.socket.fileno(), one.lock)}
        for found in self._inherited.values():
            for descriptor in {*found} - {-1} - in_use:
                os.close(descriptor)

    def change(self, config: Config, identity: Identity) -> None:
        """Listen on the addresses of another configuration; the old ones stay open until `commit` or `roll_back`.

        Raises `BindError`, and then everything is as it was.
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
        """Keep the new listeners: close what only the old configuration had."""
        self._close(self._old or [], self.bound)
        self._old = None

    @property
    def can_roll_back(self) -> bool:
        """Whether the listeners of the old configuration are still open."""
        return self._old is not None

    def roll_back(self) -> None:
        """Keep the old listeners: close what only the new configuration had."""
        fresh, self.bound = self.bound, self._old or []
        self._old = None
        self._close(fresh, self.bound)

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
    def is_shared(self) -> bool:
        """Another supervisor serves on the same sockets: a successor, or a predecessor that has not ended yet."""
        return self.successor != 0 or self._has_predecessor()

    def start_successor(self) -> int:
        """Start a new binary on these sockets. Returns its process id. Raises `OSError`."""
        folder = (self.folder.path, self.folder.lock) if self.folder is not None else None
        kept = upgrade.Kept(self.versions, self.tasks, folder)
        self.successor = upgrade.start(self.bound, self.channel, self._handed_over, kept)
        return self.successor

    def forget_successor(self) -> None:
        """It has ended: remove the files that had been left to it."""
        self.successor = 0
        for one in self._left:
            self._remove(one)
        self._left = []

    def close(self) -> None:
        """Listen no longer. With a successor, the files are left to it."""
        for one in dict.fromkeys([*self.bound, *(self._old or [])]):
            self._remove(one)
            one.close()
        listen.forget_stdin()
        self.bound, self._old = [], None

    def _close(self, some: list[Bound], but: list[Bound]) -> None:
        for one in some:
            if one not in but:
                self._remove(one)
                one.close()

    def _has_predecessor(self) -> bool:
        return self._predecessor != 0 and os.getppid() == self._predecessor

    def _remove(self, one: Bound) -> None:
        if self.successor:
            # The lock is closed here; the successor holds it, too.
            self._left.append(one._replace(lock=-1))
        elif not (str(one.address) in self._inherited and self._has_predecessor()):
            one.remove()
