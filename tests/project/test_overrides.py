"""Settings from the environment and the command line: their order, their paths, their mistakes, and over signals."""

from __future__ import annotations

import os
import signal
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from greenfcgi.config.overrides import variables

from ..support.command import MODULE, Result, environment, refusal, run
from ..support.developing import Developing
from ..support.processes import is_alive
from ..support.running import Server, until

pytestmark = pytest.mark.pythons


def printed(folder: Path, *arguments: str, **env: str) -> dict[str, Any]:
    """The effective settings."""
    result = run(folder, "--print-config", *arguments, env=env)
    assert (result.status, result.err) == (0, ""), result
    return tomllib.loads(result.out)


# Values, and which of them win


def test_the_last_wins(folder: Path) -> None:
    """The file, the environment, --set, the short options, in this order; and of the same option the last one."""
    (folder / "config.toml").write_text("workers = 2\nqueue = 2\ntimeout = 2\nkeepalive = 2\n[states]\nmax = 1000\n")
    env = {"GREENFCGI_WORKERS": "3", "GREENFCGI_QUEUE": "3", "GREENFCGI_TIMEOUT": "3", "GREENFCGI_SLOWLOG_TIMEOUT": "1"}
    arguments = ["-w", "5", "--set", "workers=4", "--set", "queue=9", "--set", "queue=4"]
    found = printed(folder, *arguments, **env)
    assert [found[name] for name in ("workers", "queue", "timeout", "keepalive")] == [5, 4, 3, 2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-w", "7"], {"workers": 7}),
        (["--workers=7", "-p0"], {"workers": 7, "processes": 0}),
        (["-b", "127.0.0.1:1"], {"bind": "127.0.0.1:1"}),
        (["-b", "127.0.0.1:1", "--bind", "unix:@x"], {"bind": ["127.0.0.1:1", "unix:@x"]}),
        (["--set", "scripts.max_post=16M"], {"scripts": {"max_post": "16M"}}),
        (["--set", "scripts.headers=['A: b', \"C: d\"]"], {"scripts": {"headers": ["A: b", "C: d"]}}),
        (["--set", "scripts.buffering=false"], {"scripts": {"buffering": False}}),
        (["--set", "lua.time_slice = 0.5"], {"lua": {"time_slice": 0.5}}),
        (["--set", "scripts.content_type=text/plain; charset=utf-8"], {
            "scripts": {"content_type": "text/plain; charset=utf-8"}}),
        (["--set", "shared.sessions=16M"], {"shared": {"sessions": "16M", "url": ""}}),
        (["--set", "shared={a='1M', b='2M'}", "--set", "shared.b=3M"], {"shared": {"a": "1M", "b": "3M"}}),
        (["--set", "apps.\"/a=b\".wsapi=shop"], {"apps": {"/a=b": {"wsapi": "shop"}}}),
        (["--set", "apps={'/' = {lapis = 'app'}}"], {"apps": {"/": {"lapis": "app"}}}),
        (["--set", "modules.mailer=mysite.mailer"], {"modules": {"mailer": "mysite.mailer"}}),
        (["--set", "app.name=x"], {"app": {"name": "x"}}),
        (["--set", "app.a.b=[1, 2.5]", "--set", "app.a.c=1.10"], {"app": {"a": {"b": [1, 2.5], "c": 1.1}}}),
        (["--set", "app.version='1.10'"], {"app": {"version": "1.10"}}),
        (["--set", "app.x=", "--set", "app.y=a=b"], {"app": {"x": "", "y": "a=b"}}),
        (["--set", "app.x=1\ny = 2"], {"app": {"x": "1\ny = 2"}}),
    ],
)  # fmt: skip
def test_values(folder: Path, arguments: list[str], expected: dict[str, Any]) -> None:
    """TOML where it is a value of TOML, else text."""
    found = printed(folder, *arguments)
    for key, value in expected.items():
        if isinstance(value, dict):
            assert value.items() <= found[key].items()
            assert [type(found[key][name]) for name in value] == [type(each) for each in value.values()]
        else:
            assert found[key] == value


def test_variables(folder: Path) -> None:
    """Each setting has one, and keys of free tables in small letters."""
    env = {
        "GREENFCGI_BIND": '["127.0.0.1:1", "127.0.0.1:2"]', "GREENFCGI_STATES_MAX_REQUESTS": "5",
        "GREENFCGI_LOG_FORMAT": "json", "GREENFCGI_APP_DATABASE": "a b", "GREENFCGI_SHARED_SESSIONS": "1M",
        "GREENFCGI_SHARED_URL": "redis://localhost", "GREENFCGI_MODULES_MAILER": "mysite.mailer",
        "GREENFCGI_APPS": '{"/" = {wsapi = "x"}}', "GREENFCGI_USER": "", "GREENFCGI_TASKS": "[]",
    }  # fmt: skip
    found = printed(folder, **env)
    assert found["bind"] == ["127.0.0.1:1", "127.0.0.1:2"]
    assert (found["states"]["max_requests"], found["log_format"], found["user"]) == (5, "json", "")
    assert found["app"] == {"database": "a b"}
    assert found["shared"] == {"sessions": "1M", "url": "redis://localhost"}
    assert (found["modules"], found["apps"]) == ({"mailer": "mysite.mailer"}, {"/": {"wsapi": "x"}})


def test_no_two_settings_have_one_variable() -> None:
    """Though tables and keys are joined by what keys have in them, too."""
    names = [("_".join(path)).upper() for path in variables().values()]
    assert len(names) == len(set(names)) == len(variables())
    assert not [name for name in names if name.startswith(("APP_", "SHARED_", "MODULES_"))]


def test_variables_of_others_are_left_alone(folder: Path) -> None:
    """What Kubernetes sets where a service is called greenfcgi."""
    env = {
        "GREENFCGI_SERVICE_HOST": "10.0.0.1", "GREENFCGI_SERVICE_PORT": "9000", "GREENFCGI_SERVICE_PORT_FCGI": "9000",
        "GREENFCGI_PORT": "tcp://10.0.0.1:9000", "GREENFCGI_PORT_9000_TCP": "tcp://10.0.0.1:9000",
        "GREENFCGI_PORT_9000_TCP_ADDR": "10.0.0.1", "GREENFCGI_APP_SERVICE_HOST": "10.0.0.1",
        "GREENFCGI_WEB_PORT": "tcp://10.0.0.1:9000", "GREENFCGIX": "1", "GREENFCGI_PURE": "1",
    }  # fmt: skip
    assert printed(folder, **env)["app"] == {}
    assert printed(folder, GREENFCGI_APP_PORT="5432")["app"] == {"port": 5432}


# Paths


def test_paths_are_relative_to_where_the_command_is_started(folder: Path) -> None:
    """As the shell completes them; those of the file stay relative to the file."""
    (folder / "site" / "scripts").mkdir(parents=True)
    (folder / "site" / "config.toml").write_text('errorlog = "e.log"\n[scripts]\nroot = "scripts"\n')
    (folder / "2024").mkdir()
    arguments = [
        "-c",
        "site/config.toml",
        "-b",
        "unix:s.sock",
        "--set",
        "pidfile=pid",
        "--set",
        "lua.path=['lib', '/l']",
    ]
    found = printed(folder, *arguments, GREENFCGI_SLOWLOG="slow.log")
    assert (found["errorlog"], found["scripts"]["root"]) == (f"{folder}/site/e.log", f"{folder}/site/scripts")
    assert (found["bind"], found["pidfile"], found["slowlog"]) == (
        f"unix:{folder}/s.sock", f"{folder}/pid", f"{folder}/slow.log",
    )  # fmt: skip
    assert found["lua"]["path"] == [f"{folder}/lib", "/l"]
    assert printed(folder, "--set", "scripts.root=2024")["scripts"]["root"] == f"{folder}/2024", "no number"


def test_without_any_file(tmp_path: Path) -> None:
    """Where none is named and there is none, settings from elsewhere are enough; one that is named must be there."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "x.lua").write_text("function main(env, con) con:puts('x') end")
    found = printed(tmp_path, "-b", "unix:s.sock", "--set", "scripts.root=web")
    assert (found["bind"], found["scripts"]["root"]) == (f"unix:{tmp_path}/s.sock", f"{tmp_path}/web")
    tried = run(tmp_path, "--try", "/x.lua", env={"GREENFCGI_SCRIPTS_ROOT": "web"})
    assert tried.out.endswith("\r\n\r\nx")
    assert run(tmp_path, "-t", "--set", "scripts.root=web") == Result(0, "without config.toml: OK\n", "")
    problem = refusal(run(tmp_path, "-w", "3"))
    assert problem.startswith('greenfcgi: [scripts] root: the default is "lua_scripts" (text), expected a path')
    for arguments in ((), ("-c", "config.toml", "--set", "scripts.root=web")):
        problem = refusal(run(tmp_path, *arguments))
        assert problem == "greenfcgi: config.toml: cannot be read: No such file or directory\n"


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "env", "problem"),
    [
        ([], {"GREENFCGI_WORKERS": "many"}, 'GREENFCGI_WORKERS: found "many" (text), expected a whole number of'),
        ([], {"GREENFCGI_WORKERS": ""}, 'GREENFCGI_WORKERS: found "" (text), expected a whole number of at least 1'),
        ([], {"GREENFCGI_WORKRES": "1"}, "GREENFCGI_WORKRES: variable of no setting, did you mean GREENFCGI_WORKERS?"),
        ([], {"GREENFCGI_ROOT": "x"}, "GREENFCGI_ROOT: variable of no setting, did you mean GREENFCGI_SCRIPTS_ROOT?"),
        ([], {"GREENFCGI_workers": "1"}, "GREENFCGI_workers: variable of no setting, did you mean GREENFCGI_WORKERS?"),
        ([], {"GREENFCGI_QQQQ": "1"}, "GREENFCGI_QQQQ: variable of no setting; expected GREENFCGI_, and a setting"),
        ([], {"GREENFCGI_SHARED_A": "tiny"}, 'GREENFCGI_SHARED_A: found "tiny" (text), expected a size in bytes'),
        (["--set", "workers=0"], {}, "--set workers: found 0 (whole number), expected a whole number of at least 1"),
        (["--set", "wokers=4"], {}, '--set wokers: unknown setting, did you mean "workers"?'),
        (["--set", "root=x"], {}, "--set root: unknown setting here, it belongs in [scripts]"),
        (["--set", "scripts.rot=x"], {}, '--set scripts.rot: unknown setting, did you mean "root"?'),
        (["--set", "scirpts.root=x"], {}, "--set scirpts.root: unknown table, did you mean [scripts]?"),
        (["--set", "scripts.root.x=1"], {}, "--set scripts.root.x: found a table, expected a path of a directory"),
        (["--set", "scripts=x"], {}, '--set scripts: found "x" (text), expected a table [scripts]'),
        (["--set", "scripts={root='no'}"], {}, '--set scripts.root: found "no" (text), expected a path of a directory'),
        (["--set", "scripts.headers=['x']"], {}, '--set scripts.headers, element 1: found "x" (text), expected'),
        (["--set", "shared.a-b=1M"], {}, '--set shared.a-b: found "a-b" (text), expected names that Lua functions'),
        (["--set", "workers"], {}, '--set: found "workers" (text), expected NAME=VALUE such as scripts.root=/srv/www'),
        (["--set", "WORKERS=4"], {}, '--set WORKERS: unknown setting, did you mean "workers"?'),
        (["--set", "tasks.x=1"], {}, "--set tasks.x: found a table, expected tables [[tasks]], each with script"),
        (["--set", "a b=c"], {}, '--set: found "a b=c" (text), expected NAME=VALUE'),
        (["--set", "=c"], {}, '--set: found "=c" (text), expected NAME=VALUE'),
        (["-w", "x"], {}, '--workers: found "x" (text), expected a whole number of at least 1'),
        (["-p", "-1"], {}, "--processes: found -1 (whole number), expected a whole number of at least 0"),
        (["-b", "nowhere"], {}, '--bind, element 1: found "nowhere" (text), expected an address'),
        (["-w", "500"], {}, "config.toml: [states] max: found 256, expected at least 500, as many as workers (--wor"),
        (["--set", "slowlog=-"], {"GREENFCGI_TIMEOUT": "3"},
         "config.toml: slowlog_timeout: found 5, expected less than timeout (GREENFCGI_TIMEOUT), which is 3"),
        (["--set", "errorlog=no/such/log"], {}, '--set errorlog: cannot open "'),
        (["--set", "lua.version=lua99"], {}, '--set lua.version: found "lua99" (text), expected one of'),
    ],
)  # fmt: skip
def test_mistakes(folder: Path, arguments: list[str], env: dict[str, str], problem: str) -> None:
    """One line, which begins with where the value is from."""
    assert refusal(run(folder, *arguments, env=env)).startswith(f"greenfcgi: {problem}")


def test_what_needs_no_settings_looks_at_none(folder: Path) -> None:
    """A wrong variable is in the way of nothing but what it is for."""
    for arguments in (["-V"], ["--help"], ["--completion", "bash"]):
        assert run(folder, *arguments, env={"GREENFCGI_WORKRES": "1"}).status == 0


def test_bytes_that_are_no_text(folder: Path) -> None:
    """They cannot be written as TOML."""
    done = subprocess.run(
        [*MODULE, "--set", b"app.x=\xff", "--print-config"], cwd=folder, env=environment(), capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.stderr == b"greenfcgi: --set app.x: found bytes that are not UTF-8, expected text that is\n"
    assert done.returncode == 2


# Servers

SHOW = """
function main(env, con)
    con:puts(con:config("a"), " ", con:config("b"), " ", con:config("c"))
end
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server, not started, with settings from the file (a), the environment (b) and --set (c)."""
    monkeypatch.setenv("GREENFCGI_APP_B", "variable")
    settings = 'processes = 1\npidfile = "pid"\n[app]\na = "file"\nb = "file"\nc = "file"\n'
    return Server(tmp_path, {"show.lua": SHOW}, settings, arguments=("--set", "app.c=option"))


def test_a_reload_keeps_what_is_set_elsewhere(server: Server) -> None:
    """SIGHUP reads the file again, and nothing else changes."""
    with server:
        assert server.get("show.lua").body == b"file variable option"
        server.config.write_text(server.config.read_text().replace('"file"', '"changed"'))
        server.send_signal(signal.SIGHUP)
        until(lambda: server.get("show.lua").body == b"changed variable option")


def test_a_reload_names_where_a_mistake_is(server: Server) -> None:
    """As a start does, in the log; the server goes on."""
    with server:
        server.config.write_text("states = { max = 3 }\n" + server.config.read_text())
        server.send_signal(signal.SIGHUP)
        server.logged("config.toml: [states] max: found 3, expected at least 128, as many as workers")
        assert server.get("show.lua").body == b"file variable option"


def test_a_new_binary_gets_what_is_set_elsewhere(server: Server) -> None:
    """SIGUSR2 starts it with the same environment and command line."""
    with server:
        server.config.write_text(server.config.read_text().replace('"file"', '"changed"'))
        server.send_signal(signal.SIGUSR2)
        until(lambda: server.log().count(" serves ") == 2, "the new supervisor")
        new = int((server.folder / "pid").read_text())
        try:
            assert server.stop() == 0
            assert server.get("show.lua").body == b"changed variable option"
        finally:
            os.kill(new, signal.SIGTERM)
            until(lambda: not is_alive(new))


def test_the_developer_mode_takes_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that is named for it goes before scripts.root."""
    monkeypatch.setenv("GREENFCGI_SCRIPTS_ROOT", "/")
    monkeypatch.setenv("GREENFCGI_APP_NAME", "variable")
    page = {
        "x.lua": "function main(env, con) con:header('Content-Type', 'text/plain') con:puts(con:config('name')) end"
    }
    with Developing(tmp_path, page) as developing:
        assert developing.ask("/x.lua").text == "variable"
