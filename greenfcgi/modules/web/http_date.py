"""What `http_date.lua` calls, for one state: the time, and hashes for ETags."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ...lua.bridge import Bridge, ModuleFunction, Outcome
from ..text.crypto import base64url
from ..text.digests import digest

#: Bytes of a hash in an ETag.
_TAG = 12


def functions(bridge: Bridge) -> Mapping[str, ModuleFunction]:
    """What http_date.lua calls."""

    def tag(text: bytes) -> Outcome:
        """An opaque tag for this text."""
        return bridge.text(base64url(digest("sha256", text)[:_TAG]))

    return {"now": time.time, "tag": tag}
