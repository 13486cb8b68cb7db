"""Imports go one way, downward, between folders and inside each; and what is rare stays in its place."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.pythons

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "greenfcgi"

#: From the bottom up: a module imports from lower folders, and in its own folder from those that stand before it.
#: What stands alone in the package has "" for its folder.
FOLDERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("", ("errors", "version", "quota")),
    ("fastcgi", ("records", "request", "response", "path_info", "proxied", "connection", "client")),
    ("system.portable", ("descriptors", "child_end", "message_pair", "disk_room")),
    ("logs", ("text", "log_file", "error_log", "access_format", "access_log", "progress")),
    (
        "config",
        (
            "lua_versions", "value_type", "toml", "address", "types", "shared", "apps", "settings", "overrides", "load",
        ),
    ),
    ("deploy", ("template", "webserver_words", "machines", "values", "targets", "init")),
    (
        "system",
        (
            "stub_modules", "gevent_import", "executable_memory", "malloc", "signals", "standard_streams", "systemd",
            "pidfile", "privileges", "memory_folder", "socket_lock", "listen", "temporary_files",
        ),
    ),
    ("scripts", ("file_signature", "texts", "version", "script", "catalogue", "routes", "long_scripts", "pool")),
    (
        "lua",
        (
            "turns", "budget", "file_rules", "native_modules", "dumps", "closed", "bytecode", "sources", "bridge",
            "engine", "state", "loader", "startup",
        ),
    ),
    ("modules", ("threads", "tidying")),
    (
        "modules.sockets",
        (
            "problems", "options", "wakeup", "operations", "endpoint", "kept", "readiness", "resolver", "tls",
            "tls_calls", "sockets", "mime",
        ),
    ),
    (
        "modules.shared",
        (
            "store", "values", "lmdb_entries", "lmdb_readers", "lmdb_usual", "lmdb_store", "redis_connection",
            "redis_store", "stores", "dictionary",
        ),
    ),
    ("modules.text", ("json", "digests", "passwords", "crypto")),
    ("modules.http", ("url", "decoding", "tls", "connection", "pool", "fetch", "http")),
    (
        "modules.web",
        (
            "keys", "sealing", "seals", "variables", "http_date", "cookie", "session", "sending", "uploads",
            "multipart_form", "form",
        ),
    ),
    ("modules", ("programs", "values", "python_modules", "configured")),
    (
        "modules.sql",
        (
            "problem", "driver", "placeholders", "session", "quick", "sqlite", "postgres", "mysql", "drivers", "rows",
            "pool", "statements", "sql",
        ),
    ),
    (
        "serving",
        (
            "timeouts", "shares", "spool", "body", "outbox", "exchange", "workers", "handover", "responder", "context",
            "session", "sweep", "server",
        ),
    ),
    (
        "reload",
        (
            "flush_queue", "polling", "mounts", "directories", "links", "inotify", "watcher", "reloader",
            "version_store", "last_good",
        ),
    ),
    ("tasks", ("schedule", "board", "redis_board", "task_request", "runner")),
    (
        "status",
        (
            "request_times", "scoreboard", "snapshot", "totals", "collect", "reporter", "figures", "openmetrics",
            "html_page", "page", "endpoint",
        ),
    ),
    (
        "processes",
        (
            "heartbeat", "stall", "open_logs", "restarts", "children", "link", "server_process", "standalone",
            "upgrade", "listeners", "health", "rollout", "supervisor",
        ),
    ),
    ("dev.http", ("url_paths", "static_files", "head", "cgi", "gateway")),
    (
        "dev",
        (
            "terminal", "pages", "sources", "error_page", "live_reload", "save_order", "global_state", "inspector",
            "app", "http_handler", "mode", "curl_request", "try_request",
        ),
    ),
    ("imports", ("document", "evaluation", "luafcgid", "ini", "fpm_rules", "php_fpm", "command")),
    ("", ("preflight", "ping", "command_line", "completion", "cli", "__main__")),
)  # fmt: skip
ORDER = [f"{folder}.{name}".lstrip(".") for folder, names in FOLDERS for name in names]

#: The modules in which something waits, or is called by the event loop.
WITH_GEVENT = {
    "dev.http.gateway", "dev.http_handler", "dev.live_reload", "dev.mode", "dev.save_order", "dev.try_request",
    "lua.bridge", "lua.turns", "modules.programs", "modules.python_modules",
    "modules.shared.redis_connection",
    "modules.sockets.endpoint", "modules.sockets.readiness", "modules.sockets.wakeup",
    "modules.sql.pool", "modules.sql.statements", "modules.threads", "modules.tidying", "processes.heartbeat",
    "processes.link", "processes.server_process", "reload.inotify", "reload.polling", "reload.reloader", "scripts.pool",
    "serving.exchange", "serving.handover", "serving.outbox", "serving.server", "serving.session",
    "serving.workers", "system.gevent_import", "tasks.redis_board", "tasks.runner",
    "tasks.task_request",
}  # fmt: skip
#: Each costs memory for the life of the server, or starts what only a supervisor may start.
TOO_HEAVY = {
    "asyncio", "concurrent", "dataclasses", "inspect", "logging", "multiprocessing", "pathlib", "subprocess",
    "threading",
}  # fmt: skip


def path_of(module: str) -> Path:
    """The file of a module of the package."""
    return PACKAGE / f"{module.replace('.', '/')}.py"


@functools.cache
def tree(module: str) -> ast.Module:
    """The source of a module of the package, parsed."""
    return ast.parse(path_of(module).read_text())


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, but for what only type checkers see."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from at_run_time(child)


def own_imports(module: str, nodes: Iterator[ast.AST]) -> set[str]:
    """The modules of the package that these nodes of a module import."""
    found = set()
    for node in nodes:
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = module.split(".")[: -node.level]
        target = ".".join([*base, *([node.module] if node.module else [])])
        named = {f"{target}.{alias.name}".lstrip(".") for alias in node.names}
        found |= {target} if target in ORDER else {name for name in named if name in ORDER}
    return found


def others_imports(module: str) -> set[str]:
    """The packages of others that a module imports."""
    found = set()
    for node in at_run_time(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module or "")
    return {name.split(".")[0] for name in found}


def users(*names: str) -> set[str]:
    """The modules that import one of these packages."""
    return {module for module in ORDER if others_imports(module) & set(names)}


def test_every_module_has_its_place() -> None:
    """The table names each module of the package once."""
    modules = {str(path.relative_to(PACKAGE))[:-3].replace("/", ".") for path in PACKAGE.rglob("*.py")}
    assert sorted(ORDER) == sorted(module for module in modules if not module.endswith("__init__"))


def test_no_folder_is_crowded() -> None:
    """About a dozen modules in each: what is there is seen at a glance."""
    assert [folder for folder, names in FOLDERS if len(names) > 13] == []


@pytest.mark.parametrize("module", ORDER)
def test_imports_go_downward(module: str) -> None:
    """A module knows nothing of those above it, not even for type checkers."""
    below = set(ORDER[: ORDER.index(module)])
    above = own_imports(module, ast.walk(tree(module))) - below
    assert above == set()


def test_only_the_command_knows_the_developer_mode() -> None:
    """It is imported when it is asked for."""
    importers = {
        module for module in ORDER if any(
            name.startswith("dev.") for name in own_imports(module, ast.walk(tree(module)))
        )
    }  # fmt: skip
    assert {module for module in importers if not module.startswith("dev.")} == {"cli"}


def test_folders_say_what_they_are_for() -> None:
    """Each opens with a docstring, and does nothing when it is imported."""
    for folder in {folder for folder, _ in FOLDERS} - {""}:
        tree_of_it = ast.parse((PACKAGE / folder.replace(".", "/") / "__init__.py").read_text())
        assert len(ast.get_docstring(tree_of_it) or "") > 20, folder
        assert len(tree_of_it.body) == 1, folder


def test_the_package_is_imported_by_relative_names() -> None:
    """So that the check above sees every import; and the package itself imports nothing when it is imported."""
    assert users("greenfcgi") == set()
    nodes = at_run_time(ast.parse((PACKAGE / "__init__.py").read_text()))
    found = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    assert found == ["__future__"]


def test_lupa_is_imported_in_one_module() -> None:
    """By a name that a setting chooses. Three look where a package is, and two import modules for scripts."""
    assert users("lupa", "importlib") == {
        "lua.engine", "version", "config.lua_versions", "system.privileges", "modules.configured",
        "modules.python_modules",
    }  # fmt: skip


def test_gevent_is_imported_where_something_waits() -> None:
    """The others are plain functions and values, which need no event loop."""
    assert users("gevent", "greenlet") == WITH_GEVENT


def test_processes_are_started_in_few_places() -> None:
    """Forks are the supervisor's, and what scripts run is started in one module."""
    starting = {
        "fork": {"processes.children", "processes.upgrade"}, "execve": {"processes.upgrade"},
        "posix_spawn": {"modules.programs"},
    }  # fmt: skip
    found: dict[str, set[str]] = {}
    for module in ORDER:
        nodes = list(ast.walk(tree(module)))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        for name in names & {*starting, "forkpty", "posix_spawnp", "system", "popen", "execv", "execvp", "execvpe"}:
            found.setdefault(name, set()).add(module)
    assert found == starting


def test_every_border_keeps_the_traceback() -> None:
    """Whoever catches any exception, and writes to a log what has failed, writes down where, too."""
    borders, without = 0, []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.ExceptHandler) and getattr(node.type, "id", "") == "Exception"):
                continue
            calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
            if any(getattr(call.func, "attr", "") in ("critical", "error", "warning") for call in calls):
                borders += 1
                if not any(getattr(call.func, "id", "") == "traceback_of" for call in calls):
                    without.append(f"{path.name}:{node.lineno}")
    assert borders >= 10
    assert without == []


def test_what_is_heavy_is_not_imported() -> None:
    """Memory for the life of the server is spent on nothing that there is a lighter way for."""
    assert users(*TOO_HEAVY) == set()


def test_gevent_comes_without_its_declarations() -> None:
    """It runs, and whoever wants zope.interface later gets the real one."""
    source = """
        import sys
        from greenfcgi.system.gevent_import import import_gevent
        print(import_gevent().__module__)
        print(sorted(name for name in sys.modules if name.partition(".")[0] == "zope"))
        import gevent.server
        from zope.interface import Interface, implementedBy
        print(gevent.spawn(lambda: "runs").get(), Interface.__module__)
    """
    printed = subprocess.check_output([sys.executable, "-c", textwrap.dedent(source)], cwd=PROJECT, text=True)
    assert printed.splitlines() == ["gevent.libev.corecext", "[]", "runs zope.interface"]


def test_gevent_imports_tracebacks_when_it_writes_one() -> None:
    """Not before; then they are whole."""
    source = """
        import sys
        from greenfcgi.system.gevent_import import import_gevent
        import_gevent()
        import gevent
        print("traceback" in sys.modules)
        sys.stderr = sys.stdout
        gevent.spawn(lambda: 1 / 0).join()
        print("traceback" in sys.modules)
    """
    printed = subprocess.check_output([sys.executable, "-c", textwrap.dedent(source)], cwd=PROJECT, text=True)
    lines = printed.splitlines()
    assert (lines[0], lines[-1]) == ("False", "True")
    assert lines[1] == "Traceback (most recent call last):"
    assert "ZeroDivisionError: division by zero" in lines


def test_the_configuration_is_read_with_little() -> None:
    """What only dates and files in sockets need is imported for these."""
    source = """
        import sys
        from greenfcgi.cli import main
        heavy = {"datetime", "selectors"}
        print(main(["--print-config", sys.argv[1]]), heavy & set(sys.modules))
        print(main(["--print-config", sys.argv[2]]))
        import socket
        here, there = socket.socketpair()
        with open(sys.argv[2], "rb") as file:
            print(here.sendfile(file), sorted(heavy & set(sys.modules)))
    """
    with tempfile.TemporaryDirectory() as folder:
        plain, dated = Path(folder, "plain.toml"), Path(folder, "dated.toml")
        plain.write_text(f'[scripts]\nroot = "{folder}"\n')
        dates = "2024-02-29T12:30:00+02:00", "2024-02-29", "12:30:00.500000"
        app = "".join(f"date{number} = {date}\n" for number, date in enumerate(dates))
        dated.write_text(f'[scripts]\nroot = "{folder}"\n[app]\n{app}')
        printed = subprocess.check_output(
            [sys.executable, "-c", textwrap.dedent(source), str(plain), str(dated)], cwd=PROJECT, text=True
        )
        size = dated.stat().st_size
    assert "\n0 set()\n" in printed
    assert app in printed
    assert printed.endswith(f"\n{size} ['datetime', 'selectors']\n")


def test_the_supervisor_stays_without_gevent_and_lua() -> None:
    """What it imports before it forks, and what that imports, has neither: each process gets its own."""

    def reached(module: str, seen: set[str]) -> set[str]:
        if module not in seen:
            seen.add(module)
            for name in own_imports(module, iter(tree(module).body)):
                reached(name, seen)
        return seen

    assert not reached("processes.supervisor", set()) & (WITH_GEVENT | {"lua.engine"})


def test_the_tour_shows_the_folders() -> None:
    """The source tour has the same table, from the top down."""
    tour = (PACKAGE / "docs" / "contributing.md").read_text().partition("## The source tour")[2]
    shown: list[str] = []
    for folder, modules in re.findall(r"^\| (?:`([a-z/]+)/`|the package itself) \| (.*?) \|", tour, re.MULTILINE):
        shown += [f"{folder.replace('/', '.')}.{name}".lstrip(".") for name in re.findall(r"`(\w+)`", modules)]
    assert sorted(shown) == sorted(ORDER)
