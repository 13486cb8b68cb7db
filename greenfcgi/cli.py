"""The command `greenfcgi`: arguments in, exit status out. Every mistake of a user is answered with one line.

What there is to ask for is in `command_line`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .command_line import CONFIG, HTTP, Options, parse
from .errors import BindError, BootError, ConfigError, ExitStatus
from .system.standard_streams import open_standard_streams
from .system.stub_modules import deferred
from .version import NAME

if TYPE_CHECKING:
    from .config.load import Config

#: What parses TOML and the command line: with what that imports.
_PARSERS = ("tomllib", "string", "argparse", "gettext", "locale")

#: How long --ping waits for an answer of each address.
_PING_SECONDS = 3


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
    _import_lightly()
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(options)
    except ConfigError as problem:
        print(f"greenfcgi: {_located(problem, options)}", file=sys.stderr)
        return ExitStatus.USAGE
    except BootError as problem:
        print(f"greenfcgi: {_located(problem, options)}", file=sys.stderr)
        return problem.status
    except BindError as problem:
        print(f"greenfcgi: {_located(problem, options)}", file=sys.stderr)
        return ExitStatus.FAILED
    except KeyboardInterrupt:
        return ExitStatus.FAILED


def _located(problem: Exception, options: Options) -> str:
    """A message with where the setting is from that it is about, where that is not the file."""
    return str(problem) if options.overrides is None else options.overrides.locate(str(problem))


def _dispatch(options: Options) -> int:
    if options.version:
        # Not argparse's own, which breaks the line where the terminal ends.
        return _print(f"{NAME}\n")
    if options.shell:
        from .completion import script

        return _print(script(options.shell))
    if options.imported is not None:
        from .imports.command import run

        return _print(run(options.imported))
    if options.is_development:
        return _develop(options)
    if options.check_config:
        return _check(options)
    if options.target is not None:
        return _init(options)
    config = _configuration(options)
    if options.print_config:
        return _print_config(config)
    if options.is_ping:
        return _ping(config)
    return _serve(config, options) if options.url is None else _try(config, options)


def _develop(options: Options) -> int:
    from .config.address import ADDRESS, Address
    from .config.value_type import InvalidValue

    text = f"127.0.0.1:{options.http}" if options.http.isdecimal() else options.http
    try:
        at = ADDRESS.read(text, "")
    except InvalidValue:
        at = None
    if not isinstance(at, Address) or at.kind != "tcp":
        raise ConfigError(f"--http: found {options.http!r}, expected an address and a port such as {HTTP}")
    from .dev.mode import serve

    return serve(options.path or (CONFIG if os.path.exists(CONFIG) else "."), at, options.overrides)


def _init(options: Options) -> int:
    from .deploy.init import run

    assert options.target is not None
    return _print(run(options.target, options.path or CONFIG, lambda: _configuration(options), options.directory))


def _ping(config: Config) -> int:
    from .ping import ping

    problem = ping(config, _PING_SECONDS)
    if problem:
        print(f"greenfcgi: {problem}", file=sys.stderr)
    return ExitStatus.FAILED if problem else _print("pong\n")


def _path(options: Options) -> str:
    """The configuration; "" where none is named, there is none here, and what is set elsewhere is to do without."""
    return options.path or ("" if options.overrides is not None and not os.path.exists(CONFIG) else CONFIG)


def _configuration(options: Options) -> Config:
    _import_lightly()
    from .config.load import load, names
    from .system.listen import is_listening, replace_bind

    path, overrides = _path(options), options.overrides
    config = load(path, overrides)
    if is_listening(0) and "bind" not in names(path) and (overrides is None or not overrides.origin("", "bind")):
        config = replace_bind(config, [0])
    return config


def _import_lightly() -> None:
    """Import what would bring modules that hardly any configuration and no server uses: 0.4 MB."""
    with deferred("selectors"), deferred("datetime"):
        import socket  # noqa: F401
        import tomllib  # noqa: F401


def _check(options: Options) -> int:
    """Print that the configuration is OK, or each mistake in it."""
    from .config.load import examine
    from .config.lua_versions import FLAVOURS
    from .logs.progress import shown
    from .preflight import preflight, remarks

    path, overrides = _path(options), options.overrides
    config, problems = examine(path, overrides)
    if config is not None:
        with shown(lambda: f"checking {path or 'the settings'}"):
            found = list(preflight(config))
        problems += [overrides.locate(one, path) if overrides is not None else f"{path}: {one}" for one in found]
        for text in remarks(config):
            print(f"greenfcgi: {text}", file=sys.stderr)
    for problem in problems:
        print(f"greenfcgi: {problem}", file=sys.stderr)
    # Where lupa has no LuaJIT, "auto" is another Lua.
    lua = "" if config is None or config.lua.version == FLAVOURS[0] else f" ({config.lua.version})"
    return ExitStatus.USAGE if problems else _print(f"{path or 'without config.toml'}: OK{lua}\n")


def _print(output: str | bytes) -> int:
    import signal

    # Into `head` and the like: end as other commands do when nobody reads on.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Names of files keep their bytes, which need not be UTF-8.
    data = output if isinstance(output, bytes) else output.encode(errors="surrogateescape")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    except OSError as problem:
        print(f"greenfcgi: stdout: {problem.strerror}", file=sys.stderr)
        # What is left in the buffer would fail once more when Python ends, with a status of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitStatus.FAILED
    return ExitStatus.OK


def _print_config(config: Config) -> int:
    from .config.load import dump

    return _print(dump(config))


def _serve(config: Config, options: Options) -> int:
    _forget_parsers()
    if config.processes == 0:
        from .processes.standalone import serve

        return ExitStatus.OK if serve(config) else ExitStatus.FAILED
    from .processes.supervisor import Supervisor

    def read() -> Config:
        try:
            return _configuration(options)
        finally:
            _forget_parsers()

    return Supervisor(config, read).run()


def _forget_parsers() -> None:
    """Free what is not needed any more: what is imported next takes its memory, 0.3 MB of TOML and 0.5 of options."""
    for name in [name for name in sys.modules if name.partition(".")[0] in _PARSERS]:
        del sys.modules[name]


def _try(config: Config, options: Options) -> int:
    import signal

    from .dev.curl_request import request_of
    from .dev.try_request import respond
    from .logs.progress import shown

    assert options.url is not None
    request = request_of(options.url, options.method, options.headers, options.body)
    # Ctrl-C ends a script that waits: the interpreter's default is a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with shown(lambda: f"waiting for {request.url}"):
        reply = respond(config, request)
    printed = _print(reply.stdout)
    is_whole = reply.ended is not None and reply.ended[0] == 0
    return printed if is_whole and reply.status < 400 else ExitStatus.FAILED
