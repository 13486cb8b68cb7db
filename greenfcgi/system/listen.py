"""Listeners on unix, TCP and inherited sockets, without gevent. Nothing is accepted here."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..config.address import Address
from ..config.load import Config
from ..errors import BindError
from . import socket_lock
from .privileges import Identity


class Bound(NamedTuple):
    """A listener. `inode` is that of a unix socket's file, 0 for others; `lock` is the descriptor that holds the lock
    of that file, -1 for none.
    """

    address: Address
    socket: socket.socket
    inode: int
    lock: int = -1

    def remove(self) -> None:
        """Remove the file of a unix socket, unless another server has replaced it by its own. Never raises."""
        if not self.inode:
            return
        try:
            if os.stat(self.address.path).st_ino != self.inode:
                return
            os.unlink(self.address.path)
        except FileNotFoundError:
            # Somebody has removed it before.
            pass
        except OSError:
            return
        if self.lock != -1:
            socket_lock.remove(self.address.path, self.lock)

    def close(self) -> None:
        """Stop listening, and release the lock."""
        self.socket.close()
        if self.lock != -1:
            os.close(self.lock)


class Open(NamedTuple):
    """The descriptors of a listener that is open already: its socket, and its lock, -1 for none."""

    descriptor: int
    lock: int = -1


def replace_bind(config: Config, numbers: Sequence[int]) -> Config:
    """The configuration with the sockets that have these descriptors in the place of `bind`; as it is without any."""
    addresses = tuple(Address("fd", number=number) for number in numbers)
    return config._replace(bind=addresses) if addresses else config


def listen_all(config: Config, identity: Identity, existing: Mapping[str, Open]) -> list[Bound]:
    """Listen on every address of `bind`; `existing` has the listeners that are open already, by address.

    A unix socket whose file somebody has removed is replaced. Files of unix sockets are given to `identity`. Raises
    `BindError`, and then there is no new listener.
    """
    bound: list[Bound] = []
    try:
        for address in config.bind:
            found = existing.get(str(address))
            if found is None or not _is_reachable(address):
                lock = -1 if found is None or found.lock == -1 else os.dup(found.lock)
                bound.append(listen(address, config.backlog, config.socket_mode, identity, lock))
            else:
                bound.append(_bound(address, socket.socket(fileno=found.descriptor), found.lock))
    except BindError:
        for one in bound:
            if one.socket.fileno() in {found.descriptor for found in existing.values()}:
                # It stays open where it came from.
                one.socket.detach()
            else:
                one.remove()
                one.close()
        raise
    return bound


def _is_reachable(address: Address) -> bool:
    return address.kind != "unix" or address.is_abstract or os.path.lexists(address.path)


def listen(address: Address, backlog: int, mode: int, identity: Identity, lock: int = -1) -> Bound:
    """Listen on `address`, not blocking. `mode` and `identity` are for the file of a unix socket.

    `lock` is the descriptor that holds the lock of that file already, -1 for none.
    Raises `BindError`, whose text names the address and the reason.
    """
    try:
        if address.kind == "unix" and not address.is_abstract:
            if lock == -1:
                lock = socket_lock.acquire(address.path)
            listening = _unix(address.path, mode, backlog)
            _give(address.path, listening, identity)
        else:
            listening = _inherited(address) or _abstract(address) or bind_tcp(address.host, address.port)
            listening.listen(backlog)
    except (OSError, ValueError) as problem:
        if lock != -1:
            socket_lock.remove(address.path, lock)
            os.close(lock)
        raise BindError(f"bind: cannot listen on {address}: {_reason(address, problem)}") from None
    listening.setblocking(False)
    return _bound(address, listening, lock)


def _reason(address: Address, problem: OSError | ValueError) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    if address.kind == "unix" and isinstance(problem, OSError):
        # Not Python's own message, which differs between versions.
        return f"a path of {len(os.fsencode(address.path))} bytes is too long for a socket"
    return str(problem)


def _bound(address: Address, listening: socket.socket, lock: int = -1) -> Bound:
    try:
        inode = os.stat(address.path).st_ino if address.kind == "unix" and not address.is_abstract else 0
    except OSError:
        inode = 0
    return Bound(address, listening, inode, lock)


def is_listening(descriptor: int) -> bool:
    """Whether a descriptor is a listening socket, as spawn-fcgi, inetd and others pass one."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return False
    try:
        with socket.socket(fileno=copy) as probe:
            return bool(probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        # Not a socket, so nothing has closed the copy; or a system without SO_ACCEPTCONN.
        _close(copy)
        return False


def forget_stdin() -> None:
    """Replace descriptor 0 by /dev/null, where it is a listener: connections to it would wait for ever."""
    if is_listening(0):
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass


def remarks(bound: list[Bound]) -> list[tuple[str, str]]:
    """What an operator should know of these listeners: (level, text) for the error log."""
    found = []
    for one in bound:
        if one.address.kind == "fd" and one.address.number == 0:
            found.append(("info", f"bind: descriptor 0 is a listening socket, {name(one.socket)}, which is served"))
        if one.address.is_abstract:
            text = f"bind: {one.address} has no file, and so no socket_mode: every user of this machine may connect"
            found.append(("warning", text))
    return found


def names(bound: list[Bound]) -> str:
    """The addresses of listeners, for messages."""
    return ", ".join(name(one.socket) for one in bound)


def name(listening: socket.socket) -> str:
    """The address of a listener, as in `bind`; port 0 has become a real one."""
    at = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:@{os.fsdecode(at[1:])}" if isinstance(at, bytes) else f"unix:{at}"
    return f"[{at[0]}]:{at[1]}" if listening.family == socket.AF_INET6 else f"{at[0]}:{at[1]}"


def _unix(path: str, mode: int, backlog: int) -> socket.socket:
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # By the umask, the file has its mode from the beginning.
        mask = os.umask(0o777 & ~mode)
        try:
            listening.bind(path)
            # At once: another server that starts now would take a socket without a listener for a stale one.
            listening.listen(backlog)
        finally:
            os.umask(mask)
    except BaseException:
        listening.close()
        raise
    return listening


def _give(path: str, listening: socket.socket, identity: Identity) -> None:
    try:
        identity.own(path)
    except OSError:
        listening.close()
        os.unlink(path)
        raise


def _remove_stale(path: str) -> None:
    """Remove a stale socket file. Raises `OSError` when a server still listens there, or it is any other file."""
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


def _abstract(address: Address) -> socket.socket | None:
    """A unix socket without a file, bound; None for an address that is none."""
    if not address.is_abstract:
        return None
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(b"\0" + os.fsencode(address.path[1:]))
    except BaseException:
        listening.close()
        raise
    return listening


def bind_tcp(host: str, port: int, family: int = socket.AF_UNSPEC, is_v6_only: bool = True) -> socket.socket:
    """A TCP socket that is bound, and does not listen yet. Raises `OSError`.

    With `is_v6_only`, 0.0.0.0 and [::] on one port are two addresses, as in `bind`.
    """
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, at = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and is_v6_only:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Inherited by accepted connections on Linux: a small reply is not held back for a full segment.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind(at)
    except BaseException:
        listening.close()
        raise
    return listening


def _inherited(address: Address) -> socket.socket | None:
    """The socket of a descriptor; None for an address that is none."""
    if address.kind != "fd":
        return None
    listening = socket.socket(fileno=os.dup(address.number))
    if listening.type != socket.SOCK_STREAM:
        listening.close()
        raise ValueError("the descriptor is not a stream socket")
    return listening
