"""TLS of requests: certificates and host names are verified, unless a script says otherwise.

The authorities are those that OpenSSL has been told by the system, or by SSL_CERT_FILE and SSL_CERT_DIR; or the file
that the script names. Imported with the first request for https, since OpenSSL takes 3 MB.
"""

from __future__ import annotations

import socket
import ssl
from functools import lru_cache
from typing import Any

from ..sockets.endpoint import READ, WRITE
from ..sockets.tls import Wants, problem_of

#: What `verify` says: the file of authorities, "" for the system's, None for none at all; when the file was written.
Verification = tuple[str | None, int]


class NoAuthorities(Exception):
    """The file of authorities cannot be read; the message says why."""


@lru_cache(maxsize=16)
def context(verified: Verification) -> ssl.SSLContext:
    """What connections are made with. Raises `NoAuthorities`."""
    path = verified[0]
    try:
        made = ssl.create_default_context(cafile=path or None)
    except OSError as problem:
        raise NoAuthorities(problem_of(problem) if isinstance(problem, ssl.SSLError) else "cannot be read") from None
    if path is None:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    made.set_alpn_protocols(["http/1.1"])
    return made


class TlsStream:
    """The encrypted stream of a connected socket, which it takes over; an `Endpoint` reads and writes it.

    Methods raise `Wants`, and `OSError` whose text says what has failed. An end that TLS has not announced is a
    failure: anybody could have cut the connection.
    """

    def __init__(self, raw: socket.socket, made: ssl.SSLContext, host: str) -> None:
        self.sock: Any = made.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)

    def handshake(self) -> None:
        """Do the next step of it."""
        _translated(self.sock.do_handshake)

    def recv(self, size: int) -> bytes:
        """The next bytes, b"" at the end."""
        data: bytes = _translated(self.sock.recv, size)
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Send some of the data; returns how many bytes."""
        sent: int = _translated(self.sock.send, data)
        return sent

    def close(self) -> None:
        """Close what is below."""
        self.sock.close()


def _translated(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except ssl.SSLWantReadError:
        raise Wants(READ) from None
    except ssl.SSLWantWriteError:
        raise Wants(WRITE) from None
    except ssl.SSLZeroReturnError:
        return b""
    except ssl.SSLEOFError:
        raise ConnectionResetError(0, "the connection was cut") from None
    except ssl.SSLCertVerificationError as problem:
        # Some of these end with a full stop.
        raise OSError(0, f"certificate verify failed: {problem.verify_message.rstrip('.')}") from None
    except ssl.SSLError as problem:
        raise OSError(0, f"TLS: {problem_of(problem)}") from None
