"""Options of sockets by the names that LuaSocket gives them."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final, NamedTuple


class Option(NamedTuple):
    """Where the system keeps it. `kind` is "flag", "number", or what a table in Lua is written for."""

    level: int
    name: int
    kind: str


_SOL, _TCP, _IP, _IPV6 = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6


def _known(*options: tuple[str, int, str, str]) -> dict[bytes, Option]:
    """Those that this system has."""
    return {
        name.encode(): Option(level, getattr(socket, constant), kind)
        for name, level, constant, kind in options
        if hasattr(socket, constant)
    }


OPTIONS: Final = _known(
    ("keepalive", _SOL, "SO_KEEPALIVE", "flag"),
    ("reuseaddr", _SOL, "SO_REUSEADDR", "flag"),
    ("reuseport", _SOL, "SO_REUSEPORT", "flag"),
    ("broadcast", _SOL, "SO_BROADCAST", "flag"),
    ("dontroute", _SOL, "SO_DONTROUTE", "flag"),
    ("error", _SOL, "SO_ERROR", "error"),
    ("linger", _SOL, "SO_LINGER", "linger"),
    ("recv-buffer-size", _SOL, "SO_RCVBUF", "number"),
    ("send-buffer-size", _SOL, "SO_SNDBUF", "number"),
    ("tcp-nodelay", _TCP, "TCP_NODELAY", "flag"),
    ("tcp-keepidle", _TCP, "TCP_KEEPIDLE", "number"),
    ("tcp-keepcnt", _TCP, "TCP_KEEPCNT", "number"),
    ("tcp-keepintvl", _TCP, "TCP_KEEPINTVL", "number"),
    ("tcp-defer-accept", _TCP, "TCP_DEFER_ACCEPT", "number"),
    ("tcp-fastopen", _TCP, "TCP_FASTOPEN", "number"),
    ("ipv6-v6only", _IPV6, "IPV6_V6ONLY", "flag"),
    ("ipv6-unicast-hops", _IPV6, "IPV6_UNICAST_HOPS", "number"),
    ("ipv6-multicast-hops", _IPV6, "IPV6_MULTICAST_HOPS", "number"),
    ("ipv6-multicast-loop", _IPV6, "IPV6_MULTICAST_LOOP", "flag"),
    ("ipv6-add-membership", _IPV6, "IPV6_JOIN_GROUP", "group6"),
    ("ipv6-drop-membership", _IPV6, "IPV6_LEAVE_GROUP", "group6"),
    ("ip-multicast-if", _IP, "IP_MULTICAST_IF", "address"),
    ("ip-multicast-ttl", _IP, "IP_MULTICAST_TTL", "number"),
    ("ip-multicast-loop", _IP, "IP_MULTICAST_LOOP", "flag"),
    ("ip-add-membership", _IP, "IP_ADD_MEMBERSHIP", "group"),
    ("ip-drop-membership", _IP, "IP_DROP_MEMBERSHIP", "group"),
)


def set_option(sock: socket.socket, option: Option, first: bytes | float, second: bytes | float | None) -> None:
    """Set it. A table of Lua's comes as its two values. Raises `OSError` and `UnicodeError`."""
    level, name, kind = option
    try:
        value = _packed(kind, first, second)
    except (ValueError, OverflowError, struct.error):
        # Of numbers that are none of C's.
        raise OSError(errno.EINVAL, "") from None
    sock.setsockopt(level, name, value)


def _packed(kind: str, first: bytes | float, second: bytes | float | None) -> bytes:
    """As the system takes it."""
    if kind in ("flag", "number"):
        return struct.pack("@i", int(first))
    if kind == "linger":
        return struct.pack("@ii", int(first), int(second or 0))
    if kind == "address":
        return _address(first)
    if kind == "group":
        return _address(first) + _address(second or b"0.0.0.0")
    if kind == "group6":
        return _inet(socket.AF_INET6, first) + struct.pack("@I", int(second or 0))
    raise OSError(errno.ENOPROTOOPT, "")


def get_option(sock: socket.socket, option: Option) -> tuple[int, int]:
    """Its value; `linger` has two. Raises `OSError`."""
    level, name, kind = option
    if kind == "linger":
        on, seconds = struct.unpack("ii", sock.getsockopt(level, name, 8))
        return on, seconds
    if kind in ("flag", "number", "error"):
        return sock.getsockopt(level, name), 0
    raise OSError(errno.ENOPROTOOPT, "")


def _address(value: bytes | float) -> bytes:
    return _inet(socket.AF_INET, b"0.0.0.0" if value == b"*" else value)


def _inet(family: int, value: bytes | float) -> bytes:
    try:
        return socket.inet_pton(family, value.decode() if isinstance(value, bytes) else str(value))
    except OSError:
        # It has no number.
        raise OSError(errno.EINVAL, "") from None
