"""What becomes of each setting of a pool of php-fpm, in a config.toml."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..config.types import size_text
from ..errors import ConfigError
from ..logs.text import escape
from .document import Document, shown
from .ini import Entry

_YES, _NO = ("1", "on", "yes", "true"), ("", "0", "off", "no", "false", "none")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_LEVELS = {"alert": "critical", "error": "error", "warning": "warning", "notice": "info", "debug": "debug"}
#: Letters of access.format, and gunicorn's that have the same.
_FORMAT = {
    "%": "%%", "R": "%(h)s", "u": "%(u)s", "t": "%(t)s", "T": "%(t)s", "m": "%(m)s", "r": "%(U)s", "q": "%(q)s",
    "s": "%(s)s", "p": "%(p)s", "l": "%({Content-Length}i)s", "f": "%({SCRIPT_FILENAME}e)s", "Q": "?",
}  # fmt: skip
_TIMES = {"seconds": "%(L)s", "milliseconds": "%(M)s", "mili": "%(M)s", "milli": "%(M)s", "microseconds": "%(D)s",
          "micro": "%(D)s"}  # fmt: skip


class Pool:
    """One pool while it is read: its document, and what settings that belong together have said so far."""

    def __init__(self, document: Document, name: str) -> None:
        self.document = document
        self.name = name
        self.clients: list[str] = []
        self.listens_on_tcp = False
        self.pm = ""
        self.idle = ""
        self.has_slow_timeout = False
        self.environment: dict[str, str] = {}
        self.folder = ""
        self.cpu_limit: Entry | None = None


def apply(pool: Pool, line: Entry) -> None:
    """Take one line into the pool. Raises `ConfigError`, one line, for a value that php-fpm would refuse."""
    key = line.key
    line = line._replace(value=line.value.replace("$pool", pool.name))
    if key in ("php_admin_value", "php_value", "php_admin_flag", "php_flag"):
        rule = _PHP_RULES.get(line.name or "")
        if rule is None:
            _note(pool, line, "PHP's own; nothing here has it")
        else:
            rule(pool, line)
    elif key == "env":
        _environment(pool, line)
    elif key in _RULES:
        _RULES[key](pool, line)
    else:
        _note(pool, line, _REASONS.get(key, "nothing here has it"))


def _note(pool: Pool, line: Entry, reason: str) -> None:
    pool.document.note(shown(name_of(line), line.value), reason)


def name_of(line: Entry) -> str:
    """The setting as the file has it: "env[PATH]"."""
    return line.key if line.name is None else f"{line.key}[{line.name}]"


def _fail(line: Entry, expected: str) -> ConfigError:
    found = line.value if len(line.value) <= 60 else f"{line.value[:57]}..."
    return ConfigError(f'{line.place}: {escape(name_of(line))}: found "{escape(found)}", expected {expected}')


# Values


def number(line: Entry, minimum: int = 0) -> int:
    """A whole number. Raises `ConfigError`."""
    if not re.fullmatch("-?[0-9]{1,9}", line.value) or int(line.value) < minimum:
        raise _fail(line, f"a whole number of at least {minimum}")
    return int(line.value)


def seconds_of(line: Entry) -> int:
    """A time in seconds. Raises `ConfigError`."""
    match = re.fullmatch("([0-9]{1,9})([smhd]?)", line.value)
    if not match:
        raise _fail(line, "a time such as 30s (s, m, h, d)")
    return int(match[1]) * _SECONDS[match[2]]


def _size(line: Entry) -> int:
    match = re.fullmatch("(-?[0-9]{1,12})([kmg]?)", line.value.lower())
    if not match:
        raise _fail(line, "a size such as 32M (K, M, G)")
    return int(match[1]) * _BYTES[match[2]]


def _flag(line: Entry) -> bool:
    if line.value.lower() not in (*_YES, *_NO):
        raise _fail(line, "yes or no")
    return line.value.lower() in _YES


def _file(pool: Pool, key: str, line: Entry, comment: str = "") -> None:
    if not line.value:
        return
    if line.value == "syslog":
        _note(pool, line, f"{key} is a file, or - for stderr, which systemd's journal takes")
        return
    relative = "php-fpm's was relative to its prefix, this is relative to config.toml." if line.value[0] != "/" else ""
    pool.document.set("", key, line.value, name_of(line), " ".join(filter(None, (comment, relative))))


# Rules


def _listen(pool: Pool, line: Entry) -> None:
    text = line.value
    if not text:
        raise _fail(line, "an address, a port or the path of a socket")
    host, _, port = text.rpartition(":")
    if text.startswith("/") or not port.isdecimal():
        pool.document.set(
            "", "bind", f"unix:{text}", "listen",
            "Another path than php-fpm's, if both are to run; and the web server's configuration names it.",
        )  # fmt: skip
        return
    pool.listens_on_tcp = True
    pool.document.set("", "bind", f"{host or '0.0.0.0'}:{port}", "listen")


def _clients(pool: Pool, line: Entry) -> None:
    pool.clients = [one.strip() for one in line.value.split(",") if one.strip()]


def _backlog(pool: Pool, line: Entry) -> None:
    if number(line, -1) > 0:
        pool.document.set("", "backlog", number(line), "listen.backlog")
    else:
        _note(pool, line, "the default, which is 2048 here")


def _mode(pool: Pool, line: Entry) -> None:
    pool.document.set("", "socket_mode", line.value, "listen.mode")


def _identity(pool: Pool, line: Entry) -> None:
    if line.value:
        pool.document.set("", line.key, line.value, line.key)


def _manager(pool: Pool, line: Entry) -> None:
    if line.value not in ("static", "dynamic", "ondemand"):
        raise _fail(line, "static, dynamic or ondemand")
    pool.pm = line.value


def _children(pool: Pool, line: Entry) -> None:
    pool.document.set(
        "", "workers", number(line, 1), "pm.max_children",
        "Requests that run at a time in each of the processes: a process each in php-fpm, here greenlets, "
        "which cost little; 128 is the default.",
    )  # fmt: skip


def _max_requests(pool: Pool, line: Entry) -> None:
    pool.document.set(
        "states", "max_requests", number(line), "pm.max_requests",
        "Of a Lua state; php-fpm counts those of a process.",
    )  # fmt: skip


def _idle(pool: Pool, line: Entry) -> None:
    seconds_of(line)
    pool.idle = line.value


def _url(key: str) -> Callable[[Pool, Entry], None]:
    def apply(pool: Pool, line: Entry) -> None:
        if line.value:
            pool.document.set("", key, line.value, line.key)

    return apply


def _response(pool: Pool, line: Entry) -> None:
    if line.value not in ("", "pong"):
        _note(pool, line, "ping_path always answers with pong")


def _format(pool: Pool, line: Entry) -> None:
    lost: list[str] = []

    def directive(match: re.Match[str]) -> str:
        name, letter = match[1], match[2]
        if letter == "d":
            found = _TIMES.get(name or "seconds")
        elif letter in ("e", "o") and name:
            found = f"%({{{name}}}{letter})s"
        elif letter == "n":
            found = pool.name
        else:
            found = _FORMAT.get(letter)
        if found is None:
            lost.append(match[0])
        return found or "-"

    # The query has its question mark only where there is one; here it is always there.
    translated = re.sub(r"%(?:\{([^{}]*)\})?(.)", directive, line.value)
    comment = f"Without a counterpart, and - here: {' '.join(dict.fromkeys(lost))}." if lost else ""
    pool.document.set("", "access_log_format", translated, "access.format", comment)


def _slowlog_timeout(pool: Pool, line: Entry) -> None:
    seconds = seconds_of(line)
    if seconds:
        pool.has_slow_timeout = True
        pool.document.set("", "slowlog_timeout", seconds, line.key)


def _terminate(pool: Pool, line: Entry) -> None:
    if seconds_of(line):
        pool.document.set("", "timeout", seconds_of(line), line.key, "The client gets 504.")
    else:
        _note(pool, line, "a request always has a limit here, timeout (30 seconds)")


def _environment(pool: Pool, line: Entry) -> None:
    if line.value.startswith("$"):
        _note(pool, line, f"scripts have the server's own environment: os.getenv({line.value[1:]!r})")
    else:
        pool.environment[line.name or ""] = line.value


def _clear_env(pool: Pool, line: Entry) -> None:
    kept = "scripts have the environment of the server (os.getenv)"
    _note(pool, line, f"{kept}; the unit file says what is in it" if _flag(line) else f"not needed: {kept}")


def _folder(pool: Pool, line: Entry) -> None:
    pool.folder = line.value


def _extensions(pool: Pool, line: Entry) -> None:
    lua = [one for one in line.value.split() if one.startswith(".") and "php" not in one and one != ".phar"]
    if lua:
        pool.document.set("scripts", "extensions", lua, line.key)
    else:
        _note(pool, line, "[scripts] extensions is .lua")


def _level(pool: Pool, line: Entry) -> None:
    if line.value not in _LEVELS:
        raise _fail(line, f"one of {', '.join(_LEVELS)}")
    pool.document.set("", "loglevel", _LEVELS[line.value], line.key)


def _control(pool: Pool, line: Entry) -> None:
    if seconds_of(line):
        pool.document.set("", "graceful_timeout", seconds_of(line), line.key)


def _memory(pool: Pool, line: Entry) -> None:
    size = _size(line)
    if size < 0:
        _note(pool, line, "a state always has a limit here, [lua] memory (32M)")
    else:
        size = max(size, 2**20)
        pool.document.set("lua", "memory", size_text(size), name_of(line), "Of each Lua state.")


def _post(pool: Pool, line: Entry) -> None:
    size = _size(line)
    if size <= 0:
        _note(pool, line, "a body always has a limit here, [scripts] max_post (1M)")
    else:
        pool.document.set("scripts", "max_post", size_text(size), name_of(line))


def _show_errors(pool: Pool, line: Entry) -> None:
    pool.document.set("scripts", "show_errors", _flag(line), name_of(line))


def _type(pool: Pool, line: Entry) -> None:
    if line.value:
        pool.document.set("scripts", "content_type", line.value, name_of(line))


def _cpu(pool: Pool, line: Entry) -> None:
    pool.cpu_limit = line


_RULES: dict[str, Callable[[Pool, Entry], None]] = {
    "listen": _listen,
    "listen.allowed_clients": _clients,
    "listen.backlog": _backlog,
    "listen.mode": _mode,
    "user": _identity,
    "group": _identity,
    "pm": _manager,
    "pm.max_children": _children,
    "pm.max_requests": _max_requests,
    "pm.process_idle_timeout": _idle,
    "pm.status_path": _url("status_path"),
    "ping.path": _url("ping_path"),
    "ping.response": _response,
    "access.log": lambda pool, line: _file(pool, "accesslog", line),
    "access.format": _format,
    "slowlog": lambda pool, line: _file(pool, "slowlog", line, "With a Lua traceback."),
    "request_slowlog_timeout": _slowlog_timeout,
    "request_terminate_timeout": _terminate,
    "error_log": lambda pool, line: _file(pool, "errorlog", line),
    "log_level": _level,
    "pid": lambda pool, line: _file(pool, "pidfile", line),
    "process_control_timeout": _control,
    "clear_env": _clear_env,
    "chdir": _folder,
    "security.limit_extensions": _extensions,
}
_PHP_RULES: dict[str, Callable[[Pool, Entry], None]] = {
    "memory_limit": _memory,
    "post_max_size": _post,
    "display_errors": _show_errors,
    "default_mimetype": _type,
    "error_log": lambda pool, line: _file(pool, "errorlog", line),
    "max_execution_time": _cpu,
}
#: Why a setting is not carried over, or what is near.
_REASONS = {
    "listen.owner": "the socket belongs to user and group; the web server's user needs that group, or socket_mode",
    "listen.group": "the socket belongs to user and group; the web server's user needs that group, or socket_mode",
    "listen.acl_users": "sockets have socket_mode, and no ACL",
    "listen.acl_groups": "sockets have socket_mode, and no ACL",
    "pm.start_servers": "not needed: no process is started for a request",
    "pm.min_spare_servers": "not needed: no process is started for a request",
    "pm.max_spare_servers": "not needed: no process is started for a request",
    "pm.max_spawn_rate": "not needed: no process is started for a request",
    "pm.status_listen": "status_path answers on bind; it waits for no worker",
    "access.suppress_path": "the access log has all requests; status_path and ping_path are not in it",
    "request_slowlog_trace_depth": "the traceback is whole",
    "request_terminate_timeout_track_finished": "a script has after_timeout seconds after con:finish()",
    "catch_workers_output": "what scripts write with io.write, print and io.stderr always goes to errorlog",
    "decorate_workers_output": "what scripts write goes to errorlog, with the time and the script",
    "chroot": "scripts open files as the user who runs them; systemd's RootDirectory or a container is near",
    "prefix": "paths are relative to config.toml",
    "rlimit_files": "the limit is the service's: LimitNOFILE in the unit file",
    "rlimit_core": "the limit is the service's: LimitCORE in the unit file",
    "process.priority": "the priority is the service's: Nice in the unit file",
    "process.max": "processes is fixed",
    "daemonize": "it stays in the foreground, as systemd, OpenRC and containers want it",
    "systemd_interval": "WatchdogSec in the unit file",
    "events.mechanism": "the event loop takes the best there is",
    "emergency_restart_threshold": "a process that hangs or ends is replaced at once",
    "emergency_restart_interval": "a process that hangs or ends is replaced at once",
}
