"""LuaSQL's interface: functions, results and messages are those of LuaSQL 2.6 in plain Lua."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ...support.databases import PASSWORD, DatabaseServer
from ...support.inside import Inside

SHOW = """
local unpack = unpack or table.unpack
local function show(...)
    local parts = {}
    for i = 1, select("#", ...) do
        local value = select(i, ...)
        if type(value) == "number" and value % 1 == 0 then value = ("%d"):format(value) end
        parts[i] = tostring(value)
    end
    con:puts(table.concat(parts, " "), "\\n")
end
"""


@pytest.fixture(scope="module", params=["luajit21", "lua51", "lua54"])
def flavour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    inside = Inside(tmp_path_factory.mktemp(request.param), request.param)
    yield inside
    inside.close()


def run(lua: Inside, statements: str) -> str:
    """What a script answers whose state goes then, and with it its connections."""
    state = lua.load(f"function main(env, con) {statements} end")
    try:
        return lua.run(state).text
    finally:
        state.close()


def test_sqlite3(lua: Inside) -> None:
    """A life of a connection and its cursors."""
    lines = run(lua, SHOW + """
        local luasql = require "luasql.sqlite3"
        local env = luasql.sqlite3()
        local c = assert(env:connect("luasql.db"))
        c:execute("drop table if exists t")
        show(c:execute("create table t (id integer primary key, name varchar(20), x real)"))
        show(c:execute("insert into t (name, x) values ('a', 1.5)"))
        show(c:execute("insert into t (name) values ('b')"), c:getlastautoid())
        show(c:execute("update t set name = name || '!'"))
        show(c:execute("select * from nope"))
        local cursor = c:execute("select * from t order by id")
        show(tostring(cursor):match("^SQLite3 cursor"), c:close())
        show(unpack(cursor:getcolnames()))
        show(unpack(cursor:getcoltypes()))
        show(cursor:fetch())
        local row = cursor:fetch({}, "a")
        show(row.id, row.name, row.x, row[1])
        show(cursor:fetch(row, "a"))
        show(pcall(cursor.fetch, cursor))
        show(cursor:close())
        cursor = c:execute("select id, name from t")
        row = cursor:fetch({})
        show(row[1], row[2], row.id)
        show(cursor:close(), cursor:close())
        show(c:escape("it's"), c:setautocommit(false), c:execute("insert into t (name) values ('c')"), c:rollback())
        show(c:execute("select count(*) from t"):fetch())
        show(c:execute("insert into t (name) values ('d')"), c:commit(), c:setautocommit(true), c:rollback())
        collectgarbage()
        show(c:execute("select count(*) from t"):fetch())
        collectgarbage()
        show(c:close(), c:close(), env:close(), env:close())
        show(pcall(c.execute, c, "select 1"))
        show(pcall(env.connect, env, "x"))
        show(luasql.sqlite3():connect("/nonexistent/x.db"))
        show(luasql._VERSION, getmetatable(c))
    """).split("\n")  # fmt: skip
    version = "LuaSQL 2.6.0 (greenfcgi) LuaSQL: you're not allowed to get this metatable"
    assert lines == [
        "0", "1", "1 2", "2", "nil LuaSQL: no such table: nope", "SQLite3 cursor false LuaSQL: there are open cursors",
        "id name x", "INTEGER varchar(20) REAL", "1 a! 1.5", "2 b! nil nil", "nil",
        "false bad argument #1 to 'fetch' (LuaSQL: cursor is closed)", "false", "1 a! nil", "true false",
        "it''s true 1 true", "2", "1 true true true", "3", "true false true false",
        "false bad argument #1 to 'execute' (LuaSQL: connection is closed)",
        "false bad argument #1 to 'connect' (LuaSQL: environment is closed)",
        "nil LuaSQL: /nonexistent/x.db: No such file or directory", version, "",
    ]  # fmt: skip


def test_postgres(lua: Inside, postgres: DatabaseServer) -> None:
    """Values are text, all rows are there at once, and `connect` takes LuaSQL's parts."""
    lines = run(lua, SHOW + f"""
        local env = require "luasql.postgres".postgres()
        local c = assert(env:connect("postgres", "app", "{PASSWORD}", "127.0.0.1", {postgres.port}))
        c:execute("drop table if exists t")
        show(c:execute("create table t (id serial primary key, name varchar(20), b bytea, ok bool, n numeric(10, 2))"))
        show(c:execute("insert into t (name, b, ok, n) values ('a', '\\\\x00ff', true, 12.50), ('b', null, null, 1)"))
        show(c:execute("select * from nope"))
        local cursor = c:execute("select * from t order by id")
        show(cursor:numrows(), unpack(cursor:getcolnames()))
        show(unpack(cursor:getcoltypes()))
        show(cursor:fetch())
        show(c:execute("select count(*) from t"):fetch())
        show(cursor:fetch())
        show(cursor:fetch())
        local many = c:execute("select n from generate_series(1, 5000) as s(n)")
        local number = 0
        while many:fetch() do number = number + 1 end
        show(number, c:execute("select 1"):numrows())
        show(c:setautocommit(false), c:execute("delete from t"), c:rollback(), c:setautocommit(true))
        show(c:execute("select count(*) from t"):fetch())
        show((select(2, env:connect("postgres", "app", "wrong", "127.0.0.1", {postgres.port}))))
        show(assert(env:connect("{postgres.url}")):execute("select 7"):fetch())
        show(assert(env:connect("host=127.0.0.1 port={postgres.port} user=app dbname=postgres", nil, "{PASSWORD}"))
            :execute("select 8"):fetch())
    """).split("\n")  # fmt: skip
    assert "password authentication failed" in lines.pop(-4)
    assert lines == [
        "0", "2", 'nil LuaSQL: error executing statement. PostgreSQL: ERROR:  relation "nope" does not exist',
        "2 id name b ok n", "int4 varchar (20) bytea bool numeric", "1 a \\x00ff t 12.50", "2", "2 b nil nil 1.00",
        "nil", "5000 1", "true 2 true true", "2", "7", "8", "",
    ]  # fmt: skip


def test_a_cursor_keeps_its_connection(lua: Inside) -> None:
    """Nobody else need have it."""
    text = run(lua, """
        local env = require "luasql.sqlite3".sqlite3()
        local series = "with recursive c(n) as (select 1 union all select n + 1 from c where n < 5000) select n from c"
        local cursor = env:connect("luasql.db"):execute(series)
        collectgarbage()
        collectgarbage()
        for i = 1, 20 do env:connect("luasql.db") end
        local sum, n = 0, cursor:fetch()
        while n do sum, n = sum + n, cursor:fetch() end
        con:puts(("%d"):format(sum))
    """)  # fmt: skip
    assert text == "12502500"


def test_a_connection_stays_over_requests(lua: Inside, postgres: DatabaseServer) -> None:
    """Also when the server was restarted meanwhile."""
    state = lua.load(f"""
        local c = assert(require "luasql.postgres".postgres():connect("{postgres.url}"))
        local pid
        function main(env, con)
            local now = assert(c:execute("select pg_backend_pid()")):fetch()
            con:puts(tostring(pid == now))
            pid = now
        end
    """)
    assert [lua.run(state).text for _ in range(3)] == ["false", "true", "true"]
    postgres.stop()
    assert "Connection refused" in lua.run(state).error
    postgres.start()
    assert [lua.run(state).text for _ in range(2)] == ["false", "true"]
    state.close()


def test_a_connection_is_a_new_one(lua: Inside) -> None:
    """Whatever somebody has set on one that was closed before."""
    text = run(
        lua,
        """
        local env = require "luasql.sqlite3".sqlite3()
        for _ = 1, 2 do
            local connection = assert(env:connect("new.db"))
            con:puts(connection:execute("pragma foreign_keys"):fetch(), " ")
            assert(connection:execute("pragma foreign_keys = on"))
            assert(connection:execute("create temporary table own (n)"))
            con:puts(connection:execute("pragma foreign_keys"):fetch(), " ")
            collectgarbage()
            connection:close()
        end
    """,
    )
    assert text == "0 1 0 1 "
