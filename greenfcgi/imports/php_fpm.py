"""A pool of php-fpm, such as www.conf, as a config.toml: where it listens, who it is, how much runs, its logs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from ..errors import ConfigError
from ..logs.text import escape
from .document import Document, shown, size_text
from .ini import Entry, Problem, entries

_GLOBAL = "global"
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


class _Pool:
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


def convert(path: str, text: str, pool: str, read: Callable[[str], str]) -> str:
    """The config.toml for one pool of the INI `text`, which is the file `path`; `read` gives the text of others.

    `pool` is its name, "" for the only one. Raises `ConfigError`, one line, for an INI that does not parse, a value
    that php-fpm would refuse, and where there are several pools, or none.
    """
    found = list(entries(path, text, read))
    lines = [one for one in found if isinstance(one, Entry)]
    name = _chosen(path, pool, list(dict.fromkeys(one.section for one in lines if one.section != _GLOBAL)))
    document = Document(path)
    state = _Pool(document, name)
    for line in sorted((one for one in lines if one.section in (_GLOBAL, name)), key=lambda one: one.section == name):
        _apply(state, line)
    _finish(state)
    for problem in found:
        if isinstance(problem, Problem):
            document.note(problem.what, problem.reason)
    return document.text(
        f"config.toml for greenfcgi, from the pool {name} of php-fpm ({os.path.basename(path)}). What is not here has "
        "its default; greenfcgi --print-config config.toml shows all of it."
    )


def _chosen(path: str, pool: str, names: list[str]) -> str:
    file = escape(path)
    if "" in names:
        raise ConfigError(f"{file}: found settings before the first section, expected [pool] above them")
    listed = escape(", ".join(names))
    if pool:
        if pool not in names:
            raise ConfigError(f"{file}: there is no pool {escape(pool)}; expected one of: {listed}")
        return pool
    if not names:
        raise ConfigError(f"{file}: found no pool, expected a section such as [www]")
    if len(names) > 1:
        raise ConfigError(
            f"{file}: found the pools {listed}; a config.toml is for one: --import {file}:{escape(names[0])}"
        )
    return names[0]


def _apply(pool: _Pool, line: Entry) -> None:
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


def _note(pool: _Pool, line: Entry, reason: str) -> None:
    pool.document.note(shown(_name(line), line.value), reason)


def _name(line: Entry) -> str:
    return line.key if line.name is None else f"{line.key}[{line.name}]"


def _fail(line: Entry, expected: str) -> ConfigError:
    found = line.value if len(line.value) <= 60 else f"{line.value[:57]}..."
    return ConfigError(f'{line.place}: {escape(_name(line))}: found "{escape(found)}", expected {expected}')


# Values


def _number(line: Entry, minimum: int = 0) -> int:
    if not re.fullmatch("-?[0-9]{1,9}", line.value) or int(line.value) < minimum:
        raise _fail(line, f"a whole number of at least {minimum}")
    return int(line.value)


def _time(line: Entry) -> int:
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


def _file(pool: _Pool, key: str, line: Entry, comment: str = "") -> None:
    if not line.value:
        return
    if line.value == "syslog":
        _note(pool, line, f"{key} is a file, or - for stderr, which systemd's journal takes")
        return
    relative = "php-fpm's was relative to its prefix, this is relative to config.toml." if line.value[0] != "/" else ""
    pool.document.set("", key, line.value, _name(line), " ".join(filter(None, (comment, relative))))


# Rules


def _listen(pool: _Pool, line: Entry) -> None:
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


def _clients(pool: _Pool, line: Entry) -> None:
    pool.clients = [one.strip() for one in line.value.split(",") if one.strip()]


def _backlog(pool: _Pool, line: Entry) -> None:
    if _number(line, -1) > 0:
        pool.document.set("", "backlog", _number(line), "listen.backlog")
    else:
        _note(pool, line, "the default, which is 2048 here")


def _mode(pool: _Pool, line: Entry) -> None:
    pool.document.set("", "socket_mode", line.value, "listen.mode")


def _identity(pool: _Pool, line: Entry) -> None:
    if line.value:
        pool.document.set("", line.key, line.value, line.key)


def _manager(pool: _Pool, line: Entry) -> None:
    if line.value not in ("static", "dynamic", "ondemand"):
        raise _fail(line, "static, dynamic or ondemand")
    pool.pm = line.value


def _children(pool: _Pool, line: Entry) -> None:
    pool.document.set(
        "", "workers", _number(line, 1), "pm.max_children",
        "Requests that run at a time in each of the processes: a process each in php-fpm, here greenlets, "
        "which cost little; 128 is the default.",
    )  # fmt: skip


def _max_requests(pool: _Pool, line: Entry) -> None:
    pool.document.set(
        "states", "max_requests", _number(line), "pm.max_requests",
        "Of a Lua state; php-fpm counts those of a process.",
    )  # fmt: skip


def _idle(pool: _Pool, line: Entry) -> None:
    _time(line)
    pool.idle = line.value


def _url(key: str) -> Callable[[_Pool, Entry], None]:
    def apply(pool: _Pool, line: Entry) -> None:
        if line.value:
            pool.document.set("", key, line.value, line.key)

    return apply


def _response(pool: _Pool, line: Entry) -> None:
    if line.value not in ("", "pong"):
        _note(pool, line, "ping_path always answers with pong")


def _format(pool: _Pool, line: Entry) -> None:
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


def _slowlog_timeout(pool: _Pool, line: Entry) -> None:
    seconds = _time(line)
    if seconds:
        pool.has_slow_timeout = True
        pool.document.set("", "slowlog_timeout", seconds, line.key)


def _terminate(pool: _Pool, line: Entry) -> None:
    if _time(line):
        pool.document.set("", "timeout", _time(line), line.key, "The client gets 504.")
    else:
        _note(pool, line, "a request always has a limit here, timeout (30 seconds)")


def _environment(pool: _Pool, line: Entry) -> None:
    if line.value.startswith("$"):
        _note(pool, line, f"scripts have the server's own environment: os.getenv({line.value[1:]!r})")
    else:
        pool.environment[line.name or ""] = line.value


def _clear_env(pool: _Pool, line: Entry) -> None:
    kept = "scripts have the environment of the server (os.getenv)"
    _note(pool, line, f"{kept}; the unit file says what is in it" if _flag(line) else f"not needed: {kept}")


def _folder(pool: _Pool, line: Entry) -> None:
    pool.folder = line.value


def _extensions(pool: _Pool, line: Entry) -> None:
    lua = [one for one in line.value.split() if one.startswith(".") and "php" not in one and one != ".phar"]
    if lua:
        pool.document.set("scripts", "extensions", lua, line.key)
    else:
        _note(pool, line, "[scripts] extensions is .lua")


def _level(pool: _Pool, line: Entry) -> None:
    if line.value not in _LEVELS:
        raise _fail(line, f"one of {', '.join(_LEVELS)}")
    pool.document.set("", "loglevel", _LEVELS[line.value], line.key)


def _control(pool: _Pool, line: Entry) -> None:
    if _time(line):
        pool.document.set("", "graceful_timeout", _time(line), line.key)


def _memory(pool: _Pool, line: Entry) -> None:
    size = _size(line)
    if size < 0:
        _note(pool, line, "a state always has a limit here, [lua] memory (32M)")
    else:
        size = max(size, 2**20)
        pool.document.set("lua", "memory", size_text(size), _name(line), "Of each Lua state.")


def _post(pool: _Pool, line: Entry) -> None:
    size = _size(line)
    if size <= 0:
        _note(pool, line, "a body always has a limit here, [scripts] max_post (1M)")
    else:
        pool.document.set("scripts", "max_post", size_text(size), _name(line))


def _show_errors(pool: _Pool, line: Entry) -> None:
    pool.document.set("scripts", "show_errors", _flag(line), _name(line))


def _type(pool: _Pool, line: Entry) -> None:
    if line.value:
        pool.document.set("scripts", "content_type", line.value, _name(line))


def _cpu(pool: _Pool, line: Entry) -> None:
    pool.cpu_limit = line


def _finish(pool: _Pool) -> None:
    """What several settings say together."""
    document = pool.document
    bind = document.get("", "bind")
    if bind is None:
        raise ConfigError(f"{document.path}: [{escape(pool.name)}] has no listen, which php-fpm expects of a pool")
    _finish_listening(pool, str(bind))
    if pool.pm == "ondemand" and pool.idle:
        line = Entry(pool.name, "pm.process_idle_timeout", None, pool.idle, "")
        document.set("states", "idle", _time(line), line.key, "Of an unused Lua state; the processes stay.")
    elif pool.idle:
        document.note(f"pm.process_idle_timeout = {pool.idle}", "php-fpm uses it with pm = ondemand only")
    if pool.pm:
        document.note(
            f"pm = {pool.pm}",
            "the processes are always there (processes); Lua states come and go on demand ([states])",
        )
    if document.get("", "ping_path") == document.get("", "status_path", ""):
        raise ConfigError(f"{document.path}: ping.path: found what pm.status_path is, expected another")
    workers = document.get("", "workers")
    if isinstance(workers, int) and workers > 256:
        document.set("states", "max", workers, "pm.max_children", "At least workers: each holds a state.")
    if pool.cpu_limit is not None and document.get("", "timeout") is None and _number(pool.cpu_limit):
        document.set(
            "", "timeout", _number(pool.cpu_limit), _name(pool.cpu_limit),
            "PHP counts its CPU only; here it is all the time that a request takes, waiting too.",
        )  # fmt: skip
    _finish_slowlog(pool)
    document.set(
        "scripts", "root", pool.folder or "lua_scripts", "chdir",
        "The folder of the scripts, which the web server's SCRIPT_FILENAME begins with. Nothing outside it runs.",
    )  # fmt: skip
    if pool.environment:
        name = next(iter(pool.environment))
        document.set("", "app", {"env": pool.environment}, "env", f'Scripts read it with con:config("env.{name}").')


def _finish_listening(pool: _Pool, bind: str) -> None:
    document = pool.document
    if not pool.listens_on_tcp:
        if pool.clients:
            document.note(f"listen.allowed_clients = {', '.join(pool.clients)}", "only for TCP, in php-fpm too")
        return
    is_local = bind.startswith(("127.", "[::1]", "localhost:"))
    others = [one for one in pool.clients if not (one.startswith("127.") or one == "::1")]
    if others:
        document.set("", "allowed_clients", others, "listen.allowed_clients", "The loopback is always in.")
    elif not is_local:
        # Nobody else is allowed, or nobody has been asked: either way it is only this machine's until that is said.
        loopback = "[::1]" if bind.startswith("[") else "127.0.0.1"
        port = bind.rpartition(":")[2]
        document.set(
            "", "bind", f"{loopback}:{port}", "listen",
            f"php-fpm listened on {bind.rpartition(':')[0]}. For web servers on other machines: bind = \"{bind}\" and "
            'allowed_clients = ["their network"], because FastCGI has no password.',
        )  # fmt: skip


def _finish_slowlog(pool: _Pool) -> None:
    document = pool.document
    slowlog, seconds = document.get("", "slowlog"), document.get("", "slowlog_timeout", 5)
    timeout = document.get("", "timeout", 30)
    if slowlog is not None and not pool.has_slow_timeout:
        document.drop("", "slowlog")
        document.note(f"slowlog = {slowlog}", "request_slowlog_timeout is 0, so php-fpm writes nothing to it")
    elif slowlog is None:
        document.drop("", "slowlog_timeout")
        if pool.has_slow_timeout:
            document.note(f"request_slowlog_timeout = {seconds}", "there is no slowlog")
    elif isinstance(seconds, int) and isinstance(timeout, int) and seconds >= timeout:
        document.drop("", "slowlog")
        document.drop("", "slowlog_timeout")
        document.note(f"slowlog = {slowlog}", f"a request ends after {timeout} s, before it is slow ({seconds} s)")


_RULES: dict[str, Callable[[_Pool, Entry], None]] = {
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
_PHP_RULES: dict[str, Callable[[_Pool, Entry], None]] = {
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
