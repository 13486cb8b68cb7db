"""How long a web server may take to send a request. Checked once a tick (`sweep`): no timer for each.

A connection on which nothing has begun is idle, and may be so for `keepalive`.
"""

from __future__ import annotations

from typing import NamedTuple


class Timeouts(NamedTuple):
    """Seconds, and bytes a second."""

    #: From the first byte of a record between requests to its last. Web servers send a request's head in one piece.
    header: float = 10.0
    #: From BEGIN_REQUEST to the end of the parameters. The same.
    params: float = 10.0
    #: For the body, and one second more for so many bytes of it that have come: a slow client of a web server that
    #: does not buffer (nginx: fastcgi_request_buffering off) is not cut off, one that lets bytes trickle is.
    body: float = 60.0
    rate: float = 500.0

    def for_body(self, length: int) -> float:
        """Seconds for a body of which so many bytes have come."""
        return self.body + length / self.rate


DEFAULT = Timeouts()
