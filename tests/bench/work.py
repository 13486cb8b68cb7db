"""What is asked of the servers: each piece of work with the reply it must give, and the rows of the table.

The expected bodies are built here in Python, apart from the scripts, so that a mistake shared by two scripts
shows too. To add a work: a script for each peer in `scripts/`, an entry in `WORKS`, and its rows in `ROWS`.
"""

import html
from typing import Literal, NamedTuple

Connection = Literal["new", "kept"]


class Work(NamedTuple):
    """A script's name without suffix, and the content type and body that it must answer with."""

    name: str
    content_type: str
    body: bytes


class Row(NamedTuple):
    """One work over one kind of connection between nginx and the server.

    `target` is the highest ratio to the reference that greenfcgi may show; None where there is none.
    `short` rows are also part of the short form.
    """

    work: Work
    connection: Connection
    target: float | None = None
    short: bool = True

    @property
    def name(self) -> str:
        return f"{self.work.name}/{self.connection}"


def _table_page() -> bytes:
    lines = [
        "<!DOCTYPE html>",
        "<title>Orders</title>",
        "<table>",
        "<tr><th>No.</th><th>Customer</th><th>Price</th></tr>",
    ]
    for number in range(1, 51):
        customer = html.escape(f'Smith & Sons <no. {number}>, called "Smith\'s"').replace("&#x27;", "&#039;")
        price = f"{number * 37 % 100}.{number * 59 % 100:02}"
        lines.append(f"<tr><td>{number}</td><td>{customer}</td><td>{price}</td></tr>")
    return "\n".join([*lines, "</table>", ""]).encode()


HELLO = Work("hello", "text/html", b"Hello, world!\n")
TABLE = Work("table", "text/html; charset=utf-8", _table_page())
BODY = Work("body", "text/plain; charset=utf-8", ((b"0123456789" * 10)[:99] + b"\n") * 1024)

WORKS = (HELLO, TABLE, BODY)

ROWS = (
    Row(HELLO, "new", target=0.75),
    Row(HELLO, "kept", target=0.55),
    Row(TABLE, "new"),
    Row(TABLE, "kept", short=False),
    Row(BODY, "new", short=False),
    Row(BODY, "kept"),
)

#: The server that the targets are for.
CANDIDATE_PEER = "greenfcgi"

#: What every ratio is taken against, measured again in every round of every row.
REFERENCE_PEER = "php-fpm"
REFERENCE_ROW = ROWS[0]
