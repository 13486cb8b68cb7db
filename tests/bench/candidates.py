"""This project's server as it is measured: its defaults, and what else there is a line of the table for."""

import sys
from collections.abc import Mapping, Sequence
from compileall import compile_dir
from dataclasses import replace
from functools import cache
from pathlib import Path

from greenfcgi import __version__

from ..support.compiled import Built, NotBuilt, build
from .errors import BenchError, NotInstalled
from .peers import Peer
from .work import CANDIDATE_PEER

COMPILED_PEER = "greenfcgi-compiled"

_PROJECT = Path(__file__).resolve().parents[2]
#: The rows that each flavour of Lua and the compiled core are measured at.
_FLAVOUR_ROWS = ("hello/new", "hello/kept", "page/new")
_HELLO_ROWS = ("hello/new", "hello/kept")
#: The most that an access log may cost, as the ratio to the same server without; and so where the core is compiled.
_ACCESS_LOG_LIMIT = 1.08
_COMPILED_ACCESS_LOG_LIMIT = 1.05
#: What adds it to the server.
_WITH_ACCESS_LOG = 'processes = 0\naccesslog = "access.log"\n'
#: The most that hellos may cost as ratios to the floor, with the defaults and with the core compiled.
_FLOOR_LIMITS = {"hello/new": 2.0, "hello/kept": 3.0}
_COMPILED_FLOOR_LIMITS = {"hello/new": 1.8, "hello/kept": 2.6}
#: The most that the compiled core may need of the interpreted one's: for less gain nobody should have to build it.
_COMPILED_LIMIT = 0.85


def greenfcgi(
    name: str = CANDIDATE_PEER,
    flavour: str = "luajit21",
    top: str = "processes = 0\n",
    lua: str = "",
    states: str = "",
    environment: Mapping[str, str] | None = None,
    tree: Path = _PROJECT,
) -> Peer:
    """The server on one flavour of Lua, with its defaults but for the lines in `top`, `lua` and `states`.

    They are of the top level and of the tables [lua] and [states]. Unless they say otherwise it is one process
    without a supervisor, which is what the targets are for. `tree` is the folder that holds the package.
    """

    def configure(folder: Path, socket: Path, root: Path) -> Sequence[str]:
        # As an installation does: a server that compiles its modules as it starts keeps a megabyte of that.
        compile_dir(tree / "greenfcgi", quiet=1)
        config = folder / "config.toml"
        config.write_text(
            f'bind = "unix:{socket}"\n{top}\n[scripts]\nroot = "{root}"\n\n'
            f'[lua]\nversion = "{flavour}"\n{lua}\n[states]\n{states}\n'
        )
        return [sys.executable, "-m", "greenfcgi", str(config)]

    # Without the second, Python would take the package from the folder that the benchmark is run in.
    environment = {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1", **(environment or {})}
    floor_limits = _FLOOR_LIMITS if name == CANDIDATE_PEER else {}
    return Peer(name, ".lua", ("new", "kept"), configure, environment, floor_limits=floor_limits)


@cache
def _built(folder: Path) -> Built:
    """The compiled core, once for all servers that are started below a folder. Raises as `build` does."""
    home = folder / "wheel"
    home.mkdir()
    built = build(home)
    compile_dir(built.folder, quiet=1)
    return built


def compiled(name: str = COMPILED_PEER, top: str = "processes = 0\n", lua: str = "") -> Peer:
    """The server with its core compiled, from a wheel that is built when it is started."""
    peer = greenfcgi(name, top=top, lua=lua)

    def configure(folder: Path, socket: Path, root: Path) -> Sequence[str]:
        try:
            built = _built(folder.parent)
        except NotBuilt as reason:
            raise NotInstalled(f"{peer.name} is left out: {reason}") from None
        except RuntimeError as error:
            raise BenchError(f"{peer.name} does not compile: {' | '.join(str(error).splitlines()[-3:])}") from None
        (folder / "mypyc").write_text(built.mypyc)
        paths = [f"PYTHONPATH={built.folder}", "PYTHONSAFEPATH=1"]
        return ["env", *paths, *peer.configure(folder, socket, root)]

    def note(folder: Path) -> str:
        log = (folder / f"{peer.name}.log").read_text()
        if f"greenfcgi {__version__} compiled " not in log:
            raise BenchError(f"{peer.name} has not been started from its wheel: {log.strip()}")
        return f"compiled with mypyc {(folder / 'mypyc').read_text()}"

    return replace(peer, configure=configure, environment={}, note=note)


def with_room(requests: int, flavour: str = "luajit21", name: str = CANDIDATE_PEER, top: str = "") -> Peer:
    """The server with a worker and a state for so many requests at once."""
    top = f"processes = 0\nworkers = {requests}\nkeepalive = 3600\n{top}"
    return greenfcgi(name, flavour, top, states=f"max = {requests}\nclones = {requests}\n")


def variants() -> list[Peer]:
    """The lines beside that of the defaults."""
    jit = greenfcgi("greenfcgi-jit", lua="jit = true\n")
    flavours = [greenfcgi(f"greenfcgi-{flavour}", flavour) for flavour in ("lua51", "lua54")]
    log = greenfcgi("greenfcgi-log", top=_WITH_ACCESS_LOG)
    compiled_log = compiled(f"{COMPILED_PEER}-log", _WITH_ACCESS_LOG)
    return [
        *(replace(peer, rows=_FLAVOUR_ROWS) for peer in (jit, *flavours)),
        _beside(log, _HELLO_ROWS, _ACCESS_LOG_LIMIT),
        replace(_beside(compiled(), _FLAVOUR_ROWS, _COMPILED_LIMIT), floor_limits=_COMPILED_FLOOR_LIMITS),
        _beside(compiled_log, _HELLO_ROWS, _COMPILED_ACCESS_LOG_LIMIT, COMPILED_PEER),
        replace(compiled(f"{COMPILED_PEER}-jit", lua="jit = true\n"), rows=_FLAVOUR_ROWS),
    ]


def _beside(peer: Peer, rows: tuple[str, ...], limit: float, base: str = CANDIDATE_PEER) -> Peer:
    """A variant that is held against another one, the server with its defaults, with a limit at hellos."""
    return replace(peer, rows=rows, base=base, limits=dict.fromkeys(_HELLO_ROWS, limit))
