"""Listening sockets from addresses, without gevent: unix, TCP and inherited ones. Accepts nothing."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .config import Config
from .errors import BindError
from .kinds import Address
from .privileges import Identity


class Bound(NamedTuple):
    """A socket that listens on an address. `inode` is that of a unix socket's file, 0 for others."""

    address: Address
    socket: socket.socket
    inode: int

    def remove(self) -> None:
        """Remove the file of a unix socket, unless another server has put its own in the place."""
        try:
            if self.inode and os.stat(self.address.path).st_ino == self.inode:
                os.unlink(self.address.path)
        except OSError:
            pass


def instead(config: Config, numbers: Sequence[int]) -> Config:
    """The configuration with sockets that are open already in the place of `bind`, where there are any."""
    addresses = tuple(Address("fd", number=number) for number in numbers)
    return config._replace(bind=addresses) if addresses else config


def listen_all(config: Config, who: Identity, there: Mapping[str, int]) -> list[Bound]:
    """Listen on every address of `bind`; `there` has the descriptors of addresses that are listened on already.

    Files of unix sockets are given to `who`. Raises `BindError`, and listens on no new address then.
    """
    bound: list[Bound] = []
    try:
        for address in config.bind:
            descriptor = there.get(str(address))
            if descriptor is None:
                bound.append(listen(address, config.backlog, config.socket_mode, who))
            else:
                bound.append(_bound(address, socket.socket(fileno=descriptor)))
    except BindError:
        for one in bound:
            if str(one.address) in there:
                # It stays with whoever has it.
                one.socket.detach()
            else:
                one.remove()
                one.socket.close()
        raise
    return bound


def listen(address: Address, backlog: int, mode: int, who: Identity) -> Bound:
    """Listen on `address`, not blocking. `mode` and `who` are for a unix socket's file.

    Raises `BindError`, whose text names the address and the reason.
    """
    try:
        if address.kind == "unix":
            listening = _unix(address.path, mode, backlog)
            _give(address.path, listening, who)
        else:
            listening = _inherited(address) if address.kind == "fd" else _tcp(address)
            listening.listen(backlog)
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise BindError(f"bind: cannot listen on {address}: {reason}") from None
    listening.setblocking(False)
    return _bound(address, listening)


def _bound(address: Address, listening: socket.socket) -> Bound:
    try:
        inode = os.stat(address.path).st_ino if address.kind == "unix" else 0
    except OSError:
        inode = 0
    return Bound(address, listening, inode)


def names(bound: list[Bound]) -> str:
    """Where sockets listen, for messages."""
    return ", ".join(name(one.socket) for one in bound)


def name(listening: socket.socket) -> str:
    """Where a socket listens, as `bind` would say it; port 0 has become a real one."""
    at = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:{at}"
    return f"[{at[0]}]:{at[1]}" if listening.family == socket.AF_INET6 else f"{at[0]}:{at[1]}"


def _unix(path: str, mode: int, backlog: int) -> socket.socket:
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The file is made with the mask of the process: never does it have another mode.
        mask = os.umask(0o777 & ~mode)
        try:
            listening.bind(path)
            # At once: a server that starts meanwhile takes a socket that nobody listens on for a stale one.
            listening.listen(backlog)
        finally:
            os.umask(mask)
    except BaseException:
        listening.close()
        raise
    return listening


def _give(path: str, listening: socket.socket, who: Identity) -> None:
    try:
        who.own(path)
    except OSError:
        listening.close()
        os.unlink(path)
        raise


def _remove_stale(path: str) -> None:
    """Make way for a new socket file. One that a server still answers on is left, and so is any other file."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EADDRINUSE, "a file that is not a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            raise OSError(errno.EADDRINUSE, "another server listens there") from None
        else:
            raise OSError(errno.EADDRINUSE, "another server listens there")


def _tcp(address: Address) -> socket.socket:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, at = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # 0.0.0.0 and [::] on one port are two addresses, as in `bind`.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Inherited by accepted connections on Linux: a small reply is not held back for a full segment.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind(at)
    except BaseException:
        listening.close()
        raise
    return listening


def _inherited(address: Address) -> socket.socket:
    listening = socket.socket(fileno=os.dup(address.number))
    if listening.type != socket.SOCK_STREAM:
        listening.close()
        raise ValueError("the descriptor is not a stream socket")
    return listening
