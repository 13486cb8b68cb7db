"""What a program is made of: statements whose parts are text, or blocks of further statements. Makes it smaller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final

#: Attempts to make a program smaller, each of which is a process, and seconds for all of them.
_MAX_ATTEMPTS: Final = 400
_MAX_SECONDS: Final = 90.0


class Code:
    """A piece of Lua: a statement, or an expression. A list is a block of statements inside it."""

    __slots__ = ("parts",)

    def __init__(self, parts: list[str | list[Code]]) -> None:
        self.parts = parts

    @property
    def blocks(self) -> list[list[Code]]:
        """The blocks inside it."""
        return [part for part in self.parts if isinstance(part, list)]

    def lines(self, indent: str = "") -> Iterator[str]:
        """Its text, line by line."""
        line = indent
        for part in self.parts:
            if isinstance(part, str):
                line += part
                continue
            yield line
            yield from lines(part, indent + "  ")
            line = indent
        yield line


def lines(block: list[Code], indent: str = "") -> Iterator[str]:
    """The text of a block, line by line."""
    for statement in block:
        yield from statement.lines(indent)


def text(block: list[Code]) -> str:
    """The text of a program."""
    return "\n".join(lines(block)) + "\n"


def shrink(block: list[Code], fails: Callable[[str], bool]) -> str:
    """The text of a smaller program that fails as well.

    In time, no statement of it can be left out, and none replaced by its blocks.

    `block` is changed. `fails` tells whether a text still does.
    """
    attempts = _MAX_ATTEMPTS
    deadline = monotonic() + _MAX_SECONDS

    def still_fails() -> bool:
        nonlocal attempts
        attempts -= 1
        return attempts >= 0 and monotonic() < deadline and fails(text(block))

    changed = True
    while changed and attempts > 0:
        changed = False
        waiting = [block]
        while waiting:
            one = waiting.pop()
            changed |= _without(one, still_fails) | _unwrapped(one, still_fails)
            waiting += [inner for statement in one for inner in statement.blocks]
    return text(block)


def _without(block: list[Code], still_fails: Callable[[], bool]) -> bool:
    """Leave out what can be: halves first, then ever smaller parts. Whether anything could."""
    changed = False
    size = len(block)
    while size:
        at = 0
        while at < len(block):
            before = block[:]
            del block[at : at + size]
            if still_fails():
                changed = True
            else:
                block[:] = before
                at += size
        size //= 2
    return changed


def _unwrapped(block: list[Code], still_fails: Callable[[], bool]) -> bool:
    """Replace statements by what is in their blocks, where that fails, too. Whether one could be."""
    changed, at = False, 0
    while at < len(block):
        before = block[:]
        inner = [statement for one in block[at].blocks for statement in one]
        if inner:
            block[at : at + 1] = inner
            if still_fails():
                changed = True
                continue
            block[:] = before
        at += 1
    return changed
