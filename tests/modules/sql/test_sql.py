"""greenfcgi.sql in a script: what all databases have in common, on the Luas that differ."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ...support.databases import DatabaseServer
from ...support.inside import Answer, Inside, Request

Ask = Callable[..., Answer]

SHOW = """
local sql = require "greenfcgi.sql"
local function show(value)
    if value == sql.NULL then return "NULL" end
    if type(value) == "string" then return '"' .. value .. '"' end
    if type(value) == "number" and value % 1 == 0 and value < 2 ^ 53 and value > -2 ^ 53 then
        return ("%d"):format(value)
    end
    return tostring(value)
end
local function shown(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = show((select(i, ...))) end
    return table.concat(parts, " ")
end
local db = assert(sql.connect(URL))
"""
#: The types of each database for what the tests store.
TYPES = {
    "sqlite": {"key": "integer primary key", "blob": "blob", "real": "real",
               "series": "with recursive s(n) as (select 1 union all select n + 1 from s where n < ?) select n from s"},
    "postgresql": {"key": "bigserial primary key", "blob": "bytea", "real": "float8",
                   "series": "select n from generate_series(1, ?::int) as s(n)"},
    "mysql": {"key": "bigint auto_increment primary key", "blob": "longblob", "real": "double",
              "series": "select seq as n from seq_1_to_100000 limit ?"},
}  # fmt: skip


@pytest.fixture(scope="module", params=["luajit21", "lua51", "lua54"])
def flavour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    inside = Inside(tmp_path_factory.mktemp(request.param), request.param, '[lua]\nmemory = "16M"\n')
    yield inside
    inside.close()


@pytest.fixture
def ask(flavour: Inside, kind: str, url: str) -> Ask:
    """Run statements of Lua with `db`, an empty table `t`, and `shown`."""
    types = TYPES[kind]

    def run(statements: str, request: Request | None = None) -> Answer:
        return flavour.main(
            SHOW.replace("URL", f'"{url}"')
            + 'assert(db:execute("drop table if exists t"))\n'
            + f'assert(db:execute("create table t (id {types["key"]}, name text, data {types["blob"]},'
            + f' x {types["real"]}, big bigint, ok boolean)"))\n'
            + f'local SERIES = "{types["series"]}"\n'
            + statements,
            request,
        )

    return run


def test_rows(ask: Ask, kind: str) -> None:
    """They come by the names of their columns, which come in order."""
    text = ask("""
        local changed, id = db:execute("insert into t (name, x, ok) values (?, ?, ?), ('b', 2, false)", "a", 1.5, true)
        con:puts(changed, "\\n")
        local rows, names = db:query("select id, name, x, ok, data from t order by id")
        con:puts(table.concat(names, ","), "\\n")
        for _, row in ipairs(rows) do con:puts(shown(row.id, row.name, row.x, row.ok, row.data), "\\n") end
        con:puts(shown(#db:query("select id from t where id > 5"), #db:query("delete from t")))
    """).text
    yes, no = ("true", "false") if kind == "postgresql" else ("1", "0")
    assert text == f'2\nid,name,x,ok,data\n1 "a" 1.5 {yes} NULL\n2 "b" 2 {no} NULL\n0 0'


def test_the_last_id(ask: Ask, kind: str) -> None:
    """Where the database says it; PostgreSQL does by `returning`, which is a query."""
    text = ask("""
        db:execute("insert into t (name) values ('a')")
        con:puts(shown(db:execute("insert into t (name) values ('b')")))
    """).text
    assert text == ("1 nil" if kind == "postgresql" else "1 2")


def test_null_is_told_from_nil(ask: Ask) -> None:
    """It is a value of the module, both ways; nil is no parameter."""
    text = ask("""
        db:execute("insert into t (name, x) values (?, ?)", sql.NULL, 1)
        local row = db:query("select name, x, big from t")[1]
        con:puts(shown(row.name == sql.NULL, row.nothing, tostring(row.big)), "\\n")
        con:puts(select(2, pcall(db.query, db, "select ?", nil)))
    """).text
    first, second = text.split("\n")
    assert first == 'true nil "NULL"'
    assert "bad argument #2 to 'query' (found nil, expected" in second
    assert "sql.NULL is NULL" in second


def test_integers_of_64_bits(ask: Ask, flavour: Inside) -> None:
    """They are exact where Lua has such, and text where it has none; text is taken for a number on the way back."""
    text = ask("""
        for _, n in ipairs { "9007199254740992", "9007199254740993", "-9223372036854775808", "9223372036854775807" } do
            db:execute("insert into t (big) values (?)", n)
        end
        for _, row in ipairs(db:query("select big from t order by id")) do
            con:puts(type(row.big) .. tostring(row.big), "\\n")
        end
        con:puts(db:query("select count(*) as n from t where big = ?", "9007199254740993")[1].n)
    """).text
    number = "number" if "lua54" in str(flavour.root) else "string"
    first = "number9007199254740992" if number == "number" else "number9.007199254741e+15"
    assert text.split("\n") == [
        first, f"{number}9007199254740993", f"{number}-9223372036854775808", f"{number}9223372036854775807", "1",
    ]  # fmt: skip


def test_bytes_and_text(ask: Ask) -> None:
    """A string is text, which must be UTF-8; `sql.blob` makes bytes of it. Both come back as they were."""
    text = ask("""
        local every = {}
        for i = 0, 255 do every[#every + 1] = string.char(i) end
        every = table.concat(every)
        db:execute("insert into t (name, data) values (?, ?)", "\\195\\188 it's ? %s \\\\ \\" --", sql.blob(every))
        local row = db:query("select name, data from t")[1]
        con:puts(row.name, " ", tostring(row.data == every), "\\n")
        con:puts(shown(db:execute("insert into t (name) values (?)", "\\255")))
    """).text
    assert text == 'ü it\'s ? %s \\ " -- true\nnil "parameter 1 is not UTF-8: expected text, or sql.blob(bytes)" nil'


def test_named_parameters(ask: Ask) -> None:
    """A table gives them by their names; each can stand more than once."""
    text = ask("""
        db:execute("insert into t (name, x) values (:name, :x)", { name = "it's", x = 1.5 })
        db:execute("insert into t (name, x) values (:name, :x)", { name = "b", x = sql.NULL })
        local all = "select name, ':no' as no from t where name = :a or :a = 'all' order by id"
        local rows = db:query(all, { a = "all" })
        con:puts(shown(#rows, rows[1].name, rows[1].no), "\\n")
        con:puts(shown(db:query("select * from t where name = :who", { whom = 1 })))
    """).text
    assert text.split("\n") == ['2 "it\'s" ":no"', 'nil "no value for the parameter :who" nil']


def test_errors(ask: Ask, kind: str) -> None:
    """They come as nil, the database's own message in one line, and its code."""
    text = ask("""
        con:puts(shown(db:query("select * from nowhere")), "\\n")
        db:execute("insert into t (id) values (1)")
        con:puts(shown(db:execute("insert into t (id) values (1)")), "\\n")
        con:puts(shown(db:query("select ?, ?", 1)), "\\n")
        con:puts(shown(db:execute("insert into t (x) values (?)", 1, 2)), "\\n")
        con:puts(shown(db:query("selec")), "\\n")
    """).text
    lines = text.split("\n")
    assert (
        lines[0]
        == {
            "sqlite": 'nil "no such table: nowhere" "SQLITE_ERROR"',
            "postgresql": 'nil "relation "nowhere" does not exist" "42P01"',
            "mysql": 'nil "Table \'app.nowhere\' doesn\'t exist" "1146"',
        }[kind]
    )
    assert (
        lines[1]
        == {
            "sqlite": 'nil "UNIQUE constraint failed: t.id" "SQLITE_CONSTRAINT_PRIMARYKEY"',
            "postgresql": 'nil "duplicate key value violates unique constraint "t_pkey" '
            '(Key (id)=(1) already exists.)" "23505"',
            "mysql": "nil \"Duplicate entry '1' for key 'PRIMARY'\" \"1062\"",
        }[kind]
    )
    assert lines[2] == 'nil "the statement has 2 parameters, got 1" nil'
    assert lines[3] == 'nil "the statement has 1 parameters, got 2" nil'
    assert "syntax" in lines[4]


def test_errors_are_raised_where_the_options_say_so(ask: Ask, url: str) -> None:
    """At the line of the script."""
    text = ask(f"""
        local db = sql.connect("{url}", {{ errors = "raise" }})
        con:puts(select(2, pcall(function() db:query("select * from nowhere") end)))
    """).text
    assert text.partition("page.lua:")[2]
    assert "nowhere" in text


def test_a_transaction(ask: Ask) -> None:
    """It is committed when its function returns, and undone when that raises; one in it is undone by itself."""
    text = ask("""
        local function add(name) assert(db:execute("insert into t (name) values (?)", name)) end
        con:puts(shown(db:transaction(function(a, b) add(a) return b, nil end, "one", 2)), "\\n")
        con:puts(shown(db:transaction(function() end)), "\\n")
        con:puts(shown(pcall(db.transaction, db, function() add("two") error("no", 0) end)), "\\n")
        con:puts(shown(pcall(db.transaction, db, function() add("two") error(sql.NULL) end)), "\\n")
        db:transaction(function()
            add("three")
            con:puts(shown(pcall(db.transaction, db, function() add("four") error("inner", 0) end)), "\\n")
            db:transaction(function() add("five") end)
        end)
        for _, row in ipairs(db:query("select name from t order by id")) do con:puts(row.name, " ") end
    """).text
    assert text.split("\n") == ["2 nil", "true", 'false "no"', "false NULL", 'false "inner"', "one three five "]


def test_a_transaction_in_which_a_statement_has_failed(ask: Ask, kind: str) -> None:
    """PostgreSQL undoes it, which is a failure; others have undone that statement only."""
    text = ask("""
        con:puts(shown(db:transaction(function()
            db:execute("insert into t (name) values ('a')")
            db:execute("insert into t (nothing) values (1)")
            return "went on"
        end)), "\\n", db:query("select count(*) as n from t")[1].n)
    """).text
    if kind == "postgresql":
        assert text == 'nil "a statement in the transaction has failed, so it was undone" "25P02"\n0'
    else:
        assert text == '"went on"\n1'


def test_what_a_request_leaves_ends_with_it(flavour: Inside, url: str) -> None:
    """A loop in a variable, and a transaction in a coroutine: the next request has the connection."""
    state = flavour.load(f"""
        local sql = require "greenfcgi.sql"
        local db = sql.connect("{url}", {{ max = 1, timeout = 5 }})
        local step, thread = 0
        local first = {{
            function() rows = db:each("select 1 as n union all select 2 union all select 3") return rows().n end,
            function() return db:query("select 4 as n")[1].n end,
            function()
                thread = coroutine.create(function() db:transaction(function() coroutine.yield(5) end) end)
                return select(2, coroutine.resume(thread))
            end,
            function() return select(2, db:query("select 6 as n")) end,
            function() return db:query("select 7 as n")[1].n end,
        }}
        function main(env, con)
            step = step + 1
            con:puts(tostring((first[step]())))
        end
    """)
    found = [flavour.run(state).text for _ in range(5)]
    state.close()
    if "lua51" in str(flavour.root):
        # Nothing can yield there in a protected call.
        assert found[:2] + found[4:] == ["1", "4", "7"]
    else:
        assert found == ["1", "4", "5", "the transaction has ended with the run of the script that began it", "7"]


def test_a_transaction_that_is_left_open_is_undone(ask: Ask) -> None:
    """By `begin` as a statement: the connection goes to others."""
    text = ask("""
        con:puts(shown(db:execute("begin")), "\\n", shown(#db:query("select 1 as one")))
    """).text
    assert text == 'nil "a transaction was left open, and undone: expected db:transaction(f)" nil\n1'


def test_each_streams(ask: Ask) -> None:
    """All rows come; a loop that is left gives its connection back, as often as that happens."""
    text = ask("""
        local number, sum = 0, 0
        for row in db:each(SERIES, 5000) do number, sum = number + 1, sum + row.n end
        con:puts(number, " ", sum, "\\n")
        for i = 1, 50 do
            for row in db:each(SERIES, 5000) do if row.n >= 3 then break end end
        end
        con:puts(#db:query(SERIES, 5000), "\\n")
        con:puts(select(2, pcall(function() for row in db:each("select * from nowhere") do end end)))
    """).text
    first, second, third = text.split("\n")
    assert (first, second) == ("5000 12502500", "5000")
    assert "page.lua:" in third
    assert "nowhere" in third


def test_statements_in_a_loop_of_a_transaction(ask: Ask, kind: str) -> None:
    """They run between two rows; MySQL has one statement at a time, and says so."""
    text = ask("""
        local problem
        db:transaction(function()
            for row in db:each(SERIES, 300) do
                local done, why = db:execute("insert into t (x) values (?)", row.n)
                if not done then problem = why break end
            end
        end)
        con:puts(shown(problem, db:query("select count(*) as n from t")[1].n))
    """).text
    if kind == "mysql":
        assert text.startswith('"the rows of db:each are under way, and MySQL has one statement at a time"')
    else:
        assert text == "nil 300"


def test_a_loop_that_is_left_in_a_transaction(ask: Ask) -> None:
    """The transaction goes on, and is committed."""
    text = ask("""
        local done, problem = db:transaction(function()
            db:execute("insert into t (x) values (1)")
            for row in db:each(SERIES, 5000) do if row.n == 3 then break end end
            assert(db:execute("insert into t (x) values (2)"))
            for row in db:each(SERIES, 5000) do if row.n == 3 then break end end
            assert(db:query("select * from t"))
        end)
        con:puts(shown(done, problem, db:query("select count(*) as n from t")[1].n))
    """).text
    assert text == "true nil 2"


def test_statements_that_are_no_usual_ones(flavour: Inside, postgres: DatabaseServer) -> None:
    """COPY, which nobody can go on with here, and one that is empty: the next statement is executed as usual."""
    answer = flavour.main(f"""
        local sql = require "greenfcgi.sql"
        local db = sql.connect("{postgres.url}", {{ max = 1 }})
        for _, statement in ipairs {{ "copy (select 1) to stdout", "" }} do
            for _, name in ipairs {{ "query", "execute" }} do
                local found, problem = db[name](db, statement)
                con:puts(type(found), " ", tostring(found == nil and problem), " ")
                con:puts(tostring(db:query("select 1 as n")[1].n), "\\n")
            end
        end
    """)
    refused = "nil COPY from or to the client is not possible here 1"
    assert answer.text.split("\n") == [refused, refused, "table false 1", "number false 1", ""]


@pytest.mark.parametrize("frame", ["%s", "db:transaction(function() %s end)"])
def test_what_a_statement_sets_ends_with_it(flavour: Inside, kind: str, url: str, frame: str) -> None:
    """Whoever has the connection next finds it as it was."""
    if kind == "sqlite":
        pytest.skip("a pragma is for all")
    setting = {"postgresql": "set search_path to pg_catalog", "mysql": "set autocommit = 0"}[kind]
    answer = flavour.main(f"""
        local sql = require "greenfcgi.sql"
        local db = sql.connect("{url}", {{ max = 1, errors = "raise" }})
        db:execute("drop table if exists s")
        db:execute("create table s (n int)")
        {frame % f'db:execute("{setting}")'}
        con:puts(db:execute("insert into s values (1)"), #db:query("select * from s"))
        {frame % 'db:execute("create temporary table own (n int)")'}
        con:puts(tostring(pcall(db.query, db, "select * from own")))
    """)
    assert answer.text == "11false"


@pytest.mark.parametrize("file", ["only.db", ":memory:"])
def test_a_loop_that_has_the_only_connection(flavour: Inside, file: str) -> None:
    """Who would wait for it for ever learns it at once, and the loop goes on."""
    answer = flavour.main(
        f"""
        local sql = require "greenfcgi.sql"
        local db = sql.connect("sqlite:{file}", {{ max = 1 }})
        local number, problems = 0, {{}}
        for _ in db:each("with recursive s(n) as (select 1 union all select n + 1 from s limit 300) select n from s") do
            number = number + 1
            if number == 1 then
                problems[1] = select(2, db:query("select 1"))
                problems[2] = select(2, db:transaction(function() end))
            end
        end
        con:puts(number, " ", #db:query("select 1"), "\\n", problems[1], "\\n", problems[2])
        """,
        Request(seconds=5),
    )
    first, *problems = answer.text.split("\n")
    assert first == "300 1"
    assert (
        problems
        == [
            "no connection is left: loops and transactions of this script have all 1, expected a larger max, "
            "or db:transaction(f) around the loop"
        ]
        * 2
    )


def test_a_statement_with_a_zero_byte(ask: Ask) -> None:
    """It is not executed as far as there."""
    text = ask("""
        con:puts(shown(db:execute("delete from t\\0 where x = 1")), "\\n", shown(db:query("select 1\\0")))
    """).text
    assert text == "\n".join(['nil "the statement has a zero byte" nil'] * 2)


def test_many_columns_and_parameters(ask: Ask, kind: str) -> None:
    """More than Lua has room for on its stack."""
    kind_of = "::int" if kind == "postgresql" else ""
    text = ask(f"""
        local columns, values = {{}}, {{}}
        for i = 1, 450 do columns[i], values[i] = "?{kind_of} as c" .. i, i end
        local row, names = db:query("select " .. table.concat(columns, ","), (unpack or table.unpack)(values, 1, 450))
        con:puts(shown(row[1].c1, row[1].c101, row[1].c450, #names), "\\n")
        local n = 0
        for row in db:each("select " .. table.concat(columns, ","), (unpack or table.unpack)(values, 1, 450)) do
            n = n + row.c333
        end
        con:puts(n)
    """).text
    assert text == "1 101 450 450\n333"


def test_long_values(ask: Ask) -> None:
    """Megabytes cross; what the state has no memory for ends the script as anything else does."""
    answer = ask("""
        local long = ("x"):rep(1000000)
        for i = 1, 3 do db:execute("insert into t (data) values (?)", sql.blob(long)) end
        local rows = db:query("select data from t")
        con:puts(#rows, tostring(rows[3].data == long))
    """)
    assert answer.text == "3true"
    answer = ask("""
        for i = 1, 40 do db:execute("insert into t (data) values (?)", sql.blob(("x"):rep(1000000) .. i)) end
        db:query("select data from t")
    """)
    assert "out of memory" in answer.error


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sql.connect()", "bad argument #1 to 'connect' (string expected, got nil)"),
        ("sql.connect(URL, 5)", "bad argument #2 to 'connect' (table expected, got number)"),
        ("sql.connect(URL, { pool = 5 })", "unknown option 'pool'; known are errors, idle, max, prepare, timeout"),
        ("sql.connect(URL, { max = 0 })", "bad option 'max' (found 0, expected a whole number from 1 to 10000)"),
        ("sql.connect(URL, { errors = 1 })", 'bad option \'errors\' (found 1, expected "return" or "raise")'),
        ("db.query('select 1')", "db.query called with a dot, or on what is no database: write db:query(...)"),
        ("db:query()", "bad argument #1 to 'query' (string expected, got nil)"),
        (
            "db:execute('select ?', {}, 1)",
            "bad argument #2 to 'execute' (found table, expected a string, number, boolean",
        ),
        ("db:query('select :a', { [1] = 2 })", "bad argument #2 to 'query' (found the key '1', expected names"),
        ("db:transaction('x')", "bad argument #1 to 'transaction' (function expected, got string)"),
        ("sql.blob(1)", "bad argument #1 to 'blob' (string expected, got number)"),
        ("db.x = 1", "'x' cannot be set here"),
    ],
)
def test_wrong_arguments(flavour: Inside, code: str, message: str) -> None:
    """They are errors of the script, at its line, that name the argument."""
    answer = flavour.main(SHOW.replace("URL", '"sqlite:test.db"') + code.replace("URL", '"sqlite:test.db"'))
    assert message in answer.error
    assert "page.lua:" in answer.error


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("app.db", 'found the URL "app.db", expected one such as "sqlite:data/app.db"'),
        ("oracle://u:secret@host/x", 'found the URL "...@host/x", expected one such as'),
        ("sqlite://app.db", 'found no path in the URL, expected "sqlite:PATH"'),
        ("postgresql:x", 'expected "postgresql://user:password@host:port/name"'),
        ("sqlite:/proc/self/mem", "/proc/self/mem: Permission denied"),
    ],
)
def test_wrong_urls(flavour: Inside, url: str, message: str) -> None:
    """They give nil and what was expected."""
    answer = flavour.main(f'con:puts(tostring(select(2, require "greenfcgi.sql".connect("{url}"))))')
    assert message in answer.text


def test_a_database_in_a_file(tmp_path: Path) -> None:
    """Relative to config.toml, with a write-ahead log, not for everybody to read; what is not there gives an error."""
    inside = Inside(tmp_path)
    answer = inside.main(
        SHOW.replace("URL", '"sqlite:data.db"')
        + """
        db:execute("create table t (a)")
        con:puts(db:query("pragma journal_mode")[1].journal_mode)
        con:puts(db:query("pragma foreign_keys")[1].foreign_keys, "\\n")
        con:puts(shown(sql.connect("sqlite:no/where.db"):query("select 1")))
        """
    )
    assert answer.text == f'wal0\nnil "{tmp_path}/no/where.db: No such file or directory" "SQLITE_CANTOPEN"'
    assert os.stat(tmp_path / "data.db").st_mode & 0o777 == 0o640
    inside.close()


def test_a_database_in_memory_is_its_own(flavour: Inside) -> None:
    """Each `connect` makes one, which lasts as long as the object."""
    answer = flavour.main("""
        local sql = require "greenfcgi.sql"
        local one, other = sql.connect("sqlite::memory:"), sql.connect("sqlite::memory:")
        one:execute("create table t (a)")
        one:execute("insert into t values (1)")
        con:puts(#one:query("select * from t"), tostring((other:query("select * from t"))), "\\n")
        one:close()
        con:puts(tostring(select(2, one:query("select * from t"))))
    """)
    assert answer.text == "1nil\nthe database is closed"


def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    """The next query after a second sees the new one."""
    inside = Inside(tmp_path)
    state = inside.load("""
        local sql = require "greenfcgi.sql"
        local db = sql.connect("sqlite:data.db")
        function main(env, con) con:puts(db:query("select a from t")[1].a) end
    """)
    for value in (1, 2):
        with sqlite3.connect(tmp_path / f"{value}.db") as made:
            made.execute("create table t (a)")
            made.execute(f"insert into t values ({value})")
        made.close()
        os.replace(tmp_path / f"{value}.db", tmp_path / "data.db")
        while inside.run(state).text != str(value):
            pass
    inside.close()
