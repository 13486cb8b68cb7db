"""greenfcgi started by others, with the socket as descriptor 0: lighttpd's bin-path, and spawn-fcgi."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from ...support.running import PATIENCE, Connection, Server, until
from .client import Web
from .fronts import free_port, started
from .installed import program

COMMAND = f"{sys.executable} -m greenfcgi"
SCRIPTS = {"a.lua": 'function main(env, con) con:puts("from descriptor 0") end'}


def test_lighttpd_starts_it(tmp_path: Path) -> None:
    """With bin-path; it ends with lighttpd."""
    files = Server(tmp_path, SCRIPTS, 'bind = "fd://0"')
    path = tmp_path / "lighttpd.conf"
    port = free_port()
    path.write_text(
        f'server.port = {port}\nserver.bind = "127.0.0.1"\nserver.modules = ("mod_fastcgi")\n'
        f'server.document-root = "{files.root}"\nstatic-file.exclude-extensions = (".lua")\n'
        f'fastcgi.server = (".lua" => (("bin-path" => "{COMMAND} {files.config}", "max-procs" => 1, '
        f'"socket" => "{tmp_path}/by-lighttpd.sock", "bin-copy-environment" => ("PATH", "PYTHONPATH"))))\n'
    )
    web = Web(port, "lighttpd", port, tmp_path)
    with started(web, [program("lighttpd"), "-D", "-f", str(path)]):
        assert web.get("/a.lua").body == b"from descriptor 0"
        until(lambda: " serves " in web.log())
        pid = int(re.findall(r"\[(\d+)\] \[INFO\] greenfcgi", web.log())[-1])
    until(lambda: not os.path.exists(f"/proc/{pid}"), "its end")


def test_spawn_fcgi_starts_it(tmp_path: Path) -> None:
    """With a unix socket, which spawn-fcgi has made."""
    files = Server(tmp_path, SCRIPTS, 'bind = "fd://0"')
    socket = f"{tmp_path}/spawned.sock"
    command = [program("spawn-fcgi"), "-n", "-s", socket, "--", sys.executable, "-m", "greenfcgi", str(files.config)]
    with open(tmp_path / "log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until(lambda: b" serves " in (tmp_path / "log").read_bytes() or process.poll() is not None)
            with Connection(socket) as connection:
                connection.send(files.request("a.lua"))
                assert connection.reply().body == b"from descriptor 0"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
