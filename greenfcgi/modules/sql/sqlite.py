"""SQLite, by Python's own sqlite3.

A database in a file is opened with a write-ahead log, so that readers and a writer do not wait for each other. What is
locked is tried again here, and not by SQLite, whose wait nothing ends. Texts are text, `bytes` become blobs; booleans
are numbers. Foreign keys, durability and the rest are as SQLite has them when it is built.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from time import monotonic
from typing import Any, Final

from .driver import NO_COLUMNS, Columns, Connection, Cursor, Done, Parameters, Row, Settings
from .problem import Busy, Limited, SqlError
from .session import changes_session

MEMORY: Final = ":memory:"
#: A look into the file by its key takes 5 us, a hundred rows 60; to wait by way of the event loop adds some 30.
PATIENCE: Final = 0.0002
#: Permissions of a database that is created, less the umask.
_MODE: Final = 0o640
_NAME: Final = re.compile(r"[:@$]\w+")
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
#: Seconds for which a connection has the file that it had.
_FRESH: Final = 1.0
#: Steps of SQLite's machine, some 20 to 40 us, between two looks at the clock.
_STEPS: Final = 1000
#: Bytes of a value that is read where everybody waits.
_MAX_VALUE_SIZE: Final = 1 << 16
#: The codes of what `limited` ends.
_LIMITED: Final = ("SQLITE_INTERRUPT", "SQLITE_TOOBIG")
#: Sets of columns that are remembered.
_MAX_KEPT: Final = 256
#: Which another try does not end: the transaction has read what has changed since.
_BUSY_FOR_EVER: Final = 517  # SQLITE_BUSY_SNAPSHOT


def connect(settings: Settings, seconds: float) -> Connection:
    """Open the database in a file, or one in memory. Raises `SqlError`, or `Busy`."""
    return SqliteConnection(settings.address, settings.is_luasql)


@contextmanager
def limited(connection: SqliteConnection, seconds: float) -> Iterator[None]:
    """What takes longer within raises `Limited`; so does a value of more than 64 KB, which SQLite reads in one step."""
    end = monotonic() + seconds
    max_size = connection.limit(lambda: monotonic() > end, _STEPS, _MAX_VALUE_SIZE)
    try:
        yield
    except SqlError as problem:
        if problem.code in _LIMITED:
            raise Limited(problem.message, problem.code) from None
        raise
    finally:
        connection.limit(None, 0, max_size)


def _problem(problem: Exception) -> SqlError:
    code = getattr(problem, "sqlite_errorcode", 0)
    name = getattr(problem, "sqlite_errorname", "")
    kind = Busy if code & 0xFF in _BUSY and code != _BUSY_FOR_EVER else SqlError
    if isinstance(problem, (sqlite3.ProgrammingError, OverflowError, UnicodeError)) and not code:
        return SqlError(_worded(str(problem)))
    return kind(str(problem), name)


def _worded(text: str) -> str:
    """What Python says without SQLite, in words that fit here."""
    if text.startswith("Incorrect number of bindings"):
        numbers = [word for word in text.replace(",", " ").split() if word.isdigit()]
        return f"the statement has {numbers[0]} parameters, got {numbers[1]}"
    if text.startswith("You did not supply a value for binding"):
        name = _NAME.search(text)
        return f"no value for the parameter {name[0] if name else ''}"
    if text.startswith("You can only execute one statement"):
        return "found more than one statement, expected one"
    if "too large to convert" in text:
        return "a whole number of more than 64 bits"
    return text


def _open(path: str) -> sqlite3.Connection:
    if path != MEMORY:
        try:
            # So that it gets these permissions. One that is there is not touched: to close it would give up its locks.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
        except FileExistsError:
            pass
        except OSError as problem:
            raise SqlError(f"{path}: {problem.strerror}", "SQLITE_CANTOPEN") from None
    try:
        return sqlite3.connect(path, 0, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as problem:
        raise SqlError(f"{path}: {problem}", "SQLITE_CANTOPEN") from None


class SqliteConnection:
    """A database that is open."""

    def __init__(self, path: str, is_luasql: bool) -> None:
        self.is_lost = self.is_changed = False
        #: LuaSQL's are made for a script, which expects a new one; else, what a pragma says is for all.
        self._is_noted = is_luasql
        self._path = path
        self._db = _open(path)
        self._db.text_factory = bytes
        self._cursors: set[SqliteCursor] = set()
        self._file = self._identity()
        self._checked = monotonic()
        try:
            self._db.execute("pragma journal_mode = wal").fetchone()
        except Exception as problem:
            found = _problem(problem)
            # Read only, it stays as it is.
            if not found.code.startswith("SQLITE_READONLY"):
                self._db.close()
                found.message = f"{path}: {found.message}"
                raise found from None

    def _identity(self) -> tuple[int, int] | None:
        """Which file it is."""
        if self._path == MEMORY:
            return None
        with suppress(OSError):
            found = os.stat(self._path)
            return found.st_dev, found.st_ino
        return None

    @property
    def in_transaction(self) -> bool:
        """A transaction is under way."""
        return self._db.in_transaction

    @property
    def is_taken(self) -> bool:
        """No: others can be executed meanwhile."""
        return False

    def is_alive(self) -> bool:
        """The file is the same still: it has not been replaced."""
        now = monotonic()
        if now - self._checked < _FRESH:
            return True
        if self._identity() != self._file:
            return False
        self._checked = now
        return True

    def execute(self, sql: str, parameters: Parameters) -> Done:
        """Execute a statement. Raises `SqlError`, or `Busy`."""
        try:
            cursor = self._db.execute(sql, parameters)
            if cursor.description is not None:
                for _ in cursor:
                    pass
            return Done(max(cursor.rowcount, 0), cursor.lastrowid or None)
        except Exception as problem:
            raise _problem(problem) from None

    def query(self, sql: str, parameters: Parameters, is_long: bool) -> Cursor:
        """Execute a statement for its rows."""
        self.is_changed = self.is_changed or (self._is_noted and changes_session(sql))
        try:
            return SqliteCursor(self._db.execute(sql, parameters), self._cursors)
        except Exception as problem:
            raise _problem(problem) from None

    def limit(self, ask: Callable[[], bool] | None, steps: int, max_size: int) -> int:
        """Each time after so many steps of SQLite's machine, ask whether to end; and allow values of so many bytes.

        Returns how many were allowed before.
        """
        self._db.set_progress_handler(ask, steps)
        return self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max_size)

    def declared_types(self, sql: str) -> Columns:
        """The columns of a SELECT with their types, which SQLite tells of a view only."""
        view = "temp.greenfcgi_types"
        try:
            self._db.execute(f"create view {view} as {sql.rstrip().rstrip(';')}")
            try:
                found = self._db.execute("pragma temp.table_info(greenfcgi_types)").fetchall()
            finally:
                self._db.execute(f"drop view {view}")
        except Exception as problem:
            raise _problem(problem) from None
        return Columns(tuple([row[1].decode() for row in found]), tuple([row[2].decode() for row in found]))

    def begin(self) -> None:
        """Begin one that writes: one that begins to only later may find that others have written meanwhile."""
        self.execute("begin immediate", ())

    def commit(self) -> None:
        """End the transaction."""
        self.execute("commit", ())

    def rollback(self) -> None:
        """Undo the transaction, if SQLite has not done so itself."""
        if self._db.in_transaction:
            self.execute("rollback", ())

    def reset(self) -> bool:
        """Close cursors, and undo a transaction."""
        for cursor in tuple(self._cursors):
            cursor.close()
        if not self.is_changed:
            with suppress(SqlError):
                self.rollback()
                return True
        self.close()
        return False

    def interrupt(self) -> bool:
        """End what is being executed; it may be about to begin only."""
        with suppress(sqlite3.Error):
            self._db.interrupt()
        return True

    def close(self) -> None:
        """Close it. The last one writes the log back into the database."""
        self.is_lost = True
        with suppress(sqlite3.Error):
            self._db.close()


class SqliteCursor:
    """Rows that are computed as they are fetched."""

    done = Done(0)

    def __init__(self, cursor: sqlite3.Cursor, open_cursors: set[SqliteCursor]) -> None:
        self._cursor = cursor
        self._open = open_cursors
        description: Any = cursor.description
        if description is None:
            self.columns = NO_COLUMNS
            self.done = Done(max(cursor.rowcount, 0), cursor.lastrowid or None)
        else:
            self.columns = _columns(tuple([column[0] for column in description]))
            open_cursors.add(self)

    def fetch(self, number: int) -> list[Row]:
        """The next rows."""
        try:
            rows = self._cursor.fetchmany(number)
            if len(rows) < number:
                # It has let go of everything by itself.
                self._open.discard(self)
            return rows
        except Exception as problem:
            raise _problem(problem) from None

    def close(self) -> None:
        """Let go of what it has locked."""
        if self in self._open:
            self._open.discard(self)
            with suppress(sqlite3.Error):
                self._cursor.close()


@lru_cache(_MAX_KEPT)
def _columns(names: tuple[str, ...]) -> Columns:
    return Columns(names, ("",) * len(names))
