"""What a connection has to make of whole records, in the plainest form: the rules that `protocol` is measured by.

Nothing here is shared with `connection` and `records` but the numbers of the specification. A stream is cut into its
records first, so that nothing here knows of partial reads, and a decoder may be slow.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Container
from typing import NamedTuple

from greenfcgi.fastcgi import connection, records
from greenfcgi.fastcgi.connection import ABORTED, BEGUN, READY, STDIN, TOO_LARGE

Pair = tuple[bytes, bytes]
#: (event, data); the parameters stand in the place of the empty data of BEGUN.
Meaning = tuple[int, bytes]


#: Type, request id, length of the content and of the padding, behind the version.
_HEADER = struct.Struct("!xBHHBx")


class Record(NamedTuple):
    """A record of a stream."""

    kind: int
    request_id: int
    content: bytes
    #: All its bytes, with header and padding.
    data: bytes


def whole_records(stream: bytes) -> tuple[list[Record], bytes]:
    """The records of a stream, and what is behind them: a record of which a part is missing, or no FastCGI."""
    found: list[Record] = []
    at, size = 0, len(stream)
    while size - at >= 8 and stream[at] == 1:
        kind, request_id, length, padding = _HEADER.unpack_from(stream, at)
        content = at + 8
        end = content + length + padding
        if size < end:
            break
        found.append(Record(kind, request_id, stream[content : content + length], stream[at:end]))
        at = end
    return found, stream[at:]


def is_refused(tail: bytes) -> bool:
    """What stands behind the whole records has a header, and it is not one of FastCGI 1."""
    return len(tail) >= 8 and tail[0] != 1


def whole_pairs(data: bytes) -> list[Pair] | None:
    """Name-value pairs, or None where something is missing of the last one."""
    found: list[Pair] = []
    at = 0
    while at < len(data):
        lengths = []
        for _ in range(2):
            size = 4 if data[at : at + 1] >= b"\x80" else 1
            if len(data) < at + size:
                return None
            lengths.append(int.from_bytes(data[at : at + size], "big") & 0x7FFF_FFFF)
            at += size
        name, value = (at, at + lengths[0]), (at + lengths[0], at + sum(lengths))
        if value[1] > len(data):
            return None
        found.append((data[slice(*name)], data[slice(*value)]))
        at = value[1]
    return found


def variables(pairs: list[Pair]) -> dict[bytes, bytes]:
    """CGI variables: of a name that comes twice the last value, of headers a list, or the first where they are none."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    single = {b"HTTP_HOST", b"HTTP_USER_AGENT"}
    return {
        name: all_of[0] if name in single
        else b"; ".join(all_of) if name == b"HTTP_COOKIE"
        else b", ".join(all_of) if name[:5] == b"HTTP_"
        else all_of[-1]
        for name, all_of in values.items()
    }  # fmt: skip


class Streams:
    """PARAMS and STDIN of one request."""

    def __init__(self) -> None:
        self.params = b""
        self.params_ended = False
        self.stdin_ended = False


class Rules:
    """What each record of one connection has to mean, given those before it."""

    def __init__(self) -> None:
        #: How often each id was begun.
        self.begun: Counter[int] = Counter()
        #: Management records that are answered.
        self.asked = 0
        #: Every request so far came with KEEP_CONN.
        self.keep_alive = True
        self._streams: dict[int, Streams] = {}

    def refuses(self, record: Record, active: Container[int]) -> bool:
        """The record is one of those that end a connection."""
        kind, request_id, content, _ = record
        if kind == records.BEGIN_REQUEST:
            return len(content) != 8 or request_id == 0 or request_id in active
        if kind == records.GET_VALUES and request_id == 0:
            return whole_pairs(content) is None
        if kind == records.PARAMS and request_id in active and not content:
            streams = self._streams[request_id]
            return not streams.params_ended and whole_pairs(streams.params) is None
        return False

    def begins(self, record: Record, active: Collection[int]) -> bool:
        """The record begins a request; false also when it is a BEGIN_REQUEST that END_REQUEST is owed for."""
        if record.kind != records.BEGIN_REQUEST:
            return False
        role = int.from_bytes(record.content[:2], "big")
        self.begun[record.request_id] += 1
        self.keep_alive = self.keep_alive and bool(record.content[2] & 1)
        self._streams[record.request_id] = Streams()
        return role == 1 and len(active) < connection.MAX_REQUESTS

    def means(self, record: Record, active: Container[int]) -> list[Meaning]:
        """The events of a record that is not refused."""
        kind, request_id, content, _ = record
        if request_id == 0:
            self.asked += kind == records.GET_VALUES or kind == 0 or kind > records.UNKNOWN_TYPE
        if request_id not in active:
            return []
        if kind == records.ABORT_REQUEST:
            return [(ABORTED, b"")]
        streams = self._streams[request_id]
        if kind == records.PARAMS and not streams.params_ended:
            return self._params(streams, content)
        if kind == records.STDIN and not streams.stdin_ended:
            streams.stdin_ended = not content
            if content:
                return [(STDIN, content)]
            return [(READY, b"")] if streams.params_ended else []
        return []

    @staticmethod
    def _params(streams: Streams, content: bytes) -> list[Meaning]:
        """The events of a record of PARAMS."""
        streams.params += content
        if len(streams.params) > connection.MAX_PARAMS:
            streams.params_ended = streams.stdin_ended = True
            return [(TOO_LARGE, b"")]
        streams.params_ended = not content
        if content:
            return []
        return [(BEGUN, streams.params), *([(READY, b"")] if streams.stdin_ended else [])]
