"""URLs of requests: what is connected to, and what is asked for there."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\]")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_CONTROLS: Final = re.compile(r"[\x00-\x20\x7f]")
_NOT_ASCII: Final = re.compile(r"[\x80-\xff]")


class BadUrl(Exception):
    """What is no URL that can be asked for; the message says why."""


class Url(NamedTuple):
    """One that can be asked for, as latin-1."""

    scheme: str
    #: As it is connected to: an IPv6 address without brackets.
    host: str
    port: int
    #: The path and the query.
    target: str
    #: The host, and the port where it is not the scheme's own.
    authority: str

    @property
    def text(self) -> str:
        """The whole."""
        return f"{self.scheme}://{self.authority}{self.target}"


def parse(text: str) -> Url:
    """Take a URL to pieces; bytes beyond ASCII in its path and query are percent-encoded. Raises `BadUrl`."""
    if _CONTROLS.search(text):
        raise BadUrl("has a space or a control character, which has to be percent-encoded")
    try:
        scheme, netloc, path, query, _ = urlsplit(text)
    except ValueError:
        raise BadUrl("is no URL") from None
    default = _PORTS.get(scheme)
    if default is None or not text[len(scheme) :].startswith("://"):
        raise BadUrl("does not begin with http:// or https://")
    if "@" in netloc:
        raise BadUrl("has a user name, which belongs into the header Authorization")
    host = _HOST.match(netloc)
    if host is None:
        raise BadUrl("has no host name in ASCII")
    rest = netloc[host.end() :]
    port = default
    if rest not in ("", ":"):
        if rest[0] != ":" or not _PORT.fullmatch(rest[1:]) or not 0 < int(rest[1:]) < 65536:
            raise BadUrl("has a host name or a port that is none")
        port = int(rest[1:])
    name = host[0].lower()
    target = _NOT_ASCII.sub(lambda byte: f"%{ord(byte[0]):02X}", (path or "/") + (f"?{query}" if query else ""))
    authority = name if port == default else f"{name}:{port}"
    return Url(scheme, name.strip("[]"), port, target, authority)


def redirected(url: Url, location: str) -> Url:
    """Where a Location leads, which may be relative. Raises `BadUrl`."""
    # Many servers send spaces.
    location = location.strip().replace(" ", "%20")
    if _CONTROLS.search(location):
        raise BadUrl("has a control character")
    try:
        return parse(urljoin(url.text, location))
    except ValueError:
        raise BadUrl("is no URL") from None
