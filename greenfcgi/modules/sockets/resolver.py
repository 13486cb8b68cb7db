"""Names and addresses: the resolver of the system, which blocks, in threads of its own.

What is an address already needs none.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final

from ...lua.bridge import Outcome, Waitable
from ..threads import Job, Threads
from .operations import NEVER

#: A name that takes long to be found holds up only those who ask for names.
_threads: Final = Threads(8)

#: Imported when it is needed, since names of hosts are encoded by them: see `configured.import_shipped`.
LATE_IMPORTS: Final = ("encodings.idna", "encodings.punycode")

_FAMILY_NAMES: Final = {socket.AF_INET: b"inet", socket.AF_INET6: b"inet6"}

MAX_PORT: Final = 65535
MAX_DIGITS: Final = 9

#: Family, type, protocol, and the address as sockets take it.
Address = tuple[int, int, int, Any]


class _Lookup(Job):
    """A question to the system's resolver."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        super().__init__(_threads)
        self._ask = ask
        self._answer: Any = None
        self._problem: Exception | None = None

    def work(self) -> None:
        """Ask."""
        try:
            self._answer = self._ask()
        except Exception as problem:
            self._problem = problem

    def fail(self, problem: Exception) -> None:
        """There is no thread for it."""
        self._problem = OSError(11, "Resource temporarily unavailable")

    def outcome(self) -> Outcome:
        """Nobody asks for it: see `answer`."""
        return None

    def answer(self) -> Any:
        """What was found. Raises `OSError`, or `UnicodeError` for what can be no name."""
        if self._problem is not None:
            raise self._problem
        return self._answer


def numeric(host: str, port: str, family: int, kind: int) -> list[Address] | None:
    """The addresses of what is an address already; None where it is a name, or the port is one."""
    try:
        return _addresses(host, port, family, kind, socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)
    except (OSError, UnicodeError):
        return None


def addresses(host: str, port: str, family: int, kind: int) -> Generator[tuple[Waitable, float], None, list[Address]]:
    """An operation: the addresses of a host and a port. Raises `OSError` and `UnicodeError`."""
    found = numeric(host, port, family, kind)
    if found is None:
        found = yield from _asked(partial(_addresses, host, port, family, kind, 0))
    return found


def lines(what: bytes, host: str, service: str | None) -> Generator[tuple[Waitable, float], None, list[bytes]]:
    """An operation: what the resolver says about a host, in lines of words.

    `what` is b"addresses" (a family and an address in each line), b"names" (a name and a service), or b"by_name" and
    b"by_address" (the name, aliases, an empty line, addresses). Raises `OSError` and `UnicodeError`.
    """
    if what == b"addresses":
        found = yield from _asked(partial(_addresses, host, None, 0, socket.SOCK_STREAM, 0))
        words = [(_FAMILY_NAMES[family], address[0]) for family, _, _, address in found if family in _FAMILY_NAMES]
        return [b"%b %b" % (family, os.fsencode(address)) for family, address in words]
    if what == b"names":
        found = yield from _asked(partial(_names, host, service))
        return [b"%b %b" % (os.fsencode(name), os.fsencode(port)) for name, port in found]
    ask = socket.gethostbyname_ex if what == b"by_name" else socket.gethostbyaddr
    name, aliases, numbers = yield from _asked(partial(ask, _checked(host)))
    return [os.fsencode(line) for line in (name, *aliases, "", *numbers)]


def _asked(ask: Callable[[], Any]) -> Generator[tuple[Waitable, float], None, Any]:
    lookup = _Lookup(ask)
    lookup.start()
    try:
        while not lookup.ended.is_set():
            yield lookup.ended, NEVER
    finally:
        lookup.give_up()
    return lookup.answer()


def _checked(name: str) -> str:
    """A name, of which the system would take what is before a zero byte. Raises `OSError`."""
    if "\0" in name:
        raise socket.gaierror(socket.EAI_NONAME, "")
    return name


def _names(host: str, service: str | None) -> list[tuple[str, str]]:
    found = _addresses(host, service, 0, socket.SOCK_STREAM, 0)
    return [socket.getnameinfo(address, 0) for _, _, _, address in found]


def _addresses(host: str, port: str | None, family: int, kind: int, flags: int) -> list[Address]:
    if port is not None and port.isdigit() and (len(port) > MAX_DIGITS or int(port) > MAX_PORT):
        # The system takes what is left of it in 16 bits.
        raise socket.gaierror(socket.EAI_SERVICE, "")
    host, port = _checked(host), _checked(port) if port is not None else None
    found = socket.getaddrinfo(host or None, port, family, kind, 0, flags | (0 if host else socket.AI_PASSIVE))
    return [(each[0], each[1], each[2], each[4]) for each in found]
