"""What a driver is: connections to one kind of database, and cursors. Each of them works in one thread at a time.

Values on the way to the database are None, bool, int, float, str (text) and bytes (a blob); those on the way to Lua the
same without str: text is UTF-8. What else a database has, a driver turns into text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

Value = bool | int | float | str | bytes | None
Row = tuple[bool | int | float | bytes | None, ...]
Parameters = Sequence[Value] | Mapping[str, Value]

#: Rows that cross to Lua at once, if they are short.
ROWS = 40
#: Seconds that connecting may take.
CONNECT_TIMEOUT = 10


class Done(NamedTuple):
    """A statement has been executed."""

    #: Rows that it has changed.
    affected: int
    #: Of the row that it has inserted, where the database says so.
    last_id: int | None = None


class Columns(NamedTuple):
    """The columns of a result: their names, and their types as the database calls them; "" where it does not say."""

    names: tuple[str, ...]
    types: tuple[str, ...]


NO_COLUMNS = Columns((), ())


class Cursor(Protocol):
    """The rows of a statement."""

    #: `NO_COLUMNS` where the statement gives no rows; then `done` says what it did.
    columns: Columns
    done: Done

    def fetch(self, number: int) -> list[Row]:
        """The next rows, at most so many; fewer at the end. Raises `SqlError`."""

    def close(self) -> None:
        """There will be no more. Never raises."""


class Connection(Protocol):
    """A connection. All of it but `interrupt` runs in a thread, and may take long."""

    #: It is of no use any more.
    is_lost: bool
    #: A statement has changed it in a way that whoever gets it next would notice.
    is_changed: bool

    @property
    def in_transaction(self) -> bool:
        """A transaction is under way."""

    @property
    def is_taken(self) -> bool:
        """Rows are under way, and nothing can be executed before they are closed."""

    def is_alive(self) -> bool:
        """After it was idle: the database is there still. Does not wait."""

    def execute(self, sql: str, parameters: Parameters) -> Done:
        """Execute a statement, and let its rows go. Raises `SqlError`, or `Busy`."""

    def query(self, sql: str, parameters: Parameters, is_long: bool) -> Cursor:
        """Execute a statement for its rows; `is_long`: others may be executed before the last one has come."""

    def declared_types(self, sql: str) -> Columns:
        """The columns of a statement with the types that their tables declare, where `query` does not say."""

    def begin(self) -> None:
        """Begin a transaction."""

    def commit(self) -> None:
        """End it. Raises `SqlError` where it has not been committed."""

    def rollback(self) -> None:
        """Undo it."""

    def reset(self) -> bool:
        """Make it as new: no transaction, no cursor. One that is changed is closed.

        Returns whether it can be used on. Never raises.
        """

    def interrupt(self) -> bool:
        """From another thread: end what is being executed. Returns whether to ask again while it has not ended.

        May wait for a second for the database.
        """

    def close(self) -> None:
        """Let it go. Never raises."""


class Settings(NamedTuple):
    """How to connect: the address as the driver takes it, and what the options say."""

    address: str
    #: PostgreSQL: statements that are executed again and again are prepared.
    prepares: bool = True
    #: As LuaSQL has it: PostgreSQL's values are text, and all rows of a result come at once.
    is_luasql: bool = False


class Driver(Protocol):
    """A module that makes connections."""

    #: Seconds within which most queries are done, and for which it is not worth while to do anything else; 0: a network
    #: lies between.
    PATIENCE: float

    @property
    def limited(self) -> Callable[[Any, float], AbstractContextManager[None]] | None:
        """limited(connection, seconds): a context in which what takes longer raises `Limited`, and so do long values.

        None: there is no such way, or none that pays.
        """

    def connect(self, settings: Settings, seconds: float) -> Connection:
        """Connect within so many seconds. Raises `SqlError`."""
