"""Connections that go from one process to another: a process that leaves loses no request on those that are kept.

Closing a kept connection races with the request that the web server sends on it at that moment. So a process that is
replaced passes its idle connections on, as descriptors (unix(7), SCM_RIGHTS), to whichever process of its supervisor
takes them first. What the web server has sent already waits in the kernel, and goes with the connection.
"""

from __future__ import annotations

import os
import socket
from _socket import socket as BareSocket
from collections.abc import Callable
from typing import Any

from gevent import get_hub

_READABLE = 1
#: Connections that are received in one round of the event loop.
_MAX_AT_ONCE = 16
#: Bytes of the peer's name, which goes with a connection.
_MAX_NAME = 256


class Handover:
    """One process's side of the channel: two ends of a socket pair that all processes share, not blocking."""

    def __init__(self, ends: tuple[socket.socket, socket.socket]) -> None:
        self._out, self._in = ends
        self._watcher: Any = None

    def receive(self, serve: Callable[[BareSocket, str], object], on_lost: Callable[[], None]) -> None:
        """Call `serve(socket, peer)` with each connection that others hand over, until `stop_receiving`.

        `on_lost` is called for each that is lost because this process has no descriptor left.
        """
        self._watcher = get_hub().loop.io(self._in.fileno(), _READABLE)
        self._watcher.start(self._receive, serve, on_lost)

    def stop_receiving(self) -> None:
        """Leave what is handed over to other processes."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    def hand_over(self, bare: BareSocket, peer: str) -> bool:
        """Pass a connection on, and close it here; False, and it stays open, when the channel is full now."""
        try:
            socket.send_fds(self._out, [peer.encode()[:_MAX_NAME] or b"-"], [bare.fileno()], socket.MSG_DONTWAIT)
        except OSError:
            return False
        bare.close()
        return True

    def _receive(self, serve: Callable[[BareSocket, str], object], on_lost: Callable[[], None]) -> None:
        for _ in range(_MAX_AT_ONCE):
            try:
                name, descriptors, _, _ = socket.recv_fds(self._in, _MAX_NAME, 1)
            except BlockingIOError:
                return
            if not descriptors:
                # The kernel has closed it.
                on_lost()
            for descriptor in descriptors:
                # recv_fds has no flag for it.
                os.set_inheritable(descriptor, False)
                serve(BareSocket(fileno=descriptor), name.decode())
