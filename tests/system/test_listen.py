"""Where the server listens, and who may connect: real sockets of a server process, and the rule by itself."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from greenfcgi.config.load import Address, load
from greenfcgi.errors import BindError
from greenfcgi.fastcgi.client import Client
from greenfcgi.logs.error_log import ErrorLog
from greenfcgi.serving.context import Context
from greenfcgi.serving.server import Server as Inside
from greenfcgi.system import listen as listening
from greenfcgi.system.listen import Bound
from greenfcgi.system.privileges import Identity

from ..support.running import PATIENCE, Connection, Server, until

pytestmark = pytest.mark.systems

Serve = Callable[..., Server]

HELLO = {"hello.lua": 'function main(env, con) con:puts("hello") end'}


def has_ipv6() -> bool:
    """The machine has the address ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def folder(path: Path, name: str, bind: str, settings: str = "") -> Path:
    """A folder for one more server: a script and config.toml, whose path is returned."""
    root = path / name / "lua_scripts"
    root.mkdir(parents=True)
    (root / "hello.lua").write_text(HELLO["hello.lua"])
    config = path / name / "config.toml"
    config.write_text(f"bind = {bind}\n{settings}")
    return config


def failed_start(config: Path) -> str:
    """Start a server that is expected to end at once with exit status 1; the one line that it says."""
    ended = subprocess.run(
        [sys.executable, "-m", "greenfcgi", str(config)], capture_output=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 1
    assert ended.stdout == b""
    lines = ended.stderr.decode().splitlines()
    assert len(lines) == 1
    return lines[0]


def listening_on(server: Server) -> list[str]:
    """The addresses that the log names."""
    line = next(line for line in server.log().splitlines() if " serves " in line)
    return line.partition("lua_scripts on ")[2].split(", ")


def body(server: Server, address: str | tuple[str, int]) -> bytes:
    """What hello.lua answers on an address."""
    with server.connect(address) as connection:
        connection.send(Client.request(server.params("hello.lua")))
        return connection.reply().body


# Unix sockets


@pytest.mark.parametrize(
    ("settings", "mode"), [("", 0o660), ('socket_mode = "0600"', 0o600), ('socket_mode = "0o666"', 0o666)]
)
def test_the_socket_file_has_its_mode(serve: Serve, settings: str, mode: int) -> None:
    """The file of a unix socket has `socket_mode`, which is 0660 unless set."""
    server = serve(HELLO, settings)
    found = os.stat(server.socket_path).st_mode
    assert stat.S_ISSOCK(found)
    assert stat.S_IMODE(found) == mode
    assert body(server, server.socket_path) == b"hello"


def test_a_stale_socket_file_is_replaced(serve: Serve, tmp_path: Path) -> None:
    """The file that a killed server has left behind does not stop the next one."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s.sock"))
    server = serve(HELLO)
    assert server.get("hello.lua").body == b"hello"


def test_a_killed_server_can_be_started_again(serve: Serve) -> None:
    """After SIGKILL, the same command serves again."""
    server = serve(HELLO)
    server.stop(signal.SIGKILL)
    assert os.path.exists(server.socket_path)
    server.log_path.unlink()
    server.start()
    assert server.get("hello.lua").body == b"hello"


def test_a_socket_that_a_server_listens_on_is_never_taken(serve: Serve, tmp_path: Path) -> None:
    """A second server on the same unix socket ends with one line; the first goes on, and keeps its file."""
    server = serve(HELLO)
    before = os.stat(server.socket_path).st_ino
    line = failed_start(folder(tmp_path, "second", f'"unix:{server.socket_path}"'))
    assert line == f"greenfcgi: bind: cannot listen on unix:{server.socket_path}: another server listens there"
    assert os.stat(server.socket_path).st_ino == before
    assert server.get("hello.lua").body == b"hello"


@pytest.mark.linux
def test_a_socket_whose_server_is_busy_is_not_taken(tmp_path: Path) -> None:
    """A listener that does not accept, with a full backlog, is not stale either."""
    path = str(tmp_path / "busy.sock")
    waiting = []
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(0)
        while True:
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            try:
                waiting[-1].connect(path)
            except BlockingIOError:
                break
        assert "another server listens there" in failed_start(folder(tmp_path, "second", f'"unix:{path}"'))
        assert os.path.exists(path)
    for client in waiting:
        client.close()


def listen(path: str) -> Bound:
    """What a server does for a unix socket."""
    return listening.listen(Address("unix", path=path), 16, 0o600, Identity("", -1, -1))


def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each attempt to connect be refused, as BSD does when a backlog is full."""

    def refuse(*_: object) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_server_that_seems_to_be_gone_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock shows that it lives, whatever a connection says; when it is killed, the kernel gives the lock back."""
    path = str(tmp_path / "s.sock")
    bound = listen(path)
    refusing(monkeypatch)
    with pytest.raises(BindError, match="another server listens there"):
        listen(path)
    assert os.stat(path).st_ino == bound.inode
    bound.close()
    second = listen(path)
    assert second.inode
    second.remove()
    second.close()
    assert os.listdir(tmp_path) == []


def test_of_two_servers_that_start_at_once_one_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the lock removes what is stale: nobody removes what the other has just made."""
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    first: list[Bound] = []

    def meanwhile(removed: str) -> None:
        monkeypatch.undo()
        with pytest.raises(BindError, match="another server listens there"):
            first.append(listen(path))
        os.unlink(removed)

    monkeypatch.setattr(os, "unlink", meanwhile)
    bound = listen(path)
    assert first == []
    assert os.stat(path).st_ino == bound.inode
    bound.remove()
    bound.close()


def test_a_lock_that_cannot_be_had_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks, a lock file of another user: then a connection decides, as before."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    path = str(tmp_path / "s.sock")
    monkeypatch.setattr(fcntl, "flock", refuse)
    bound = listen(path)
    assert bound.lock == -1
    with pytest.raises(BindError, match="another server listens there"):
        listen(path)
    bound.remove()
    bound.close()
    (tmp_path / "s.sock.lock").unlink()
    (tmp_path / "s.sock.lock").symlink_to(tmp_path / "elsewhere")
    listen(path).close()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("processes", [0, 2])
def test_a_killed_server_leaves_no_lock(serve: Serve, processes: int) -> None:
    """Nor do the processes that it had, while they finish what is under way."""
    script = "function main(env, con) con:log('begun') con:sleep(1) con:puts('slept') end"
    server = serve({**HELLO, "sleep.lua": script}, f"processes = {processes}\n")
    assert sorted(path.name for path in server.folder.glob("s.sock*")) == ["s.sock", "s.sock.lock"]
    with server.connect() as connection:
        connection.send(server.request("sleep.lua"))
        server.logged("begun")
        server.stop(signal.SIGKILL)
        if processes:
            server.logged("stopping")
        until(lambda: is_refused(server.socket_path))
        server.log_path.unlink()
        server.start()
        assert server.get("hello.lua").body == b"hello"
        assert not processes or connection.reply().body == b"slept"
    assert server.stop() == 0
    assert list(server.folder.glob("s.sock*")) == []


def is_refused(path: str) -> bool:
    """Nobody listens there."""
    try:
        Connection(path).socket.close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.linux
@pytest.mark.parametrize("processes", [0, 2])
def test_an_abstract_socket(tmp_path: Path, serve: Serve, processes: int) -> None:
    """A name that is no file; it is taken once, and the log says that it has no mode."""
    name = f"greenfcgi-{os.getpid()}-{processes}"
    server = serve(HELLO, f'bind = "unix:@{name}"\nprocesses = {processes}\n')
    assert f" on unix:@{name}\n" in server.log()
    assert f"[WARNING] bind: unix:@{name} has no file, and so no socket_mode: every user" in server.log()
    assert body(server, f"\0{name}") == b"hello"
    assert not list(server.folder.glob("*greenfcgi-*"))
    line = failed_start(folder(tmp_path, "second", f'"unix:@{name}"'))
    assert line == f"greenfcgi: bind: cannot listen on unix:@{name}: Address already in use"
    assert body(server, f"\0{name}") == b"hello"
    assert server.stop() == 0


@pytest.mark.parametrize("kind", ["file", "folder", "symlink"])
def test_what_is_not_a_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    """Another file in the place of the socket stops the start, and stays as it was."""
    place = tmp_path / "s.sock"
    other = tmp_path / "other"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(other))
    if kind == "file":
        place.write_text("precious")
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(other)
    line = failed_start(folder(tmp_path, "second", f'"unix:{place}"'))
    assert line == f"greenfcgi: bind: cannot listen on unix:{place}: a file that is not a socket is there"
    assert other.exists()
    assert place.is_symlink() == (kind == "symlink")
    assert place.is_dir() == (kind == "folder")
    assert kind != "file" or place.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/s.sock", "No such file or directory"),
        ("x" * 200, "a path of {} bytes is too long for a socket"),
    ],
)
def test_a_path_that_cannot_be_bound_is_reported(tmp_path: Path, name: str, reason: str) -> None:
    """A folder that is not there, or a path longer than the system takes: one line, exit status 1."""
    line = failed_start(folder(tmp_path, "second", f'"unix:{tmp_path}/{name}"'))
    expected = reason.format(len(f"{tmp_path}/{name}"))
    assert line == f"greenfcgi: bind: cannot listen on unix:{tmp_path}/{name}: {expected}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_removes_the_socket_and_pid_files(serve: Serve, number: signal.Signals) -> None:
    """The pid file holds the process id while the server runs; both files are gone after a stop."""
    server = serve(HELLO, 'pidfile = "pid"')
    pidfile = server.folder / "pid"
    assert pidfile.read_text() == f"{server.pid}\n"
    assert server.stop(number) == 0
    assert not pidfile.exists()
    assert not os.path.exists(server.socket_path)


def test_files_of_another_process_stay(serve: Serve) -> None:
    """A socket file and a pid file that another process has put in the place are left at the stop."""
    server = serve(HELLO, 'pidfile = "pid"')
    pidfile = server.folder / "pid"
    os.unlink(server.socket_path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(server.socket_path)
        pidfile.write_text("1\n")
        assert server.stop() == 0
        assert os.path.exists(server.socket_path)
        assert pidfile.read_text() == "1\n"


def test_a_pid_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    """One line, exit status 1, and no socket file is left behind."""
    path = tmp_path / "s.sock"
    line = failed_start(folder(tmp_path, "server", f'"unix:{path}"', f'pidfile = "{tmp_path}/missing/pid"'))
    assert line == f"greenfcgi: pidfile: cannot write '{tmp_path}/missing/pid': No such file or directory"
    assert not path.exists()


# TCP, several addresses, inherited sockets


def test_port_0_is_any_free_port(serve: Serve) -> None:
    """With port 0 the log names the port that the system chose."""
    server = serve(HELLO, 'bind = "127.0.0.1:0"')
    (address,) = listening_on(server)
    host, _, port = address.rpartition(":")
    assert int(port) > 0
    assert body(server, (host, int(port))) == b"hello"


def test_several_addresses_are_served_at_once(serve: Serve, tmp_path: Path) -> None:
    """`bind` may list unix sockets, IPv4 and IPv6 addresses; each gives the same scripts."""
    path = f"{tmp_path}/s.sock"
    bind = [f"unix:{path}", f"unix:{path}2", "127.0.0.1:0", *["[::1]:0"] * has_ipv6()]
    server = serve(HELLO, f"bind = {bind!r}")
    found = listening_on(server)
    assert [at.partition(":")[0] for at in found[:2]] == ["unix", "unix"]
    assert len(found) == len(bind)
    for address in found:
        host, _, port = address.rpartition(":")
        at = port if host == "unix" else (host.strip("[]"), int(port))
        assert body(server, at) == b"hello"
    assert server.stop() == 0
    assert not os.path.exists(path)
    assert not os.path.exists(path + "2")


def test_a_port_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    """One line that names the address, exit status 1; what had been bound before is given back."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        bind = [f"unix:{tmp_path}/s.sock", f"127.0.0.1:{port}"]
        line = failed_start(folder(tmp_path, "second", repr(bind)))
    assert line == f"greenfcgi: bind: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert not (tmp_path / "s.sock").exists()


def test_a_port_is_free_again_after_a_stop(serve: Serve) -> None:
    """A server that has served and stopped can be started again on its port at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = serve(HELLO, f'bind = "127.0.0.1:{port}"')
    assert body(server, ("127.0.0.1", port)) == b"hello"
    assert server.stop() == 0
    server.log_path.unlink()
    server.start()
    assert body(server, ("127.0.0.1", port)) == b"hello"


@contextmanager
def started(config: Path, *descriptors: int) -> Iterator[Path]:
    """A server that inherits open files; gives the path of its log."""
    log_path = config.parent / "stderr.log"
    with open(log_path, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "greenfcgi", str(config)], stderr=log, stdin=subprocess.DEVNULL, pass_fds=descriptors
        )
    try:
        until(lambda: " serves " in log_path.read_text() or process.poll() is not None, "the server's start")
        yield log_path
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_an_inherited_socket_is_served(tmp_path: Path, family: socket.AddressFamily) -> None:
    """fd://N is a socket that whoever started the server has made: systemd, or a supervisor."""
    with socket.socket(family) as made:
        made.bind(str(tmp_path / "made.sock") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        made.listen()
        config = folder(tmp_path, "server", f'"fd://{made.fileno()}"')
        at = made.getsockname()
        with started(config, made.fileno()) as log_path:
            name = f"unix:{at}" if family == socket.AF_UNIX else f"127.0.0.1:{at[1]}"
            assert f" on {name}\n" in log_path.read_text()
            with Connection(at) as connection:
                params = {"SCRIPT_FILENAME": f"{config.parent}/lua_scripts/hello.lua", "REQUEST_METHOD": "GET"}
                connection.send(Client.request(params))
                assert connection.reply().body == b"hello"


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_stdin_that_listens(tmp_path: Path, family: socket.AddressFamily, processes: int) -> None:
    """spawn-fcgi and others hand the listener over as descriptor 0: without bind it is served, and the log says so.

    It lasts over a SIGHUP, and is closed with a stop.
    """
    with socket.socket(family) as made:
        made.bind(str(tmp_path / "made.sock") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        made.listen()
        at = made.getsockname()
        server = Server(tmp_path, HELLO, f"processes = {processes}\nbind =")
        server.config.write_text(f"processes = {processes}\n")
        with open(server.log_path, "ab") as log:
            server.process = subprocess.Popen(
                [sys.executable, "-m", "greenfcgi", str(server.config)], stdin=made.fileno(), stdout=log, stderr=log
            )
    with server:
        name = f"unix:{at}" if family == socket.AF_UNIX else f"127.0.0.1:{at[1]}"
        server.logged(f" on {name}\n")
        server.logged(f"bind: descriptor 0 is a listening socket, {name}, which is served\n")
        assert body(server, at) == b"hello"
        if processes:
            server.send_signal(signal.SIGHUP)
            server.logged("2 processes running")
            assert body(server, at) == b"hello"
        assert server.stop() == 0


def test_stdin_that_listens_and_a_bind(tmp_path: Path) -> None:
    """What the configuration says comes first."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        server = Server(tmp_path, HELLO)
        with open(server.log_path, "ab") as log:
            server.process = subprocess.Popen(
                [sys.executable, "-m", "greenfcgi", str(server.config)], stdin=made.fileno(), stdout=log, stderr=log
            )
    with server:
        server.logged(f" on unix:{server.socket_path}\n")
        assert server.get("hello.lua").body == b"hello"


@pytest.mark.parametrize("number", [0, 1000])
def test_a_descriptor_that_is_no_socket_stops_the_start(tmp_path: Path, number: int) -> None:
    """fd://N of a file that is no socket, or is not open: one line, exit status 1."""
    line = failed_start(folder(tmp_path, "server", f'"fd://{number}"'))
    assert line.startswith(f"greenfcgi: bind: cannot listen on fd://{number}: ")


# Who may connect

NETWORKS = ["192.0.2.7", "10.0.0.0/8", "2001:db8::/32", "2001:db9:1:2:3:4:5:6"]


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.200.3.4", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:11.1.2.3", False),
        ("2001:db8:ffff::1", True),
        ("2001:db7::1", False),
        ("2001:db9:1:2:3:4:5:6", True),
        ("2001:db9:1:2:3:4:5:7", False),
        ("fe80::1%eth0", False),
        ("::a00:1", False),
        ("0.0.0.0", False),
    ],
)
def test_allowed_clients_are_networks(tmp_path: Path, host: str, allowed: bool) -> None:
    """The loopback and the networks of `allowed_clients` may connect, compared to their last bit, and nobody else."""
    config = load(str(folder(tmp_path, "server", '"0.0.0.0:9000"', f"allowed_clients = {NETWORKS!r}")))
    log = ErrorLog(str(tmp_path / "error.log"), "info")
    assert Inside(Context(config, lambda exchange: None, log), config).allows(host) is allowed
    log.close()


def own_address() -> str:
    """An address of this machine beside the loopback, "" when it has none. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address: str = probe.getsockname()[0]
        return "" if address.startswith("127.") else address


@pytest.mark.skipif(not own_address(), reason="needs an address beside the loopback")
@pytest.mark.parametrize("allowed", [True, False])
def test_clients_that_are_not_allowed_are_turned_away(serve: Serve, allowed: bool) -> None:
    """A connection from elsewhere is closed at once, with a line in the log, unless its network is listed."""
    networks = [f"{own_address()}/32"] if allowed else ["198.51.100.0/24"]
    server = serve(HELLO, f'bind = "0.0.0.0:0"\nallowed_clients = {networks!r}')
    port = int(listening_on(server)[0].rpartition(":")[2])
    if allowed:
        assert body(server, (own_address(), port)) == b"hello"
    else:
        with server.connect((own_address(), port)) as connection:
            assert not connection.until_closed().replies
        server.logged(f"connection from {own_address()} refused: not in allowed_clients")
    assert body(server, ("127.0.0.1", port)) == b"hello"


def test_without_allowed_clients_only_the_loopback_may_connect(tmp_path: Path) -> None:
    """An inherited TCP socket may listen anywhere; without a list, others than the loopback are refused."""
    log = ErrorLog(str(tmp_path / "error.log"), "info")
    config = load(str(folder(tmp_path, "server", '"fd://3"')))
    server = Inside(Context(config, lambda exchange: None, log), config)
    assert server.allows("127.0.0.1")
    assert not server.allows("192.0.2.7")
    assert not server.allows("2001:db8::1")
    log.close()
