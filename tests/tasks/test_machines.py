"""Tasks of several machines that have the same Redis: here, several servers."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from greenfcgi.config.shared import RedisAddress
from greenfcgi.config.types import Task
from greenfcgi.logs.error_log import ErrorLog
from greenfcgi.lua.state import State
from greenfcgi.scripts.catalogue import Catalogue
from greenfcgi.scripts.pool import Pool
from greenfcgi.scripts.script import Script
from greenfcgi.tasks import redis_board, runner
from greenfcgi.tasks.board import TaskBoard
from greenfcgi.tasks.redis_board import RedisBoard

from ..support.redis import PROGRAM, RedisServer
from ..support.running import Server, until

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs redis-server")

TICK = "function main(env, con) con:puts('ran at ', os.time()) end"
TASK = '[[tasks]]\nscript = "tick.lua"\nevery = 1\n'


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis."""
    with RedisServer(tmp_path) as server:
        yield server


def started(folder: Path, script: str, url: str) -> Server:
    """A server of its own, as on a machine of its own."""
    folder.mkdir()
    return Server(folder, {"tick.lua": script}, f'{TASK}[shared]\nurl = "{url}"\n')


def runs(*servers: Server) -> list[int]:
    """When the task has run, in any of them."""
    return sorted(int(second) for server in servers for second in re.findall(r"ran at (\d+)", server.log()))


def test_one_of_several_machines_runs_it(tmp_path: Path, redis: RedisServer) -> None:
    """Each time that it is due, once; and by those that are left when one goes."""
    with started(tmp_path / "one", TICK, redis.url) as one:
        with started(tmp_path / "two", TICK, redis.url) as two:
            until(lambda: len(runs(one, two)) >= 4, "four runs")
            found = runs(one, two)
            # One that was late can be in the second of the next.
            assert len(found) <= found[-1] - found[0] + 2
        left = len(runs(one, two))
        until(lambda: len(runs(one, two)) > left, "another run")


def test_one_that_still_runs_is_not_started_again(tmp_path: Path, redis: RedisServer) -> None:
    """Not on another machine either."""
    go = tmp_path / "go"
    script = f"function main(env, con) con:log('begun') while not io.open('{go}') do con:sleep(0.01) end end"
    with started(tmp_path / "one", script, redis.url) as one, started(tmp_path / "two", script, redis.url) as two:
        text = "task tick.lua: it still runs, and is not started again"
        until(lambda: (one.log() + two.log()).count(text) >= 2, "two that were left out")
        assert (one.log() + two.log()).count("begun") == 1
        go.touch()
        until(lambda: (one.log() + two.log()).count("begun") >= 2, "another run")


def test_without_redis_nothing_runs(tmp_path: Path, redis: RedisServer) -> None:
    """Since nobody knows whether another machine does; the log says why, and it goes on when Redis is back."""
    with started(tmp_path / "one", TICK, redis.url) as one:
        until(lambda: runs(one), "a run")
        redis.stop()
        one.logged("task tick.lua: not run: redis: ")
        last = time.time()
        redis.start()
        until(lambda: runs(one) and runs(one)[-1] > last, "another run")


def test_a_clock_that_was_ahead(tmp_path: Path, redis: RedisServer) -> None:
    """What a machine has noted whose clock has been set back since keeps nobody from running the task."""
    redis.command("SET", "{greenfcgi-task:tick.lua}", f"{time.time() + 100_000:.3f}")
    with started(tmp_path / "one", TICK, redis.url) as one:
        until(lambda: len(runs(one)) >= 2, "two runs")


def board_of(redis: RedisServer) -> RedisBoard:
    """The board of a machine."""
    return RedisBoard(TaskBoard(), RedisAddress("", 0, str(redis.path), False, "", "", 0))


def test_a_machine_is_gone(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its task is said to run for as long as it does; when the machine goes in the midst, others run the next one."""
    monkeypatch.setattr(redis_board, "_LEASE", 1.0)
    one, two = board_of(redis), board_of(redis)
    # Each time is asked for once.
    due = itertools.count(time.time(), 0.01)
    assert one.begin("x", next(due)) is True
    for _ in range(15):
        gevent.sleep(0.1)
        assert two.begin("x", next(due)) is False
    one._renewing.kill()
    until(lambda: two.begin("x", next(due)) is True)
    # What the first one has to say now is nothing to the second.
    one.end("x", True)
    assert one.begin("x", next(due)) is False
    two.end("x", True)
    assert one.begin("x", next(due)) is True


def test_redis_has_forgotten_what_runs(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told again."""
    monkeypatch.setattr(redis_board, "_LEASE", 1.0)
    one, two = board_of(redis), board_of(redis)
    due = itertools.count(time.time(), 0.01)
    assert one.begin("x", next(due)) is True
    redis.stop()
    redis.start()
    gevent.sleep(1.0)
    assert two.begin("x", next(due)) is False
    one.end("x", True)
    assert two.begin("x", next(due)) is True


def test_a_reply_is_lost(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks again for the same time may run it, and nobody else."""
    one, two = board_of(redis), board_of(redis)
    ask = one._ask

    def lost(*command: bytes) -> object:
        ask(*command)
        raise OSError(0, "redis: connection closed")

    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(one, "_ask", lost)
        with pytest.raises(OSError, match="connection closed"):
            one.begin("x", now)
    assert two.begin("x", now) is None
    assert one.begin("x", now) is True
    assert one.begin("x", now + 1) is False
    one.end("x", True)
    assert two.begin("x", now + 2) is True


def test_what_was_missed_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that does not answer is asked again, for the last time that the task was due; the log has one line."""
    monkeypatch.setattr(runner, "_PAUSE", 0.02)
    asked: list[float] = []

    class Away(TaskBoard):
        def begin(self, name: str, due: float) -> bool | None:
            asked.append(due)
            if len(asked) < 20:
                raise OSError(0, "redis: connection refused")
            return None

    start = time.time()
    # Soon, and while the board is away; then never again.
    dues = [start + 0.05, start + 0.15, start + 10_000]
    monkeypatch.setattr(runner, "schedule", lambda task: lambda after: next(due for due in dues if due > after))
    log = ErrorLog(str(tmp_path / "log"), "info")
    pool: Pool[Script, State] = Pool(lambda script: pytest.fail("nothing runs"), 1, 1)
    found = runner.TaskRunner([Task("x", "x.lua", 1, "")], Away(), Catalogue(str(tmp_path), ()), pool, log, 1)
    found.start()
    try:
        with gevent.Timeout(10):
            while len(asked) < 20:
                gevent.sleep(0.01)
        gevent.sleep(0.1)
        assert asked == sorted(asked)
        assert (asked[0], asked[-1], len(asked)) == (dues[0], dues[1], 20)
    finally:
        found.stop()
        log.close()
    assert (tmp_path / "log").read_text().count("not run: redis: connection refused; trying again") == 1
