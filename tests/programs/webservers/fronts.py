"""The five web servers, each in a process of its own, with the configuration that `greenfcgi --init` makes."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from greenfcgi.config.load import load
from greenfcgi.deploy import init

from ...support.running import PATIENCE, until
from .client import Web
from .installed import APACHE_MODULES, has_xsendfile, program

IS_ROOT = os.geteuid() == 0


class Front(NamedTuple):
    """A web server, and how it connects. `is_single`: HAProxy without many requests on one connection."""

    server: str
    transport: str
    is_single: bool = False

    def __str__(self) -> str:
        return f"{self.server}-{self.transport}{'-single' if self.is_single else ''}"


SERVERS = ("nginx", "lighttpd", "apache", "caddy", "haproxy")
#: Each by each transport.
FRONTS = (
    *(Front(server, transport) for server in SERVERS for transport in ("unix", "tcp")),
    Front("haproxy", "unix", True),
    Front("haproxy", "tcp", True),
)


#: Below those that the kernel gives to clients, and apart for each process that runs tests.
_ports = list(range(20_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8, 32_000, 8))
random.shuffle(_ports)


def free_port() -> int:
    """A port of the loopback that nobody listens on, each time another one."""
    while True:
        port = _ports.pop()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def changed(text: str, **places: str) -> str:
    """`text` with each of these places, which are there once, replaced."""
    for old, new in places.items():
        assert text.count(old) == 1, f"{old!r} is not there once"
        text = text.replace(old, new)
    return text


def made(target: str, config: Path) -> str:
    """What `greenfcgi --init TARGET` prints for a configuration."""
    return init.run(target, str(config), lambda: load(str(config)), None)


class _Place(NamedTuple):
    """Where a web server runs: a folder of its own, a port, and one for HTTP/2 where that cannot be the same."""

    folder: Path
    port: int
    h2_port: int


def _nginx(place: _Place, text: str) -> list[str]:
    folder = place.folder
    shutil.copy("/etc/nginx/fastcgi_params", folder)
    listen = f"listen 127.0.0.1:{place.port}; listen 127.0.0.1:{place.h2_port} http2;"
    (folder / "greenfcgi.conf").write_text(changed(text, **{"listen 80;": listen}))
    kinds = ("client_body", "fastcgi", "proxy", "scgi", "uwsgi")
    (folder / "nginx.conf").write_text(
        "daemon off;\n"
        + ("user root;\n" if IS_ROOT else "")
        + "worker_processes 1;\npid nginx.pid;\nerror_log stderr;\nevents { worker_connections 512; }\nhttp {\n"
        + "access_log off;\n"
        + "".join(f"{kind}_temp_path {kind};\n" for kind in kinds)
        + "include greenfcgi.conf;\n}\n"
    )
    return ["-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _lighttpd(place: _Place, text: str) -> list[str]:
    folder = place.folder
    (folder / "greenfcgi.conf").write_text(text)
    (folder / "lighttpd.conf").write_text(
        f'server.bind = "127.0.0.1"\nserver.port = {place.port}\nserver.upload-dirs = ("{folder}")\n'
        f'server.document-root = "{folder}"\nindex-file.names = ("index.html")\n'
        f'mimetype.assign = (".css" => "text/css", "" => "text/plain")\n'
        f'include "{folder}/greenfcgi.conf"\n'
    )
    return ["-D", "-f", str(folder / "lighttpd.conf")]


def apache_basics(folder: Path, port: int, modules: Iterable[str]) -> str:
    """What Apache wants to know before it starts, with these modules beside those that it always needs."""
    return (
        f'ServerRoot "{folder}"\nPidFile "{folder}/apache.pid"\nErrorLog "{folder}/apache.log"\n'
        f"ServerName localhost\nListen 127.0.0.1:{port}\nMutex pthread\n"
        + "".join(
            f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so\n"
            for name in ("mpm_event", "authz_core", *modules)
        )
        # As root it wants to be another user.
        + ("User www-data\nGroup www-data\n" if IS_ROOT else "")
        + "KeepAliveTimeout 1\nServerLimit 1\nThreadsPerChild 64\nMaxRequestWorkers 64\nMinSpareThreads 1\n"
        "MaxSpareThreads 64\n<Directory />\nRequire all denied\n</Directory>\n"
    )


def _apache(place: _Place, text: str) -> list[str]:
    folder = place.folder
    names = ["authz_host", "alias", "dir", "mime", "proxy", "proxy_fcgi", "http2"]
    names += ["xsendfile"] if has_xsendfile() else []
    (folder / "greenfcgi.conf").write_text(text)
    (folder / "apache.conf").write_text(
        apache_basics(folder, place.port, names)
        + "TypesConfig /etc/mime.types\nProtocols h2c http/1.1\n"
        + f'<VirtualHost *:{place.port}>\nInclude "{folder}/greenfcgi.conf"\n</VirtualHost>\n'
    )
    return ["-DFOREGROUND", "-f", str(folder / "apache.conf")]


def _caddy(place: _Place, text: str) -> list[str]:
    folder = place.folder
    options = "{\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n}\n"
    (folder / "Caddyfile").write_text(options + changed(text, **{"\n:80 {": f"\nhttp://:{place.port} {{"}))
    return ["run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _haproxy(place: _Place, text: str) -> list[str]:
    (place.folder / "haproxy.cfg").write_text(changed(text, **{"bind :80": f"bind 127.0.0.1:{place.port}"}))
    return ["-db", "-f", str(place.folder / "haproxy.cfg")]


#: Write what a web server reads beside what `--init` makes, and return its arguments.
_WRITERS: dict[str, Callable[[_Place, str], list[str]]] = {
    "nginx": _nginx, "lighttpd": _lighttpd, "apache": _apache, "caddy": _caddy, "haproxy": _haproxy,
}  # fmt: skip


class Process:
    """A web server that is being started, by a command."""

    def __init__(self, web: Web, command: list[str]) -> None:
        self.web = web
        folder = web.folder
        environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        with open(folder / f"{web.name}.output", "wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=folder)

    def wait(self) -> None:
        """Wait until it listens."""

        def listens() -> bool:
            assert self._process.poll() is None, f"{self.web.name}: {self.web.log()}"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.web.port)) == 0

        until(listens, f"the start of {self.web.name}")

    def end(self) -> None:
        """Stop it, and what it has started."""
        self._process.terminate()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)


@contextmanager
def started(web: Web, command: list[str]) -> Iterator[None]:
    """It runs until the end of the block."""
    process = Process(web, command)
    try:
        process.wait()
        yield
    finally:
        process.end()


def start(front: Front, folder: Path, config: Path, change: Callable[[str], str] = str) -> Process:
    """Start a web server in a new folder, for a configuration of greenfcgi; `change` changes the file that is made."""
    folder.mkdir()
    place = _Place(folder, free_port(), free_port())
    text = change(made(front.server, config))
    if front.is_single:
        text = changed(text, **{"    option mpxs-conns\n": ""})
    command = [program(front.server), *_WRITERS[front.server](place, text)]
    h2_port = place.h2_port if front.server == "nginx" else place.port
    return Process(Web(place.port, front.server, h2_port, folder), command)


@contextmanager
def running(
    fronts: Iterable[Front], folder: Path, configs: dict[str, Path], change: Callable[[str], str] = str
) -> Iterator[dict[Front, Web]]:
    """Web servers that start all at once; `configs` has the configuration of each transport."""
    with ExitStack() as stack:
        processes = {}
        for front in fronts:
            process = processes[front] = start(front, folder / str(front), configs[front.transport], change)
            stack.callback(process.end)
        for process in processes.values():
            process.wait()
        yield {front: process.web for front, process in processes.items()}
