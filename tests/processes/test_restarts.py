"""When a process that has ended is replaced: by the clock of the test, and by a real supervisor."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from greenfcgi.processes.restarts import Restarts

from ..support.processes import children
from ..support.running import Server, until

pytestmark = pytest.mark.systems


@pytest.mark.parametrize("processes", [1, 4])
def test_the_first_are_immediate(processes: int) -> None:
    """All that there are may be killed several times in a row; then one comes each second."""
    restarts = Restarts()
    waits = []
    for _ in range(40):
        restarts.after_service(100.0, processes)
        waits.append(restarts.not_before - 100.0)
    at_once = waits.count(0.0)
    assert waits[:at_once] == [0.0] * at_once
    assert at_once >= 3 * processes + 5
    assert [after - before for before, after in zip(waits[at_once:], waits[at_once + 1 :], strict=False)] == [1.0] * (
        39 - at_once
    )


def test_one_now_and_then_is_always_immediate() -> None:
    """Whatever has been before: a process that ends every other second is replaced at once, for ever."""
    restarts = Restarts()
    for now in range(0, 2000, 2):
        restarts.after_service(now, 1)
        assert restarts.not_before == now


def test_one_that_never_serves_is_waited_for() -> None:
    """None the first time, then longer each time, until one has served or the configuration is another."""
    restarts = Restarts()
    waits = []
    for _ in range(10):
        restarts.after_failure(50.0)
        waits.append(restarts.not_before - 50.0)
    assert waits == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])
    restarts.reset()
    restarts.after_failure(50.0)
    assert restarts.not_before == 50.0


def test_nobody_waits_when_all_are_killed_again_and_again(serve: Callable[..., Server]) -> None:
    """Requests wait for the start of a process, not for a pause before it."""
    server = serve({"hello.lua": "function main(env, con) con:puts('hello') end"}, "processes = 2\n")
    waits = []
    for _ in range(6):
        before = children(server.pid)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        started = time.monotonic()
        until(lambda gone=before: len(set(children(server.pid)) - set(gone)) == 2)  # type: ignore[misc]
        assert server.get("hello.lua").body == b"hello"
        waits.append(time.monotonic() - started)
    assert server.log().count("; replacing it") == 12
    assert max(waits[3:]) < 5 * min(waits) + 2
