"""What `greenfcgi.sql` costs a script: rows from SQLite, beside LuaSQL's C module in plain Lua.

Both read the same file, in turns, since the machine's speed changes; the rows are checked. LuaSQL's is Debian's package
lua-sql-sqlite3, for lua5.1.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from ..support.inside import Inside, Request
from .figure import Figure

_ROUNDS = 15
_ONE, _HUNDRED = 1000, 150
_SQL = "select id, name, email, visits, score from people where id between ? and ?"

_SCRIPT = """
local sql = require "greenfcgi.sql"
local db = assert(sql.connect("sqlite:people.db"))
function main(env, con)
    local first, last, number = env.FIRST + 0, env.LAST + 0, env.NUMBER + 0
    local rows
    for _ = 1, number do rows = db:query("%s", first, last) end
    con:puts(rows[1].id .. " " .. rows[#rows].email .. " " .. #rows)
end
""".replace("%s", _SQL)

_PLAIN = """
local connection = require "luasql.sqlite3".sqlite3():connect(arg[1])
local first, last, number = arg[2] + 0, arg[3] + 0, arg[4] + 0
local statement = ("%s"):gsub("?", first, 1):gsub("?", last, 1)
local clock = require "socket".gettime
local began = clock()
local rows
for _ = 1, number do
    rows = {}
    local cursor = connection:execute(statement)
    local row = cursor:fetch({}, "a")
    while row do
        rows[#rows + 1] = row
        row = cursor:fetch({}, "a")
    end
    cursor:close()
end
io.write((clock() - began) / number * 1e6, "\\n", rows[1].id .. " " .. rows[#rows].email .. " " .. #rows)
""".replace("%s", _SQL)


def figures() -> list[Figure]:
    """A row, and a hundred rows of five columns; a ratio where LuaSQL is installed."""
    with TemporaryDirectory() as folder, _state(Path(folder)) as ours:
        _fill(Path(folder) / "people.db")
        one, hundred, ratios = [], [], []
        for _ in range(_ROUNDS):
            one.append(ours(7, 7, _ONE))
            hundred.append(ours(1, 100, _HUNDRED))
            plain = _plain(Path(folder), 1, 100, _HUNDRED)
            if plain:
                ratios.append(hundred[-1] / plain)
        found = [
            Figure("a row from SQLite by greenfcgi.sql", min(one), "us", 45),
            Figure("100 rows of 5 from SQLite by greenfcgi.sql", min(hundred), "us"),
        ]
        if ratios:
            found.append(Figure("100 rows of 5, times C LuaSQL in lua5.1", median(ratios), "", 1.5))
        return found


def _fill(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("create table people (id integer primary key, name text, email text, visits integer, score real)")
        db.executemany(
            "insert into people values (?, ?, ?, ?, ?)",
            [(n, f"Person {n}", f"person{n}@example.org", 7 * n, n / 3) for n in range(1, 1001)],
        )
    db.close()


@contextmanager
def _state(folder: Path) -> Iterator[Callable[[int, int, int], float]]:
    inside = Inside(folder)
    state = None

    def timed(first: int, last: int, number: int) -> float:
        nonlocal state
        state = state or inside.load(_SCRIPT)
        began = time.perf_counter()
        answer = inside.run(state, Request({"FIRST": str(first), "LAST": str(last), "NUMBER": str(number)}))
        took = time.perf_counter() - began
        assert answer.text == f"{first} person{last}@example.org {last - first + 1}", answer
        return took / number * 1e6

    try:
        yield timed
    finally:
        if state is not None:
            state.close()
        inside.close()


def _plain(folder: Path, first: int, last: int, number: int) -> float | None:
    """Microseconds of LuaSQL; None where it is not installed."""
    lua = shutil.which("lua5.1")
    if lua is None:
        return None
    program = folder / "plain.lua"
    program.write_text(_PLAIN)
    done = subprocess.run(
        [lua, str(program), str(folder / "people.db"), str(first), str(last), str(number)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode:
        return None
    took, rows = done.stdout.split("\n")
    assert rows == f"{first} person{last}@example.org {last - first + 1}", rows
    return float(took)
