"""What `cookie.lua` calls, for one state: signatures, and whether the request came by HTTPS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from ...errors import ConfigError
from ...lua.bridge import Bridge, ModuleFunction, Outcome
from . import sealing
from .keys import keys
from .variables import is_https

_PURPOSE: Final = b"greenfcgi.cookie"


def functions(bridge: Bridge, folder: str) -> Mapping[str, ModuleFunction]:
    """What cookie.lua calls. `folder` is that of config.toml."""

    def sign(key_file: bytes, name: bytes, value: bytes) -> Outcome:
        """The value with a signature; or nil and why there is none."""
        try:
            return bridge.text(sealing.signed(keys(folder, os.fsdecode(key_file), _PURPOSE), name, value))
        except ConfigError as problem:
            return bridge.failure(str(problem).encode("utf-8", "backslashreplace"))

    def verify(key_file: bytes, name: bytes, text: bytes) -> Outcome:
        """The value; nil where it was not signed here, or nil and why that cannot be said."""
        try:
            value = sealing.opened(keys(folder, os.fsdecode(key_file), _PURPOSE), name, text)
        except ConfigError as problem:
            return bridge.failure(str(problem).encode("utf-8", "backslashreplace"))
        return None if value is None else bridge.text(value)

    def https() -> Outcome:
        """1 where the request came by HTTPS, else 0."""
        return int(is_https(bridge))

    return {"sign": sign, "verify": verify, "is_https": https}
