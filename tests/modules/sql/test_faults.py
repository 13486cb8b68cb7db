"""Databases that are slow, locked, full, down, killed, or not there: what scripts get, and what is left behind."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from greenfcgi.fastcgi.client import Client
from greenfcgi.lua.bridge import Waitable
from greenfcgi.modules.sql import drivers, pool

from ...support.databases import DatabaseServer
from ...support.inside import Inside, Request
from ...support.running import Server, until

#: A statement that takes half a minute, and one that says how many others run.
SLOW = {
    "sqlite": "with recursive c(n) as (select 1 union all select n + 1 from c) select count(*) as n from c",
    "postgresql": "select pg_sleep(30) as n",
    "mysql": "select sleep(30) as n",
}
RUNNING = {
    "postgresql": "select count(*) as n from pg_stat_activity where state = 'active' and query like '%pg_sleep(%' "
    "and pid <> pg_backend_pid()",
    "mysql": "select count(*) as n from information_schema.processlist where info like 'select sleep(%'",
}


def script(url: str, statements: str, options: str = "{}") -> str:
    """A script with a database, whose handler is made of these statements."""
    return f"""
        local sql = require "greenfcgi.sql"
        local db = assert(sql.connect("{url}", {options}))
        function main(env, con)
            {statements}
        end
    """


def shown(statement: str) -> str:
    """What a query gives: the first value called n, or why there is none."""
    return f'local rows, why = db:query("{statement}") con:puts(rows and tostring(rows[1].n) or why)'


def test_the_deadline_ends_a_query(tmp_path: Path, kind: str, url: str) -> None:
    """Within tenths of a second, also at the database; and in a transaction."""
    inside = Inside(tmp_path)
    for slow in (shown(SLOW[kind]), f"db:transaction(function() {shown(SLOW[kind])} end)"):
        state = inside.load(script(url, slow))
        began = time.monotonic()
        answer = inside.run(state, Request(seconds=0.3))
        assert time.monotonic() - began < 1.5
        assert answer.failure is not None
        assert answer.failure.status == 504
        if kind in RUNNING:
            state = inside.load(script(url, shown(RUNNING[kind])))
            until(lambda state=state: inside.run(state).text == "0", "the end of the query")  # type: ignore[misc]
        state = inside.load(script(url, "con:puts(select(2, db:execute('drop table if exists x')) or 'done')"))
        assert inside.run(state).text == "done"
    inside.close()


def test_a_timeout_of_its_own(tmp_path: Path, kind: str, url: str) -> None:
    """It gives nil and a message, and the next query works; a transaction is over."""
    inside = Inside(tmp_path)
    state = inside.load(
        script(
            url,
            f"""
            local slow = "{SLOW[kind]}"
            con:puts(select(2, db:query(slow)), "\\n", db:query("select 5 as n")[1].n, "\\n")
            con:puts(select(2, pcall(function()
                for row in db:each(slow) do end
            end)):match(": (.*)"), "\\n")
            con:puts(select(2, db:transaction(function()
                con:puts(select(2, db:query(slow)), "\\n", select(2, db:query("select 5 as n")), "\\n")
            end)), "\\n", db:query("select 6 as n")[1].n)
            """,
            "{ timeout = 2 }",
        )
    )
    # Time enough to connect on a busy machine.
    first, five, each, inner, lost, failed, six = inside.run(state).text.split("\n")
    assert first == each == inner == "timed out after 2 s"
    assert (five, six) == ("5", "6")
    assert lost.startswith("the connection is lost")
    assert failed.startswith("the connection is lost")
    inside.close()


def test_others_go_on(serve: Callable[..., Server], kind: str, url: str) -> None:
    """A slow query holds up its own script only."""
    server = serve(
        {"slow.lua": script(url, shown(SLOW[kind])), "hello.lua": 'function main(e, con) con:puts("hello") end'}
    )
    connections = [server.connect() for _ in range(5)]
    try:
        for connection in connections:
            connection.send(server.request("slow.lua"))
        began = time.monotonic()
        for _ in range(20):
            assert server.get("hello.lua").body == b"hello"
        assert time.monotonic() - began < 3
    finally:
        for connection in connections:
            connection.socket.close()


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_client_that_goes_ends_its_query(serve: Callable[..., Server], kind: str, url: str) -> None:
    """Also at the database."""
    server = serve({"slow.lua": script(url, shown(SLOW[kind])), "running.lua": script(url, shown(RUNNING[kind]))})
    with server.connect() as connection:
        connection.send(server.request("slow.lua"))
        until(lambda: server.get("running.lua").body == b"1", "the beginning of the query")
    until(lambda: server.get("running.lua").body == b"0", "the end of the query")


def test_a_server_that_is_killed(tmp_path: Path, postgres: DatabaseServer) -> None:
    """Queries give nil and a message; when it is back, they work, and nobody notices that connections were lost."""
    inside = Inside(tmp_path)
    state = inside.load(script(postgres.url, shown("select 7 as n")))
    assert inside.run(state).text == "7"
    postgres.stop()
    postgres.start()
    assert inside.run(state).text == "7"
    postgres.stop()
    for _ in range(2):
        assert "failed" in inside.run(state).text
    postgres.start()
    assert inside.run(state).text == "7"
    assert "Traceback" not in inside.log()
    inside.close()


def test_a_server_that_is_killed_during_a_query(serve: Callable[..., Server], postgres: DatabaseServer) -> None:
    """Nothing is done twice: the script learns of it."""
    slow = "local rows, why, code = db:query('select pg_sleep(30)') con:puts(tostring(why))"
    server = serve(
        {"slow.lua": script(postgres.url, slow), "running.lua": script(postgres.url, shown(RUNNING["postgresql"]))}
    )
    with server.connect() as connection:
        connection.send(server.request("slow.lua"))
        until(lambda: server.get("running.lua").body == b"1", "the beginning of the query")
        postgres.stop()
        reply = connection.reply()
    postgres.start()
    assert b"terminat" in reply.body or b"closed" in reply.body
    assert server.get("running.lua").body == b"0"


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_servers_that_cannot_be_had(tmp_path: Path, kind: str, url: str) -> None:
    """A wrong password, an unknown host, a port at which nobody listens: nil and a message, no password in it."""
    inside = Inside(tmp_path)
    wrong = {
        url.replace("s3cret", "hunter2"): "denied" if kind == "mysql" else "password authentication failed",
        url.replace("127.0.0.1", "no-such-host.invalid"): "no-such-host.invalid",
        url.replace(url.rpartition(":")[2].partition("/")[0], "1"): "refused",
    }
    for each, message in wrong.items():
        text = inside.run(inside.load(script(each, shown("select 1 as n")))).text
        assert message in text, text
        assert not {"hunter2", "s3cret", "Errno", "Traceback", "\n"} & {*text.split(), text}, text
        assert "Errno" not in text
    inside.close()


def test_a_locked_database(tmp_path: Path) -> None:
    """A statement waits until it is free, no longer than its deadline or the database's timeout."""
    inside = Inside(tmp_path)
    write = "local n, why = db:execute('insert into t values (1)') con:puts(tostring(n or why))"
    state = inside.load(script("sqlite:test.db", "db:execute('create table t (a)')" + write))
    assert inside.run(state).text == "1"
    other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    other.execute("begin immediate")
    began = time.monotonic()
    state = inside.load(script("sqlite:test.db", write))
    assert inside.run(state, Request(seconds=0.3)).failure is not None
    state = inside.load(script("sqlite:test.db", write, "{ timeout = 0.3 }"))
    assert inside.run(state).text in ("database is locked", "timed out after 0.3 s")
    # Those who read do not wait.
    assert inside.run(inside.load(script("sqlite:test.db", shown("select count(*) as n from t")))).text == "1"
    assert time.monotonic() - began < 3
    other.execute("rollback")
    state = inside.load(script("sqlite:test.db", write))
    assert inside.run(state).text == "1"
    other.close()
    inside.close()


def test_a_full_database(tmp_path: Path) -> None:
    """SQLite's own message; what is there can still be read."""
    inside = Inside(tmp_path)
    answer = inside.run(
        inside.load(
            script(
                "sqlite:test.db",
                """
                db:execute("create table t (a)")
                db:query("pragma max_page_count = 20")
                local n, why, code
                repeat n, why, code = db:execute("insert into t values (zeroblob(10000))") until not n
                con:puts(why, " ", code, " ", db:query("select count(*) > 3 as n from t")[1].n)
                """,
                "{ max = 1 }",
            )
        )
    )
    assert answer.text == "database or disk is full SQLITE_FULL 1"
    inside.close()


def test_a_full_disk(tmp_path: Path) -> None:
    """Here, files that may not grow: an error of SQLite's, and the server goes on."""
    write = """
        db:execute("create table if not exists t (a)")
        local n, why
        for i = 1, 100 do
            n, why = db:execute("insert into t values (zeroblob(10000))")
            if not n then break end
        end
        con:puts(tostring(why))
    """
    with Server(
        tmp_path, {"write.lua": script("sqlite:test.db", write)}, before=("prlimit", "--fsize=300000")
    ) as server:
        for _ in range(2):
            assert server.get("write.lua").body in (b"disk I/O error", b"database or disk is full")


def test_many_requests_leave_nothing_open(serve: Callable[..., Server]) -> None:
    """A thousand, with queries, errors, loops that are left and transactions: no descriptor more than before."""
    server = serve({
        "page.lua": script(
            "sqlite:test.db",
            """
            local db = sql.connect("sqlite:test.db")
            assert(sql.connect("sqlite::memory:"):query("select 1"))
            db:execute("create table if not exists t (a)")
            db:query("select * from nowhere")
            local series = "with recursive c(n) as (select 1 union all select n + 1 from c limit 9999) select n from c"
            for row in db:each(series) do
                if row.n > 10 then break end
            end
            pcall(db.transaction, db, function() db:execute("insert into t values (1)") error("no") end)
            con:puts(#db:query("select 1 as one"))
            """,
        ),
        "luasql.lua": """
            local env = require "luasql.sqlite3".sqlite3()
            function main(e, con) con:puts(env:connect("test.db"):execute("select 1 as one"):fetch()) end
        """,
    })  # fmt: skip

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{server.pid}/fd"))

    def many(number: int) -> None:
        for _ in range(number):
            assert server.get("page.lua").body == b"1"
            assert server.get("luasql.lua").body == b"1"

    many(50)
    before = descriptors()
    many(450)
    # LuaSQL's connections are closed when Lua finds that nobody has them.
    until(lambda: descriptors() <= before + 3 * 8, "descriptors given back")


def test_writing_reloads_no_script(serve: Callable[..., Server]) -> None:
    """Even where the database lies among them."""
    server = serve({
        "page.lua": "local n = 0\n" + script(
            "sqlite:lua_scripts/test.db",
            "n = n + 1 db:execute('create table if not exists t (a)') db:execute('insert into t values (1)')"
            "con:puts(n)",
        )
    })  # fmt: skip
    for number in range(1, 15):
        assert server.get("page.lua").body == str(number).encode()
        time.sleep(0.02)


def test_the_end_closes_connections(serve: Callable[..., Server]) -> None:
    """SQLite has written its log back by then."""
    server = serve({"page.lua": script("sqlite:test.db", "db:execute('create table t (a)')")})
    server.get("page.lua")
    assert (server.folder / "test.db-wal").exists()
    server.stop()
    assert not (server.folder / "test.db-wal").exists()


def test_idle_connections_are_closed(tmp_path: Path) -> None:
    """After the seconds that the options say."""
    inside = Inside(tmp_path)
    state = inside.load(script("sqlite:test.db", "db:execute('create table t (a)') con:puts(1)", "{ idle = 0.1 }"))
    assert inside.run(state).text == "1"
    assert (tmp_path / "test.db-wal").exists()
    import gevent

    for _ in range(100):
        gevent.sleep(0.05)
        if not (tmp_path / "test.db-wal").exists():
            break
    assert not (tmp_path / "test.db-wal").exists()
    inside.close()


def test_a_driver_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""

    def missing(kind: str) -> None:
        raise ImportError(kind)

    monkeypatch.setattr(drivers, "_loaded", {})
    monkeypatch.setattr(drivers, "_imported", missing)
    inside = Inside(tmp_path)
    answer = inside.main('con:puts((select(2, require "greenfcgi.sql".connect("mysql://x@y/z"))))')
    assert answer.text == "the driver for MySQL is not installed: pip install 'greenfcgi[mysql]'"
    inside.close()


def test_more_statements_than_connections(serve: Callable[..., Server], postgres: DatabaseServer) -> None:
    """They wait for one, and each gets its turn."""
    server = serve({"page.lua": script(postgres.url, "con:puts(#db:query('select pg_sleep(0.05)'))", "{ max = 2 }")})
    connections = [server.connect() for _ in range(12)]
    for connection in connections:
        connection.send(Client.request(server.params("page.lua")))
    assert [connection.reply().body for connection in connections] == [b"1"] * 12
    for connection in connections:
        connection.socket.close()


SERIES = "with recursive c(n) as (select 1 union all select n + 1 from c limit 9999) select n from c"


def test_rows_that_were_waiting_for_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose script is stopped meanwhile: their connection is free again."""

    class NoThreads(Request):
        """There are none any more from the first `con:sleep` on."""

        def sleep(self, seconds: float) -> None:
            monkeypatch.setattr(pool._statements, "_max", 0)

    inside = Inside(tmp_path)
    loop = f"for _ in db:each('{SERIES}') do con:sleep(1) end"
    inside.write("rows.lua", script("sqlite:test.db", loop, "{ max = 1 }"))
    inside.write("page.lua", script("sqlite:test.db", shown("select 1 as n"), "{ max = 1 }"))
    rows, page = inside.load(name="rows.lua"), inside.load(name="page.lua")
    assert "timeout" in inside.run(rows, NoThreads(seconds=0.3)).error
    monkeypatch.undo()
    assert inside.run(page, Request(seconds=5)).text == "1"
    rows.close()
    page.close()
    inside.close()


@pytest.mark.parametrize("statements", [
    f"db:query('{SERIES}')", f"for _ in db:each('{SERIES}') do end",
    f"db:transaction(function() db:query('{SERIES}') end)",
])  # fmt: skip
@pytest.mark.parametrize("waits", [1, 2, 3])
def test_a_client_that_goes_as_a_statement_ends(tmp_path: Path, statements: str, waits: int) -> None:
    """What nobody takes any more is given back."""

    class Leaving(Request):
        """One that goes when the script has waited so often."""

        left = waits

        def wait(self, event: Waitable, seconds: float) -> None:
            event.wait(seconds)
            self.left -= 1
            self.gone = self.left <= 0

    inside = Inside(tmp_path)
    inside.write("leave.lua", script("sqlite:test.db", statements, "{ max = 1 }"))
    inside.write("page.lua", script("sqlite:test.db", shown("select 1 as n"), "{ max = 1 }"))
    leave, page = inside.load(name="leave.lua"), inside.load(name="page.lua")
    answer = inside.run(leave, Leaving())
    # It may have ended before it has waited so often.
    assert answer.failure is None or answer.error == "the client has gone"
    assert inside.run(page, Request(seconds=5)).text == "1"
    leave.close()
    page.close()
    inside.close()


def test_a_server_that_hangs_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements that are given up while they connect keep nobody from tidying up other connections."""
    pytest.importorskip("psycopg")
    monkeypatch.setattr(pool.housekeeping, "_max", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        inside = Inside(tmp_path)
        answer = inside.main(f"""
            local sql = require "greenfcgi.sql"
            local hanging = sql.connect("postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x", {{ timeout = 0.1 }})
            local db = sql.connect("sqlite:test.db", {{ max = 1, timeout = 1 }})
            local rows = db:each("{SERIES}")
            con:puts(select(2, hanging:query("select 1")), "\\n")
            rows = nil
            collectgarbage()
            con:puts(tostring(select(2, db:query("select 1 as n"))[1]))
        """)
        inside.close()
    assert answer.text == "timed out after 0.1 s\nn"
