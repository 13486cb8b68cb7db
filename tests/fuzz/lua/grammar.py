"""Reads grammar.txt: rules with their alternatives, and which of the flavours have these."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from .flavours import GROUPS

#: The name of a rule, or of what a program's writer knows.
HOLE: Final = re.compile(r"\$(\w+)")
_HEAD: Final = re.compile(r"== (\w+)")
_ALTERNATIVE: Final = re.compile(r"(?:@(\w+) )?(?:(\d+): )?(.*)")
_BETWEEN: Final = " || "


class Rule(NamedTuple):
    """The ways to write something, and how often each is taken."""

    #: Each as text and names in turn: text first, and last.
    ways: list[list[str]]
    weights: list[float]

    def choose(self, source: random.Random) -> list[str]:
        """One of the ways."""
        return source.choices(self.ways, self.weights)[0]


@cache
def grammar(flavour: str) -> dict[str, Rule]:
    """The rules for a flavour, by name."""
    rules: dict[str, Rule] = {}
    for line in _lines():
        head = _HEAD.fullmatch(line)
        if head:
            rule = rules[head[1]] = Rule([], [])
            continue
        for text in line.split(_BETWEEN):
            found = _ALTERNATIVE.fullmatch(text)
            assert found is not None
            if found[1] is None or flavour in GROUPS[found[1]]:
                rule.ways.append(HOLE.split(found[3]))
                rule.weights.append(float(found[2] or 1))
    return rules


def _lines() -> list[str]:
    found: list[str] = []
    for line in Path(__file__).with_name("grammar.txt").read_text().split("\n"):
        if line.startswith("    "):
            found[-1] += " " + line.strip()
        elif line and not line.startswith("# ") and not line.startswith("#   "):
            found.append(line)
    return found
