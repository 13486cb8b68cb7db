"""The command `greenfcgi`: arguments in, exit status out. Every mistake of a user is answered with one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from .errors import BindError, BootError, ConfigError, ExitStatus
from .system.standard_streams import open_standard_streams
from .system.stub_modules import deferred
from .version import NAME

if TYPE_CHECKING:
    from .config.load import Config


_DOCS = os.path.join(os.path.dirname(__file__), "docs")
_CONFIG = "config.toml"
_HTTP = "127.0.0.1:8080"


class Options(NamedTuple):
    """The command line."""

    config: str
    check_config: bool = False
    print_config: bool = False
    url: str | None = None
    is_development: bool = False
    http: str = ""
    target: str = ""
    directory: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status."""
    open_standard_streams()
    status = _run(arguments)
    _leave_threads(status)
    return status


def _leave_threads(status: int) -> None:
    """End now where threads of Python modules run on, which Python would wait for."""
    threading = sys.modules.get("threading")
    if threading is not None and any(not one.daemon for one in threading.enumerate()[1:]):
        import atexit

        # What os._exit leaves out.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(arguments: Sequence[str] | None) -> int:
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        if options.is_development:
            return _develop(options)
        if options.check_config:
            return _check(options.config)
        if options.target:
            return _init(options)
        config = _configuration(options.config)
        if options.print_config:
            return _print_config(config)
        return _serve(config, options.config) if options.url is None else _try(config, options.url)
    except ConfigError as problem:
        print(f"greenfcgi: {problem}", file=sys.stderr)
        return ExitStatus.USAGE
    except BootError as problem:
        print(f"greenfcgi: {problem}", file=sys.stderr)
        return problem.status
    except BindError as problem:
        print(f"greenfcgi: {problem}", file=sys.stderr)
        return ExitStatus.FAILED
    except KeyboardInterrupt:
        return ExitStatus.FAILED


def _parse(arguments: Sequence[str]) -> Options:
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        # How servers are started. argparse would stay in memory for their life: 0.5 MB.
        return Options(arguments[0])
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            self.exit(ExitStatus.USAGE, f"greenfcgi: {message}; see greenfcgi --help\n")

    parser = Parser(
        prog="greenfcgi", description="A FastCGI application server for Lua.", allow_abbrev=False,
        epilog=f"The manual: settings.md, scripts.md, production.md and more in {_DOCS}",
    )  # fmt: skip
    parser.add_argument(
        "config", nargs="?", help="the configuration file (default: config.toml); with --dev, also a folder of scripts"
    )
    parser.add_argument("--version", action="store_true", help="print the version, and exit")
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--check-config", action="store_true", help="report OK or each mistake, and exit")
    task.add_argument("--print-config", action="store_true", help="print the effective settings as TOML, and exit")
    task.add_argument(
        "--try", dest="url", metavar="URL", help="run one request, such as /hello.lua?name=x, print its response, exit"
    )
    task.add_argument(
        "--dev", action="store_true", help=f"developer mode: pages on http://{_HTTP}/ that reload at each save"
    )
    task.add_argument(
        "--init",
        metavar="TARGET",
        default="",
        help="print the files of a web server or a service, made from the configuration",
    )
    parser.add_argument("--write", metavar="DIR", help="with --init: write them into this empty or new directory")
    parser.add_argument("--http", metavar="ADDR:PORT", help=f"with --dev: the address of its pages (default: {_HTTP})")
    found = parser.parse_args(arguments)
    if found.version:
        # Not argparse's own, which breaks the line where the terminal ends.
        raise SystemExit(_print(f"{NAME}\n".encode()))
    if found.http and not found.dev:
        parser.error("--http goes with --dev")
    if found.write is not None and not found.init:
        parser.error("--write goes with --init")
    config = found.config or ("." if found.dev and not os.path.exists(_CONFIG) else _CONFIG)
    return Options(
        config, found.check_config, found.print_config, found.url, found.dev, found.http or _HTTP, found.init,
        found.write,
    )  # fmt: skip


def _develop(options: Options) -> int:
    from .config.address import ADDRESS, Address
    from .config.value_type import InvalidValue

    text = f"127.0.0.1:{options.http}" if options.http.isdecimal() else options.http
    try:
        at = ADDRESS.read(text, "")
    except InvalidValue:
        at = None
    if not isinstance(at, Address) or at.kind != "tcp":
        raise ConfigError(f"--http: found {options.http!r}, expected an address and a port such as {_HTTP}")
    from .dev.mode import serve

    return serve(options.config, at)


def _init(options: Options) -> int:
    from .deploy.init import run

    text = run(options.target, options.config, lambda: _configuration(options.config), options.directory)
    return _print(text.encode())


def _configuration(path: str) -> Config:
    _import_lightly()
    from .config.load import load, names
    from .system.listen import is_listening, replace_bind

    config = load(path)
    if is_listening(0) and "bind" not in names(path):
        config = replace_bind(config, [0])
    return config


def _import_lightly() -> None:
    """Import what would bring modules that hardly any configuration and no server uses: 0.4 MB."""
    with deferred("selectors"), deferred("datetime"):
        import socket  # noqa: F401
        import tomllib  # noqa: F401


def _check(path: str) -> int:
    """Print that the configuration is OK, or each mistake in it."""
    from .config.load import examine
    from .config.lua_versions import FLAVOURS
    from .preflight import preflight

    config, problems = examine(path)
    if config is not None:
        problems += [f"{path}: {problem}" for problem in preflight(config)]
    for problem in problems:
        print(f"greenfcgi: {problem}", file=sys.stderr)
    # Where lupa has no LuaJIT, "auto" is another Lua.
    lua = "" if config is None or config.lua.version == FLAVOURS[0] else f" ({config.lua.version})"
    return ExitStatus.USAGE if problems else _print(f"{path}: OK{lua}\n".encode())


def _print(output: bytes) -> int:
    import signal

    # Into `head` and the like: end as other commands do when nobody reads on.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.stdout.buffer.write(output)
    sys.stdout.flush()
    return ExitStatus.OK


def _print_config(config: Config) -> int:
    from .config.load import dump

    return _print(dump(config).encode())


def _serve(config: Config, path: str) -> int:
    _forget_parser()
    if config.processes == 0:
        from .processes.standalone import serve

        return ExitStatus.OK if serve(config) else ExitStatus.FAILED
    from .processes.supervisor import Supervisor

    def read() -> Config:
        try:
            return _configuration(path)
        finally:
            _forget_parser()

    return Supervisor(config, read).run()


def _forget_parser() -> None:
    """Free the TOML parser, which is not needed any more: what is imported next takes its 0.3 MB of memory."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tomllib", "string")]:
        del sys.modules[name]


def _try(config: Config, url: str) -> int:
    import signal

    from .dev.try_request import respond

    # Ctrl-C ends a script that waits: the interpreter's default is a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    reply = respond(config, url)
    _print(reply.stdout)
    is_whole = reply.ended is not None and reply.ended[0] == 0
    return ExitStatus.OK if is_whole and reply.status < 400 else ExitStatus.FAILED
