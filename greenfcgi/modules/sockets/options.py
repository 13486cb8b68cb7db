"""Options of sockets by the names that LuaSocket gives them."""

from __future__ import annotations

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
    if kind in ("flag", "number"):
        sock.setsockopt(level, name, int(first))
    elif kind == "linger":
        sock.setsockopt(level, name, struct.pack("ii", int(first), int(second or 0)))
    elif kind == "address":
        sock.setsockopt(level, name, _address(first))
    elif kind == "group":
        sock.setsockopt(level, name, _address(first) + _address(second or b"0.0.0.0"))
    elif kind == "group6":
        group = socket.inet_pton(socket.AF_INET6, _text(first))
        sock.setsockopt(level, name, group + struct.pack("@I", int(second or 0)))
    else:
        raise OSError(92, "Protocol not available")


def get_option(sock: socket.socket, option: Option) -> tuple[int, int]:
    """Its value; `linger` has two. Raises `OSError`."""
    level, name, kind = option
    if kind == "linger":
        on, seconds = struct.unpack("ii", sock.getsockopt(level, name, 8))
        return on, seconds
    if kind in ("flag", "number", "error"):
        return sock.getsockopt(level, name), 0
    raise OSError(92, "Protocol not available")


def _address(value: bytes | float) -> bytes:
    text = _text(value)
    return socket.inet_aton("0.0.0.0" if text == "*" else text)


def _text(value: bytes | float) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
