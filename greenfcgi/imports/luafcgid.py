"""luafcgid's config.lua: a Lua script that assigns globals, as a config.toml.

luafcgid takes numbers where it expects text and the other way round, as Lua does, and passes over whatever else is
wrong; here that is reported.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from http import HTTPStatus

from ..config.types import size_text
from ..errors import ConfigError
from ..logs.text import escape
from .document import Document, shown
from .evaluation import Value, evaluate

#: What early versions called them.
_OLD_NAMES = {"HTTPstatus": "httpstatus", "HTTPtype": "contenttype", "buffersize": "bodysize"}
_MAX_INT = 2**31 - 1
#: The defaults of workers and of [states] max here.
_WORKERS, _STATES = 128, 256
#: The defaults of luafcgid that differ from those here in what a client sees.
_OTHER_DEFAULTS = {
    "showerrors": "errors are not shown to clients (luafcgid: they are); near are [scripts] show_errors and --dev",
    "headers": 'no header is added to replies (luafcgid: X-Powered-By: Lua); [scripts] headers = ["X-Powered-By: Lua"]',
    "listen": "it listens on 127.0.0.1:9000 (luafcgid: port 9000 of every address of the machine)",
}


class _Settings:
    """The settings of a config.lua, each read as the type that it should have."""

    def __init__(self, path: str, values: dict[str, Value]) -> None:
        self.path = path
        self.values = values

    def fail(self, name: str, expected: str) -> ConfigError:
        """The error of a value that is not what is expected."""
        value = self.values[name]
        found = shown(name, value).partition(" = ")[2]
        return ConfigError(f"{escape(self.path)}: {name}: found {found}, expected {expected}")

    def text(self, name: str) -> str:
        """A text, or a number as text."""
        value = self.values[name]
        if isinstance(value, bool):
            raise self.fail(name, "text")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        try:
            text = value.decode() if isinstance(value, bytes) else str(value)
        except UnicodeDecodeError:
            raise self.fail(name, "text in UTF-8") from None
        if "\0" in text:
            raise self.fail(name, "text without a byte 0")
        return text

    def number(self, name: str, minimum: int = 0) -> int:
        """A whole number, or text that is one; a fraction is cut off."""
        value = self.values[name]
        expected = f"a whole number of at least {minimum}"
        try:
            if isinstance(value, bool):
                raise ValueError
            number = int(value if isinstance(value, int) else float(value))
        except (ValueError, OverflowError):  # also infinite ones and what is no number
            raise self.fail(name, expected) from None
        if not minimum <= number <= _MAX_INT:
            raise self.fail(name, expected if number < minimum else f"a whole number of at most {_MAX_INT}")
        return number

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.values[name]
        if not isinstance(value, bool):
            raise self.fail(name, "true or false")
        return value


def convert(path: str, text: str) -> str:
    """The config.toml for luafcgid's configuration `text`, which is the file `path`.

    Raises `ConfigError`, one line, as `evaluate` does, and for values that luafcgid could not have meant.
    """
    found = evaluate(path, text, [*_RULES, *_OLD_NAMES])
    values = dict(found.values)
    for old, new in _OLD_NAMES.items():
        if old in values:
            values.setdefault(new, values[old])
            del values[old]
    if not values:
        raise ConfigError(f"{escape(path)}: it sets nothing that luafcgid or php-fpm knows")
    document = Document(path)
    settings = _Settings(path, values)
    for name, rule in _RULES.items():
        if name in values:
            rule(document, settings, name)
    _finish(document, settings, found.others)
    return document.text(
        f"config.toml for greenfcgi, from luafcgid's {os.path.basename(path)}. What is not here has its default; "
        "greenfcgi --print-config config.toml shows all of it."
    )


def _finish(document: Document, settings: _Settings, others: list[str]) -> None:
    """What luafcgid has no setting for, and what two settings say together."""
    document.set(
        "scripts", "root", "lua_scripts", "root",
        "luafcgid ran whatever file the web server named. Here the folder of the scripts is named, and nothing outside "
        "it runs: the one that the web server's SCRIPT_FILENAME begins with.",
    )  # fmt: skip
    workers, states = document.get("", "workers"), document.get("states", "max")
    if isinstance(workers, int) and workers > (states if isinstance(states, int) else _STATES):
        document.set(
            "states", "max", workers, "states",
            f"As many as workers, instead of {states or _STATES}: each request that runs holds a state.",
        )  # fmt: skip
    if workers is None and isinstance(states, int) and states < _WORKERS:
        document.set("", "workers", states, "states", f"No more than the {states} states that there are.")
    for name, reason in _OTHER_DEFAULTS.items():
        if name not in settings.values:
            document.note(f"{name} is not set, and the default differs", reason)
    functions = [name for name in others if name.endswith("()")]
    if functions:
        document.note(
            _listed(functions),
            "luafcgid calls no function of its configuration; scripts may have init(), shutdown() and heartbeat()",
        )
    variables = [name for name in others if not name.endswith("()")]
    if variables:
        document.note(_listed(variables), "no setting of luafcgid's; scripts read [app] with con:config(name)")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) + (" and more" if len(names) > 10 else "")


#: What becomes of a setting.
_Rule = Callable[[Document, _Settings, str], None]


def _number(table: str, key: str, comment: str = "", minimum: int = 1) -> _Rule:
    def apply(document: Document, settings: _Settings, name: str) -> None:
        document.set(table, key, settings.number(name, minimum), name, comment)

    return apply


def _flag(key: str, comment: str = "") -> _Rule:
    def apply(document: Document, settings: _Settings, name: str) -> None:
        document.set("scripts", key, settings.flag(name), name, comment)

    return apply


def _text(key: str, comment: str = "") -> _Rule:
    def apply(document: Document, settings: _Settings, name: str) -> None:
        # luafcgid keeps its default where a text is empty.
        if text := settings.text(name):
            document.set("scripts", key, text, name, comment)

    return apply


def _dropped(reason: str) -> _Rule:
    def apply(document: Document, settings: _Settings, name: str) -> None:
        document.note(shown(name, settings.values[name]), reason)

    return apply


def _listen(document: Document, settings: _Settings, name: str) -> None:
    text = settings.text(name)
    host, colon, port = text.rpartition(":")
    if not text:
        return
    if not (colon and port.isdecimal() and int(port)):
        # libfcgi takes whatever has no port for the path of a socket.
        document.set(
            "", "bind", f"unix:{text}", name,
            "Its permissions are socket_mode (0660): the web server's user needs the group that the server runs with.",
        )  # fmt: skip
        return
    if host in ("", "*", "0.0.0.0"):
        document.set(
            "", "bind", f"127.0.0.1:{port}", name,
            "luafcgid listened on every address of the machine, and anyone who could connect could run any script. "
            f'For web servers on other machines: bind = "0.0.0.0:{port}" and allowed_clients = ["their network"].',
        )  # fmt: skip
        return
    document.set("", "bind", text, name)
    if host == "localhost" or host.startswith("127."):
        return
    try:
        clients = [str(ipaddress.ip_address(host))]
    except ValueError:
        clients = ["127.0.0.1"]
    document.set(
        "", "allowed_clients", clients, name,
        "FastCGI has no password: add the networks of the web servers, such as 10.0.0.0/8. The loopback is always in.",
    )  # fmt: skip


def _sweep(document: Document, settings: _Settings, name: str) -> None:
    milliseconds = settings.number(name)
    document.set(
        "", "poll_interval", max(milliseconds, 10) / 1000, name,
        "A script that has been saved is new for the next request. This is only for file systems without inotify; near "
        "is heartbeat, the seconds between two rounds of housekeeping.",
    )  # fmt: skip


def _watchdog(document: Document, settings: _Settings, name: str) -> None:
    seconds = settings.number(name)
    if seconds:
        document.set("", "timeout", seconds, name, "luafcgid read watchdog, and never used it.")
    else:
        document.note("watchdog = 0", "a request always has a limit here, timeout (30 seconds)")


def _headers(document: Document, settings: _Settings, name: str) -> None:
    lines = [line for line in settings.text(name).replace("\r\n", "\n").split("\n") if line]
    document.set("scripts", "headers", lines, name)


def _status(document: Document, settings: _Settings, name: str) -> None:
    text = settings.text(name)
    if text in [str(status.value) for status in HTTPStatus]:
        text = f"{text} {HTTPStatus(int(text)).phrase}"
    if text:
        document.set("scripts", "http_status", text, name)


def _max_post(document: Document, settings: _Settings, name: str) -> None:
    document.set(
        "scripts", "max_post", size_text(settings.number(name)), name,
        "A larger body is answered with 413; luafcgid cut it off, and ran the script.",
    )  # fmt: skip


def _logfile(document: Document, settings: _Settings, name: str) -> None:
    text = settings.text(name)
    if text:
        document.set(
            "", "errorlog", text, name,
            "Lines are appended (luafcgid emptied it at each start); SIGUSR1 reopens it, for logrotate.",
        )  # fmt: skip


def _backlog(document: Document, settings: _Settings, name: str) -> None:
    if settings.number(name, -_MAX_INT) > 0:
        document.set("", "backlog", settings.number(name), name)
    else:
        document.note(shown(name, settings.values[name]), "the default, which is 2048 here")


_RULES: dict[str, _Rule] = {
    "listen": _listen,
    "backlog": _backlog,
    "workers": _number(
        "", "workers",
        "Requests that run at a time. Threads in luafcgid; here greenlets, which cost little: 128 is the default.",
    ),
    "watchdog": _watchdog,
    "sweep": _sweep,
    "logfile": _logfile,
    "showerrors": _flag("show_errors", "Never in production. greenfcgi --dev shows errors with their source."),
    "buffering": _flag("buffering"),
    "headers": _headers,
    "handler": _text("handler"),
    "httpstatus": _status,
    "contenttype": _text("content_type"),
    "maxpost": _max_post,
    "states": _number("states", "max", "Lua states in each process."),
    "clones": _number("states", "clones"),
    "maxcount": _number("states", "max_requests", "luafcgid read maxcount and never used it.", 0),
    "retries": _dropped("not needed: a request that finds no idle state gets a new one at once, or waits its turn"),
    "daemonize": _dropped(
        "it stays in the foreground, as systemd, OpenRC and containers want it; pidfile writes its process id"
    ),
    "headersize": _dropped("not needed: headers have the room that they need"),
    "bodysize": _dropped("not needed: output has the room that it needs, within lua.memory and buffers"),
}  # fmt: skip
