"""Tasks of several machines that have the same Redis: here, several servers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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
