"""Which statements are so quick that they are executed where they are asked for, and in no thread.

To hand a statement to a thread and to learn of its end takes 40 to 50 us, ten times what SQLite needs for a row by its
key. So what has been quick the last times is tried at once, with a limit of time; what does not end within it is begun
again in a thread. Only a SELECT can be begun again; and only one without functions and patterns: within these nobody
looks at the clock, and how long they take may depend on a value that a client has chosen.
"""

from __future__ import annotations

import re
from typing import Final

#: Seconds that a quick statement takes with its first rows; and that one may take for which everybody waits. What took
#: far longer all the same, in a step in which nothing ends it, is never tried again.
_QUICK: Final = 0.0002
LIMIT: Final = 0.0004
_FAR_TOO_LONG: Final = 0.005
#: Times in a row that it must have been quick; and how many more after one that was begun again.
_TIMES: Final = 3
_PENALTY: Final = 50
#: Statements that are remembered, and the characters of the longest.
_MAX_KNOWN: Final = 1000
_MAX_LENGTH: Final = 1000
_NEVER: Final = -(1 << 30)
#: A SELECT with nothing that may take long for a single row: no function, subquery, pattern or JSON.
_SIMPLE: Final = re.compile(r"\s*select\b(?!.*(?:[(]|->|\b(?:like|glob|match|regexp)\b))", re.IGNORECASE | re.DOTALL)

#: How often in a row each has been quick; less than 0: so many times until that is counted.
_known: dict[str, int] = {}


def is_quick(sql: str) -> bool:
    """It has been so the last times."""
    return _known.get(sql, 0) >= _TIMES


def note(sql: str, seconds: float) -> None:
    """Remember how long it has taken in a thread. Called in any thread."""
    global _known
    times = _known.get(sql)
    if times is None:
        if len(sql) > _MAX_LENGTH:
            return
        if len(_known) >= _MAX_KNOWN:
            kept = {one: count for one, count in _known.copy().items() if count >= _TIMES}
            _known = kept if len(kept) < _MAX_KNOWN else {}
        times = 0 if _SIMPLE.match(sql) else _NEVER
    if times > _NEVER:
        times = times + 1 if seconds <= _QUICK or times < 0 else 0
    _known[sql] = times


def note_try(sql: str, seconds: float, has_ended: bool) -> None:
    """Remember how long it has taken where it was asked for, up to its end or its limit."""
    if seconds > _FAR_TOO_LONG:
        _known[sql] = _NEVER
    elif not has_ended or seconds > LIMIT:
        _known[sql] = -_PENALTY
    else:
        note(sql, seconds)
