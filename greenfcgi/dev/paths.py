"""What a path of a URL means in a folder of scripts: a script, a file as it is, a folder, or nothing. Reads no file.

As web servers in front do it: the script is the first part of the path that is a file of the right extension, and what
stands behind it is its PATH_INFO.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple


class Script(NamedTuple):
    """`name` begins with a slash, `info` too unless it is empty."""

    name: str
    info: str


class File(NamedTuple):
    """A file that is sent as it is; its path in the file system."""

    path: str


class Folder(NamedTuple):
    """A folder without an index; its path in the file system."""

    path: str


class Elsewhere(NamedTuple):
    """A folder whose slash is missing: the path with it."""

    path: str


class Nothing(NamedTuple):
    """Nothing is there, or nothing that is shown."""


Target = Script | File | Folder | Elsewhere | Nothing


class Paths:
    """The folder `root` and the extensions of scripts in it."""

    def __init__(self, root: str, extensions: Sequence[str]) -> None:
        self._root = root
        self._extensions = tuple(extensions)

    def find(self, path: str) -> Target:
        """What is at this path, which begins with a slash, and whose percent signs have been resolved."""
        parts = path.split("/")[1:]
        # Hidden files are nobody's business: .git, .env.
        if "\0" in path or any(part.startswith(".") for part in parts):
            return Nothing()
        at = ""
        for part in parts:
            at += "/" + part
            if part.endswith(self._extensions) and os.path.isfile(self._root + at):
                return Script(at, path[len(at) :])
        there = self._root + path
        if not self._is_inside(there):
            return Nothing()
        if os.path.isdir(there):
            return self._in_folder(there, path)
        return File(there) if os.path.isfile(there) else Nothing()

    def _in_folder(self, there: str, path: str) -> Target:
        if not path.endswith("/"):
            return Elsewhere(path + "/")
        for extension in self._extensions:
            if os.path.isfile(f"{there}index{extension}"):
                return Script(f"{path}index{extension}", "")
        return File(there + "index.html") if os.path.isfile(there + "index.html") else Folder(there)

    def _is_inside(self, there: str) -> bool:
        root = os.path.realpath(self._root)
        return (os.path.realpath(there) + "/").startswith(root.rstrip("/") + "/")

    def entries(self, folder: str) -> tuple[list[str], list[str], list[str]]:
        """The names in a folder: of folders, of scripts, and of pages; nothing hidden."""
        folders: list[str] = []
        scripts: list[str] = []
        pages: list[str] = []
        try:
            there = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            # It may not be read.
            there = []
        for entry in there:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.name.endswith(self._extensions):
                scripts.append(entry.name)
            elif entry.name.endswith((".html", ".htm")):
                pages.append(entry.name)
        return folders, scripts, pages

    def has_scripts(self) -> bool:
        """There is a script somewhere in the root."""
        return any(name.endswith(self._extensions) for _, _, names in os.walk(self._root) for name in names)


def size(path: str) -> int:
    """Bytes of a file; -1 when it is not there any more."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1
