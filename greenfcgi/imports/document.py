"""A config.toml that is put together: settings with the comments above them, and what has no counterpart below.

Each value is checked as it is set, by what `config.settings` says, so that the file loads. How TOML is written is in
`config.load`.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator

from ..config.load import describe, mistake, toml_line
from ..errors import ConfigError
from ..logs.text import escape

_WIDTH = 116
_MAX_SHOWN = 70  # characters of a setting that a comment repeats
#: What only the machine knows where the file will be used: folders and users that need not be on this one.
_NOT_CHECKED = (("scripts", "root"), ("", "user"), ("", "group"))
_TABLES = ("", "scripts", "lua", "states")


class Document:
    """The settings and comments of one config.toml. `path` is the file that they are from."""

    def __init__(self, path: str) -> None:
        self.path = escape(path)
        self._folder = os.path.dirname(os.path.abspath(path))
        self._settings: dict[tuple[str, str], tuple[object, str]] = {}
        #: What is not carried over, by the reason.
        self._notes: dict[str, list[str]] = {}

    def set(self, table: str, key: str, value: object, of: str, comment: str = "") -> None:
        """Give a setting a value, as TOML has it; the last one stays. `of` is the name in the file that it is from.

        Raises `ConfigError` where the setting cannot have it.
        """
        if (table, key) not in _NOT_CHECKED:
            problem = mistake(table, key, value, self._folder)
            if problem:
                raise ConfigError(f"{self.path}: {of}: {problem}")
        self._settings[table, key] = value, comment

    def get(self, table: str, key: str, default: object = None) -> object:
        """The value that a setting has been given."""
        return self._settings.get((table, key), (default, ""))[0]

    def drop(self, table: str, key: str) -> None:
        """Leave a setting out after all."""
        self._settings.pop((table, key), None)

    def note(self, what: str, reason: str) -> None:
        """Say of something that it is not in the file, and why it is not needed, or what is near."""
        self._notes.setdefault(reason, []).append(what)

    def text(self, title: str) -> str:
        """The whole file; its first comment is `title`."""
        lines = [*_comment(title)]
        order = [(row.table, row.key) for row in describe()]
        for table in _TABLES:
            keys = sorted((place for place in self._settings if place[0] == table), key=order.index)
            if keys and table:
                lines += ["", f"[{table}]"]
            apart = not table
            for place in keys:
                value, comment = self._settings[place]
                if comment or apart:
                    lines += ["", *_comment(comment)]
                lines.append(toml_line(place[1], value))
                apart = bool(comment)
        if self._notes:
            lines += ["", *_comment("What is not carried over:")]
        for reason, what in self._notes.items():
            lines += _comment(f"- {', '.join(what)}: {reason}.")
        return "\n".join(lines) + "\n"


def shown(name: str, value: object) -> str:
    """A setting of the file that is read as a comment repeats it, on one line and not too long."""
    text = escape(value) if isinstance(value, (str, bytes)) else toml_line("x", value).removeprefix("x = ")
    return textwrap.shorten(f"{name} = {text}", _MAX_SHOWN, placeholder="...")


def _comment(text: str) -> Iterator[str]:
    indent = "  " if text.startswith("- ") else ""
    lines = textwrap.wrap(
        escape(text), _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return (f"# {line}" for line in lines)
