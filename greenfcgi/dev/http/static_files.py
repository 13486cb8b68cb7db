"""Files as they are, by WhiteNoise: types, ranges, conditional requests. What is a script is not for this module."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from whitenoise import WhiteNoise

from .url_paths import size

#: Browsers are to keep nothing: the next save may come within the same second.
NO_STORE = ("Cache-Control", "no-store")
#: Bytes of a file that is read at once, so that no half of it is sent; a larger one is sent as it is read.
_MAX_AT_ONCE = 1024 * 1024


class Reply(NamedTuple):
    """ "200 OK", headers, and the body part by part."""

    status: str
    headers: list[tuple[str, str]]
    body: Iterable[bytes]


class StaticFiles:
    """The files below `root`, which need not exist."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._files = _Uncompressed(
            _gone, root, autorefresh=True, max_age=0, allow_all_origins=False, add_headers_function=_forbid_storing
        )

    def read(self, environ: Mapping[str, Any], path: str, as_whole: bool) -> Reply:
        """The reply with the file at `path`; `as_whole`: all of it, whatever is asked for. Raises `OSError`."""
        # A folder's index has a path of its own. Characters of Latin-1 are bytes in WSGI.
        name = os.fsencode(path.removeprefix(self._root)).decode("latin-1")
        asked = {**environ, "PATH_INFO": name, "HTTP_ACCEPT_ENCODING": ""}
        if as_whole:
            asked["REQUEST_METHOD"] = "GET"
            asked.pop("HTTP_RANGE", None)
        started: list[tuple[str, list[tuple[str, str]]]] = []
        body = self._files(asked, lambda status, headers: started.append((status, headers)))
        if as_whole or size(path) <= _MAX_AT_ONCE:
            body = [_joined(body)]
        return Reply(*started[0], body)


class _Uncompressed(WhiteNoise):  # type: ignore[misc]  # it has no types
    """Compressed files beside others are not used: they may be older."""

    def is_compressed_variant(self, path: str, cache: Any = None) -> bool:
        """None is: each is a file of its own."""
        return False


def _joined(parts: Any) -> bytes:
    try:
        return b"".join(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()


def _forbid_storing(headers: Any, path: str, url: str) -> None:
    headers[NO_STORE[0]] = NO_STORE[1]


def _gone(environ: Mapping[str, Any], start_response: Any) -> Iterable[bytes]:
    """The file has been removed in the meantime."""
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"gone\n"]
