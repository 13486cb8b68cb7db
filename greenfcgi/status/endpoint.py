"""Requests to the server itself: ping, and what it does in figures. Answered in the hub, however busy workers are.

Which of them a request is for is told by SCRIPT_NAME, as with php-fpm.
"""

from __future__ import annotations

from collections.abc import Callable

from ..config.load import Config
from ..fastcgi.request import Request
from ..fastcgi.response import Reply
from .totals import Overview


class Status:
    """Answers them. `look` gives the figures of this moment."""

    def __init__(self, config: Config, look: Callable[[], Overview]) -> None:
        self._ping = config.ping_path.encode()
        self._paths = [path.encode() for path in (config.status_path, config.ping_path) if path]
        self._look = look

    def answer(self, request: Request) -> tuple[Reply, bool] | None:
        """The reply, and whether the request is one for the access log. None: the request is for somebody else."""
        params = request.params
        # Nearly all requests: a look at the bytes, for what must be in them somewhere.
        if not any(path in params for path in self._paths):
            return None
        variables = request.variables()
        name = variables.get(b"SCRIPT_NAME", b"")
        if name not in self._paths:
            return None
        if name == self._ping:
            kind, body = "text/plain; charset=utf-8", b"pong\n"
        else:
            kind, body = self._page(variables.get(b"QUERY_STRING", b""))
        head = f"Content-Type: {kind}\r\nCache-Control: no-store\r\nStatus: 200 OK\r\n\r\n".encode()
        is_head = variables.get(b"REQUEST_METHOD") == b"HEAD"
        return (200, head, b"" if is_head else body), name != self._ping

    def _page(self, query: bytes) -> tuple[str, bytes]:
        # Most servers are never asked.
        from . import page

        return page.page(query.decode("ascii", "replace"), self._look())
