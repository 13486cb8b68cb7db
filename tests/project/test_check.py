"""`--check-config`: every mistake at once, and what a start would stumble over."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.command import PROJECT, Result, refusal, run

pytestmark = pytest.mark.pythons


@pytest.mark.parametrize("option", ["--check-config", "-t"])
def test_a_configuration_is_checked(folder: Path, option: str) -> None:
    """`--check-config` says that it is right, and starts nothing."""
    assert run(folder, option) == Result(0, "config.toml: OK\n", "")
    assert not (folder / "s.sock").exists()


CHECKED = """
bind = ["unix:no/such/s.sock", "unix:config.toml"]
errorlog = "no/such/e.log"
accesslog = "lua_scripts"
access_log_format = "%(x)s"
pidfile = "no/such/pid"
[scripts]
startup = "bad.lua"
"""


def test_a_check_lists_all_mistakes(folder: Path) -> None:
    """One line each: what is wrong in the file, and what a start would stumble over; exit status 2."""
    (folder / "bad.lua").write_text("#!/usr/bin/lua\nx = = 1")
    (folder / "config.toml").write_text(f"workers = 0\n{CHECKED}")
    result = run(folder, "--check-config")
    assert (result.status, result.out) == (2, "")
    lines = [line.partition("greenfcgi: config.toml: ")[2] for line in result.err.splitlines()]
    missing = f'but there is no folder "{folder}/no/such"; expected one that exists'
    assert lines[0].startswith("workers: found 0")
    assert lines[1].startswith("access_log_format: found the unknown %(x)s")
    assert lines[2] == f'errorlog: found "{folder}/no/such/e.log", {missing}'
    assert lines[3].startswith(f'accesslog: found "{folder}/lua_scripts", where something else is')
    assert lines[4] == f'pidfile: found "{folder}/no/such/pid", {missing}'
    assert lines[5] == f'bind: found "{folder}/no/such/s.sock", {missing}'
    other = "where something else is; expected the path of a unix socket"
    assert lines[6] == f'bind: found "{folder}/config.toml", {other}'
    assert lines[7].startswith("[scripts] startup: ")
    assert lines[7].endswith("bad.lua:2: unexpected symbol near '='")
    assert len(lines) == 8
    assert not (folder / "s.sock").exists()


def test_a_check_imports_lua(folder: Path) -> None:
    """A Lua that lupa does not have is found, with those that it has; so is one that cannot be imported."""
    lupa = folder / "lupa"
    lupa.mkdir()
    (lupa / "__init__.py").touch()
    (lupa / "lua53.py").write_text("raise ImportError('no symbol')")
    (folder / "config.toml").write_text('[lua]\nversion = "lua54"\n')
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(folder)!r}, {str(PROJECT)!r}]; "
               "from greenfcgi.cli import main; sys.exit(main())"]  # fmt: skip
    line = refusal(run(folder, "--check-config", command=command))
    assert "lua.version: found 'lua54', which the installed lupa does not have; expected one of those" in line
    assert line.endswith("that it has: lua53\n")
    (folder / "config.toml").write_text("")
    line = refusal(run(folder, "--check-config", command=command))
    assert line.endswith("lua.version: found 'lua53', which cannot be imported: no symbol\n")


def test_mistakes_are_listed_wherever_they_are(folder: Path) -> None:
    """In the file, in the environment and on the command line, each with its place; and what a start stumbles over."""
    (folder / "config.toml").write_text("queue = -1\n")
    arguments = ["--set", "wokers=3", "--set", "what", "-p", "x", "--set", "pidfile=no/such/pid"]
    result = run(folder, "-t", *arguments, env={"GREENFCGI_TIMEOUT": "soon", "GREENFCGI_TIMEOT": "1"})
    assert (result.status, result.out) == (2, "")
    begins = [
        "GREENFCGI_TIMEOT: variable of no setting, did you mean GREENFCGI_TIMEOUT?",
        '--set: found "what" (text), expected NAME=VALUE',
        '--set wokers: unknown setting, did you mean "workers"?',
        '--processes: found "x" (text), expected a whole number of at least 0',
        "config.toml: queue: found -1 (whole number), expected",
        'GREENFCGI_TIMEOUT: found "soon" (text), expected a number of seconds',
        f'--set pidfile: found "{folder}/no/such/pid", but there is no folder',
    ]
    lines = [line.removeprefix("greenfcgi: ") for line in result.err.splitlines()]
    assert len(lines) == len(begins), lines
    for line, begin in zip(lines, begins, strict=True):
        assert line.startswith(begin)


# Rights


def as_nobody(folder: Path, *arguments: str) -> Result:
    """The command, run by a user who may write nowhere, and who need not be able to read the server's own files."""
    (folder / "first.toml").write_text('[scripts]\nstartup = "first.lua"\n')
    (folder / "first.lua").touch()
    program = """
        import os, sys
        from greenfcgi.cli import main
        assert main(["-t", "first.toml"]) == 0
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        sys.exit(main(sys.argv[1:]))
    """
    return run(folder, *arguments, command=[sys.executable, "-c", textwrap.dedent(program)])


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder where anybody may read; those of pytest are closed again whenever it starts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "lua_scripts").mkdir()
        yield folder


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@root_only
def test_rights_to_write_are_looked_at(public: Path) -> None:
    """Logs are opened, folders of what will be made are looked at; and nothing is left behind."""
    (public / "config.toml").write_text(
        'bind = "unix:s.sock"\nerrorlog = "e.log"\naccesslog = "a.log"\nslowlog = "open.log"\npidfile = "pid"\n'
    )
    (public / "e.log").write_text("kept\n")
    (public / "e.log").chmod(0o640)
    (public / "open.log").touch()
    (public / "open.log").chmod(0o666)
    result = as_nobody(public, "-t")
    before = sorted(os.listdir(public))
    folder = f'but user "nobody" may not write to the folder "{public}"; expected a folder where it can be made'
    assert [line.removeprefix("greenfcgi: config.toml: ") for line in result.err.splitlines()] == [
        f'errorlog: found "{public}/e.log", which cannot be opened: Permission denied; '
        'expected a file that user "nobody" may write to',
        f'accesslog: found "{public}/a.log", {folder}',
        f'pidfile: found "{public}/pid", {folder}',
        f'bind: found "{public}/s.sock", {folder}',
    ]
    assert result.status == 2
    assert run(public, "-t") == Result(0, "config.toml: OK\n", ""), "root may write everywhere"
    assert sorted(os.listdir(public)) == before
    assert not {"a.log", "pid", "s.sock"} & set(before)
    assert (public / "e.log").read_text() == "kept\n"


@root_only
def test_a_folder_that_cannot_be_looked_for(public: Path) -> None:
    """Whether it is there is not known to who may not look."""
    (public / "closed" / "logs").mkdir(parents=True)
    (public / "closed").chmod(0o700)
    (public / "config.toml").write_text('errorlog = "closed/logs/e.log"\nbind = "127.0.0.1:0"\n')
    result = as_nobody(public, "-t")
    assert result.err.endswith(
        f'but user "nobody" may not look for the folder "{public}/closed/logs"; expected one that it may\n'
    )
    assert (result.status, result.err.count("\n")) == (2, 1)


@root_only
def test_scripts_must_be_readable_for_their_user(public: Path) -> None:
    """`user` runs them, and so it is the one whose rights to read count."""
    (public / "config.toml").write_text('user = "nobody"\n[scripts]\nstartup = "start.lua"\n[lua]\npath = ["lib"]\n')
    (public / "start.lua").touch()
    (public / "lib").mkdir()
    assert run(public, "-t")[:2] == (0, "config.toml: OK\n")
    for name in ("lua_scripts", "lib", "start.lua"):
        (public / name).chmod(0o700)
    result = run(public, "-t")
    may_not = 'which user "nobody" may not read; expected what it may'
    # Python itself may be one that only root can read, which is no mistake.
    lines = [line for line in result.err.splitlines() if "which the server needs" not in line]
    assert [line.removeprefix("greenfcgi: config.toml: ") for line in lines] == [
        f'[scripts] root: found "{public}/lua_scripts", {may_not}',
        f'[scripts] startup: found "{public}/start.lua", {may_not}',
        f'[lua] path: found "{public}/lib", {may_not}',
    ]
    assert result.status == 2


@root_only
def test_a_user_whom_only_root_can_become(public: Path) -> None:
    """Whoever else checks hears what is left out; the rest is checked."""
    (public / "config.toml").write_text('user = "daemon"\n[scripts]\nstartup = "bad.lua"\n')
    (public / "bad.lua").write_text("x = = 1")
    result = as_nobody(public, "-t")
    assert 'only root can see what "daemon" may read: that is left out' in result.err
    assert "bad.lua:1: unexpected symbol" in result.err
    assert result.status == 2


def test_links_where_the_server_follows_none(folder: Path) -> None:
    """A log may be a link, also to a file that will be made; a pid file and a socket may not."""
    (folder / "config.toml").write_text('errorlog = "log"\npidfile = "pid"\nbind = "unix:s.sock"\n')
    for name in ("log", "pid", "s.sock"):
        (folder / name).symlink_to("target")
    result = run(folder, "-t")
    assert [line.split(", ")[1] for line in result.err.splitlines()] == [
        "where something else is; expected the path of a file",
        "where something else is; expected the path of a unix socket",
    ]
    assert not (folder / "target").exists()
