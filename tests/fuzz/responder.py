"""A responder that is as unsteady as its input wants: it answers early, late, in parts, twice, or not before the end.

It drives a connection as `session` does, and checks all that the connection says and puts out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from greenfcgi.errors import ProtocolError
from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.client import Client
from greenfcgi.fastcgi.connection import ABORTED, BEGUN, MAX_REQUESTS, READY, STDIN, TOO_LARGE, Connection
from greenfcgi.fastcgi.request import Request

from .rules import whole_records

#: Bytes that may wait for the rest of their record: a header, and the longest content and padding, but one byte.
MAX_PARTIAL = 8 + 65_535 + 255 - 1

HEAD = b"Status: 200 OK\r\n\r\n"
#: Sizes of what is written. Those at which a reply is put together differently are rare, since they take long.
_SIZES = (0, 1, 7, 30, 100, 300) * 5 + (40_000, 140_000)
_BODY = b"x" * max(_SIZES)

#: Events that cannot come behind each other for one request.
_NEVER_BEHIND: dict[int, set[int]] = {
    BEGUN: {BEGUN, READY, TOO_LARGE},
    STDIN: {READY, TOO_LARGE},
    READY: {READY, TOO_LARGE},
    ABORTED: set(),
    TOO_LARGE: {BEGUN, READY, TOO_LARGE},
}


class Responder:
    """One connection with its events, its output, and the requests under way."""

    def __init__(self, answers: bytes) -> None:
        self.connection = Connection()
        #: (event, request id, data); the parameters stand in the place of the empty data of BEGUN.
        self.events: list[tuple[int, int, bytes]] = []
        #: All that was put out, in order.
        self.output: list[records.Buffer] = []
        #: What the `ProtocolError` said, or nothing.
        self.error = ""
        #: How often END_REQUEST came for each id; the answers to management records are counted for id 0.
        self.ends: Counter[int] = Counter()
        #: Requests that were READY or TOO_LARGE, and have been answered.
        self.answered = 0
        self._answers = answers
        self._records_put = 0
        #: What has come of a record of a body that has not come in whole.
        self._body_part = b""
        #: The events of each request that is under way.
        self._open: dict[Request, set[int]] = {}
        self._last_ended: Request | None = None

    def receive(self, data: bytes) -> None:
        """Take the next read."""
        connection = self.connection
        try:
            for event, request, content in connection.receive(data):
                self._take_output()
                data = bytes(content)
                if event == STDIN:
                    assert data
                    self._body_part += data
                    if connection._body_left:
                        continue
                    data, self._body_part = self._body_part, b""
                self._hear(event, request, data)
                self._act(request)
        except ProtocolError as problem:
            self.error = str(problem)
        self._take_output()
        assert len(connection.requests) <= MAX_REQUESTS
        assert len(connection._partial) <= MAX_PARTIAL

    def settle(self) -> None:
        """Answer each request that waits for it; what is left active has not come in whole."""
        for request, events in list(self._open.items()):
            if events & {READY, TOO_LARGE}:
                self._reply(request, 3)
        left = self.connection.requests.values()
        assert all(self._open.get(request, set()) <= {BEGUN, STDIN} for request in left)
        if self._last_ended is not None:
            self._is_deaf_to(self._last_ended)
        assert self.connection.take_output() == []

    def understand(self) -> None:
        """A web server finds nothing wrong with the output, in two reads as well as in one."""
        output = b"".join(self.output)
        assert len(list(records.split(output))) == self._records_put
        client, half = Client(), len(output) // 2
        client.receive(output[:half])
        client.receive(output[half:])
        assert len(client.management) == self.ends[0]
        assert {of for of, reply in client.replies.items() if reply.ended} == set(+self.ends) - {0}

    # Events

    def _hear(self, event: int, request: Request, content: bytes) -> None:
        """An event comes for a request that is active, in its turn, and with data only where there is any."""
        seen = self._open.setdefault(request, set())
        assert not seen & _NEVER_BEHIND[event], f"event {event} behind {seen}"
        assert bool(content) == (event == STDIN)
        active = self.connection.requests.get(request.id) is request
        assert active == (event != ABORTED)
        seen.add(event)
        if event == ABORTED:
            self._forget(request)
            self._is_deaf_to(request)
        if event == BEGUN:
            assert request.filename == request.variables().get(b"SCRIPT_FILENAME")
        self.events.append((event, request.id, request.params if event == BEGUN else content))

    def _forget(self, request: Request) -> None:
        """A request has ended."""
        del self._open[request]
        self._last_ended = request

    def _act(self, request: Request) -> None:
        """Do what the input wants at this event, to its request or to the one that has been under way longest."""
        choice = self._answers[(len(self.events) - 1) % len(self._answers)]
        what, size = choice % 8, choice // 8 % len(_SIZES)
        if choice >= 192:
            request = next(iter(self._open), request)
        if self._last_ended is not None and what == 7:
            self._is_deaf_to(self._last_ended)
        elif request not in self._open:
            return
        elif what == 1:
            self._reply(request, size)
        elif what == 2:
            self._finish(request, choice)
        elif what == 3:
            body = _BODY[: _SIZES[size]]
            written = self._records(self.connection.stdout(request, HEAD, body), request, records.STDOUT)
            assert written == HEAD + body
        elif what == 4:
            line = _BODY[: _SIZES[size]][: records.MAX_CONTENT]
            expected = [(records.STDERR, request.id, line), (records.STDERR, request.id, b"")] if line else []
            assert self._put(self.connection.stderr(request, line)) == expected

    # Output

    def _records(self, buffers: Iterable[records.Buffer], request: Request, kind: int) -> bytes:
        """Put out records of one stream of a request that goes on, and return what is in them."""
        contents = []
        for of_kind, request_id, content in self._put(buffers):
            assert (of_kind, request_id) == (kind, request.id)
            # An empty one would be the end of the stream.
            assert content
            contents.append(content)
        assert self.connection.requests.get(request.id) is request
        return b"".join(contents)

    def _reply(self, request: Request, size: int) -> None:
        """A whole reply."""
        body = _BODY[: _SIZES[size]]
        self._end(request, self.connection.reply(request, HEAD, body), HEAD + body, 0)

    def _finish(self, request: Request, app_status: int) -> None:
        """The end of a reply of which nothing more comes."""
        self._end(request, [self.connection.finish(request, app_status)], b"", app_status)

    def _end(self, request: Request, buffers: Iterable[records.Buffer], written: bytes, app_status: int) -> None:
        """Put out the end of a request: what is left of STDOUT, its end, and END_REQUEST, each once."""
        *parts, stdout_end, end = self._put(buffers)
        assert all(part[:2] == (records.STDOUT, request.id) and part[2] for part in parts)
        assert b"".join(part[2] for part in parts) == written
        assert stdout_end == (records.STDOUT, request.id, b"")
        assert end == (records.END_REQUEST, request.id, app_status.to_bytes(4, "big") + b"\0" * 4)
        assert self.connection.requests.get(request.id) is not request
        self.answered += bool(self._open[request] & {READY, TOO_LARGE})
        self._forget(request)

    def _is_deaf_to(self, request: Request) -> None:
        """Nothing is put out for a request that has ended."""
        connection, body = self.connection, b"late"
        assert connection.stdout(request, HEAD, body) == connection.stderr(request, body) == []
        assert b"".join(connection.reply(request, HEAD, body)) == connection.finish(request) == b""

    def _take_output(self) -> None:
        """Send the records that the protocol itself answers with: ends of requests, answers to management records."""
        if not self.connection.has_output:
            return
        for kind, request_id, content in self._put(self.connection.take_output()):
            if request_id == records.MANAGEMENT_ID:
                assert kind in (records.GET_VALUES_RESULT, records.UNKNOWN_TYPE)
            else:
                # A request that is refused when it begins has a header block in one record.
                assert kind in (records.END_REQUEST, records.STDOUT)
                assert kind == records.END_REQUEST or not content or content.endswith(b"\r\n\r\n")

    def _put(self, buffers: Iterable[records.Buffer]) -> list[tuple[int, int, bytes]]:
        """Put out whole records, and return them."""
        data = b"".join(buffers)
        self.output.append(data)
        found, cut_off = whole_records(data)
        assert not cut_off
        self._records_put += len(found)
        for kind, request_id, _, _ in found:
            self.ends[request_id] += kind == records.END_REQUEST or request_id == records.MANAGEMENT_ID
        return [(kind, request_id, content) for kind, request_id, content, _ in found]
