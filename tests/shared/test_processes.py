"""Dictionaries of several processes: exact, there over reloads and upgrades, gone with the server, left by nobody."""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from greenfcgi.system.memory_folder import MemoryFolder, base

from ..support.processes import children
from ..support.running import Server, until

Serve = Callable[..., Server]

SETTINGS = """
processes = 4
graceful_timeout = 2
[shared]
things = "1M"
"""
SCRIPTS = {
    "count.lua": "function main(env, con) con:puts((require('greenfcgi.shared').things:incr('n', 1, 0))) end",
    "get.lua": """
        function main(env, con) con:puts(tostring(require("greenfcgi.shared").things:get(env.QUERY_STRING))) end
    """,
    "many.lua": """
        function main(env, con)
            local d = require("greenfcgi.shared").things
            for i = 1, tonumber(env.QUERY_STRING) do d:incr("n", 1, 0) d:set("k" .. i % 5000, ("x"):rep(i % 300)) end
            con:puts("done")
        end
    """,
    "lock.lua": """
        function main(env, con)
            con:puts(require("greenfcgi.shared").things:lock(env.QUERY_STRING, 60) and "mine" or "theirs")
        end
    """,
}


def folders() -> set[str]:
    """The folders in memory of all servers."""
    return {name for name in os.listdir(base()) if name.startswith("greenfcgi-")}


@pytest.fixture
def before() -> set[str]:
    """Those that were there before the test."""
    return folders()


def in_parallel(count: int, work: Callable[[], object]) -> None:
    """Do something in so many threads at a time."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as problem:
            failed.append(problem)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def successor(server: Server) -> int:
    """The process of the new binary: the child that has children itself."""
    found = [pid for pid in children(server.pid) if children(pid)]
    return found[0] if found else 0


def test_counting_is_exact(serve: Serve) -> None:
    """Four processes count what four clients ask for at a time."""
    server = serve(SCRIPTS, SETTINGS)

    def work() -> None:
        for _ in range(25):
            assert server.get("many.lua?1000").body == b"done"

    in_parallel(4, work)
    assert server.get("get.lua?n").body == b"100000"


def test_a_lock_is_held_once(serve: Serve) -> None:
    """Of all that ask at a time, one gets it."""
    server = serve(SCRIPTS, SETTINGS)
    for name in ("a", "b", "c"):
        got: list[bytes] = []

        def work(name: str = name, got: list[bytes] = got) -> None:
            got.extend(server.get(f"lock.lua?{name}").body for _ in range(10))

        in_parallel(4, work)
        assert sorted(got) == [b"mine", *[b"theirs"] * 39]


def test_a_killed_process_leaves_it_usable(serve: Serve) -> None:
    """In the midst of writing, again and again: the others go on, and so does the one in its place."""
    server = serve(SCRIPTS, SETTINGS)
    for _ in range(4):
        with server.connect() as connection:
            connection.send(server.request("many.lua?100000000"))
            writing = until(lambda: int(server.get("count.lua").body) > 1)
            assert writing
            victim = busiest(server)
            os.kill(victim, signal.SIGKILL)
            until(partial(has_gone, server, victim))
        before = int(server.get("count.lua").body)
        assert int(server.get("count.lua").body) > before
        assert server.get("many.lua?100").body == b"done"
        until(lambda: len(children(server.pid)) == 4)


def has_gone(server: Server, pid: int) -> bool:
    """The supervisor knows that this process has ended."""
    return pid not in children(server.pid)


def busiest(server: Server) -> int:
    """The process that has used most CPU."""

    def ticks(pid: int) -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    return max(children(server.pid), key=ticks)


def test_reloads_and_upgrades_keep_it(serve: Serve, before: set[str]) -> None:
    """SIGHUP and SIGUSR2 keep what is there; a stop does not, whichever of the two servers is the last."""
    server = serve(SCRIPTS, SETTINGS)
    assert server.get("count.lua").body == b"1"
    old = set(children(server.pid))
    server.send_signal(signal.SIGHUP)
    server.logged("configuration reloaded")
    until(lambda: not old & set(children(server.pid)))
    assert server.get("count.lua").body == b"2"
    assert len(folders() - before) == 1
    server.send_signal(signal.SIGUSR2)
    until(lambda: server.log().count(" serves ") == 2)
    assert len(folders() - before) == 1
    assert [int(server.get("count.lua").body) for _ in range(8)] == [*range(3, 11)]
    pid = successor(server)
    assert server.stop() == 0
    assert server.get("count.lua").body == b"11"
    os.kill(pid, signal.SIGTERM)
    until(lambda: not folders() - before)


def test_the_way_back_from_an_upgrade_keeps_it(serve: Serve, before: set[str]) -> None:
    """The new binary ends first: nothing is removed that the old one has."""
    server = serve(SCRIPTS, SETTINGS)
    assert server.get("count.lua").body == b"1"
    server.send_signal(signal.SIGUSR2)
    until(lambda: server.log().count(" serves ") == 2)
    os.kill(successor(server), signal.SIGTERM)
    server.logged("the new binary has ended; this one keeps serving")
    assert server.get("count.lua").body == b"2"
    assert server.stop() == 0
    until(lambda: not folders() - before, "the end of its folder")


def test_a_reload_may_change_dictionaries(serve: Serve, before: set[str]) -> None:
    """One that is new is there, one that is gone leaves no file, one of another size begins anew."""
    server = serve(SCRIPTS, "processes = 2\ngraceful_timeout = 2\n")
    assert server.get("count.lua").status == 500
    assert 'no dictionary "things" in [shared]' in server.log()
    until(lambda: not folders() - before, "the end of its folder")
    plain = server.config.read_text()

    def reload(table: str, files: set[str], times: int) -> None:
        server.config.write_text(plain + table)
        server.send_signal(signal.SIGHUP)
        until(lambda: server.log().count("configuration reloaded") == times)
        # Those of before may answer until they have gone.
        until(lambda: server.log().count("[INFO] stopped") == 2 * times)
        folder = Path(base(), *folders() - before)
        until(lambda: {path.name for path in folder.iterdir()} == {"lock", *files, *(f"{name}-lock" for name in files)})

    reload('[shared]\nthings = "1M"\nothers = "1M"\n', {"things-1048576", "others-1048576"}, 1)
    assert server.get("count.lua").body == b"1"
    reload('[shared]\nthings = "1M"\n', {"things-1048576"}, 2)
    assert server.get("count.lua").body == b"2"
    reload('[shared]\nthings = "2M"\n', {"things-2097152"}, 3)
    assert server.get("count.lua").body == b"1"
    reload("", set(), 4)
    assert server.stop() == 0
    until(lambda: not folders() - before, "the end of its folder")


@pytest.mark.parametrize("processes", [0, 2])
def test_what_a_killed_server_has_left_goes(tmp_path: Path, before: set[str], processes: int) -> None:
    """The next start removes it, and leaves what another server has."""
    settings = f'processes = {processes}\n[shared]\nthings = "1M"\n'
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    with Server(tmp_path / "first", SCRIPTS, settings) as running:
        assert running.get("count.lua").body == b"1"
        others = folders()
        with Server(tmp_path / "second", SCRIPTS, settings) as server:
            assert server.get("count.lua").body == b"1"
            (left,) = folders() - others
            pids = [server.pid, *children(server.pid)]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            assert server.process is not None
            server.process.wait()
            until(lambda: not any(Path(f"/proc/{pid}/fd").exists() and os.listdir(f"/proc/{pid}/fd") for pid in pids))
            assert left in folders()
            server.process = None
            Path(server.socket_path).unlink()
            server.log_path.unlink()
            server.start()
            assert left not in folders()
            assert server.get("count.lua").body == b"1"
            assert running.get("count.lua").body == b"2"
            assert server.stop() == 0
        assert running.stop() == 0
    until(lambda: not folders() - before, "the end of its folder")


def test_at_once(serve: Serve, before: set[str]) -> None:
    """SIGQUIT leaves nothing either, also of a process alone."""
    server = serve(SCRIPTS, 'processes = 0\n[shared]\nthings = "1M"\n')
    assert server.get("count.lua").body == b"1"
    assert len(folders() - before) == 1
    server.stop(signal.SIGQUIT)
    until(lambda: not folders() - before, "the end of its folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize("processes", [0, 2])
def test_files_are_the_users(before: set[str], processes: int) -> None:
    """Nobody else can read them."""
    settings = f'processes = {processes}\nuser = "nobody"\n[shared]\nthings = "1M"\n'
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        with Server(Path(name), SCRIPTS, settings) as server:
            assert server.get("count.lua").body == b"1"
            folder = Path(base(), *folders() - before)
            uid = pwd.getpwnam("nobody").pw_uid
            found = {path.name: path.stat() for path in folder.iterdir()}
            assert {status.st_uid for status in (folder.stat(), *found.values())} == {uid}
            assert {stat.S_IMODE(status.st_mode) for status in found.values()} == {0o600}
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            if processes:
                server.send_signal(signal.SIGHUP)
                server.logged("configuration reloaded")
                assert server.get("count.lua").body == b"2"
            assert server.stop() == 0
            until(lambda: not folders() - before, "the end of its folder")


def test_too_little_memory_is_said_at_the_start(tmp_path: Path, before: set[str]) -> None:
    """In one line; nothing is left."""
    server = Server(tmp_path, SCRIPTS, 'processes = 1\n[shared]\nthings = "1024G"\n')
    with pytest.raises(AssertionError, match="the server did not start"):
        server.start()
    assert server.log() == (
        f"greenfcgi: [shared] things: {2**40} bytes cannot be had in {base()}: No space left on device; "
        "expected less, or more memory there\n"
    )
    until(lambda: not folders() - before, "the end of its folder")


def test_a_folder_in_use_is_not_removed(before: set[str]) -> None:
    """Not by another one that is made, nor by one of its two users."""
    first = MemoryFolder()
    second = MemoryFolder()
    assert {Path(first.path).name, Path(second.path).name} == folders() - before
    holder = subprocess.Popen(["sleep", "60"], pass_fds=[first.lock])
    first.release()
    assert Path(first.path).exists()
    holder.kill()
    holder.wait()
    MemoryFolder().release()
    assert not Path(first.path).exists()
    second.release()
    until(lambda: not folders() - before, "the end of its folder")


def test_a_folder_that_is_being_made_is_not_removed(before: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By a server that starts at the same time, and has looked for its lock just before it was there."""
    path, opened = Path(base()) / "greenfcgi-made", os.open
    path.mkdir()

    def open_(name: str, *arguments: int, **options: int) -> int:
        try:
            return opened(name, *arguments, **options)
        except FileNotFoundError:
            (path / name).touch()
            raise

    monkeypatch.setattr(os, "open", open_)
    made = MemoryFolder()
    assert path.exists()
    monkeypatch.undo()
    made.release()
    MemoryFolder().release()
    until(lambda: not folders() - before, "the end of its folder")
