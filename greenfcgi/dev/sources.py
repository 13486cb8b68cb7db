"""The source texts that an error page may show: what Lua has run, and the templates that the script has opened.

A client may have chosen the words of a message, and so any path in it: no other file than these is ever read for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from .http.url_paths import size

#: Bytes of a file that is taken for a template.
_MAX_TEMPLATE = 1024 * 1024


class Sources:
    """The texts of one request's script.

    `texts` are those that Lua has run, by path. `opened` are names that the script has opened, relative to `directory`;
    of these, what is hidden, or outside the folder `root`, is not shown.
    """

    def __init__(
        self, texts: Mapping[str, bytes] | None = None, opened: Iterable[str] = (), directory: str = "", root: str = ""
    ) -> None:
        self._texts = texts or {}
        self._root = os.path.realpath(root) + "/"
        #: Names in chunks and messages, with the paths that they mean.
        self._named = {path: path for path in self._texts}
        for name in opened:
            path = os.path.realpath(os.path.join(directory, name))
            if self._is_shown(path):
                self._named.setdefault(name, path)
                self._named.setdefault(path, path)

    def _is_shown(self, path: str) -> bool:
        is_hidden = any(part.startswith(".") for part in path.removeprefix(self._root).split("/"))
        return path.startswith(self._root) and not is_hidden and 0 <= size(path) <= _MAX_TEMPLATE

    def find(self, name: str, is_short: bool = False) -> str | None:
        """The path of the text that a chunk or a message calls `name`; `is_short`: that is only the end of it."""
        if name in self._named:
            return self._named[name]
        return next((path for path in self._named.values() if path.endswith(name)), None) if is_short else None

    def lines(self, path: str) -> list[str]:
        """The lines of what `find` has found; none when it has gone."""
        text = self._texts.get(path)
        if text is None:
            try:
                with open(path, "rb") as file:
                    text = file.read(_MAX_TEMPLATE)
            except OSError:
                return []
        # As Lua counts them: "\r\n" is one end of a line, a form feed none.
        lines = text.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return lines if lines[-1] else lines[:-1]
