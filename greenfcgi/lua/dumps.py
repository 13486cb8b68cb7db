"""What string.dump has given back in a state: the only bytecode that its scripts load.

Bytecode is trusted by every Lua, and one changed byte of it can do anything. So a state keeps what its own Lua has
made, and takes nothing else. Not digests: what makes these takes 1.5 MB of a process.
"""

from __future__ import annotations

from typing import Final

#: How many dumps a state keeps, and their bytes in sum. The oldest go first; the last one stays, however long it is.
MAX_DUMPS: Final = 256
MAX_BYTES: Final = 256 * 1024


class Dumps:
    """The dumps of one state."""

    def __init__(self) -> None:
        # In the order in which they were last made.
        self._kept: dict[bytes, None] = {}
        self._bytes = 0

    def add(self, code: bytes) -> None:
        """This has been made here."""
        if code in self._kept:
            del self._kept[code]
        else:
            self._bytes += len(code)
        self._kept[code] = None
        while len(self._kept) > 1 and (len(self._kept) > MAX_DUMPS or self._bytes > MAX_BYTES):
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._bytes -= len(oldest)

    def __contains__(self, code: bytes) -> bool:
        """Whether exactly this has been made here, not too long ago."""
        return code in self._kept
