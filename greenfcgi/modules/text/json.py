"""What greenfcgi.json asks of the request: the type of its body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...fastcgi.records import params
from ...lua.bridge import Bridge, ModuleFunction, Outcome

#: Bytes of a type that are looked at.
_MAX_TYPE: Final = 256


def functions(bridge: Bridge) -> Mapping[str, ModuleFunction]:
    """What json.lua calls, for one state."""

    def content_type() -> Outcome:
        """CONTENT_TYPE of the request under way; nil where there is none."""
        exchange = bridge.exchange
        kind = params(exchange.params).get(b"CONTENT_TYPE") if exchange is not None else None
        return bridge.text(kind[:_MAX_TYPE]) if kind else None

    return {"content_type": content_type}
