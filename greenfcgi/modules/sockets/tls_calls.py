"""What `ssl.lua` calls, for the sockets of one state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from ...lua.bridge import Bridge, ModuleFunction, Outcome
from .endpoint import READ, Endpoint, Timeouts
from .operations import Waits

#: Imported when it is needed: see `configured.import_shipped`.
LATE_IMPORTS: Final = (".tls",)
#: Runs an operation on the socket of a number: see `Sockets.operate`.
Operate = Callable[[int, str, Callable[[Endpoint], Waits]], Outcome]


class TlsCalls:
    """Each is called from Lua. A failure is (nil, what it is, 0)."""

    def __init__(self, bridge: Bridge, endpoints: Mapping[int, Endpoint], operate: Operate) -> None:
        self._bridge = bridge
        self._endpoints = endpoints
        self._operate = operate

    def check_context(self, described: bytes) -> Outcome:
        """Look whether a context can be made of these parameters. Returns ""."""
        tls = _tls()
        try:
            tls.context(_parameters(described))
        except tls.BadParameter as problem:
            return self._bridge.failure(str(problem).encode("utf-8", "surrogateescape"))
        return b""

    def handshake(self, number: int, described: bytes, server_name: bytes | None, each: float, total: float) -> Outcome:
        """Encrypt a connection, and wait for the handshake. Returns ""."""

        def operation(endpoint: Endpoint) -> Waits:
            tls = _tls()
            timeouts = Timeouts(each, total)
            terms = described, server_name
            if endpoint.sock is not endpoint.raw and endpoint.terms != terms:
                # One that was kept, which somebody else trusted on other terms.
                yield from endpoint.reconnect(timeouts)
            if endpoint.sock is endpoint.raw:
                try:
                    context = tls.context(_parameters(described))
                except tls.BadParameter as problem:
                    # Its files have changed since.
                    raise OSError(0, str(problem)) from None
                name = tls.server_name(server_name, context)
                endpoint.encrypt(lambda raw: tls.TlsStream(raw, context, name), terms)
            while True:
                try:
                    endpoint.sock.handshake()
                    return b""
                except BlockingIOError as problem:
                    yield from endpoint.ready(getattr(problem, "mask", READ), timeouts.next())

        return self._operate(number, "handshake", operation)

    def wants(self, number: int) -> Outcome:
        """What the last operation waited for in vain: "read", "write" or "nothing"."""
        endpoint = self._endpoints.get(number)
        return (b"nothing", b"read", b"write")[endpoint.wanted if endpoint is not None else 0]

    def is_encrypted(self, number: int, described: bytes) -> Outcome:
        """Whether it was kept after a handshake with these parameters: "" or nil."""
        endpoint = self._endpoints.get(number)
        return b"" if endpoint is not None and endpoint.terms is not None and endpoint.terms[0] == described else None

    def certificate(self, number: int) -> Outcome:
        """The other end's certificate as text; nil where there is none."""
        stream = self._stream(number)
        found = stream.certificate() if stream is not None else None
        return self._bridge.text(_tls().pem(found)) if found else None

    def certificate_signature(self, pem: bytes) -> Outcome:
        """What it was signed with: "RSA-SHA256"; nil for what is no certificate."""
        tls = _tls()
        found = tls.der(pem)
        return self._bridge.text(tls.signature_name(found).encode()) if found else None

    def certificate_digest(self, pem: bytes, algorithm: bytes) -> Outcome:
        """Its digest in hexadecimal; nil where there is no such algorithm."""
        tls = _tls()
        found = tls.der(pem)
        result = tls.digest(found, algorithm.decode("ascii", "replace")) if found else None
        return self._bridge.text(result) if result else None

    def tls_facts(self, number: int) -> Outcome:
        """Protocol, cipher, its bits, and ALPN's choice, in lines; nil before the handshake."""
        stream = self._stream(number)
        return self._bridge.text("\n".join(stream.facts()).encode()) if stream is not None else None

    def pending(self, number: int) -> Outcome:
        """Whether bytes are there that have been decrypted and not read: "" or nil."""
        stream = self._stream(number)
        return b"" if stream is not None and stream.sock.pending() else None

    def functions(self) -> tuple[ModuleFunction, ...]:
        """All of them."""
        return (
            self.check_context, self.handshake, self.wants, self.is_encrypted, self.certificate, self.pending,
            self.certificate_signature, self.certificate_digest, self.tls_facts,
        )  # fmt: skip

    def _stream(self, number: int) -> Any:
        endpoint = self._endpoints.get(number)
        return endpoint.sock if endpoint is not None and endpoint.sock is not endpoint.raw else None


def _tls() -> ModuleType:
    # OpenSSL takes 2 MB, which only those pay who use it.
    from . import tls

    return tls


def _parameters(described: bytes) -> dict[str, str]:
    """Lines of a name and a value."""
    pairs = (line.partition(" ") for line in described.decode("utf-8", "surrogateescape").split("\n") if line)
    return {name: value for name, _, value in pairs}
