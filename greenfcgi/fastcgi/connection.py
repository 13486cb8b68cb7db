"""A FastCGI connection as a responder sees it: a state machine without I/O.

Bytes that came from the web server go into `Connection.receive`, which yields what they mean. What a reply looks
like on the wire comes from `reply`, `stdout`, `stderr` and `finish`. Records that the protocol itself answers with
(to management records, at the end of a refused or an aborted request) collect in the connection; `take_output`
returns them. Sockets, deadlines and scripts are other modules' business.

The rules, with their reasons (section numbers are those of the specification):

- Records may be cut anywhere and may follow each other without a pause; any cut of a stream into reads gives the
  same events, but for the parts that a long record of a body comes in. A second request may stand behind the first in
  one read.
- PARAMS and STDIN are streams, ended by an empty record. A name-value pair may straddle two records, so they are
  decoded only once PARAMS has ended. The end of STDIN is believed, whatever CONTENT_LENGTH says.
- Requests are multiplexed by id. Records of an id that is not active are ignored (3.3), which also swallows what
  is left of a body whose request has been answered early.
- END_REQUEST belongs to the connection: an aborted request is ended here and now, whatever its script does.
- Nothing is sent with id 0 that was not asked for: nginx answers 502 to it, and Apache 503.
- Only a broken header, BEGIN_REQUEST or name-value pair raises, always `ProtocolError`; the events that stand
  before it have been yielded by then. The connection is of no use afterwards.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from ..errors import ProtocolError
from ..quota import Quota
from . import records
from .records import Buffer
from .request import Request
from .response import refusal

#: Bytes of parameters in one request. nginx and lighttpd never send more than 64 KiB.
MAX_PARAMS: Final = 128 * 1024
#: Requests under way on one connection. HAProxy, the only web server that multiplexes, stays below it.
MAX_REQUESTS: Final = 1024
#: Bytes of memory that a request takes beside its parameters, and that each part of them takes beside its content.
_REQUEST_COST: Final = 512
_PART_COST: Final = 64

# What `Connection.receive` yields: (event, request, data).
#: The parameters are whole. `data` is empty.
BEGUN: Final = 1
#: `data` is the next part of the body: a view of what was read, where it is long.
STDIN: Final = 2
#: Parameters and body are whole: the request can run.
READY: Final = 3
#: The web server has taken the request back; END_REQUEST waits in the output.
ABORTED: Final = 4
#: The parameters are longer than `MAX_PARAMS`: to be answered now, since no more events of the request come.
TOO_LARGE: Final = 5
#: The quota has no room for more parameters; the same.
NO_ROOM: Final = 6

Event = tuple[int, Request, Buffer]

#: Where the header of PARAMS begins in a usual request, where the lengths are in it, and where its content begins.
_BEGIN_END: Final = 16
_LENGTHS_START: Final = 20
_PARAMS_START: Final = 24
#: content length, padding length
_LENGTHS: Final = struct.Struct("!HBx")
#: The body of a reply up to this size is copied behind its header: one send of one buffer is the quickest. A larger
#: one stays where it is.
_COPY_BELOW: Final = 32 * 1024
#: So much of a body does not wait for the rest of its record.
_LONG_PART: Final = 4 * 1024
#: Nor is it copied, which halves the time, where at least one of so many bytes that were read with it is its own: all
#: of them stay in memory then, and only the body is counted.
_MAX_KEPT: Final = 4

_KNOWN_VALUES = {
    b"FCGI_MAX_CONNS": b"10000",
    b"FCGI_MAX_REQS": b"10000",
    b"FCGI_MPXS_CONNS": b"1",
}


# For each id that web servers use, one entry with KEEP_CONN and one without.
@lru_cache(maxsize=2 * MAX_REQUESTS)
def _usual_beginning(data: bytes) -> tuple[int, bool, bytes, bytes] | None:
    """What a BEGIN_REQUEST record for a responder says; None when these 16 bytes are anything else.

    Id, KEEP_CONN, and how such a request goes on when it has no body: the bytes before the lengths in the header of
    its PARAMS record, and the empty records that end PARAMS and STDIN.
    """
    if len(data) != _BEGIN_END:
        return None
    version, kind, request_id, length, padding = records.HEADER.unpack_from(data)
    role, flags = records.BEGIN_BODY.unpack_from(data, records.HEADER_SIZE)
    if (version, kind, length, padding, role) != (records.VERSION, records.BEGIN_REQUEST, 8, 0, records.RESPONDER):
        return None
    if request_id == records.MANAGEMENT_ID:
        return None
    ends = records.record(records.PARAMS, request_id)
    return request_id, bool(flags & records.KEEP_CONN), ends[:4], ends + records.record(records.STDIN, request_id)


@lru_cache(maxsize=MAX_REQUESTS)
def _ends_of_output(request_id: int, app_status: int) -> bytes:
    """The empty STDOUT record that ends the stream, and END_REQUEST."""
    return records.record(records.STDOUT, request_id) + records.end_request(request_id, app_status)


def _part(data: bytes, start: int, end: int) -> Buffer:
    """A part of a body: a view where it is long."""
    length = end - start
    return memoryview(data)[start:end] if length >= _LONG_PART and length * _MAX_KEPT >= len(data) else data[start:end]


class Connection:
    """The responder's side of one connection.

    `routing` finds what routes a request in its parameters, as `records.routing` does. What has come in of incomplete
    records and parameters is taken from `quota`, in bytes; without one it has no limit but those of the protocol.
    `authorizer` is the SCRIPT_FILENAME of what answers in the role AUTHORIZER; None: that role is refused.
    """

    __slots__ = (
        "_authorizer", "_body_id", "_body_left", "_closing", "_held_partial", "_missing", "_output", "_padding_left",
        "_partial", "_quota", "_refused", "_routing", "requests",
    )  # fmt: skip

    def __init__(
        self, routing: records.Routing = records.routing, quota: Quota | None = None, authorizer: bytes | None = None
    ) -> None:
        self._routing = routing
        self._quota = quota or Quota(1 << 62)
        self._authorizer = authorizer
        #: Bytes taken for the incomplete record.
        self._held_partial = 0
        #: The active requests by id: begun, and not yet ended.
        self.requests: dict[int, Request] = {}
        self._partial = bytearray()
        self._missing = 0
        #: Of a record of a body whose beginning has been passed on: its request, and how much is still to come.
        self._body_id = 0
        self._body_left = 0
        self._padding_left = 0
        self._output: list[Buffer] = []
        self._closing = False
        #: A request was refused at its BEGIN_REQUEST: the rest of it may be on its way.
        self._refused = False

    @property
    def has_output(self) -> bool:
        """`take_output` returns something."""
        return bool(self._output)

    @property
    def should_close(self) -> bool:
        """A request without KEEP_CONN has come, and none is active: the connection is to be closed."""
        return self._closing and not self.requests

    @property
    def keep_alive(self) -> bool:
        """Every request so far has come with KEEP_CONN."""
        return not self._closing

    @property
    def mid_record(self) -> bool:
        """A record has come in part."""
        return bool(self._partial or self._body_left or self._padding_left)

    @property
    def expects_body(self) -> bool:
        """The body of a request is on its way."""
        return any(request.params_ended and not request.stdin_ended for request in self.requests.values())

    @property
    def at_boundary(self) -> bool:
        """Nothing has come in part: a close now cannot turn unread input into a reset that destroys a reply."""
        return not (self.mid_record or self._refused)

    def receive(self, data: bytes) -> Iterator[Event]:
        """Yield the events in `data`, the next bytes from the web server.

        Raises `ProtocolError` behind the last event that could be understood.
        """
        # What stands behind the record that was incomplete.
        rest, rest_at = b"", 0
        at = 0
        if self._partial:
            # An incomplete record grows here, and is looked at again only when it is whole. What follows stays where it
            # is: bodies come in long reads, and most of these end within a record.
            at = self._complete_partial(data)
            is_whole = len(self._partial) == self._missing
            if not is_whole and at == len(data):
                self._hold_partial()
                return
            beginning = bytes(self._partial)
            self._partial.clear()
            self._hold_partial()
            if is_whole:
                data, at, rest, rest_at = beginning, 0, data, at
            else:
                _, _, self._body_id, self._body_left, self._padding_left = records.HEADER.unpack_from(beginning)
                yield from self._part_of_body(beginning, records.HEADER_SIZE)
        elif not (self._body_left or self._padding_left):
            request = self._whole_request(data)
            if request is not None:
                yield BEGUN, request, b""
                if self.requests.get(request.id) is request:
                    yield READY, request, b""
                return
        if self._body_left or self._padding_left:
            start, at = at, min(at + self._body_left + self._padding_left, len(data))
            yield from self._part_of_body(data, start)
        requests = self.requests
        end = len(data)
        while True:
            if at == end and rest:
                data, at, end, rest = rest, rest_at, len(rest), b""
            if end - at < records.HEADER_SIZE:
                break
            version, kind, request_id, length, padding = records.HEADER.unpack_from(data, at)
            if version != records.VERSION:
                raise ProtocolError(f"a record of FastCGI version {version}, expected {records.VERSION}")
            start = at + records.HEADER_SIZE
            if start + length + padding > end:
                if kind == records.STDIN and end - start >= _LONG_PART <= length:
                    self._body_id, self._body_left, self._padding_left = request_id, length, padding
                    yield from self._part_of_body(data, start)
                    return
                self._missing = records.HEADER_SIZE + length + padding
                self._partial += memoryview(data)[at:]
                self._hold_partial()
                return
            at = start + length + padding
            request = requests.get(request_id)
            if kind == records.STDIN:
                if request is None or request.stdin_ended:
                    continue
                if length:
                    request.received += length
                    yield STDIN, request, _part(data, start, start + length)
                else:
                    request.stdin_ended = True
                    if request.params_ended:
                        request.end()
                        yield READY, request, b""
                continue
            content = data[start : start + length]
            if kind == records.PARAMS:
                if request is None or request.params_ended:
                    continue
                if not content:
                    request.end_params(self._routing)
                    if request.is_authorizer:
                        request.filename = self._authorizer
                    yield BEGUN, request, b""
                    if request.stdin_ended and requests.get(request_id) is request:
                        request.end()
                        yield READY, request, b""
                else:
                    is_too_large = request.add_params(content) > MAX_PARAMS
                    if is_too_large or not self._hold(request, length + _PART_COST):
                        request.drop_params(self._routing)
                        yield TOO_LARGE if is_too_large else NO_ROOM, request, b""
            elif kind == records.BEGIN_REQUEST:
                self._begin(request_id, content)
            elif kind == records.ABORT_REQUEST:
                if request is not None:
                    self._output.append(self.finish(request))
                    yield ABORTED, request, b""
            elif request_id == records.MANAGEMENT_ID:
                self._manage(kind, content)
        if at < end:
            self._missing = records.HEADER_SIZE
            self._partial += data[at:]
        self._hold_partial()

    def close(self) -> None:
        """Nothing more comes: give back what is held of the quota."""
        if self._held_partial:
            self._partial.clear()
            self._hold_partial()
        if self.requests:
            for request in self.requests.values():
                self._release(request)

    def _part_of_body(self, data: bytes, start: int) -> Iterator[Event]:
        """Pass on what there is, from `start` on, of the record of a body that has not come in whole."""
        end = min(start + self._body_left, len(data))
        self._body_left -= end - start
        self._padding_left -= min(self._padding_left, len(data) - end)
        request = self.requests.get(self._body_id)
        if end > start and request is not None and not request.stdin_ended:
            request.received += end - start
            yield STDIN, request, _part(data, start, end)

    def _complete_partial(self, data: bytes) -> int:
        """Add to the incomplete record what it misses, or all that has come. Returns how many bytes were taken.

        Of a body that is to be passed on, no more than the header is taken.
        """
        partial = self._partial
        taken = max(0, records.HEADER_SIZE - len(partial))
        partial += data[:taken]
        if len(partial) < records.HEADER_SIZE:
            return len(data)
        version, kind, _, length, padding = records.HEADER.unpack_from(partial)
        # Another version ends the connection now, whatever its lengths mean.
        self._missing = records.HEADER_SIZE + (length + padding if version == records.VERSION else 0)
        has_come = len(partial) - records.HEADER_SIZE + len(data) - taken
        if kind == records.STDIN and has_come >= _LONG_PART <= length:
            return taken
        more = data[taken : taken + self._missing - len(partial)]
        partial += more
        return taken + len(more)

    def _hold_partial(self) -> None:
        size = len(self._partial)
        more = size - self._held_partial
        if more > 0 and not self._quota.take(more):
            raise ProtocolError(f"no room for {size} bytes of a record that has not come in whole (buffers)")
        if more < 0:
            self._quota.give_back(-more)
        self._held_partial = size

    def _hold(self, request: Request, size: int) -> bool:
        if not self._quota.take(size):
            return False
        request.held += size
        return True

    def _release(self, request: Request) -> None:
        self._quota.give_back(request.held)
        request.held = 0

    def _whole_request(self, data: bytes) -> Request | None:
        """The request in `data`, if that is one request without a body from its first to its last byte.

        This is how nearly all of them come, and takes a third of the time of going through their records.
        """
        beginning = _usual_beginning(data[:_BEGIN_END])
        if beginning is None or len(data) < _PARAMS_START:
            return None
        request_id, keep_conn, head, ends = beginning
        length, padding = _LENGTHS.unpack_from(data, _LENGTHS_START)
        end = _PARAMS_START + length
        if (
            not data.startswith(head, _BEGIN_END)
            # One record never passes the limit, except that of a test.
            or not 0 < length <= MAX_PARAMS
            or data[end + padding :] != ends
            or request_id in self.requests
            or len(self.requests) >= MAX_REQUESTS
        ):
            return None
        request = self.requests[request_id] = Request(request_id, keep_conn)
        if not keep_conn:
            self._closing = True
        request.take_params(data[_PARAMS_START:end], self._routing)
        request.stdin_ended = True
        return request

    def _begin(self, request_id: int, content: bytes) -> None:
        if len(content) != records.BEGIN_BODY.size:
            raise ProtocolError(f"BEGIN_REQUEST with {len(content)} bytes, expected {records.BEGIN_BODY.size}")
        if request_id == records.MANAGEMENT_ID:
            raise ProtocolError("BEGIN_REQUEST with id 0, which is kept for management records")
        if request_id in self.requests:
            raise ProtocolError(f"BEGIN_REQUEST with id {request_id}, which is active already")
        role, flags = records.BEGIN_BODY.unpack(content)
        keep_conn = bool(flags & records.KEEP_CONN)
        if not keep_conn:
            self._closing = True
        if role != records.RESPONDER and (self._authorizer is None or role != records.AUTHORIZER):
            self._refuse(request_id, 403, records.UNKNOWN_ROLE)
            return
        request = Request(request_id, keep_conn)
        if len(self.requests) >= MAX_REQUESTS or not self._hold(request, _REQUEST_COST):
            self._refuse(request_id, 503, records.OVERLOADED)
            return
        request.is_authorizer = role == records.AUTHORIZER
        self.requests[request_id] = request

    def _refuse(self, request_id: int, status: int, protocol_status: int) -> None:
        """Refuse a request at its beginning, with a reply: after a bare END_REQUEST lighttpd takes an authorizer to
        have let the request through, and others answer 502 or nothing at all.
        """
        self._refused = True
        _, head, _ = refusal(status, head_only=True)
        self._output += records.stream(records.STDOUT, request_id, head)
        self._output.append(records.record(records.STDOUT, request_id))
        self._output.append(records.end_request(request_id, 0, protocol_status))

    def _manage(self, kind: int, content: bytes) -> None:
        if kind == records.GET_VALUES:
            self._output.append(records.get_values_result(content, _KNOWN_VALUES))
        elif not records.BEGIN_REQUEST <= kind <= records.UNKNOWN_TYPE:
            self._output.append(records.unknown_type(kind))

    def take_output(self) -> list[Buffer]:
        """The records that the protocol has answered with since the last call, in order."""
        output, self._output = self._output, []
        return output

    def reply(self, request: Request, head: bytes, body: bytes) -> list[Buffer]:
        """A whole reply: STDOUT, its end, and END_REQUEST, as buffers to be sent one behind the other.

        `head` is the header block, which ends with a blank line; b"" when `stdout` has had it before. A small reply is
        one buffer. Empty when the request is not active any more.
        """
        request_id = request.id
        length = len(head) + len(body)
        if length > _COPY_BELOW or length == 0 or self.requests.get(request_id) is not request:
            return [*self.stdout(request, head, body), self.finish(request)]
        del self.requests[request_id]
        if request.held:
            self._release(request)
        header = records.HEADER.pack(records.VERSION, records.STDOUT, request_id, length, 0)
        return [b"".join((header, head, body, _ends_of_output(request_id, 0)))]

    def stdout(self, request: Request, head: bytes, data: bytes) -> list[Buffer]:
        """A part of a reply; the first part brings the header block, which ends with a blank line, later ones b"".

        Empty when the request is not active.

        The header block and as much of the body as fits go into one record: HAProxy 2.6.12 crashes on a header
        block that is split over two.
        """
        length = len(head) + len(data)
        if length == 0 or self.requests.get(request.id) is not request:
            return []
        if length <= records.MAX_CONTENT:
            return [records.HEADER.pack(records.VERSION, records.STDOUT, request.id, length, 0), head, data]
        view, limit = memoryview(data), records.MAX_CONTENT
        # All of the header block but its last record, which takes the beginning of the body, too.
        before = max(0, len(head) - 1) // limit * limit
        rest = len(head) - before
        room = min(limit - rest, len(data))
        buffers = records.stream(records.STDOUT, request.id, head[:before])
        buffers.append(records.HEADER.pack(records.VERSION, records.STDOUT, request.id, rest + room, 0))
        buffers += [head[before:], view[:room]]
        return buffers + records.stream(records.STDOUT, request.id, view[room:])

    def stderr(self, request: Request, text: bytes) -> list[Buffer]:
        """Text for the web server's error log, once for a request. Empty when the request is not active."""
        if self.requests.get(request.id) is not request or not text:
            return []
        content = text[: records.MAX_CONTENT]
        return [records.record(records.STDERR, request.id, content), records.record(records.STDERR, request.id)]

    def finish(self, request: Request, app_status: int = 0) -> bytes:
        """The end of STDOUT and END_REQUEST; the id is free again. Empty when the request is not active."""
        request_id = request.id
        if self.requests.get(request_id) is not request:
            return b""
        del self.requests[request_id]
        if request.held:
            self._release(request)
        return _ends_of_output(request_id, app_status)
