"""TLS over a socket of a script, with LuaSec's parameters, by Python's `ssl`. Imported when a script requires ssl.

As LuaSec, it verifies nothing unless `verify` says so, and takes no certificate authorities of the system: programs
that were written for it rely on that. What greenfcgi itself brings (`greenfcgi.http`) verifies.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import ssl
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from .endpoint import READ, WRITE

_VERSIONS: Final = {
    "tlsv1": ssl.TLSVersion.TLSv1,
    "tlsv1_1": ssl.TLSVersion.TLSv1_1,
    "tlsv1_2": ssl.TLSVersion.TLSv1_2,
    "tlsv1_3": ssl.TLSVersion.TLSv1_3,
}
_ANY_VERSION: Final = ("any", "sslv23", "tls")
#: What OpenSSL calls the algorithms of signatures, by their object identifiers in DER (RFC 5280, 8017, 5758, 8410).
_SIGNATURES: Final = {
    "2a864886f70d010104": "RSA-MD5", "2a864886f70d010105": "RSA-SHA1", "2a864886f70d01010b": "RSA-SHA256",
    "2a864886f70d01010c": "RSA-SHA384", "2a864886f70d01010d": "RSA-SHA512", "2a864886f70d01010a": "RSASSA-PSS",
    "2a8648ce3d0401": "ecdsa-with-SHA1", "2a8648ce3d040302": "ecdsa-with-SHA256",
    "2a8648ce3d040303": "ecdsa-with-SHA384", "2a8648ce3d040304": "ecdsa-with-SHA512", "2b6570": "ED25519",
    "2b6571": "ED448",
}  # fmt: skip


def is_cut(problem: ssl.SSLError) -> bool:
    """The other end has gone without a word: an exception of its own, or not, as Python and OpenSSL have it."""
    return isinstance(problem, ssl.SSLEOFError) or problem.reason == "UNEXPECTED_EOF_WHILE_READING"


class Wants(BlockingIOError):
    """TLS has to read, or to write, before it goes on."""

    def __init__(self, mask: int) -> None:
        super().__init__()
        self.mask = mask


class TlsStream:
    """The encrypted stream of a connected socket, which it takes over; an `Endpoint` reads and writes it.

    Methods raise `Wants`, and `OSError` whose text says what has failed.
    """

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, server_name: str | None) -> None:
        try:
            self.sock: Any = context.wrap_socket(
                raw, server_side=context.protocol == ssl.PROTOCOL_TLS_SERVER, server_hostname=server_name,
                do_handshake_on_connect=False,
            )  # fmt: skip
        except ssl.SSLError as problem:
            raise OSError(0, problem_of(problem)) from None

    def handshake(self) -> None:
        """Do the next step of it."""
        self._do(self.sock.do_handshake)

    def recv(self, size: int) -> bytes:
        """The next bytes, b"" at the end."""
        data: bytes = self._do(self.sock.recv, size)
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Send some of the data; returns how many bytes."""
        sent: int = self._do(self.sock.send, data)
        return sent

    def _do(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except ssl.SSLWantReadError:
            raise Wants(READ) from None
        except ssl.SSLWantWriteError:
            raise Wants(WRITE) from None
        except ssl.SSLError as problem:
            return self.failed(problem)

    def failed(self, problem: ssl.SSLError) -> Any:
        """What a failure is for whoever reads and writes: raises `OSError`."""
        if isinstance(problem, ssl.SSLZeroReturnError) or is_cut(problem):
            # With a word or without one, as many end it.
            raise ConnectionResetError(errno.ECONNRESET, "") from None
        raise OSError(0, problem_of(problem)) from None

    def close(self) -> None:
        """Say that it ends, if that can be said at once, and close it."""
        try:
            # After that, it waits for the other end to say so, too.
            self.sock.unwrap()
        except (OSError, ValueError):
            pass
        self.sock.close()

    def shutdown(self, direction: int) -> None:
        """Close one direction of what is below, or both."""
        socket.socket.shutdown(self.sock, direction)

    def certificate(self) -> bytes | None:
        """That of the other end, in DER; None where it has shown none."""
        try:
            found: bytes | None = self.sock.getpeercert(True)
        except ValueError:
            # Before the handshake.
            return None
        return found

    def facts(self) -> list[str]:
        """The protocol, the cipher, its bits, and what ALPN has agreed upon."""
        name, _, bits = self.sock.cipher() or ("", "", 0)
        return [self.sock.version() or "", name, str(bits), self.sock.selected_alpn_protocol() or ""]


def server_name(name: bytes | None, context: ssl.SSLContext) -> str | None:
    """The name that a client asks for; None where there is none, and for a server. Raises `OSError`."""
    if not name or context.protocol != ssl.PROTOCOL_TLS_CLIENT:
        return None
    try:
        text = name.decode()
        # As it will be. Labels may be too long, or missing.
        text.encode("idna")
    except UnicodeError:
        text = "\0"
    if "\0" in text:
        raise OSError(0, "invalid server name")
    return text


def problem_of(problem: ssl.SSLError) -> str:
    """What OpenSSL says, in its words: "certificate verify failed"."""
    reason = (problem.reason or "").replace("_", " ").lower()
    if isinstance(problem, ssl.SSLCertVerificationError):
        return "certificate verify failed"
    return reason or "TLS failed"


class BadParameter(Exception):
    """A parameter of `newcontext` that cannot be used; the message names it."""


def context(parameters: Mapping[str, str]) -> ssl.SSLContext:
    """A context for parameters of LuaSec's; lists have commas between. Raises `BadParameter`."""
    files = [_changed(parameters[name]) for name in ("certificate", "key", "cafile") if name in parameters]
    # It warns of protocols and options that are old: whoever asks for them knows.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return _context(tuple(sorted(parameters.items())), *files)
        except (ssl.SSLError, ValueError, TypeError, OverflowError):
            # What OpenSSL cannot take, or what cannot be written as it takes it.
            raise BadParameter("invalid parameters") from None


def _changed(path: str) -> tuple[int, int]:
    """A certificate that is renewed lies in the same place."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return 0, 0
    return found.st_mtime_ns, found.st_ino


# Certificate authorities take 20 ms to read; scripts make a context for each connection.
@lru_cache(maxsize=64)
def _context(items: tuple[tuple[str, str], ...], *_files: tuple[int, int]) -> ssl.SSLContext:
    parameters = dict(items)
    mode = parameters.get("mode", "")
    if mode not in ("client", "server"):
        raise BadParameter(f"invalid mode ({mode or 'nil'})")
    is_client = mode == "client"
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if is_client else ssl.PROTOCOL_TLS_SERVER)
    made.check_hostname = False
    made.verify_mode = _verify_mode(parameters.get("verify", "").split(","), is_client)
    _choose_version(made, parameters.get("protocol", "any"))
    _load_files(made, parameters)
    try:
        if "ciphers" in parameters:
            made.set_ciphers(parameters["ciphers"])
    except ssl.SSLError:
        raise BadParameter("error setting cipher list") from None
    if "alpn" in parameters:
        made.set_alpn_protocols(parameters["alpn"].split(","))
    for name in filter(None, parameters.get("options", "").split(",")):
        made.options |= _option(name)
    return made


def _verify_mode(names: list[str], is_client: bool) -> ssl.VerifyMode:
    for name in names:
        if name not in ("", "none", "peer", "client_once", "fail_if_no_peer_cert"):
            raise BadParameter(f"invalid verify option ({name})")
    if "peer" not in names:
        return ssl.CERT_NONE
    return ssl.CERT_REQUIRED if is_client or "fail_if_no_peer_cert" in names else ssl.CERT_OPTIONAL


def _choose_version(made: ssl.SSLContext, protocol: str) -> None:
    if protocol in _ANY_VERSION:
        return
    version = _VERSIONS.get(protocol)
    if version is None:
        raise BadParameter(f"invalid protocol ({protocol})")
    made.minimum_version = made.maximum_version = version


def _load_files(made: ssl.SSLContext, parameters: Mapping[str, str]) -> None:
    if "certificate" in parameters:
        try:
            made.load_cert_chain(
                parameters["certificate"], parameters.get("key"), lambda: parameters.get("password", "")
            )
        except OSError as problem:
            raise BadParameter(f"error loading certificate and key ({_reason(problem)})") from None
    if "cafile" in parameters or "capath" in parameters:
        try:
            made.load_verify_locations(parameters.get("cafile"), parameters.get("capath"))
        except OSError as problem:
            raise BadParameter(f"error loading CA locations ({_reason(problem)})") from None


def _reason(problem: OSError) -> str:
    if isinstance(problem, ssl.SSLError):
        return problem_of(problem)
    return problem.strerror or "failed"


def _option(name: str) -> int:
    wanted = f"op_{name}".lower()
    for known in dir(ssl):
        if known.lower() == wanted:
            value: int = getattr(ssl, known)
            return value
    raise BadParameter(f"invalid option ({name})")


def pem(der: bytes) -> bytes:
    """A certificate as text."""
    return ssl.DER_cert_to_PEM_cert(der).encode()


def der(text: bytes) -> bytes | None:
    """A certificate from text; None where it is none."""
    try:
        found = ssl.PEM_cert_to_DER_cert(text.decode("ascii"))
        signature_name(found)
    except (ValueError, IndexError):
        return None
    return found


def digest(data: bytes, name: str) -> bytes | None:
    """Hexadecimal; None for what is no name of a digest."""
    try:
        return hashlib.new(name, data).hexdigest().encode()
    except (ValueError, TypeError):
        return None


def signature_name(certificate: bytes) -> str:
    """What its signature was made with, as OpenSSL calls it: "RSA-SHA256". Raises `ValueError` and `IndexError`.

    A certificate is a sequence of what is signed, the algorithm (a sequence that begins with its identifier), and the
    signature (RFC 5280, section 4.1).
    """
    start, _ = _element(certificate, 0, 0x30)
    _, end = _element(certificate, start, 0x30)
    algorithm, _ = _element(certificate, end, 0x30)
    first, last = _element(certificate, algorithm, 0x06)
    identifier = certificate[first:last].hex()
    return _SIGNATURES.get(identifier, identifier)


def _element(data: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the content of an element of DER begins and ends."""
    if data[at] != tag:
        raise ValueError("not a certificate")
    length = data[at + 1]
    at += 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(data[at : at + size], "big")
        at += size
    if at + length > len(data):
        raise ValueError("not a certificate")
    return at, at + length
