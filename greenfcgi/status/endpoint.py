"""Requests to the server itself, `ping_path` and `status_path`. Answered in the hub, however busy workers are.

SCRIPT_NAME says which of them a request is for, as with php-fpm.
"""

from __future__ import annotations

from collections.abc import Callable

from ..config.load import Config
from ..fastcgi.request import Request
from ..fastcgi.response import Reply
from .totals import Overview


class StatusEndpoint:
    """Answers these requests. `overview` gives the figures of this moment; None where there is no `status_path`."""

    def __init__(self, config: Config, overview: Callable[[], Overview] | None) -> None:
        self._ping = config.ping_path.encode()
        self._paths = [path.encode() for path in (config.status_path, config.ping_path) if path]
        self._overview = overview

    def answer(self, request: Request) -> tuple[Reply, bool] | None:
        """The reply, and whether the request goes to the access log. None: the request is for a script."""
        params = request.params
        # Nearly all requests: a look at the bytes, for what must be in them somewhere.
        if not any(path in params for path in self._paths):
            return None
        variables = request.variables()
        name = variables.get(b"SCRIPT_NAME", b"")
        if name not in self._paths:
            return None
        if name == self._ping or self._overview is None:
            kind, body = "text/plain; charset=utf-8", b"pong\n"
        else:
            # Here, since most servers are never asked.
            from . import page

            form = variables.get(b"QUERY_STRING", b"").decode("ascii", "replace")
            kind, body = page.page(form, self._overview())
        head = f"Content-Type: {kind}\r\nCache-Control: no-store\r\nStatus: 200 OK\r\n\r\n".encode()
        is_head = variables.get(b"REQUEST_METHOD") == b"HEAD"
        return (200, head, b"" if is_head else body), name != self._ping
