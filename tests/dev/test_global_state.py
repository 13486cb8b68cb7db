"""What a script keeps in globals, and its other states have not: the developer mode says so when it shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.dev.inspector import DevInspector
from greenfcgi.dev.terminal import Terminal
from greenfcgi.lua.engine import LuaEngine
from greenfcgi.lua.loader import StateLoader
from greenfcgi.lua.state import State
from greenfcgi.modules.configured import modules

from ..support.inside import FLAVOURS, Inside, Request


class Developers(Inside):
    """States that a developer looks at, and what the terminal shows."""

    def __init__(self, folder: Path, version: str) -> None:
        super().__init__(folder, version)
        self.shown: list[str] = []
        terminal = Terminal(str(self.root), "info", False)
        terminal.warning = self.shown.append  # type: ignore[assignment, method-assign]
        inspector = DevInspector(terminal, str(self.root))
        config = self.engine.config
        self.engine = LuaEngine(
            config, self.engine.log, modules(config), hint=inspector.hint, on_globals=inspector.globals_used
        )
        self.loader = StateLoader(self.engine)

    def two(self, text: str) -> tuple[State, State]:
        """Two states with one version of a script."""
        one = self.load(text)
        return one, self.loader.make(one.script)

    def asked(self, text: str, *requests: tuple[int, str]) -> list[str]:
        """The hints, in short, after these requests: which of the two states each is for, and its QUERY_STRING."""
        states = self.two(text)
        for number, query in requests:
            self.run(states[number], Request({"QUERY_STRING": query}))
        for state in states:
            state.close()
        return [
            line.partition(": ")[2].partition(" in ")[0].partition(", ")[0] for line in self.shown if "each" in line
        ]


@pytest.fixture(params=FLAVOURS)
def lua(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Developers]:
    """Each Lua."""
    inside = Developers(tmp_path, request.param)
    yield inside
    inside.close()


SESSIONS = """
    sessions = {}
    function main(env, con)
        local name, value = env.QUERY_STRING:match("(%w+)=(%w+)")
        if name then sessions[name] = value else con:puts(tostring(sessions[env.QUERY_STRING])) end
    end
"""


def test_sessions_in_a_global(lua: Developers) -> None:
    """A request looks for one that another state has."""
    assert lua.asked(SESSIONS, (0, "ada=1"), (0, "ada"), (1, "ada"), (1, "ada")) == ["sessions[ada] is missing here"]
    assert "page.lua" in lua.shown[0]
    assert "greenfcgi.shared or greenfcgi.session" in lua.shown[0]


TRAPS = {
    "a global that a request creates": (
        "function main(env) if env.QUERY_STRING == 'in' then user = 'ada' end return user end",
        [(0, "in"), (1, "")], ["user is missing here"],
    ),
    "a table that a request creates": (
        "function main(env) seen = seen or {} if env.QUERY_STRING == 'in' then seen.ada = 1 end return seen.ada end",
        [(0, "in"), (0, "in"), (1, "")], ["seen[ada] is missing here"],
    ),
    "a counter": (
        "counter = 0 function main(env, con) counter = counter + 1 end",
        [(0, ""), (0, ""), (1, "")], ["counter is counted"],
    ),
    "a counter in a table": (
        "stats = { hits = 0 } function main(env, con) stats.hits = stats.hits + 1 end",
        [(0, ""), (1, ""), (1, "")], ["stats[hits] is counted"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "requests", "expected"), TRAPS.values(), ids=TRAPS)
def test_other_traps(lua: Developers, text: str, requests: list[tuple[int, str]], expected: list[str]) -> None:
    """Each is said once."""
    assert lua.asked(text, *requests, *requests) == expected


BOTH = [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (0, "b"), (1, "a")]
FINE = {
    "a cache": "cache = {} function main(env) local q = env.QUERY_STRING cache[q] = cache[q] or q:rep(2) end",
    "a cache that a request creates": """
        function main(env)
            cache = cache or {}
            if not cache[env.QUERY_STRING] then cache[env.QUERY_STRING] = { 1 } end
        end
    """,
    "what is made when it is first needed": """
        function main(env)
            if not db then db = { name = 'x' } end
            return db.name
        end
    """,
    "functions": """
        function main(env)
            if env.QUERY_STRING == "a" then function helper() end end
            return helper
        end
    """,
    "locals": "local users = {} function main(env) users[env.QUERY_STRING] = 1 return users.b end",
    "a constant": "LIMIT = 1 names = { a = 1 } function main(env) return names[env.QUERY_STRING], LIMIT end",
    "what each request sets anew": """
        n = 0
        function main(env)
            n = 0
            for i = 1, 5 do n = n + 1 end
            title = env.QUERY_STRING
        end
    """,
    "the time": "last = 0 function main(env) last = 1700000000 + #env.QUERY_STRING end",
    "a table with a metatable": """
        users = setmetatable({}, { __index = function(t, name) return name end })
        function main(env) users[env.QUERY_STRING] = 1 return users.b end
    """,
    "a module": "function main(env) require('mod').seen[env.QUERY_STRING] = 1 return require('mod').seen.b end",
    "libraries that are looked for": "function main() return json or cjson, string.x, table.y, math.z end",
    "a flag that was taken away": """
        function main(env)
            if env.QUERY_STRING == "a" then busy = true busy = nil end
            return busy
        end
    """,
}


@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
def test_what_is_no_trap(lua: Developers, text: str) -> None:
    """No false alarms."""
    lua.write("mod.lua", "return { seen = {} }")
    assert lua.asked(text, *BOTH) == []


def test_one_state_alone_is_no_trap(lua: Developers) -> None:
    """Nor is one after another, as at a reload."""
    assert lua.asked(SESSIONS, (0, "ada=1"), (0, "ada"), (0, "bob")) == []
    assert lua.asked(SESSIONS, (1, "ada"), (1, "ada=1"), (1, "ada")) == []


def test_tables_stay_as_they_are(lua: Developers) -> None:
    """Scripts may give them metatables of their own, and see what they have written."""
    state = lua.load("""
        t = {}
        function main(env, con)
            t.a = 1
            t[1] = "x"
            local n = 0
            for _ in pairs(t) do n = n + 1 end
            con:puts(n, #t, tostring(t.b), tostring(rawget(_G, "x")), tostring(x))
            setmetatable(t, { __index = function() return "own" end })
            con:puts(t.b)
        end
    """)
    assert lua.run(state).text == "21nilnilnilown"
    state.close()
