"""What a web server does not take yet: buffers that wait for its socket to become writable. Knows no records.

They wait in memory while the replies' share has room, and behind that in a temporary file.
"""

from __future__ import annotations

import socket
from _socket import socket as BareSocket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from gevent import get_hub
from gevent.event import Event

from ..fastcgi.records import Buffer
from ..quota import Quota
from .spool import Spool

#: Buffers in one sendmsg (the kernel takes IOV_MAX, 1,024).
MAX_BUFFERS: Final = 256
#: Bytes that are sent before others have a turn.
_MAX_AT_ONCE: Final = 1024 * 1024
#: Bytes read from the file at once. Small enough for malloc to stay off mmap, whose limit is 128 KiB.
_FROM_FILE: Final = 96 * 1024

_WRITABLE: Final = 2


class Outbox:
    """The rest of what a session has to send; made when a send falls short, and dropped when it is empty.

    `on_emptied` is called in the hub when everything has left, `on_broken` when the rest cannot be sent, with the
    reason, which is "" when the peer is not there any more. What is held is taken from `memory`, a file from `files`.
    """

    __slots__ = (
        "_changed", "_file", "_file_at", "_files", "_held", "_memory", "_on_broken", "_on_emptied", "_queue",
        "_socket", "_writer", "size", "taken",
    )  # fmt: skip

    def __init__(
        self,
        bare: BareSocket,
        memory: Quota,
        files: Quota,
        on_emptied: Callable[[], None],
        on_broken: Callable[[str], None],
    ) -> None:
        self._socket = bare
        self._memory = memory
        self._files = files
        self._on_emptied = on_emptied
        self._on_broken = on_broken
        self._queue: deque[memoryview] = deque()
        #: Bytes taken from the memory.
        self._held = 0
        #: What waits behind the queue, and how much of it has left.
        self._file: Spool | None = None
        self._file_at = 0
        #: Bytes that wait.
        self.size = 0
        #: Bytes that have left.
        self.taken = 0
        self._changed = Event()
        self._writer = get_hub().loop.io(bare.fileno(), _WRITABLE)
        self._writer.start(self._send)

    def __bool__(self) -> bool:
        """Something waits."""
        return self.size > 0

    def add(self, buffers: list[Buffer], sent: int = 0) -> None:
        """Send these behind what waits already, without their first `sent` bytes, which have left.

        Raises `OSError` when they cannot be kept.
        """
        # What is cut off at the front stays in memory with the rest.
        cost = sum(map(len, buffers))
        rest = _without(buffers, sent)
        if self._file is None and self._memory.take(cost):
            self._held += cost
            self._queue.extend(rest)
        else:
            if self._file is None:
                self._file = Spool(self._files)
            for one in rest:
                self._file.append(one)
        self.size += cost - sent

    def wait(self, seconds: float) -> None:
        """Wait until everything has left, or `wake` is called; at most so long."""
        self._changed.clear()
        self._changed.wait(seconds)

    def wake(self) -> None:
        """Wake all who are in `wait`."""
        self._changed.set()

    def close(self) -> None:
        """Send nothing more, and give back what is held."""
        self._queue.clear()
        self.size = 0
        self._release_memory()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._writer.stop()
        self._writer.close()
        self.wake()

    def _send(self) -> None:
        try:
            end = self.taken + _MAX_AT_ONCE
            while self.size and self.taken < end:
                if self._queue:
                    first = [self._queue[at] for at in range(min(len(self._queue), MAX_BUFFERS))]
                    self._drop_from_queue(self._socket.sendmsg(first, (), socket.MSG_DONTWAIT))
                else:
                    self._send_from_file()
        except BlockingIOError:
            return
        except OSError:
            self._on_broken("")
            return
        if not self.size:
            self.close()
            self._on_emptied()

    def _drop_from_queue(self, sent: int) -> None:
        self._drop(sent)
        while sent:
            first = self._queue.popleft()
            if sent < len(first):
                self._queue.appendleft(first[sent:])
                return
            sent -= len(first)
        if not self._queue:
            self._release_memory()

    def _send_from_file(self) -> None:
        assert self._file is not None
        sent = self._socket.send(self._file.read(self._file_at, _FROM_FILE), socket.MSG_DONTWAIT)
        self._file_at += sent
        self._drop(sent)

    def _drop(self, sent: int) -> None:
        self.size -= sent
        self.taken += sent

    def _release_memory(self) -> None:
        self._memory.give_back(self._held)
        self._held = 0


def _without(buffers: Iterable[Buffer], sent: int) -> list[memoryview]:
    """What is left of buffers when their first `sent` bytes have been sent."""
    rest: list[memoryview] = []
    for one in buffers:
        size = len(one)
        if sent < size:
            rest.append(memoryview(one)[sent:])
        sent = max(0, sent - size)
    return rest
