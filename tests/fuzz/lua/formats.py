"""Patterns, and formats of string.format and string.pack, as Lua source: many right, some wrong, some long."""

from __future__ import annotations

import random

_CONVERSIONS = "dddiouxXcsssqfFeEgGaAp%y"
_PACKS = "bBhHiIlLjJTfdnszx!=<> "
_CLASSES = ("a", "d", "l", "s", "u", "w", "x", "p", "c", "g", "z", "A", "S", "W")
_ITEMS = ("a", "x", ".", " ", "[abc]", "[^x]", "[%w_]", "[a-z]", "[%]]", "[]]", "[^]", "=", "\\0", "\\n", "-", "l")


def pattern(source: random.Random) -> str:
    """A pattern: short and often wrong, or long, or deep. At most two parts repeat: more can take for ever.

    Even so the text must be short: three nested loops over it are not ended by any deadline.
    """
    kind = source.random()
    if kind < 0.12:
        return source.choice(
            (
                '("a?"):rep(12) .. ("a"):rep(12)',
                '("("):rep(40)',
                '("()"):rep(33)',
                '("()"):rep(32)',
                '("(a)"):rep(20)',
                '("a"):rep(5000)',
                '("%%"):rep(5000)',
                '("["):rep(300)',
                '("x?"):rep(250000)',
                '("(.-)"):rep(2)',
                '"%f"',
                '("[a"):rep(1e5)',
                '("%b()"):rep(50)',
                '"%b"',
                '"%"',
                '"[%"',
                '"[a-"',
                '"^^$$"',
                '"%1"',
                '"(%1)"',
                '"("',
                '")"',
                '"%f[%w]%w+"',
                '"(()"',
                '"[^"',
                '("."):rep(1e5)',
                '("^"):rep(1000)',
                '"-"',
                '"*"',
                '("a-"):rep(3) .. "b"',
                '(".?"):rep(200000)',
                '("%f[%w]"):rep(9000)',
                '("()"):rep(31) .. "x"',
                '("%w"):rep(150000)',
            )
        )
    parts, repeated, opened = [], 0, 0
    if source.random() < 0.2:
        parts.append("^")
    for _ in range(source.randint(1, 6)):
        item = "%" + source.choice(_CLASSES) if source.random() < 0.4 else source.choice(_ITEMS)
        if source.random() < 0.15:
            parts.append("(")
            opened += 1
        if source.random() < 0.06:
            item = source.choice(("%b()", "%b[]", "%f[%w]", "%f[%s]", "%1", "%b", "%f", "()", "[", "%"))
        elif repeated < 2 and source.random() < 0.4:
            item += source.choice("*+-?")
            repeated += 1
        parts.append(item)
        if opened and source.random() < 0.5:
            parts.append(")")
            opened -= 1
    parts.append(")" * opened if source.random() < 0.9 else "")
    if source.random() < 0.2:
        parts.append("$")
    # The template of `tree` has another use for this sign, but what is put into it is not read again.
    return '"' + "".join(parts) + '"'


def replacement(source: random.Random) -> str:
    """A text to replace by."""
    return source.choice(
        ('""', '"x"', '"%0"', '"%0%0"', '"%1"', '"<%1>"', '"%2"', '"%"', '"%%"', '"%9"', '"\\0"', '"%0\\0%1"')
    )


def string_format(source: random.Random) -> str:
    """What string.format takes."""
    if source.random() < 0.1:
        return source.choice(
            (
                '("%s"):rep(200)',
                '("%d "):rep(50)',
                '"%99999d"',
                '"%.99999f"',
                '"%099d"',
                '"%.99f"',
                '"%.99s"',
                '"%99.99f"',
                '"%"',
                '"%-+ #0d"',
                '"%q"',
                '"%5q"',
                '"%.3q"',
                '"%1$d"',
                '"%ld"',
                '"%*d"',
                '"%.0s"',
                '"%.20s"',
                '"%c%c%c"',
                '"%\\0d"',
                '("x"):rep(1e5) .. "%s"',
                '"%.14g"',
                '"%99.99e"',
                '"%a"',
                '"%99.99a"',
                '"%p"',
                '"%99p"',
                '"%i"',
                '"%099.99d"',
            )
        )
    parts = []
    for _ in range(source.randint(1, 4)):
        flags = "".join(source.sample("-+ #0", source.choice((0, 0, 0, 1, 2))))
        width = source.choice(("", "", "", "1", "5", "20", "99", "100"))
        precision = source.choice(("", "", "", ".", ".0", ".3", ".99", ".100"))
        parts.append(f"%{flags}{width}{precision}{source.choice(_CONVERSIONS)}")
    return '"' + source.choice(("", " ", "\\0", "x")).join(parts) + '"'


def pack_format(source: random.Random) -> str:
    """What string.pack takes."""
    if source.random() < 0.1:
        return source.choice(
            (
                '"i17"',
                '"i0"',
                '"i16"',
                '"!16 i8"',
                '"s1"',
                '"s16"',
                '"c0"',
                '"c2147483647"',
                '"c99999999999"',
                '("i8"):rep(100)',
                '"Xi4"',
                '"X"',
                '"XX"',
                '"!3i4"',
                '"!i8Xj"',
                '"z"',
                '"c"',
                '"!1Xs"',
                '("x"):rep(1e5)',
                '"!99"',
                '"Xc1"',
                '("!16Xi16"):rep(20)',
                '"c4000000"',
            )
        )
    parts = []
    for _ in range(source.randint(1, 6)):
        kind = source.choice(_PACKS)
        size = str(source.choice((1, 2, 3, 4, 7, 8, 16))) if kind in "iIs!" and source.random() < 0.6 else ""
        parts.append(kind + size)
    return '"' + "".join(parts) + '"'
