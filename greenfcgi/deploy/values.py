"""What templates have in their places: a configuration, in the words of each program that reads the files."""

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

# What means something in one of the files that are made, and cannot be written otherwise in all of them.
_SPECIAL = re.compile(r"""["'\\$`%{}<>|@\x00-\x1f\x7f]""")
# Values that are made here, with signs that their readers understand.
_MADE = ("command", "extension", "listen_streams", "log_files", "machines_redis", "machines_dictionaries")
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}


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
        "first_extension": scripts.extensions[0],
        "index": scripts.index,
        "front": scripts.front,
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
        "user": config.user,
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
    for path in (config.status_path, config.ping_path):
        if any(f"{extension}/" in f"{path}/" for extension in scripts.extensions):
            raise ConfigError(f"--init: found {path!r}, expected a path that is no script's")
    address, *further = _reachable(config)
    return found | {"further": ", ".join(map(str, further))} | _addresses(address) | _lists(address, scripts.extensions)


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
            reachable.append(address._replace(host=_ANY_HOST.get(address.host, address.host)))
        elif address.kind == "unix" and not address.is_abstract and not _SPECIAL.search(address.path):
            reachable.append(address)
    if reachable:
        return reachable
    found = ", ".join(f'"{address}"' for address in config.bind)
    raise ConfigError(f"--init: found bind = {found}, expected a unix socket with a path, or a TCP port")


def _addresses(address: Address) -> dict[str, str]:
    """The address as each web server writes it; `socket` and `port` are "" for the other kind."""
    host, port, path = address.host, str(address.port), address.path
    if address.kind == "unix":
        return {
            "socket": path,
            "socket_folder": os.path.dirname(path),
            "port": "",
            "nginx_address": f"unix:{path}",
            "lighttpd_address": f'"socket" => "{path}"',
            "apache_worker": "fcgi://greenfcgi/",
            "apache_handler": f"proxy:unix:{path}|fcgi://greenfcgi/",
            "caddy_address": f"unix/{path}",
            "haproxy_address": f"unix@{path}",
        }
    bracketed = f"[{host}]" if ":" in host else host
    return {
        "socket": "",
        "socket_folder": "",
        "port": port,
        "nginx_address": f"{bracketed}:{port}",
        "lighttpd_address": f'"host" => "{host}", "port" => {port}',
        # Apache takes brackets for a pattern there.
        "apache_worker": "" if ":" in host else f"fcgi://{host}:{port}/",
        "apache_handler": f"proxy:fcgi://{bracketed}:{port}/",
        "caddy_address": f"{bracketed}:{port}",
        "haproxy_address": f"{host}:{port}",
    }


def _lists(address: Address, extensions: tuple[str, ...]) -> dict[str, str]:
    """What web servers write once for each of scripts.extensions."""
    backend = _addresses(address)["lighttpd_address"]
    backend += ', "x-sendfile" => "enable", "x-sendfile-docroot" => ( var.root )'
    return {
        "lighttpd_backend": backend,
        "lighttpd_scripts": ", ".join(f'"{extension}" => (( {backend} ))' for extension in extensions),
        "caddy_split": " ".join(extensions),
    }
