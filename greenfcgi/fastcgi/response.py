"""The replies that the server makes itself: a status with a small page, which says nothing of how it works inside."""

from __future__ import annotations

import os

_REASONS = {
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


#: A reply, as far as it has not been sent yet: status, header block, body. The header block is lines that end with
#: "\r\n", the last one blank; with status 0 it is b"", since it has been sent before.
Reply = tuple[int, bytes, bytes]


def refusal(status: int, detail: str = "", head_only: bool = False) -> Reply:
    """A page that says only its status; `detail` is shown below it (`scripts.show_errors`).

    Always a full reply: a bare END_REQUEST is a 502 in nginx and Caddy and an empty 200 in Apache. Status stands
    last, as in every reply: HAProxy takes a Location behind it for a redirect of its own.
    """
    title = f"{status} {_REASONS[status]}"
    page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head>\n<body><h1>{title}</h1>\n"
    if detail:
        page += f"<pre>{_text(detail)}</pre>\n"
    body = (page + "</body></html>\n").encode("utf-8", "replace")
    # Seconds.
    retry = "Retry-After: 1\r\n" if status == 503 else ""
    head = f"Content-Type: text/html; charset=utf-8\r\n{retry}Status: {title}\r\n\r\n".encode()
    return status, head, b"" if head_only else body


def location(path: str, query: bytes) -> str:
    """A path of the same host with a query, b"" for none, for the header Location."""
    # Here: it takes 0.2 MB, and few servers redirect.
    from urllib.parse import quote_from_bytes

    # Two slashes at its beginning would be another host.
    found = "/" + quote_from_bytes(os.fsencode(path.lstrip("/")))
    if query and not any(byte <= 32 or byte == 127 for byte in query):
        found += "?" + query.decode("latin-1")
    return found


def redirection(path: str, query: bytes) -> Reply:
    """To another path of the same host, with the same query: 301."""
    target = location(path, query).encode("latin-1")
    return 301, b"Location: %b\r\nContent-Length: 0\r\nStatus: 301 Moved Permanently\r\n\r\n" % target, b""


def _text(detail: str) -> str:
    return detail.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
