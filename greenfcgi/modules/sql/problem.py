"""What goes wrong with a database, in its own words."""

from __future__ import annotations


class SqlError(Exception):
    """A statement or a connection has failed.

    `message` is one line, for the script. `code` is the database's own: SQLSTATE (PostgreSQL), the name of SQLite's
    result code, MySQL's number as text; "" where there is none. `is_lost`: the connection is of no use any more.
    """

    def __init__(self, message: str, code: str = "", is_lost: bool = False) -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.code = code
        self.is_lost = is_lost


class Limited(SqlError):
    """The statement did not keep the limits of `Driver.limited`: without them, it can be executed again."""


class Busy(SqlError):
    """Somebody else holds what the statement needs, and nothing has been done: it can be tried again."""
