"""The request of `greenfcgi --try`, made of options that are curl's: -X, -H, -d, --data-binary, -F."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from ..errors import ConfigError
from ..logs.text import escape

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORM: Final = "application/x-www-form-urlencoded"
_FILE: Final = "application/octet-stream"
_IN_QUOTES: Final = r'"(?:[^"\\]|\\.)*"'
#: A value, or what follows it with the semicolon before it.
_WORD: Final = rf"(?s)(?:^|;[^;=]*=)\s*{_IN_QUOTES}\s*(?=;|$)|(?:^|;)[^;]*"
#: Types of files that fields have, as curl knows them by their names.
_TYPES: Final = {
    ".gif": "image/gif", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".svg": "image/svg+xml",
    ".txt": "text/plain", ".htm": "text/html", ".html": "text/html", ".pdf": "application/pdf",
    ".xml": "application/xml",
}  # fmt: skip


class Request(NamedTuple):
    """A request. Names of headers are in lower case; those that are not sent even by default have no value, None."""

    url: str
    method: str
    headers: dict[str, str | None]
    body: bytes


def request_of(url: str, method: str | None, headers: Sequence[str], parts: Sequence[tuple[str, str]]) -> Request:
    """The request; `parts` are (name of the option, argument) of -d, --data-binary and -F.

    Without a method it is a GET, and with a body a POST. Raises `ConfigError` for what cannot be sent, and for a file
    that cannot be read.
    """
    if not url.startswith("/"):
        raise ConfigError(f"--try: found {url!r}, expected a path such as /hello.lua?name=x")
    if method is not None and not _TOKEN.fullmatch(method):
        raise ConfigError(f"--method: found {method!r}, expected a method such as POST")
    given: dict[str, str | None] = {}
    for text in headers:
        _add(given, text)
    body = b""
    if parts and parts[0][0] == "form":
        boundary = _boundary()
        body = b"".join(_field(argument, boundary) for _, argument in parts) + f"--{boundary}--\r\n".encode()
        kind = given.setdefault("content-type", "multipart/form-data")
        if kind and "boundary=" not in kind:
            # A form cannot be read without it.
            given["content-type"] = f"{kind}; boundary={boundary}"
    elif parts:
        body = b"&".join(_data(name, argument) for name, argument in parts)
        given.setdefault("content-type", _FORM)
    if parts:
        given.setdefault("content-length", str(len(body)))
    return Request(url.partition("#")[0], method or ("POST" if parts else "GET"), given, body)


def _add(headers: dict[str, str | None], text: str) -> None:
    """`Name: value`; `Name:` is not sent, and `Name;` is empty. What comes twice is joined, as web servers do."""
    name, colon, value = text.partition(":")
    if not colon and text.endswith(";"):
        name, colon = text[:-1], ";"
    if not colon or not _TOKEN.fullmatch(name) or re.search(r"[\r\n\0]", value):
        raise ConfigError(f'--header: found {text!r}, expected one line such as "Name: value"')
    name, value = name.lower(), value.strip()
    before = headers.get(name)
    if not value and colon == ":":
        headers[name] = None
    elif before is None:
        headers[name] = value
    else:
        headers[name] = f"{before}{'; ' if name == 'cookie' else ', '}{value}"


def _data(option: str, argument: str) -> bytes:
    if not argument.startswith("@"):
        return os.fsencode(argument)
    found = _read(option, argument[1:])
    # As curl does, so that a file of one line is a field.
    return found if option == "data-binary" else found.translate(None, b"\r\n\0")


def _field(argument: str, boundary: str) -> bytes:
    """A part of a multipart form: NAME=VALUE, NAME=@FILE or NAME=<FILE, with ;type= and ;filename= behind it."""
    name, equals, value = argument.partition("=")
    if not equals or not name:
        raise ConfigError(f"--form: found {argument!r}, expected NAME=VALUE or NAME=@FILE")
    sign = value[:1] if value[:1] in ("@", "<") else ""
    first, options = _options(value[len(sign) :])
    content = _read("form", first) if sign else os.fsencode(first)
    if sign == "@":
        options.setdefault("filename", os.path.basename(first))
        options.setdefault("type", _TYPES.get(os.path.splitext(first)[1].lower(), _FILE))
    lines = f'Content-Disposition: form-data; name="{_quoted(name)}"'
    if "filename" in options:
        lines += f'; filename="{_quoted(options["filename"])}"'
    if "type" in options:
        lines += f"\r\nContent-Type: {options['type']}"
    return b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary.encode(), os.fsencode(lines), content)


def _options(value: str) -> tuple[str, dict[str, str]]:
    """What a field has, and ;type= and ;filename= behind it. In quotes, a semicolon is a character like any other."""
    first, *rest = re.findall(_WORD, value)
    options: dict[str, str] = {}
    last = ""
    for each in rest:
        key, equals, text = each[1:].partition("=")
        name = key.strip()
        if equals and name in ("type", "filename") and not re.search(r"[\r\n\0]", text):
            options[name] = _unquoted(text) if name == "filename" else text.strip()
        elif last == "type" and equals:
            # Of the type itself: ;type=text/html; charset=utf-8
            options["type"] += each
            continue
        else:
            raise ConfigError(
                f"--form: found {each!r} behind the value, expected ;type= or ;filename=; "
                "a value with a semicolon is in quotes: 'x=\"a;b\"'"
            )
        last = name
    return _unquoted(first), options


def _unquoted(word: str) -> str:
    """A word without the quotes around it, in which a backslash stands before a quote or a backslash."""
    if not re.fullmatch(_IN_QUOTES, word.strip()):
        return word
    return re.sub(r'\\([\\"])', r"\1", word.strip()[1:-1])


def _quoted(text: str) -> str:
    """As browsers write it, in which a quotation mark would end the name."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _boundary() -> str:
    return "-" * 24 + os.urandom(8).hex()


def _read(option: str, path: str) -> bytes:
    """The content of a file; "-" is stdin."""
    try:
        if path == "-":
            return sys.stdin.buffer.read()
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "a zero byte in the path"
        raise ConfigError(f'--{option}: cannot read "{escape(path)}": {reason}') from None
