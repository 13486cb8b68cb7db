"""A server with its scripts, and the web servers in front of it."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ...support.running import Server
from .client import Web
from .fronts import Front, free_port, running
from .installed import is_wanted
from .scripts import FRONT_SCRIPTS, PRIVATE, SCRIPTS

#: Anybody may connect, as web servers run as users of their own; 24 MB, so that 20 MB are taken.
_SETTINGS = """
socket_mode = "0666"
status_path = "/status"
ping_path = "/ping"
[scripts]
max_post = "24M"
stderr = true
"""


class Site:
    """A server that runs, and the web servers in front of it, by what they are."""

    def __init__(self, server: Server, webs: Mapping[Front, Web]) -> None:
        self.server = server
        self.webs = webs


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder that the users of web servers can look into."""
    folder = Path(tempfile.mkdtemp(prefix="greenfcgi-webservers-"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def site(
    fronts: Iterable[Front],
    scripts: Mapping[str, str],
    settings: str,
    change: Callable[[str], str] = str,
    host: str = "127.0.0.1",
) -> Iterator[Site]:
    """Such a site, with all web servers of `fronts` that are installed; `change` changes each file that is made.

    The folder of the server has a space in its name.
    """
    with temporary_folder() as folder:
        port = free_port()
        unix = f'"unix:{folder}/a server/s.sock"'
        tcp = f'"{host}:{port}"'
        server = Server(folder / "a server", scripts, f"bind = [{unix}, {tcp}]\n{settings}")
        by_tcp = folder / "a server" / "tcp.toml"
        by_tcp.write_text(server.config.read_text().replace(f"[{unix}, {tcp}]", f"[{tcp}, {unix}]"))
        installed = [front for front in fronts if is_wanted(front.server)]
        with server, running(installed, folder, {"unix": server.config, "tcp": by_tcp}, change) as webs:
            yield Site(server, webs)


def plain_site(fronts: Iterable[Front]) -> AbstractContextManager[Site]:
    """The site of most tests: scripts, static files, and what is private."""
    return site(fronts, SCRIPTS | PRIVATE, _SETTINGS)


def front_site(fronts: Iterable[Front]) -> AbstractContextManager[Site]:
    """A site with a front script, scripts of two endings, and a folder of static files with a space in its name."""
    more = '[scripts]\nfront = "app.lua"\npublic = "static files"\nextensions = [".lua", ".lp"]\n'
    return site(fronts, FRONT_SCRIPTS, f'socket_mode = "0666"\n{more}')


def bare_site(fronts: Iterable[Front]) -> AbstractContextManager[Site]:
    """A site without static files, by IPv6 where the machine has it."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            host = "[::1]"
    except OSError:
        host = "127.0.0.1"
    return site(fronts, SCRIPTS | PRIVATE, '[scripts]\npublic = ""\n', host=host)


def outside_site(fronts: Iterable[Front]) -> AbstractContextManager[Site]:
    """A site whose web servers take the loopback for another machine."""

    def without_loopback(text: str) -> str:
        for line in ("allow 127.0.0.1;", '$HTTP["remoteip"] != "127.0.0.1"', "Require local", "127.0.0.0/8 ::1"):
            new = {"Require local": "Require ip 192.0.2.1"}.get(line, re.sub(r"127[0-9./]*", "192.0.2.1", line))
            text = text.replace(line, new)
        assert text.count("192.0.2.1") == 2
        return text

    return site(fronts, SCRIPTS | PRIVATE, _SETTINGS, without_loopback)
