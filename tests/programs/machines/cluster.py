"""Three servers as machines, a real Redis, and a real HAProxy or nginx before them, all from `--init machines`."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ...support.processes import children
from ...support.programs import program
from ...support.redis import RedisServer
from ...support.running import PATIENCE, Server, until

#: Addresses of the files that are made, and of the loopback in their place.
MACHINES = {"192.0.2.1": "127.0.0.2", "192.0.2.2": "127.0.0.3", "192.0.2.3": "127.0.0.4"}
_OTHERS = {"192.0.2.10": "127.0.0.1", "192.0.2.20:6379": ""}

SCRIPTS = {
    # It takes a moment, so that some are under way at any time.
    "page.lua": """
        function main(env, con)
            con:header("X-Machine", con:config("machine"))
            con:sleep(0.004)
            con:puts("page ", env.QUERY_STRING, ":", (env.QUERY_STRING .. ","):rep(300))
        end
    """,
    # Says how often this body has come; what has come twice is kept. Others see how many have been counted, and are
    # under way still.
    "count.lua": """
        local counts = require("greenfcgi.shared").counts
        function main(env, con)
            con:header("X-Machine", con:config("machine"))
            local id = con:gets()
            local count, problem = counts:incr(id, 1, 0)
            if count and count > 1 then counts:rpush("twice", id) end
            local place = "at_" .. con:config("machine")
            counts:incr(place, 1, 0)
            con:sleep(0.1)
            counts:incr(place, -1)
            if not count then con:status(503) end
            con:puts("counted ", id, " ", count or problem)
        end
    """,
    "session.lua": """
        local session = require "greenfcgi.session"
        function main(env, con)
            con:header("X-Machine", con:config("machine"))
            local s, problem = session.start(env, con, { store = env.QUERY_STRING })
            if not s then
                con:status(503)
                con:puts(problem)
                return
            end
            s.visits = (s.visits or 0) + 1
            con:puts(s.visits)
        end
    """,
    "tick.lua": "function main(env, con) con:puts('ran at ', os.time()) end",
    # One that runs until it may end.
    "long.lua": """
        function main(env, con)
            con:log("long began")
            while not io.open("go") do con:sleep(0.01) end
        end
    """,
}
_TASK = '\n[[tasks]]\nscript = "tick.lua"\nevery = 1\n'


def free_port(*hosts: str) -> int:
    """A port that is free at all of these addresses."""
    while True:
        with ExitStack() as probes:
            port = 0
            try:
                for host in hosts:
                    probe = probes.enter_context(socket.socket())
                    probe.bind((host, port))
                    port = probe.getsockname()[1]
            except OSError:
                continue
            return port


class Machine(Server):
    """A server that can be started again."""

    def start(self) -> None:
        """Start it, and wait until it listens: its log has the lines of those before it, too."""
        before = self.log().count(" serves ")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "greenfcgi", str(self.config)], cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until(lambda: self.log().count(" serves ") > before or self.has_ended(), "a machine's start")
        assert not self.has_ended(), self.log()

    @property
    def name(self) -> str:
        """What it says in X-Machine."""
        return self.folder.name

    def kill(self) -> None:
        """All of its processes, by SIGKILL; who connects hears at once that nobody listens."""
        assert self.process is not None
        for pid in [self.pid, *children(self.pid)]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)


class Cluster:
    """Machines that run, their Redis, and the port of the balancer before them."""

    def __init__(self, folder: Path, balancer: str) -> None:
        self.folder = folder
        self.balancer = balancer
        self.port = free_port("127.0.0.1")
        self._machine_port = free_port(*MACHINES.values())
        self._redis_port = free_port("127.0.0.1")
        self.redis = RedisServer(folder, "port", str(self._redis_port), "bind", "127.0.0.1")
        self.made = folder / "made"
        self.machines = [self._machine(name, address) for name, address in zip("abc", MACHINES, strict=True)]
        #: Of HAProxy, for its commands.
        self.admin = folder / "admin.sock"

    def _init(self) -> None:
        root = self.folder / "lua_scripts"
        for name, text in SCRIPTS.items():
            root.mkdir(exist_ok=True)
            (root / name).write_text(text)
        (self.folder / "config.toml").write_text(
            f'bind = "127.0.0.1:{self._machine_port}"\n[shared]\ncounts = "1M"\nsessions = "1M"\n'
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        done = subprocess.run(
            [sys.executable, "-m", "greenfcgi", "--init", "machines", "--write", "made"],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def text(self, name: str) -> str:
        """A file that was made, with nothing but the addresses changed."""
        if not self.made.exists():
            self._init()
        text = (self.made / name).read_text()
        others = _OTHERS | {"192.0.2.20:6379": f"127.0.0.1:{self._redis_port}"}
        for old, new in (others | MACHINES).items():
            text = re.sub(re.escape(old) + r"(?!\d)", new, text)
        return text

    def _machine(self, name: str, address: str) -> Machine:
        text = self.text("machine.toml").replace(MACHINES["192.0.2.1"], MACHINES[address])
        settings = text.replace("[app]", f'[app]\nmachine = "{name}"')
        return Machine(self.folder / name, {}, "processes = 1\n" + settings + _TASK)

    def under_way(self, machine: Machine) -> int:
        """How many POSTs have been done there, and not been answered."""
        found = self.redis.command("GET", f"greenfcgi:counts:at_{machine.name}")
        return 0 if found == b"$-1\r\n" else int(found.split()[1])

    @contextmanager
    def running(self) -> Iterator[Cluster]:
        """All of it, until the end of the block."""
        with ExitStack() as stack:
            stack.enter_context(self.redis)
            for machine in self.machines:
                stack.enter_context(machine)
            stack.enter_context(self._haproxy() if self.balancer == "haproxy" else self._nginx())
            yield self

    @contextmanager
    def _haproxy(self) -> Iterator[None]:
        text = self.text("haproxy.cfg")
        text = text.replace("bind :80", f"bind 127.0.0.1:{self.port}")
        text = text.replace("#stats socket /run/haproxy/admin.sock", f"stats socket {self.admin}")
        (self.folder / "haproxy.cfg").write_text(text)
        with self._program([program("haproxy"), "-f", str(self.folder / "haproxy.cfg")]):
            yield

    @contextmanager
    def _nginx(self) -> Iterator[None]:
        text = self.text("nginx.conf").replace("listen 80;", f"listen 127.0.0.1:{self.port};")
        folder = self.folder / "nginx"
        folder.mkdir()
        (folder / "fastcgi_params").write_text(Path("/etc/nginx/fastcgi_params").read_text())
        (folder / "greenfcgi.conf").write_text(text)
        kinds = ("client_body", "fastcgi", "proxy", "scgi", "uwsgi")
        (folder / "nginx.conf").write_text(
            ("user root;\n" if os.geteuid() == 0 else "")
            + "daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr;\n"
            "events { worker_connections 512; }\nhttp {\naccess_log off;\n"
            + "".join(f"{kind}_temp_path {kind};\n" for kind in kinds)
            + "include greenfcgi.conf;\n}\n"
        )
        with self._program([program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]):
            yield

    @contextmanager
    def _program(self, command: list[str]) -> Iterator[None]:
        log = self.folder / "balancer.log"

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        with open(log, "wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
            try:
                until(listens, "the balancer's start")
                yield
            finally:
                process.terminate()
                process.wait(PATIENCE)

    def command(self, text: str) -> str:
        """Tell HAProxy something: what it says."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self.admin))
            connection.sendall(text.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
