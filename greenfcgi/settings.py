"""Every setting of config.toml, once: name, type, unit, range, default and reason stand beside each other.

First come the kinds of value (a size, a path, an address ...). Each knows what to expect, how a TOML value
becomes the value that the program works with, and how to write it back. Then come the tables. The checks, the
messages, the printed configuration and the list of settings in the README derive from them. Nothing here
reads a file or words an error; `config` does.
"""

import os
import re
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

_MOST = 2**31 - 1  # what a C int holds, since listen() takes one; as a time, 68 years
_MOST_BYTES = 2**40
_DEEPEST = 32
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_LUA_WORDS = (
    "and break do else elseif end false for function goto if in local nil not or repeat return then true "
    "until while"
)


class Unfit(Exception):
    """A value that a setting cannot have: what was found, what is expected, and its place (", element 2")."""

    def __init__(self, found: object, expected: str, place: str = "") -> None:
        super().__init__(expected)
        self.found = found
        self.expected = expected
        self.place = place


class Address(NamedTuple):
    """Where to listen; `str()` gives the form that config.toml has. What a kind does not use is "" or 0."""

    kind: Literal["unix", "tcp", "fd"]
    path: str = ""  # unix: absolute
    host: str = ""  # tcp: an IPv4 or IPv6 address without brackets, or a name
    port: int = 0  # tcp: 0 is any free port
    number: int = 0  # fd: a listening socket that was inherited

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        if self.kind == "fd":
            return f"fd://{self.number}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def is_loopback(self) -> bool:
        """Whether only this machine can reach a TCP address. Names other than localhost may be anything."""
        return self.host in ("localhost", "::1") or bool(re.fullmatch(r"127\.[0-9.]+", self.host))


class Kind(NamedTuple):
    """A kind of value, and the way from TOML and back.

    `read` takes what TOML gave and the folder of config.toml, and raises Unfit; `write` undoes it.
    """

    expected: str
    read: Callable[[object, str], object]
    write: Callable[[Any], object] = lambda value: value


class Setting(NamedTuple):
    """What is to be known about a setting beside its name. The default is written as in config.toml."""

    kind: Kind
    default: object
    reason: str


def _whole(least: int) -> Kind:
    expected = f"a whole number of at least {least}"

    def read(found: object, folder: str) -> int:
        if type(found) is not int or found < least:
            raise Unfit(found, expected)
        if found > _MOST:
            raise Unfit(found, f"a whole number of at most {_MOST}")
        return found

    return Kind(expected, read)


def _seconds(least: float) -> Kind:
    expected = f"a number of seconds, at least {least}"

    def read(found: object, folder: str) -> float:
        if not isinstance(found, (int, float)) or isinstance(found, bool) or not found >= least:  # nan is not
            raise Unfit(found, expected)
        if found > _MOST:
            raise Unfit(found, f"a number of seconds, at most {_MOST}")
        return found

    return Kind(expected, read)


def _size(least: int, least_text: str) -> Kind:
    expected = f'a size in bytes or as text such as "16M", at least {least_text}'

    def read(found: object, folder: str) -> int:
        size = found
        if isinstance(found, str) and (match := re.fullmatch("([0-9]{1,15})([KMG]?)B?", found.upper())):
            size = int(match[1]) * _UNITS[match[2]]
        if type(size) is not int or size < least:
            raise Unfit(found, expected)
        if size > _MOST_BYTES:
            raise Unfit(found, 'a size of at most "1024G"')
        return size

    def write(size: int) -> object:
        unit = next((unit for unit in "GMK" if size and size % _UNITS[unit] == 0), "")
        return f"{size // _UNITS[unit]}{unit}" if unit else size

    return Kind(expected, read, write)


def _text(expected: str, pattern: str, but_not: str = "") -> Kind:
    def read(found: object, folder: str) -> str:
        if not isinstance(found, str) or not re.fullmatch(pattern, found) or found in but_not.split():
            raise Unfit(found, expected)
        return found

    return Kind(expected, read)


def _choice(*names: str) -> Kind:
    return _text("one of " + ", ".join(f'"{name}"' for name in names), "|".join(names))


def _path(expected: str, *kept: str) -> Kind:
    """A path, relative to config.toml, as absolute text; the texts in `kept` stay as they are."""

    def read(found: object, folder: str) -> str:
        if isinstance(found, str) and found in kept:
            return found
        if not isinstance(found, str) or not found or "\0" in found:
            raise Unfit(found, expected)
        return os.path.normpath(os.path.join(folder, found))

    return Kind(expected, read)


def _list(kind: Kind, least: int = 0, or_one: bool = False) -> Kind:
    """Elements of one kind, as a tuple; with `or_one`, a text is a list of one."""
    some = " of at least one element" if least else ""
    expected = f"{kind.expected}, or a list of them" if or_one else f"a list{some}, each {kind.expected}"

    def read(found: object, folder: str) -> tuple[object, ...]:
        if or_one and isinstance(found, str):
            return (kind.read(found, folder),)
        if not isinstance(found, list) or len(found) < least:
            raise Unfit(found, expected)
        values = []
        for number, element in enumerate(found, 1):
            try:
                values.append(kind.read(element, folder))
            except Unfit as unfit:
                raise Unfit(unfit.found, unfit.expected, f", element {number}") from None
        return tuple(values)

    def write(values: tuple[object, ...]) -> object:
        written = [kind.write(value) for value in values]
        return written[0] if or_one and len(written) == 1 else written

    return Kind(expected, read, write)


def _read_flag(found: object, folder: str) -> bool:
    if not isinstance(found, bool):
        raise Unfit(found, "true or false")
    return found


def _read_mode(found: object, folder: str) -> int:
    return int(str(_OCTAL.read(found, folder)), 8)


def _read_root(found: object, folder: str) -> str:
    path = str(_DIRECTORY.read(found, folder))
    if not os.path.isdir(path):
        raise Unfit(found, f"{_ROOT.expected} (there is none at {path!r})")
    return path


def _read_startup(found: object, folder: str) -> str:
    path = str(_OPTIONAL_PATH.read(found, folder))
    if path and not (os.path.isfile(path) and os.access(path, os.R_OK)):
        raise Unfit(found, "a file that exists and can be read, relative to the folder of this file")
    return path


def _read_network(found: object, folder: str) -> "IPv4Network | IPv6Network":
    import ipaddress  # 270 KB that a server on a unix socket or the loopback does without

    if isinstance(found, str):
        try:
            network = ipaddress.ip_network(found, strict=False)
        except ValueError:
            pass
        else:
            if "/" in found and ipaddress.ip_address(found.partition("/")[0]) != network.network_address:
                raise Unfit(found, f'a network without host bits, such as "{network}"')
            return network
    raise Unfit(found, _NETWORK.expected)


def _read_address(found: object, folder: str) -> Address:
    if isinstance(found, str) and "\0" not in found:
        scheme, _, path = found.partition(":")
        if scheme == "unix" and path:
            return Address("unix", path=os.path.normpath(os.path.join(folder, path)))
        if match := re.fullmatch("fd://([0-9]{1,9})", found):
            return Address("fd", number=int(match[1]))
        if match := re.fullmatch(r"(\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[^:\[\]]*):([0-9]+)", found):
            if len(match[2]) > 5 or int(match[2]) > 65535:
                raise Unfit(found, "a port from 1 to 65535, or 0 for any that is free")
            if host := _host(match[1]):
                return Address("tcp", host=host, port=int(match[2]))
    raise Unfit(found, _ADDRESS.expected)


def _host(text: str) -> str:
    """The host of a TCP address without brackets, "" when it is none."""
    if text in ("", "*"):
        return "0.0.0.0"
    bracketed = text.startswith("[")
    if bracketed or re.fullmatch("[0-9.]+", text):
        family = socket.AF_INET6 if bracketed else socket.AF_INET
        number, percent, zone = text.strip("[]").partition("%")
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, number)) + percent + zone
        except OSError:
            return ""
    return text if re.fullmatch(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", text) else ""


def _read_free(found: object, folder: str, depth: int = 0) -> object:
    if not depth and not isinstance(found, dict):
        raise Unfit(found, _FREE.expected)
    if depth > _DEEPEST:
        raise Unfit(found, f"tables and lists at most {_DEEPEST} deep")
    if type(found) is int and not -(2**63) <= found < 2**63:
        raise Unfit(found, "whole numbers of 64 bits")
    for value in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        _read_free(value, folder, depth + 1)
    return found


_FLAG = Kind("true or false", _read_flag)
_OCTAL = _text('octal text such as "0660"', "(0|0o)?[0-7]{3}")
_MODE = Kind(_OCTAL.expected, _read_mode, lambda mode: f"{mode:04o}")
_OPTIONAL_PATH = _path('a path, or "" for none', "")
_STARTUP = Kind('a path of a file that can be read, or "" for none', _read_startup)
_DIRECTORY = _path("a path of a directory")
_ROOT = Kind("a path of a directory that exists", _read_root)
_NETWORK = Kind('a network such as "10.0.0.0/8", "192.0.2.7" or "2001:db8::/32"', _read_network, str)
_ADDRESS = Kind(
    'an address such as "127.0.0.1:9000", "[::1]:9000", "unix:/run/greenfcgi.sock" or "fd://3"',
    _read_address,
    str,
)
_FREE = Kind("a table", _read_free)
_ANY_TEXT = _text("text", "(?s:.*)")
_ONE_LINE = _text("text on one line, not empty", r"[^\r\n\0]+")
_EXTENSION = _text('an extension such as ".lua"', r"\.[^/\0]+")
_IDENTIFIER = _text("a name that a Lua function can have", "[A-Za-z_][A-Za-z0-9_]*", _LUA_WORDS)
_STATUS = _text('a status from 200 to 599 such as "200 OK"', r"[2-5][0-9]{2} [^\x00-\x1f\x7f]+")
_HEADER = _text('a header such as "Name: value" on one line', r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*")
_VERSION = _choice("luajit21", "luajit20", "lua51", "lua52", "lua53", "lua54", "lua55")
_LEVEL = _choice("debug", "info", "warning", "error", "critical")
_ENGINE = _choice("auto", "inotify", "poll")
_ERROR_LOG = _path('a path, or "-" for stderr', "-")
_ACCESS_LOG = _path('a path, "-" for stdout, or "" for none', "-", "")
_GUNICORN = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s'


class Scripts(NamedTuple):
    """[scripts]: which files are scripts, and what every response starts from."""

    root: Annotated[str, Setting(_ROOT, "lua_scripts", "Nothing outside this directory runs.")]
    extensions: Annotated[
        tuple[str, ...],
        Setting(_list(_EXTENSION, least=1), [".lua"], "Files that end otherwise are not run."),
    ]
    handler: Annotated[str, Setting(_IDENTIFIER, "main", "The function that answers a request.")]
    show_errors: Annotated[bool, Setting(_FLAG, False, "The Lua error in the response; never in production.")]
    headers: Annotated[tuple[str, ...], Setting(_list(_HEADER), [], "Added to every response.")]
    http_status: Annotated[str, Setting(_STATUS, "200 OK", "Sent when the script sets no status.")]
    content_type: Annotated[
        str, Setting(_ONE_LINE, "text/html", "Sent when the script sets no Content-Type.")
    ]
    buffering: Annotated[bool, Setting(_FLAG, True, "Output waits for the end or con:flush(): fewer sends.")]
    max_post: Annotated[
        int, Setting(_size(0, "0"), "1M", "A larger request body is answered with 413, unread.")
    ]
    startup: Annotated[str, Setting(_STARTUP, "", "A script that each new Lua state runs first.")]


class Lua(NamedTuple):
    """[lua]: which Lua runs the scripts, and what a state gets."""

    version: Annotated[
        str, Setting(_VERSION, "luajit21", "LuaJIT needs the least CPU, even when it only interprets.")
    ]
    jit: Annotated[
        bool, Setting(_FLAG, False, "Faster loops on LuaJIT, but nothing can interrupt compiled code.")
    ]
    memory: Annotated[
        int, Setting(_size(2**20, "1M"), "32M", "Of one state, so that no script takes all there is.")
    ]
    path: Annotated[
        tuple[str, ...], Setting(_list(_DIRECTORY), [], "For require, beside the script's own directory.")
    ]
    cpath: Annotated[tuple[str, ...], Setting(_list(_DIRECTORY), [], "For require of modules written in C.")]


class States(NamedTuple):
    """[states]: how many Lua states a process holds."""

    max: Annotated[
        int, Setting(_whole(1), 256, "A running request holds a state, so at least as many as workers.")
    ]
    clones: Annotated[
        int, Setting(_whole(1), 128, "States that may hold the same script; made on demand only.")
    ]


class Config(NamedTuple):
    """The whole configuration: the settings before the first table, then the tables."""

    bind: Annotated[
        tuple[Address, ...],
        Setting(_list(_ADDRESS, least=1, or_one=True), "127.0.0.1:9000", "Where web servers connect."),
    ]
    backlog: Annotated[int, Setting(_whole(1), 2048, "Connections that may wait to be accepted.")]
    workers: Annotated[int, Setting(_whole(1), 128, "Requests that run at once, each in its own greenlet.")]
    graceful_timeout: Annotated[
        float, Setting(_seconds(0), 30, "How long a stop waits for running requests.")
    ]
    keepalive: Annotated[float, Setting(_seconds(0), 75, "How long a kept connection may be idle.")]
    heartbeat: Annotated[float, Setting(_seconds(0.01), 1.0, "Between two rounds of housekeeping.")]
    allowed_clients: Annotated[
        "tuple[IPv4Network | IPv6Network, ...]",
        Setting(_list(_NETWORK), [], "May connect by TCP beside the loopback; FastCGI has no password."),
    ]
    socket_mode: Annotated[
        int, Setting(_MODE, "0660", "Who may connect to a unix socket: its owner and group.")
    ]
    pidfile: Annotated[str, Setting(_OPTIONAL_PATH, "", "Holds the process id while the server runs.")]
    loglevel: Annotated[str, Setting(_LEVEL, "info", "The least that the error log tells.")]
    errorlog: Annotated[str, Setting(_ERROR_LOG, "-", "Where errors and notices go.")]
    accesslog: Annotated[
        str, Setting(_ACCESS_LOG, "", "One line for each request; web servers write their own.")
    ]
    access_log_format: Annotated[str, Setting(_ANY_TEXT, _GUNICORN, "A line of it, in gunicorn's letters.")]
    reload: Annotated[bool, Setting(_FLAG, True, "A modified script is loaded anew for the next request.")]
    reload_engine: Annotated[
        str, Setting(_ENGINE, "auto", "How changes are noticed; auto polls where inotify fails.")
    ]
    poll_interval: Annotated[
        float, Setting(_seconds(0.01), 1.0, "Between two looks at the files when polling.")
    ]
    scripts: Scripts
    lua: Lua
    states: States
    app: Annotated[Mapping[str, object], Setting(_FREE, {}, "Free: scripts read it with con:config(name).")]
