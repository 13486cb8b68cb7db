"""What is said of a call of a function that is nil because `lua.allow` does not open it."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

#: The end of the message, as 5.3 and later have it, and as the others do.
_CALLED: Final = re.compile(r"attempt to call (?:a nil value \(\w+ '(\w+)'\)|\w+ '(\w+)' \(a nil value\))\Z")
#: What is nil, and the name that opens it.
_CLOSED: Final = {
    **dict.fromkeys(
        ("debug", "getlocal", "getregistry", "getuservalue", "sethook", "setlocal", "setuservalue"), "debug"
    ),
    "loadlib": "package.loadlib",
}


def explained(message: str, allow: Container[str]) -> str:
    """The message of an error that a script has not caught, with the name that `lua.allow` would have."""
    found = _CALLED.search(message)
    name = _CLOSED.get(found[1] or found[2]) if found is not None else None
    return message if name is None or name in allow else f'{message}: lua.allow does not have "{name}"'
