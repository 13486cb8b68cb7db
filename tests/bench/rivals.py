"""The other servers, as Debian packages them: php-fpm, uWSGI with its Lua plugin, wsapi.fcgi; and the floor.

Each has four processes that serve a request at a time, and connections that may wait for them. A kept connection would
hold one of the four for itself, so they are measured with new ones only.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import BenchError, NotInstalled
from .peers import SCRIPTS, Peer
from .work import FLOOR_PEER, HELLO, REFERENCE_PEER

_CHILDREN = 4
_BACKLOG = 1024
_WSAPI_SCRIPTS = SCRIPTS / "wsapi"
#: wsapi.fcgi takes a script for the module of its name: a mere `table.lua` would take the place of Lua's library.
_WSAPI_SUFFIX = "_app.lua"
#: The page with escaped text has no target, and is left to php-fpm.
_WSAPI_ROWS = ("hello/new", "page/new", "upload/new", "wait")
_UWSGI_PLUGINS = ("/usr/lib/uwsgi/plugins", "lua51")
_FLOOR_SOURCE = Path(__file__).resolve().parent / "floor.c"


def php_fpm(name: str = REFERENCE_PEER, children: int = _CHILDREN) -> Peer:
    """php-fpm as Debian sets it up, with a static number of children and opcache."""

    def configure(folder: Path, socket: Path, root: Path) -> Sequence[str]:
        config = folder / "php-fpm.conf"
        config.write_text(
            f"[global]\nerror_log = {folder}/php-fpm.log\n"
            f"[bench]\nlisten = {socket}\nlisten.backlog = {_BACKLOG}\npm = static\npm.max_children = {children}\n"
        )
        settings = ["opcache.enable=1", "expose_php=0", "default_charset="]
        command = [php_fpm_program(), "--nodaemonize", "--fpm-config", str(config)]
        command += [part for setting in settings for part in ("-d", setting)]
        return [*command, "--allow-to-run-as-root"] if os.geteuid() == 0 else command

    return Peer(name, ".php", ("new",), configure)


def php_fpm_program() -> str:
    """Raises `NotInstalled` when there is none."""
    versions = sorted(path.name for path in Path("/usr/sbin").glob("php-fpm[0-9]*"))
    return _program((*versions, "php-fpm"), "php-fpm")


def uwsgi(children: int = _CHILDREN) -> Peer:
    """uWSGI's plugin for Lua 5.1, whose one app calls the script of the request; no log of requests."""
    folder, plugin = _UWSGI_PLUGINS

    def configure(home: Path, socket: Path, root: Path) -> Sequence[str]:
        packages = "uwsgi-core uwsgi-plugin-lua5.1 lua-socket"
        program = _program(("uwsgi-core",), packages)
        if not Path(folder, f"{plugin}_plugin.so").exists():
            raise NotInstalled(f"uWSGI's plugin for Lua is not installed: apt-get install {packages}")
        command = [program, "--plugins-dir", folder, "--plugin", plugin, "--lua", str(root / "uwsgi.lua")]
        command += ["--fastcgi-socket", str(socket), "--fastcgi-modifier1", "6", "--listen", str(_BACKLOG)]
        return [*command, "--master", "--die-on-term", "--processes", str(children), "--disable-logging"]

    return Peer("uwsgi", _WSAPI_SUFFIX, ("new",), configure, rows=_WSAPI_ROWS, scripts=_WSAPI_SCRIPTS)


def wsapi() -> Peer:
    """wsapi.fcgi, the launcher of WSAPI scripts, several times on the one socket that spawn-fcgi opens.

    spawn-fcgi's own way to start several leaves them to init; a shell that stays their parent takes its place.
    """

    packages = ("lua-wsapi-fcgi", "spawn-fcgi", "lua-socket")

    def configure(folder: Path, socket: Path, root: Path) -> Sequence[str]:
        spawn, launcher = (_program((program,), " ".join(packages)) for program in ("spawn-fcgi", "wsapi.fcgi"))
        start = f'{shlex.quote(launcher)} <&3 & all="$all $!"; ' * _CHILDREN
        family = f"exec 3<&0; all=; {start}trap 'kill $all' TERM; wait"
        return [spawn, "-n", "-s", str(socket), "-b", str(_BACKLOG), "--", "/bin/sh", "-c", family]

    return Peer(
        "wsapi", _WSAPI_SUFFIX, ("new",), configure, rows=_WSAPI_ROWS, scripts=_WSAPI_SCRIPTS, packages=packages
    )


def floor() -> Peer:
    """`floor.c`: one process that sends the canned reply to a hello; there is no script, and nothing to configure."""

    def configure(folder: Path, socket: Path, root: Path) -> Sequence[str]:
        program, reply = folder / "floor", folder / "reply"
        command = [_program(("cc", "gcc"), "gcc libc6-dev"), "-O2", "-o", str(program), str(_FLOOR_SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{_FLOOR_SOURCE.name} cannot be compiled: {' | '.join(done.stderr.splitlines()[:3])}")
        reply.write_bytes(f"Content-Type: {HELLO.content_type}\r\n\r\n".encode() + HELLO.body)
        return [str(program), str(socket), str(reply)]

    rows = (f"{HELLO.name}/new", f"{HELLO.name}/kept")
    return Peer(FLOOR_PEER, "", ("new", "kept"), configure, rows=rows, about="in C", packages=("gcc",))


def _program(names: Sequence[str], packages: str) -> str:
    """The first of these that there is. Raises `NotInstalled` when there is none."""
    places = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
    for name in names:
        found = shutil.which(name, path=places)
        if found:
            return found
    raise NotInstalled(f"{names[-1]} is not installed: apt-get install {packages}")
