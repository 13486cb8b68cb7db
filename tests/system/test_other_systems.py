"""Systems that lack what Linux has: a server without it does the same."""

from __future__ import annotations

import ast
import errno
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from greenfcgi.fastcgi.client import Client
from greenfcgi.system.portable import child_end, descriptors, disk_room, message_pair

from ..support.bsd import imitation
from ..support.processes import children, is_alive
from ..support.running import PATIENCE, Server, until

pytestmark = [pytest.mark.systems, pytest.mark.usefixtures("memory_folders_are_made")]

PACKAGE = Path(__file__).parents[2] / "greenfcgi"
#: Of what only Linux has, the one module that uses it, with the portable way beside it.
PLACES = {
    "waitid": "system/portable/child_end.py",
    "pidfd_open": "system/portable/child_end.py",
    "memfd_create": "system/temporary_files.py",
    "posix_fallocate": "system/portable/disk_room.py",
    "SOCK_SEQPACKET": "system/portable/message_pair.py",
    "malloc_trim": "system/malloc.py",
    "inotify_simple": "reload/inotify.py",
    "/proc/self/fd": "system/portable/descriptors.py",
    "/proc/self/mountinfo": "reload/mounts.py",
    "/dev/fd": "system/portable/descriptors.py",
    "/dev/shm": "system/memory_folder.py",
    "RLIM_INFINITY": "system/portable/descriptors.py",
}
#: What is looked at for scripts' sake, and never used.
GUARDS = {"lua/file_rules.py", "modules/sockets/options.py"}
TABLES = '[lua]\nversion = "lua54"\nallow = ["io.popen"]\n[shared]\ncounts = "1M"\n'
SCRIPTS = {
    "hello.lua": "function main(env, con) con:puts('hello') end",
    "output.lua": "function main(env, con) local p = io.popen('echo one; exit 3') con:puts(p:read('*a')) "
    "con:puts(select(3, p:close())) end",
    "files.lua": "function main(env, con) con:puts((io.popen('ls /proc/self/fd | wc -l'):read('*a'))) end",
    "left.lua": "function main(env, con) local p = io.popen('echo $$; sleep 1000') con:puts(p:read()) end",
    "shared.lua": """
        function main(env, con)
            con:puts((require("greenfcgi.shared").counts:incr("n", 1, 0)))
        end
    """,
}


def imitated(tmp_path: Path, settings: str, before: tuple[str, ...] = ()) -> Server:
    """A server that is told by its Python that it runs on a BSD."""
    server = Server(tmp_path, SCRIPTS, settings)
    command = [*before, sys.executable, "-c", "import os; os.set_inheritable(os.dup(1), True);"]
    command[-1] += f"from greenfcgi.cli import main; main([{str(server.config)!r}])"
    environ = os.environ if "GEVENT_BACKEND" in os.environ else os.environ | imitation.environment()
    with open(server.log_path, "ab") as log:
        server.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ)
    return server


def test_a_server_without_them(tmp_path: Path) -> None:
    """Processes start and are replaced, kept connections are handed over, programs run, end and inherit nothing."""
    with imitated(tmp_path, f"processes = 2\npoll_interval = 0.1\n{TABLES}") as server:
        server.logged(" serves ")
        assert "inotify cannot be used (this system has none): files are polled every 0.1 s" in server.log()
        for count in range(5):
            assert server.get("output.lua").body == b"one\n3"
            # Its three, and that of the listing.
            assert server.get("files.lua").body.strip() == b"4"
            left = int(server.get("left.lua").body)
            until(lambda left=left: not is_alive(left))  # type: ignore[misc]
            assert server.get("shared.lua").body == str(count + 1).encode()
        server.write("hello.lua", "function main(env, con) con:puts('changed') end")
        until(lambda: server.get("hello.lua").body == b"changed")
        with server.connect() as kept:
            kept.send(Client.request(server.params("hello.lua"), keep_conn=True))
            assert kept.reply().body == b"changed"
            before = children(server.pid)
            server.send_signal(signal.SIGHUP)
            server.logged("2 processes running")
            # One that has ended stays the supervisor's child until it is reaped: it is no victim for the signal below.
            until(lambda: not set(before) & set(children(server.pid)), "the old processes to be reaped")
            kept.send(Client.request(server.params("hello.lua"), keep_conn=True))
            assert kept.reply().body == b"changed"
        os.kill(children(server.pid)[0], signal.SIGKILL)
        server.logged("; replacing it")
        assert server.stop() == 0
    assert "failed" not in server.log()


def test_a_server_without_proc(tmp_path: Path) -> None:
    """What C code does is not imitated: here /proc, /sys and /dev/shm are not there for anybody."""
    hide = 'for folder in /proc /sys /dev/shm; do mount -t tmpfs -o ro,size=0 none "$folder" || exit 9; done; exec "$@"'
    before = ("unshare", "-m", "sh", "-c", hide, "sh")
    try:
        tried = subprocess.run([*before, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1)")
    if tried.returncode:
        pytest.skip("this user may not mount anything")
    with imitated(tmp_path, f"processes = 1\n{TABLES}", before) as server:
        server.logged(" serves ")
        assert server.get("output.lua").body == b"one\n3"
        assert server.get("shared.lua").body == b"1"
        assert server.stop() == 0
    assert "failed" not in server.log()


def test_each_has_its_place() -> None:
    """What only Linux has is used in one module, where the portable way stands beside it."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        where = str(path.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(path.read_text())):
            names = [getattr(node, "attr", ""), getattr(node, "name", ""), getattr(node, "value", "")]
            for name in filter(lambda name: isinstance(name, str) and "\n" not in name, names):
                for linux in PLACES:
                    if linux == name or (linux.startswith("/") and name.startswith(linux)):
                        found.setdefault(linux, set()).add(where)
    assert {name: places - GUARDS for name, places in found.items()} == {name: {at} for name, at in PLACES.items()}


def test_no_name_is_taken_for_granted() -> None:
    """Nothing else that BSD lacks is named anywhere: it would fail there when it is first used."""
    pattern = {module.__name__: re.compile(names) for module, names in imitation.MISSING.items()}
    found = []
    for path in PACKAGE.rglob("*.py"):
        where = str(path.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                continue
            module, name = node.value.id, node.attr
            is_missing = module in pattern and pattern[module].fullmatch(name)
            # What waitid is asked for stands beside it.
            if is_missing and where not in (PLACES.get(name), PLACES["waitid"]):
                found.append(f"{where}: {module}.{name}")
    assert found == []


def test_all_modules_can_be_imported() -> None:
    """Also those that few servers use."""
    modules = [
        str(path.relative_to(PACKAGE.parent).with_suffix("")).replace(os.sep, ".")
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py")
    ]
    program = (
        "import importlib, sys\nassert sys.platform == 'freebsd14'\n"
        "for name in sys.argv[1:]: importlib.import_module(name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *modules], env=os.environ | imitation.environment(),
        capture_output=True, text=True, timeout=6 * PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


class TestThePortableWays:
    """Each alone, on whatever system this is."""

    def test_descriptors_that_nobody_lists(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that a program would inherit are found all the same; FreeBSD's list of three is no list."""
        read, write = os.pipe()
        os.set_inheritable(write, True)

        def three(path: str) -> list[str]:
            if path == "/dev/fd":
                return ["0", "1", "2"]
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

        monkeypatch.setattr(os, "listdir", three)
        found = descriptors.inheritable()
        os.close(read)
        os.close(write)
        assert write in found
        assert read not in found
        assert not {0, 1, 2} & set(found)

    @pytest.mark.parametrize("infinity", [-1, 2**63 - 1])
    def test_no_limit_of_descriptors(self, monkeypatch: pytest.MonkeyPatch, infinity: int) -> None:
        """It is -1 on Linux and a large number elsewhere, and shares are of a number that can be had."""
        asked: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "RLIM_INFINITY", infinity)
        monkeypatch.setattr(resource, "getrlimit", lambda which: (infinity, infinity))
        monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
        descriptors.raise_limit()
        assert asked == [(1 << 20, infinity)]
        assert descriptors.limit() == 1 << 20

    def test_a_limit_that_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Then it stays as it is."""

        def refuse(which: int, limits: tuple[int, int]) -> None:
            raise ValueError("not allowed to raise maximum limit")

        monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 2**63 - 1))
        monkeypatch.setattr(resource, "setrlimit", refuse)
        descriptors.raise_limit()
        assert descriptors.limit() == 256

    def test_the_end_of_a_child(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is reaped by the look that sees it, and its status is not lost."""
        monkeypatch.delattr(os, "waitid", raising=False)
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        read, write = os.pipe()
        pid = os.posix_spawn(
            "/bin/sh", ["sh", "-c", "read line; exit 3"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)]
        )
        os.close(read)
        assert child_end.descriptor(pid) == -1
        assert child_end.look(pid) == (False, None)
        os.close(write)
        assert until(lambda: found if (found := child_end.look(pid))[0] else None) == (True, 3 << 8)

    def test_messages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They come one by one."""
        monkeypatch.delattr(socket, "SOCK_SEQPACKET", raising=False)
        out, into = message_pair.message_pair()
        with out, into:
            out.send(b"one")
            out.send(b"two")
            assert [into.recv(100), into.recv(100)] == [b"one", b"two"]
            with pytest.raises(BlockingIOError):
                into.recv(100)

    @pytest.mark.parametrize("reserving", [None, errno.EINVAL, errno.EOPNOTSUPP])
    def test_room_that_cannot_be_reserved(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reserving: int | None
    ) -> None:
        """Where the system cannot, or the file system (ZFS: EINVAL): what is there has to be enough."""

        def refuse(*_: int) -> None:
            assert reserving is not None
            raise OSError(reserving, os.strerror(reserving))

        if reserving is None:
            monkeypatch.delattr(os, "posix_fallocate", raising=False)
        else:
            monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
        with open(tmp_path / "file", "wb") as file:
            disk_room.reserve(file.fileno(), 65536)
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                disk_room.reserve(file.fileno(), 2**60)
