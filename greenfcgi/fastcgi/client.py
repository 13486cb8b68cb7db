"""The web server's side of a FastCGI connection, without I/O.

For `greenfcgi --try`, the developer mode and the tests. Built from the same `records` as the responder. It makes the
bytes of requests and understands what comes back; whether a reply makes sense, is for others to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import ProtocolError
from . import records


class Reply:
    """What has come back for one request id, so far."""

    def __init__(self) -> None:
        self.stdout = b""
        self.stderr = b""
        #: The empty STDOUT record has come.
        self.stdout_ended = False
        #: (application status, protocol status) of END_REQUEST; None until it has come.
        self.ended: tuple[int, int] | None = None

    @property
    def head(self) -> dict[str, list[str]]:
        """The header block: names in lower case, each with its values in order."""
        found: dict[str, list[str]] = {}
        for line in self.stdout.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            found.setdefault(name.strip().lower(), []).append(value.strip())
        return found

    @property
    def status(self) -> int:
        """The number in the Status header; 0 when there is none."""
        text = self.head.get("status", ["0"])[0][:3]
        return int(text) if text.isdecimal() else 0

    @property
    def body(self) -> bytes:
        """Everything behind the header block."""
        return self.stdout.partition(b"\r\n\r\n")[2]


class Client:
    """Collects replies by request id; `request` makes the bytes to send."""

    def __init__(self) -> None:
        self.replies: dict[int, Reply] = {}
        #: Management records that came, as (type, content).
        self.management: list[tuple[int, bytes]] = []
        self._partial = b""

    @staticmethod
    def request(
        params: Mapping[str, str] | Iterable[tuple[str, str]],
        stdin: bytes = b"",
        *,
        request_id: int = 1,
        keep_conn: bool = False,
        role: int = records.RESPONDER,
    ) -> bytes:
        """All records of one request, of a responder unless another role is given."""
        pairs = params.items() if isinstance(params, Mapping) else params
        content = records.encode_pairs(
            (name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in pairs
        )
        return b"".join(
            [
                records.begin_request(request_id, role, keep_conn),
                *records.stream(records.PARAMS, request_id, content),
                records.record(records.PARAMS, request_id),
                *records.stream(records.STDIN, request_id, stdin),
                records.record(records.STDIN, request_id),
            ]
        )

    def receive(self, data: bytes) -> None:
        """Take the next bytes from the responder. Raises `ProtocolError` when they are not FastCGI."""
        self._partial += data
        whole = _whole(self._partial)
        for kind, request_id, content in records.split(self._partial[:whole]):
            if request_id == records.MANAGEMENT_ID:
                self.management.append((kind, content))
                continue
            reply = self.replies.setdefault(request_id, Reply())
            if kind == records.STDOUT:
                reply.stdout += content
                reply.stdout_ended = reply.stdout_ended or not content
            elif kind == records.STDERR:
                reply.stderr += content
            elif kind == records.END_REQUEST:
                if len(content) != records.END_BODY.size:
                    expected = records.END_BODY.size
                    raise ProtocolError(f"END_REQUEST with {len(content)} bytes, expected {expected}")
                app_status, protocol_status = records.END_BODY.unpack(content)
                reply.ended = (app_status, protocol_status)
        self._partial = self._partial[whole:]


def _whole(data: bytes) -> int:
    """How many bytes at the beginning of `data` are whole records, or end in a header that `split` refuses."""
    at = 0
    while len(data) - at >= records.HEADER_SIZE:
        version, _, _, length, padding = records.HEADER.unpack_from(data, at)
        if version != records.VERSION:
            return at + records.HEADER_SIZE
        after = at + records.HEADER_SIZE + length + padding
        if after > len(data):
            break
        at = after
    return at
