"""The INI that php-fpm reads: sections, `key = value`, keys with a name in brackets, included files."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..errors import ConfigError
from ..logs.text import escape

_MAX_DEPTH = 10
_MAX_FILES = 200
_SECTION = re.compile(r"\[([^\[\]]+)\]\s*(?:[;#].*)?")
_ENTRY = re.compile(r"([A-Za-z_][\w.]*)\s*(?:\[([^\[\]]*)\])?\s*=\s*(.*)")
#: A value in quotes, or one that ends where a comment begins.
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"\s*(?:;.*)?|'([^']*)'\s*(?:;.*)?")


class Entry(NamedTuple):
    """A line: `env[PATH] = "/bin"` has the key "env", the name "PATH" and the value "/bin"."""

    section: str
    key: str
    name: str | None
    value: str
    place: str  # file and line, for messages


class Problem(NamedTuple):
    """Something that is not as php-fpm would have it, and is no reason to stop."""

    what: str
    reason: str


def entries(path: str, text: str, read: Callable[[str], str]) -> Iterator[Entry | Problem]:
    """The lines of an INI and of the files that it includes, in their order. `read` gives the text of a file.

    Raises `ConfigError`, one line, for a line that is none, and for files that cannot be read.
    """
    # A section goes on into the next file.
    yield from _Reader(read).entries(path, text, 0)


class _Reader:
    def __init__(self, read: Callable[[str], str]) -> None:
        self._read = read
        self._section = ""
        self._files = 0

    def entries(self, path: str, text: str, depth: int) -> Iterator[Entry | Problem]:
        for number, raw in enumerate(text.splitlines(), 1):
            line, place = raw.strip(), f"{escape(path)}:{number}"
            if not line or line.startswith((";", "#")):
                continue
            if section := _SECTION.fullmatch(line):
                self._section = section[1].strip()
            elif entry := _ENTRY.fullmatch(line):
                value = _value(entry[3], place)
                if entry[1] == "include" and entry[2] is None:
                    yield from self._included(path, value, depth, place)
                else:
                    yield Entry(self._section, entry[1], entry[2], value, place)
            else:
                raise ConfigError(f"{place}: found {_shown(line)}, expected [section] or key = value")

    def _included(self, path: str, pattern: str, depth: int, place: str) -> Iterator[Entry | Problem]:
        if depth == _MAX_DEPTH:
            raise ConfigError(f"{place}: found files that include others more than {_MAX_DEPTH} deep")
        found = sorted(glob.glob(os.path.join(os.path.dirname(path), pattern)))
        if not found:
            if not glob.has_magic(pattern):
                raise ConfigError(f"{place}: {_shown(pattern)} cannot be read: No such file or directory")
            yield Problem(f"include = {pattern}", "there is no such file")
        for file in found:
            self._files += 1
            if self._files > _MAX_FILES:
                raise ConfigError(f"{place}: found more than {_MAX_FILES} files that are included")
            yield from self.entries(file, self._read(file), depth + 1)


def _value(text: str, place: str) -> str:
    if text.startswith(('"', "'")):
        quoted = _QUOTED.fullmatch(text)
        if quoted is None:
            raise ConfigError(f"{place}: found {_shown(text)}, expected a quote at the end of the value")
        return quoted[2] if quoted[1] is None else re.sub(r"\\([\\\"])", r"\1", quoted[1])
    return text.partition(";")[0].strip()


def _shown(text: str) -> str:
    return escape(text if len(text) <= 60 else f"{text[:57]}...")
