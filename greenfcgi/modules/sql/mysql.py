"""MySQL and MariaDB, by PyMySQL.

Whole numbers and floats become numbers; all else is text as the server writes it, and blobs are bytes: decimals, so
that no digit is lost, dates in ISO's form, JSON. Booleans are numbers.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.converters import encoders
from pymysql.cursors import SSCursor

from .driver import CONNECT_TIMEOUT, NO_COLUMNS, Columns, Connection, Cursor, Done, Parameters, Row, Settings
from .placeholders import mysql, supplied
from .problem import SqlError
from .session import changes_session

_PORT: Final = 3306
#: A network lies between.
PATIENCE: Final = 0.0
limited: Final = None
#: Seconds for the request to end a statement, which is a connection of its own.
_CANCEL_TIMEOUT: Final = 1
#: What the server has told by then, or the wire: the connection is gone.
_LOST: Final = (0, 1053, 1077, 1079, 1080, 1927, 2006, 2013, 2014, 2055, 4031)
_IN_TRANSACTION: Final = 1
_INTEGERS: Final = (
    FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG, FIELD_TYPE.INT24, FIELD_TYPE.YEAR,
)  # fmt: skip
_CONVERTERS: Final = {
    **encoders, **dict.fromkeys(_INTEGERS, int), FIELD_TYPE.FLOAT: float, FIELD_TYPE.DOUBLE: float,
}  # fmt: skip
_TYPES: Final = {
    number: name.lower() for name, number in vars(FIELD_TYPE).items() if name.isupper() and isinstance(number, int)
}  # fmt: skip
_OPTIONS: Final = ("unix_socket", "charset", "ssl_ca", "ssl_cert", "ssl_key")


def _arguments(address: str) -> dict[str, Any]:
    """What PyMySQL takes, of a URL. Raises `SqlError`."""
    url = urlsplit(address)
    try:
        port = url.port or _PORT
    except ValueError:
        raise SqlError("the port in the URL is no number up to 65535") from None
    given = dict(parse_qsl(url.query))
    for name in given:
        if name not in _OPTIONS:
            raise SqlError(f"unknown parameter {name} in the URL; known are {', '.join(_OPTIONS)}")
    if "ssl_ca" in given:
        given |= {"ssl_verify_cert": True, "ssl_verify_identity": True}  # type: ignore[dict-item]
    return {
        "host": url.hostname or "localhost", "port": port, "user": unquote(url.username or ""),
        "password": unquote(url.password or ""), "database": unquote(url.path[1:]) or None,
        "charset": "utf8mb4", **given,
    }  # fmt: skip


def connect(settings: Settings, seconds: float) -> Connection:
    """Connect. Raises `SqlError`."""
    arguments = _arguments(settings.address)
    timeout = max(1, min(CONNECT_TIMEOUT, round(seconds)))
    return MysqlConnection(_connected(arguments, timeout), arguments)


def _connected(arguments: dict[str, Any], seconds: int) -> Any:
    try:
        return pymysql.connect(
            **arguments, autocommit=True, connect_timeout=seconds, conv=_CONVERTERS, use_unicode=False
        )
    except pymysql.MySQLError as problem:
        raise _problem(problem, True) from None
    except (OSError, LookupError) as problem:
        raise SqlError(getattr(problem, "strerror", "") or f"cannot connect: {problem}", "", True) from None


def _problem(problem: pymysql.MySQLError, is_lost: bool) -> SqlError:
    number, text = problem.args if len(problem.args) == 2 else (0, str(problem))
    cause = getattr(problem, "original_exception", None)
    if isinstance(cause, OSError):
        # PyMySQL shows the exception.
        text = f"{str(text).partition(' ([Errno')[0].partition(' (timed')[0]}: {cause.strerror or 'timed out'}"
    return SqlError(str(text) or "the connection is lost", str(number) if number else "", is_lost)


class MysqlConnection:
    """A connection to a server."""

    def __init__(self, connection: Any, arguments: dict[str, Any]) -> None:
        self._connection = connection
        self._arguments = arguments
        #: Whose rows are under way: there is room for nothing else.
        self._rows: _Rows | None = None
        self.is_lost = self.is_changed = False

    @property
    def in_transaction(self) -> bool:
        """A transaction is under way."""
        return bool(self._connection.server_status & _IN_TRANSACTION)

    @property
    def is_taken(self) -> bool:
        """Rows are under way."""
        return self._rows is not None

    def is_alive(self) -> bool:
        """The server has closed it where there is something to read."""
        wire = self._connection._sock
        if wire is None:
            return False
        poll = select.poll()
        poll.register(wire, select.POLLIN)
        return not poll.poll(0)

    def failed(self, problem: Exception) -> SqlError:
        """What went wrong."""
        if not isinstance(problem, pymysql.MySQLError):
            # Bytes that are no answer, in the midst of one.
            self.close()
            return SqlError("the server's answer cannot be read", "", True)
        if problem.args and problem.args[0] in _LOST:
            self.close()
        return _problem(problem, self.is_lost)

    def _cursor(self, kind: type, sql: str, parameters: Parameters) -> Any:
        if self._rows is not None:
            raise SqlError("the rows of db:each are under way, and MySQL has one statement at a time")
        self.is_changed = self.is_changed or changes_session(sql)
        text, values = supplied(mysql, sql, parameters)
        cursor = self._connection.cursor(kind)
        try:
            cursor.execute(text, values)
        except Exception as problem:
            raise self.failed(problem) from None
        return cursor

    def execute(self, sql: str, parameters: Parameters) -> Done:
        """Execute a statement."""
        cursor = self._cursor(SSCursor, sql, parameters)
        done = Done(cursor.rowcount if cursor.description is None else 0, cursor.lastrowid or None)
        try:
            cursor.close()
        except Exception as problem:
            raise self.failed(problem) from None
        return done

    def query(self, sql: str, parameters: Parameters, is_long: bool) -> Cursor:
        """Execute a statement for its rows, which come as they are fetched."""
        cursor = self._cursor(SSCursor, sql, parameters)
        self._rows = _Rows(self, cursor)
        return self._rows

    def rows_ended(self) -> None:
        """There is room again."""
        self._rows = None

    def declared_types(self, sql: str) -> Columns:
        """`query` says it."""
        return NO_COLUMNS

    def begin(self) -> None:
        """Begin a transaction."""
        self.execute("begin", ())

    def commit(self) -> None:
        """End it."""
        self.execute("commit", ())

    def rollback(self) -> None:
        """Undo it."""
        self.execute("rollback", ())

    def reset(self) -> bool:
        """Undo a transaction. Rows that are under way would all have to be read."""
        with suppress(SqlError):
            if not self.is_lost and not self.is_changed and self._rows is None:
                if self.in_transaction:
                    self.rollback()
                return True
        self.close()
        return False

    def interrupt(self) -> bool:
        """Ask the server to end the statement; then the connection is cut, which ends a wait for one that is gone."""
        self.is_lost = True
        with suppress(Exception):
            other = _connected(self._arguments, _CANCEL_TIMEOUT)
            try:
                with other.cursor() as cursor:
                    cursor.execute(f"kill query {self._connection.thread_id():d}")
            finally:
                other.close()
        with suppress(Exception):
            self._connection._sock.shutdown(socket.SHUT_RDWR)
        return False

    def close(self) -> None:
        """Let it go, and do not read what is under way."""
        self.is_lost = True
        rows, self._rows = self._rows, None
        if rows is not None:
            rows.forget()
        result = self._connection._result
        if result is not None and result.unbuffered_active:
            # When they go, PyMySQL would read all that is to come.
            result.unbuffered_active = False
            result.connection = None
            with suppress(Exception):
                self._connection._force_close()
        else:
            with suppress(Exception):
                self._connection.close()


class _Rows:
    """Rows as they come. The connection is taken until the last one has come."""

    def __init__(self, owner: MysqlConnection, cursor: Any) -> None:
        self._owner = owner
        self._cursor = cursor
        description = cursor.description or ()
        self.columns = NO_COLUMNS
        if description:
            self.columns = Columns(
                tuple([_name(column[0]) for column in description]),
                tuple([_TYPES.get(column[1], "") for column in description]),
            )
        self.done = Done(0 if description else cursor.rowcount, cursor.lastrowid or None)
        if not description:
            self._end()

    def _end(self) -> None:
        self._cursor.close()
        self._owner.rows_ended()

    def forget(self) -> None:
        """The connection is closed."""
        self._cursor._result = self._cursor.connection = None

    def fetch(self, number: int) -> list[Row]:
        """The next rows."""
        try:
            return self._cursor.fetchmany(number) or []
        except Exception as problem:
            raise self._owner.failed(problem) from None

    def close(self) -> None:
        """Where there may be more, all of them have to be read, or the connection is let go: outside transactions."""
        result = self._cursor._result
        if result is not None and result.unbuffered_active and not self._owner.in_transaction:
            self._owner.close()
            return
        try:
            self._end()
        except Exception:
            # In the midst of them.
            self._owner.close()


def _name(name: str | bytes) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name
