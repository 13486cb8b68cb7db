"""The server's key: made once for all processes, kept to itself, changed without a loss."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from greenfcgi.errors import ConfigError
from greenfcgi.modules.web import keys as keys_module
from greenfcgi.modules.web.keys import keys

from ...support.inside import Inside
from ...support.running import Server
from .browser import Browser


def test_it_is_made_once(tmp_path: Path) -> None:
    """By many at the same time: all have the same, and nothing is left over."""
    found: list[bytes] = []
    start = threading.Barrier(16)

    def read() -> None:
        start.wait()
        found.extend(keys(str(tmp_path), "", b"test"))

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1
    (path,) = tmp_path.iterdir()
    assert path.name == "session.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex(path.read_text())) == 32
    assert keys(str(tmp_path), "", b"other") != keys(str(tmp_path), "", b"test")


def test_processes_share_it(tmp_path: Path) -> None:
    """A session of one process is known in the others, from the first request on, and after a restart."""
    script = """
        local session = require "greenfcgi.session"
        function main(env, con)
            local s = session.start(env, con)
            s.n = (s.n or 0) + 1
            con:puts(s.n)
        end
    """
    cookie = ""
    for expected in (1, 2):
        with Server(tmp_path, {"count.lua": script}, "processes = 2\n") as server:
            for number in range(10):
                reply = server.get("count.lua", HTTP_COOKIE=cookie)
                assert reply.stdout.endswith(b"\r\n\r\n%d" % (number + 1 + 10 * (expected - 1)))
                cookie = reply.head["set-cookie"][0].partition(";")[0]
            assert server.stop() == 0
        server.log_path.unlink()
    assert [path.name for path in tmp_path.iterdir() if "session.key" in path.name] == ["session.key"]


def test_a_new_key_before_the_old_one(tmp_path: Path) -> None:
    """What the old key has signed is known until that is taken away."""
    lua = Inside(tmp_path)
    path = tmp_path / "session.key"
    browser = Browser(lua)
    browser.ask("s.user = 'ada'")
    old = path.read_text()
    before = dict(browser.cookies)
    path.write_text(f"# new\n{'n' * 32}\n{old}")
    assert browser.says("say(s.user) s.more = 1") == ["ada"]
    path.write_text("n" * 32)
    assert browser.says("say(s.user)") == ["ada"]
    browser.cookies = before
    assert browser.says("say(s.user)") == ["nil"]
    lua.close()


def test_another_file(tmp_path: Path) -> None:
    """`key_file`, as an option or in [app], relative to config.toml."""
    lua = Inside(tmp_path, settings='[app]\nkey_file = "keys/mine"\n')
    (tmp_path / "keys").mkdir()
    Browser(lua).ask("s.x = 1")
    assert (tmp_path / "keys" / "mine").exists()
    Browser(lua, f"{{ key_file = '{tmp_path}/other' }}").ask("s.x = 1")
    assert (tmp_path / "other").exists()
    assert not (tmp_path / "session.key").exists()
    lua.close()


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        ("k" * 32, 0o604, "found mode 0604, expected 0600: others can read or change the key"),
        ("k" * 32, 0o620, "found mode 0620, expected 0600"),
        ("", 0o600, "found no key, expected a line of 32 characters or more for each key"),
        ("# comment\n", 0o600, "found no key"),
        (f"{'k' * 32}\nshort\n", 0o600, "found a key of fewer characters"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, mode: int, says: str) -> None:
    """One clear line."""
    path = tmp_path / "session.key"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError) as found:
        keys(str(tmp_path), "", b"test")
    assert str(found.value).startswith(f"{path}: {says}")
    assert "\n" not in str(found.value)


def test_a_group_may_read_it(tmp_path: Path) -> None:
    """root's file, which the group of the server's user reads."""
    path = tmp_path / "session.key"
    path.write_text("k" * 32)
    path.chmod(0o640)
    assert len(keys(str(tmp_path), "", b"test")) == 1


def test_no_file(tmp_path: Path) -> None:
    """A folder in its place, and a folder that is not there."""
    (tmp_path / "session.key").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="found no regular file"):
        keys(str(tmp_path), "", b"test")
    with pytest.raises(ConfigError, match="No such file or directory; the server's user must be able to read it"):
        keys(str(tmp_path), "missing/key", b"test")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_a_folder_that_the_server_may_not_write() -> None:
    """The server's user cannot make the file: the error says what to do; one that was made for it is taken."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        says = "session.key: Permission denied; the server's user must be able to read it, or to make it"
        assert says in _as_nobody(lambda: keys(name, "", b"test"))
        (folder / "session.key").write_text("k" * 32)
        (folder / "session.key").chmod(0o600)
        assert says in _as_nobody(lambda: keys(name, "", b"test"))
        os.chown(folder / "session.key", 65534, 65534)
        assert _as_nobody(lambda: keys(name, "", b"test")) == ""


def _as_nobody(action: Callable[[], object]) -> str:
    """What it raises when nobody does it, in a process of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        problem = "?"
        try:
            os.setresuid(65534, 65534, 65534)
            action()
            problem = ""
        except ConfigError as found:
            problem = str(found)
        finally:
            os.write(write, problem.encode())
            os._exit(0)
    os.close(write)
    with open(read) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


def test_it_is_not_read_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the file is the same."""
    keys(str(tmp_path), "", b"test")
    monkeypatch.setattr(keys_module, "_keys_in", None)
    assert keys(str(tmp_path), "", b"test")
