"""What a web server does not take yet: buffers that wait for its socket to become writable. Knows no records."""

from __future__ import annotations

import socket
from _socket import socket as BareSocket
from collections import deque
from collections.abc import Callable

from gevent import get_hub
from gevent.event import Event

from .records import Buffer

#: The most buffers that one sendmsg takes (IOV_MAX is 1,024).
MOST_BUFFERS = 256

_WRITABLE = 2


class Outbox:
    """The rest of what a session has to send; made when a send falls short, and dropped when it is empty.

    `emptied` is called in the hub when everything has left, `broken` when the peer is not there any more.
    """

    __slots__ = ("_broken", "_changed", "_emptied", "_queue", "_socket", "_writer", "size", "taken")

    def __init__(
        self, bare: BareSocket, buffers: list[Buffer], emptied: Callable[[], None], broken: Callable[[], None]
    ) -> None:
        self._socket = bare
        self._emptied = emptied
        self._broken = broken
        self._queue: deque[memoryview] = deque()
        #: Bytes that wait.
        self.size = 0
        #: Bytes that have left.
        self.taken = 0
        self._changed = Event()
        self.add(buffers)
        self._writer = get_hub().loop.io(bare.fileno(), _WRITABLE)
        self._writer.start(self._send)

    def __bool__(self) -> bool:
        """Something waits."""
        return bool(self._queue)

    def add(self, buffers: list[Buffer]) -> None:
        """Send these behind what waits already."""
        self._queue.extend([memoryview(one) for one in buffers if one])
        self.size += sum(map(len, buffers))

    def drop_sent(self, sent: int) -> None:
        """So many bytes have left."""
        self.size -= sent
        self.taken += sent
        while sent:
            first = self._queue.popleft()
            if sent < len(first):
                self._queue.appendleft(first[sent:])
                return
            sent -= len(first)

    def wait(self, seconds: float) -> None:
        """Wait until everything has left, or `wake` is called; at most so long."""
        self._changed.clear()
        self._changed.wait(seconds)

    def wake(self) -> None:
        """Let those who wait look again."""
        self._changed.set()

    def close(self) -> None:
        """Send nothing more."""
        self._queue.clear()
        self._writer.stop()
        self._writer.close()
        self.wake()

    def _send(self) -> None:
        try:
            while self._queue:
                first = [self._queue[at] for at in range(min(len(self._queue), MOST_BUFFERS))]
                self.drop_sent(self._socket.sendmsg(first, (), socket.MSG_DONTWAIT))
        except BlockingIOError:
            return
        except OSError:
            self._broken()
            return
        self.close()
        self._emptied()
