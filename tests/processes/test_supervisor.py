"""Processes under a supervisor: started, replaced, added, removed, and controlled by signals."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from greenfcgi.errors import ExitStatus
from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.client import Client
from greenfcgi.version import NAME

from ..support.load import Load
from ..support.processes import children, descriptors, is_alive
from ..support.running import PATIENCE, Connection, Server, until

pytestmark = pytest.mark.systems

Serve = Callable[..., Server]

HELLO = "function main(env, con) con:puts('hello') end"
PROCESS = "function main(env, con) con:puts(io.open('/proc/self/stat'):read('*n')) end"
SLEEP = "function main(env, con) con:log('begun') con:sleep(tonumber(env.QUERY_STRING)) con:puts('slept') end"


def is_refused(address: str | tuple[str, int]) -> bool:
    """Nobody listens there."""
    try:
        Connection(address).socket.close()
    except ConnectionRefusedError:
        return True
    return False


def has_children(server: Server, count: int) -> bool:
    """The server has so many processes."""
    return len(children(server.pid)) == count


def has_logged(server: Server, text: str, times: int) -> bool:
    """The log has a text so many times."""
    return server.log().count(text) == times


def memory_maps(pid: int) -> str:
    """What a process has in its memory."""
    return Path(f"/proc/{pid}/maps").read_text()


def answers(server: Server, times: int = 40) -> set[int]:
    """The processes that answer."""
    return {int(server.get("process.lua").body) for _ in range(times)}


class TestStart:
    def test_processes_share_the_listener(self, serve: Serve) -> None:
        """As many processes as the configuration says, which all answer; the supervisor itself has neither Lua nor
        gevent in its memory."""
        server = serve({"process.lua": PROCESS}, "processes = 3\n")
        assert len(children(server.pid)) == 3
        assert answers(server) <= set(children(server.pid))
        assert "lupa" not in memory_maps(server.pid)
        assert "gevent" not in memory_maps(server.pid)
        assert "lupa" in memory_maps(children(server.pid)[0])
        assert f"{NAME} (luajit21, 3 processes) serves {server.root} on unix:" in server.log()

    def test_a_process_that_cannot_serve_stops_the_start(self, tmp_path: Path) -> None:
        """One line and the exit status for it; nothing is left."""
        server = Server(tmp_path, {}, 'processes = 2\npidfile = "pid"\nreload = false\naccesslog = "no/such/folder"\n')
        with pytest.raises(AssertionError, match="the server did not start"):
            server.start()
        assert server.process is not None
        assert server.process.wait(PATIENCE) == ExitStatus.USAGE
        assert server.log().startswith("greenfcgi: accesslog: cannot open ")
        assert server.log().count("\n") == 1
        assert not (tmp_path / "pid").exists()
        assert not (tmp_path / "s.sock").exists()

    def test_a_process_that_dies_at_its_start_stops_the_start(self, tmp_path: Path) -> None:
        """There is an exit status for what nobody has foreseen."""
        (tmp_path / "gevent.py").write_text("raise RuntimeError('not here')\n")
        server = Server(tmp_path, {}, "processes = 1\n")
        ended = subprocess.run(
            [sys.executable, "-m", "greenfcgi", str(server.config)],
            env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert ended.returncode == ExitStatus.BOOT
        assert ended.stderr == b"greenfcgi: a process failed: RuntimeError('not here')\n"


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_gracefully(self, serve: Serve, number: signal.Signals) -> None:
        """Requests under way are finished, and everything is removed."""
        server = serve({"sleep.lua": SLEEP}, 'processes = 2\npidfile = "pid"\n')
        assert (server.folder / "pid").read_text() == f"{server.pid}\n"
        with server.connect() as connection:
            connection.send(server.request("sleep.lua?0.3"))
            server.logged("begun")
            before = children(server.pid)
            assert server.stop(number) == 0
            assert connection.reply().body == b"slept"
        assert not any(map(is_alive, before))
        assert not (server.folder / "pid").exists()
        assert not (server.folder / "s.sock").exists()

    @pytest.mark.parametrize("numbers", [(signal.SIGQUIT,), (signal.SIGTERM, signal.SIGTERM)])
    def test_at_once(self, serve: Serve, numbers: tuple[signal.Signals, ...]) -> None:
        """SIGQUIT, or a second SIGTERM, waits for nobody."""
        server = serve({"sleep.lua": SLEEP}, "processes = 2\n")
        with server.connect() as connection:
            connection.send(server.request("sleep.lua?20"))
            server.logged("begun")
            for number in numbers[:-1]:
                server.send_signal(number)
                server.logged("stopping")
            assert server.stop(numbers[-1]) == ExitStatus.FAILED
            connection.until_closed()
        assert not (server.folder / "s.sock").exists()

    @pytest.mark.parametrize("processes", [0, 2])
    def test_with_connections_that_wait(self, serve: Serve, processes: int) -> None:
        """Requests on connections that nobody has accepted yet are answered, as many as there are."""
        server = serve({"hello.lua": HELLO}, f"processes = {processes}\n")
        serving = children(server.pid) or [server.pid]
        for pid in serving:
            os.kill(pid, signal.SIGSTOP)
        waiting = [server.connect() for _ in range(300)]
        for connection in waiting:
            connection.send(server.request("hello.lua"))
        server.send_signal(signal.SIGTERM)
        for pid in serving:
            os.kill(pid, signal.SIGCONT)
        assert [connection.reply().body for connection in waiting] == [b"hello"] * 300
        assert server.process is not None
        assert server.process.wait(PATIENCE) == 0
        for connection in waiting:
            connection.socket.close()

    def test_of_the_whole_group(self, serve: Serve) -> None:
        """When all processes are sent SIGTERM, as many service managers do, requests under way are finished, too."""
        server = serve({"sleep.lua": SLEEP}, "processes = 2\n")
        with server.connect() as connection:
            connection.send(server.request("sleep.lua?0.3"))
            server.logged("begun")
            for pid in children(server.pid):
                os.kill(pid, signal.SIGTERM)
            assert server.stop() == 0
            assert connection.reply().body == b"slept"

    @pytest.mark.parametrize("processes", [0, 1])
    def test_refuses_connections_meanwhile(self, serve: Serve, processes: int) -> None:
        """While the last requests are finished, a web server is refused at once, so that it can ask another."""
        server = serve({"sleep.lua": SLEEP}, f'processes = {processes}\nbind = "127.0.0.1:0"\n')
        server.use_logged_address()
        with server.connect() as connection:
            connection.send(server.request("sleep.lua?0.5"))
            server.logged("begun")
            server.send_signal(signal.SIGTERM)
            until(lambda: is_refused(server.address), "a connection to be refused")
            assert connection.reply().body == b"slept"

    def test_before_it_serves(self, tmp_path: Path) -> None:
        """A stop while processes are being started cuts nothing off."""
        (tmp_path / "gevent.py").write_text("import time\ntime.sleep(20)\n")
        server = Server(tmp_path, {}, 'processes = 1\npidfile = "pid"\n')
        process = subprocess.Popen(
            [sys.executable, "-m", "greenfcgi", str(server.config)], env=os.environ | {"PYTHONPATH": str(tmp_path)}
        )
        until((tmp_path / "pid").exists)
        until(lambda: children(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0

    def test_past_graceful_timeout(self, serve: Serve) -> None:
        """A request that does not end in time is cut off, and the exit status says so."""
        server = serve({"sleep.lua": SLEEP}, "processes = 1\ngraceful_timeout = 0.2\n")
        with server.connect() as connection:
            connection.send(server.request("sleep.lua?20"))
            server.logged("begun")
            assert server.stop() == ExitStatus.FAILED

    def test_without_the_supervisor(self, serve: Serve) -> None:
        """When the supervisor is killed, its processes finish what is under way, and end."""
        server = serve({"sleep.lua": SLEEP}, "processes = 2\n")
        before = children(server.pid)
        with server.connect() as connection:
            connection.send(server.request("sleep.lua?0.3"))
            server.logged("begun")
            server.send_signal(signal.SIGKILL)
            assert connection.reply().body == b"slept"
        until(lambda: not any(map(is_alive, before)), "the processes to end")
        assert "the supervisor has ended: stopping" in server.log()


class TestNumber:
    def test_more_and_fewer(self, serve: Serve) -> None:
        """SIGTTIN adds a process, SIGTTOU takes one away, but never the last."""
        server = serve({"hello.lua": HELLO}, "processes = 1\n")
        with Load(server, "hello.lua", b"hello", connections=2, pause=0.001) as load:
            for number, count in ((signal.SIGTTIN, 2), (signal.SIGTTIN, 3), (signal.SIGTTOU, 2), (signal.SIGTTOU, 1)):
                server.send_signal(number)
                until(partial(has_children, server, count), f"{count} processes")
                load.until(20)
            before = children(server.pid)
            server.send_signal(signal.SIGTTOU)
            server.logged("SIGTTOU: 1 process")
            load.until(20)
        assert load.failures == []
        assert children(server.pid) == before

    def test_one_that_dies_again_and_again_is_waited_for(self, serve: Serve) -> None:
        """A process that does not live long is started again after a while, longer each time."""
        server = serve({"hello.lua": HELLO}, "processes = 1\n")
        for times in range(1, 4):
            victim = until(lambda: children(server.pid))[0]
            until(lambda: server.get("hello.lua").body == b"hello")
            os.kill(victim, signal.SIGKILL)
            until(partial(has_logged, server, "ended unexpectedly (SIGKILL)", times))
        until(lambda: server.get("hello.lua").body == b"hello")

    def test_one_that_ends_by_a_signal_without_a_name(self, serve: Serve) -> None:
        """It is replaced like others."""
        server = serve({"hello.lua": HELLO}, "processes = 1\n")
        os.kill(children(server.pid)[0], 40)
        server.logged("ended unexpectedly (signal 40); replacing it")
        until(lambda: server.get("hello.lua").body == b"hello")

    def test_that_cannot_be_started(self, tmp_path: Path) -> None:
        """Without room for another process, it is tried again and again, nothing leaks, and signals are heard."""
        server = Server(tmp_path, {"hello.lua": HELLO}, "processes = 1\n")
        program = f"""
            import errno, os, sys
            from greenfcgi.cli import main
            fork = os.fork
            def full():
                if os.path.exists({str(tmp_path / "full")!r}):
                    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
                return fork()
            os.fork = full
            sys.exit(main([{str(server.config)!r}]))
        """
        with open(server.log_path, "ab") as log:
            server.process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=log, stderr=log)
        with server:
            server.logged(" serves ")
            (tmp_path / "full").touch()
            os.kill(children(server.pid)[0], signal.SIGKILL)
            until(partial(has_logged, server, "cannot start a process: Resource temporarily unavailable", 2))
            before = descriptors(server.pid)
            until(partial(has_logged, server, "cannot start a process: Resource temporarily unavailable", 4))
            assert descriptors(server.pid) == before
            (tmp_path / "full").unlink()
            until(lambda: children(server.pid))
            assert server.get("hello.lua").body == b"hello"
            assert server.stop() == 0


class TestReload:
    def test_a_new_configuration(self, serve: Serve) -> None:
        """SIGHUP: other settings, another number of processes, another root; new processes, the same connection."""
        server = serve({"hello.lua": HELLO}, "processes = 1\n")
        other = server.folder / "other"
        other.mkdir()
        (other / "hello.lua").write_text("function main(env, con) con:puts(con:config('word')) end")
        before = children(server.pid)
        with server.connect() as kept:
            kept.send(Client.request(server.params("hello.lua"), keep_conn=True))
            assert kept.reply().body == b"hello"
            server.config.write_text(
                f'bind = "unix:{server.socket_path}"\nprocesses = 2\n[scripts]\nroot = "other"\n[app]\nword = "new"\n'
            )
            server.send_signal(signal.SIGHUP)
            server.logged("configuration reloaded, 2 processes running")
            until(lambda: not any(map(is_alive, before)) and len(children(server.pid)) == 2)
            server.root = other
            kept.send(Client.request(server.params("hello.lua"), keep_conn=True))
            assert kept.reply().body == b"new"

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ("workers = 0", "workers: found 0 (whole number), expected a whole number of at least 1"),
            ("[lua", "line "),
            ("processes = 200", "processes: found 200; without a restart, from 1 to 63 are possible"),
            ("processes = 0", "processes: found 0; without a restart, from 1 to 63 are possible"),
            ('bind = ["unix:no/such/folder/s.sock"]', "bind: cannot listen on "),
            ('accesslog = "no/such/folder/a.log"', "a process of the new one could not serve (accesslog: cannot open "),
        ],
    )
    def test_a_broken_configuration(self, serve: Serve, change: str, expected: str) -> None:
        """The old one goes on, with the old processes, and the log says why; the next SIGHUP is another try."""
        server = serve({"hello.lua": HELLO}, "processes = 2\n")
        good = server.config.read_text()
        before = children(server.pid)
        lines = [line for line in good.splitlines() if line.split(" =")[0] != change.split(" =")[0]]
        server.config.write_text("\n".join([change, *lines]) if "[" not in change[:2] else good + change)
        server.send_signal(signal.SIGHUP)
        log = server.logged("SIGHUP: keeping the old configuration: ")
        assert expected in log
        assert server.get("hello.lua").body == b"hello"
        until(lambda: children(server.pid) == before)
        server.config.write_text(good)
        server.send_signal(signal.SIGHUP)
        server.logged("2 processes running")
        until(lambda: not set(children(server.pid)) & set(before))
        assert server.get("hello.lua").body == b"hello"

    def test_a_configuration_whose_processes_do_not_last(self, serve: Serve) -> None:
        """When they end again and again, the next SIGHUP is heard all the same."""
        crash = """
            local can, ffi = pcall(require, "ffi")
            function main(env, con)
                if can then ffi.cdef("void _exit(int)") ffi.C._exit(9) end
                con:puts("fine")
            end
        """
        server = serve({"crash.lua": crash}, "processes = 4\n")
        good = server.config.read_text()
        server.config.write_text(good + '[lua]\nallow = ["ffi"]\n')
        with Load(server, "crash.lua", b"fine", connections=4, keep=False):
            server.send_signal(signal.SIGHUP)
            until(lambda: server.log().count("ended unexpectedly (exit status 9)") >= 3)
            server.config.write_text(good)
            server.send_signal(signal.SIGHUP)
            server.logged("processes running")
        until(lambda: len(children(server.pid)) == 4)
        assert {server.get("crash.lua").body for _ in range(40)} == {b"fine"}

    def test_stopped_meanwhile(self, serve: Serve) -> None:
        """A stop in the middle of a reload leaves no connection without an answer."""
        server = serve({"sleep.lua": SLEEP, "hello.lua": HELLO}, "processes = 1\ngraceful_timeout = 8\n")
        with server.connect() as busy, server.connect() as kept:
            kept.send(Client.request(server.params("hello.lua"), keep_conn=True))
            assert kept.reply().body == b"hello"
            busy.send(server.request("sleep.lua?1"))
            server.logged("begun")
            server.send_signal(signal.SIGHUP)
            server.logged("replaced: leaving")
            server.send_signal(signal.SIGTERM)
            kept.until_closed()
            assert busy.reply().body == b"slept"
            assert server.process is not None
            assert server.process.wait(PATIENCE) == 0

    def test_addresses(self, serve: Serve) -> None:
        """A new address is listened on, and one that is not named any more is given up."""
        server = serve({"hello.lua": HELLO}, "processes = 1\n")
        text = server.config.read_text()
        server.config.write_text(text.replace("s.sock", "t.sock"))
        server.send_signal(signal.SIGHUP)
        server.logged("1 process running")
        with server.connect(str(server.folder / "t.sock")) as connection:
            connection.send(server.request("hello.lua"))
            assert connection.reply().body == b"hello"
        until(lambda: not Path(server.socket_path).exists())

    def test_a_socket_file_that_is_gone(self, serve: Serve) -> None:
        """Somebody has removed the file: SIGHUP makes it again, twice if need be, and a stop removes it."""
        server = serve({"hello.lua": HELLO}, "processes = 2\n")
        for times in (1, 2):
            os.unlink(server.socket_path)
            server.send_signal(signal.SIGHUP)
            until(partial(has_logged, server, "2 processes running", times))
            assert server.get("hello.lua").body == b"hello"
        # While old processes leave, there are pipes to them.
        until(lambda: len(children(server.pid)) == 2, "the end of the old processes")
        before = descriptors(server.pid)
        server.send_signal(signal.SIGHUP)
        until(partial(has_logged, server, "2 processes running", 3))
        until(lambda: descriptors(server.pid) <= before, "the end of the old processes' pipes")
        assert server.stop() == 0
        assert list(server.folder.glob("s.sock*")) == []

    def test_tcp_addresses(self, serve: Serve) -> None:
        """A port that is not named any more is closed, and can be taken again."""
        server = serve({"hello.lua": HELLO}, 'processes = 2\nbind = "127.0.0.1:0"\n')
        server.use_logged_address()
        port = f"127.0.0.1:{server.address[1]}"
        text = server.config.read_text()
        for times, bind in ((1, f"unix:{server.socket_path}"), (2, port)):
            server.config.write_text(text.replace("127.0.0.1:0", bind))
            server.send_signal(signal.SIGHUP)
            until(partial(has_logged, server, "2 processes running", times))
            if times == 1:
                until(lambda: is_refused(server.address), "the port to be closed")
                with server.connect(server.socket_path) as connection:
                    connection.send(server.request("hello.lua"))
                    assert connection.reply().body == b"hello"
        until(lambda: not Path(server.socket_path).exists())
        assert server.get("hello.lua").body == b"hello"

    def test_what_takes_a_new_start(self, serve: Serve) -> None:
        """The log names the settings that a reload does not change."""
        server = serve({"hello.lua": HELLO}, "processes = 1\n")
        server.config.write_text('pidfile = "pid"\n' + server.config.read_text())
        server.send_signal(signal.SIGHUP)
        server.logged("SIGHUP: pidfile cannot change without a restart; keeping the old value")
        server.logged("1 process running")

    def test_refused_again_and_again(self, serve: Serve) -> None:
        """Nothing is left of configurations that were refused."""
        server = serve({"hello.lua": HELLO}, "processes = 1\n")
        server.config.write_text(server.config.read_text() + 'errorlog = "other.log"\naccesslog = "no/such/a.log"\n')
        before = descriptors(server.pid)
        for times in range(1, 6):
            server.send_signal(signal.SIGHUP)
            until(partial(has_logged, server, "SIGHUP: keeping the old configuration", times))
        # Those to a process are closed after it has been reaped.
        until(lambda: descriptors(server.pid) <= before, "nothing to be left")

    def test_with_a_request_that_was_refused(self, serve: Serve) -> None:
        """A connection on which a request had to be refused holds up no reload."""
        server = serve({"hello.lua": HELLO}, "processes = 1\ngraceful_timeout = 60\n")
        with server.connect() as connection:
            connection.send(records.begin_request(1, records.FILTER, keep_conn=True))
            assert connection.reply().ended == (0, records.UNKNOWN_ROLE)
            before = children(server.pid)
            server.send_signal(signal.SIGHUP)
            until(lambda: not set(before) & set(children(server.pid)), "the old process to end")
        assert "unfinished" not in server.log()

    def test_without_a_supervisor(self, serve: Serve) -> None:
        """With one process alone, the signals for a supervisor do nothing, and the log says so."""
        server = serve({"hello.lua": HELLO}, "processes = 0\n")
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
            server.send_signal(number)
            server.logged(f"{number.name} does nothing without a supervisor (processes = 0)")
        assert server.get("hello.lua").body == b"hello"


class TestSuccessor:
    def test_takes_over(self, serve: Serve) -> None:
        """SIGUSR2 starts the new binary on the same sockets; when the old one is stopped, nobody notices."""
        server = serve({"hello.lua": HELLO}, 'processes = 2\npidfile = "pid"\n')
        pid_file = server.folder / "pid"
        with Load(server, "hello.lua", b"hello", connections=3, pause=0.001) as load:
            server.send_signal(signal.SIGUSR2)
            server.logged("the new binary is process")
            until(lambda: server.log().count(" serves ") == 2, "the new supervisor")
            new = int(pid_file.read_text())
            assert new != server.pid
            assert (server.folder / "pid.oldbin").read_text() == f"{server.pid}\n"
            try:
                load.until(20)
                assert server.stop() == 0
                load.until(50)
                assert load.failures == []
                assert pid_file.exists()
                assert not (server.folder / "pid.oldbin").exists()
                assert len(children(new)) == 2
                other = Server(server.folder / "other", {}, f'bind = "unix:{server.socket_path}"\n')
                with pytest.raises(AssertionError, match="another server listens there"):
                    other.start()
            finally:
                load.__exit__()
                os.kill(new, signal.SIGTERM)
                until(lambda: not is_alive(new))
        assert list(server.folder.glob("s.sock*")) == []

    def test_that_fails(self, serve: Serve) -> None:
        """When the new binary does not start, the old one goes on."""
        server = serve({"hello.lua": HELLO}, 'processes = 1\npidfile = "pid"\n')
        server.config.write_text("nonsense")
        server.send_signal(signal.SIGUSR2)
        server.logged("the new binary has ended; this one keeps serving")
        assert (server.folder / "pid").read_text() == f"{server.pid}\n"
        assert server.get("hello.lua").body == b"hello"

    def test_that_cannot_serve(self, serve: Serve) -> None:
        """So it does when the new binary has listened already, and its processes fail."""
        server = serve({"hello.lua": HELLO}, "processes = 1\n")
        server.config.write_text('accesslog = "no/such/a.log"\n' + server.config.read_text())
        server.send_signal(signal.SIGUSR2)
        server.logged("the new binary has ended; this one keeps serving")
        assert server.get("hello.lua").body == b"hello"

    def test_going_back(self, serve: Serve) -> None:
        """When the new one is stopped, the old one goes on, on the same socket."""
        server = serve({"hello.lua": HELLO}, 'processes = 1\npidfile = "pid"\n')
        with Load(server, "hello.lua", b"hello", connections=4, pause=0.001) as load:
            load.until(20)
            server.send_signal(signal.SIGUSR2)
            until(partial(has_logged, server, " serves ", 2))
            load.until(20)
            os.kill(int((server.folder / "pid").read_text()), signal.SIGTERM)
            server.logged("the new binary has ended; this one keeps serving")
            load.until(50)
        assert load.failures == []
        assert (server.folder / "pid").read_text() == f"{server.pid}\n"
        assert server.stop() == 0
        assert not Path(server.socket_path).exists()


class TestUser:
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    @pytest.mark.parametrize("processes", [0, 1])
    def test_scripts_run_as_user(self, processes: int) -> None:
        """Started by root, scripts run as the user of the configuration, who can still reopen the logs."""
        nobody = pwd.getpwnam("nobody")
        with tempfile.TemporaryDirectory() as name:
            os.chmod(name, 0o755)
            who = "function main(env, con) con:puts(io.open('/proc/self/status'):read('*a'):match('Uid:%s+(%d+)')) end"
            settings = f'processes = {processes}\nuser = "nobody"\naccesslog = "access.log"\n'
            with Server(Path(name), {"who.lua": who}, settings) as server:
                assert server.get("who.lua").body == str(nobody.pw_uid).encode()
                assert os.stat(server.socket_path).st_uid == nobody.pw_uid
                assert os.stat(f"{name}/access.log").st_uid == nobody.pw_uid
                assert server.stop() == 0

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_nothing_else_is_given_away(self) -> None:
        """What a user puts in the place of a log stays whose it was, when the logs are reopened."""
        with tempfile.TemporaryDirectory() as name:
            os.chmod(name, 0o777)
            secret = Path(name) / "secret"
            secret.touch(0o600)
            with Server(Path(name), {}, 'processes = 1\nuser = "nobody"\naccesslog = "access.log"\n') as server:
                (server.folder / "access.log").unlink()
                (server.folder / "access.log").symlink_to(secret)
                server.send_signal(signal.SIGUSR1)
                server.logged("SIGUSR1: logs reopened")
                assert secret.stat().st_uid == 0

    def test_only_root_can(self, tmp_path: Path) -> None:
        """Another user than the one who starts it is refused unless that is root."""
        if os.geteuid() == 0:
            pytest.skip("run as root")
        (tmp_path / "lua_scripts").mkdir()
        server = Server(tmp_path, {}, 'user = "root"\n')
        with pytest.raises(AssertionError, match="only root can become another user"):
            server.start()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd's manager is for a service: a socket that gets its notifications."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield made


def notified(manager: socket.socket, assignment: str) -> str:
    """Wait for a message that begins so."""
    while True:
        text = manager.recv(4096).decode()
        if text.startswith(assignment):
            return text


class TestSystemd:
    def test_is_notified(self, serve: Serve, manager: socket.socket) -> None:
        """Ready, reloading, ready again, stopping."""
        server = serve({"hello.lua": HELLO}, "processes = 2\n")
        assert f"STATUS=2 processes on unix:{server.socket_path}" in notified(manager, "READY=1")
        server.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in notified(manager, "RELOADING=1")
        notified(manager, "READY=1")
        server.send_signal(signal.SIGTERM)
        notified(manager, "STOPPING=1")

    @pytest.mark.parametrize("processes", [0, 1])
    def test_watchdog(
        self, serve: Serve, manager: socket.socket, monkeypatch: pytest.MonkeyPatch, processes: int
    ) -> None:
        """It is fed twice in the time that it waits."""
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        serve({"hello.lua": HELLO}, f"processes = {processes}\n")
        notified(manager, "READY=1")
        for _ in range(3):
            notified(manager, "WATCHDOG=1")

    def test_a_successor(self, tmp_path: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        """A new binary serves on the sockets of systemd; when the old one is stopped, it is the main process, and it
        feeds the watchdog."""
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        server = Server(tmp_path, {"hello.lua": HELLO}, "processes = 1\n")
        with started_by_systemd(server) as made:
            server.send_signal(signal.SIGUSR2)
            until(partial(has_logged, server, " serves ", 2))
            found = re.search(r"the new binary is process (\d+)", server.log())
            assert found is not None
            new = int(found[1])
            try:
                server.send_signal(signal.SIGTERM)
                assert notified(manager, "MAINPID=") == f"MAINPID={new}"
                assert server.process is not None
                assert server.process.wait(PATIENCE) == 0
                manager.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    while True:
                        assert manager.recv(4096) != b"STOPPING=1"
                manager.settimeout(PATIENCE)
                notified(manager, "WATCHDOG=1")
                with server.connect(made) as connection:
                    connection.send(server.request("hello.lua"))
                    assert connection.reply().body == b"hello"
            finally:
                os.kill(new, signal.SIGTERM)
                until(lambda: not is_alive(new))

    @pytest.mark.parametrize("processes", [0, 2])
    def test_sockets_of_systemd(self, tmp_path: Path, processes: int) -> None:
        """Sockets that systemd has made take the place of bind."""
        server = Server(tmp_path, {"hello.lua": HELLO}, f"processes = {processes}\n")
        with started_by_systemd(server) as made:
            with server.connect(made) as connection:
                connection.send(server.request("hello.lua"))
                assert connection.reply().body == b"hello"
            assert not Path(server.socket_path).exists()
            assert server.stop() == 0
            assert Path(made).exists()


@contextlib.contextmanager
def started_by_systemd(server: Server) -> Iterator[str]:
    """Start a server with a socket as systemd does. Gives the path of the socket."""
    start = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), WATCHDOG_PID=str(os.getpid()));"
        "os.execv(sys.executable, [sys.executable, '-m', 'greenfcgi', sys.argv[2]])"
    )
    path = str(server.folder / "systemd.sock")
    with socket.socket(socket.AF_UNIX) as made, open(server.log_path, "ab") as log:
        made.bind(path)
        made.listen()
        server.process = subprocess.Popen(
            [sys.executable, "-c", start, str(made.fileno()), str(server.config)],
            pass_fds=(made.fileno(), 3), stdout=log, stderr=log,
        )  # fmt: skip
    try:
        server.logged(" serves ")
        yield path
    finally:
        server.__exit__()
