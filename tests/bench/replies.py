"""Whether a server answers what it must: its replies, byte for byte, before and after it is measured."""

from .accounting import open_connections
from .frontend import Frontend
from .peers import Upstream
from .work import Connection, Work


def wrong_reply(frontend: Frontend, upstream: Upstream, connection: Connection, work: Work) -> str | None:
    """What is wrong with the reply, in one line; None when nothing is.

    The body and the content type are compared with the expected ones, which are the same for all servers. It
    is asked twice, the second time over the kept connection where there is one; and a kept one must still be
    there.
    """
    for _ in range(2):
        reply = frontend.fetch(upstream, connection, work)
        if reply.status != 200:
            return f"status {reply.status}, 200 expected"
        if reply.body != work.body:
            return _difference(reply.body, work.body)
        if reply.content_type.lower() != work.content_type:
            return f"content type {reply.content_type!r}, {work.content_type!r} expected"
    if connection == "kept" and not open_connections(upstream.socket):
        return "the server closed a connection that it was asked to keep"
    return None


def _difference(found: bytes, expected: bytes) -> str:
    pairs = enumerate(zip(found, expected, strict=False))
    at = next((index for index, (one, other) in pairs if one != other), min(len(found), len(expected)))
    return (
        f"body of {len(found)} bytes, {len(expected)} expected; they part at byte {at}: "
        f"{found[at : at + 20]!r}, {expected[at : at + 20]!r} expected"
    )
