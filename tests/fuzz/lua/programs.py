"""A random program of a seed: a script with a handler and hooks, which does odd things to all that it can reach.

Variables come in pools by type: s text, n numbers, t tables, f functions, c coroutines, h files, x anything. So most
calls get what they expect, and run deep. Functions and loops take `fuel`, so that most programs end in time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from . import formats, library
from .flavours import OF_5_1
from .grammar import Rule, grammar
from .tree import Code, text

_POOLS: Final = {"s": 4, "n": 4, "t": 5, "f": 4, "c": 3, "h": 2, "x": 4}
#: How deep blocks lie in each other.
_MAX_DEPTH: Final = 5
#: How statements begin that do not fail.
_GUARDED: Final = ("pcall(", "x1, x2 = pcall(", "x1, x2, x3 = pcall(", "x1, x2 = xpcall(")
#: The rules for arguments, by the letters of `library`.
_ARGUMENTS: Final = {
    "n": "number", "i": "small", "s": "string", "p": "p", "r": "r", "t": "table", "f": "function", "c": "thread",
    "k": "key", "x": "any", ".": "any", "F": "file_name", "W": "write_name", "M": "module", "m": "m", "R": "R",
    "w": "seek_from", "h": "vh", "g": "gc_option", "G": "G", "P": "P", "D": "D", "I": "I", "L": "source", "q": "q",
}  # fmt: skip


def program(seed: int, flavour: str) -> list[Code]:
    """The program of a seed for a flavour: the same on each machine."""
    return _Writer(seed, flavour).program()


def program_text(seed: int, flavour: str) -> str:
    """Its text."""
    return text(program(seed, flavour))


class _Writer:
    def __init__(self, seed: int, flavour: str) -> None:
        source = self._source = random.Random(seed)
        self._flavour = flavour
        self._rules = dict(grammar(flavour))
        self._functions = library.functions(flavour)
        # Each program likes some kinds of statements more than others.
        ways, weights = self._rules["statement"]
        self._rules["statement"] = Rule(ways, [weight * source.choice((0.2, 1, 1, 1, 4)) for weight in weights])
        self._depth = 0
        #: Statements that may still be written in this part.
        self._left = 15
        #: How many of the statements that are in no other fail alone.
        self._guards = 0.9
        self._fuelled = source.random() < 0.8
        self._in_finalizer = False
        #: The last part of the library that was chosen.
        self._part = ""
        self._known: dict[str, Callable[[], Code | str | list[Code]]] = {
            "nothing": lambda: "",
            "v": lambda: self._variable(source.choice("snntfcx")),
            "body": self._body,
            "function": self._function,
            "yielding": self._yielding,
            "in_finalizer": self._finalizing,
            "library_call": self._library_call,
            "library_name": lambda: source.choice(library.names(flavour)),
            "file_method": self._file_method,
            "metamethod": lambda: source.choice(library.metamethods(flavour)),
            "part_again": lambda: self._part,
            "quoted": self._quoted,
            "tower": self._tower,
            "p": lambda: formats.pattern(source),
            "r": lambda: formats.replacement(source),
            "G": lambda: formats.string_format(source),
            "P": lambda: formats.pack_format(source),
        }

    def program(self) -> list[Code]:
        """The whole program."""
        names = [(kind, f"{kind}{number}") for kind, count in _POOLS.items() for number in range(1, count + 1)]
        found = [
            Code(["local con, env, fcgid, fuel = {}, {}, {}, 3000"]),
            Code(["local sub, type = string.sub, type"]),
            # Matching takes the cube of a text's length, or more, and nothing can end it.
            Code(["local function cut(s) return type(s) == 'string' and sub(s, 1, 400) or s end"]),
            Code(["local function burn() fuel = fuel - 1 if fuel < 0 then error('no fuel', 2) end end"]),
            Code(["local ", ", ".join(name for _, name in names)]),
        ]
        if self._chance(0.8):
            found.append(Code(["fcgid = require 'luafcgid'"]))
        rules = {"s": "s_literal", "n": "n_literal", "t": "table_literal", "f": "function", "c": "thread", "x": "any"}
        for kind, name in names:
            if kind in rules:
                found.append(self._guard(Code([name, " = ", *self.expand(rules[kind]).parts]), 1 - (kind in "sn")))
        self._left, self._guards = 10, 0.99
        found += self._block(3)
        self._guards = 0.85
        for hook, likely in (("init", 0.2), ("heartbeat", 0.4), ("shutdown", 0.4)):
            if self._chance(likely):
                self._left = 10
                start = Code(["con, fuel = c, 1000"])
                found.append(Code([f"function {hook}(c, ...)", [start, *self._block(6)], "end"]))
        self._left = self._source.choice((5, 10, 20, 30, 50))
        fuel = self._source.choice((300, 1000, 3000)) if self._fuelled else 10**7
        start = Code([f"con, env, fuel = c, e, {fuel}"])
        found.append(Code(["function main(e, c, ...)", [start, *self._block(16)], "end"]))
        return found

    def expand(self, name: str) -> Code:
        """What a rule, or what is known here, gives."""
        found = self._known_value(name)
        if found is not None:
            return found
        parts: list[str | list[Code]] = []
        for place, part in enumerate(self._rules[name].choose(self._source)):
            if place % 2:
                parts += self.expand(part).parts
            elif part:
                parts.append(part)
        if name == "part":
            self._part = str(parts[0])
        return Code(parts)

    def _known_value(self, name: str) -> Code | None:
        if name in self._known:
            value = self._known[name]()
            return value if isinstance(value, Code) else Code([value])
        if name[0] == "v" and name[1:] in _POOLS:
            return Code([self._variable(name[1:])])
        if name.startswith("block"):
            return Code([self._block(int(name.removeprefix("block")))])
        return None

    def _chance(self, share: float) -> bool:
        return self._source.random() < share

    def _variable(self, kind: str) -> str:
        return f"{kind}{self._source.randint(1, _POOLS[kind])}"

    # Statements

    def _block(self, most: int) -> list[Code]:
        if self._depth >= _MAX_DEPTH or self._left <= 0:
            return [Code(["x1 = ", *self.expand("v").parts])]
        self._depth += 1
        found = []
        for _ in range(self._source.randint(1, max(1, most - self._depth))):
            self._left -= 1
            found.append(self._guard(self.expand("statement"), self._guards if self._depth == 1 else 0.4))
        self._depth -= 1
        return found

    def _guard(self, statement: Code, share: float) -> Code:
        """A statement, as often as `share` says inside pcall unless it is there."""
        start = statement.parts[0]
        if (isinstance(start, str) and start.startswith(_GUARDED)) or not self._chance(share):
            return statement
        return Code(["pcall(function(...) ", *statement.parts, " end)"])

    def _body(self) -> list[Code]:
        """The block of a function."""
        start = [Code(["burn()"])] if self._fuelled and not self._in_finalizer else []
        return [*start, *self._block(5), self.expand("ending")]

    def _yielding(self) -> list[Code]:
        found = []
        for _ in range(self._source.randint(1, 2)):
            found += [self.expand("yield_statement"), *self._block(3)]
        return [*found, self.expand("yield_more")]

    def _finalizing(self) -> list[Code]:
        found = [self.expand("finalizing") for _ in range(self._source.randint(1, 3))]
        if self._chance(0.2):
            self._in_finalizer = True
            found += self._block(2)
            self._in_finalizer = False
        return found

    def _library_call(self) -> Code:
        name, letters = self._source.choice(self._functions)
        arguments = self._arguments(letters)
        kind = self._source.random()
        if kind < 0.4:
            return Code([f"x1, x2, x3 = pcall({name}", *([", "] if arguments else []), *arguments, ")"])
        target = self._variable("x")
        if kind < 0.6:
            return Code([f"pcall(function(...) {target} = {name}(", *arguments, ") end)"])
        if kind < 0.7 and name.startswith("string.") and arguments:
            return Code([f"pcall(function(...) s1 = tostring(({name}(", *arguments, "))) end)"])
        return Code([f"{target} = {name}(", *arguments, ")"])

    def _file_method(self) -> Code:
        name, _, letters = self._source.choice(library.FILE_METHODS).partition(":")
        return Code([f"pcall(function(...) x1 = {self._variable('h')}:{name}(", *self._arguments(letters), ") end)"])

    def _tower(self) -> Code:
        """A function that calls itself, each time through another one."""
        ways = [self.expand("tower_way") for _ in range(self._source.randint(1, 3))]
        height, top, start = (self.expand(f"tower_{name}").parts for name in ("height", "top", "start"))
        levels = [
            Code([f"if d % {len(ways)} == {place} then ", *way.parts, " end"]) for place, way in enumerate(ways)
        ]  # fmt: skip
        inner = [Code(["d = d + 1 if d > ", *height, " then do ", *top, " end return end"]), *levels]
        return Code(["do local d = 0 local function r()", inner, "end tower = r x1, x2 = ", *start, " end"])

    # Values

    def _function(self) -> Code:
        if self._depth >= _MAX_DEPTH - 1 or self._left <= 0:
            return Code([self._variable("f")])
        return self.expand("new_function")

    def _arguments(self, letters: str) -> list[str | list[Code]]:
        """What is between the parentheses."""
        found: list[Code] = []
        optional = False
        for place, letter in enumerate(letters):
            if letter == "?":
                optional = True
                continue
            if optional and self._chance(0.3):
                break
            # Before a pattern, the text that it is for.
            is_matched = letters[place + 1 : place + 2] == "p"
            value = self._argument(letter)
            found.append(Code(["cut(", *value.parts, ")"]) if is_matched else value)
        kind = self._source.random()
        if kind < 0.02 and found:
            found.pop()
        elif kind < 0.04:
            found.append(self.expand("any"))
        elif kind < 0.05:
            found.append(Code(["unpack({}, 1, 200)" if self._flavour in OF_5_1 else "table.unpack({}, 1, 200)"]))
        parts: list[str | list[Code]] = []
        for one in found:
            parts += [", ", *one.parts] if parts else one.parts
        return parts

    def _argument(self, letter: str) -> Code:
        if letter == "C":
            return Code(["con"])
        return self.expand("any" if self._chance(0.06) else _ARGUMENTS[letter])

    def _quoted(self) -> str:
        inner = " ".join(line.strip() for one in self._block(2) for line in one.lines())
        return f"[==[ {inner} ]==]" if "[==[" not in inner else "'x = 1'"
