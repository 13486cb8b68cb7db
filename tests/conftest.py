"""What all tests share: a way to a running server, and an end for whatever a test leaves running."""

from __future__ import annotations

import compileall
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .support import memory_folders
from .support.bsd import imitation
from .support.inside import Inside
from .support.processes import end_marked
from .support.running import Server

_PROJECT = Path(__file__).parents[1]
#: Files that take long, in the order in which they start: before all others, so that none of them is left at the end.
#: Those that compute stand beside those that wait, and those of `shared` apart, since one of these runs at a time.
_LONG = (
    "project/test_compiled.py", "bench/test_bench.py", "modules/sql/test_sql.py", "shared/test_dictionary.py",
    "lua/test_finalizers.py", "dev/test_mode.py", "programs/webservers/test_table.py", "modules/sql/test_faults.py",
    "reload/test_reload.py", "shared/test_redis.py", "lua/test_compiling.py", "processes/test_supervisor.py",
    "lua/test_con.py", "dev/test_browser.py", "modules/http/test_faults.py", "serving/test_fairness.py",
    "shared/test_room.py", "lua/test_room.py", "reload/test_last_good.py", "fuzz/test_lua.py", "tasks/test_tasks.py",
    "modules/web/test_session.py", "fuzz/test_protocol.py", "lua/test_allow.py", "serving/test_faults.py",
    "modules/sockets/test_faults.py", "shared/test_processes.py", "modules/web/test_form.py",
    "modules/test_python_modules.py", "lua/test_bounds.py", "deploy/test_small.py", "shared/test_settings.py",
)  # fmt: skip
#: In the environment of all that the tests start.
_MARK = "TESTS_OF_GREENFCGI"


#: What a worker of pytest-xdist hands to the process that has started it.
_LEFT = "left running"
_left_by_workers = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """--bsd is for what depends on the system: `pytest --bsd -m systems`."""
    parser.addoption("--bsd", action="store_true", help="imitate a BSD: without what only Linux has")


def pytest_configure(config: pytest.Config) -> None:
    """As in a terminal. In the background SIGINT is ignored, and would be by what the tests start."""
    if config.getoption("bsd") and _runs_tests(config):
        # In each server, whatever starts it; here, the tests themselves look at /proc.
        os.environ |= imitation.environment()
        imitation.install("greenfcgi")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if _runs_tests(config):
        os.environ[_MARK] = str(os.getpid())
    if not hasattr(config, "workerinput"):
        # Once, and not by each of the thousand processes that tests start, where PYTHONDONTWRITEBYTECODE is set.
        for folder in (_PROJECT / "greenfcgi", _PROJECT / "tests" / "support"):
            compileall.compile_dir(folder, quiet=2)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what is left running, and fail for it."""
    if not _runs_tests(session.config):
        left = session.config.stash.get(_left_by_workers, [])
    else:
        left = end_marked(_MARK, str(os.getpid()))
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_LEFT] = left
    elif left:
        print(f"\nleft running by tests: {'; '.join(left)}")
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist has ended."""
    node.config.stash.setdefault(_left_by_workers, []).extend(getattr(node, "workeroutput", {}).get(_LEFT, []))


def _runs_tests(config: pytest.Config) -> bool:
    """Not so where workers of pytest-xdist do: they have started with the environment of this process."""
    return hasattr(config, "workerinput") or config.getoption("dist", "no") == "no"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is about Linux alone is for Linux; and what takes long begins."""
    if config.getoption("bsd") or not sys.platform.startswith("linux"):
        for item in items:
            if item.get_closest_marker("linux"):
                item.add_marker(pytest.mark.skip(reason="about what only Linux has"))
    places = {_PROJECT / "tests" / name: place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def limits_are_put_back() -> Iterator[None]:
    """A limit that a test lowers and leaves so fails that test, and not those that come after it."""
    before = {which: resource.getrlimit(which) for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)}
    yield
    lowered = []
    for which, limits in before.items():
        left = resource.getrlimit(which)
        if left != limits:
            # A server raises what is allowed.
            resource.setrlimit(which, limits)
            if left[0] != resource.RLIM_INFINITY and (limits[0] == resource.RLIM_INFINITY or left[0] < limits[0]):
                lowered.append(f"a limit of the process was {limits} before this test, and is {left} after it")
    assert not lowered


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server with `serve({"name.lua": "source"}, "settings")`; it is ended after the test."""
    with ExitStack() as stack:
        yield lambda scripts=None, settings="": stack.enter_context(Server(tmp_path, scripts, settings))


@pytest.fixture(scope="module")
def serve_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """As `serve`, but tests of a module that want the same scripts and settings get the same server. They only ask."""
    servers: dict[tuple[object, ...], Server] = {}
    with ExitStack() as stack:

        def found(scripts: Mapping[str, str] | None = None, settings: str = "") -> Server:
            key = (settings, *sorted((scripts or {}).items()))
            if key not in servers:
                servers[key] = stack.enter_context(Server(tmp_path_factory.mktemp("site"), scripts, settings))
            return servers[key]

        yield found


@pytest.fixture(scope="module")
def memory_folders_are_made() -> Iterator[None]:
    """For modules whose servers have dictionaries: wait until no other worker counts their folders."""
    with memory_folders.place(alone=False):
        yield


@pytest.fixture
def lua(flavour: Inside) -> Inside:
    """The `flavour` of the test module, with an empty log."""
    flavour.forget_log()
    return flavour
