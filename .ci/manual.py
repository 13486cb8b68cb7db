"""The manual's pages greenfcgi(1) and greenfcgi.toml(5), from what the command and the settings say of themselves.

    python .ci/manual.py FOLDER

The build of a wheel (compiled.py) has them written and takes them along as data, so that they are where `man` looks:
`share/man` beside the `bin` of an environment, or what pipx links to. They are not in the repository, where they would
be out of date. It needs the package's source and nothing else: no gevent, no lupa.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterator
from pathlib import Path

_PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(_PROJECT))

from greenfcgi import __version__  # noqa: E402
from greenfcgi.command_line import parser  # noqa: E402
from greenfcgi.config.load import Row, describe  # noqa: E402

_WIDTH = 78
_COMMAND, _FILE = "greenfcgi", "greenfcgi.toml"
_INTRODUCTION = """
A FastCGI application server for Lua. nginx, lighttpd, Apache, Caddy or HAProxy send it requests, and each one runs in a
Lua state that already holds its script. A saved script is new for the next request.
Without options it serves what the configuration file says, in the foreground, until a signal ends it.
"""
_SIGNALS = {
    "SIGTERM, SIGINT": "Stop: requests under way finish within graceful_timeout. The second one stops at once.",
    "SIGQUIT": "Stop at once.",
    "SIGHUP": "Read the configuration again, and replace the processes one by one. No request is lost.",
    "SIGUSR1": "Reopen the logs, after logrotate has renamed them.",
    "SIGUSR2": "Start the new program on the same sockets, after an upgrade.",
    "SIGTTIN, SIGTTOU": "One process more, one fewer.",
}
_STATUS = {
    "0": "Success.",
    "1": "An address is taken, a stop did not let all requests finish, or, with --try, the request got an error.",
    "2": "The command line or the configuration is wrong: one line says what.",
    "3": "A process ended before it could serve.",
}
_EXAMPLES = {
    "greenfcgi config.toml": "Serve.",
    "greenfcgi --check-config config.toml": "Say what is wrong with a configuration before a reload.",
    "greenfcgi --try '/hello.lua?name=Ada'": "Run one request, without a web server.",
    "greenfcgi --dev lua_scripts": "Work on scripts in a browser.",
}
_FORMAT = """
The configuration of greenfcgi(1), usually called config.toml, is TOML: settings, then tables of settings.
A setting that is left out has its default. Sizes are bytes or text such as "16M", times are seconds, and paths are
relative to the folder of the file. An unknown name or a wrong value stops the start with one line that says where it
is, what was found and what is expected; greenfcgi --check-config lists all of them.
"""
_FREE = ("modules", "shared", "tasks", "apps", "app")


def pages() -> dict[str, str]:
    """The pages by the names of their files, such as "greenfcgi.1"."""
    return {f"{_COMMAND}.1": "\n".join(_command()) + "\n", f"{_FILE}.5": "\n".join(_settings()) + "\n"}


def write(folder: Path) -> None:
    """Write the pages into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def _command() -> Iterator[str]:
    command = parser()
    yield _head(_COMMAND, 1, "User Commands")
    yield from (".SH NAME", rf"{_COMMAND} \- FastCGI application server for Lua")
    yield from (".SH SYNOPSIS", f".B {_COMMAND}", rf"[\fIoptions\fR] [\fI{_positional(command)}\fR]")
    yield from (".SH DESCRIPTION", *_text(_INTRODUCTION), ".SH OPTIONS")
    for action in command._actions:
        if action.help is not SUPPRESS:
            yield from (".TP", _option(action), *_text(_help(command, action)))
    for title, rows in (("SIGNALS", _SIGNALS), ("EXIT STATUS", _STATUS), ("EXAMPLES", _EXAMPLES)):
        yield f".SH {title}"
        for name, text in rows.items():
            yield from (".TP", rf"\fB{_escaped(name)}\fR", *_text(text))
    yield from (".SH SEE ALSO", f".BR {_FILE} (5)", ".PP")
    yield from _text(
        "The whole manual is in the package's folder docs, in Markdown; greenfcgi --help says where that is."
    )


def _settings() -> Iterator[str]:
    yield _head(_FILE, 5, "File Formats")
    yield from (".SH NAME", rf"{_FILE} \- configuration of {_COMMAND}")
    yield from (".SH DESCRIPTION", *_text(_FORMAT))
    rows = describe()
    for table in dict.fromkeys(row.table for row in rows):
        yield ".SH " + (f"[{table}]" if table else "SETTINGS BEFORE THE FIRST TABLE")
        for row in rows:
            if row.table == table and row.key not in _FREE:
                yield from _setting(row)
    yield ".SH TABLES WITH FREE NAMES"
    for row in rows:
        if row.key in _FREE:
            name = f"[[{row.key}]]" if row.default == "[]" else f"[{row.key}]"
            yield from (".TP", rf"\fB{name}\fR", *_text(row.reason))
    yield ".SH EXAMPLE"
    yield from (".nf", 'bind = "unix:/run/greenfcgi/greenfcgi.sock"', "processes = 2", "", "[scripts]",
                'root = "/srv/www/lua_scripts"', ".fi")  # fmt: skip
    yield from (".SH SEE ALSO", f".BR {_COMMAND} (1)")


def _setting(row: Row) -> Iterator[str]:
    yield ".TP"
    yield rf"\fB{_escaped(row.key)}\fR = {_escaped(row.default)}"
    yield from _text(f"{row.reason} Expected: {row.expects}.")


def _head(name: str, section: int, title: str) -> str:
    # Whoever wants the same bytes each day says which day it is.
    now = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    return f'.TH {name.upper()} {section} "{time.strftime("%Y-%m-%d", now)}" "{_COMMAND} {__version__}" "{title}"'


def _positional(command: ArgumentParser) -> str:
    return next(str(action.metavar or action.dest) for action in command._actions if not action.option_strings)


def _option(action: Action) -> str:
    value = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    if isinstance(value, tuple):
        value = " ".join(value)
    if not action.option_strings:
        return rf"\fI{_escaped(value or action.dest)}\fR" if action.metavar else rf"\fI{_escaped(action.dest)}\fR"
    names = ", ".join(rf"\fB{_escaped(name)}\fR" for name in action.option_strings)
    return rf"{names} \fI{_escaped(value)}\fR" if value else names


def _help(command: ArgumentParser, action: Action) -> str:
    text = command._get_formatter()._expand_help(action)
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _text(text: str) -> Iterator[str]:
    """A paragraph; a sentence begins on a line of its own, as roff wants it."""
    for sentence in re.split(r"(?<=[.:;!?]) (?=[A-Z])", " ".join(text.split())):
        for line in textwrap.wrap(_escaped(sentence), _WIDTH, break_long_words=False, break_on_hyphens=False):
            yield rf"\&{line}" if line.startswith(".") else line


def _escaped(text: str) -> str:
    """Text with nothing in it that roff would take for a request; a hyphen that can be typed again."""
    return text.replace("\\", r"\e").replace("-", r"\-").replace("`", r"\(ga").replace("'", r"\(aq")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python .ci/manual.py FOLDER")
    write(Path(sys.argv[1]))
