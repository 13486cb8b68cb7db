"""What templates have in their places: a configuration as text, and how this program is started."""

from __future__ import annotations

import os
import re
import shlex
import sys
from math import ceil

from .. import __version__
from ..config.address import Address
from ..config.load import Config
from ..errors import ConfigError
from .machines import machine_values
from .webserver_words import words

# What means something in one of the files that are made, and cannot be written otherwise in all of them.
_SPECIAL = re.compile(r"""["'\\$`%{}<>|@\x00-\x1f\x7f]""")
# Values that are made here, with signs that their readers understand.
_MADE = ("command", "extension", "listen_streams", "log_files", "machines_redis", "machines_dictionaries")


def values(config: Config, path: str) -> dict[str, str]:
    """The values of the templates, by their names, for the configuration that was read from `path`.

    A flag is "yes" or "". Raises ConfigError, one line, for a setting that the files cannot have.
    """
    scripts = config.scripts
    program = _command()
    in_home = config.folder.startswith(("/home/", "/root/"))
    found = {
        "command": shlex.join(program),
        "program": program[0],
        "program_arguments": "".join(f"{argument} " for argument in program[1:]),
        "interpreter": sys.executable,
        "version": __version__,
        "config": os.path.abspath(path),
        "folder": config.folder,
        "root": scripts.root,
        "public": os.path.join(scripts.root, scripts.public) if scripts.public else "",
        "public_name": scripts.public,
        # Of a regular expression: \.lua, or (?:\.lua|\.lp).
        "extension": _alternatives(scripts.extensions),
        "has_front": "yes" if scripts.front or config.apps else "",
        "max_post": str(scripts.max_post),
        "max_post_kb": str(ceil(scripts.max_post / 1024)),
        # Longer than any request runs, in whole seconds.
        "wait": str(ceil(config.timeout) + 30),
        # What a web server keeps is closed by it, and not by greenfcgi, in whole seconds; nginx's own is 60.
        "keepalive": str(min(60, max(1, int(config.keepalive * 2 / 3)))),
        "stop": str(ceil(config.graceful_timeout) + 15),
        "status_path": config.status_path,
        "ping_path": config.ping_path,
        "group": config.group,
        "pidfile": config.pidfile,
        "service_user": config.user or "www-data",
        "service_user_openrc": config.user or "nobody",
        "service_user_bsd": config.user or "www",
        "protect_home": "read-only" if in_home else "yes",
        "log_files": " ".join(f'"{path}"' for path in _log_files(config)),
        "socket_mode": f"{config.socket_mode:04o}",
        "backlog": str(config.backlog),
        "listen_streams": "\n".join(f"ListenStream={stream}" for stream in _listen_streams(config)),
    }
    found |= machine_values(config)
    for name, value in found.items():
        if name not in _MADE and (special := _SPECIAL.search(value)):
            raise ConfigError(f"--init: found {special[0]!r} in {value!r}, expected a name without this character")
    for url in (config.status_path, config.ping_path):
        if any(f"{extension}/" in f"{url}/" for extension in scripts.extensions):
            raise ConfigError(f"--init: found {url!r}, expected a path that is no script's")
    address, *further = _reachable(config)
    return found | {"further": ", ".join(map(str, further))} | words(address, scripts.extensions)


def _command() -> list[str]:
    """How the program that is running now is started."""
    program = os.path.abspath(sys.argv[0])
    return [program] if os.path.basename(program) == "greenfcgi" else [sys.executable, "-m", "greenfcgi"]


def _log_files(config: Config) -> list[str]:
    """The files of logs, each once; where there is none, where a service manager puts what is written to stderr."""
    found = dict.fromkeys((config.errorlog, config.accesslog, config.slowlog))
    return [path for path in found if path not in ("", "-")] or ["/var/log/greenfcgi.log"]


def _listen_streams(config: Config) -> list[str]:
    """Where systemd listens for the server: ListenStream of systemd.socket(5)."""
    return [address.path if address.kind == "unix" else str(address) for address in config.bind if address.kind != "fd"]


def _alternatives(extensions: tuple[str, ...]) -> str:
    escaped = [re.escape(extension) for extension in extensions]
    return escaped[0] if len(escaped) == 1 else f"(?:{'|'.join(escaped)})"


def _reachable(config: Config) -> list[Address]:
    """The addresses that a web server of this machine can connect to, in the order of `bind`; there is one at least."""
    reachable = []
    for address in config.bind:
        if address.kind == "tcp" and address.port:
            reachable.append(address.reachable())
        elif address.kind == "unix" and not address.is_abstract and not _SPECIAL.search(address.path):
            reachable.append(address)
    if reachable:
        return reachable
    found = ", ".join(f'"{address}"' for address in config.bind)
    raise ConfigError(f"--init: found bind = {found}, expected a unix socket with a path, or a TCP port")
