"""luafcgid's config.lua becomes a config.toml: each setting, at several values; and files that are wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from greenfcgi.config.load import Config
from greenfcgi.errors import ConfigError
from greenfcgi.imports import luafcgid
from greenfcgi.imports.command import read, run

from ..support.running import PATIENCE, Server
from .loading import loaded, value

#: What the file that luafcgid comes with sets.
DEFAULT = r"""
--[[ a comment ]]--
listen = "/var/tmp/luafcgid.sock"
workers = 4
states = workers * 2
clones = states
sweep = 5000
retries = 1
showerrors = true
buffering = true
headersize = 64
bodysize = 1024
headers = "X-Powered-By: Lua\r\n"
handler = "main"
httpstatus = "200 OK"
contenttype = "text/html"
maxpost = 1024 * 1024
logfile = "luafcgid.log"
"""


def imported(folder: Path, text: str) -> tuple[Config, str]:
    """The configuration that a config.lua becomes, which the server loads, and the file as text."""
    printed = luafcgid.convert(str(folder / "config.lua"), text)
    return loaded(folder, printed), printed


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ('listen = "/run/x.sock"', "bind", ["unix:/run/x.sock"]),
        ('listen = "/run/a:b"', "bind", ["unix:/run/a:b"]),
        ('listen = ":9001"', "bind", ["127.0.0.1:9001"]),
        ('listen = "*:9001"', "bind", ["127.0.0.1:9001"]),
        ('listen = "127.0.0.1:9000"', "bind", ["127.0.0.1:9000"]),
        ('listen = "localhost:9000"', "bind", ["localhost:9000"]),
        ('listen = "10.1.2.3:9000"', "bind", ["10.1.2.3:9000"]),
        ('listen = "lua.example:9000"', "bind", ["lua.example:9000"]),
        ('listen = ""', "bind", ["127.0.0.1:9000"]),
        ("workers = 1", "workers", 1),
        ("workers = 40", "workers", 40),
        ("workers = '12'", "workers", 12),
        ("workers = 12.9", "workers", 12),
        ("workers = 500", "workers", 500),
        ("states = 12", "states.max", 12),
        ("states = 12", "workers", 12),
        ("states = 1000", "states.max", 1000),
        ("workers, states = 20, 10", "states.max", 20),
        ("clones = 3", "states.clones", 3),
        ("sweep = 5000", "poll_interval", 5.0),
        ("sweep = 250", "poll_interval", 0.25),
        ("sweep = 0", "poll_interval", 0.01),
        ("watchdog = 60", "timeout", 60),
        ("watchdog = 1", "timeout", 1),
        ("watchdog = 0", "timeout", 30),
        ("showerrors = true", "scripts.show_errors", True),
        ("showerrors = false", "scripts.show_errors", False),
        ("buffering = false", "scripts.buffering", False),
        (r'headers = "X-A: 1\r\nX-B: 2\r\n"', "scripts.headers", ("X-A: 1", "X-B: 2")),
        (r'headers = "X-A: \"ä\""', "scripts.headers", ('X-A: "ä"',)),
        ('handler = "answer"', "scripts.handler", "answer"),
        ('httpstatus = "404 Not Here"', "scripts.http_status", "404 Not Here"),
        ("httpstatus = 404", "scripts.http_status", "404 Not Found"),
        ("HTTPstatus = 200", "scripts.http_status", "200 OK"),
        ('contenttype = "text/plain; charset=utf-8"', "scripts.content_type", "text/plain; charset=utf-8"),
        ('HTTPtype = "text/plain"', "scripts.content_type", "text/plain"),
        ("maxpost = 0", "scripts.max_post", 0),
        ("maxpost = 1000", "scripts.max_post", 1000),
        ("maxpost = 8 * 1024 * 1024", "scripts.max_post", 8 * 2**20),
        ("maxcount = 100", "states.max_requests", 100),
        ("maxcount = 0", "states.max_requests", 0),
        ('logfile = "/var/log/x.log"', "errorlog", "/var/log/x.log"),
        ("backlog = 64", "backlog", 64),
        ("backlog = -1", "backlog", 2048),
        ('if os.getenv("NO_SUCH") then workers = 1 else workers = 2 end', "workers", 2),
        ("local t = setmetatable({}, {__index = function() return 7 end}) workers = t.x", "workers", 7),
    ],
)
def test_a_setting(tmp_path: Path, text: str, name: str, expected: object) -> None:
    """Each has its value under the name that it has here, and the file loads."""
    config, _ = imported(tmp_path, text)
    assert value(config, name) == expected


def test_a_relative_path(tmp_path: Path) -> None:
    """A socket and a log beside the file."""
    config, _ = imported(tmp_path, 'listen = "x.sock" logfile = "x.log"')
    assert value(config, "bind") == [f"unix:{tmp_path}/x.sock"]
    assert config.errorlog == f"{tmp_path}/x.log"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("retries = 2", "- retries = 2: not needed"),
        ("daemonize = true", "- daemonize = true: it stays in the foreground"),
        ("headersize = 64", "- headersize = 64: not needed"),
        ("buffersize = 64", "- bodysize = 64: not needed"),
        ("watchdog = 0", "- watchdog = 0: a request always has a limit here"),
        ("backlog = -1", "- backlog = -1: the default"),
        ("workers = 1", "- headers is not set, and the default differs"),
        ("workers = 1 function startup() end", "- startup(): luafcgid calls no function"),
        ("workers = 1 wrkers = 2", "- wrkers: no setting of luafcgid's"),
        ("workers, states = 20, 10", "# As many as workers, instead of 10: "),
        ('listen = ":9001"', 'bind = "0.0.0.0:9001" and allowed_clients'),
    ],
)
def test_what_has_no_counterpart_is_a_comment(tmp_path: Path, text: str, note: str) -> None:
    """What it was, and why it is not needed, or what is near."""
    _, printed = imported(tmp_path, text)
    assert note in " ".join(
        line.removeprefix("# ") if line.startswith("#   ") else line for line in printed.split("\n")
    )


def test_another_machines_address_lets_nobody_else_in(tmp_path: Path) -> None:
    """FastCGI has no password: only the address itself may connect until networks are added."""
    config, _ = imported(tmp_path, 'listen = "10.1.2.3:9000"')
    assert [str(one) for one in config.allowed_clients] == ["10.1.2.3/32"]


def test_comments_hold_nothing_that_ends_them(tmp_path: Path) -> None:
    """A value with line ends and what terminals obey stays on its line."""
    printed = imported(tmp_path, r'workers = 1 retries = "1\nbackend = 2\27[2J"')[1]
    assert r"retries = 1\nbackend = 2\x1b[2J: not needed" in printed
    assert "backend" not in tomllib.loads(printed)


def test_luafcgids_own_file_serves_its_kind_of_scripts(tmp_path: Path) -> None:
    """The configuration that it comes with, and a script as its sample is: env, the query, the posted body."""
    script = """
    local fcgi = require("luafcgid")
    function main(env, req)
        req:header("X-Powered-By", "Lua")
        for name, value in pairs(env) do req:puts(string.format("%s = %s\\n", name, value)) end
        if env.REQUEST_METHOD == "GET" then
            params = fcgi.parse(env.QUERY_STRING)
            for name, value in pairs(params) do req:puts("[" .. name .. "=" .. value .. "]") end
        else
            req:puts("[" .. req:gets() .. "]")
        end
    end
    """
    _, printed = imported(tmp_path, DEFAULT)
    with Server(tmp_path, {"dumpenv.lua": script}, configuration(printed)) as server:
        reply = server.get("dumpenv.lua", QUERY_STRING="a=1&b=x%20y")
        assert (reply.status, b"[a=1]" in reply.body, b"[b=x y]" in reply.body) == (200, True, True)
        assert b"LUAFCGID_VERSION = " in reply.body
        assert reply.head["x-powered-by"] == ["Lua", "Lua"], "the setting's and the script's, as with luafcgid"
        assert b"[posted]" in server.get("dumpenv.lua", b"posted").body


WRONG = {
    "no Lua": ("workers = = 2", "config.lua:1: unexpected symbol near '='"),
    "an error": ('\nerror("not here")', "config.lua:2: not here"),
    "an error object": ("error({})", "config.lua: it raises an error that is a table"),
    "os.exit": ("workers = 1 os.exit(0)", "config.lua:1: os.exit is not available to a file that is imported"),
    "os.execute": ("os.execute('true')", "config.lua:1: os.execute is not available to a file that is imported"),
    "io.open": ("io.open('/dev/null')", "config.lua:1: io.open is not available to a file that is imported"),
    "require": ("require 'os'", "config.lua:1: require is not available to a file that is imported"),
    "debug": ("debug.sethook()", "config.lua:1: debug.sethook is not available to a file that is imported"),
    "python": ("python.eval('1')", "config.lua:1: attempt to index "),
    "too much memory": ("local t = {} while true do t[#t + 1] = {} end", "config.lua: it takes more than 16 MB of"),
    "a table": ("workers = {}", "config.lua: workers: found a table, expected text, a number or a boolean"),
    "a function": ("function listen() end", "config.lua: listen: found a function, expected text, a number or"),
    "a boolean": ("workers = true", "config.lua: workers: found true, expected a whole number of at least 1"),
    "a word": ("workers = 'many'", "config.lua: workers: found many, expected a whole number of at least 1"),
    "no number": ("workers = 0/0", "config.lua: workers: found nan, expected a whole number of at least 1"),
    "infinite": ("maxpost = math.huge", "config.lua: maxpost: found inf, expected a whole number of at least 0"),
    "too little": ("workers = 0", "config.lua: workers: found 0, expected a whole number of at least 1"),
    "too much": ("workers = 2^40", "config.lua: workers: found 1099511627776, expected a whole number of at most"),
    "a number": ("showerrors = 1", "config.lua: showerrors: found 1, expected true or false"),
    "a reserved word": ('handler = "end"', 'config.lua: handler: found "end" (text), expected a name that a Lua'),
    "half a header": ('headers = "X-A"', 'config.lua: headers: found "X-A" (text), expected a header such as'),
    "no status": ('httpstatus = "OK"', 'config.lua: httpstatus: found "OK" (text), expected a status from 200'),
    "a port": ('listen = "1.2.3.4:99999"', 'config.lua: listen: found "1.2.3.4:99999" (text), expected a port'),
    "not UTF-8": (r'handler = "\255"', "config.lua: handler: found \\xff, expected text in UTF-8"),
    "a byte 0": (r'logfile = "a\0b"', 'config.lua: logfile: found a\\x00b, expected text without a byte 0'),
    "another file": ("function main(env, con) end", "config.lua: it sets nothing that luafcgid or php-fpm knows"),
}  # fmt: skip


def refusal(path: Path, problem: str) -> None:
    """Importing the file is refused with one line."""
    with pytest.raises(ConfigError) as caught:
        run(str(path))
    line = str(caught.value).removeprefix(f"{path.parent}/")
    assert line.startswith(problem)
    assert "\n" not in line


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_is_wrong(tmp_path: Path, what: str) -> None:
    """One line that says what and where."""
    text, problem = WRONG[what]
    (tmp_path / "config.lua").write_text(text)
    refusal(tmp_path / "config.lua", problem)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x1bLuaQ", "config.lua:1: found byte 0x1b, expected text"),
        (b"workers = 1\n\x00", "config.lua:2: found byte 0x00, expected text"),
        (b"workers = 1\n-- \xe4", "config.lua:2: found byte 0xe4, expected text in UTF-8"),
        (b"-" * (2**20 + 1), "config.lua: found more than 1 MB, expected a configuration"),
    ],
)
def test_a_file_that_is_no_text(tmp_path: Path, data: bytes, problem: str) -> None:
    """Bytecode above all, which can crash a Lua."""
    (tmp_path / "config.lua").write_bytes(data)
    refusal(tmp_path / "config.lua", problem)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """None there, a folder, a fifo that nobody writes."""
    refusal(tmp_path / "none.lua", "none.lua: cannot be read: No such file or directory")
    refusal(tmp_path, f"{tmp_path.name}: cannot be read: Is a directory")
    os.mkfifo(tmp_path / "fifo")
    assert read(str(tmp_path / "fifo")) == ""
    refusal(tmp_path / "fifo", "fifo: it sets nothing that luafcgid or php-fpm knows")


@pytest.mark.parametrize("version", ["lua51", "lua54"])
@pytest.mark.parametrize("early", ["function() end", "false"])
def test_finalizers(tmp_path: Path, version: str, early: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One would run at the end, when nobody looks any more."""
    monkeypatch.setattr("greenfcgi.imports.evaluation.available", lambda: (version,))
    text = f"mt = {{__gc = {early}}} setmetatable({{}}, mt) mt.__gc = function() while true do end end workers = 4"
    (tmp_path / "config.lua").write_text(text)
    refusal(tmp_path / "config.lua", "config.lua:1: a finalizer is not available here")


def test_what_a_program_writes_is_waited_for(tmp_path: Path) -> None:
    """`greenfcgi --import <(ssh host cat config.lua)`: a pipe is read to its end."""
    reading, writing = os.pipe()
    done = subprocess.Popen(
        [sys.executable, "-m", "greenfcgi", "--import", "/dev/stdin"], cwd=tmp_path, stdin=reading,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(reading)
    with open(writing, "wb", 0) as pipe:
        pipe.write(b"workers = 7\n")
        with pytest.raises(subprocess.TimeoutExpired):
            done.wait(1)
        pipe.write(b"handler = 'run'\n")
    with done:
        printed, _ = done.communicate(timeout=PATIENCE)
    assert "workers = 7\n" in printed
    assert 'handler = "run"\n' in printed


@pytest.mark.parametrize(
    "text",
    [
        "while true do end",
        "while true do pcall(error) end",
        "repeat until pcall(function() while true do end end) and false",
        'local text = ("a"):rep(30000) text:find(".-.-.-.-.-.-b")',
        "coroutine.wrap(function() while true do end end)()",
    ],
)
def test_a_file_that_does_not_end(tmp_path: Path, text: str) -> None:
    """The command is over after two seconds, with one line, whatever it does."""
    (tmp_path / "config.lua").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "greenfcgi", "--import", "config.lua"], cwd=tmp_path, stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "greenfcgi: config.lua: it has not ended after 2 s\n"


@pytest.mark.parametrize("flavour", ["luajit21", "luajit20", "lua51", "lua54", "lua55"])
def test_on_each_lua(tmp_path: Path, flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever lupa has: values, what is closed, and no finalizer that would run at the end."""
    monkeypatch.setattr("greenfcgi.imports.evaluation.available", lambda: [flavour])
    config, _ = imported(tmp_path, DEFAULT)
    assert (config.workers, config.states.max, config.scripts.max_post) == (4, 8, 2**20)
    for text, problem in (
        ("os.exit(1)", "os.exit is not available"),
        ("load('x')", "load is not available"),
        ("setmetatable({}, {__gc = function() while true do end end})", "a finalizer is not available"),
        ('getmetatable("").__index.format = nil', "attempt to index"),
    ):
        with pytest.raises(ConfigError, match=problem):
            imported(tmp_path, text)


def configuration(printed: str) -> str:
    """A configuration without the addresses and folders that the tests' server has of its own."""
    own = ("bind", "errorlog", "root")
    return "\n".join(line for line in printed.splitlines() if line.partition(" = ")[0] not in own)
