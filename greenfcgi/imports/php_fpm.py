"""A pool of php-fpm, such as www.conf, as a config.toml: where it listens, who it is, how much runs, its logs.

What becomes of each setting is in `fpm_rules`; here a pool is chosen, and what settings say together is put together.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ..errors import ConfigError
from ..logs.text import escape
from .document import Document
from .fpm_rules import Pool, apply, name_of, number, seconds_of
from .ini import Entry, Problem, entries

_GLOBAL = "global"


def convert(path: str, text: str, pool: str, read: Callable[[str], str]) -> str:
    """The config.toml for one pool of the INI `text`, which is the file `path`; `read` gives the text of others.

    `pool` is its name, "" for the only one. Raises `ConfigError`, one line, for an INI that does not parse, a value
    that php-fpm would refuse, and where there are several pools, or none.
    """
    found = list(entries(path, text, read))
    lines = [one for one in found if isinstance(one, Entry)]
    name = _chosen(path, pool, list(dict.fromkeys(one.section for one in lines if one.section != _GLOBAL)))
    document = Document(path)
    state = Pool(document, name)
    for line in sorted((one for one in lines if one.section in (_GLOBAL, name)), key=lambda one: one.section == name):
        apply(state, line)
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


def _finish(pool: Pool) -> None:
    """What several settings say together."""
    document = pool.document
    bind = document.get("", "bind")
    if bind is None:
        raise ConfigError(f"{document.path}: [{escape(pool.name)}] has no listen, which php-fpm expects of a pool")
    _finish_listening(pool, str(bind))
    if pool.pm == "ondemand" and pool.idle:
        line = Entry(pool.name, "pm.process_idle_timeout", None, pool.idle, "")
        document.set("states", "idle", seconds_of(line), line.key, "Of an unused Lua state; the processes stay.")
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
    if pool.cpu_limit is not None and document.get("", "timeout") is None and number(pool.cpu_limit):
        document.set(
            "", "timeout", number(pool.cpu_limit), name_of(pool.cpu_limit),
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


def _finish_listening(pool: Pool, bind: str) -> None:
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


def _finish_slowlog(pool: Pool) -> None:
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
