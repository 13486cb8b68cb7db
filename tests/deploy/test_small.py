"""Small boxes: the profile, a root that cannot be written to, lupas without LuaJIT, wheels of other platforms."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from greenfcgi.config.load import load

from ..bench import small
from ..support.running import PATIENCE, Server

pytestmark = pytest.mark.usefixtures("memory_folders_are_made")

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "greenfcgi" / "docs" / "small-boxes.md"
HELLO = {"hello.lua": "function main(env, con) con:puts('hello') end"}
#: Everything but the folder $0 becomes read-only, as on a box that mounts its root so. (/proc and /sys are not files.)
READ_ONLY = """
    mount -o bind "$0" "$0" || exit 9
    while read -r _ at _; do
        case "$at" in
            /proc* | /sys* | "$0") ;;
            *) mount -o remount,bind,ro "$at" || exit 9 ;;
        esac
    done </proc/self/mounts
    exec "$@"
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The command in a folder with a configuration."""

    def command(*arguments: str, config: str = "") -> subprocess.CompletedProcess[str]:
        (tmp_path / "lua_scripts").mkdir(exist_ok=True)
        (tmp_path / "lua_scripts" / "hello.lua").write_text(HELLO["hello.lua"])
        (tmp_path / "config.toml").write_text(config)
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(PROJECT)]))
        return subprocess.run(
            [sys.executable, "-m", "greenfcgi", *arguments], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path},
            capture_output=True, text=True, timeout=6 * PATIENCE, check=False,
        )  # fmt: skip

    return command


class TestProfile:
    """`greenfcgi --init small`."""

    def test_is_a_configuration(self, run: Run, tmp_path: Path) -> None:
        """It is right as it is printed, and differs from the defaults."""
        printed = run("--init", "small")
        (tmp_path / "lua_scripts").mkdir(exist_ok=True)
        (tmp_path / "small.toml").write_text(printed.stdout)
        config = load(str(tmp_path / "small.toml"))
        assert (config.processes, config.workers, config.states.max) == (0, 8, 64)
        assert config.workers * config.lua.memory + config.buffers < 40 * 2**20
        assert config.workers < config.states.max

    def test_in_a_small_box(self, tmp_path: Path) -> None:
        """50 scripts, 200 connections, each reply checked: memory does not grow, and 64 MB are enough."""
        found = small.measure(tmp_path, 20_000, small.settings([]))
        assert found.end <= found.warm * 1.05, found
        assert found.end < 40 * 2**20, found
        assert found.refused == 0, found
        assert "WARNING" not in (tmp_path / "log").read_text().replace("inotify", "")

    def test_more_scripts_than_states(self, tmp_path: Path) -> None:
        """Nearly each request has a state closed for its own: they go as fast as others come."""
        found = small.measure(tmp_path, 2_500, small.settings(["states.max=16"]), 500)
        assert found.end < 45 * 2**20, found

    def test_the_page_has_its_settings(self) -> None:
        """What the page shows is what --init prints."""
        text = PAGE.read_text()
        for line in small.PROFILE.read_text().splitlines():
            if re.match(r"\w+ = ", line) and not line.startswith(("bind", "root", "version")):
                assert f"`{line.split('#')[0].strip()}`" in text, line


def read_only(folder: Path) -> tuple[str, ...]:
    """The beginning of a command for which only `folder` can be written to."""
    before = ("unshare", "-m", "sh", "-c", READ_ONLY, str(folder))
    try:
        tried = subprocess.run([*before, "touch", str(folder / "tried")], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1)")
    if tried.returncode:
        pytest.skip("this user may not mount anything")
    return before


class TestReadOnlyRoot:
    """Only the folder of the socket can be written to."""

    SCRIPTS = HELLO | {
        "body.lua": "function main(env, con) con:puts(#con:gets()) end",
        "session.lua": """
            function main(env, con)
                local s = require("greenfcgi.session").start(env, con)
                s.user = "ada"
                con:puts("in")
            end
        """,
        "shared.lua": "function main(env, con) con:puts((require('greenfcgi.shared').counts:incr('n', 1, 0))) end",
        "form.lua": """
            function main(env, con)
                local form = require("greenfcgi.form").read(env, con)
                con:puts(form.files.picture.size)
            end
        """,
    }

    def server(self, tmp_path: Path, settings: str = "", before: tuple[str, ...] | None = None) -> Server:
        """One whose socket is in a folder of its own, and whose log is on stderr."""
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        bind = f'bind = "unix:{folder}/s.sock"\n'
        server = Server(tmp_path, self.SCRIPTS, bind + settings, before=read_only(folder) if before is None else before)
        server.address = f"{folder}/s.sock"
        return server

    @pytest.mark.parametrize("processes", [0, 1])
    def test_serves(self, tmp_path: Path, processes: int) -> None:
        """And says in one line what a body that memory has no room for, and a session, would need."""
        settings = f'processes = {processes}\nbuffers = "1M"\n[scripts]\nmax_post = "8M"\n'
        with self.server(tmp_path, settings) as server:
            assert server.get("hello.lua").body == b"hello"
            assert server.get("body.lua", b"x" * 100_000).body == b"100000"
            assert server.get("body.lua", b"x" * 3_000_000).status == 500
            server.logged(
                "500: cannot keep the body: no folder for temporary files: set TMPDIR to one that can be written to\n"
            )
            assert server.get("session.lua").status == 500
            log = server.logged(f"{tmp_path}/session.key: Read-only file system; the server's user must be able to")
            assert "or name another file as key_file in [app]" in log
            assert server.stop() == 0
        assert "Traceback" not in server.log()

    def test_with_what_each_needs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """TMPDIR for files, a key that is elsewhere, and dictionaries below TMPDIR."""
        run = tmp_path / "run"
        monkeypatch.setenv("TMPDIR", str(run))
        settings = (
            f'processes = 1\nbuffers = "1M"\n[scripts]\nmax_post = "8M"\n[shared]\ncounts = "1M"\n'
            f'[app]\nkey_file = "{run}/session.key"\n'
        )
        with self.server(tmp_path, settings) as server:
            assert server.get("body.lua", b"x" * 3_000_000).body == b"3000000"
            assert server.get("session.lua").body == b"in"
            assert server.get("shared.lua").body == b"1"
            assert server.stop() == 0
        assert (run / "session.key").exists()

    @pytest.mark.parametrize("processes", [0, 1])
    def test_without_room_for_dictionaries(self, tmp_path: Path, processes: int) -> None:
        """The server does not start, and one line says what it needs."""
        server = self.server(tmp_path, f'processes = {processes}\n[shared]\ncounts = "1M"\n')
        with pytest.raises(AssertionError, match="did not start"), server:
            pass
        line = "greenfcgi: [shared]: no folder can be made in /tmp: Read-only file system; "
        assert server.log() == f"{line}dictionaries need /dev/shm, or a TMPDIR, that can be written to\n"


class TestOneLua:
    """lupa as it is on armv7l and riscv64: without LuaJIT, here with a single Lua."""

    @pytest.fixture
    def only(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Hide all of lupa's Luas but one, from the command and from the server."""
        import lupa

        def hide(name: str) -> None:
            there = Path(lupa.__file__).parent
            suffix = sysconfig.get_config_var("EXT_SUFFIX")
            if not (there / f"{name}{suffix}").exists():
                pytest.skip(f"lupa has no {name} here")
            folder = tmp_path / "packages" / "lupa"
            folder.mkdir(parents=True)
            for path in [*there.glob("*.py"), there / f"{name}{suffix}"]:
                shutil.copy(path, folder)
            folders = [str(folder.parent), os.environ.get("PYTHONPATH", "")]
            monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))

        return hide

    @pytest.mark.parametrize("name", ["lua54", "lua51"])
    def test_starts_with_it(self, only: Callable[[str], None], run: Run, tmp_path: Path, name: str) -> None:
        """ "auto" takes what is there, and --check-config and the log say which."""
        only(name)
        assert run("--check-config").stdout == f"config.toml: OK ({name})\n"
        assert run("--try", "/hello.lua").stdout.endswith("\n\nhello")
        with Server(tmp_path / "served", HELLO, "processes = 1") as server:
            assert server.get("hello.lua").body == b"hello"
            assert f"({name}, 1 process)" in server.log()
            assert server.stop() == 0

    @pytest.mark.parametrize("arguments", [("--check-config",), ("--try", "/hello.lua"), ("config.toml",)])
    def test_what_is_not_there(self, only: Callable[[str], None], run: Run, arguments: tuple[str, ...]) -> None:
        """One line says what there is."""
        only("lua54")
        done = run(*arguments, config='[lua]\nversion = "luajit21"\n')
        assert done.returncode != 0
        assert done.stderr.count("\n") == 1
        assert "luajit21" in done.stderr
        assert "lua54" in done.stderr


#: The names of Alpine's machines in the names of wheels, and the packages with parts in C that have wheels for them.
ALPINE = {"x86-64": "x86_64", "aarch64": "aarch64"}
IN_C = ("gevent", "greenlet", "lupa")


def resolved(folder: Path, *platform: str) -> dict[str, str]:
    """The names of the files that pip would download, by their packages; empty where it finds none for one of them."""
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps",
            "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--retries=0", "--timeout=5",
            "--report=-", f"--target={folder}", *platform, *IN_C,
        ],
        capture_output=True, text=True, timeout=6 * PATIENCE, check=False,
    )  # fmt: skip
    if done.returncode:
        return {}
    return {
        one["metadata"]["name"].lower(): one["download_info"]["url"].rpartition("/")[2]
        for one in json.loads(done.stdout)["install"]
    }


@pytest.mark.parametrize("box", ALPINE)
def test_wheels_of_alpine(box: str, tmp_path: Path) -> None:
    """Those that the page says there are, by their names; nothing is built, and nothing installed."""
    versions = [f"--platform=musllinux_1_{minor}_{ALPINE[box]}" for minor in (1, 2)]
    found = resolved(tmp_path, "--python-version=3.12", "--implementation=cp", *versions)
    if not found and not resolved(tmp_path):
        pytest.skip("the index of packages cannot be reached")
    assert {*found} == {*IN_C}
    for name in found.values():
        assert re.search(rf"[-.]musllinux_1_\d_{ALPINE[box]}\.whl$", name), name
