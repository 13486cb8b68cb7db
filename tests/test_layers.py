"""Imports go one way, downward, and what is rare stays in its place: lupa, gevent, processes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.pythons

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "greenfcgi"

#: From the bottom up. A module imports from lower layers, and in its own layer from those that stand before it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "exits", "version", "standins", "trim", "quota", "shares", "file_rules", "native_modules", "bytecode"),
    (
        "records", "messages", "spool", "body", "replies", "patience", "flavours", "kinds", "settings", "config",
        "lines", "sink", "log", "accessline", "accesslog", "logs", "metrics", "signature", "texts", "proxied",
        "scripts",
    ),
    (
        "protocol", "client", "outbox", "exchange", "flush_queue", "polling", "filesystems", "folders", "ways",
        "inotify", "watcher", "turns", "budget", "api", "programs", "board", "snapshot", "history", "versionstore",
    ),
    ("state", "pool", "workers"),
    ("startup", "responder", "flush", "lastgood", "heartbeat"),
    ("session", "server", "privileges", "socketlock", "listening", "census", "statuspage", "status"),
    (
        "systemd", "signals", "restarts", "pidfile", "lean", "handover", "stall", "children", "link", "process",
        "standalone", "successor", "sockets", "supervisor",
    ),
    ("preflight", "trial", "cli", "__main__"),
)  # fmt: skip
#: The same of the developer mode, which stands above all but the command. Nothing else imports any of it.
DEVELOPER = (
    "pages", "terminal", "paths", "sources", "errorpage", "live", "saves", "gateway", "inspector", "files", "door",
    "http_head", "http_handler", "mode",
)  # fmt: skip
ORDER = [module for layer in LAYERS for module in layer]

#: The modules in which something waits, or is called by the event loop.
WITH_GEVENT = {
    "api", "exchange", "flush", "handover", "heartbeat", "inotify", "lean", "link", "outbox", "polling", "pool",
    "process", "programs", "server", "session", "trial", "turns", "workers",
}  # fmt: skip
#: Each costs memory for the life of the server, or starts what only a supervisor may start.
TOO_HEAVY = {
    "asyncio", "concurrent", "dataclasses", "inspect", "logging", "multiprocessing", "pathlib", "subprocess",
    "threading",
}  # fmt: skip


def tree(module: str) -> ast.Module:
    """The source of a module of the package, parsed."""
    return ast.parse((PACKAGE / f"{module}.py").read_text())


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, but for what only type checkers see."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from at_run_time(child)


def imported(module: str) -> set[str]:
    """What a module imports, at its top or in a function: ".pool" is the package's own, "gevent.event" another's."""
    found = set()
    for node in at_run_time(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(f".{node.module}")
        elif isinstance(node, ast.ImportFrom):
            found |= {f".{alias.name}" for alias in node.names}
    return found


def users(*names: str) -> set[str]:
    """The modules that import one of these packages."""
    return {module for module in ORDER if {name.split(".")[0] for name in imported(module)} & set(names)}


def test_every_module_has_its_layer() -> None:
    """The table names each module of the package once."""
    assert sorted(ORDER) == sorted({path.stem for path in PACKAGE.glob("*.py")} - {"__init__"})


@pytest.mark.parametrize("module", ORDER)
def test_imports_go_downward(module: str) -> None:
    """A module knows nothing of those above it."""
    below = {f".{name}" for name in ORDER[: ORDER.index(module)]}
    own = {name for name in imported(module) if name.startswith(".")}
    assert own - below - {".__version__", ".dev.mode"} == set()


def test_the_developer_mode_is_in_its_order() -> None:
    """Its modules import downward too, and only the command imports it, when it is asked for."""
    assert sorted(DEVELOPER) == sorted({path.stem for path in (PACKAGE / "dev").glob("*.py")} - {"__init__"})
    for module in DEVELOPER:
        nodes = [node for node in at_run_time(tree(f"dev/{module}")) if isinstance(node, ast.ImportFrom)]
        own = {node.module or "" for node in nodes if node.level == 1}
        own |= {alias.name for node in nodes if node.level == 1 and not node.module for alias in node.names}
        assert own - {""} <= set(DEVELOPER[: DEVELOPER.index(module)]), module
        above = {name for node in nodes if node.level == 2 for name in [node.module or ""]}
        assert not above & {"trial", "cli", "supervisor"}, module
    assert [module for module in ORDER if any(name.startswith(".dev") for name in imported(module))] == ["cli"]


def test_the_package_is_imported_by_relative_names() -> None:
    """So that the check above sees every import; and the package itself imports nothing when it is imported."""
    assert users("greenfcgi") == set()
    assert imported("__init__") == set()


def test_lupa_is_imported_in_one_module() -> None:
    """By a name that a setting chooses, so no other module imports by name; two look where one would be from."""
    assert users("lupa", "importlib") == {"state", "version", "flavours"}


def test_gevent_is_imported_where_something_waits() -> None:
    """The others are plain functions and values, which need no event loop."""
    assert users("gevent", "greenlet") == WITH_GEVENT


def test_processes_are_started_in_few_places() -> None:
    """Forks are the supervisor's, and what scripts run is started in one module."""
    starting = {"fork": {"children", "successor"}, "execve": {"successor"}, "posix_spawn": {"programs"}}
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
        from greenfcgi.lean import import_gevent
        print(import_gevent().__module__)
        print(sorted(name for name in sys.modules if name.partition(".")[0] == "zope"))
        import gevent.server
        from zope.interface import Interface, implementedBy
        print(gevent.spawn(lambda: "runs").get(), Interface.__module__)
    """
    printed = subprocess.check_output([sys.executable, "-c", textwrap.dedent(source)], cwd=PROJECT, text=True)
    assert printed.splitlines() == ["gevent.libev.corecext", "[]", "runs zope.interface"]


def test_the_supervisor_stays_without_gevent_and_lua() -> None:
    """What it imports before it forks, and what that imports, has neither: each process gets its own."""

    def reached(module: str, seen: set[str]) -> set[str]:
        if module not in seen:
            seen.add(module)
            for node in tree(module).body:
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level and node.module else []
                if isinstance(node, ast.ImportFrom) and node.level and not node.module:
                    names = [alias.name for alias in node.names if alias.name in ORDER]
                for name in names:
                    reached(name, seen)
        return seen

    assert not reached("supervisor", set()) & (WITH_GEVENT | {"state"})


def test_the_readme_shows_the_layers() -> None:
    """The source tour has the same table."""
    tour = (PROJECT / "README.md").read_text().partition("## Source tour")[2]
    shown: dict[str, int] = {}
    for layer, modules in re.findall(r"^\| ([0-9]) \| (.*?) \|", tour, re.MULTILINE):
        shown |= dict.fromkeys(re.findall(r"`(\w+)`", modules), int(layer))
    assert shown == {module: number for number, layer in enumerate(LAYERS) for module in layer}
