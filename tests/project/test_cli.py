"""The command `greenfcgi`, as a process: its options, its messages, its exit status."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from greenfcgi.command_line import OPTIONS
from greenfcgi.config.load import load
from greenfcgi.version import NAME

from ..support.command import MODULE, PROJECT, Result, environment, refusal, run
from ..support.running import PATIENCE, Server, until

pytestmark = pytest.mark.pythons

# What it reports


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version(tmp_path: Path, option: str) -> None:
    """`--version` names the program and its version, and needs no configuration."""
    assert run(tmp_path, option) == Result(0, f"{NAME}\n", "")


def test_help(tmp_path: Path) -> None:
    """`--help` names every option."""
    result = run(tmp_path, "--help")
    assert (result.status, result.err) == (0, "")
    for name in ("config.toml", *(name for option in OPTIONS for name in option.names)):
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", result.out), name


def test_the_printed_configuration_is_the_one_in_effect(folder: Path) -> None:
    """`--print-config` writes TOML with every setting: those of the file, and the defaults."""
    settings = 'bind = "unix:s.sock"\nworkers = 7\n[scripts]\nmax_post = 2048\n[app]\nx = "y"\n'
    (folder / "config.toml").write_text(settings)
    result = run(folder, "--print-config", "config.toml")
    assert (result.status, result.err) == (0, "")
    printed = tomllib.loads(result.out)
    assert printed["bind"] == f"unix:{folder}/s.sock"
    assert (printed["workers"], printed["backlog"], printed["app"]) == (7, 2048, {"x": "y"})
    assert (printed["scripts"]["max_post"], printed["scripts"]["handler"]) == ("2K", "main")
    (folder / "printed.toml").write_text(result.out)
    assert load(str(folder / "printed.toml")) == load(str(folder / "config.toml"))
    assert run(folder, "--print-config", "printed.toml").out == result.out


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    """`greenfcgi --print-config | head` ends quietly when `head` has seen enough."""
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [*MODULE, "--print-config"], cwd=folder, env=environment, stdout=pipe, stderr=subprocess.PIPE,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


# What is wrong


@pytest.mark.parametrize("option", [(), ("--check-config",), ("--print-config",), ("--try", "/echo.lua")])
@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (None, "config.toml: cannot be read: No such file or directory"),
        ('bnd = "127.0.0.1:9000"', 'config.toml: bnd: unknown setting, did you mean "bind"?'),
        ("workers = 0", "config.toml: workers: found 0 (whole number), expected a whole number of at least 1"),
        ("bind = ?", "config.toml: line 1, column 8: Invalid value"),
        ('[scripts]\nroot = "nowhere"', "config.toml: [scripts] root: found "),
        ('accesslog = "-"\naccess_log_format = "%(x)s"', "config.toml: access_log_format: "),
    ],
)
def test_a_wrong_configuration_is_reported_in_one_line(
    folder: Path, config: str | None, problem: str, option: tuple[str, ...]
) -> None:
    """Whatever is to be done with it: one line on stderr, and exit status 2."""
    (folder / "config.toml").unlink()
    if config is not None:
        (folder / "config.toml").write_text(config)
    assert refusal(run(folder, *option)).startswith(f"greenfcgi: {problem}")


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ('errorlog = "no/such/folder/error.log"', "errorlog: cannot open"),
        ('accesslog = "no/such/folder/access.log"', "accesslog: cannot open"),
    ],
)
def test_a_log_that_cannot_be_opened_is_reported_in_one_line(folder: Path, setting: str, problem: str) -> None:
    """Before anything listens."""
    (folder / "config.toml").write_text(f'bind = "unix:s.sock"\n{setting}\n')
    assert problem in refusal(run(folder))
    assert not (folder / "s.sock").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--chek-config"], "unrecognized arguments: --chek-config"),
        (["--check"], "unrecognized arguments: --check"),
        (["-x"], "unrecognized arguments: -x"),
        (["config.toml", "more.toml"], "unrecognized arguments: more.toml"),
        (["--try"], "argument --try: expected one argument"),
        (["--check-config", "--print-config"], "argument --print-config: not allowed with argument -t/--check-config"),
        (["--try", "/echo.lua", "--check-config"], "argument -t/--check-config: not allowed with argument --try"),
        (["-c"], "argument -c/--config: expected one argument"),
        (["-c", "a.toml", "b.toml"], "argument -c/--config: found a.toml, and b.toml beside it, expected one of them"),
        (["-X", "PUT"], "-X/--method goes with --try"),
        (["--try", "/echo.lua", "-d", "x", "-F", "a=b"],
         "argument -F/--form: not allowed with arguments -d/--data and --data-binary"),
        ([""], 'argument -c/--config: found "", expected the name of a file'),
        (["-c", ""], 'argument -c/--config: found "", expected the name of a file'),
        (["--data-binary", "x"], "--data-binary goes with --try"),
        (["--http", "8080"], "--http goes with --dev"),
        (["--write", "d"], "--write goes with --init"),
        (["--completion", "tcsh"], "argument --completion: found 'tcsh', expected one of bash, zsh, fish"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_reported_in_one_line(folder: Path, arguments: list[str], problem: str) -> None:
    """With a hint where to look, and nothing is done."""
    assert refusal(run(folder, *arguments)) == f"greenfcgi: {problem}; see greenfcgi --help\n"


# Output


PRINTING = [
    ("--version",), ("--check-config",), ("--print-config",), ("--completion", "bash"), ("--init", "systemd"),
    ("--try", "/echo.lua"), ("--import", "config.lua"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", PRINTING)
def test_output_that_cannot_be_written_is_reported_in_one_line(folder: Path, arguments: tuple[str, ...]) -> None:
    """A full disk is a failure; a reader that has seen enough ends the command quietly, as it ends others."""
    (folder / "config.lua").write_text("workers = 4")
    command = [*MODULE, *arguments]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command, cwd=folder, env=environment(), stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"greenfcgi: stdout: No space left on device\n")
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        done = subprocess.run(
            command, cwd=folder, env=environment(), stdout=pipe, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
        )
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_names_of_files_keep_their_bytes(folder: Path) -> None:
    """Also where they are not UTF-8."""
    os.rename(folder / "config.toml", os.fsencode(folder) + b"/\xff.toml")
    for arguments, printed in (((b"-t", b"\xff.toml"), b"\xff.toml: OK\n"),
                               ((b"--init", b"site", b"--write", b"\xfe"), b"\xfe/config.toml\n")):  # fmt: skip
        done = subprocess.run([*MODULE, *arguments], cwd=folder, env=environment(), capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(printed)


# Serving


@pytest.mark.parametrize("arguments", [(), ("config.toml",), ("-c", "config.toml"), ("--config=config.toml",)])
def test_without_arguments_it_serves_what_config_toml_says(folder: Path, arguments: tuple[str, ...]) -> None:
    """`greenfcgi` alone takes the configuration in the current folder, and its paths are relative to it."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    log = folder / "log"
    with (
        open(log, "wb") as stderr,
        subprocess.Popen([*MODULE, *arguments], cwd=folder, env=environment, stderr=stderr) as process,
    ):
        try:
            until(lambda: f"serves {folder}/lua_scripts on unix:{folder}/s.sock" in log.read_text())
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_an_address_that_is_taken_is_reported_in_one_line(serve: Callable[..., Server]) -> None:
    """Exit status 1: the configuration is fine, and the server cannot start all the same."""
    server = serve()
    result = run(server.folder, str(server.config))
    assert (result.status, result.out) == (1, "")
    problem = f"bind: cannot listen on unix:{server.socket_path}: another server listens there"
    assert result.err == f"greenfcgi: {problem}\n"


def installed_command() -> list[str]:
    """What an installer makes of the entry point in pyproject.toml."""
    entry = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]["greenfcgi"]
    module, _, function = entry.partition(":")
    return [sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({function}())"]


@pytest.mark.parametrize("arguments", [["--version"], ["--try", "/echo.lua"], ["--try", "/none.lua"], ["--bad"]])
def test_the_command_and_the_module_are_the_same(folder: Path, arguments: list[str]) -> None:
    """`greenfcgi` and `python -m greenfcgi` do, say and return the same."""
    module, command = run(folder, *arguments), run(folder, *arguments, command=installed_command())
    assert (module.status, module.out) == (command.status, command.out)
    assert len(module.err.splitlines()) == len(command.err.splitlines())
