"""`?` and `:name` in a statement, as drivers for Python want them: `%s` and `%(name)s`; and the parameters to them.

What stands in quotes and comments is left alone, in the dialect of the database. `??` is a question mark, since
PostgreSQL has operators with one. SQLite reads both forms itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from .driver import Parameters
from .problem import SqlError

#: Statements whose translation is remembered: more than a program has in its text.
_MAX_KEPT: Final = 512

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
#: What is left alone; then what is looked at. `E'...'` has backslashes, and comments nest (see `_end_of_comment`).
_POSTGRESQL: Final = re.compile(
    r"(?P<kept>(?<![A-Za-z0-9_])[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\""
    rf"|(?P<tag>\$(?:{_NAME})?\$).*?(?P=tag)|--[^\n]*|::)"
    rf"|(?P<comment>/\*)|(?P<mark>\?\??)|:(?P<name>{_NAME})|(?P<percent>%)",
    re.DOTALL,
)
_MYSQL: Final = re.compile(
    r"(?P<kept>'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`|#[^\n]*|--(?=\s|$)[^\n]*|/\*.*?\*/|:=)"
    rf"|(?P<comment>(?!))|(?P<mark>\?\??)|:(?P<name>{_NAME})|(?P<percent>%)",
    re.DOTALL,
)
_COMMENT: Final = re.compile(r"/\*|\*/")


class Statement(NamedTuple):
    """A statement as a driver wants it."""

    text: str
    #: How many `?` it has.
    marks: int
    #: The names that it has.
    names: frozenset[str]


def postgresql(sql: str) -> Statement:
    """A statement for PostgreSQL. Raises `SqlError` where both forms stand in it."""
    return _translated(sql, True)


def mysql(sql: str) -> Statement:
    """The same for MySQL and MariaDB."""
    return _translated(sql, False)


@lru_cache(_MAX_KEPT)
def _translated(sql: str, is_postgresql: bool) -> Statement:
    pattern = _POSTGRESQL if is_postgresql else _MYSQL
    parts: list[str] = []
    names: set[str] = set()
    count = at = 0
    while found := pattern.search(sql, at):
        end = found.end()
        parts.append(sql[at : found.start()])
        name = found["name"]
        if found["comment"]:
            end = _end_of_comment(sql, end)
        if found["mark"] == "?":
            count += 1
            parts.append("%s")
        elif found["mark"]:
            parts.append("?")
        elif name and not _follows_word(sql, found.start()):
            names.add(name)
            parts.append(f"%({name})s")
        else:
            parts.append(sql[found.start() : end].replace("%", "%%"))
        at = end
    parts.append(sql[at:])
    if count and names:
        raise SqlError("found parameters ? and :name in one statement, expected one or the other")
    return Statement("".join(parts), count, frozenset(names))


def _follows_word(sql: str, at: int) -> bool:
    """What stands before it makes a colon something else: a slice of an array, as in `a[low:high]`."""
    return at > 0 and (sql[at - 1].isalnum() or sql[at - 1] in "_)]")


def _end_of_comment(sql: str, at: int) -> int:
    """Where a comment ends that began before `at`; PostgreSQL's nest."""
    depth = 1
    while depth:
        found = _COMMENT.search(sql, at)
        if found is None:
            return len(sql)
        depth += 1 if found[0] == "/*" else -1
        at = found.end()
    return at


def supplied(translate: Callable[[str], Statement], sql: str, parameters: Parameters) -> tuple[str, Any]:
    """The text and the parameters for the driver. Raises `SqlError` where they do not fit together."""
    statement = translate(sql)
    if isinstance(parameters, Mapping):
        missing = sorted(statement.names - {*parameters})
        if missing:
            raise SqlError(f"no value for the parameter :{missing[0]}")
        return statement.text, parameters
    if statement.names and not statement.marks and parameters:
        raise SqlError(f"the statement has named parameters such as :{min(statement.names)}, expected a table of them")
    if not parameters and not statement.marks:
        # As it is: nothing in it means anything to the driver.
        return (sql if "??" not in sql else statement.text.replace("%%", "%")), None
    if statement.marks != len(parameters):
        raise SqlError(f"the statement has {statement.marks} parameters, got {len(parameters)}")
    return statement.text, parameters
