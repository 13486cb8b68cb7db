"""SELECTs of SQLite that are so quick that they take no thread: which these are, and what becomes of a slow one."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from greenfcgi.modules.sql import quick, sqlite
from greenfcgi.modules.sql.problem import Busy
from greenfcgi.modules.sql.sqlite import SqliteConnection
from greenfcgi.modules.sql.statements import Query
from greenfcgi.modules.threads import Job, Threads

from ...support.inside import Inside

FLAVOURS = ("luajit21", "lua51", "lua54")
#: A table with a thousand rows.
TABLE = """
    local sql = require "greenfcgi.sql"
    local db = assert(sql.connect("sqlite:a.db"))
    db:transaction(function()
        db:execute("create table if not exists t (id integer primary key, name text)")
        db:execute("delete from t")
        for i = 1, 1000 do db:execute("insert into t values (?, ?)", i, "name " .. i) end
    end)
"""
#: It has nothing to look through where the last parameter is 0, and a million pairs where it is 1000.
PAIRS = "select a.id from t a, t b where a.id + b.id = ? and a.id <= ?"


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua, and the table."""
    inside = Inside(tmp_path, request.param)
    assert inside.main(TABLE).text == ""
    while Threads.at_work:
        # The connection is looked after, which ends in the event loop.
        gevent.sleep(0.001)
    yield inside
    inside.close()


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The queries that have been handed to threads. Whatever else the machine does, each is taken for a quick one."""
    found: list[Job] = []
    start = Threads.start

    def noted(threads: Threads, job: Job) -> None:
        if isinstance(job, Query):
            found.append(job)
        start(threads, job)

    monkeypatch.setattr(Threads, "start", noted)
    monkeypatch.setattr(quick, "_QUICK", 60.0)
    monkeypatch.setattr(quick, "_known", {})
    return found


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of time is not reached by chance."""
    monkeypatch.setattr(quick, "LIMIT", 60.0)


def said(lua: Inside, statements: str) -> list[str]:
    """What statements print that have the database and `p`."""
    start = """
        local sql = require "greenfcgi.sql"
        local db = assert(sql.connect("sqlite:a.db", { max = 1 }))
        local function p(...)
            for i = 1, select("#", ...) do con:puts(i > 1 and " " or "", tostring((select(i, ...)))) end
            con:puts("\\n")
        end
    """
    return lua.main(start + statements).text.splitlines()


def failing_here(monkeypatch: pytest.MonkeyPatch, problem: Exception) -> list[str]:
    """Each query fails that is executed in no thread. Returns where they are noted."""
    query = SqliteConnection.query
    failed: list[str] = []

    def fails(connection: SqliteConnection, sql: str, *others: object) -> object:
        if threading.current_thread() is threading.main_thread():
            failed.append(sql)
            raise problem
        return query(connection, sql, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteConnection, "query", fails)
    return failed


@pytest.mark.usefixtures("patient")
def test_a_row_by_its_key(lua: Inside, in_threads: list[Job]) -> None:
    """After three times in a thread it is quick, for all states of the process."""
    loop = """for i = 1, 10 do p(db:query("select name from t where id = ?", i)[1].name) end"""
    assert said(lua, loop) == [f"name {i}" for i in range(1, 11)]
    assert len(in_threads) == 3
    assert said(lua, loop) == [f"name {i}" for i in range(1, 11)]
    assert len(in_threads) == 3


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "statement",
    [
        "select upper(name) as a from t where id = 1",
        "select count(*) as a from t",
        "select name as a from t where id = (select 1)",
        "select name as a from t where name like 'name 1'",
        "select name as a from t where name glob 'name 1'",
        "with q as (select 1 as a) select a from q",
        "values (1)",
        "insert into t (name) values ('more') returning id as a",
        "pragma user_version",
    ],
)
def test_what_takes_a_thread_each_time(lua: Inside, in_threads: list[Job], statement: str) -> None:
    """What writes, or has a part that may take long for a single row."""
    assert said(lua, f'for i = 1, 6 do p(#db:query("{statement}")) end') == ["1"] * 6
    assert len(in_threads) == 6


def test_one_that_takes_longer_for_other_values(lua: Inside, in_threads: list[Job]) -> None:
    """It is begun again in a thread, where it ends; and so are the next ones for a while."""
    assert said(
        lua,
        f"""
        local pairs = "{PAIRS}"
        for i = 1, 5 do p(#db:query(pairs, 1000, 0)) end
        p(#db:query(pairs, 1000, 1000))
        for i = 1, 5 do p(#db:query(pairs, 1000, 0)) end
        """,
    ) == [*["0"] * 5, "999", *["0"] * 5]
    # The first three, perhaps one that something else has held up, and all from the long one on.
    assert len(in_threads) >= 3 + 1 + 5


def test_its_time_ends_it_as_any_other(lua: Inside, in_threads: list[Job]) -> None:
    """In a thread; and what else comes in that transaction fails as it does there."""
    assert said(
        lua,
        """
        local endless = "select a.id from t a, t b, t c where a.id + b.id + c.id = ? and a.id <= ?"
        for i = 1, 5 do p(#db:query(endless, 0, 0)) end
        for i = 1, 5 do p(#db:query("select id from t where id < 3")) end
        local hurried = assert(sql.connect("sqlite:a.db", { timeout = 0.5 }))
        p(hurried:query(endless, 0, 1000))
        p(hurried:transaction(function()
            p(hurried:query(endless, 0, 1000))
            p(hurried:query("select id from t where id < 3"))
        end))
        """,
    )[10:13] == [
        "nil timed out after 0.5 s nil",
        "nil timed out after 0.5 s nil",
        "nil the connection is lost: a statement on it has timed out nil",
    ]


@pytest.mark.parametrize("limit", ["LIMIT", "_MAX_VALUE_SIZE"])
def test_what_has_come_of_one_that_did_not_end(
    lua: Inside, in_threads: list[Job], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """It comes once, when it has been begun again; where the limit is a time, or the length of a value."""
    all_rows = """
        local sum, rows = 0, db:query("select id, name from t where id <= ?", 1000)
        for _, row in ipairs(rows) do sum = sum + row.id end
        p(#rows, sum, #rows[1000].name)
    """
    lua.main(TABLE + """db:execute("update t set name = ? where id = 1000", string.rep("x", 70000))""")
    assert said(lua, """for i = 1, 5 do p(#db:query("select id, name from t where id <= ?", 3)) end""") == ["3"] * 5
    monkeypatch.setattr(quick, "LIMIT", -1.0 if limit == "LIMIT" else 60.0)
    monkeypatch.setattr(sqlite, "_MAX_VALUE_SIZE", 1 << 20 if limit == "LIMIT" else 1 << 16)
    before = len(in_threads)
    assert said(lua, all_rows) == ["1000 500500 70000"]
    assert len(in_threads) == before + 1
    assert said(lua, all_rows) == ["1000 500500 70000"]
    assert len(in_threads) == before + 2


@pytest.mark.usefixtures("patient")
def test_beside_threads_that_are_at_work(lua: Inside, in_threads: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step might wait for the interpreter: so it is one of them."""
    loop = """for i = 1, 5 do p(#db:query("select id from t where id < 3")) end"""
    assert said(lua, loop) == ["2"] * 5
    assert len(in_threads) == 3
    monkeypatch.setattr(Threads, "at_work", 1)
    assert said(lua, loop) == ["2"] * 5
    assert len(in_threads) == 8


@pytest.mark.usefixtures("patient")
def test_where_others_have_locked_it(lua: Inside, in_threads: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again in a thread, as long as that is tried again at all."""
    locked = failing_here(monkeypatch, Busy("database is locked", "SQLITE_BUSY"))
    assert said(lua, """for i = 1, 6 do p(#db:query("select id from t where id < 3")) end""") == ["2"] * 6
    assert len(locked) == 3
    assert len(in_threads) == 6


@pytest.mark.usefixtures("patient")
def test_a_driver_that_fails(lua: Inside, in_threads: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error as in a thread, and the connection is free afterwards."""
    failing_here(monkeypatch, RuntimeError("broken"))
    assert (
        said(lua, """for i = 1, 5 do p(db:query("select id from t where id = 1")) end""")[3:]
        == ["nil the driver has failed, see the error log nil"] * 2
    )
    assert "RuntimeError: broken" in lua.log()
    assert said(lua, """p(#db:query("select id from t where id = 2"))""") == ["1"]
    assert len(in_threads) == 4


@pytest.mark.usefixtures("patient")
def test_mistakes_are_errors(lua: Inside, in_threads: list[Job]) -> None:
    """What it says is what a thread says, and it works again when they are gone."""
    assert said(
        lua,
        """
        local all = "select name from t where id = ?"
        for i = 1, 4 do db:query(all, 1) end
        p(db:query(all))
        db:execute("alter table t rename to u")
        p(db:query(all, 1))
        db:execute("alter table u rename to t")
        p(db:query(all, 1)[1].name)
        """,
    ) == ["nil the statement has 1 parameters, got 0 nil", "nil no such table: t SQLITE_ERROR", "name 1"]
    assert len(in_threads) == 3


@pytest.mark.usefixtures("patient")
def test_in_a_transaction(lua: Inside, in_threads: list[Job]) -> None:
    """It sees what the transaction has written, which is undone with it."""
    assert said(
        lua,
        """
        local all = "select name from t where id = ?"
        for i = 1, 4 do db:query(all, 1) end
        p(pcall(db.transaction, db, function()
            db:execute("update t set name = 'new' where id = 1")
            p(db:query(all, 1)[1].name)
            error("undone", 0)
        end))
        p(db:query(all, 1)[1].name)
        """,
    ) == ["new", "false undone", "name 1"]
    # The last one waits for the connection, which is looked after in a thread.
    assert len(in_threads) == 3 + 1


@pytest.mark.usefixtures("patient")
def test_rows_that_nobody_fetches(lua: Inside, in_threads: list[Job]) -> None:
    """The only connection is free again when a loop is left, and many rows come as they do otherwise."""
    assert (
        said(
            lua,
            """
        for i = 1, 6 do
            for row in db:each("select id from t order by id") do
                if row.id == 500 then break end
            end
        end
        for i = 1, 6 do p(#db:query("select id, name from t")) end
        """,
        )
        == ["1000"] * 6
    )
    # What is left of a loop is closed in a thread, for which the next one waits.
    assert len(in_threads) == 6 + 3


@pytest.mark.usefixtures("patient")
def test_a_file_that_is_replaced(
    lua: Inside, in_threads: list[Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The new one is asked."""
    monkeypatch.setattr(sqlite, "_FRESH", 0.0)
    one = """p(db:query("select name from t where id = 1")[1].name)"""
    assert said(lua, f"for i = 1, 5 do {one} end") == ["name 1"] * 5
    before = len(in_threads)
    with sqlite3.connect(tmp_path / "a.db") as same:
        # What is in the log would be taken for the new file's.
        same.execute("pragma wal_checkpoint(truncate)")
    same.close()
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table t (id integer primary key, name text)")
        other.execute("insert into t values (1, 'other')")
    other.close()
    (tmp_path / "other.db").rename(tmp_path / "a.db")
    assert said(lua, f"for i = 1, 5 do {one} end") == ["other"] * 5
    assert len(in_threads) == before + 1
