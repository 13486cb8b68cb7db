"""config.toml as an operator meets it: what it gives, what it refuses in which words, and the way back."""

import ast
import datetime
import ipaddress
import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenfcgi.config.load import Address, Config, defaults, describe, dump, examine, load
from greenfcgi.errors import ConfigError

pytestmark = pytest.mark.pythons

TABLES = "[scripts], [lua], [states], [modules], [shared], [tasks], [apps], [app]"
#: Tables whose keys are free.
FREE_TABLES = ("modules", "shared", "tasks", "apps", "app")
STATES = "max, clones, max_requests, idle, per_request"
SHIPPED = Path(__file__).parents[2] / "config.toml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lua_scripts").mkdir()
    return tmp_path


def loaded(folder: Path, toml: str) -> Config:
    (folder / "config.toml").write_text(toml, encoding="utf-8", newline="")
    return load(str(folder / "config.toml"))


def refused(folder: Path, toml: str) -> str:
    """The line that refuses `toml`, without the name of the file."""
    with pytest.raises(ConfigError) as caught:
        loaded(folder, toml)
    line = str(caught.value)
    assert line.isprintable(), "a message is one line and holds nothing that a terminal obeys"
    start = f"{folder / 'config.toml'}: "
    assert line.startswith(start)
    return line.removeprefix(start)


# What the file gives


def test_an_empty_file_gives_the_defaults(folder: Path) -> None:
    """An empty file equals `defaults`, and both hold the documented values."""
    config = loaded(folder, "")
    assert config == defaults(str(folder))
    assert config.bind == (Address("tcp", host="127.0.0.1", port=9000),)
    assert (config.workers, config.states.max, config.states.clones) == (128, 256, 128)
    assert (config.lua.version, config.lua.jit, config.lua.memory) == ("luajit21", False, 32 * 2**20)
    assert (config.socket_mode, config.errorlog, config.accesslog) == (0o660, "-", "")
    assert config.scripts.root == str(folder / "lua_scripts")
    assert config.app == {}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9000", Address("tcp", host="127.0.0.1", port=9000)),
        ("127.0.0.1:0", Address("tcp", host="127.0.0.1", port=0)),
        ("localhost:65535", Address("tcp", host="localhost", port=65535)),
        ("[::1]:9000", Address("tcp", host="::1", port=9000)),
        ("[fe80::1%eth0]:9000", Address("tcp", host="fe80::1%eth0", port=9000)),
        ("unix:/run/greenfcgi.sock", Address("unix", path="/run/greenfcgi.sock")),
        ("unix:///run/greenfcgi.sock", Address("unix", path="/run/greenfcgi.sock")),
        ("fd://3", Address("fd", number=3)),
    ],
)
def test_an_address_is_read_and_written(folder: Path, text: str, address: Address) -> None:
    """Each form of bind gives its Address, and the text of that Address gives it again."""
    toml = 'allowed_clients = ["10.0.0.0/8"]\nbind = '
    assert loaded(folder, f'{toml}"{text}"').bind == (address,)
    assert loaded(folder, f'{toml}["{address}"]').bind == (address,)


def test_the_same_address_twice(folder: Path) -> None:
    """It could not be listened on."""
    assert 'bind: found "127.0.0.1:9000" (text) twice' in refused(folder, 'bind = ["127.0.0.1:9000", "127.0.0.1:9000"]')


@pytest.mark.parametrize(
    ("there", "best"),
    [
        (("luajit21", "lua51", "lua55"), "luajit21"),
        (("lua55", "lua54", "lua51", "luajit20"), "lua51"),
        (("lua55", "lua54", "luajit20"), "luajit20"),
        (("lua55", "lua54"), "lua54"),
    ],
)
def test_the_best_lua_that_is_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], best: str
) -> None:
    """Without lua.version it is LuaJIT, or what is nearest to it; what is named stays as it is."""
    lupa = folder / "lupa"
    lupa.mkdir()
    for name in ("__init__", *there):
        (lupa / f"{name}.py").touch()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    assert loaded(folder, "").lua.version == best
    assert loaded(folder, '[lua]\nversion = "auto"').lua.version == best
    assert f'version = "{best}"' in dump(loaded(folder, ""))
    assert loaded(folder, '[lua]\nversion = "lua53"').lua.version == "lua53"


def test_no_lua_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said what is missing."""
    monkeypatch.setattr(sys, "path", [str(folder)])
    assert "an installed lupa, with any Lua in it" in refused(folder, "")


@pytest.mark.parametrize("name", ["x", "greenfcgi/app", "x" * 107])
def test_an_abstract_socket(folder: Path, name: str) -> None:
    """A name without a file is not a path relative to the configuration."""
    assert loaded(folder, f'bind = "unix:@{name}"').bind == (Address("unix", path=f"@{name}"),)
    assert dump(loaded(folder, f'bind = "unix:@{name}"')).startswith(f'bind = "unix:@{name}"')


@pytest.mark.parametrize("name", ["", "x" * 108])
def test_a_name_that_no_abstract_socket_can_have(folder: Path, name: str) -> None:
    """None at all, and one that the kernel has no room for."""
    assert "expected a name of 1 to 107 bytes behind the @" in refused(folder, f'bind = "unix:@{name}"')


def test_abstract_sockets_are_of_linux(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere they are refused; a file can still have such a name."""
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert "sockets without one, unix:@name, are Linux's" in refused(folder, 'bind = "unix:@x"')
    assert loaded(folder, 'bind = "unix:./@x"').bind == (Address("unix", path=f"{folder}/@x"),)


def test_all_mistakes(folder: Path) -> None:
    """`examine` lists each of them, with the file; `load` raises the first. What is right is kept."""
    (folder / "config.toml").write_text(
        'workers = 0\nbnd = "x"\nerrorlog = "e.log"\n[lua]\njit = 1\n[scripts]\nroot = "lua_scripts"\nroof = 2\n'
    )
    config, problems = examine(str(folder / "config.toml"))
    assert [problem.partition("config.toml: ")[2].partition(":")[0] for problem in problems] == [
        "bnd", "workers", "[scripts] roof", "[lua] jit",
    ]  # fmt: skip
    assert config is not None
    assert (config.workers, config.errorlog) == (128, f"{folder}/e.log")
    with pytest.raises(ConfigError) as caught:
        load(str(folder / "config.toml"))
    assert str(caught.value) == problems[0]


@pytest.mark.parametrize("text", [":9000", "*:9000"])
def test_no_host_means_all_addresses(folder: Path, text: str) -> None:
    """Without a host the server listens on every IPv4 address."""
    assert str(loaded(folder, f'bind = "{text}"\nallowed_clients = ["10.0.0.0/8"]').bind[0]) == "0.0.0.0:9000"


def test_several_addresses(folder: Path) -> None:
    """bind takes a list, in which a relative socket path starts at the folder of the file."""
    config = loaded(folder, 'bind = ["unix:run/g.sock", "127.0.0.1:9000"]')
    assert [str(address) for address in config.bind] == [f"unix:{folder}/run/g.sock", "127.0.0.1:9000"]


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ('"512"', 512),
        ('"512K"', 2**19),
        ('"16m"', 2**24),
        ('"1GB"', 2**30),
        ('"7b"', 7),
    ],
)
def test_sizes(folder: Path, written: str, size: int) -> None:
    """A size is a number of bytes or a text with a binary unit, in any case, with or without B."""
    assert loaded(folder, f"[scripts]\nmax_post = {written}").scripts.max_post == size


def test_times_may_have_fractions(folder: Path) -> None:
    """Seconds are whole or not."""
    config = loaded(folder, "heartbeat = 0.25\nkeepalive = 0")
    assert (config.heartbeat, config.keepalive) == (0.25, 0)


def test_networks(folder: Path) -> None:
    """allowed_clients are networks of both families; an address is a network of one."""
    config = loaded(folder, 'allowed_clients = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]')
    assert config.allowed_clients == tuple(map(ipaddress.ip_network, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]))


def test_paths_start_at_the_folder_of_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths depend on where the file is, not on where the server is started; "-" and "" stay."""
    (folder / "start.lua").touch()
    monkeypatch.chdir(folder.parent)
    toml = 'pidfile = "run/pid"\nerrorlog = "/var/log/g"\naccesslog = "-"\n[scripts]\nroot = "lua_scripts/."\n'
    (folder / "config.toml").write_text(toml + 'startup = "start.lua"\n[lua]\npath = ["lib", "../up"]\ncpath = ["-"]')
    config = load(f"{folder.name}/config.toml")
    assert (config.pidfile, config.errorlog, config.accesslog) == (f"{folder}/run/pid", "/var/log/g", "-")
    assert (config.scripts.root, config.scripts.startup) == (f"{folder}/lua_scripts", f"{folder}/start.lua")
    assert config.lua.path == (f"{folder}/lib", f"{folder.parent}/up")
    assert config.lua.cpath == (f"{folder}/-",)


def test_app_is_free(folder: Path) -> None:
    """Whatever TOML can say is allowed below [app]."""
    config = loaded(folder, '[app]\ntitle = "x"\nday = 2024-02-29\n[app.mail]\nto = ["a", "b"]\n[[app.site]]\nn = 1.5')
    day = datetime.date(2024, 2, 29)
    assert config.app == {"title": "x", "day": day, "mail": {"to": ["a", "b"]}, "site": [{"n": 1.5}]}


# What is refused


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ('workers = "many"', 'workers: found "many" (text), expected a whole number of at least 1'),
        ("workers = true", "workers: found true (true or false), expected a whole number of at least 1"),
        ("workers = 0", "workers: found 0 (whole number), expected a whole number of at least 1"),
        ("workers = 1.0", "workers: found 1.0 (number), expected a whole number of at least 1"),
        ("workers = []", "workers: found an empty list, expected a whole number of at least 1"),
        ("workers = {}", "workers: found a table, expected a whole number of at least 1"),
        (
            "workers = 07:32:00",
            "workers: found 07:32:00 (date or time), expected a whole number of at least 1",
        ),
        (
            "backlog = 2147483648",
            "backlog: found 2147483648 (whole number), expected a whole number of at most 2147483647",
        ),
        ("keepalive = -1", "keepalive: found -1 (whole number), expected a number of seconds, at least 0"),
        ("keepalive = nan", "keepalive: found nan (number), expected a number of seconds, at least 0"),
        (
            "keepalive = inf",
            "keepalive: found inf (number), expected a number of seconds, at most 2147483647",
        ),
        (
            "keepalive = true",
            "keepalive: found true (true or false), expected a number of seconds, at least 0",
        ),
        ("heartbeat = 0", "heartbeat: found 0 (whole number), expected a number of seconds, at least 0.01"),
        ("reload = 1", "reload: found 1 (whole number), expected true or false"),
        (
            'reload_engine = "kqueue"',
            'reload_engine: found "kqueue" (text), expected one of "auto", "inotify", "poll"',
        ),
        ("socket_mode = 660", 'socket_mode: found 660 (whole number), expected octal text such as "0660"'),
        ('socket_mode = "0688"', 'socket_mode: found "0688" (text), expected octal text such as "0660"'),
        ('errorlog = ""', 'errorlog: found "" (text), expected a path, or "-" for stderr'),
        ('pidfile = "a\\u0000"', 'pidfile: found "a\\u0000" (text), expected a path, or "" for none'),
        ("[lua]\npath = ['']", '[lua] path, element 1: found "" (text), expected a path of a directory'),
        ("access_log_format = 1", "access_log_format: found 1 (whole number), expected text"),
        (
            'allowed_clients = ["10.0.0.1/8"]',
            'allowed_clients, element 1: found "10.0.0.1/8" (text), '
            'expected a network without host bits, such as "10.0.0.0/8"',
        ),
        (
            '[lua]\nmemory = "1000K"',
            '[lua] memory: found "1000K" (text), expected a size in bytes or as text such as "16M", at least 1M',
        ),
        (
            '[scripts]\nmax_post = "2000G"',
            '[scripts] max_post: found "2000G" (text), expected a size of at most "1024G"',
        ),
        (
            '[lua]\npath = "lib"',
            '[lua] path: found "lib" (text), expected a list, each a path of a directory',
        ),
        (
            '[lua]\npath = ["lib", 5]',
            "[lua] path, element 2: found 5 (whole number), expected a path of a directory",
        ),
        ("lua = 5", "lua: found 5 (whole number), expected a table [lua]"),
        ("[[lua]]", "lua: found a list, expected a table [lua]"),
        ("app = 5", "app: found 5 (whole number), expected a table"),
        (
            "[app]\nn = 0x8000000000000000",
            "app: found 0x8000000000000000 (whole number), expected whole numbers of 64 bits",
        ),
        (
            "workers = 300",
            "[states] max: found 256, expected at least 300, "
            "as many as workers, because a running request holds a state",
        ),
    ],
)
def test_a_wrong_value_is_reported_in_one_line(folder: Path, toml: str, line: str) -> None:
    """A value of a wrong type or out of range: the key, what was found, what is expected."""
    assert refused(folder, toml) == line


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ("wrokers = 1", 'wrokers: unknown setting, did you mean "workers"?'),
        ("[lua]\nmemroy = 1", '[lua] memroy: unknown setting, did you mean "memory"?'),
        ("max_post = 1", "max_post: unknown setting here, it belongs in [scripts]"),
        ("maxpost = 1", 'maxpost: unknown setting, did you mean "max_post" in [scripts]?'),
        (
            "[scripts]\nworkers = 1",
            "[scripts] workers: unknown setting here, it belongs above the first table",
        ),
        ("[states]\nzzz = 1", f"[states] zzz: unknown setting; known here are {STATES}"),
        ("[script]", "[script]: unknown table, did you mean [scripts]?"),
        (
            "[zzz]",
            f"[zzz]: unknown table; known are {TABLES}",
        ),
        (
            "[lua.script]",
            f"[lua.script]: unknown table; known are {TABLES}",
        ),
        (
            "[lua.zzz]",
            f"[lua.zzz]: unknown table; known are {TABLES}",
        ),
        ('[states]\n"a\\nb" = 1', f'[states] "a\\nb": unknown setting; known here are {STATES}'),
    ],
)
def test_an_unknown_key_gets_a_hint(folder: Path, toml: str, line: str) -> None:
    """A key that does not exist: the nearest one, the table where it belongs, or what there is."""
    assert refused(folder, toml) == line


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "x",
            "127.0.0.1",
            "127.0.0.1:",
            "1.2.3:9",
            "256.0.0.1:9",
            "::1:9000",
            "[::1]",
            "[::g]:9",
            "[]:9",
        ),
        *("a b:9", "tcp://h:1", "[::1%\\n]:9", "unix:", "unix:a\\u0000b"),
        *("fd://", "fd://x", "fd://-1", "fd://1234567890123"),
    ],
)
def test_what_is_no_address(folder: Path, text: str) -> None:
    """Text that is no address is refused, with the forms that there are."""
    assert refused(folder, f'bind = "{text}"').endswith(
        'expected an address such as "127.0.0.1:9000", "[::1]:9000", "unix:/run/greenfcgi.sock" or "fd://3"'
    )


@pytest.mark.parametrize("port", ["65536", "99999", "123456789"])
def test_a_port_out_of_range(folder: Path, port: str) -> None:
    """A port past 65535 is named as the mistake."""
    assert refused(folder, f'bind = ["127.0.0.1:{port}"]') == (
        f'bind, element 1: found "127.0.0.1:{port}" (text), expected a port from 1 to 65535, or 0 for any that is free'
    )


def test_an_empty_bind(folder: Path) -> None:
    """A server that listens nowhere is refused."""
    assert refused(folder, "bind = []").startswith("bind: found an empty list, expected an address")


@pytest.mark.parametrize("text", [":9000", "192.0.2.1:9000", "[::]:9000", "backend.example:9000", "[::1%eth0]:9000"])
def test_an_open_bind_needs_allowed_clients(folder: Path, text: str) -> None:
    """An address that other machines reach is refused with the reason until allowed_clients names someone."""
    line = refused(folder, f'bind = ["127.0.0.1:9000", "{text}"]')
    assert "whoever can connect from another machine can run any script" in line
    assert "allowed_clients, or a bind to 127.0.0.1" in line
    assert len(loaded(folder, f'bind = "{text}"\nallowed_clients = ["192.0.2.7"]').bind) == 1


@pytest.mark.parametrize("text", ["127.8.0.1:0", "localhost:1", "[::1]:9", "[0:0::1]:9", "unix:s", "fd://0"])
def test_a_closed_bind_needs_no_allowed_clients(folder: Path, text: str) -> None:
    """The loopback, unix sockets and inherited sockets go without allowed_clients."""
    assert loaded(folder, f'bind = "{text}"').allowed_clients == ()


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        (
            "extensions",
            ['[".lua"]', '[".lua", ".lua.html"]'],
            ["[]", '["lua"]', '[""]', '["."]', '["./lua"]', '".lua"'],
        ),
        ("handler", ['"main"', '"_a1"'], ['""', '"1a"', '"a.b"', '"end"', '"goto"', '"main\\n"', '"mäin"']),
        (
            "http_status",
            ['"200 OK"', '"599 My own"'],
            ['"200"', '"200 "', '"199 X"', '"600 X"', '"200 O\\nK"', "200"],
        ),
        (
            "headers",
            ['["X-A: b", "X-B:"]'],
            ['["X"]', '[": b"]', '["X A: b"]', '["X: a\\r\\nY: b"]', '["X: \\u0000"]'],
        ),
        ("content_type", ['"text/plain; charset=utf-8"'], ['""', '"a\\rb"', '"a\\nb"', '"a\\u0000b"', "1"]),
    ],
)
def test_what_goes_into_responses(folder: Path, key: str, good: list[str], bad: list[str]) -> None:
    """Settings that reach Lua or a response header are checked, so that they cannot break either."""
    for value in good:
        loaded(folder, f"[scripts]\n{key} = {value}")
    for value in bad:
        assert refused(folder, f"[scripts]\n{key} = {value}").startswith(f"[scripts] {key}")


def test_root_must_be_a_directory(folder: Path) -> None:
    """A root that is missing or a file is refused, and the line says where it was looked for."""
    (folder / "file").touch()
    for name in ("missing", "file"):
        assert refused(folder, f'[scripts]\nroot = "{name}"') == (
            f'[scripts] root: found "{name}" (text), '
            f"expected a path of a directory that exists (there is none at '{folder}/{name}')"
        )
    (folder / "lua_scripts").rmdir()
    assert refused(folder, "").startswith('[scripts] root: the default is "lua_scripts" (text), expected a path')
    with pytest.raises(ConfigError, match="root: the default is"):
        defaults(str(folder))


@pytest.mark.parametrize("name", ["/abs", "..", ".", "a/..", "../a", "a/../b", "./a", "a//b", "a/", "/", "a\\u0000b"])
def test_public_is_a_folder_below_the_root(folder: Path, name: str) -> None:
    """Neither the root itself nor one outside it: then all that is in it would be sent."""
    line = refused(folder, f'[scripts]\npublic = "{name}"')
    assert line.startswith("[scripts] public: found ")
    assert line.endswith('(text), expected a folder below scripts.root such as "public", or "" for none')


@pytest.mark.parametrize("name", ["", "public", "a/b", "..a", ".htdocs", "with space"])
def test_public_need_not_be_there(folder: Path, name: str) -> None:
    """It stays as it is written, since it is part of a path below the root."""
    (folder / "config.toml").write_text(f'[scripts]\npublic = "{name}"')
    assert load(str(folder / "config.toml")).scripts.public == name


def test_startup_must_be_a_readable_file(folder: Path) -> None:
    """A startup script that is missing, a directory or unreadable is refused before a request needs it."""
    for name in ("missing.lua", "lua_scripts"):
        line = refused(folder, f'[scripts]\nstartup = "{name}"')
        assert line.startswith(f'[scripts] startup: found "{name}" (text), expected a file that exists and can be read')
    if os.geteuid():
        (folder / "secret.lua").touch(mode=0)
        assert "can be read" in refused(folder, '[scripts]\nstartup = "secret.lua"')


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ("workers = 1\nbind = oops", "line 2, column 8: Invalid value"),
        ("workers = 1\nworkers = 2\n", "line 2, column 12: Cannot overwrite a value"),
        ("workers = 1\nbind = ", "line 2, at the end of the file: Invalid value"),
        ("[app]\nn = " + "9" * 5000, "found a whole number of thousands of digits, expected 64 bits"),
        ("a = " + "[" * 5000, "found lists or tables that are nested too deep"),
        ("[app" + ".a" * 5000 + "]", "app: found a table, expected tables and lists at most 32 deep"),
        ("[app]\na = " + "[" * 50 + "]" * 50, "app: found a list, expected tables and lists at most 32 deep"),
    ],
)
def test_a_mistake_in_toml_has_a_place(folder: Path, toml: str, line: str) -> None:
    """What is no TOML is reported with line and column; what no script could use is refused, too."""
    assert refused(folder, toml) == line


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    """A missing file, a directory and other than UTF-8 each get a line of their own."""
    (folder / "latin.toml").write_bytes(b'# f\n# title = "\xfc"')
    for name, line in (
        ("none.toml", "cannot be read: No such file or directory"),
        ("lua_scripts", "cannot be read: Is a directory"),
        ("latin.toml", "line 2: found byte 0xfc, expected text in UTF-8"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(str(folder / name))
        assert str(caught.value) == f"{folder / name}: {line}"


def test_long_values_and_keys_are_shortened(folder: Path) -> None:
    """A message stays readable, whatever was pasted into the file."""
    assert refused(folder, 'loglevel = "' + "x" * 5000 + '"').startswith('loglevel: found "' + "x" * 57 + '..." (text)')
    for toml in (
        "x" * 5000 + " = 1",
        f"[{'x' * 5000}]",
        f"[lua]\n{'x' * 5000} = 1",
        "workers = 0x" + "f" * 5000,
        f'bind = "{"a." * 2000}a:1"',
    ):
        assert len(refused(folder, toml)) < 500


def test_control_characters_are_escaped(folder: Path) -> None:
    """Neither a value nor a folder's name can write to the operator's terminal."""
    assert 'found "\\u001b[31m\\u202e\\n" (text)' in refused(folder, 'loglevel = "\\u001b[31m\\u202e\\n"')
    assert "\\x1b\\n" in refused(folder, '[scripts]\nroot = "\\u001b\\n"')
    with pytest.raises(ConfigError) as caught:
        load("no\x1b\nfile")
    assert str(caught.value) == "no\\u001b\\nfile: cannot be read: No such file or directory"


def test_a_folder_that_toml_cannot_name(folder: Path) -> None:
    """A folder whose name is not UTF-8 is refused, because absolute paths could not be printed as TOML."""
    strange = os.fsdecode(os.fsencode(folder) + b"/\xff")
    os.makedirs(f"{strange}/lua_scripts")
    Path(strange, "c.toml").touch()
    with pytest.raises(ConfigError, match="found a folder whose name is not UTF-8") as caught:
        load(f"{strange}/c.toml")
    assert str(caught.value).isprintable()


JSON = st.recursive(st.text() | st.integers() | st.floats() | st.booleans(), st.lists, max_leaves=4)
LINES = st.tuples(st.sampled_from(describe()), JSON).map(
    lambda pair: (
        (f"[{pair[0].table}]\n" if pair[0].table else "") + f"{pair[0].key} = {json.dumps(pair[1], ensure_ascii=False)}"
    )
)


@given(st.binary() | st.text().map(str.encode) | LINES.map(str.encode))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_loads_or_gets_one_line(folder: Path, data: bytes) -> None:
    """Nothing that a file holds, and no value of any setting, raises anything but ConfigError."""
    (folder / "config.toml").write_bytes(data)
    line = ""
    try:
        load(str(folder / "config.toml"))
    except ConfigError as error:
        line = str(error)
    assert line.isprintable()


# The way back to TOML

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = (
    TEXT
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.datetimes(timezones=st.integers(-1439, 1439).map(lambda m: datetime.timezone(datetime.timedelta(minutes=m))))
)
FREE = st.dictionaries(
    TEXT,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
PATH = TEXT.map(lambda text: os.path.normpath("/" + text.replace("\0", "")))
NETWORKS = st.ip_addresses().map(ipaddress.ip_network) | st.integers(0, 2**8 - 1).map(
    lambda byte: ipaddress.ip_network((byte << 24, 8))
)
HOSTS = st.ip_addresses().map(
    lambda address: socket.inet_ntop(socket.AF_INET if address.version == 4 else socket.AF_INET6, address.packed)
)
ADDRESSES = (
    PATH.map(lambda path: Address("unix", path=path))
    | st.tuples(HOSTS, st.integers(0, 65535)).map(lambda pair: Address("tcp", host=pair[0], port=pair[1]))
    | st.integers(0, 999).map(lambda number: Address("fd", number=number))
)


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_dump_is_read_back(folder: Path, data: st.DataObject) -> None:
    """Whatever the settings are, the TOML that `dump` writes loads as an equal configuration."""
    start = defaults(str(folder))

    def draw(**strategies: st.SearchStrategy[Any]) -> dict[str, Any]:
        return data.draw(st.fixed_dictionaries(strategies))

    top = draw(
        bind=st.lists(ADDRESSES, min_size=1, max_size=3, unique=True).map(tuple),
        workers=st.integers(1, 256),
        keepalive=st.integers(0, 10**6) | st.floats(0, 10**6),
        allowed_clients=st.lists(NETWORKS, min_size=1, max_size=3).map(tuple),
        socket_mode=st.integers(0, 0o777),
        pidfile=st.just("") | PATH,
        accesslog=st.sampled_from(["", "-"]) | PATH,
        access_log_format=LINE.map(lambda text: text.replace("%", "%%")),
        reload=st.booleans(),
        app=FREE,
    )
    scripts = draw(
        max_post=st.integers(0, 2**40) | st.integers(0, 1024).map(lambda n: n << 30),
        headers=st.lists(LINE.map("X-A:{}".format), max_size=3).map(tuple),
        http_status=LINE.map("404 N{}".format),
    )
    lua = draw(version=st.sampled_from(["lua51", "luajit20"]), path=st.lists(PATH, max_size=2).map(tuple))
    config = start._replace(
        scripts=start.scripts._replace(**scripts),
        lua=start.lua._replace(**lua),
        **top,
    )
    assert loaded(folder, dump(config)) == config


def test_dump_is_readable(folder: Path) -> None:
    """Settings come first, [app] last; sizes, modes and a single bind look as people write them."""
    text = dump(loaded(folder, 'bind = "unix:s"\n[scripts]\nmax_post = 1048577\n[app]\na.b = "\\u001b\\"é"'))
    assert text.startswith(f'bind = "unix:{folder}/s"\nbacklog = 2048\n')
    assert 'socket_mode = "0660"\n' in text
    assert 'memory = "32M"\n' in text
    assert "max_post = 1048577\n" in text
    assert "max_post = 0\n" in dump(loaded(folder, "[scripts]\nmax_post = 0"))
    assert text.endswith('\n\n[app]\n\n[app.a]\nb = "\\u001b\\"é"\n')


# Settings described


def test_describe_lists_every_setting_once(folder: Path) -> None:
    """The rows name all that `dump` writes, in its order, with the default as TOML and a sentence each."""
    document = tomllib.loads(dump(defaults(str(folder))))
    names = [("", key) for key, value in document.items() if not isinstance(value, dict)]
    names += [(table, key) for table in ("scripts", "lua", "states") for key in document[table]]
    rows = describe()
    assert [(row.table, row.key) for row in rows] == [
        *names,
        ("", "modules"),
        ("", "shared"),
        ("", "tasks"),
        ("", "apps"),
        ("", "app"),
    ]
    assert all(re.fullmatch(r"[A-Z].{10,80}\.", row.reason) for row in rows)
    heads = {row: f"[{row.table}]\n" if row.table else "" for row in rows}
    assert all(loaded(folder, f"{heads[row]}{row.key} = {row.default}") == defaults(str(folder)) for row in rows)


def shipped_settings() -> list[tuple[str, str, bool]]:
    """The settings in the shipped file, commented out or not: table, line, whether it is an example."""
    found, table = [], ""
    for line in SHIPPED.read_text().splitlines():
        if match := re.match(r"(?:# )?\[{1,2}(\w+)\]", line):
            table = match[1]
        elif re.match(r"(# )?\w+ = ", line):
            found.append((table, line.removeprefix("# "), "# for example" in line))
    return found


def test_the_shipped_file_loads(folder: Path) -> None:
    """The shipped file is accepted, and differs from the defaults by the example in [app] only."""
    config = loaded(folder, SHIPPED.read_text())
    assert config == defaults(str(folder))._replace(app={"title": "greenfcgi"})


def test_the_shipped_file_tells_the_truth(folder: Path) -> None:
    """Each line of it is accepted alone, is the default unless it is an example, and none is missing."""
    seen = set()
    for table, line, example in shipped_settings():
        if table in ("tasks", "apps"):
            continue
        config = loaded(folder, f"[{table}]\n{line}" if table else line)
        if table not in FREE_TABLES:
            assert (config == defaults(str(folder))) is not example, line
            seen.add((table, line.split(" = ")[0]))
    assert seen == {
        (row.table, row.key) for row in describe() if row.key not in ("modules", "shared", "tasks", "apps", "app")
    }


def test_the_server_does_not_pay_for_what_it_does_not_use() -> None:
    """Importing the module, and loading a file for the loopback, leaves heavy modules out of memory."""
    code = (
        "import sys; before = set(sys.modules); from greenfcgi.config.load import load;"
        "first = set(sys.modules) - before;"
        f"load({str(SHIPPED)!r}); print([sorted(first), sorted(set(sys.modules) - before)])"
    )
    output = subprocess.check_output([sys.executable, "-c", code], cwd=SHIPPED.parent, text=True)
    imported, used = ast.literal_eval(output)
    heavy = {"dataclasses", "inspect", "logging", "pathlib", "asyncio", "threading", "subprocess"}
    assert not (heavy | {"ipaddress", "difflib"}) & set(used)
    assert "tomllib" not in imported


def test_modules_in_python(folder: Path) -> None:
    """Each has a name for require, and the name of a Python module, which is looked for beside the file first."""
    config = loaded(folder, '[modules]\nmailer = "mysite.mailer"\n"a.b" = "one"')
    assert {name: (one.path, one.folder) for name, one in config.modules.items()} == {
        "mailer": ("mysite.mailer", str(folder)), "a.b": ("one", str(folder)),
    }  # fmt: skip
    assert loaded(folder, dump(config)) == config


TAKEN = "names for require that are not taken: letters, digits, _ and ."


@pytest.mark.parametrize(
    ("text", "found", "expected"),
    [
        ("modules = 5", "modules: found 5 (whole number)", "a table of modules"),
        ("[modules]\nm = 5", "modules.m: found 5 (whole number)", 'the name of a Python module such as "my.module"'),
        ('[modules]\nm = "a/b"', 'modules.m: found "a/b" (text)', 'the name of a Python module such as "my.module"'),
        ('[modules]\nstring = "m"', 'modules: found "string" (text)', TAKEN),
        ('[modules]\n"greenfcgi.x" = "m"', 'modules: found "greenfcgi.x" (text)', TAKEN),
        ('[modules]\n"a-b" = "m"', 'modules: found "a-b" (text)', TAKEN),
    ],
)  # fmt: skip
def test_modules_that_cannot_be(folder: Path, text: str, found: str, expected: str) -> None:
    """One line says what was found and what is expected."""
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    assert str(caught.value).endswith(f"{found}, expected {expected}")
