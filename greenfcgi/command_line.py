"""The options of the command, once: what each is called, what it takes, what --help says of it.

The parser is made from this table, and so is what completes the command in a shell (`completion`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from .errors import ExitStatus
from .logs.progress import columns

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from .config.overrides import Overrides

#: The configuration where none is named.
CONFIG: Final = "config.toml"
#: Where the developer mode shows its pages.
HTTP: Final = "127.0.0.1:8080"
SHELLS: Final = ("bash", "zsh", "fish")
_DOCS: Final = os.path.join(os.path.dirname(__file__), "docs")
_PREFIX: Final = "GREENFCGI_"
_BODY: Final = "body"


class Option(NamedTuple):
    """An option. `takes` is what its argument is, "" where it has none: shells complete it by that."""

    names: tuple[str, ...]
    help: str
    takes: str = ""
    metavar: str = ""
    is_repeatable: bool = False
    #: It is what the command does instead of serving: there is one of these at most.
    is_task: bool = False
    #: The name of the option without which it has no meaning.
    goes_with: str = ""

    @property
    def name(self) -> str:
        """The longest of its names, without the dashes."""
        return max(self.names, key=len).lstrip("-")

    @property
    def dest(self) -> str:
        """Where its value is when it has been parsed: parts of a body are in one place, in their order."""
        return _BODY if self.takes in ("data", "field") else self.name.replace("-", "_")

    @property
    def label(self) -> str:
        """How messages name it."""
        return "/".join(self.names)


OPTIONS: Final = (
    Option(("-c", "--config"), "the configuration file", "config", "FILE"),
    Option(("-b", "--bind"), "where to listen: unix:/run/x.sock, 127.0.0.1:9000; repeatable", "text", "ADDR", True),
    Option(("-w", "--workers"), "requests that each process runs at a time", "text", "N"),
    Option(("-p", "--processes"), "processes under a supervisor; 0: a single one without it", "text", "N"),
    Option(("--set",), "any setting, such as scripts.root=/srv/www; repeatable", "setting", "NAME=VALUE", True),
    Option(("-t", "--check-config"), "report OK or each mistake, and exit", is_task=True),
    Option(("--print-config",), "print the effective settings as TOML, and exit", is_task=True),
    Option(
        ("--try",), "run one request, such as /hello.lua?name=x, and print its response", "text", "URL", False, True
    ),
    Option(("-X", "--method"), "the method of the request", "text", "METHOD", goes_with="try"),
    Option(("-H", "--header"), 'a header, "Name: value"; repeatable', "text", "HEADER", True, goes_with="try"),
    Option(("-d", "--data"), "a body as curl has it: text, @FILE; repeatable", "data", "DATA", True, goes_with="try"),
    Option(("--data-binary",), "the same, a file byte by byte", "data", "DATA", True, goes_with="try"),
    Option(("-F", "--form"), "a field, NAME=VALUE or NAME=@FILE; repeatable", "field", "FIELD", True, goes_with="try"),
    Option(("--dev",), f"developer mode: pages on http://{HTTP}/ that reload at each save", is_task=True),
    Option(("--http",), f"the address of the pages (default: {HTTP})", "text", "ADDR:PORT", goes_with="dev"),
    Option(("--ping",), "print pong where the server that runs answers, for health checks", is_task=True),
    Option(("--init",), "print files of a web server, a service or a new site", "target", "TARGET", False, True),
    Option(("--write",), "write them into this empty or new directory", "folder", "DIR", goes_with="init"),
    Option(("--import",), "print a config.toml made of luafcgid's or php-fpm's", "file", "FILE[:POOL]", is_task=True),
    Option(
        ("--completion",), f"print what completes this command in {', '.join(SHELLS)}", "shell", "SHELL", False, True
    ),
    Option(("-V", "--version"), "print the version, and exit"),
    Option(("-h", "--help"), "print this, and exit"),
)


class Options(NamedTuple):
    """A command line. What has not been given is None, "" or empty."""

    #: The configuration, or what --dev shows, as it was named.
    path: str = ""
    check_config: bool = False
    print_config: bool = False
    version: bool = False
    url: str | None = None
    method: str | None = None
    headers: Sequence[str] = ()
    #: (name of the option, argument) of each part of a body, in their order.
    body: Sequence[tuple[str, str]] = ()
    is_development: bool = False
    http: str = HTTP
    target: str | None = None
    directory: str | None = None
    is_ping: bool = False
    imported: str | None = None
    shell: str | None = None
    #: What is set beside the configuration; None where nothing is.
    overrides: Overrides | None = None


def parse(arguments: Sequence[str]) -> Options:
    """The command line `arguments`. Exits after --help, and with one line about a mistake."""
    path = _only_path(arguments)
    if path is None:
        return _parse(arguments)
    return Options(path, overrides=_overrides() if any(name.startswith(_PREFIX) for name in os.environ) else None)


def parser() -> ArgumentParser:
    """What parses the options of the table, and prints them for --help."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            self.exit(ExitStatus.USAGE, f"greenfcgi: {message}; see greenfcgi --help\n")

    made = Parser(
        prog="greenfcgi", description="A FastCGI application server for Lua.", allow_abbrev=False, add_help=False,
        usage="greenfcgi [options] [config.toml]",
        epilog="Any setting can also be a variable: GREENFCGI_WORKERS, GREENFCGI_SCRIPTS_ROOT. "
        f"The manual: settings.md, command-line.md, scripts.md, production.md and more in {_DOCS}",
        # Where no width is given, argparse asks shutil, and that imports what compresses files: 0.7 MB.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30, width=columns(1) - 2),
    )  # fmt: skip
    made.add_argument(
        "path", nargs="?", metavar=CONFIG, help=f"the same (default: {CONFIG}); with --dev, also a folder"
    )
    tasks = made.add_mutually_exclusive_group()
    for option in OPTIONS:
        how: dict[str, Any] = {"help": option.help, "dest": option.dest}
        if option.goes_with:
            how["help"] = f"with --{option.goes_with}: {option.help}"
        if option.takes:
            how["metavar"] = option.metavar
        if option.name == "help":
            how["action"] = "help"
        elif option.dest == _BODY:
            how |= {"action": "append", "type": partial(_part, option.name)}
        elif option.is_repeatable:
            how["action"] = "append"
        elif not option.takes:
            how["action"] = "store_true"
        (tasks if option.is_task else made).add_argument(*option.names, **how)
    return made


def _part(name: str, argument: str) -> tuple[str, str]:
    return name, argument


def _only_path(arguments: Sequence[str]) -> str | None:
    """The configuration where it alone is named, or "": how servers are started, without the memory of argparse."""
    if not arguments:
        return ""
    if len(arguments) == 2 and arguments[0] in ("-c", "--config"):
        return arguments[1] or None
    return arguments[0] if len(arguments) == 1 and not arguments[0].startswith("-") and arguments[0] else None


def _parse(arguments: Sequence[str]) -> Options:
    made = parser()
    found = made.parse_args(arguments)
    parts = {name for name, _ in found.body or ()}
    given = {
        option.name
        for option in OPTIONS
        if (option.name in parts if option.dest == _BODY else getattr(found, option.dest, None) not in (None, False))
    }
    for option in OPTIONS:
        if option.name in given and option.goes_with and option.goes_with not in given:
            made.error(f"{option.label} goes with --{option.goes_with}")
    if "form" in parts and len(parts) > 1:
        made.error("argument -F/--form: not allowed with arguments -d/--data and --data-binary")
    if "" in (found.path, found.config):
        made.error('argument -c/--config: found "", expected the name of a file')
    if found.path and found.config:
        made.error(f"argument -c/--config: found {found.config}, and {found.path} beside it, expected one of them")
    if found.completion and found.completion not in SHELLS:
        made.error(f"argument --completion: found {found.completion!r}, expected one of {', '.join(SHELLS)}")
    return Options(
        found.path or found.config or "", found.check_config, found.print_config, found.version, getattr(found, "try"),
        found.method, found.header or (), found.body or (), found.dev, found.http or HTTP, found.init, found.write,
        found.ping, getattr(found, "import"), found.completion, _overrides(found.set or (), _short(found)),
    )  # fmt: skip


def _short(found: Any) -> Iterator[tuple[str, str | list[str]]]:
    """The settings that have options of their own."""
    for name in ("bind", "workers", "processes"):
        value = getattr(found, name)
        if value is not None:
            yield name, value


def _overrides(assignments: Sequence[str] = (), short: Iterable[tuple[str, str | list[str]]] = ()) -> Overrides | None:
    from .config.overrides import Override, gather

    found = gather(assignments, [Override(f"--{name}", (name,), value) for name, value in short])
    return found or None
