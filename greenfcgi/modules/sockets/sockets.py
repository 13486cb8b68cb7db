"""The sockets of one state: what `sockets.lua` calls. Scripts know a socket by a number.

Operations are tried at once, and wait only where they must. Those that need nothing but memory are in Lua: lines and
other patterns are cut from a buffer there, since a call for each would cost more.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from time import monotonic, time
from typing import Any, Final

from ...lua.bridge import Bridge, ModuleFunction, Outcome
from . import kept, resolver
from .endpoint import READ, WRITE, Endpoint, Timeouts
from .operations import Operations, Step, Waits
from .options import OPTIONS, get_option, set_option
from .problems import CLOSED, TIMEOUT, of_system, problem_text
from .readiness import ready_within
from .tls_calls import TlsCalls

_FAMILIES: Final = {b"inet": socket.AF_INET, b"inet6": socket.AF_INET6, b"unix": socket.AF_UNIX}
_FAMILY_NAMES: Final = {socket.AF_INET: b"inet", socket.AF_INET6: b"inet6", socket.AF_UNIX: b"unix"}
_KINDS: Final = {b"tcp": socket.SOCK_STREAM, b"udp": socket.SOCK_DGRAM}
_DIRECTIONS: Final = {b"receive": socket.SHUT_RD, b"send": socket.SHUT_WR, b"both": socket.SHUT_RDWR}


class Sockets:
    """The open sockets of one state, by their numbers. `settimeout`'s seconds come as `each` and `total`."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._last = 0
        #: Those that are open, by number.
        self.endpoints: dict[int, Endpoint] = {}
        #: For what waits and belongs to no socket.
        self._operations = Operations()
        #: The client had gone when the last run ended.
        self._was_gone = False
        bridge.at_end.append(self._end_run)
        bridge.at_close.append(self.close_all)

    # Each of these is called from Lua. A failure is (nil, what it is, bytes done).

    def create(self, family: bytes, kind: bytes) -> Outcome:
        """Open a socket; of family "", `bind` and `connect` decide. Returns ("", its number)."""
        try:
            sock = socket.socket(_FAMILIES[family or b"inet"], _KINDS[kind])
        except OSError as problem:
            return self._failure(problem)
        return b"", self._add(sock, not family)

    def bind(self, number: int, host: bytes, port: bytes) -> Outcome:
        """Bind it to an address; the port of a unix socket is "". Returns ""."""

        def operation(endpoint: Endpoint) -> Waits:
            if endpoint.raw.family == socket.AF_UNIX:
                endpoint.raw.bind(host)
                return b""
            found = yield from self._addresses(endpoint, host, port, host == b"*")
            yield from self._each(endpoint, found, self._bind_to)
            return b""

        return self.operate(number, "bind", operation)

    def listen(self, number: int, backlog: float) -> Outcome:
        """Listen. Returns ""."""
        return self._now(number, lambda endpoint: endpoint.raw.listen(int(backlog)))

    def connect(
        self, number: int, host: bytes, port: bytes, each: float, total: float, pool: bytes | None = None
    ) -> Outcome:
        """Connect to the first of the host's addresses that answers; the port of a unix socket is "".

        Returns "" and how often the connection was used before.
        """
        endpoint = self.endpoints.get(number)
        if endpoint is not None and endpoint.operations.is_idle and endpoint.raw.type == socket.SOCK_STREAM:
            endpoint.pool_name = pool or host + b":" + port
            found = kept.take(endpoint.pool_name)
            if found is not None:
                found.take_options(endpoint)
                endpoint.close()
                self.endpoints[number] = found
                return b"", found.reused

        def operation(endpoint: Endpoint) -> Waits:
            timeouts = Timeouts(each, total)
            if endpoint.raw.family == socket.AF_UNIX:
                yield from endpoint.connect(host, timeouts)
            else:
                found = yield from self._addresses(endpoint, host, port)
                yield from self._each(endpoint, found, Endpoint.connect, timeouts)
            return b"", 0

        return self.operate(number, "connect", operation)

    def disconnect(self, number: int) -> Outcome:
        """Let a udp socket forget its peer; it keeps its own address. Returns ""."""

        def forget(endpoint: Endpoint) -> None:
            name, family = endpoint.raw.getsockname(), endpoint.raw.family
            endpoint.renew(family)
            if family != socket.AF_UNIX or name:
                endpoint.raw.bind(name)

        return self._now(number, forget)

    def accept(self, number: int, each: float, total: float) -> Outcome:
        """Wait for a connection. Returns ("", the number of its socket)."""

        def operation(endpoint: Endpoint) -> Waits:
            timeouts = Timeouts(each, total)
            while True:
                try:
                    accepted, _ = endpoint.raw.accept()
                    return b"", self._add(accepted)
                except BlockingIOError:
                    yield from endpoint.ready(READ, timeouts.next())

        return self.operate(number, "accept", operation)

    def receive(self, number: int, most: float, each: float, total: float) -> Outcome:
        """The next bytes, at most so many."""
        endpoint = self.endpoints.get(number)
        if endpoint is None:
            return self._bridge.failure(CLOSED)
        mask = READ
        if endpoint.operations.is_idle:
            try:
                return self._received(endpoint.sock.recv(int(most)))
            except BlockingIOError as problem:
                mask = _awaited(problem, READ)
                if each == 0 or total == 0:
                    endpoint.wanted = mask
                    return self._bridge.failure(TIMEOUT)
            except OSError as problem:
                return self._failure(problem)

        def operation(endpoint: Endpoint) -> Waits:
            timeouts = Timeouts(each, total)
            waits_for = mask
            while True:
                yield from endpoint.ready(waits_for, timeouts.next())
                try:
                    return self._received(endpoint.sock.recv(int(most)))
                except BlockingIOError as problem:
                    waits_for = _awaited(problem, READ)

        return self.operate(number, "receive", operation)

    def send(self, number: int, data: bytes, start: float, end: float, each: float, total: float) -> Outcome:
        """Send these bytes of the data, from `start` to before `end`. Returns ("", how many)."""
        endpoint = self.endpoints.get(number)
        if endpoint is None:
            return self._bridge.failure(CLOSED)
        part = memoryview(data)[int(start) : int(end)]
        sent = 0
        mask = WRITE
        if endpoint.operations.is_idle:
            try:
                sent = endpoint.sock.send(part)
            except BlockingIOError as problem:
                mask = _awaited(problem, WRITE)
            except OSError as problem:
                return self._failure(problem)
            if sent == len(part):
                return b"", sent

        def operation(endpoint: Endpoint) -> Waits:
            timeouts = Timeouts(each, total)
            waits_for = mask
            endpoint.operations.done = sent
            while endpoint.operations.done < len(part):
                yield from endpoint.ready(waits_for, timeouts.next())
                try:
                    endpoint.operations.done += endpoint.sock.send(part[endpoint.operations.done :])
                except BlockingIOError as problem:
                    waits_for = _awaited(problem, WRITE)
            return b"", len(part)

        return self.operate(number, "send", operation)

    def send_to(self, number: int, data: bytes, host: bytes, port: bytes) -> Outcome:
        """Send a datagram to an address, which is no name; the port of a path is "". Returns ("", its length)."""

        def operation(endpoint: Endpoint) -> Waits:
            if endpoint.raw.family == socket.AF_UNIX:
                address: Any = host
            else:
                found = resolver.numeric(os.fsdecode(host), port.decode(), 0, socket.SOCK_DGRAM)
                if not host or not found:
                    return self._bridge.failure(b"Name or service not known")
                family, _, _, address = found[0]
                if endpoint.any_family and endpoint.raw.family != family:
                    endpoint.renew(family)
                endpoint.any_family = False
            while True:
                try:
                    return b"", endpoint.raw.sendto(data, address)
                except BlockingIOError:
                    yield from endpoint.ready(WRITE, -1)

        return self.operate(number, "send_to", operation)

    def receive_from(self, number: int, most: float, each: float, total: float) -> Outcome:
        """The next datagram, cut to so many bytes, and whom it is from: (data, "host port", 0)."""

        def operation(endpoint: Endpoint) -> Waits:
            timeouts = Timeouts(each, total)
            while True:
                try:
                    data, address = endpoint.raw.recvfrom(int(most))
                except BlockingIOError:
                    yield from endpoint.ready(READ, timeouts.next())
                else:
                    sender = _shown(address)
                    return (data, sender, 0) if self._bridge.reserve(len(data) + len(sender)) else False

        return self.operate(number, "receive_from", operation)

    def address(self, number: int, is_peer: bool) -> Outcome:
        """That of this end, or of the other: "host port family"."""
        endpoint = self.endpoints.get(number)
        if endpoint is None:
            return self._failure(OSError(errno.EBADF, ""))
        try:
            found = endpoint.raw.getpeername() if is_peer else endpoint.raw.getsockname()
        except OSError as problem:
            return self._failure(problem)
        return self._bridge.text(_shown(found) + b" " + _FAMILY_NAMES[endpoint.raw.family])

    def set_option(
        self, number: int, name: bytes, first: bytes | float, second: bytes | float | None = None
    ) -> Outcome:
        """Set an option. Returns ""."""

        def set_it(endpoint: Endpoint) -> None:
            set_option(endpoint.raw, OPTIONS[name], first, second)
            endpoint.options.append(lambda sock: set_option(sock, OPTIONS[name], first, second))

        return self._now(number, set_it)

    def get_option(self, number: int, name: bytes) -> Outcome:
        """An option: (text, number, 0). Text is what an error is called, and "on" for `linger`."""
        endpoint = self.endpoints.get(number)
        if endpoint is None:
            return self._failure(OSError(errno.EBADF, ""))
        try:
            value, seconds = get_option(endpoint.raw, OPTIONS[name])
        except OSError as problem:
            return self._failure(problem)
        if name == b"linger":
            return (b"on" if value else b"", seconds)
        text = of_system(value) if name == b"error" and value else b""
        return (text, value) if self._bridge.reserve(len(text)) else False

    def option_kind(self, name: bytes) -> Outcome:
        """What an option is: "flag", "number", "linger", and so on; nil where there is none of this name."""
        option = OPTIONS.get(name)
        return option.kind.encode() if option is not None else None

    def shutdown(self, number: int, direction: bytes) -> Outcome:
        """Close one direction, or both. Returns ""."""
        return self._now(number, lambda endpoint: endpoint.sock.shutdown(_DIRECTIONS[direction]))

    def descriptor(self, number: int) -> int:
        """Its descriptor; -1 where it is closed, or has no family yet, as LuaSocket's has none by then."""
        endpoint = self.endpoints.get(number)
        return endpoint.raw.fileno() if endpoint is not None and not endpoint.any_family else -1

    def close(self, number: int) -> None:
        """Close it, if it is open."""
        endpoint = self.endpoints.pop(number, None)
        if endpoint is not None:
            endpoint.close()

    def keep(self, number: int, seconds: float, size: float) -> Outcome:
        """Keep the connection for whoever connects to the same next; for the script it is closed. Returns ""."""
        endpoint = self.endpoints.pop(number, None)
        if endpoint is None:
            return self._bridge.failure(CLOSED)
        endpoint.release()
        problem = kept.give(endpoint, seconds, int(size), self._bridge.files)
        if problem:
            endpoint.close()
            return self._bridge.failure(problem)
        return b""

    def select(self, reads: bytes, writes: bytes, seconds: float) -> Outcome:
        """Wait until some of these can be read or written: numbers with spaces between; below zero seconds: for ever.

        Returns those that can, in the same way: (reads, writes, 0).
        """

        def operation() -> Waits:
            wanted = {
                (self.endpoints[int(number)].raw.fileno(), mask): number
                for numbers, mask in ((reads, READ), (writes, WRITE))
                for number in numbers.split()
                if int(number) in self.endpoints
            }
            found = yield from ready_within(wanted, seconds)
            texts = [
                b" ".join(wanted[each] for each in wanted if each in found and each[1] == m) for m in (READ, WRITE)
            ]
            return (texts[0], texts[1], 0) if self._bridge.reserve(len(texts[0]) + len(texts[1])) else False

        return self._operations.run("select", operation, self._bridge)

    def resolve(self, what: bytes, name: bytes, service: bytes | None = None) -> Outcome:
        """Ask the resolver. Its answer is lines of words; see `resolver.lines`."""

        def operation() -> Waits:
            port = os.fsdecode(service) if service is not None else None
            found = yield from resolver.lines(what, os.fsdecode(name), port)
            return self._bridge.text(b"\n".join(found))

        return self._operations.run("resolve", operation, self._bridge)

    def host_name(self) -> Outcome:
        """That of this machine."""
        return self._bridge.text(os.fsencode(socket.gethostname()))

    def time(self) -> float:
        """Seconds since 1970."""
        return time()

    def clock(self) -> float:
        """Seconds of a clock that nobody sets."""
        return monotonic()

    def was_gone(self) -> Outcome:
        """Whether the client had gone when the last run ended: "" or nil."""
        return b"" if self._was_gone else None

    def drop_kept(self) -> Outcome:
        """There are too many descriptors: close a connection that was kept. Returns "", or nil where there is none."""
        return b"" if kept.drop_oldest(self._bridge.files) else None

    def close_all(self) -> None:
        """The state goes."""
        while self.endpoints:
            self.endpoints.popitem()[1].close()

    def _end_run(self) -> None:
        exchange = self._bridge.exchange
        self._was_gone = exchange is not None and exchange.aborted

    def _add(self, sock: socket.socket, any_family: bool = False) -> int:
        self._last += 1
        self.endpoints[self._last] = Endpoint(sock, any_family)
        return self._last

    def _addresses(self, endpoint: Endpoint, host: bytes, port: bytes, is_any: bool = False) -> Step:
        if not host:
            # The resolver would take it for this machine; somebody has forgotten to say which.
            raise socket.gaierror(socket.EAI_NONAME, "")
        family = socket.AF_UNSPEC if endpoint.any_family else endpoint.raw.family
        name = "" if is_any else os.fsdecode(host)
        found = yield from resolver.addresses(name, port.decode(), family, endpoint.raw.type)
        return found

    def _each(
        self, endpoint: Endpoint, found: list[resolver.Address], step: Callable[..., Step], *more: object
    ) -> Step:
        """Take the first address that does. Raises what the last one raised."""
        for left, (family, _, _, address) in zip(range(len(found) - 1, -1, -1), found, strict=True):
            if endpoint.raw.family != family:
                endpoint.renew(family)
            try:
                yield from step(endpoint, address, *more)
                endpoint.any_family = False
                return
            except OSError as problem:
                if left == 0 and isinstance(problem, TimeoutError):
                    # It may be on its way still.
                    endpoint.any_family = False
                elif left > 0 or endpoint.any_family:
                    # One that has failed to connect may not try again everywhere.
                    endpoint.renew(family)
                if left == 0:
                    raise

    def _bind_to(self, endpoint: Endpoint, address: Any) -> Step:
        endpoint.raw.bind(address)
        yield from ()

    def operate(self, number: int, purpose: str, operation: Callable[[Endpoint], Waits]) -> Outcome:
        """Run an operation on a socket, or go on with the one of this purpose."""
        endpoint = self.endpoints.get(number)
        if endpoint is None:
            return self._bridge.failure(CLOSED)
        return endpoint.operations.run(purpose, lambda: operation(endpoint), self._bridge)

    def _now(self, number: int, function: Callable[[Endpoint], object]) -> Outcome:
        endpoint = self.endpoints.get(number)
        if endpoint is None:
            return self._failure(OSError(errno.EBADF, ""))
        try:
            function(endpoint)
        except OSError as problem:
            return self._failure(problem)
        except (UnicodeError, ValueError, OverflowError):
            return self._failure(OSError(errno.EINVAL, ""))
        return b""

    def _received(self, data: bytes) -> Outcome:
        if not data:
            return self._bridge.failure(CLOSED)
        return self._bridge.text(data)

    def _failure(self, problem: OSError) -> Outcome:
        return self._bridge.failure(problem_text(problem))


def functions(bridge: Bridge) -> Mapping[str, ModuleFunction]:
    """What `sockets.lua` calls, for one state."""
    sockets = Sockets(bridge)
    own: tuple[ModuleFunction, ...] = (
        sockets.create, sockets.bind, sockets.listen, sockets.connect, sockets.disconnect, sockets.accept,
        sockets.receive, sockets.send, sockets.send_to, sockets.receive_from, sockets.address, sockets.set_option,
        sockets.get_option, sockets.option_kind, sockets.shutdown, sockets.descriptor, sockets.close,
        sockets.keep, sockets.select, sockets.resolve, sockets.host_name, sockets.time, sockets.clock,
        sockets.was_gone, sockets.drop_kept,
    )  # fmt: skip
    tls = TlsCalls(bridge, sockets.endpoints, sockets.operate)
    return {function.__name__: function for function in (*own, *tls.functions())}


def _awaited(problem: BlockingIOError, usual: int) -> int:
    """What has to come before it is tried again; TLS may want to write in order to read."""
    mask: int = getattr(problem, "mask", usual)
    return mask


def _shown(address: Any) -> bytes:
    if isinstance(address, tuple):
        return b"%b %d" % (os.fsencode(address[0]), address[1])
    return address if isinstance(address, bytes) else os.fsencode(address or "")
