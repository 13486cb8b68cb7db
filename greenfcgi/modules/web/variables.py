"""Variables of the request under way, as the web server has sent them: a script can change its `env`."""

from __future__ import annotations

from ...fastcgi import records
from ...lua.bridge import Bridge


def variables(bridge: Bridge) -> dict[bytes, bytes]:
    """All of them; none where no request is answered."""
    exchange = bridge.exchange
    return records.params(exchange.params) if exchange is not None else {}


def is_https(bridge: Bridge) -> bool:
    """The client's connection is TLS, as far as the web server says."""
    found = variables(bridge)
    return found.get(b"HTTPS", b"").lower() not in (b"", b"off", b"0") or found.get(b"REQUEST_SCHEME") == b"https"
