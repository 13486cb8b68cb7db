"""A request: made by `connection` from records, read by everything behind it. No I/O, and no rules of the protocol."""

from __future__ import annotations

from . import records

#: Parts of PARAMS that are kept before they are joined: a small part costs more memory than its bytes.
_MAX_PARTS = 64
#: How libfcgi tells applications their role; without it, every status would let a request through.
_AUTHORIZER = records.encode_pairs([(b"FCGI_ROLE", b"AUTHORIZER")])


class Request:
    """One FastCGI request as it came in.

    `params` is the whole PARAMS stream as bytes; it is handed to Lua as it is, and only what routes a request is
    taken out of it (`filename`, `content_length`), with what the access log wants (`found`). `variables()` decodes
    all of it, for the few who need that.
    """

    __slots__ = (
        "_parts", "_parts_length", "content_length", "filename", "found", "held", "id", "is_authorizer", "keep_conn",
        "params", "params_ended", "received", "stdin_ended",
    )  # fmt: skip

    def __init__(self, request_id: int, keep_conn: bool) -> None:
        self.id = request_id
        #: The web server wants the connection to stay open behind the reply.
        self.keep_conn = keep_conn
        #: It asks whether another request may go on (the role AUTHORIZER).
        self.is_authorizer = False
        #: Bytes of its body that have come.
        self.received = 0
        #: Bytes of memory that it has taken from the connection's quota.
        self.held = 0
        #: The PARAMS stream, once it has ended.
        self.params = b""
        self._parts: list[bytes] = []
        self._parts_length = 0
        self.params_ended = False
        self.stdin_ended = False
        #: All that the routing has found in the PARAMS stream; nothing before that has ended.
        self.found: tuple[bytes | None, ...] = ()
        #: SCRIPT_FILENAME, or None when the web server did not send one.
        self.filename: bytes | None = None
        #: What CONTENT_LENGTH says; None where it is absent, empty, or not a number (Caddy sends -1).
        self.content_length: int | None = None

    def add_params(self, content: bytes) -> int:
        """Take a part of the PARAMS stream; returns its length so far."""
        self._parts.append(content)
        self._parts_length += len(content)
        if len(self._parts) > _MAX_PARTS:
            self._parts[:] = [b"".join(self._parts)]
        return self._parts_length

    def drop_params(self, routing: records.Routing) -> None:
        """The request is refused: its parameters are not needed, and no more of it is taken."""
        self._parts.clear()
        self.take_params(b"", routing)
        self.stdin_ended = True

    def end_params(self, routing: records.Routing) -> None:
        """The PARAMS stream has ended. Raises `ProtocolError` when a pair is cut off."""
        if self.is_authorizer:
            self._parts.append(_AUTHORIZER)
        params = b"".join(self._parts)
        self._parts.clear()
        self.take_params(params, routing)
        if self.is_authorizer:
            # It has no body (section 6.3): the length is that of the request which it decides about.
            self.stdin_ended = True
            self.content_length = None

    def end(self) -> None:
        """Parameters and body are whole; where the web server could not say how long that would be, it is known now."""
        if self.received and self.content_length is None:
            self.params += records.encode_pairs([(b"CONTENT_LENGTH", b"%d" % self.received)])

    def take_params(self, params: bytes, routing: records.Routing) -> None:
        """Take the whole PARAMS stream. Raises `ProtocolError` when a pair is cut off."""
        found = self.found = routing(params)
        self.params_ended = True
        self.params = params
        self.filename, length = found[0], found[1]
        # Twenty digits hold every real length; int() refuses thousands of them.
        if length and length.isdigit() and len(length) < 20:
            self.content_length = int(length)

    def append(self, *pairs: tuple[bytes, bytes]) -> None:
        """Add variables: of several pairs of one name, the last one counts."""
        self.params += records.encode_pairs(pairs)

    def variables(self) -> dict[bytes, bytes]:
        """The CGI variables, decoded again at each call."""
        return records.params(self.params) if self.params_ended else {}
