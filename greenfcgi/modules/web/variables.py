"""Variables of the request under way, as the web server has sent them: a script can change its `env`."""

from __future__ import annotations

from ...fastcgi import records
from ...lua.bridge import Bridge


def variables(bridge: Bridge) -> dict[bytes, bytes]:
    """All of them; none where no request is answered."""
    exchange = bridge.exchange
    return records.params(exchange.params) if exchange is not None else {}


def _variable(bridge: Bridge, name: bytes) -> bytes | None:
    """One of them that is no header; None where it is not there."""
    exchange = bridge.exchange
    return records.value_of(exchange.params, name) if exchange is not None else None


def is_https(bridge: Bridge) -> bool:
    """The client's connection is TLS, as far as the web server says."""
    given = _variable(bridge, b"HTTPS")
    if given and given.lower() not in (b"off", b"0"):
        return True
    return _variable(bridge, b"REQUEST_SCHEME") == b"https"
