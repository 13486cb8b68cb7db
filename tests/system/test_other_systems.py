"""Systems that lack what Linux has: a server without it does the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from greenfcgi.fastcgi.client import Client

from ..support.processes import children, is_alive
from ..support.running import Server, until

#: The server with what BSD and macOS lack taken away.
PROGRAM = """
    import os, socket, sys
    for name in ("pipe2", "waitid", "pidfd_open", "O_TMPFILE"):
        delattr(os, name)
    del socket.SOCK_SEQPACKET
    socket.__all__.remove("SOCK_SEQPACKET")
    listdir = os.listdir
    def without_proc(path="."):
        if path == "/proc/self/fd":
            raise FileNotFoundError(2, "No such file or directory")
        return ["0", "1", "2"] if path == "/dev/fd" else listdir(path)
    os.listdir = without_proc
    opened = os.open
    def without_links(path, *arguments, **more):
        if str(path).startswith("/proc/self/fd/"):
            raise FileNotFoundError(2, "No such file or directory")
        return opened(path, *arguments, **more)
    os.open = without_links
    os.set_inheritable(os.dup(1), True)
    from greenfcgi.cli import main
    sys.exit(main([sys.argv[1]]))
"""
SCRIPTS = {
    "hello.lua": "function main(env, con) con:puts('hello') end",
    "output.lua": "function main(env, con) local p = io.popen('echo one; exit 3') con:puts(p:read('*a')) "
    "con:puts(select(3, p:close())) end",
    "files.lua": "function main(env, con) con:puts((io.popen('ls /proc/self/fd | wc -l'):read('*a'))) end",
    "left.lua": "function main(env, con) local p = io.popen('echo $$; sleep 1000') con:puts(p:read()) end",
}


def test_a_server_without_them(tmp_path: Path) -> None:
    """Processes start and are replaced, kept connections are handed over, programs run, end and inherit nothing."""
    settings = 'processes = 2\n[lua]\nversion = "lua54"\nallow = ["io.popen"]\n'
    server = Server(tmp_path, SCRIPTS, settings)
    with open(server.log_path, "ab") as log:
        server.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(server.config)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    with server:
        server.logged(" serves ")
        for _ in range(5):
            assert server.get("output.lua").body == b"one\n3"
            # Its three, and that of the listing.
            assert server.get("files.lua").body.strip() == b"4"
            left = int(server.get("left.lua").body)
            until(lambda left=left: not is_alive(left))  # type: ignore[misc]
        with server.connect() as kept:
            kept.send(Client.request(server.params("hello.lua"), keep_conn=True))
            assert kept.reply().body == b"hello"
            before = children(server.pid)
            server.send_signal(signal.SIGHUP)
            server.logged("2 processes running")
            # One that has ended stays the supervisor's child until it is reaped: it is no victim for the signal below.
            until(lambda: not set(before) & set(children(server.pid)), "the old processes to be reaped")
            kept.send(Client.request(server.params("hello.lua"), keep_conn=True))
            assert kept.reply().body == b"hello"
        os.kill(children(server.pid)[0], signal.SIGKILL)
        server.logged("; replacing it")
        assert server.stop() == 0
    assert "failed" not in server.log()
