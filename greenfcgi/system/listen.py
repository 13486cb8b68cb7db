"""Listening sockets from addresses, without gevent: unix, TCP and inherited ones. Accepts nothing."""

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
    """A socket that listens on an address. `inode` is that of a unix socket's file, 0 for others; `lock` is what
    `socketlock` gave for it, -1 for none.
    """

    address: Address
    socket: socket.socket
    inode: int
    lock: int = -1

    def remove(self) -> None:
        """Remove the file of a unix socket, unless another server has put its own in the place. Never raises."""
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
        """Listen no longer, and let go of the lock."""
        self.socket.close()
        if self.lock != -1:
            os.close(self.lock)


class Open(NamedTuple):
    """The descriptors of what listens on an address already: its socket, and its lock, -1 for none."""

    descriptor: int
    lock: int = -1


def replace_bind(config: Config, numbers: Sequence[int]) -> Config:
    """The configuration with sockets that are open already in the place of `bind`, where there are any."""
    addresses = tuple(Address("fd", number=number) for number in numbers)
    return config._replace(bind=addresses) if addresses else config


def listen_all(config: Config, identity: Identity, there: Mapping[str, Open]) -> list[Bound]:
    """Listen on every address of `bind`; `there` has those that are listened on already.

    A unix socket whose file somebody has removed is made anew. Files of unix sockets are given to `identity`. Raises
    `BindError`, and listens on no new address then.
    """
    bound: list[Bound] = []
    try:
        for address in config.bind:
            found = there.get(str(address))
            if found is None or not _can_be_reached(address):
                lock = -1 if found is None or found.lock == -1 else os.dup(found.lock)
                bound.append(listen(address, config.backlog, config.socket_mode, identity, lock))
            else:
                bound.append(_bound(address, socket.socket(fileno=found.descriptor), found.lock))
    except BindError:
        for one in bound:
            if one.socket.fileno() in {found.descriptor for found in there.values()}:
                # It stays with whoever has it.
                one.socket.detach()
            else:
                one.remove()
                one.close()
        raise
    return bound


def _can_be_reached(address: Address) -> bool:
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
        # Python's own words, which are others in each version.
        return f"a path of {len(os.fsencode(address.path))} bytes is too long for a socket"
    return str(problem)


def _bound(address: Address, listening: socket.socket, lock: int = -1) -> Bound:
    try:
        inode = os.stat(address.path).st_ino if address.kind == "unix" and not address.is_abstract else 0
    except OSError:
        inode = 0
    return Bound(address, listening, inode, lock)


def is_listening(descriptor: int) -> bool:
    """It is a socket that listens, as spawn-fcgi, inetd and others hand one over."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return False
    try:
        with socket.socket(fileno=copy) as probe:
            return bool(probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        # Not a socket, so nothing has closed the copy; or a system that does not tell.
        _close(copy)
        return False


def forget_stdin() -> None:
    """Where descriptor 0 listens, put /dev/null into its place: what is open there would wait for nobody."""
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
    """What an operator should know of these sockets: (level, text) for the error log."""
    found = []
    for one in bound:
        if one.address.kind == "fd" and one.address.number == 0:
            found.append(("info", f"bind: descriptor 0 is a listening socket, {name(one.socket)}, which is served"))
        if one.address.is_abstract:
            text = f"bind: {one.address} has no file, and so no socket_mode: every user of this machine may connect"
            found.append(("warning", text))
    return found


def names(bound: list[Bound]) -> str:
    """Where sockets listen, for messages."""
    return ", ".join(name(one.socket) for one in bound)


def name(listening: socket.socket) -> str:
    """Where a socket listens, as `bind` would say it; port 0 has become a real one."""
    at = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:@{os.fsdecode(at[1:])}" if isinstance(at, bytes) else f"unix:{at}"
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


def _give(path: str, listening: socket.socket, identity: Identity) -> None:
    try:
        identity.own(path)
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
