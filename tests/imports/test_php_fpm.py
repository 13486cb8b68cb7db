"""A pool of php-fpm becomes a config.toml: what has a counterpart, what has none, files that are wrong."""

from __future__ import annotations

import glob
import tomllib
from pathlib import Path

import pytest

from greenfcgi.config.load import Config
from greenfcgi.errors import ConfigError
from greenfcgi.imports.command import is_ini, run

from .loading import loaded, value

#: What php-fpm expects of a pool.
POOL = "[www]\nlisten = /run/x.sock\n"


def printed(path: Path, pool: str = "") -> str:
    """What the command prints for a file."""
    return run(f"{path}:{pool}" if pool else str(path))


def imported(folder: Path, text: str) -> tuple[Config, str]:
    """The configuration that a pool becomes, which the server loads, and the file as text."""
    (folder / "www.conf").write_text(text)
    found = printed(folder / "www.conf")
    return loaded(folder, found), found


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("listen = /run/y.sock", "bind", ["unix:/run/y.sock"]),
        ("listen = /run/$pool.sock", "bind", ["unix:/run/www.sock"]),
        ("listen = 9001", "bind", ["127.0.0.1:9001"]),
        ("listen = 127.0.0.1:9001", "bind", ["127.0.0.1:9001"]),
        ("listen = [::1]:9001", "bind", ["[::1]:9001"]),
        ("listen = [::]:9001", "bind", ["[::1]:9001"]),
        ("listen = 10.0.0.5:9001", "bind", ["127.0.0.1:9001"]),
        ("listen = 9001\nlisten.allowed_clients = 127.0.0.1", "bind", ["127.0.0.1:9001"]),
        ("listen = 9001\nlisten.allowed_clients = 10.0.0.0/8, 127.0.0.1", "bind", ["0.0.0.0:9001"]),
        ("listen = 9001\nlisten.allowed_clients = fc00::/7,10.1.2.3", "allowed_clients", ["fc00::/7", "10.1.2.3/32"]),
        ("listen.backlog = 511", "backlog", 511),
        ("listen.backlog = -1", "backlog", 2048),
        ("listen.mode = 0600", "socket_mode", 0o600),
        ("user = root", "user", "root"),
        ("user = root\ngroup = root", "group", "root"),
        ("group =", "group", ""),
        ("pm.max_children = 5", "workers", 5),
        ("pm.max_children = 500", "states.max", 500),
        ("pm = ondemand\npm.process_idle_timeout = 10s;", "states.idle", 10),
        ("pm = ondemand\npm.process_idle_timeout = 2m", "states.idle", 120),
        ("pm = dynamic\npm.process_idle_timeout = 10s", "states.idle", 300),
        ("pm.max_requests = 500", "states.max_requests", 500),
        ("pm.status_path = /status", "status_path", "/status"),
        ("ping.path = /ping\nping.response = pong", "ping_path", "/ping"),
        ("access.log = /var/log/$pool.log", "accesslog", "/var/log/www.log"),
        ('access.format = "%R %u %t \\"%m %r\\" %s"', "access_log_format", '%(h)s %(u)s %(t)s "%(m)s %(U)s" %(s)s'),
        ("access.format = %{mili}d %{micro}d %d %%", "access_log_format", "%(M)s %(D)s %(L)s %%"),
        ("access.format = %{X-A}o %{HTTP_HOST}e %n", "access_log_format", "%({X-A}o)s %({HTTP_HOST}e)s www"),
        ("access.format = %C%% %{kilo}M", "access_log_format", "-%% -"),
        ("slowlog = /var/log/slow\nrequest_slowlog_timeout = 3s", "slowlog", "/var/log/slow"),
        ("slowlog = /var/log/slow\nrequest_slowlog_timeout = 3s", "slowlog_timeout", 3),
        ("slowlog = /var/log/slow\nrequest_slowlog_timeout = 0", "slowlog", ""),
        ("slowlog = /var/log/slow\nrequest_slowlog_timeout = 1m", "slowlog", ""),
        ("slowlog = /slow\nrequest_slowlog_timeout = 1m\nrequest_terminate_timeout = 5m", "slowlog_timeout", 60),
        ("request_slowlog_timeout = 3s", "slowlog", ""),
        ("request_terminate_timeout = 2m", "timeout", 120),
        ("request_terminate_timeout = 0", "timeout", 30),
        ("php_value[max_execution_time] = 60", "timeout", 60),
        ("request_terminate_timeout = 10\nphp_value[max_execution_time] = 60", "timeout", 10),
        ("php_admin_value[memory_limit] = 64M", "lua.memory", 64 * 2**20),
        ("php_value[memory_limit] = 1g", "lua.memory", 2**30),
        ("php_value[memory_limit] = 1000", "lua.memory", 2**20),
        ("php_value[memory_limit] = -1", "lua.memory", 32 * 2**20),
        ("php_value[post_max_size] = 8M", "scripts.max_post", 8 * 2**20),
        ("php_value[post_max_size] = 0", "scripts.max_post", 2**20),
        ("php_flag[display_errors] = on", "scripts.show_errors", True),
        ("php_admin_flag[display_errors] = off", "scripts.show_errors", False),
        ("php_value[default_mimetype] = text/plain", "scripts.content_type", "text/plain"),
        ("php_admin_value[error_log] = /var/log/$pool.err", "errorlog", "/var/log/www.err"),
        ("[global]\nerror_log = /var/log/e.log", "errorlog", "/var/log/e.log"),
        ("[global]\nerror_log = syslog", "errorlog", "-"),
        ("[global]\nlog_level = notice", "loglevel", "info"),
        ("[global]\nlog_level = alert", "loglevel", "critical"),
        ("[global]\npid = /run/x.pid", "pidfile", "/run/x.pid"),
        ("[global]\nprocess_control_timeout = 10s", "graceful_timeout", 10),
        ("chdir = /", "scripts.root", "/"),
        ("security.limit_extensions = .php .phar", "scripts.extensions", (".lua",)),
        ("security.limit_extensions = .php .lua .lp", "scripts.extensions", (".lua", ".lp")),
        ("env[A] = 1\nenv[B] = 'two; three'", "app", {"env": {"A": "1", "B": "two; three"}}),
        ("env[A] = $HOSTNAME", "app", {}),
    ],
)  # fmt: skip
def test_a_setting(tmp_path: Path, text: str, name: str, expected: object) -> None:
    """Each has its value under the name that it has here, and the file loads."""
    config, _ = imported(tmp_path, POOL + text)
    assert value(config, name) == expected


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("listen.owner = www-data", "- listen.owner = www-data: the socket belongs to user and group"),
        ("pm = dynamic", "- pm = dynamic: the processes are always there"),
        (
            "pm.start_servers = 2\npm.max_spare_servers = 3",
            "- pm.start_servers = 2, pm.max_spare_servers = 3: not needed",
        ),
        ("ping.response = yes", "- ping.response = yes: ping_path always answers with pong"),
        ("catch_workers_output = yes", "- catch_workers_output = yes: what scripts write with io.write"),
        ("clear_env = no", "- clear_env = no: not needed: scripts have the environment"),
        ("clear_env = yes", "- clear_env = yes: scripts have the environment of the server (os.getenv); the unit"),
        ("chroot = /srv", "- chroot = /srv: scripts open files as the user who runs them"),
        ("access.suppress_path[] = /ping", "- access.suppress_path[] = /ping: the access log has all"),
        ("php_value[opcache.enable] = 1", "- php_value[opcache.enable] = 1: PHP's own"),
        ("listen.allowed_clients = 10.0.0.1", "- listen.allowed_clients = 10.0.0.1: only for TCP"),
        ("from.the.future = 1", "- from.the.future = 1: nothing here has it"),
        ("include = none/*.conf", "- include = none/*.conf: there is no such file"),
        ("access.format = %C", "# Without a counterpart, and - here: %C."),
        ("access.log = log/a.log", "# php-fpm's was relative to its prefix"),
        ("listen = 9001", 'bind = "0.0.0.0:9001" and allowed_clients'),
    ],
)
def test_what_has_no_counterpart_is_a_comment(tmp_path: Path, text: str, note: str) -> None:
    """What it was, and why it is not needed, or what is near."""
    _, found = imported(tmp_path, POOL + text)
    assert note in " ".join(line.removeprefix("# ") if line.startswith("#   ") else line for line in found.split("\n"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[www]\nlisten", "www.conf:2: found listen, expected [section] or key = value"),
        ("[www", "www.conf:1: found [www, expected [section] or key = value"),
        ('[www]\nuser = "x', 'www.conf:2: found "x, expected a quote at the end of the value'),
        ("[www]\nuser = root", "www.conf: [www] has no listen, which php-fpm expects of a pool"),
        ("[global]\npid = /x", "www.conf: found no pool, expected a section such as [www]"),
        ("[]\nx = 1", "www.conf:1: found [], expected [section] or key = value"),
        (POOL + "pm.max_children = many", 'www.conf:3: pm.max_children: found "many", expected a whole number of at'),
        (POOL + "pm.max_children = 0", 'www.conf:3: pm.max_children: found "0", expected a whole number of at least 1'),
        (POOL + "pm = magic", 'www.conf:3: pm: found "magic", expected static, dynamic or ondemand'),
        (POOL + "request_terminate_timeout = 1w", 'www.conf:3: request_terminate_timeout: found "1w", expected a time'),
        (POOL + "php_value[memory_limit] = x", 'www.conf:3: php_value[memory_limit]: found "x", expected a size'),
        (POOL + "php_flag[display_errors] = x", 'www.conf:3: php_flag[display_errors]: found "x", expected yes or no'),
        (POOL + "pm.status_path = status", 'www.conf: pm.status_path: found "status" (text), expected a path'),
        (POOL + "pm.status_path = /a\nping.path = /a", "www.conf: ping.path: found what pm.status_path is"),
        (POOL + "listen.mode = rw", 'www.conf: listen.mode: found "rw" (text), expected octal text'),
        (
            POOL + "listen.allowed_clients = x\nlisten = 1",
            'www.conf: listen.allowed_clients: found "x" (text), expected',
        ),
        (POOL + "include = none.conf", "www.conf:3: none.conf cannot be read: No such file or directory"),
        (POOL + "include = www.conf", "www.conf:3: found files that include others more than 10 deep"),
        (POOL + "[api]\nlisten = 1", "www.conf: found the pools www, api; a config.toml is for one: --import "),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str, problem: str) -> None:
    """One line that says what and where."""
    (tmp_path / "www.conf").write_text(text)
    with pytest.raises(ConfigError) as caught:
        run(str(tmp_path / "www.conf"))
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(problem)
    assert "\n" not in str(caught.value)


def test_several_pools(tmp_path: Path) -> None:
    """Each is asked for by its name, and becomes a file of its own; what is global is in each."""
    path = tmp_path / "fpm.conf"
    path.write_text(f"[global]\nerror_log = /e.log\n{POOL}pm.max_children = 3\n[api]\nlisten = 9000\nuser = root\n")
    www, api = (tomllib.loads(printed(path, pool)) for pool in ("www", "api"))
    assert (www["bind"], www["workers"], www["errorlog"]) == ("unix:/run/x.sock", 3, "/e.log")
    assert (api["bind"], api["user"], api["errorlog"]) == ("127.0.0.1:9000", "root", "/e.log")
    assert "workers" not in api
    with pytest.raises(ConfigError, match="there is no pool x; expected one of: www, api"):
        run(f"{path}:x")
    (tmp_path / "config.lua").write_text("workers = 1")
    with pytest.raises(ConfigError, match="it has no pools"):
        run(f"{tmp_path}/config.lua:x")


def test_included_files(tmp_path: Path) -> None:
    """As php-fpm.conf includes its pools; a file that is included goes on in the section that it is included in."""
    (tmp_path / "pool.d").mkdir()
    (tmp_path / "pool.d" / "www.conf").write_text(f"{POOL}include = {tmp_path}/more.conf\n")
    (tmp_path / "more.conf").write_text("pm.max_children = 7\n")
    (tmp_path / "fpm.conf").write_text("; a comment\n\ninclude=pool.d/*.conf\n")
    assert tomllib.loads(printed(tmp_path / "fpm.conf"))["workers"] == 7


@pytest.mark.parametrize("path", glob.glob("/etc/php/*/fpm/pool.d/www.conf") or [None])
def test_debians_own_pool(tmp_path: Path, path: str | None) -> None:
    """The file that Debian's package comes with."""
    if path is None:
        pytest.skip("there is no php-fpm")
    config, found = imported(tmp_path, Path(path).read_text())
    assert (config.workers, config.user) == (5, "www-data")
    assert str(config.bind[0]).startswith("unix:/run/php/php")
    assert "listen.owner = www-data" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[www]", True), ("; comment\n\n  [www]\nlisten = 1", True), ("# x\n[global]", True),
        ("include=/etc/*.conf", True),
        ("", False), ("-- [www]\nworkers = 1", False), ('include = "x"', False), ("workers = 1\n[www]", False),
        ("--[[\n[www]\n]]", False),
    ],
)  # fmt: skip
def test_the_kind_is_told_by_the_content(text: str, expected: bool) -> None:
    """An INI begins with a section or an include, which no Lua does."""
    assert is_ini(text) is expected
