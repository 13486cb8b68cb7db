"""Odd arguments, as Lua source: numbers at the edges, texts, patterns, formats, names of files."""

from __future__ import annotations

import random
from typing import Final

#: The flavours by what they have.
JIT: Final = ("luajit21", "luajit20")
OF_5_1: Final = (*JIT, "lua51")
WITH_INTEGERS: Final = ("lua53", "lua54", "lua55")
WITH_CLOSE: Final = ("lua54", "lua55")
#: With finalizers on tables.
WITH_TABLE_GC: Final = ("lua52", *WITH_INTEGERS)

SMALL_NUMBERS: Final = ("0", "1", "2", "3", "4", "5", "7", "10", "16", "20", "50")
ODD_NUMBERS: Final = (
    "-1",
    "-2",
    "100",
    "255",
    "256",
    "1000",
    "65535",
    "65536",
    "1e6",
    "2^24",
    "2^31",
    "2^31-1",
    "2^31+1",
    "-2^31",
    "-2^31-1",
    "2^32",
    "2^32-1",
    "2^53",
    "2^53+1",
    "-2^53",
    "2^62",
    "2^63",
    "-2^63",
    "2^64",
    "1e15",
    "1e100",
    "1e308",
    "-1e308",
    "1/0",
    "-1/0",
    "0/0",
    "-0.0",
    "0.5",
    "-0.5",
    "1.5",
    "3.999",
    "5e-324",
    "math.pi",
)
INTEGERS: Final = (
    "math.maxinteger",
    "math.mininteger",
    "math.maxinteger-1",
    "math.mininteger+1",
    "1<<31",
    "1<<32",
    "-(1<<31)",
    "0x7fffffff",
    "0xffffffff",
    "1<<63",
    "0xffffffffffffffff",
    "1//1",
)

TEXTS: Final = (
    '""',
    '"a"',
    '"abc"',
    '"\\0"',
    '"a\\0b"',
    '"10"',
    '"-0x1p4"',
    '" 5 "',
    '"1e400"',
    '"nan"',
    '"%d %s"',
    '"%"',
    '"\\255\\254\\200"',
    '"\\226\\130\\172uro"',
    '"one\\ntwo\\n\\nthree"',
    '"a,b,,c"',
    '"k=v&k=w&&=x&%41%4"',
    '"hello world from Lua"',
    '"not enough memory"',
    '"the client has gone"',
    '"the request has run longer than its time"',
    '"stack overflow"',
    '"C stack overflow"',
    '"error in error handling"',
    '"\\27Lua"',
    '"__gc"',
    '"__index"',
    '"n"',
    '"attempt to yield across a C-call boundary"',
    '"greenfcgi:1: x"',
    '("ab"):rep(50)',
    '("x"):rep(1000)',
    '("a b\\n"):rep(2500)',
    '("x"):rep(1e5)',
)
LARGE_TEXTS: Final = ('("x"):rep(5e5)', '("xy\\n"):rep(3e5)', '("\\0"):rep(9e5)', '("a"):rep(3e6)', '("a"):rep(2^31)')

#: Inputs for load: whole programs, and what is none.
SOURCES: Final = (
    '""',
    '"return 1"',
    '"return ..."',
    '"x = 1"',
    '"return function(...) return ... end"',
    "\"error('loaded')\"",
    '"syntax error here"',
    '"return 1LL"',
    '"return 1i"',
    '"goto done ::done::"',
    '"local x <close> = nil"',
    '"local x <const> = 1 x = 2"',
    '"for i = 1, 3 do coroutine.yield(i) end"',
    '"return " .. ("("):rep(150) .. "1"',
    '"return " .. ("{"):rep(300)',
    '"return " .. ("("):rep(250) .. "1" .. (")"):rep(250)',
    '"return " .. ("1+"):rep(2000) .. "1"',
    '"return " .. ("a.."):rep(240) .. "a"',
    '"return " .. ("-"):rep(1000) .. "1"',
    '"return " .. ("not "):rep(300) .. "1"',
    '("do "):rep(190) .. ("end "):rep(190)',
    '("do "):rep(1000)',
    '("local a "):rep(201)',
    '("local a "):rep(199) .. " return function() return a end"',
    '("if x then "):rep(500)',
    '"return " .. ("function() return "):rep(150)',
    '"return {" .. ("1,"):rep(3000) .. "}"',
    '"return {" .. ("{},"):rep(5000) .. "}"',
    '"f(" .. ("1,"):rep(260) .. "1)"',
    '("x = x and y or z "):rep(300)',
    '"return " .. ("x"):rep(5000)',
    '"return [" .. ("="):rep(1000) .. "["',
    '"return \'" .. ("\\\\200"):rep(999) .. "\'"',
    '"\\27Lua"',
    '"\\27LJ\\2"',
    '"#!x"',
    '"\\239\\187\\191return 2"',
    "\"return '\\\\u{7fffffff}'\"",
    '("::l" .. "::"):rep(3)',
    '"return 0x" .. ("f"):rep(500)',
    '"return " .. ("9"):rep(500) .. "e" .. ("9"):rep(50)',
)

#: Names that programs may read: beside the script, elsewhere, and none at all. The runner makes those beside it.
NAMES: Final = (
    '""',
    '"."',
    '".."',
    '"./"',
    '"./data.txt"',
    '"../x"',
    '"/"',
    '"sub"',
    '"sub/"',
    '"sub/../data.txt"',
    '"data.txt"',
    '"new.txt"',
    '"link"',
    '"loop"',
    '"socket"',
    '"mod.lua"',
    '"page.lua"',
    '"empty"',
    '"secret"',
    '"no/such/file"',
    '"/proc/self/mem"',
    '"/proc/self/fd/0"',
    '"/proc/self/fd"',
    '"/proc/self/status"',
    '"/proc/self/maps"',
    '"/proc/self/cwd/x"',
    '"/proc/self/task"',
    '"/proc/self/attr/current"',
    '"/dev/null"',
    '"/dev/full"',
    '"/dev/fd/1"',
    '"/dev/stdout"',
    '"/dev/tty"',
    '"data.txt\\0.lua"',
    '"a\\nb"',
    '("x"):rep(300)',
    '("x/"):rep(3000)',
    '("../"):rep(60) .. "x"',
    '"\\255"',
    '"%s"',
)
#: These wait, or never end, where they are opened or read.
ENDLESS_NAMES: Final = ('"fifo"', '"/dev/zero"', '"/dev/stdin"', '"/dev/urandom"', '"./fifo"', '"/dev/ptmx"')
MODULES: Final = (
    '"mod"',
    '"bad"',
    '"err"',
    '"itself"',
    '"other"',
    '"yields"',
    '"sub.deep"',
    '"luafcgid"',
    '"nothing"',
    '""',
    '"."',
    '"mod\\0"',
    '("x."):rep(500)',
    '"string"',
    '"_G"',
    '"ffi"',
    '"jit.util"',
    '"string.buffer"',
    '"table.new"',
    '"%"',
    '"python"',
    '"lupa"',
    '"bit"',
    '"coroutine"',
    '"-mod"',
    '"table.clear"',
)

MODES: Final = (
    '"r"',
    '"r"',
    '"w"',
    '"a"',
    '"r+"',
    '"w+"',
    '"a+"',
    '"rb"',
    '"wb"',
    '"x"',
    '""',
    '"rw"',
    '"r\\0w"',
    '"rrr"',
)
READS: Final = (
    '"*l"',
    '"*L"',
    '"*a"',
    '"*n"',
    '"l"',
    '"a"',
    '"n"',
    "0",
    "1",
    "100",
    "1e5",
    "2^31",
    "-1",
    "2^53",
    "1/0",
    '"*x"',
    '""',
    "1.5",
    "2^63",
)
GC_OPTIONS: Final = (
    '"collect"',
    '"collect"',
    '"collect"',
    '"count"',
    '"step"',
    '"step"',
    '"stop"',
    '"restart"',
    '"isrunning"',
    '"setpause"',
    '"setstepmul"',
    '"generational"',
    '"incremental"',
    '"param"',
    '"setmajorinc"',
    '""',
    '"x"',
)
DATES: Final = (
    '"%c"',
    '"!%c"',
    '"*t"',
    '"!*t"',
    '"%Y-%m-%d"',
    '"%"',
    '"%E"',
    '"%Ez"',
    '"%O"',
    '"%5"',
    '"%Ex%Oy"',
    '""',
    '("%c"):rep(200)',
    '"!%"',
    '"\\0%c"',
    '"%s"',
    '"%Q"',
    '("x"):rep(1000) .. "%c"',
)
INFO: Final = ('"nSlu"', '"S"', '"l"', '"n"', '"u"', '"f"', '"L"', '"t"', '"r"', '">S"', '""', '"xyz"', '"nSlufLtr"')

_CONVERSIONS = "dddiouxXcsssqfFeEgGaAp%y"
_PACKS = "bBhHiIlLjJTfdnszx!=<> "
_CLASSES = ("a", "d", "l", "s", "u", "w", "x", "p", "c", "g", "z", "A", "S", "W")
_ITEMS = ("a", "x", ".", " ", "[abc]", "[^x]", "[%w_]", "[a-z]", "[%]]", "[]]", "[^]", "=", "\\0", "\\n", "-", "l")


def number(source: random.Random, flavour: str) -> str:
    """A number, as often as not one at an edge."""
    if source.random() < 0.5:
        return source.choice(SMALL_NUMBERS)
    numbers = ODD_NUMBERS + INTEGERS if flavour in WITH_INTEGERS else ODD_NUMBERS
    return f"({source.choice(numbers)})"


def text(source: random.Random) -> str:
    """A text, seldom a large one."""
    return source.choice(LARGE_TEXTS if source.random() < 0.02 else TEXTS)


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
