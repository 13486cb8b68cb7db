"""Addresses to listen on: unix sockets, TCP, and sockets that are open already."""

import os
import re
import socket
import sys
from typing import Literal, NamedTuple

from .value_type import InvalidValue, ValueType

#: Addresses that stand for each of a machine, and where this machine itself reaches them.
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_MAX_ABSTRACT = 108  # bytes that the kernel has for the name of a socket, with the first one


class Address(NamedTuple):
    """Where to listen; `str()` gives the form that config.toml has. Fields that a kind does not use are "" or 0."""

    kind: Literal["unix", "tcp", "fd"]
    path: str = ""  # unix: absolute, or "@name"
    host: str = ""  # tcp: an IPv4 or IPv6 address without brackets, or a name
    port: int = 0  # tcp: 0 is any free port
    number: int = 0  # fd: a listening socket that was inherited

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        if self.kind == "fd":
            return f"fd://{self.number}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_abstract(self) -> bool:
        """A unix socket without a file: `unix:@name`, on Linux."""
        return self.path.startswith("@")

    def is_loopback(self) -> bool:
        """Whether only this machine can reach a TCP address. Of names, only localhost is known to be one."""
        return self.host in ("localhost", "::1") or bool(re.fullmatch(r"127\.[0-9.]+", self.host))

    def reachable(self) -> "Address":
        """Where this machine connects to a server that listens here: any address of the machine is the loopback."""
        return self._replace(host=_ANY_HOST.get(self.host, self.host))


def _read(found: object, folder: str) -> Address:
    if isinstance(found, str) and "\0" not in found:
        scheme, _, path = found.partition(":")
        if scheme == "unix" and path.startswith("@"):
            if not sys.platform.startswith("linux"):
                raise InvalidValue(found, "the path of a file: sockets without one, unix:@name, are Linux's")
            if 1 < len(path.encode("utf-8", "surrogateescape")) <= _MAX_ABSTRACT:
                return Address("unix", path=path)
            raise InvalidValue(found, f"a name of 1 to {_MAX_ABSTRACT - 1} bytes behind the @")
        if scheme == "unix" and path:
            return Address("unix", path=os.path.normpath(os.path.join(folder, path)))
        if match := re.fullmatch("fd://([0-9]{1,9})", found):
            return Address("fd", number=int(match[1]))
        if match := re.fullmatch(r"(\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[^:\[\]]*):([0-9]+)", found):
            if len(match[2]) > 5 or int(match[2]) > 65535:
                raise InvalidValue(found, "a port from 1 to 65535, or 0 for any that is free")
            if host := _parse_host(match[1]):
                return Address("tcp", host=host, port=int(match[2]))
    raise InvalidValue(found, ADDRESS.expected)


def _parse_host(text: str) -> str:
    """The host of a TCP address without brackets, "" when it is none."""
    if text in ("", "*"):
        return "0.0.0.0"
    bracketed = text.startswith("[")
    if bracketed or re.fullmatch("[0-9.]+", text):
        family = socket.AF_INET6 if bracketed else socket.AF_INET
        number, percent, zone = text.strip("[]").partition("%")
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, number)) + percent + zone
        except OSError:
            return ""
    return text if re.fullmatch(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", text) else ""


ADDRESS = ValueType(
    'an address such as "127.0.0.1:9000", "[::1]:9000", "unix:/run/greenfcgi.sock" or "fd://3"',
    _read,
    str,
)
