"""The servers that are compared: how each is configured, started, known to be ready, and asked what it is.

To add a peer: a function that returns its `Peer`, its scripts in `scripts/`, and a place in the command's
list.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .accounting import wait_until_quiet
from .client import FastCGIClient
from .errors import BenchError
from .processes import Server, running
from .work import CANDIDATE_PEER, Connection

SCRIPTS = Path(__file__).resolve().parent / "scripts"
_PROJECT = Path(__file__).resolve().parents[2]
_PHP_FPM_NAMES = ("php-fpm8.2", "php-fpm")
_PHP_FPM_CHILDREN = 4


@dataclass(frozen=True, eq=False)
class Peer:
    """A kind of server.

    `configure(folder, socket, root)` writes the configuration into `folder`, for a server that listens on the
    unix socket and serves the scripts below `root`, and returns the command.
    """

    name: str
    suffix: str
    connections: tuple[Connection, ...]
    configure: Callable[[Path, Path, Path], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Upstream:
    """A peer that is running and ready."""

    peer: Peer
    server: Server
    socket: Path
    root: Path

    def script(self, name: str) -> Path:
        return self.root / f"{name}{self.peer.suffix}"

    def about(self) -> str:
        """What the server's own script `about` says of its language and engine. Raises `BenchError`."""
        with FastCGIClient(self.socket) as client:
            reply = client.get(self.script("about"))
        if reply.status != 200:
            raise BenchError(
                f"{self.peer.name}: about{self.peer.suffix} answered {reply.status}: {reply.stderr!r}"
            )
        return reply.body.decode()


def greenfcgi(flavour: str = "luajit21", settings: str = "processes = 0\n") -> Peer:
    """This project's server on one flavour of Lua, with its defaults but for `settings`, lines of the top level.

    Unless they say otherwise it is one process without a supervisor, which is what the targets are for.
    """

    def configure(folder: Path, socket: Path, root: Path) -> Sequence[str]:
        config = folder / "config.toml"
        config.write_text(
            f'bind = "unix:{socket}"\n{settings}\n[scripts]\nroot = "{root}"\n\n[lua]\nversion = "{flavour}"\n'
        )
        return [sys.executable, "-m", "greenfcgi", str(config)]

    return Peer(CANDIDATE_PEER, ".lua", ("new", "kept"), configure, {"PYTHONPATH": str(_PROJECT)})


def php_fpm(name: str) -> Peer:
    """php-fpm as Debian sets it up, with four children and opcache.

    Only with new connections: a child serves one connection until it is closed, so four kept ones block all
    others.
    """

    def configure(folder: Path, socket: Path, root: Path) -> Sequence[str]:
        config = folder / "php-fpm.conf"
        config.write_text(
            f"[global]\nerror_log = {folder}/php-fpm.log\n"
            f"[bench]\nlisten = {socket}\npm = static\npm.max_children = {_PHP_FPM_CHILDREN}\n"
        )
        settings = ["opcache.enable=1", "expose_php=0", "default_charset="]
        command = [_php_fpm_program(), "--nodaemonize", "--fpm-config", str(config)]
        command += [part for setting in settings for part in ("-d", setting)]
        return [*command, "--allow-to-run-as-root"] if os.geteuid() == 0 else command

    return Peer(name, ".php", ("new",), configure)


@contextlib.contextmanager
def started(peer: Peer, folder: Path, root: Path = SCRIPTS) -> Iterator[Upstream]:
    """Run a peer, in a new folder below `folder`, until the block ends. It has served nothing yet."""
    home = folder / peer.name
    home.mkdir()
    socket = home / "socket"
    with running(peer.name, peer.configure(home, socket, root), home, peer.environment) as server:
        server.wait_until(lambda: _listens(socket), "listening")
        wait_until_quiet(server.pids())
        yield Upstream(peer, server, socket, root)


def _listens(path: Path) -> bool:
    try:
        FastCGIClient(path).close()
    except OSError:
        return False
    return True


def _php_fpm_program() -> str:
    places = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
    for name in _PHP_FPM_NAMES:
        found = shutil.which(name, path=places)
        if found:
            return found
    raise BenchError("php-fpm is not installed: apt-get install php8.2-fpm php8.2-opcache")
