"""What a process imports after it has become `user`, who may not be able to read the modules: nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ..support.running import Server, until

pytestmark = [pytest.mark.pythons, pytest.mark.usefixtures("memory_folders_are_made")]

#: As root, without being root: whatever is imported after `user` has been taken is written down.
PROGRAM = """
    import os, sys
    late = []
    os.geteuid = lambda: 0
    os.initgroups = os.setgid = os.chown = os.fchown = lambda *arguments, **more: None
    os.setuid = lambda uid: late.append(uid)
    def note(event, arguments):
        if event == "import" and late:
            os.write(report, (arguments[0] + "\\n").encode())
    report = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    sys.addaudithook(note)
    from greenfcgi.cli import main
    sys.exit(main([sys.argv[1]]))
"""
SCRIPTS = {
    "hello.lua": "function main(env, con) con:log('caf\\xe9') con:puts('hello') end",
    "body.lua": "function main(env, con) con:puts(#con:gets()) end",
    "error.lua": "function main(env, con) error({}) end",
    "slow.lua": "function main(env, con) con:sleep(0.3) con:puts('slow') end",
    "late.lua": "function main(env, con) while true do end end",
    "module.lua": "require 'luafcgid' function main(env, con) con:puts(require('luafcgid').serialize(env)) end",
    "native.lua": "function main(env, con) con:puts(tostring((pcall(require, 'built')))) end",
    "shared.lua": """
        function main(env, con)
            local d = require("greenfcgi.shared").things
            con:puts(tostring(d:set("k", "v")), tostring(d:incr("n", 1)), tostring(d:lock("l", 1)))
        end
    """,
    "program.lua": "function main(env, con) con:puts(io.popen('echo echoed'):read()) end",
}


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_is_imported_late(tmp_path: Path, processes: int, log_format: str) -> None:
    """Whatever a process is asked for: large uploads, status pages, errors, programs, saves, signals, a stop."""
    settings = f"""
        processes = {processes}
        user = "nobody"
        log_format = "{log_format}"
        accesslog = "access.log"
        slowlog = "slow.log"
        slowlog_timeout = 0.1
        timeout = 0.8
        status_path = "/status"
        ping_path = "/ping"
        bind = ["unix:s.sock", "127.0.0.1:0"]
        [scripts]
        max_post = "4M"
        [lua]
        allow = ["os.execute", "io.popen"]
        cpath = ["."]
        [shared]
        things = "1M"
        url = "{"unix:/nowhere" if processes else ""}"
    """
    server = Server(tmp_path, SCRIPTS, settings)
    (tmp_path / "built.so").write_bytes(b"not built")
    report = tmp_path / "report"
    with open(server.log_path, "ab") as log:
        server.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(server.config), str(report)], stdout=log, stderr=log
        )
    with server:
        until(lambda: " serves " in server.log() or server.has_ended())
        assert server.get("hello.lua").body == b"hello"
        assert server.get("body.lua", b"x" * 3_000_000).body == b"3000000"
        assert [server.get(name).status for name in ("error.lua", "none.lua", "late.lua")] == [500, 404, 504]
        asked_by_apache = f"proxy:fcgi://localhost{server.root}/hell%6F.lua?x=1"
        assert server.get("hello.lua", SCRIPT_FILENAME=asked_by_apache).body == b"hello"
        assert server.get("native.lua").body == b"false"
        assert server.get("slow.lua").body == b"slow"
        assert server.get("program.lua").body == b"echoed"
        assert server.get("module.lua").status == 200
        assert server.get("shared.lua").body.startswith(b"falsenilnil" if processes else b"truenil")
        for form in ("", "json", "html", "openmetrics"):
            assert server.get("status", QUERY_STRING=form, SCRIPT_NAME="/status").status == 200
        assert server.get("ping", SCRIPT_NAME="/ping").body == b"pong\n"
        server.write("hello.lua", "function main(env, con) con:puts('changed') end")
        until(lambda: server.get("hello.lua").body == b"changed")
        server.write("hello.lua", "x = = 1")
        server.logged("but does not load")
        with server.connect() as connection:
            connection.send(b"\xff" * 100)
            connection.until_closed()
        server.send_signal(signal.SIGUSR1)
        server.logged("logs reopened")
        assert server.stop() == 0
    assert sorted(set(report.read_text().split())) == []
