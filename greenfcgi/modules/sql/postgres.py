"""PostgreSQL, by psycopg.

Whole numbers and floats become numbers, booleans and `bytea` what they are; all else is text as PostgreSQL writes it,
with dates in ISO's form: decimals, so that no digit is lost, arrays, JSON, and types that somebody has defined. Strings
have no type of their own on the way there, so PostgreSQL takes them for what it needs.
"""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg import capabilities, pq
from psycopg.adapt import Loader
from psycopg.pq import TransactionStatus

from .driver import NO_COLUMNS, ROWS, Columns, Connection, Cursor, Done, Parameters, Row, Settings
from .placeholders import postgresql, supplied
from .problem import SqlError
from .session import changes_session

#: A network lies between.
PATIENCE: Final = 0.0
limited: Final = None
#: What Python puts before the system's messages.
_ERRNO: Final = re.compile(r"\[Errno -?\d+\] ")
#: What libpq takes for a timeout at least.
_MIN_TIMEOUT: Final = 2
#: Seconds for the request to end a statement, which is a connection of its own.
_CANCEL_TIMEOUT: Final = 1.0
_NUMBERS: Final = ("int2", "int4", "int8", "oid", "float4", "float8", "bool", "bytea")
#: Rows that come at a time. Older libraries have one, or all.
_CHUNK: Final = 100 if capabilities.has_stream_chunked() else 1


class _Text(Loader):
    """What PostgreSQL has written."""

    def load(self, data: Any) -> bytes:
        """The text."""
        return bytes(data)


def _adapters(*names: str) -> psycopg.adapt.AdaptersMap:
    """What makes text of all types but these."""
    adapters = psycopg.adapt.AdaptersMap(psycopg.adapters)
    known = {psycopg.adapters.types[name].oid for name in names}
    for info in psycopg.adapters.types:
        for oid in {info.oid, info.array_oid} - known - {0}:
            adapters.register_loader(oid, _Text)
    # Those that psycopg does not know.
    adapters.register_loader(0, _Text)
    return adapters


class _Context:
    """What values are on this side."""

    connection = None

    def __init__(self, *names: str) -> None:
        self.adapters = _adapters(*names)


_VALUES: Final = _Context(*_NUMBERS)
_TEXTS: Final = _Context()


def connect(settings: Settings, seconds: float) -> Connection:
    """Connect. Raises `SqlError`."""
    try:
        connection = psycopg.connect(
            settings.address, autocommit=True, context=_TEXTS if settings.is_luasql else _VALUES,
            connect_timeout=max(_MIN_TIMEOUT, round(seconds)), client_encoding="UTF8",
            prepare_threshold=5 if settings.prepares else None,
        )  # fmt: skip
    except psycopg.Error as problem:
        raise _problem(problem, True) from None
    if not (connection.info.parameter_status("DateStyle") or "").startswith("ISO"):
        connection.execute("set datestyle to iso")
    return PostgresConnection(connection, settings.is_luasql)


def _problem(problem: psycopg.Error, is_lost: bool) -> SqlError:
    diagnosis = problem.diag
    if diagnosis.message_primary:
        detail = f" ({diagnosis.message_detail})" if diagnosis.message_detail else ""
        return SqlError(f"{diagnosis.message_primary}{detail}", problem.sqlstate or "", is_lost)
    # Several addresses have been tried, and the same has been said of each.
    text = str(problem).partition("\nMultiple connection attempts")[0]
    return SqlError(_ERRNO.sub("", text), problem.sqlstate or "", is_lost)


class PostgresConnection:
    """A connection to a server."""

    def __init__(self, connection: psycopg.Connection[Any], is_luasql: bool) -> None:
        self._connection = connection
        self._is_luasql = is_luasql
        self._cursors = 0
        #: Those that psycopg would complain of when they go.
        self._open: set[_ServerCursor] = set()
        self.is_lost = self.is_changed = False

    @property
    def _status(self) -> TransactionStatus:
        return self._connection.info.transaction_status

    @property
    def in_transaction(self) -> bool:
        """A transaction is under way."""
        return self._status != TransactionStatus.IDLE

    @property
    def is_copying(self) -> bool:
        """After a statement that has failed: the server waits still, for data or for somebody to take them."""
        return self._status == TransactionStatus.ACTIVE

    @property
    def is_taken(self) -> bool:
        """No: others can be executed meanwhile."""
        return False

    def is_alive(self) -> bool:
        """The server has not closed it. What it has said without being asked is read."""
        connection = self._connection.pgconn
        if self._connection.closed or connection.status != pq.ConnStatus.OK:
            return False
        poll = select.poll()
        poll.register(connection.socket, select.POLLIN)
        if not poll.poll(0):
            return True
        try:
            connection.consume_input()
        except psycopg.Error:
            return False
        return bool(connection.status == pq.ConnStatus.OK and not poll.poll(0))

    def _failed(self, problem: psycopg.Error) -> SqlError:
        if self._connection.closed:
            self.is_lost = True
        elif self.is_copying and str(problem).startswith("COPY"):
            self.is_lost = True
            return SqlError("COPY from or to the client is not possible here", "", True)
        return _problem(problem, self.is_lost)

    def _supplied(self, sql: str, parameters: Parameters) -> tuple[str, Any]:
        self.is_changed = self.is_changed or changes_session(sql)
        return supplied(postgresql, sql, parameters)

    def execute(self, sql: str, parameters: Parameters) -> Done:
        """Execute a statement."""
        text, values = self._supplied(sql, parameters)
        try:
            cursor = self._connection.execute(text, values)
        except psycopg.Error as problem:
            raise self._failed(problem) from None
        return Done(max(cursor.rowcount, 0))

    def query(self, sql: str, parameters: Parameters, is_long: bool) -> Cursor:
        """Execute a statement for its rows; one that is long has a cursor at the server, and so a transaction."""
        text, values = self._supplied(sql, parameters)
        if self._is_luasql:
            return _Result(self, self._connection.cursor(), text, values)
        if not is_long:
            return _Stream(self, self._connection.cursor(), text, values)
        return _ServerCursor(self, text, values)

    def named_cursor(self, rows: _ServerCursor) -> psycopg.ServerCursor[Any]:
        """A cursor at the server, with a name of its own."""
        self._cursors += 1
        self._open.add(rows)
        return self._connection.cursor(f"greenfcgi_{self._cursors}")

    def forget(self, rows: _ServerCursor) -> None:
        """It is closed."""
        self._open.discard(rows)

    def failed(self, problem: psycopg.Error) -> SqlError:
        """What went wrong in a cursor."""
        return self._failed(problem)

    def declared_types(self, sql: str) -> Columns:
        """`query` says it."""
        return NO_COLUMNS

    def begin(self) -> None:
        """Begin a transaction."""
        self.execute("begin", ())

    def commit(self) -> None:
        """End it. PostgreSQL undoes one in which a statement has failed, and says so in passing only."""
        try:
            cursor = self._connection.execute("commit")
        except psycopg.Error as problem:
            raise self._failed(problem) from None
        if cursor.statusmessage == "ROLLBACK":
            raise SqlError("a statement in the transaction has failed, so it was undone", "25P02")

    def rollback(self) -> None:
        """Undo it."""
        self.execute("rollback", ())

    def reset(self) -> bool:
        """Undo a transaction, and close cursors."""
        for rows in tuple(self._open):
            rows.close()
        with suppress(SqlError):
            if self._status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                self.rollback()
            if self._status == TransactionStatus.IDLE and not self.is_lost and not self.is_changed:
                return True
        self.close()
        return False

    def interrupt(self) -> bool:
        """Ask the server to end the statement; then the connection is cut, which ends a wait for one that is gone."""
        self.is_lost = True
        with suppress(Exception):
            self._connection.cancel_safe(timeout=_CANCEL_TIMEOUT)
        with suppress(Exception), socket.socket(fileno=socket.dup(self._connection.pgconn.socket)) as own:
            own.shutdown(socket.SHUT_RDWR)
        return False

    def close(self) -> None:
        """Let it go."""
        self.is_lost = True
        with suppress(Exception):
            self._connection.close()
        for rows in tuple(self._open):
            rows.close()


def _columns(cursor: Any) -> Columns:
    description = cursor.description
    if not description:
        return NO_COLUMNS
    return Columns(tuple([column.name for column in description]), tuple([_type(column) for column in description]))


def _type(column: psycopg.Column) -> str:
    info = psycopg.adapters.types.get(column.type_code)
    if info is None:
        return ""
    return f"{info.name} ({column.display_size})" if column.display_size else info.name


class _Stream:
    """Rows as they come. The connection is taken until the last one has come, or `close`."""

    def __init__(self, owner: PostgresConnection, cursor: psycopg.Cursor[Any], text: str, values: Any) -> None:
        self._owner = owner
        self._rows: Iterator[Row] = cursor.stream(text, values, size=_CHUNK)
        self._first: list[Row] = []
        try:
            self._first += [next(self._rows)]
        except StopIteration:
            pass
        except psycopg.ProgrammingError as problem:
            # It has been executed, and gives no rows.
            is_refused = problem.sqlstate or (cursor.pgresult is not None and cursor.pgresult.error_message)
            if is_refused or owner.is_copying:
                raise owner.failed(problem) from None
        except psycopg.InternalError as problem:
            # Nor does one in which there is nothing.
            if problem.sqlstate:
                raise owner.failed(problem) from None
        except psycopg.Error as problem:
            raise owner.failed(problem) from None
        self.columns = _columns(cursor)
        self.done = Done(max(cursor.rowcount, 0))

    def fetch(self, number: int) -> list[Row]:
        """The next rows."""
        rows, self._first = self._first, []
        try:
            for row in self._rows:
                rows.append(row)
                if len(rows) >= number:
                    break
        except psycopg.Error as problem:
            raise self._owner.failed(problem) from None
        return rows

    def close(self) -> None:
        """The rest is not wanted: psycopg asks the server to stop."""
        with suppress(psycopg.Error):
            self._rows.close()  # type: ignore[attr-defined]


class _Result:
    """Rows that are all here."""

    def __init__(self, owner: PostgresConnection, cursor: psycopg.Cursor[Any], text: str, values: Any) -> None:
        self._cursor = cursor
        try:
            cursor.execute(text, values)
        except psycopg.Error as problem:
            raise owner.failed(problem) from None
        self.columns = _columns(cursor)
        self.done = Done(max(cursor.rowcount, 0))

    def fetch(self, number: int) -> list[Row]:
        """The next rows."""
        return self._cursor.fetchmany(number)

    def close(self) -> None:
        """They are let go with it."""


class _ServerCursor:
    """A cursor at the server: what is not fetched does not come, and others may be executed meanwhile."""

    def __init__(self, owner: PostgresConnection, text: str, values: Any) -> None:
        self._owner = owner
        #: The transaction is its own.
        self._has_begun = not owner.in_transaction
        if self._has_begun:
            owner.begin()
        self._cursor = owner.named_cursor(self)
        self._cursor.itersize = ROWS
        try:
            self._cursor.execute(text, values)
            self.columns = _columns(self._cursor)
        except psycopg.Error as problem:
            found = owner.failed(problem)
            self.close()
            raise found from None
        self.done = Done(0)

    def fetch(self, number: int) -> list[Row]:
        """The next rows."""
        try:
            return self._cursor.fetchmany(number)
        except psycopg.Error as problem:
            raise self._owner.failed(problem) from None

    def close(self) -> None:
        """Close it, and end its transaction."""
        self._owner.forget(self)
        with suppress(psycopg.Error):
            self._cursor.close()
        if self._has_begun and not self._owner.is_lost:
            with suppress(SqlError):
                self._owner.execute("commit", ())
