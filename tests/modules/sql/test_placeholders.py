"""Parameters in statements, as drivers want them: what is one, and what only looks like it."""

from __future__ import annotations

import pytest

from greenfcgi.modules.sql.placeholders import mysql, postgresql
from greenfcgi.modules.sql.problem import SqlError
from greenfcgi.modules.sql.session import changes_session


@pytest.mark.parametrize(
    ("sql", "text", "count"),
    [
        ("select ?, ?", "select %s, %s", 2),
        ("select '?', \"?\", ?", "select '?', \"?\", %s", 1),
        ("select 'it''s ?' || ?", "select 'it''s ?' || %s", 1),
        ("select 10 % 3, ? like 'a%'", "select 10 %% 3, %s like 'a%%'", 1),
        ("select j ?? 'a', j ??| array['b'] where x = ?", "select j ? 'a', j ?| array['b'] where x = %s", 1),
        ("select ? -- what? it's\n, ?", "select %s -- what? it's\n, %s", 2),
        ("select /* ? /* ? */ ? */ ?", "select /* ? /* ? */ ? */ %s", 1),
        ("select $$ ? $$, $a$ ? $$ ? $a$, ?", "select $$ ? $$, $a$ ? $$ ? $a$, %s", 1),
        (r"select e'\'?', ?, '\', ?", r"select e'\'?', %s, '\', %s", 2),
        ("select ?::int, a[1:2], a[b:c], 'x'::text", "select %s::int, a[1:2], a[b:c], 'x'::text", 1),
        ("select /* ? ", "select /* ? ", 0),
    ],
)
def test_postgresql(sql: str, text: str, count: int) -> None:
    """Quotes, comments that nest, dollars, casts and operators are PostgreSQL's."""
    assert postgresql(sql)[:2] == (text, count)


@pytest.mark.parametrize(
    ("sql", "text", "count"),
    [
        (r"select '\'?', ?", r"select '\'?', %s", 1),
        (r'select "\"?", "it""s ?", ?', r'select "\"?", "it""s ?", %s', 1),
        ("select `a?`, ? # what?\n, ?", "select `a?`, %s # what?\n, %s", 2),
        ("select 1--?", "select 1--%s", 1),
        ("select /* ? /* ? */ ?", "select /* ? /* ? */ %s", 1),
        ("set @a := ?", "set @a := %s", 1),
    ],
)
def test_mysql(sql: str, text: str, count: int) -> None:
    """Backslashes, backticks and comments are MySQL's."""
    assert mysql(sql)[:2] == (text, count)


def test_names() -> None:
    """Each can stand more than once; both forms in one statement are a mistake."""
    found = postgresql("select :a, ':b', :c_1 where x = :a")
    assert found.text == "select %(a)s, ':b', %(c_1)s where x = %(a)s"
    assert found.names == {"a", "c_1"}
    with pytest.raises(SqlError):
        postgresql("select ?, :a")


@pytest.mark.parametrize("sql", [
    "set search_path to x", "SET autocommit=0", "-- a\n/* b */ listen x", "lock tables t write", "use other",
    "create temp table t (a int)", "create temporary table t (a int)", "pragma foreign_keys = on",
    "prepare p as select 1",
])  # fmt: skip
def test_what_changes_a_connection(sql: str) -> None:
    assert changes_session(sql)


@pytest.mark.parametrize("sql", [
    "select 1", "set local x to y", "set transaction read only", "update t set a = 1", "create table temp (a int)",
    "settle", "insert into t values ('set a')", "with a as (select 1) select * from a", " " * 100_000,
])  # fmt: skip
def test_what_changes_none(sql: str) -> None:
    assert not changes_session(sql)
