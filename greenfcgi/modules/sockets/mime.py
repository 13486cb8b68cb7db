"""base64 for `mime.lua`: a text of a megabyte takes Lua fifty times as long."""

from __future__ import annotations

import binascii
from collections.abc import Mapping

from ...lua.bridge import Bridge, ModuleFunction, Outcome


def functions(bridge: Bridge) -> Mapping[str, ModuleFunction]:
    """What `mime.lua` calls, for one state."""

    def encode(data: bytes) -> Outcome:
        """The text for these bytes."""
        return binascii.b2a_base64(data, newline=False) if bridge.reserve(len(data) // 3 * 4 + 4) else False

    def decode(data: bytes) -> Outcome:
        """The bytes of a text of whole groups, of which only the last is padded; what cannot be one is left out."""
        if not bridge.reserve(len(data)):
            return False
        try:
            return binascii.a2b_base64(data)
        except binascii.Error:
            return b""

    return {"encode": encode, "decode": decode}
