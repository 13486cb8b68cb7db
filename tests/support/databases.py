"""Real database servers for tests: PostgreSQL and MariaDB, each in a folder of its own on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .running import PATIENCE

#: Where Debian has PostgreSQL's programs, which are not on the path.
_POSTGRES_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PASSWORD = "s3cret"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class DatabaseServer:
    """A server that is started, stopped and killed. None of them runs as root."""

    #: What its processes may write to stdin, and the user that they run as when the tests are root's.
    user = "nobody"
    program = ""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="greenfcgi-db-"))
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._as = {"user": self.user, "group": self.user, "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self.folder, self.user, self.user)
        self.folder.chmod(0o755)
        self.prepare()

    def prepare(self) -> None:
        """Make its files."""

    def command(self) -> Sequence[str]:
        """What starts it."""
        raise NotImplementedError

    def run(self, *command: str) -> None:
        """Run a program as its user."""
        subprocess.run(
            command, cwd="/", check=True, capture_output=True, timeout=60, stdin=subprocess.DEVNULL, **self._as
        )  # type: ignore[call-overload]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as
            )  # type: ignore[call-overload]
        deadline = time.monotonic() + 3 * PATIENCE
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, "the database server does not answer"
            time.sleep(0.02)

    @property
    def url(self) -> str:
        """Where it is."""
        raise NotImplementedError

    def answers(self) -> bool:
        """It takes connections."""
        raise NotImplementedError

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it with all of its processes, as a crash does, or as it wants to."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(3 * PATIENCE)
            self.process = None

    def remove(self) -> None:
        """Stop it, and remove its files."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(DatabaseServer):
    """PostgreSQL, with SCRAM."""

    user = "postgres"
    program = str(_POSTGRES_FOLDERS[-1] / "postgres") if _POSTGRES_FOLDERS else ""

    def prepare(self) -> None:
        """Make a cluster."""
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "password").chmod(0o644)
        self.run(
            str(Path(self.program).with_name("initdb")), "-D", str(self.folder / "data"), "-U", "app", "-E", "UTF8",
            "--no-sync", "-A", "scram-sha-256", "--pwfile", str(self.folder / "password"),
        )  # fmt: skip

    def command(self) -> Sequence[str]:
        """A server without what protects from a loss of power."""
        return [
            self.program, "-D", str(self.folder / "data"), "-p", str(self.port), "-c", "fsync=off",
            "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}",
        ]  # fmt: skip

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://app:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def answers(self) -> bool:
        """It takes connections, and is not starting up."""
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """As a crash: its processes end at once, and say nothing to clients but that."""
        super().stop(number)


class MariaDb(DatabaseServer):
    """MariaDB."""

    user = "mysql"
    program = shutil.which("mariadbd", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") or ""

    def prepare(self) -> None:
        """Make its system tables."""
        self.run(
            "mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data", "--skip-test-db",
            "--auth-root-authentication-method=normal", "--innodb-flush-log-at-trx-commit=0",
        )  # fmt: skip
        init = self.folder / "init.sql"
        init.write_text(
            "create database if not exists app;\n"
            f"create user if not exists app@'127.0.0.1' identified by '{PASSWORD}';\n"
            "grant all on app.* to app@'127.0.0.1';\n"
        )
        init.chmod(0o644)

    def command(self) -> Sequence[str]:
        """A server without what protects from a loss of power."""
        return [
            self.program, "--no-defaults", f"--datadir={self.folder}/data", f"--socket={self.folder}/s.sock",
            f"--port={self.port}", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0",
            f"--init-file={self.folder}/init.sql", "--skip-name-resolve", "--innodb-buffer-pool-size=16M",
        ]  # fmt: skip

    @property
    def url(self) -> str:
        """Where it is."""
        return f"mysql://app:{PASSWORD}@127.0.0.1:{self.port}/app"

    def answers(self) -> bool:
        """It takes connections, and the database is there."""
        import pymysql

        try:
            pymysql.connect(
                host="127.0.0.1", port=self.port, user="app", password=PASSWORD, database="app", connect_timeout=2
            ).close()
        except pymysql.MySQLError:
            return False
        return True
