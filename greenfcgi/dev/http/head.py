"""The head of an HTTP/1 request: bytes in, a `Head` or a `Refused` out. Does no I/O.

As RFC 9112 has it, and strictly where a mistake could make two readers see different requests: how long the body is,
what a line is, which host is meant. What is doubtful is refused, as h11 and nginx do it, never corrected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

#: Bytes of a request line and of a whole head, and the number of headers: about what nginx and Apache take.
MAX_LINE = 8192
MAX_HEAD = 65536
MAX_HEADERS = 100

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%b) ([!-~\x80-\xff]+) HTTP/(\d)\.(\d)" % _TOKEN)
_HEADER = re.compile(rb"(%b):[ \t]*([^\0\r\n]*?)[ \t]*" % _TOKEN)
_ABSOLUTE = re.compile(r"http://([^/?#]+)(.*)", re.IGNORECASE | re.DOTALL)
#: A name, a number, or a number in brackets, and a port.
_HOST = re.compile(r"(?:[0-9A-Za-z._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
#: Up to 10^18 - 1 bytes.
_LENGTH = re.compile("[0-9]{1,18}")


class Refused(ValueError):
    """A request that is not read. `status` is "400 Bad Request" or the like; the text says why."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Head(NamedTuple):
    """A request's head. Text is Latin-1, as in WSGI; headers are as they came, in their order.

    `target` begins with a slash. `length` is the body's in bytes, None where it comes in chunks or there is none.
    """

    method: str
    target: str
    version: str
    headers: Sequence[tuple[str, str]]
    length: int | None
    is_chunked: bool
    is_kept: bool
    expects_continue: bool


def read(lines: Sequence[bytes]) -> Head:
    """The head that these lines make, which have no line breaks: the request line, and a header each.

    Raises `Refused`.
    """
    found = _REQUEST_LINE.fullmatch(lines[0])
    if not found:
        raise _bad(f"found {_quoted(lines[0])}, expected a method, a target and HTTP/1.1")
    method, target = found[1].decode(), found[2].decode("latin-1")
    if found[3] != b"1":
        raise Refused("505 HTTP Version Not Supported", f"found HTTP/{found[3].decode()}, expected HTTP/1.1")
    is_new = found[4] != b"0"
    headers = [_header(line) for line in lines[1:]]
    named: dict[str, list[str]] = {}
    for name, value in headers:
        named.setdefault(name.lower(), []).append(value)
    host, target = _target(target)
    _check_host(named.get("host", []), is_new)
    if host:
        # That of the target is meant (RFC 9112, section 3.2.2).
        headers = [("Host", host), *(pair for pair in headers if pair[0].lower() != "host")]
    is_chunked, length = _body(named, is_new)
    options = {option.strip().lower() for value in named.get("connection", []) for option in value.split(",")}
    expected = [value.lower() for value in named.get("expect", [])] if is_new else []
    if expected and expected != ["100-continue"]:
        raise Refused("417 Expectation Failed", f"found Expect: {expected[0]!r}, expected 100-continue")
    # Replies to HTTP/1.0 end with the connection: some have no length.
    is_kept = is_new and "close" not in options
    version = "HTTP/1.1" if is_new else "HTTP/1.0"
    return Head(method, target, version, headers, length, is_chunked, is_kept, bool(expected))


def _header(line: bytes) -> tuple[str, str]:
    found = _HEADER.fullmatch(line)
    if found:
        return found[1].decode(), found[2].decode("latin-1")
    if line[:1] in (b" ", b"\t"):
        raise _bad("a header continues on a second line, expected one line each")
    raise _bad(f"found the header {_quoted(line)}, expected a name, a colon and a value")


def _target(target: str) -> tuple[str, str]:
    """The host in a target, or "", and the path with its query."""
    if target.startswith("/"):
        return "", target
    if found := _ABSOLUTE.fullmatch(target):
        host, path = found[1], found[2]
        if not _HOST.fullmatch(host) or host.startswith(":"):
            raise _bad(f"found the target {_quoted(target.encode('latin-1'))}, expected the name of a host in it")
        return host, path if path.startswith("/") else f"/{path}"
    raise _bad(f"found the target {_quoted(target.encode('latin-1'))}, expected a path or http://host/path")


def _check_host(found: list[str], is_needed: bool) -> None:
    if is_needed and not found:
        raise _bad("found no header Host")
    if len(found) > 1:
        raise _bad("found Host twice")
    if found and not _HOST.fullmatch(found[0]):
        raise _bad(f"found Host: {_quoted(found[0].encode('latin-1'))}, expected the name of a host")


def _body(named: dict[str, list[str]], may_be_chunked: bool) -> tuple[bool, int | None]:
    """The body is chunked; or its length."""
    codings, lengths = named.get("transfer-encoding", []), named.get("content-length", [])
    if codings:
        if lengths:
            raise _bad("found Content-Length and Transfer-Encoding, expected one of them")
        if not may_be_chunked:
            raise _bad("found Transfer-Encoding in HTTP/1.0")
        if [coding.lower() for coding in codings] != ["chunked"]:
            found = ", ".join(codings)[:60]
            raise Refused("501 Not Implemented", f"found Transfer-Encoding: {found!r}, expected chunked")
        return True, None
    if len(lengths) > 1:
        raise _bad("found Content-Length twice")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise _bad(f"found Content-Length: {lengths[0][:60]!r}, expected at most 18 digits")
    return False, int(lengths[0]) if lengths else None


def _bad(reason: str) -> Refused:
    return Refused("400 Bad Request", reason)


def _quoted(line: bytes) -> str:
    return repr(line[:60])[1:] + ("..." if len(line) > 60 else "")
