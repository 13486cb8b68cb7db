"""`greenfcgi --import FILE`: which kind of file it is, and what it is as a config.toml."""

from __future__ import annotations

import os
import re

from ..errors import ConfigError
from ..logs.text import escape

_MAX_FILE = 2**20  # bytes; real ones have a few KB
#: The first line of an INI that is none of a comment. In Lua, no statement begins with a bracket, and no path stands
#: without quotes.
_INI = re.compile(r"\s*(\[|include\s*=\s*[^\s\"'\[])")


def run(path: str) -> str:
    """A config.toml made of luafcgid's or php-fpm's configuration.

    Its content says which kind of file it is. `FILE:POOL` is one pool of several in an INI. Raises `ConfigError`, one
    line, when it cannot be read or anything in it is wrong.
    """
    from . import luafcgid, php_fpm

    pool = ""
    if not os.path.lexists(path) and ":" in path:
        path, _, pool = path.rpartition(":")
    text = read(path)
    if is_ini(text):
        return php_fpm.convert(path, text, pool, read)
    if pool:
        raise ConfigError(f"{escape(path)}: it has no pools: expected the name of a file alone")
    return luafcgid.convert(path, text)


def read(path: str) -> str:
    """The text of a file. Raises `ConfigError` where it cannot be read or is no text in UTF-8."""
    try:
        # A fifo that nobody writes is at its end at once; what a program writes, as in <(ssh ...), is waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            os.set_blocking(file.fileno(), True)
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{escape(path)}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{escape(path)}: cannot be read: a name with a byte 0") from None
    if len(data) > _MAX_FILE:
        raise ConfigError(f"{escape(path)}: found more than {_MAX_FILE // 2**20} MB, expected a configuration")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found = error.object[error.start]
        raise ConfigError(f"{escape(path)}:{line}: found byte 0x{found:02x}, expected text in UTF-8") from None
    for character in "\0\x1b":
        if character in text:
            line = text.count("\n", 0, text.index(character)) + 1
            raise ConfigError(f"{escape(path)}:{line}: found byte 0x{ord(character):02x}, expected text")
    return text


def is_ini(text: str) -> bool:
    """Whether it is an INI as php-fpm has it, and not Lua."""
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith((";", "#")))
    return bool(_INI.match(next(lines, "")))
