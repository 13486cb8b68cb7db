"""Statements that change the connection on which they are executed, and not only what is in the database."""

from __future__ import annotations

import re
from typing import Final

#: `set local` and the like end with their transaction.
_CHANGES: Final = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
    r"(?:set(?!\s+(?:local|transaction|constraints)\b)|reset|listen|load|prepare|use|lock\s+tables?|flush\s+tables|handler"
    r"|attach|pragma|create\s+(?:(?:local|global|or\s+replace)\s+)*temp(?:orary)?)\b",
    re.IGNORECASE | re.DOTALL,
)


def changes_session(sql: str) -> bool:
    """Whoever gets the connection next would find a setting, a temporary table, a lock or the like of this statement.

    What a function does that it calls, such as PostgreSQL's set_config, nobody sees here.
    """
    return _CHANGES.match(sql) is not None
