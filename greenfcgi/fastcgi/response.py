"""The replies that the server gives itself: a status, a small page, nothing of its inside."""

from __future__ import annotations

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


#: A response as far as it has not been sent yet: status, header block, body. Status 0: the headers have gone before.
Reply = tuple[int, bytes, bytes]


def refusal(status: int, detail: str = "", head_only: bool = False) -> Reply:
    """A response that says only its status; `detail` is shown below it (`scripts.show_errors`).

    Always a full response: a bare END_REQUEST is a 502 in nginx and Caddy and an empty 200 in Apache. Status stands
    last, as in every reply: HAProxy takes a Location behind it for a redirect of its own.
    """
    title = f"{status} {_REASONS[status]}"
    page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head>\n<body><h1>{title}</h1>\n"
    if detail:
        page += f"<pre>{_text(detail)}</pre>\n"
    body = (page + "</body></html>\n").encode("utf-8", "replace")
    # Busy now, not for long.
    more = "Retry-After: 1\r\n" if status == 503 else ""
    head = f"Content-Type: text/html; charset=utf-8\r\n{more}Status: {title}\r\n\r\n".encode()
    return status, head, b"" if head_only else body


def _text(detail: str) -> str:
    return detail.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
