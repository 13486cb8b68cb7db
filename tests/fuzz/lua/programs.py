"""A random program of a seed: a script with a handler and hooks, which does odd things to all that it can reach.

Variables come in pools by type: s text, n numbers, t tables, f functions, c coroutines, h files, x anything. So most
calls get what they expect, and run deep. Each function and each loop takes `fuel`, so that most programs end in time.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Final

from . import library, snippets, values
from .tree import Code, text
from .values import OF_5_1, WITH_CLOSE, WITH_INTEGERS, WITH_TABLE_GC

_POOLS: Final = {"s": 4, "n": 4, "t": 5, "f": 4, "c": 3, "h": 2, "x": 4}
#: How deep blocks lie in each other.
_DEEPEST: Final = 5
#: How statements begin that do not fail.
_GUARDED: Final = ("pcall(", "x1, x2 = pcall(", "x1, x2, x3 = pcall(", "x1, x2 = xpcall(")
_SLEEPS: Final = ("0", "0.001", "0.01", "1e-9")

Value = Code | str


def program(seed: int, flavour: str) -> list[Code]:
    """The program of a seed for a flavour: the same on each machine."""
    return _Writer(seed, flavour).program()


def program_text(seed: int, flavour: str) -> str:
    """Its text."""
    return text(program(seed, flavour))


class _Writer:
    def __init__(self, seed: int, flavour: str) -> None:
        self.random = random.Random(seed)
        self.flavour = flavour
        self.depth = 0
        #: Statements that may still be written in this part.
        self.left = 15
        #: How many of the statements that are in no other fail alone.
        self.guards = 0.9
        self.functions = library.functions(flavour)
        self.names = library.names(flavour)
        self.metamethods = library.metamethods(flavour)
        self.fuelled = self.random.random() < 0.8
        #: Loops are slower where each turn is looked at, and finalizers cannot be ended.
        self.in_finalizer = False
        kinds: list[tuple[int, Callable[[], Code]]] = [
            (16, self.library_call),
            (8, self.assignment),
            (6, self.protected),
            (3, self.xprotected),
            (4, self.condition),
            (4, self.loop),
            (2, self.odd_loop),
            (3, self.raised),
            (6, self.coroutine),
            (5, self.coroutine_use),
            (6, self.metatable),
            (5, self.operation),
            (4, self.garbage),
            (6, self.finalizer),
            (3, self.weak),
            (3, self.sort),
            (3, self.gsub),
            (3, self.iterator),
            (3, self.loaded),
            (2, self.required),
            (4, self.file),
            (8, self.reply),
            (2, self.kept),
            (2, self.tower),
            (2, self.many),
            (1, self.memory),
            (1, self.sabotage),
            (1, self.environment),
            (3, self.function_call),
            (2, self.closing),
            (1, self.old_con),
            (1, self.handler_change),
            (1, self.shared_metatable),
            (1, self.deep_data),
            (1, self.traced),
        ]
        #: Each program likes some kinds of statements more than others.
        self.kinds = [kind for _, kind in kinds]
        likes = [self.random.choice((0.2, 1, 1, 1, 4)) for _ in kinds]
        self.weights = [weight * like for (weight, _), like in zip(kinds, likes, strict=True)]

    # The whole

    def program(self) -> list[Code]:
        names = [f"{kind}{number}" for kind, count in _POOLS.items() for number in range(1, count + 1)]
        found = [
            Code.of("local con, env, fcgid, fuel = {}, {}, {}, 3000"),
            Code.of("local sub, type = string.sub, type"),
            # Matching takes the cube of a text's length, or more, and nothing can end it.
            Code.of("local function cut(s) return type(s) == 'string' and sub(s, 1, 400) or s end"),
            Code.of("local function burn() fuel = fuel - 1 if fuel < 0 then error('no fuel', 2) end end"),
            Code.of(f"local {', '.join(names)}"),
        ]
        if self.chance(0.8):
            found.append(Code.of("fcgid = require 'luafcgid'"))
        for kind, count in _POOLS.items():
            if kind != "h":
                found += [
                    self.guarded(Code.of(f"{kind}{number} = $", self.literal(kind)), 0 if kind in "sn" else 1)
                    for number in range(1, count + 1)
                ]
        self.left = 10
        self.guards = 0.99
        found += self.block(3)
        self.guards = 0.85
        for hook, likely in (("init", 0.2), ("heartbeat", 0.4), ("shutdown", 0.4)):
            if self.chance(likely):
                self.left = 10
                found.append(Code.of(f"function {hook}(c, ...)$end", [Code.of("con, fuel = c, 1000"), *self.block(6)]))
        self.left = self.random.choice((5, 10, 20, 30, 50))
        fuel = self.random.choice((300, 1000, 3000)) if self.fuelled else 10**7
        found.append(
            Code.of("function main(e, c, ...)$end", [Code.of(f"con, env, fuel = c, e, {fuel}"), *self.block(16)])
        )
        return found

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def choice(self, *of: str) -> str:
        return self.random.choice(of)

    def block(self, most: int) -> list[Code]:
        if self.depth >= _DEEPEST or self.left <= 0:
            return [Code.of("x1 = $", self.leaf())]
        self.depth += 1
        found = []
        for _ in range(self.random.randint(1, max(1, most - self.depth))):
            self.left -= 1
            found.append(self.guarded(self.statement(), self.guards if self.depth == 1 else 0.4))
        self.depth -= 1
        return found

    def guarded(self, statement: Code, share: float) -> Code:
        """A statement, as often as `share` says inside pcall unless it is there."""
        start = statement.parts[0]
        if (isinstance(start, str) and start.startswith(_GUARDED)) or not self.chance(share):
            return statement
        return Code.of("pcall(function(...) $ end)", statement)

    def body(self, most: int = 5) -> list[Code]:
        """The block of a function."""
        start = [Code.of("burn()")] if self.fuelled and not self.in_finalizer else []
        found = start + self.block(most)
        ends = self.random.random()
        if ends < 0.45:
            found.append(Code.of("do return $ end", self.any()))
        elif ends < 0.5:
            found.append(Code.of("do return a, b, ... end"))
        elif ends < 0.55:
            # A tail call.
            found.append(Code.of("do return $(a, b) end", self.variable("f")))
        return found

    def statement(self) -> Code:
        return self.random.choices(self.kinds, self.weights)[0]()

    # Values

    def variable(self, kind: str) -> str:
        return f"{kind}{self.random.randint(1, _POOLS[kind])}"

    def leaf(self) -> str:
        return self.variable(self.random.choice("snntfcx"))

    def literal(self, kind: str) -> Value:
        if kind == "s":
            return values.text(self.random)
        if kind == "n":
            return values.number(self.random, self.flavour)
        if kind == "t":
            return self.table_literal()
        if kind == "f":
            return self.function()
        if kind == "c":
            return Code.of("coroutine.create($)", self.function())
        return self.any()

    def number(self) -> Value:
        kind = self.random.random()
        if kind < 0.35:
            return self.variable("n")
        if kind < 0.8:
            return values.number(self.random, self.flavour)
        if kind < 0.9:
            return Code.of("#$", self.variable(self.choice("s", "t")))
        return Code.of(f"($ {self.operator()} $)", self.variable("n"), values.number(self.random, self.flavour))

    def operator(self) -> str:
        more = ("//", "&", "|", "~", "<<", ">>") if self.flavour in WITH_INTEGERS else ()
        return self.choice("+", "-", "*", "/", "%", "^", "..", *more)

    def string(self) -> Value:
        kind = self.random.random()
        if kind < 0.4:
            return self.variable("s")
        if kind < 0.85:
            return values.text(self.random)
        if kind < 0.9:
            return Code.of("($ .. $)", self.variable("s"), self.variable(self.choice("s", "n")))
        if kind < 0.95:
            return Code.of("tostring($)", self.any())
        return Code.of("string.format($, $, $)", values.string_format(self.random), self.any(), self.any())

    def subject(self) -> Code:
        """A text to be matched."""
        return Code.of("cut($)", self.string())

    def table_literal(self) -> Value:
        kind = self.random.random()
        if kind < 0.3:
            return self.choice(
                "{}",
                "{1, 2, 3}",
                '{3, 1, 2, "x"}',
                "{5, 3, 9, 1, 7, 2, 8}",
                "{1, nil, 3}",
                "{nil, nil, 3}",
                '{a = 1, b = "x"}',
                '{"c", "a", "b"}',
                "{{}, {}}",
                "{[1] = 1, [2^53] = 2, [-1] = 3}",
                "{year = 2024, month = 2, day = 31}",
                "{year = 2^40, month = 1, day = 1}",
                "{[0] = 0, 1, [2^31] = 5, [1.5] = 6}",
                '{n = 2^31, "a"}',
                "{[true] = false, [print] = print}",
                "{year = 1, month = -2^31, day = 2^31, hour = 1e9}",
                "{...}",
            )
        if kind < 0.5:
            return Code.of("{$, $, $ = $}", self.any(), self.any(), self.choice("a", "x", "n", "name"), self.any())
        if kind < 0.8:
            return Code.of("setmetatable({$}, {$ = $})", self.any(), self.metamethod(), self.metavalue())
        mode = self.choice('"k"', '"v"', '"kv"')
        return Code.of("setmetatable({$, [$] = $}, {__mode = $})", self.any(), self.key(), self.any(), mode)

    def table(self) -> Value:
        return self.variable("t") if self.chance(0.75) else self.table_literal()

    def key(self) -> Value:
        kind = self.random.random()
        if kind < 0.4:
            return self.choice("1", "2", "3", '"a"', '"x"', '"n"', "4", "0")
        return self.number() if kind < 0.7 else self.string() if kind < 0.9 else Code.of("($ or 1)", self.any())

    def function(self) -> Value:
        kind = self.random.random()
        if kind < 0.35 or self.depth >= _DEEPEST - 1 or self.left <= 0:
            return self.variable("f")
        if kind < 0.55:
            return self.random.choice(self.names)
        if kind < 0.6:
            return Code.of("coroutine.wrap($)", self.function())
        if kind < 0.63:
            return Code.of("setmetatable({}, {__call = $})", self.function())
        return Code.of("function(a, b, ...)$end", self.body())

    def thread(self) -> Value:
        kind = self.random.random()
        if kind < 0.7:
            return self.variable("c")
        if kind < 0.9:
            return Code.of("coroutine.create($)", self.function())
        return "coroutine.running()"

    def any(self) -> Value:
        kind = self.random.random()
        if kind < 0.1:
            return (
                self.choice("nil", "true", "false", "...", "a", "b")
                if self.depth
                else self.choice("nil", "true", "false")
            )
        if kind < 0.2:
            return self.choice(
                "con",
                "env",
                "fcgid",
                "_G",
                "string",
                "table",
                "io.stdout",
                "io.stdin",
                "io.stderr",
                "print",
                "coroutine.running()",
                "getmetatable('')",
                "package.loaded",
                "main",
            )
        if kind < 0.25 and self.flavour in OF_5_1:
            return self.choice("newproxy()", "newproxy(true)", "newproxy(x1)")
        if kind < 0.4:
            return self.leaf()
        return self.random.choice((self.number, self.string, self.table, self.function, self.thread, self.leaf))()

    def argument(self, letter: str) -> Value:
        source = self.random
        if source.random() < 0.06:
            return self.any()
        makers: dict[str, Callable[[], Value]] = {
            "n": self.number,
            "i": lambda: source.choice(values.SMALL_NUMBERS),
            "s": self.string,
            "p": lambda: values.pattern(source),
            "r": lambda: values.replacement(source),
            "t": self.table,
            "f": self.function,
            "c": self.thread,
            "k": self.key,
            "x": self.any,
            ".": self.any,
            "C": lambda: "con",
            "F": self.file_name,
            "W": self.write_name,
            "M": lambda: source.choice(values.MODULES),
            "m": lambda: source.choice(values.MODES),
            "R": lambda: source.choice(values.READS),
            "w": lambda: self.choice('"set"', '"cur"', '"end"', '""'),
            "h": lambda: self.variable("h"),
            "g": lambda: self.gc_option(),
            "G": lambda: values.string_format(source),
            "P": lambda: values.pack_format(source),
            "D": lambda: source.choice(values.DATES),
            "I": lambda: source.choice(values.INFO),
            "L": lambda: source.choice(values.SOURCES),
            "q": lambda: source.choice(_SLEEPS),
        }
        return makers[letter]()

    def gc_option(self) -> str:
        return self.random.choice(values.GC_OPTIONS)

    def file_name(self) -> str:
        return self.random.choice(values.ENDLESS_NAMES if self.chance(0.06) else values.NAMES)

    def write_name(self) -> str:
        return '"new.txt"' if self.chance(0.3) else self.file_name()

    def arguments(self, letters: str) -> list[Value]:
        found: list[Value] = []
        optional = False
        for place, letter in enumerate(letters):
            if letters[place + 1 : place + 2] == "p" and not self.chance(0.02):
                found.append(Code.of("cut($)", self.argument(letter)))
                continue
            if letter == "?":
                optional = True
                continue
            if optional and self.chance(0.3):
                break
            found.append(self.argument(letter))
        kind = self.random.random()
        if kind < 0.02 and found:
            found.pop()
        elif kind < 0.04:
            found.append(self.any())
        elif kind < 0.05:
            found.append("table.unpack({}, 1, 200)" if self.flavour not in OF_5_1 else "unpack({}, 1, 200)")
        return found

    @staticmethod
    def joined(arguments: list[Value]) -> Code:
        return Code.of(", ".join("$" * len(arguments)), *arguments) if arguments else Code.of("")

    # Statements

    def library_call(self) -> Code:
        name, letters = self.random.choice(self.functions)
        arguments = self.joined(self.arguments(letters))
        kind = self.random.random()
        if kind < 0.4:
            separator = ", " if len(arguments.parts) > 1 or arguments.parts[0] else ""
            return Code.of(f"x1, x2, x3 = pcall({name}{separator}$)", arguments)
        if kind < 0.6:
            return Code.of(f"pcall(function(...) {self.variable('x')} = {name}($) end)", arguments)
        if kind < 0.7 and name.startswith("string.") and arguments.parts[0] not in ("", "..."):
            return Code.of(f"pcall(function(...) s1 = tostring({name}($)) end)", arguments)
        return Code.of(f"{self.variable('x')} = {name}($)", arguments)

    def assignment(self) -> Code:
        kind = self.random.choice("snttffcx")
        if kind == "t" and self.chance(0.6):
            return Code.of(f"{self.variable('t')}[$] = $", self.key(), self.any())
        if kind == "n":
            return Code.of(f"{self.variable('n')} = $", self.number())
        if kind == "s":
            return Code.of(f"{self.variable('s')} = $", self.string())
        return Code.of(f"{self.variable(kind)} = $", self.literal(kind))

    def protected(self) -> Code:
        if self.chance(0.2):
            return Code.of("x1, x2 = pcall(pcall, function(...)$end, $)", self.block(6), self.any())
        return Code.of("x1, x2 = pcall(function(...)$end)", self.block(7))

    def xprotected(self) -> Code:
        handler: Value = self.function()
        if self.chance(0.5):
            handler = Code.of(
                "function(a, b, ...)$return $ end", self.block(3), self.choice("a", "nil", "{}", "a .. 'x'", "error(a)")
            )
        elif self.chance(0.3):
            handler = "debug.traceback"
        return Code.of("x1, x2 = xpcall(function(...)$end, $)", self.block(5), handler)

    def condition(self) -> Code:
        comparison = f"{self.leaf()} {self.choice('==', '~=', '<', '<=', '>')} {self.leaf()}"
        test = self.choice(self.leaf(), f"not {self.leaf()}", "fuel % 2 == 0", comparison)
        if self.chance(0.3):
            return Code.of("if $ then$else$end", test, self.block(4), self.block(4))
        return Code.of("if $ then$end", test, self.block(4))

    def loop(self) -> Code:
        count = self.choice("2", "3", "10", "40")
        return Code.of("for i = 1, $ do burn()$end", count, self.block(4))

    def odd_loop(self) -> Code:
        kind = self.random.random()
        leave = "fuel = fuel - 1 if fuel < 0 then break end"
        if self.in_finalizer or kind < 0.6:
            return Code.of(
                f"for i = $, $, $ do {leave} x1 = i$end", self.number(), self.number(), self.number(), self.block(2)
            )
        if kind < 0.9:
            return Code.of(f"while $ do {leave}$end", self.any(), self.block(3))
        return self.endless()

    def endless(self) -> Code:
        if not self.chance(0.15):
            return Code.of("repeat fuel = fuel - 1$until $ or fuel < 0", self.block(2), self.any())
        return Code.of(self.random.choice(snippets.ENDLESS))

    def raised(self) -> Code:
        kind = self.random.random()
        if kind < 0.5:
            return Code.of("pcall(error, $, $)", self.any(), self.number())
        value = self.any()
        if kind < 0.8:
            return Code.of("if fuel % 3 == 0 then error($) end", value)
        return Code.of("error($, $)", value, self.choice("0", "1", "2", "3", "-1", "2^31"))

    def coroutine(self) -> Code:
        kind = self.random.random()
        if kind < 0.35:
            body = self.yielding()
            return Code.of(
                "do local w = coroutine.wrap(function(a, b, ...)$end) for i = 1, $ do x1 = w(i, $) end end",
                body,
                self.choice("1", "2", "3", "5"),
                self.any(),
            )
        if kind < 0.7:
            return Code.of(f"{self.variable('c')} = coroutine.create(function(a, b, ...)$end)", self.yielding())
        if kind < 0.8:
            return Code.of("f1 = coroutine.wrap(function(a, b, ...)$end)", self.yielding())
        if kind < 0.9:
            return Code.of(
                "pcall(function(...) for i in coroutine.wrap(function(a, b, ...)$end) do burn()$end end)",
                self.yielding(),
                self.block(2),
            )
        # One that resumes itself, or what runs it.
        return Code.of(
            "c1 = coroutine.create(function(a, b, ...)$end) x1, x2 = coroutine.resume(c1, $)",
            [*self.yielding(), Code.of("x1 = {coroutine.resume($)}", self.choice("c1", "c2", "coroutine.running()"))],
            self.any(),
        )

    def yielding(self) -> list[Code]:
        found = []
        for _ in range(self.random.randint(1, 2)):
            found += [Code.of("x1 = coroutine.yield($, $)", self.any(), self.any()), *self.block(3)]
        if self.chance(0.3):
            found.append(
                Code.of("pcall(function(...)$end)", [Code.of("coroutine.yield($)", self.any()), *self.block(2)])
            )
        if self.chance(0.3):
            found.append(self.yield_inside())
        return found

    def yield_inside(self) -> Code:
        return Code.of("pcall(function(...) $ end)", self.random.choice(snippets.YIELDS))

    def coroutine_use(self) -> Code:
        kind = self.random.random()
        thread = self.thread()
        if kind < 0.5:
            return Code.of("x1, x2 = coroutine.resume($, $)", thread, self.any())
        if kind < 0.6:
            return Code.of(
                "for i = 1, $ do x1, x2 = coroutine.resume($, i) end", self.choice("2", "5", "20"), self.variable("c")
            )
        if kind < 0.7:
            return Code.of("x1 = coroutine.status($)", thread)
        if kind < 0.85 and self.flavour in WITH_CLOSE:
            return Code.of("x1, x2 = pcall(coroutine.close, $)", thread)
        if kind < 0.95:
            return Code.of("x1 = debug.traceback($, $)", thread, self.any())
        return Code.of("pcall(function(...) coroutine.yield($) end)", self.any())

    def metamethod(self) -> str:
        return self.random.choice(self.metamethods)

    def metavalue(self) -> Value:
        kind = self.random.random()
        if kind < 0.6:
            return self.function()
        if kind < 0.75:
            return self.choice(
                "string.rep",
                "coroutine.yield",
                "error",
                "print",
                "pcall",
                "setmetatable",
                "tostring",
                "next",
                "coroutine.wrap(function(...) end)",
                "collectgarbage",
                "rawset",
                "string.gsub",
                "table.concat",
            )
        return self.any()

    def metatable(self) -> Code:
        kind = self.random.random()
        target = self.variable("t")
        if kind < 0.5:
            first, second = self.metamethod(), self.metamethod()
            return Code.of(
                f"pcall(setmetatable, {target}, {{{first} = $, {second} = $}})", self.metavalue(), self.metavalue()
            )
        if kind < 0.7:
            return Code.of(f"pcall(function(...) setmetatable({target}, {self.variable('t')}) end)")
        if kind < 0.9:
            return Code.of(
                f"pcall(function(...) (getmetatable({target}) or {{}}).{self.metamethod()} = $ end)", self.metavalue()
            )
        return Code.of(f"t1 = setmetatable({{}}, {{__index = {target}, __newindex = {self.variable('t')}}})")

    def operation(self) -> Code:
        kinds = snippets.OPERATIONS + (snippets.INTEGER_OPERATIONS if self.flavour in WITH_INTEGERS else ())
        words = {
            "TABLE": self.variable("t"),
            "OTHER": self.variable("t"),
            "A": self.leaf(),
            "B": self.leaf(),
            "OP": self.operator(),
            "METHOD": self.choice("a", "rep", "close", "x"),
        }
        return Code.of("pcall(function(...) $ end)", self.filled(self.random.choice(kinds), words))

    @staticmethod
    def filled(snippet: str, words: Mapping[str, str]) -> str:
        """A snippet, in which words in capitals stand for others."""
        return re.sub(r"\b[A-Z]+\b", lambda found: words.get(found[0], found[0]), snippet)

    def garbage(self) -> Code:
        kind = self.random.random()
        if kind < 0.4:
            return Code.of("collectgarbage()")
        if kind < 0.7:
            return Code.of("x1 = collectgarbage($, $)", self.gc_option(), self.number())
        if kind < 0.8:
            return Code.of("pcall(collectgarbage, $, $, $)", self.any(), self.any(), self.any())
        if kind < 0.9:
            return Code.of(
                "for i = 1, $ do x1 = {x1} collectgarbage('step', $) end", self.choice("5", "30"), self.number()
            )
        return Code.of(
            "for i = 1, $ do x1 = {i, tostring(i), function(...) return i end} end", self.choice("50", "300", "1000")
        )

    def finalizer_function(self, *, light: bool = False) -> Value:
        """A finalizer; a light one where there are many, since nothing ends them."""
        kind = self.random.random()
        if kind < 0.12:
            return self.choice(
                "true", "5", "'x'", "{}", "setmetatable({}, {__call = print})", "c1", "con", "0/0", "io.stdout"
            )
        if kind < 0.25:
            return self.choice(
                "error",
                "print",
                "coroutine.yield",
                "collectgarbage",
                "setmetatable",
                "tostring",
                "pcall",
                "f1",
                "f2",
                "coroutine.wrap(function(...) end)",
                "string.rep",
                "rawset",
                "next",
                "require",
                "load",
                "type",
                "coroutine.running",
                "io.close",
                "debug.traceback",
                "coroutine.create",
                "error",
            )
        kinds = snippets.IN_FINALIZER[:-1] if light else snippets.IN_FINALIZER
        lines = [self.random.choice(kinds) for _ in range(self.random.randint(1, 3))]
        if self.chance(0.2):
            self.in_finalizer = True
            block = self.block(2)
            self.in_finalizer = False
        else:
            block = []
        return Code.of("function(o, ...)$end", [*(Code.of(line) for line in lines), *block])

    def finalizer(self) -> Code:
        if self.flavour in OF_5_1:
            return self.proxy_finalizer()
        kind = self.random.randint(0, 9)
        light = kind in (6, 7)
        first, second = self.finalizer_function(light=light), self.finalizer_function(light=light)
        if kind <= 2:
            made = Code.of("local o = setmetatable({}, {__gc = $})", first)
        elif kind == 3:
            made = Code.of("local m = {} local o = setmetatable({}, m) m.__gc = $", first)
        elif kind == 4:
            made = Code.of("local m = {__gc = $} local o = setmetatable({}, m) m.__gc = $", first, second)
        elif kind == 5:
            made = Code.of("local m = {__gc = true} local o = setmetatable({}, m) rawset(m, '__gc', $)", first)
        elif kind == 6:
            made = Code.of(
                "local o = {} for i = 1, $ do o[i] = setmetatable({}, {__gc = $}) end",
                self.choice("5", "50", "400"),
                first,
            )
        elif kind == 7:
            made = Code.of(
                "local m = {__gc = $} local o = {} for i = 1, $ do o = setmetatable({o}, m) end",
                first,
                self.choice("5", "50", "400"),
            )
        elif kind == 8:
            made = Code.of(
                "local m = {__mode = 'k', __gc = $} local o = setmetatable({}, m) o[o] = setmetatable({}, m)", first
            )
        else:
            made = Code.of("local m = {__gc = $} setmetatable(m, m) local o = setmetatable({m}, m)", first)
        return self.let_go(made)

    def proxy_finalizer(self) -> Code:
        kind = self.random.randint(0, 7)
        light = kind in (6,)
        first, second = self.finalizer_function(light=light), self.finalizer_function(light=light)
        if kind <= 2:
            made = Code.of("local o = newproxy(true) getmetatable(o).__gc = $", first)
        elif kind == 3:
            made = Code.of("local o = newproxy(true) getmetatable(o).__gc = $ getmetatable(o).__gc = $", first, second)
        elif kind == 4:
            made = Code.of("local o = newproxy(true) rawset(getmetatable(o), '__gc', $)", first)
        elif kind == 5:
            made = Code.of("local p = newproxy(true) getmetatable(p).__gc = $ local o = newproxy(p)", first)
        elif kind == 6:
            made = Code.of(
                "local o = {} for i = 1, $ do o[i] = newproxy(true) getmetatable(o[i]).__gc = $ end",
                self.choice("5", "50", "300"),
                first,
            )
        else:
            made = Code.of(
                "local p = newproxy(true) local m = getmetatable(p) setmetatable(m, nil) "
                "m.__gc = $ local o = newproxy(p)",
                first,
            )
        return self.let_go(made)

    def let_go(self, made: Code) -> Code:
        after = self.choice(
            "o = nil collectgarbage()",
            "o = nil collectgarbage() collectgarbage()",
            "x1 = o",
            "G = o",
            "o = nil",
            "t1[#t1 + 1] = o",
            "o = nil for i = 1, 50 do collectgarbage('step') end",
            "o = nil for i = 1, 2000 do x2 = {i} end",
            "c1 = coroutine.create(function(...) local p = o coroutine.yield() end) coroutine.resume(c1) o, c1 = nil",
        )
        return Code.of("do $ pcall(function(...) $ end) end", made, after)

    def weak(self) -> Code:
        name = self.variable("t")
        return Code.of(
            f"{name} = setmetatable({{}}, {{__mode = $}}) for i = 1, $ do {name}[$] = $ end",
            self.choice('"k"', '"v"', '"kv"', '"x"', "5"),
            self.choice("3", "50", "300"),
            self.choice("i", "{}", "{i}", "tostring(i)", "function(...) return i end", "{}"),
            self.choice("{}", "i", name, "function(...) return i end", "{{}}", "coroutine.create(print)"),
        )

    def sort(self) -> Code:
        kind = self.random.random()
        if kind < 0.3:
            return Code.of("pcall(table.sort, $, $)", self.table(), self.function())
        if kind < 0.6:
            return Code.of(
                "pcall(function(...) local q = {} for i = 1, $ do q[i] = i * 7919 % 101 end "
                "table.sort(q, function(a, b) burn() return $ end) end)",
                self.choice("3", "20", "100", "300"),
                self.choice(
                    "true",
                    "a < b",
                    "a <= b",
                    "a > b",
                    "not (a < b)",
                    "a < b, error(a)",
                    "(a % 3) < (b % 2)",
                    "false",
                    "f1(a, b)",
                    "coroutine.yield(a, b)",
                    "pcall(error)",
                    "nil",
                    "a + b < n1",
                ),
            )
        return Code.of(
            "pcall(function(...) table.sort($, function(a, b, ...)$return $ end) end)",
            self.table(),
            self.block(3),
            self.choice("a < b", "true", "tostring(a) < tostring(b)", "nil"),
        )

    def gsub(self) -> Code:
        kind = self.random.random()
        pattern = values.pattern(self.random)
        if kind < 0.5:
            return Code.of(
                "x1, x2 = pcall(string.gsub, $, $, function(a, b, ...)$return $ end)",
                self.subject(),
                pattern,
                [Code.of("burn()"), *self.block(3)],
                self.choice("a", "b", "nil", "false", "'x'", "{}", "s1", "true"),
            )
        if kind < 0.8:
            return Code.of(
                "pcall(function(...) for a, b in string.gmatch($, $) do burn()$end end)",
                self.subject(),
                pattern,
                self.block(2),
            )
        return Code.of(
            "x1 = {pcall(string.$, $, $, $)}", self.choice("find", "match", "gsub"), self.subject(), pattern, self.any()
        )

    def iterator(self) -> Code:
        return Code.of(
            "pcall(function(...) for k, v in $ do burn()$end end)",
            self.random.choice(
                (
                    Code.of("pairs($)", self.table()),
                    Code.of("ipairs($)", self.table()),
                    Code.of("$, $, $", self.function(), self.any(), self.any()),
                    Code.of("coroutine.wrap($)", self.function()),
                    Code.of("next, $", self.table()),
                    Code.of("io.lines($)", self.file_name()),
                    Code.of("$", self.any()),
                )
            ),
            self.block(3),
        )

    def loaded(self) -> Code:
        load = "(loadstring or load)"
        kind = self.random.random()
        if kind < 0.4:
            return Code.of(
                f"x1, x2 = pcall(function(...) return assert({load}($))($) end)",
                self.random.choice(values.SOURCES),
                self.any(),
            )
        if kind < 0.6:
            return Code.of(
                "x1, x2 = pcall(load, function(...)$return $ end, $)",
                [Code.of("burn()"), *self.block(2)],
                self.choice("nil", "'x'", "''", "1", "{}", "'return 1', coroutine.yield()", "error('in reader')", "s1"),
                self.any(),
            )
        if kind < 0.75:
            return Code.of(f"x1 = pcall({load}, string.dump({self.variable('f')}))")
        inner = "; ".join(line for one in self.block(2) for line in one.lines()).replace("]]", "] ]")
        return Code.of(
            f"x1, x2 = pcall(function(...) return {load}($)() end)",
            f"[==[ {inner} ]==]" if "[==[" not in inner else "'x = 1'",
        )

    def required(self) -> Code:
        module = self.random.choice(values.MODULES)
        kind = self.random.random()
        if kind < 0.5:
            return Code.of("x1, x2 = pcall(require, $)", module)
        if kind < 0.6:
            return Code.of("package.loaded[$] = $", module, self.any())
        if kind < 0.7:
            return Code.of("package.preload[$] = $", module, self.function())
        if kind < 0.8:
            return Code.of(
                "package.path = $",
                self.choice("'?.lua'", "''", "'?'", "nil", "5", "('?'):rep(2000)", "'./?.lua;/proc/self/?'", "s1"),
            )
        if kind < 0.9:
            return Code.of(
                "pcall(function(...) table.insert(package.searchers or package.loaders, 1, $) end)", self.function()
            )
        return Code.of(
            "x1, x2 = pcall($, $)",
            self.choice("dofile", "loadfile", "require"),
            self.choice(
                "'mod.lua'", "'err.lua'", "'bad.lua'", "'itself.lua'", "'yields.lua'", "'page.lua'", "'sub/deep.lua'"
            ),
        )

    def file(self) -> Code:
        handle = self.variable("h")
        kind = self.random.random()
        if kind < 0.3:
            return Code.of(
                f"{handle} = io.open($, $) or io.tmpfile()", self.write_name(), self.random.choice(values.MODES[:7])
            )
        if kind < 0.4:
            return Code.of(
                f"{handle} = io.tmpfile() pcall(function(...) {handle}:write($) {handle}:seek('set') end)",
                self.string(),
            )
        if kind < 0.9:
            name, _, letters = self.random.choice(library.FILE_METHODS).partition(":")
            arguments = self.arguments(letters)
            return Code.of(f"pcall(function(...) x1 = {handle}:{name}($) end)", self.joined(arguments))
        if kind < 0.95:
            return Code.of(
                f"x1 = {{pcall(io.{self.choice('read', 'write', 'lines', 'close', 'type')}, $)}}", self.any()
            )
        return Code.of("pcall(function(...) local name = os.tmpname() os.remove(name) end)")

    def reply(self) -> Code:
        kind = self.random.random()
        if kind < 0.4:
            return Code.of("con:puts($)", self.string())
        return Code.of(
            "pcall(function(...) con:$ end)",
            self.random.choice(
                (
                    Code.of("header($, $)", self.string(), self.string()),
                    Code.of("header('X-A', $)", self.any()),
                    Code.of("header('X-A: b')"),
                    Code.of("header('Content-Length', $)", self.number()),
                    Code.of("header('Status', $)", self.string()),
                    Code.of("header('Location', $)", self.string()),
                    Code.of("status($, $)", self.number(), self.any()),
                    Code.of("status($)", self.choice("200", "204", "304", "404", "500", "999", "200.0")),
                    Code.of("flush()"),
                    Code.of("reset()"),
                    Code.of("gets($)", self.any()),
                    Code.of("gets()"),
                    Code.of("gets(10)"),
                    Code.of("config($)", self.any()),
                    Code.of("log($, $)", self.any(), self.any()),
                    Code.of("log($)", self.string()),
                    Code.of("puts($)", self.any()),
                    Code.of("sleep($)", self.random.choice(_SLEEPS)),
                    Code.of("header($)", self.any()),
                    Code.of("puts(('x'):rep($))", self.number()),
                )
            ),
        )

    def kept(self) -> Code:
        return Code.of(
            self.choice(
                "G = {G, $}",
                "G = $",
                "x1 = G",
                "_G[$] = x1 or 1",
                "if type(G) == 'table' then G[#G + 1] = $ end",
                "G2 = G2 or {} G2[$] = G",
            ).replace("$", self.leaf())
        )

    def tower(self) -> Code:
        """A function that calls itself, each time through another one."""
        ways = list(snippets.TOWERS)
        if self.flavour in WITH_CLOSE:
            ways += snippets.CLOSING_TOWERS * 3
        if self.flavour in WITH_TABLE_GC:
            ways += ["setmetatable({}, {__gc = r}) collectgarbage()"] * 2
        chosen = self.random.sample(ways, self.random.randint(1, 3))
        most = self.choice("20", "100", "190", "198", "205", "250", "1000", "10000", "1e9")
        end = self.choice(
            "return",
            "error('top')",
            "error()",
            "do return 'x' end",
            "coroutine.yield()",
            "x1 = debug.traceback()",
            "collectgarbage()",
        )
        levels = [Code.of(f"if d % {len(chosen)} == {place} then $ end", way) for place, way in enumerate(chosen)]
        inner = [Code.of(f"d = d + 1 if d > {most} then do {end} end return end"), *levels]
        run = self.choice(
            "pcall(r)",
            "pcall(coroutine.wrap(r))",
            "pcall(pcall, r)",
            "xpcall(r, debug.traceback)",
            "pcall(string.gsub, 'xx', 'x', r)",
        )
        return Code.of("do local d = 0 local function r()$end tower = r x1, x2 = $ end", inner, run)

    def many(self) -> Code:
        """Many arguments, and many results."""
        words = {
            "UNPACK": "unpack" if self.flavour in OF_5_1 else "table.unpack",
            "COUNT": self.choice(
                "200",
                "250",
                "255",
                "256",
                "1000",
                "7990",
                "7999",
                "8000",
                "50000",
                "249990",
                "1e6",
                "1e7",
                "2^31-1",
                "2^31",
            ),
        }
        return Code.of("x1, x2 = pcall($)", self.filled(self.random.choice(snippets.MANY), words))

    def memory(self) -> Code:
        return Code.of("pcall(function(...) $ end)", self.random.choice(snippets.MEMORY))

    def sabotage(self) -> Code:
        """A function of the library, or a part of it, is another one for a while, or for good."""
        name = self.random.choice(
            (
                *self.names,
                "string",
                "table",
                "coroutine",
                "package.loaded",
                "package.preload",
                "_G",
                "debug",
                "math",
                "io",
                "os",
                "_VERSION",
            )
        )
        if self.chance(0.8):
            return Code.of(
                f"do local keep = {name} {name} = $ pcall(function(...)$end) {name} = keep end",
                self.any(),
                self.block(4),
            )
        return Code.of(f"pcall(function(...) {name} = $ end)", self.any())

    def environment(self) -> Code:
        if self.flavour in OF_5_1:
            return Code.of(
                "pcall(function(...) $ end)",
                self.random.choice(
                    (
                        Code.of(
                            "setfenv($, $)",
                            self.choice("0", "1", "2", "f1", "main", "print", "c1", "-1", "2^31"),
                            self.table(),
                        ),
                        Code.of("setfenv(1, setmetatable({}, {__index = _G, __newindex = $}))", self.function()),
                        Code.of("x1 = getfenv($)", self.any()),
                        Code.of("module($, package.seeall)", self.random.choice(values.MODULES)),
                        Code.of("setfenv(f1, {})()"),
                        Code.of("setmetatable(_G, {__index = $})", self.function()),
                    )
                ),
            )
        return Code.of(
            "pcall(function(...) $ end)",
            self.random.choice(
                (
                    Code.of("local _ENV = $ x = 1", self.table()),
                    Code.of("setmetatable(_G, {__index = $})", self.metavalue()),
                    Code.of("setmetatable(_G, {__newindex = $})", self.metavalue()),
                    Code.of("load('x = y', 'x', 't', $)()", self.table()),
                    Code.of("setmetatable(_G, nil)"),
                )
            ),
        )

    def function_call(self) -> Code:
        if self.chance(0.6):
            return Code.of("x1, x2 = pcall($, $, $)", self.variable("f"), self.any(), self.any())
        return Code.of("x1 = $($)", self.variable("f"), self.any())

    def closing(self) -> Code:
        """Variables that are to be closed, where there are some."""
        if self.flavour not in WITH_CLOSE:
            return (
                Code.of("pcall(function(...) goto out do local x = 1$end ::out:: end)", self.block(2))
                if self.flavour != "lua51"
                else self.protected()
            )
        value = self.choice("setmetatable({}, {__close = f1})", "nil", "false", "t1", "io.tmpfile()", "c1")
        close: Value = Code.of("setmetatable({}, {__close = function(o, a, ...)$end})", self.block(3))
        if self.chance(0.3):
            close = value
        end = self.choice(
            "coroutine.yield()",
            "error('x')",
            "error()",
            "do return 1 end",
            "x1 = coroutine.running()",
            "coroutine.close(coroutine.running())",
            "",
        )
        inner = Code.of("local o <close> = $$", close, [*self.block(2), Code.of(end)])
        kind = self.random.random()
        if kind < 0.4:
            return Code.of("pcall(function(a, b, ...) $ end)", inner)
        if kind < 0.7:
            return Code.of(
                "c1 = coroutine.create(function(a, b, ...) $ end) x1, x2 = coroutine.resume(c1) "
                "x1, x2 = pcall(coroutine.close, c1)",
                inner,
            )
        if kind < 0.85:
            return Code.of(
                "pcall(function(...) for k, v in next, {1, 2, 3}, nil, $ do burn()$end end)", close, self.block(2)
            )
        return Code.of(
            "pcall(coroutine.wrap(function(a, b, ...) local p <close> = "
            "setmetatable({}, {__close = coroutine.yield}) $ end))",
            inner,
        )

    def old_con(self) -> Code:
        return Code.of(
            "if OLD then pcall(OLD.$, OLD, $) end OLD = con",
            self.choice("puts", "flush", "header", "gets", "status", "log", "reset"),
            self.string(),
        )

    def handler_change(self) -> Code:
        name = self.choice("main", "main", "init", "heartbeat", "shutdown")
        return Code.of(
            f"{name} = $",
            self.random.choice(
                (Code.of("nil"), Code.of("$", self.function()), Code.of("$", self.any()), Code.of(name))
            ),
        )

    def shared_metatable(self) -> Code:
        """The metatable of all strings, and of whatever else has one."""
        return Code.of(
            "pcall(function(...) getmetatable($).$ = $ end)",
            self.choice("''", "''", "io.stdout", "_G", "c1", "f1", "con", "env", "package.loaded"),
            self.choice(
                "__add",
                "__index",
                "__call",
                "__len",
                "__newindex",
                "__gc",
                "__tostring",
                "__name",
                "__close",
                "__concat",
            ),
            self.metavalue(),
        )

    def deep_data(self) -> Code:
        return Code.of("pcall(function(...) $ end)", self.random.choice(snippets.DEEP))

    def traced(self) -> Code:
        return Code.of("pcall(function(...) $ end)", self.random.choice(snippets.TRACED))
