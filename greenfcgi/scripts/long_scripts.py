"""The scripts that compute for long: requests for them wait for a turn before they start."""

from __future__ import annotations

import os
from typing import Final

from ..fastcgi.proxied import PREFIX
from ..fastcgi.request import Request

#: The most scripts that are remembered.
_MAX_NAMES: Final = 1_000


class LongScripts:
    """Those whose last run has computed for longer than a short turn.

    A script is known by its SCRIPT_FILENAME, without a query that Apache has put there. Where that is `root`, the
    folder of all scripts, the path of REQUEST_URI stands behind it: the pages of a whole site come by this one name.
    """

    def __init__(self, root: str) -> None:
        folder = os.fsencode(root)
        self._roots = frozenset({folder, folder + b"/"})
        self.names: set[bytes] = set()

    def name(self, request: Request) -> bytes:
        """What the script of a request is known by."""
        name = request.filename or b""
        if name in self._roots:
            return name + b" " + request.variables().get(b"REQUEST_URI", b"").partition(b"?")[0]
        if name.startswith(PREFIX):
            return name.partition(b"?")[0]
        return name

    def remember(self, request: Request, is_long: bool) -> None:
        """Whether the script of a request has computed for long this time."""
        if not is_long:
            self.names.discard(self.name(request))
            return
        if len(self.names) >= _MAX_NAMES:
            self.names.clear()
        self.names.add(self.name(request))
