"""The command `greenfcgi`, as a process: its options, its messages, its exit status, and `--try`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from greenfcgi.config.load import load
from greenfcgi.version import NAME

from ..support.running import PATIENCE, Server, until

pytestmark = pytest.mark.pythons

PROJECT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "greenfcgi"]
#: Says what it got.
ECHO = """
function main(env, con)
    con:header("Content-Type", "text/plain")
    con:puts(env.REQUEST_METHOD .. " " .. env.SCRIPT_NAME .. " " .. env.PATH_INFO .. " " .. env.QUERY_STRING)
end
"""


class Result(NamedTuple):
    """What became of a command."""

    status: int
    out: str
    err: str


def run(folder: Path, *arguments: str | bytes, command: list[str] = MODULE) -> Result:
    """Run the command in `folder` until it ends."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def refusal(result: Result) -> str:
    """The one line that says what is wrong with the configuration or the command line."""
    assert result.status == 2, result
    assert result.out == ""
    assert result.err.startswith("greenfcgi: ")
    assert result.err.count("\n") == 1
    assert result.err.endswith("\n")
    return result.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration and a script."""
    (tmp_path / "lua_scripts").mkdir()
    (tmp_path / "lua_scripts" / "echo.lua").write_text(ECHO)
    (tmp_path / "config.toml").write_text('bind = "unix:s.sock"\n')
    return tmp_path


# What it reports


def test_the_version(tmp_path: Path) -> None:
    """`--version` names the program and its version, and needs no configuration."""
    assert run(tmp_path, "--version") == Result(0, f"{NAME}\n", "")


def test_help(tmp_path: Path) -> None:
    """`--help` names every option."""
    result = run(tmp_path, "--help")
    assert (result.status, result.err) == (0, "")
    for option in ("config.toml", "--version", "--check-config", "--print-config", "--try"):
        assert option in result.out


def test_a_configuration_is_checked(folder: Path) -> None:
    """`--check-config` says that it is right, and starts nothing."""
    assert run(folder, "--check-config") == Result(0, "config.toml: OK\n", "")
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
        (["--check-config", "--print-config"], "argument --print-config: not allowed with argument --check-config"),
        (["--try", "/echo.lua", "--check-config"], "argument --check-config: not allowed with argument --try"),
    ],
)
def test_a_wrong_command_line_is_reported_in_one_line(folder: Path, arguments: list[str], problem: str) -> None:
    """With a hint where to look, and nothing is done."""
    assert refusal(run(folder, *arguments)) == f"greenfcgi: {problem}; see greenfcgi --help\n"


# Serving


@pytest.mark.parametrize("arguments", [(), ("config.toml",)])
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


# --try


def status_line(result: Result) -> str:
    """The last line of the header block."""
    return result.out.partition("\r\n\r\n")[0].rpartition("\r\n")[2]


def test_a_script_is_tried(folder: Path) -> None:
    """`--try` prints the whole response, header block and body, and nothing else."""
    result = run(folder, "--try", "/echo.lua?name=x&y=%20#part")
    head = "Content-Type: text/plain\r\nStatus: 200 OK\r\n\r\n"
    assert result == Result(0, head + "GET /echo.lua  name=x&y=%20", "")


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("/echo.lua/a/b?c", "GET /echo.lua /a/b c"),
        ("/echo.lua/", "GET /echo.lua / "),
        ("/echo.lua/other.lua/x", "GET /echo.lua /other.lua/x "),
        ("/%65cho%2elua/%41%2f", "GET /echo.lua /A/ "),
        ("/sub%20folder/p%C3%A4ge.lua/x", "GET /sub folder/päge.lua /x "),
        ("/./echo.lua", "GET /./echo.lua  "),
    ],
)
def test_the_path_is_split_as_a_web_server_does(folder: Path, url: str, answer: str) -> None:
    """PATH_INFO is what follows the script; percent-encoded characters are decoded."""
    (folder / "lua_scripts" / "sub folder").mkdir()
    (folder / "lua_scripts" / "sub folder" / "päge.lua").write_text(ECHO)
    result = run(folder, "--try", url)
    assert (result.status, result.out.partition("\r\n\r\n")[2], result.err) == (0, answer, "")


def test_a_script_that_is_not_there_is_tried(folder: Path) -> None:
    """The response is a 404, the reason is on stderr, and the exit status is 1."""
    result = run(folder, "--try", "/none.lua")
    assert (result.status, status_line(result)) == (1, "Status: 404 Not Found")
    assert "GET /none.lua: SCRIPT_FILENAME" in result.err
    assert result.err.endswith("/none.lua': No such file or directory\n")


FAILING = {
    "before any output": ('error("oh dear")', "Status: 500 Internal Server Error"),
    "after some output": ('con:puts("part") con:flush() error("oh dear")', "Status: 200 OK"),
}


@pytest.mark.parametrize("when", FAILING)
def test_a_script_that_fails_is_tried(folder: Path, when: str) -> None:
    """The error and Lua's traceback are on stderr, and the exit status is 1, also when the response had begun."""
    statements, status = FAILING[when]
    (folder / "lua_scripts" / "bad.lua").write_text(f"function main(env, con)\n{statements}\nend")
    result = run(folder, "--try", "/bad.lua")
    assert (result.status, status_line(result)) == (1, status)
    assert "bad.lua:2: oh dear\n" in result.err
    assert "stack traceback:" in result.err
    assert "File " not in result.err, "a traceback of Python"


def test_a_script_that_answers_with_an_error_is_tried(folder: Path) -> None:
    """A status of 400 and above is exit status 1, whoever has chosen it; a redirect is none."""
    script = "function main(env, con) con:status(tonumber(env.QUERY_STRING)) end"
    (folder / "lua_scripts" / "status.lua").write_text(script)
    for code, status in (("204", 0), ("302", 0), ("400", 1), ("503", 1)):
        assert run(folder, "--try", f"/status.lua?{code}").status == status, code


@pytest.mark.parametrize("url", ["echo.lua", "", "http://localhost/echo.lua", "?x", b"\xff"])
def test_what_is_not_a_path_is_reported_in_one_line(folder: Path, url: str | bytes) -> None:
    """`--try` wants a path below scripts.root."""
    line = refusal(run(folder, "--try", url))
    assert line.startswith("greenfcgi: --try: found ")
    assert "expected a path such as /hello.lua?name=x" in line


@pytest.mark.parametrize("url", ["//[", "/", "/../config.toml", "/echo.lua%00", "/lua_scripts", b"/\xff.lua", "/%"])
def test_strange_paths_are_answered_too(folder: Path, url: str | bytes) -> None:
    """A path that leads nowhere is a request like any other: a response, a line, no traceback."""
    result = run(folder, "--try", url)
    assert result.status == 1
    assert status_line(result).startswith("Status: 40")
    assert result.err.count("\n") == 1


def test_a_try_disturbs_no_server(tmp_path: Path) -> None:
    """It needs neither the address nor the log files of the server that runs with the same configuration."""
    settings = 'errorlog = "error.log"\naccesslog = "access.log"\npidfile = "pid"'
    script = 'function main(env, con) con:puts("tried") end function shutdown(con) con:log("gone") end'
    with Server(tmp_path, {"page.lua": script}) as server:
        server.config.write_text(server.config.read_text() + settings)
        before = sorted(os.listdir(server.folder))
        result = run(server.folder, "--try", "/page.lua")
        assert (result.status, result.out.partition("\r\n\r\n")[2]) == (0, "tried")
        assert "gone" in result.err, "its states shut down"
        assert sorted(os.listdir(server.folder)) == before
        assert server.get("page.lua").body == b"tried"


def test_a_try_can_be_interrupted(folder: Path) -> None:
    """Ctrl-C ends a script that waits, without a word."""
    (folder / "lua_scripts" / "wait.lua").write_text(
        'function main(env, con) assert(io.open("began", "w")):close() con:sleep(1000) end'
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [*MODULE, "--try", "/wait.lua"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE) as process:
        try:
            until((folder / "lua_scripts" / "began").exists)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == -signal.SIGINT
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == b""
