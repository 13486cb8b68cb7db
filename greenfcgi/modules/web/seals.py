"""Seals of one purpose for one state: texts that clients keep, by the server's key, as `sealing` has them."""

from __future__ import annotations

import os

from ...errors import ConfigError
from ...lua.bridge import Bridge, Outcome
from . import sealing
from .keys import keys


class Seals:
    """What is sealed for one purpose is nothing for another. `folder` is that of config.toml."""

    def __init__(self, bridge: Bridge, folder: str, purpose: bytes) -> None:
        self._bridge = bridge
        self._folder = folder
        self._purpose = purpose

    def seal(self, key_file: bytes, name: bytes, text: bytes, encrypts: bool = False) -> Outcome:
        """A text for a cookie of this name, signed or encrypted; or nil and why there is none."""
        try:
            found = self._keys(key_file)
            sealed = sealing.encrypted(found, name, text) if encrypts else sealing.signed(found, name, text)
        except ConfigError as problem:
            return self._failure(problem)
        return self._bridge.text(sealed)

    def unseal(self, key_file: bytes, name: bytes, sealed: bytes) -> Outcome:
        """The text of such a cookie; nil where it is none, or nil and why that cannot be said."""
        try:
            text = sealing.opened(self._keys(key_file), name, sealed)
        except ConfigError as problem:
            return self._failure(problem)
        return None if text is None else self._bridge.text(text)

    def _keys(self, key_file: bytes) -> tuple[bytes, ...]:
        return keys(self._folder, os.fsdecode(key_file), self._purpose)

    def _failure(self, problem: ConfigError) -> Outcome:
        return self._bridge.failure(str(problem).encode("utf-8", "backslashreplace"))
