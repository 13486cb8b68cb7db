"""TLS of requests: certificates and host names are verified, unless a script says otherwise.

The authorities are the system's, or those of SSL_CERT_FILE and SSL_CERT_DIR, or the file that the script names.
Imported with the first request for https, since OpenSSL takes 3 MB.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import Any

from ..sockets.tls import TlsStream, is_cut, problem_of

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
    # Python up to 3.11.2 tells OpenSSL to take an end that was not announced for one that was.
    made.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return made


class VerifiedStream(TlsStream):
    """That of a request.

    An end that TLS has not announced is a failure: anybody could have cut the connection.
    """

    def failed(self, problem: ssl.SSLError) -> Any:
        """b"" at an end that has been announced; else raises `OSError`."""
        if isinstance(problem, ssl.SSLZeroReturnError):
            return b""
        if is_cut(problem):
            raise ConnectionResetError(0, "the connection was cut") from None
        if isinstance(problem, ssl.SSLCertVerificationError):
            # Some of these end with a full stop.
            raise OSError(0, f"certificate verify failed: {problem.verify_message.rstrip('.')}") from None
        raise OSError(0, f"TLS: {problem_of(problem)}") from None

    def close(self) -> None:
        """Close what is below."""
        self.sock.close()
