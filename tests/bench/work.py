"""What is asked of the servers: each piece of work with the reply it must give, and the rows of the table.

The expected bodies are built here in Python, apart from the scripts, so that a mistake shared by two scripts
shows too. To add a work: a script for each peer in `scripts/`, its value here, and its rows in `ROWS`.
"""

import html
from typing import Literal, NamedTuple

Connection = Literal["new", "kept"]


class Work(NamedTuple):
    """A script's name without suffix, and the content type and body that it must answer with.

    It is asked for with this query string, by POST with `upload` as the request's body where there is one.
    """

    name: str
    content_type: str
    body: bytes
    query: str = ""
    upload: bytes = b""


class Row(NamedTuple):
    """One work over one kind of connection between nginx and the server.

    `target` is the highest ratio to the reference that greenfcgi may show, `rival` the highest to php-fpm at the same
    work; None where there is none. `short` rows are also part of the short form.
    """

    work: Work
    connection: Connection
    target: float | None = None
    rival: float | None = None
    short: bool = False

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


def _rows_page() -> bytes:
    # greenfcgi.template writes a shorter entity than htmlspecialchars.
    return _table_page().replace(b"<title>Orders<", b"<title>Orders &amp; more<")


def _stock_page() -> bytes:
    lines = [
        "<!DOCTYPE html>",
        "<title>Stock</title>",
        "<table>",
        "<tr><th>No.</th><th>Name</th><th>Left</th><th>Price</th></tr>",
    ]
    for number in range(1, 51):
        price = f"{number * 37 % 100}.{number * 59 % 100:02}"
        lines.append(f"<tr><td>{number}</td><td>Part {number}</td><td>{number * 7}</td><td>{price}</td></tr>")
    return "\n".join([*lines, "</table>", ""]).encode()


HELLO = Work("hello", "text/html", b"Hello, world!\n")
#: 50 rows of concatenation and string.format.
PAGE = Work("page", "text/html; charset=utf-8", _stock_page())
#: The same with each text escaped, which is a harder page.
TABLE = Work("table", "text/html; charset=utf-8", _table_page())
#: The same by greenfcgi.template, with each cell escaped.
ROWS_PAGE = Work("rows", "text/html; charset=utf-8", _rows_page())
BODY = Work("body", "text/plain; charset=utf-8", ((b"0123456789" * 10)[:99] + b"\n") * 1024)
#: 2^20 bytes, which the script reads whole; their end is unlike the rest.
UPLOAD = Work(
    "upload",
    "text/plain; charset=utf-8",
    b"1048576 bytes, the last of them s the end.\n",
    upload=b"0123456789abcdef" * 65535 + b"here is the end.",
)
#: A hello that takes 100 ms in which the script does nothing.
WAIT = Work("wait", "text/html", HELLO.body, query="0.1")

ROWS = (
    Row(HELLO, "new", target=0.57, short=True),
    Row(HELLO, "kept", target=0.42, short=True),
    Row(PAGE, "new", target=0.90, short=True),
    Row(TABLE, "new"),
    Row(ROWS_PAGE, "new", rival=1.0),
    Row(BODY, "kept", target=1.6, short=True),
    Row(UPLOAD, "new", rival=1.0),
)

#: The server that the targets are for.
CANDIDATE_PEER = "greenfcgi"

#: What the system calls cost: a C program with a canned reply.
FLOOR_PEER = "floor"

#: What every ratio is taken against, measured again in every round of every row.
REFERENCE_PEER = "php-fpm"
REFERENCE_ROW = ROWS[0]
