"""The servers that are compared: what there is to know of one, how it is started, and asked what it is.

How each is set up is told in `candidates` (this project's server) and `rivals` (all others).
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .accounting import wait_until_quiet
from .client import FastCGIClient
from .errors import BenchError
from .processes import Server, running
from .work import Connection, Row

SCRIPTS = Path(__file__).resolve().parent / "scripts"


@dataclass(frozen=True, eq=False)
class Peer:
    """A kind of server.

    `configure(folder, socket, root)` writes the configuration into `folder`, for a server that listens on the
    unix socket and serves the scripts below `root`, and returns the command. It raises `NotInstalled` when a
    program is missing.

    `rows` are the names of the rows and parts that it is measured at; None is all that it can do. `base` names the
    peer that it is compared with in the same row, and `limits` are the highest ratios to that, by row; so are
    `floor_limits` to the floor. `about` is what it is, where no script of its own can tell; `note(folder)` tells what
    `configure` has made of it there, beside what its script tells; and `packages` are Debian's whose versions only
    Debian can tell. `web` ones are web servers themselves: they are asked over HTTP, at the port that `configure` has
    written to the file `port`, and need no nginx before them.
    """

    name: str
    suffix: str
    connections: tuple[Connection, ...]
    configure: Callable[[Path, Path, Path], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    scripts: Path = SCRIPTS
    rows: tuple[str, ...] | None = None
    base: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    floor_limits: Mapping[str, float] = field(default_factory=dict)
    about: str | None = None
    note: Callable[[Path], str] | None = None
    packages: tuple[str, ...] = ()
    web: bool = False

    def does(self, row: Row) -> bool:
        """Whether it is measured at this row."""
        return row.connection in self.connections and self.takes_part(row.name)

    def takes_part(self, name: str) -> bool:
        """Whether it is measured in this row or part."""
        return self.rows is None or name in self.rows


@dataclass(frozen=True, eq=False)
class Upstream:
    """A peer that is running and ready."""

    peer: Peer
    server: Server
    socket: Path
    root: Path

    @property
    def port(self) -> int:
        """Of a web server."""
        return int((self.socket.parent / "port").read_text())

    def script(self, name: str) -> Path:
        return self.root / f"{name}{self.peer.suffix}"

    def about(self) -> str:
        """What the server's own script `about` says of its language and engine. Raises `BenchError`."""
        if self.peer.about is not None:
            return self.peer.about
        with FastCGIClient(self.socket) as client:
            reply = client.get(self.script("about"))
        if reply.status != 200:
            raise BenchError(f"{self.peer.name}: about{self.peer.suffix} answered {reply.status}: {reply.stderr!r}")
        told = reply.body.decode()
        return f"{told}, {self.peer.note(self.socket.parent)}" if self.peer.note else told


@contextlib.contextmanager
def started(peer: Peer, folder: Path, scripts: Path | None = None) -> Iterator[Upstream]:
    """Run a peer, in a new folder below `folder`, with its own scripts or those named, until the block ends.

    It has served nothing yet. Raises `NotInstalled` when there is no such server here.
    """
    home, root = folder / peer.name, scripts or peer.scripts
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
