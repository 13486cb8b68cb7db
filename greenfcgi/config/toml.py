"""TOML as text: read, with a mistake in one line, and values and keys written as they would stand in a file."""

import re
from typing import Any

from ..errors import ConfigError

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MAX_SHOWN = 60  # characters of a found value that a message repeats


def parse(text: str) -> dict[str, Any]:
    """The document that `text` is. Raises ConfigError, one line that begins with the place of the mistake."""
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).removesuffix(")").rpartition(" (at ")
        if place == "end of document":
            place = f"line {text.count(chr(10)) + 1}, at the end of the file"
        raise ConfigError(f"{place}: {message}") from None
    except ValueError:  # Python converts at most 4300 decimal digits
        raise ConfigError("found a whole number of thousands of digits, expected 64 bits") from None
    except RecursionError:
        raise ConfigError("found lists or tables that are nested too deep") from None


def shown(found: object) -> str:
    """A TOML value as a message repeats it: short, on one line, with its type."""
    if isinstance(found, dict):
        return "a table"
    if isinstance(found, list):
        return "a list" if found else "an empty list"
    if isinstance(found, str):
        return f"{quoted(short(found))} (text)"
    names: dict[type, str] = {bool: "true or false", int: "whole number", float: "number"}
    return f"{short(value(found))} ({names.get(type(found), 'date or time')})"


def short(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def value(found: Any) -> str:
    """A value as TOML has it."""
    if isinstance(found, str):
        return quoted(found)
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, int):
        return str(found) if found < 2**63 else hex(found)  # Python refuses to write 4300 decimal digits
    if isinstance(found, float):
        return repr(found)
    if isinstance(found, list):
        return f"[{', '.join(map(value, found))}]"
    if isinstance(found, dict):
        return f"{{{', '.join(f'{key(name)} = {value(inner)}' for name, inner in found.items())}}}"
    return str(found.isoformat())  # a date, a time, or both


def key(name: str) -> str:
    """A key as TOML has it: in quotes where it needs them."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else quoted(name)


def quoted(text: str) -> str:
    """A basic string of TOML, in which nothing is left that a terminal would obey."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escape(ord(c))) for c in text) + '"'


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
