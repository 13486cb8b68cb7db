"""Request: the value that the protocol builds and everything after it reads. No I/O, no rules."""

from __future__ import annotations

from . import records

#: Parts of PARAMS that are kept apart: each costs more than what is in it when it is small.
_MOST_PARTS = 64


class Request:
    """One FastCGI request as it came in.

    `params` is the whole PARAMS stream as bytes; it is handed to Lua as it is, and only what routes a request is
    taken out of it (`filename`, `content_length`), with what the access log wants (`found`). `variables()` decodes
    the rest for whoever needs it, which on the usual way is nobody.
    """

    __slots__ = (
        "_parts", "_parts_length", "content_length", "filename", "found", "id", "keep_conn", "params",
        "params_ended", "stdin_ended",
    )  # fmt: skip

    def __init__(self, request_id: int, keep_conn: bool) -> None:
        self.id = request_id
        #: The web server wants the connection to stay open behind the reply.
        self.keep_conn = keep_conn
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

    def add_params(self, content: bytes, most: int) -> bool:
        """Take a part of the PARAMS stream; False, and all parts are forgotten, when it passes `most` bytes."""
        self._parts.append(content)
        self._parts_length += len(content)
        if self._parts_length > most:
            self._parts.clear()
        elif len(self._parts) > _MOST_PARTS:
            self._parts[:] = [b"".join(self._parts)]
        return self._parts_length <= most

    def end_params(self, routing: records.Routing) -> None:
        """The PARAMS stream has ended. Raises `ProtocolError` when a pair is cut off."""
        params = b"".join(self._parts)
        self._parts.clear()
        self.take_params(params, routing)

    def take_params(self, params: bytes, routing: records.Routing) -> None:
        """Take the whole PARAMS stream. Raises `ProtocolError` when a pair is cut off."""
        found = self.found = routing(params)
        self.params_ended = True
        self.params = params
        self.filename, length = found[0], found[1]
        # Twenty digits hold every real length; int() refuses thousands of them.
        if length and length.isdigit() and len(length) < 20:
            self.content_length = int(length)

    def variables(self) -> dict[bytes, bytes]:
        """The CGI variables, decoded anew at each call."""
        return records.params(self.params) if self.params_ended else {}
