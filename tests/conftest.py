"""What all tests share: a way to a running server, and an end for whatever a test leaves running."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .support.inside import Inside
from .support.processes import end_marked
from .support.running import Server

#: In the environment of all that the tests start.
_MARK = "GREENFCGI_TESTS"


def pytest_configure() -> None:
    """As in a terminal. In the background SIGINT is ignored, and would be by what the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ[_MARK] = str(os.getpid())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what is left running, and fail for it."""
    left = end_marked(_MARK, str(os.getpid()))
    if left:
        print(f"\nleft running by tests: {'; '.join(left)}")
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server with `serve({"name.lua": "source"}, "settings")`; it is ended after the test."""
    with ExitStack() as stack:
        yield lambda scripts=None, settings="": stack.enter_context(Server(tmp_path, scripts, settings))


@pytest.fixture
def lua(flavour: Inside) -> Inside:
    """The `flavour` of the test module, with an empty log."""
    flavour.forget_log()
    return flavour
