"""What `cookie.lua` calls, for one state: signatures, and whether the request came by HTTPS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...lua.bridge import Bridge, ModuleFunction, Outcome
from .seals import Seals
from .variables import is_https

_PURPOSE: Final = b"greenfcgi.cookie"


def functions(bridge: Bridge, folder: str) -> Mapping[str, ModuleFunction]:
    """What cookie.lua calls. `folder` is that of config.toml."""
    seals = Seals(bridge, folder, _PURPOSE)

    def https() -> Outcome:
        """1 where the request came by HTTPS, else 0."""
        return int(is_https(bridge))

    return {"sign": seals.seal, "verify": seals.unseal, "is_https": https}
