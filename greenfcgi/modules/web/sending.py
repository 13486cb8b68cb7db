"""What `sending.lua` calls, for one state: files that are sent by the server itself.

They are read in parts of 64 KB, in the event loop: on a local disk that takes 20 us, and one on a network that hangs
holds up the process.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Final

from ...lua.bridge import Bridge, ModuleFunction, Outcome
from .variables import variables

#: Bytes that are read at a time, and more than this is not handed to Lua.
PART: Final = 65536


class _Files:
    """The files that one state has open for sending, by their descriptors."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._open: set[int] = set()
        bridge.at_end.append(self.close_all)
        bridge.at_close.append(self.close_all)

    def open(self, path: bytes) -> Outcome:
        """Open a file: "", its number, bytes, and when it was changed, in seconds since 1970 and nanoseconds.

        Or nil and what has failed.
        """
        bridge = self._bridge
        refused = bridge.check(path, True, False)
        if refused is not None:
            return self._failed(os.strerror(refused))
        if not bridge.take_descriptors(1):
            return self._failed("Too many open files")
        try:
            # A pipe that has taken its place meanwhile is not waited for.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except (OSError, ValueError) as problem:
            bridge.give_descriptors(1)
            return self._failed(getattr(problem, "strerror", None) or "Not a name of a file")
        self._open.add(descriptor)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            self.close(descriptor)
            return self._failed("Not a regular file")
        return b"", descriptor, found.st_size, found.st_mtime_ns // 10**9, found.st_mtime_ns % 10**9

    def read(self, descriptor: int, at: float, length: float) -> Outcome:
        """So many bytes, at most `PART`, from there on; nil where they cannot be read, fewer where it has shrunk."""
        bridge = self._bridge
        if not bridge.reserve(int(length)):
            return False
        try:
            return os.pread(descriptor, int(length), int(at))
        except OSError:
            return None

    def send(self, descriptor: int, at: float, length: float) -> Outcome:
        """Send so many bytes, at most `PART`, from there on, and wait while the client is slow.

        Nil and why not, where the file has fewer by now, or cannot be read; else as `Bridge.send`.
        """
        bridge = self._bridge
        try:
            data = os.pread(descriptor, int(length), int(at))
        except OSError:
            data = b""
        if len(data) < length:
            return None, b"the file has become shorter while it was sent, or cannot be read"
        # The client has the time anew for each part that it takes.
        bridge.budget.renew()
        return bridge.send(0, b"", data)

    def wait(self) -> Outcome:
        """Go on waiting for the client."""
        return self._bridge.send(0)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        if descriptor in self._open:
            self._open.discard(descriptor)
            os.close(descriptor)
            self._bridge.give_descriptors(1)

    def close_all(self) -> None:
        """The run is over."""
        for descriptor in [*self._open]:
            self.close(descriptor)

    def variable(self, name: bytes) -> Outcome:
        """A variable of the request; nil where it has none."""
        value = variables(self._bridge).get(name)
        return None if value is None else self._bridge.text(value)

    def _failed(self, text: str) -> Outcome:
        return self._bridge.failure(text.encode("utf-8", "backslashreplace"))


def functions(bridge: Bridge) -> Mapping[str, ModuleFunction]:
    """What sending.lua calls."""
    files = _Files(bridge)
    return {
        "open": files.open, "read": files.read, "send": files.send, "wait": files.wait, "close": files.close,
        "variable": files.variable,
    }  # fmt: skip
