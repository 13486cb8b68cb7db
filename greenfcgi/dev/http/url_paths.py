"""What a path of a URL means in a folder of scripts: a script, a file as it is, a folder, or nothing. Reads no file.

As web servers in front do it: the script is the first part of the path that is a file of the right extension, and what
follows is its PATH_INFO. Every other path is one below the folder of static files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...fastcgi.path_info import split
from ...scripts.catalogue import is_private


class Script(NamedTuple):
    """`name` begins with a slash, `info` too unless it is empty."""

    name: str
    info: str


class File(NamedTuple):
    """A file that is sent as it is; its path in the file system."""

    path: str


class Folder(NamedTuple):
    """A folder without an index."""


class Redirect(NamedTuple):
    """To this path: that of a folder, with the slash at its end that was missing."""

    path: str


class NotFound(NamedTuple):
    """Nothing is there, or nothing that may be shown."""


Target = Script | File | Folder | Redirect | NotFound


class UrlPaths:
    """The folder `root`, the extensions of scripts in it, the folder `public` below it, or "", and their index.

    `covers` says of a path that a program or the front script answers it, where nothing else does.
    """

    def __init__(
        self,
        root: str,
        extensions: Sequence[str],
        public: str,
        index: str = "",
        covers: Callable[[str], bool] = lambda path: False,
    ) -> None:
        self._root = root
        self._extensions = tuple(extensions)
        self._public = f"{root}/{public}" if public else ""
        self._index = index
        self._covers = covers

    def find(self, path: str) -> Target:
        """What is at this path, which begins with a slash, and whose percent escapes have been decoded."""
        found = self._find(path)
        if "\0" in path or not self._covers(path):
            return found
        # Where a folder has no index, that is so with the slash at its end and without it.
        shown = self._find(found.path) if isinstance(found, Redirect) else found
        return Script(path, "") if isinstance(shown, (Folder, NotFound)) else found

    def _find(self, path: str) -> Target:
        parts = path.split("/")[1:]
        if "\0" in path or any(map(_is_hidden, parts)):
            return NotFound()
        script = self.script(path)
        if script.name.endswith(self._extensions) and os.path.isfile(self._root + script.name):
            return script
        if any(part.endswith(self._extensions) for part in parts):
            # The source of a script is never sent, wherever it lies.
            return NotFound()
        if self._is_public(path) and os.path.isfile(self._public + path):
            return File(self._public + path)
        return self._folder(path) if self._has_folder(path) else NotFound()

    def script(self, path: str) -> Script:
        """The script that a path names, which need not exist, and its PATH_INFO."""
        return Script(*split(path, self._extensions, lambda name: os.path.isfile(self._root + name)))

    def _folder(self, path: str) -> Target:
        if not path.endswith("/"):
            return Redirect(path + "/")
        if self._index and os.path.isfile(f"{self._root}{path}{self._index}"):
            return Script(path + self._index, "")
        index = f"{self._public}{path}index.html"
        return File(index) if self._is_public(path) and os.path.isfile(index) else Folder()

    def _has_folder(self, path: str) -> bool:
        return self._is_of_scripts(path) or (self._is_public(path) and os.path.isdir(self._public + path))

    def _is_public(self, path: str) -> bool:
        return bool(self._public) and _is_inside(self._public + path, self._public)

    def _is_of_scripts(self, path: str) -> bool:
        """A folder of the root in which there may be scripts that answer."""
        folder = self._root + path
        is_open = not any(map(is_private, path.split("/"))) and os.path.isdir(folder)
        return is_open and _is_inside(folder, self._root) and not (self._public and _is_inside(folder, self._public))

    def entries(self, path: str) -> tuple[list[str], list[str], list[str]]:
        """The names at the path of a folder: of folders, of scripts, and of pages; nothing hidden."""
        folders: set[str] = set()
        scripts: list[str] = []
        pages: list[str] = []
        if self._is_of_scripts(path):
            for entry in _scan(self._root + path):
                if entry.is_dir() and self._is_of_scripts(path + entry.name):
                    folders.add(entry.name)
                elif entry.name.endswith(self._extensions) and not is_private(entry.name) and entry.is_file():
                    scripts.append(entry.name)
        if self._is_public(path):
            for entry in _scan(self._public + path):
                if entry.is_dir():
                    folders.add(entry.name)
                elif entry.name.endswith((".html", ".htm")):
                    pages.append(entry.name)
        return sorted(folders), sorted(scripts), sorted(pages)

    def has_scripts(self) -> bool:
        """There is a script somewhere in the root."""
        return any(name.endswith(self._extensions) for _, _, names in os.walk(self._root) for name in names)


def _is_hidden(name: str) -> bool:
    """Not to be shown: .git, .env. But certificates are asked for below .well-known (RFC 8615)."""
    return name.startswith(".") and name != ".well-known"


def _is_inside(path: str, folder: str) -> bool:
    return (os.path.realpath(path) + "/").startswith(os.path.realpath(folder).rstrip("/") + "/")


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        return [entry for entry in os.scandir(folder) if not _is_hidden(entry.name)]
    except OSError:
        # It is not there, or may not be read.
        return []


def size(path: str) -> int:
    """Bytes of a file; -1 when it is not there any more."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1
