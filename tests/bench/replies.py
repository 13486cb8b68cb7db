"""Whether a server answers what it must: its replies, byte for byte, before and after it is measured."""

from typing import NamedTuple

from .accounting import open_connections
from .frontend import Frontend
from .peers import Upstream
from .work import Connection, Work

_TIMES = 2


class Check(NamedTuple):
    """How many replies were compared, and what is wrong with the last of them, in one line; None when nothing is."""

    replies: int
    fault: str | None


def checked(frontend: Frontend, upstream: Upstream, connection: Connection, work: Work) -> Check:
    """Ask for a work twice, the second time over the kept connection where there is one, which must still be there.

    The body and the content type are compared with the expected ones, which are the same for all servers.
    Raises `BenchError` when no reply comes.
    """
    for count in range(1, _TIMES + 1):
        reply = frontend.fetch(upstream, connection, work)
        if reply.status != 200:
            return Check(count, f"status {reply.status}, 200 expected")
        if reply.body != work.body:
            return Check(count, _difference(reply.body, work.body))
        if reply.content_type.lower() != work.content_type:
            return Check(count, f"content type {reply.content_type!r}, {work.content_type!r} expected")
    if connection == "kept" and not open_connections(upstream.socket):
        return Check(_TIMES, "the server closed a connection that it was asked to keep")
    return Check(_TIMES, None)


def _difference(found: bytes, expected: bytes) -> str:
    pairs = enumerate(zip(found, expected, strict=False))
    at = next((index for index, (one, other) in pairs if one != other), min(len(found), len(expected)))
    return (
        f"body of {len(found)} bytes, {len(expected)} expected; they part at byte {at}: "
        f"{found[at : at + 20]!r}, {expected[at : at + 20]!r} expected"
    )
