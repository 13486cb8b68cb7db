"""The command `greenfcgi`: arguments in, exit status out. Whatever a user did wrong is answered with one line.

Exit status: 0 when all went well, 1 when serving failed (an address is taken) or was cut short, 2 when the
configuration or the command line is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from . import __version__
from .errors import BindError, ConfigError

if TYPE_CHECKING:
    from .config import Config

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


class Options(NamedTuple):
    """The command line."""

    config: str
    check_config: bool = False
    print_config: bool = False
    url: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        config = _configuration(options.config)
        if options.check_config:
            print(f"{options.config}: fine")
            return EXIT_OK
        if options.print_config:
            return _print(config)
        return _try(config, options.url) if options.url else _serve(config)
    except ConfigError as problem:
        print(f"greenfcgi: {problem}", file=sys.stderr)
        return EXIT_USAGE
    except BindError as problem:
        print(f"greenfcgi: {problem}", file=sys.stderr)
        return EXIT_FAILED


def _parse(arguments: Sequence[str]) -> Options:
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        # How servers are started. argparse would stay in memory for their life: 0.5 MB.
        return Options(arguments[0])
    import argparse

    parser = argparse.ArgumentParser(
        prog="greenfcgi", description="A FastCGI application server for Lua.", allow_abbrev=False
    )
    parser.add_argument("config", nargs="?", default="config.toml", help="the configuration (default: config.toml)")
    parser.add_argument("--version", action="version", version=f"greenfcgi {__version__}")
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--check-config", action="store_true", help="say whether the configuration is fine, and exit")
    task.add_argument("--print-config", action="store_true", help="print the effective settings as TOML, and exit")
    task.add_argument(
        "--try", dest="url", metavar="URL", help="answer one request, such as /hello.lua?name=x, print it, and exit"
    )
    found = parser.parse_args(arguments)
    return Options(found.config, found.check_config, found.print_config, found.url)


def _configuration(path: str) -> Config:
    from .config import load

    config = load(path)
    if config.accesslog:
        from .accesslog import check_format

        check_format(config.access_log_format)
    return config


def _print(config: Config) -> int:
    from .config import dump

    sys.stdout.write(dump(config))
    return EXIT_OK


def _serve(config: Config) -> int:
    from .process import Process

    process = Process(config)
    process.bind()
    return EXIT_OK if process.run() else EXIT_FAILED


def _try(config: Config, url: str) -> int:
    from .trial import respond

    reply = respond(config, url)
    sys.stdout.buffer.write(reply.stdout)
    sys.stdout.flush()
    return EXIT_OK if reply.status < 400 else EXIT_FAILED

