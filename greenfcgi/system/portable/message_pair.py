"""A pair of sockets that keeps messages apart."""

from __future__ import annotations

import socket


def message_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected unix sockets, not blocking; each message is received whole, with its descriptors.

    The first one is to send on, the second one to receive on.
    """
    # macOS keeps messages apart on connectionless sockets only.
    ends = socket.socketpair(socket.AF_UNIX, getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM))
    for end in ends:
        end.setblocking(False)
    return ends
