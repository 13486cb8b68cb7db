"""Templates of configuration files: text with places such as `@root@`, and lines that stand for some settings only.

The signs are those of autoconf, since `$`, `%` and braces mean something in the files that are made. A line
`@if name@` or `@if not name@` begins what is left out unless the value is there, or is not; `@end@` ends it. They nest.
A value of several lines stands alone on its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PLACE = re.compile(r"@([a-z_]+)@")
_CONDITION = re.compile(r"@(?:if (not )?([a-z_]+)|(end))@")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its values. A condition holds where its value is not empty.

    Raises KeyError for a name without a value, and ValueError where `@if ...@` and `@end@` do not match.
    """
    lines = []
    shown = [True]
    for line in template.splitlines():
        condition = _CONDITION.fullmatch(line.strip())
        if condition is None:
            if all(shown):
                lines.append(_PLACE.sub(lambda place: values[place[1]], line).rstrip())
        elif condition[3] is None:
            shown.append(bool(values[condition[2]]) != bool(condition[1]))
        elif len(shown) > 1:
            shown.pop()
        else:
            raise ValueError("@end@ without @if ...@")
    if len(shown) > 1:
        raise ValueError("@if ...@ without @end@")
    return "\n".join(lines) + "\n"
