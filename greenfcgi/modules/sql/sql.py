"""What `sql.lua` and `luasql.lua` call, for one state: databases, statements, rows and transactions by their numbers.

What is under way when a run of the script ends is closed: rows that nobody has fetched, and a transaction, which is
undone. What LuaSQL has connected stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

from ...lua.bridge import Bridge, ModuleFunction, Outcome
from ..threads import Job, Jobs
from . import drivers
from .driver import NO_COLUMNS, Columns, Connection, Parameters, Settings, Value
from .pool import Key, Pool, housekeeping, pool_of
from .problem import SqlError
from .statements import Control, Execute, Hold, More, Query, Rows, next_portion

#: Sets of columns that a process remembers, by which Lua knows how to make a table of a row.
_MAX_SHAPES: Final = 1000
#: The code of an error that `sql.lua` knows.
_ENDED: Final = "ended"
#: A statement on LuaSQL's connections waits for none.
_UNLIMITED: Final = 1 << 30
#: What each of these takes of the process's descriptors: SQLite has three files.
_DESCRIPTORS: Final = 3
_IDLE_OF_LUASQL: Final = 60.0

_shapes: dict[Columns, int] = {}
_columns: dict[int, Columns] = {}
_last_shape = 0


def shape_of(columns: Columns) -> int:
    """The number of these columns."""
    global _last_shape
    found = _shapes.get(columns)
    if found is None:
        if len(_shapes) >= _MAX_SHAPES:
            _shapes.clear()
            _columns.clear()
        _last_shape = found = _last_shape + 1
        _shapes[columns] = found
        _columns[found] = columns
    return found


class _Loading(Job):
    """A driver is imported."""

    def __init__(self, kind: str, outcome: Callable[[SqlError | None], Outcome]) -> None:
        super().__init__(housekeeping)
        self._kind = kind
        self._outcome = outcome
        self._problem: SqlError | None = None

    def work(self) -> None:
        """Import it."""
        try:
            drivers.load(self._kind)
        except SqlError as problem:
            self._problem = problem

    def fail(self, problem: Exception) -> None:
        """Then here."""
        self.work()

    def outcome(self) -> Outcome:
        """What Lua gets."""
        return self._outcome(self._problem)


class _Types(Control):
    """The types of columns."""

    def result(self) -> Outcome:
        """The number of these columns."""
        return b"", shape_of(self.found) if isinstance(self.found, Columns) else 0


class Databases:
    """The databases of one state."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._jobs = Jobs(bridge)
        self.wait = self._jobs.wait
        self._has_integers = False
        self._last = 0
        self._pools: dict[int, Pool] = {}
        self._numbers: dict[Key, int] = {}
        self._holds: dict[int, Hold] = {}
        self._rows: dict[int, Rows] = {}

    def _number(self) -> int:
        self._last += 1
        return self._last

    def _failed(self, problem: SqlError) -> Outcome:
        text, code = problem.message.encode("utf-8", "backslashreplace"), problem.code.encode()
        return (None, text, code) if self._bridge.reserve(len(text) + len(code)) else False

    def open(self, url: bytes, has_integers: bool, max_connections: int, idle: float, prepares: bool) -> Outcome:
        """A database by its URL: "" and its number; or nil, the problem and its code. Connects to nothing yet."""
        self._has_integers = has_integers
        try:
            target = drivers.target(url.decode(), self._bridge.home)
        except UnicodeDecodeError:
            return self._failed(SqlError("the URL is not UTF-8"))
        except SqlError as problem:
            return self._failed(problem)
        return self._open(target, max_connections, idle, bool(prepares), False)

    def open_luasql(
        self, driver: bytes, has_integers: bool, source: bytes, user: bytes, password: bytes, host: bytes, port: bytes
    ) -> Outcome:
        """The same by what LuaSQL's `connect` takes."""
        self._has_integers = has_integers
        try:
            target = drivers.luasql_target(
                driver.decode(), self._bridge.home, *[part.decode() for part in (source, user, password, host, port)]
            )
        except UnicodeDecodeError:
            return self._failed(SqlError("the name is not UTF-8"))
        return self._open(target, _UNLIMITED, _IDLE_OF_LUASQL, True, True)

    def _open(
        self, target: drivers.Target, max_connections: int, idle: float, prepares: bool, is_luasql: bool
    ) -> Outcome:
        if self._bridge.is_ending:
            return self._failed(SqlError("the state is being closed"))
        is_memory = target.address == drivers.MEMORY
        if target.kind == "sqlite" and not is_memory:
            refused = self._bridge.check(os.fsencode(target.address), True, True)
            if refused is not None:
                return self._failed(SqlError(f"{target.address}: {os.strerror(refused)}", "SQLITE_CANTOPEN"))
        key = Key(target.kind, Settings(target.address, prepares, is_luasql), max_connections, idle)
        if is_memory:
            # It is in its connection.
            key = key._replace(max=1, idle=0)

        def opened(problem: SqlError | None) -> Outcome:
            return self._failed(problem) if problem is not None else (b"", self._opened(key, is_memory))

        if drivers.is_loaded(target.kind):
            return opened(None)
        return self._jobs.run(_Loading(target.kind, opened))

    def _opened(self, key: Key, is_private: bool) -> int:
        driver = drivers.load(key.kind)
        number = self._numbers.get(key)
        if number is None or is_private:
            number = self._number()
            self._pools[number] = Pool(driver, key) if is_private else pool_of(driver, key)
            if not is_private:
                self._numbers[key] = number
        return number

    def _used(self, pool: int, hold: int) -> tuple[Pool, Hold | None]:
        """Raises `SqlError`."""
        if self._bridge.is_ending:
            raise SqlError("the state is being closed")
        found = self._pools.get(pool)
        if found is None:
            raise SqlError("the database is closed")
        if not hold and found.is_exhausted and self._taken(found) >= found.key.max:
            raise SqlError(
                f"no connection is left: loops and transactions of this script have all {found.key.max}, "
                "expected a larger max, or db:transaction(f) around the loop"
            )
        held = self._holds.get(hold) if hold else None
        if hold and held is None:
            raise SqlError("the transaction has ended with the run of the script that began it", _ENDED)
        return found, held

    def _taken(self, pool: Pool) -> int:
        """How many of its connections this state has, which nobody else gives back."""
        loops = [rows.pool for rows in self._rows.values() if rows.hold is None and rows.cursor is not None]
        return [*loops, *(hold.pool for hold in self._holds.values())].count(pool)

    def is_exhausted(self, pool: int, hold: int) -> bytes | None:
        """ "" where rows that this state has are in the way of a statement: no connection is free, or the one of the
        transaction is taken.
        """
        held = self._holds.get(hold)
        if held is not None:
            return b"" if not held.is_busy and held.connection.is_taken else None
        found = self._pools.get(pool)
        if found is None or not found.is_exhausted:
            return None
        has_some = any(rows.pool is found and rows.hold is None for rows in self._rows.values())
        return b"" if has_some else None

    def execute(
        self,
        pool: int,
        hold: int,
        timeout: float,
        blobs: bytes,
        names: bytes,
        sql: bytes,
        *values: bytes | float | None,
    ) -> Outcome:
        """Execute a statement: "", 0, 0, how many rows it has changed, the last id; or nil, the problem, its code.

        `blobs`: positions of values that are bytes and no text, "2,5,"; `names`: of the values, in lines.
        """
        try:
            found, held = self._used(pool, hold)
            statement, parameters = _parameters(sql, blobs, names, values)
        except SqlError as problem:
            return self._failed(problem)
        return self._jobs.run(Execute(self._bridge, found, held, timeout, statement, parameters, self._has_integers))

    def query(
        self,
        pool: int,
        hold: int,
        timeout: float,
        is_long: bool,
        blobs: bytes,
        names: bytes,
        sql: bytes,
        *values: bytes | float | None,
    ) -> Outcome:
        """Execute a statement for its rows. Returns the first (see `portion`), or what `execute` does."""
        try:
            found, held = self._used(pool, hold)
            statement, parameters = _parameters(sql, blobs, names, values)
        except SqlError as problem:
            return self._failed(problem)
        rows = Rows(found, held, is_long, self._has_integers)
        query = Query(self._bridge, rows, timeout, statement, parameters, shape_of, self._keep_rows)
        return self._jobs.run(query, found.driver.PATIENCE)

    def _keep_rows(self, rows: Rows) -> int:
        number = self._number()
        self._rows[number] = rows
        return number

    def _forget_rows(self, number: int) -> None:
        self._rows.pop(number, None)

    def more(self, number: int, timeout: float) -> Outcome:
        """The next rows."""
        rows = self._rows.get(number)
        if rows is None:
            return self._failed(SqlError("the rows have been closed"))
        if rows.portions or rows.cursor is None:
            return next_portion(self._bridge, rows, number, self._forget_rows)
        more = More(self._bridge, rows, number, timeout, self._forget_rows)
        return self._jobs.run(more, rows.pool.driver.PATIENCE)

    def finish(self, number: int) -> Outcome:
        """The rest of the rows is not wanted. Does not wait."""
        rows = self._rows.pop(number, None)
        if rows is not None:
            rows.close()
        return None

    def columns(self, shape: int) -> Outcome:
        """The columns of this number, each as "LENGTH:NAMELENGTH:TYPE"."""
        columns = zip(*_columns.get(shape, NO_COLUMNS), strict=True)
        return self._bridge.text(b"".join([_counted(name) + _counted(kind) for name, kind in columns]))

    def size(self, number: int) -> Outcome:
        """How many rows a result has, where the database has said so."""
        rows = self._rows.get(number)
        return rows.done.affected if rows is not None else 0

    def declared(self, pool: int, hold: int, sql: bytes) -> Outcome:
        """LuaSQL's: "" and the number of the columns of a statement, with the types that their tables declare."""
        try:
            found, held = self._used(pool, hold)
        except SqlError as problem:
            return self._failed(problem)
        return self._jobs.run(_Types(self._bridge, found, held, 0, lambda one: one.declared_types(sql.decode())))

    def _keep_hold(self, hold: Hold) -> int:
        number = self._number()
        self._holds[number] = hold
        return number

    def begin(self, pool: int, hold: int, timeout: float, depth: int) -> Outcome:
        """Begin a transaction: "" and the number of the connection that it keeps; or within one, a savepoint."""
        if hold:
            return self._control(pool, hold, timeout, lambda found: _run(found, f"savepoint greenfcgi_{depth:d}"))
        return self._control(pool, 0, timeout, lambda found: found.begin(), self._keep_hold)

    def commit(self, pool: int, hold: int, timeout: float, depth: int) -> Outcome:
        """End it, or the savepoint."""
        if depth:
            return self._control(
                pool, hold, timeout, lambda found: _run(found, f"release savepoint greenfcgi_{depth:d}")
            )
        return self._control(pool, hold, timeout, lambda found: found.commit())

    def rollback(self, pool: int, hold: int, timeout: float, depth: int) -> Outcome:
        """Undo it, or what came after the savepoint."""
        if depth:
            return self._control(
                pool, hold, timeout, lambda found: _run(found, f"rollback to savepoint greenfcgi_{depth:d}")
            )
        return self._control(pool, hold, timeout, lambda found: found.rollback())

    def connect(self, pool: int) -> Outcome:
        """LuaSQL's: "" and the number of a connection that stays until it is released."""
        if not self._bridge.take_descriptors(_DESCRIPTORS):
            return self._failed(SqlError("too many open files"))
        self._bridge.give_descriptors(_DESCRIPTORS)

        def keep(hold: Hold) -> int:
            hold.descriptors = _DESCRIPTORS if self._bridge.take_descriptors(_DESCRIPTORS) else 0
            return self._keep_hold(hold)

        return self._control(pool, 0, 0, lambda found: None, keep, True)

    def start(self, pool: int, hold: int) -> Outcome:
        """Begin a transaction on a connection that is kept already."""
        return self._control(pool, hold, 0, _begin)

    def _control(
        self,
        pool: int,
        hold: int,
        timeout: float,
        act: Callable[[Connection], object],
        keep: Callable[[Hold], int] | None = None,
        is_permanent: bool = False,
    ) -> Outcome:
        try:
            found, held = self._used(pool, hold)
        except SqlError as problem:
            return self._failed(problem)
        return self._jobs.run(Control(self._bridge, found, held, timeout, act, keep, is_permanent))

    def release(self, hold: int) -> Outcome:
        """A connection is not needed any more. Does not wait."""
        held = self._holds.pop(hold, None)
        if held is not None:
            for number in [number for number, rows in self._rows.items() if rows.hold is held]:
                self.finish(number)
            self._bridge.give_descriptors(held.descriptors)
            held.release()
        return None

    def close(self, number: int) -> Outcome:
        """What has this number is not needed any more: a database in memory, rows, a connection. Does not wait."""
        self.finish(number)
        self.release(number)
        found = self._pools.get(number)
        if found is not None and found.key.settings.address == drivers.MEMORY:
            del self._pools[number]
            found.close()
        return None

    def end_run(self) -> None:
        """The run is over. Does not wait."""
        for number, rows in tuple(self._rows.items()):
            if rows.hold is None or not rows.hold.is_permanent:
                self.finish(number)
        for number, hold in tuple(self._holds.items()):
            if not hold.is_permanent:
                self.release(number)

    def end(self) -> None:
        """The state goes."""
        for number in tuple(self._rows):
            self.finish(number)
        for number in tuple(self._holds):
            self.release(number)
        for number in tuple(self._pools):
            self.close(number)


def _begin(connection: Connection) -> None:
    if not connection.in_transaction:
        connection.begin()


def _run(connection: Connection, sql: str) -> None:
    connection.execute(sql, ())


def _counted(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return b"%d:%b" % (len(data), data)


def _parameters(
    sql: bytes, blobs: bytes, names: bytes, values: tuple[bytes | float | None, ...]
) -> tuple[str, Parameters]:
    """The statement, and its parameters: a string is text, unless it is one of `blobs`. Raises `SqlError`."""
    try:
        statement = sql.decode()
    except UnicodeDecodeError:
        raise SqlError("the statement is not UTF-8") from None
    if "\0" in statement:
        # Libraries in C would execute what stands before it.
        raise SqlError("the statement has a zero byte")
    if not values:
        return statement, ()
    found: list[Value] = list(values)
    are_bytes = {int(position) for position in blobs.split(b",") if position}
    for at, value in enumerate(values):
        if type(value) is bytes and at + 1 not in are_bytes:
            try:
                found[at] = value.decode()
            except UnicodeDecodeError:
                what = names.split(b"\n")[at].decode(errors="replace") if names else str(at + 1)
                raise SqlError(f"parameter {what} is not UTF-8: expected text, or sql.blob(bytes)") from None
        elif type(value) is int and not -(2**63) <= value < 2**63:
            found[at] = float(value)
    if names:
        return statement, dict(zip(names.decode().split("\n"), found, strict=True))
    return statement, found


def functions(bridge: Bridge) -> Mapping[str, ModuleFunction]:
    """What the Lua side calls, for one state."""
    databases = Databases(bridge)
    bridge.at_end.append(databases.end_run)
    bridge.at_close.append(databases.end)
    named: tuple[ModuleFunction, ...] = (
        databases.open, databases.open_luasql, databases.execute, databases.query, databases.more, databases.finish,
        databases.columns, databases.size, databases.declared, databases.begin, databases.commit, databases.rollback,
        databases.connect, databases.start, databases.release, databases.close, databases.is_exhausted, databases.wait,
    )  # fmt: skip
    return {one.__name__: one for one in named}
