"""What LuaSocket says when something fails, by the errors of the system and of the resolver."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

TIMEOUT: Final = b"timeout"
CLOSED: Final = b"closed"

#: As in LuaSocket's own source; what is not here is named as the system does.
_SYSTEM: Final = {
    errno.EADDRINUSE: b"address already in use",
    errno.EISCONN: b"already connected",
    errno.EACCES: b"permission denied",
    errno.ECONNREFUSED: b"connection refused",
    errno.ECONNABORTED: CLOSED,
    errno.ECONNRESET: CLOSED,
    errno.EPIPE: CLOSED,
    errno.ETIMEDOUT: TIMEOUT,
}
_RESOLVER: Final = {
    socket.EAI_AGAIN: b"temporary failure in name resolution",
    socket.EAI_BADFLAGS: b"invalid value for ai_flags",
    socket.EAI_FAIL: b"non-recoverable failure in name resolution",
    socket.EAI_FAMILY: b"ai_family not supported",
    socket.EAI_MEMORY: b"memory allocation failure",
    socket.EAI_NONAME: b"host or service not provided, or not known",
    socket.EAI_SERVICE: b"service not supported for socket type",
    socket.EAI_SOCKTYPE: b"ai_socktype not supported",
}


def of_system(number: int) -> bytes:
    """What an errno is called."""
    return _SYSTEM.get(number) or os.strerror(number).encode()


def problem_text(problem: OSError | UnicodeError) -> bytes:
    """What a failure is called. A name that cannot be written as the resolver takes it is one that nobody knows."""
    if isinstance(problem, (socket.gaierror, UnicodeError)):
        number = problem.errno if isinstance(problem, OSError) else None
        return _RESOLVER.get(number or 0, _RESOLVER[socket.EAI_NONAME])
    if isinstance(problem, TimeoutError) and problem.errno is None:
        return TIMEOUT
    return of_system(problem.errno) if problem.errno else (problem.strerror or str(problem)).encode("utf-8", "replace")
