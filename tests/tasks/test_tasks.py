"""Scripts that run by the clock: [[tasks]]."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import gevent
import pytest

from greenfcgi.config.load import dump, load
from greenfcgi.config.types import Task
from greenfcgi.logs.error_log import ErrorLog
from greenfcgi.lua.state import State
from greenfcgi.scripts.catalogue import Catalogue
from greenfcgi.scripts.pool import Pool
from greenfcgi.scripts.script import Script
from greenfcgi.tasks.board import TaskBoard
from greenfcgi.tasks.runner import TaskRunner
from greenfcgi.tasks.schedule import schedule

from ..support.running import Server, until

Serve = Callable[..., Server]

TICK = """
    function main(env, con)
        con:header("X-Nobody", "sees this")
        con:puts("first\\n", "task ", env.TASK, " at ", os.time(), "\\nlast")
    end
"""
EVERY_SECOND = '[[tasks]]\nscript = "tick.lua"\nevery = "1s"\n'


def runs(server: Server, name: str = "tick.lua") -> list[str]:
    """The times that the task has written."""
    return re.findall(rf"task {name}: task {name} at (\d+)", server.log())


def until_idle(is_done: Callable[[], bool]) -> None:
    """Let greenlets run until it is done."""
    with gevent.Timeout(10):
        while not is_done():
            gevent.sleep(0.01)


class TestRunning:
    def test_what_it_writes_goes_to_the_log(self, serve: Serve) -> None:
        """Line by line, with the script and the task; what is a reply to others is nothing here."""
        server = serve({"tick.lua": TICK}, EVERY_SECOND)
        until(lambda: len(runs(server)) >= 2, "two runs")
        log = server.log()
        assert "tick.lua: task tick.lua: first\n" in log
        assert "tick.lua: task tick.lua: last\n" in log
        assert "X-Nobody" not in log

    def test_one_of_several_processes_runs_it(self, serve: Serve) -> None:
        """Each time that it is due, once."""
        server = serve({"tick.lua": TICK}, "processes = 3\n" + EVERY_SECOND)
        until(lambda: len(runs(server)) >= 4, "four runs")
        found = [int(second) for second in runs(server)]
        # One that was late can be in the second of the next.
        assert len(found) <= found[-1] - found[0] + 2

    def test_one_that_still_runs_is_not_started_again(self, serve: Serve, tmp_path: Path) -> None:
        """In no process; the log says so, and later it runs again."""
        go = tmp_path / "go"
        script = f"""
            function main(env, con)
                con:log("begun")
                while not io.open("{go}") do con:sleep(0.01) end
                con:log("ended")
            end
        """
        server = serve({"tick.lua": script}, "processes = 2\n" + EVERY_SECOND)
        server.logged("task tick.lua: it still runs, and is not started again")
        assert server.log().count("begun") == 1
        go.touch()
        until(lambda: server.log().count("begun") >= 2, "another run")

    def test_an_error_is_logged(self, serve: Serve) -> None:
        """With the traceback; the next run comes all the same. So is a script that cannot be loaded."""
        settings = EVERY_SECOND + '[[tasks]]\nname = "other"\nscript = "broken.lua"\nevery = 1\n'
        server = serve({"tick.lua": "function main() error('no') end", "broken.lua": "function main("}, settings)
        server.logged("tick.lua: task tick.lua: ")
        assert "tick.lua:1: no" in server.log()
        assert "stack traceback" in server.log()
        server.logged("task other: ")
        until(lambda: server.log().count("tick.lua:1: no") >= 2, "another run")

    def test_it_has_after_timeout(self, serve: Serve) -> None:
        """Whatever `timeout` is."""
        script = "function main(env, con) con:sleep(0.4) con:log('slept') while true do end end"
        server = serve({"tick.lua": script}, "timeout = 0.2\nafter_timeout = 0.8\n" + EVERY_SECOND)
        server.logged("stopped: it ran longer than after_timeout, 0.8 s")
        assert "slept" in server.log()

    def test_a_stop_waits_for_it(self, serve: Serve, tmp_path: Path) -> None:
        """As for requests."""
        go = tmp_path / "go"
        script = f"""
            function main(env, con)
                con:log("begun")
                while not io.open("{go}") do con:sleep(0.01) end
                con:log("ended")
            end
        """
        server = serve({"tick.lua": script}, EVERY_SECOND)
        server.logged("begun")
        server.send_signal(signal.SIGTERM)
        server.logged("stopping")
        assert not server.has_ended()
        go.touch()
        until(server.has_ended, "the end")
        assert "ended" in server.log()

    def test_it_follows_a_reload(self, serve: Serve) -> None:
        """Of config.toml, and of its script."""
        server = serve({"tick.lua": TICK}, "processes = 1\n")
        with open(server.config, "a") as file:
            file.write(EVERY_SECOND)
        server.send_signal(signal.SIGHUP)
        until(lambda: runs(server), "a run")
        server.write("tick.lua", "function main(env, con) con:puts('another version') end")
        server.logged("tick.lua: task tick.lua: another version")

    def test_the_status_page_shows_it(self, serve: Serve) -> None:
        """In all its forms: runs, failures, the last one."""
        settings = (
            'status_path = "/status"\nprocesses = 2\n'
            + EVERY_SECOND
            + '[[tasks]]\nname = "bad"\nscript = "bad.lua"\nevery = 1\n'
        )
        server = serve({"tick.lua": TICK, "bad.lua": "function main() error('no') end"}, settings)

        def status(form: str) -> str:
            reply = server.get("status", SCRIPT_NAME="/status", REQUEST_URI="/status", QUERY_STRING=form)
            return reply.stdout.partition(b"\r\n\r\n")[2].decode()

        def tasks() -> dict[str, dict[str, object]]:
            return {line["task"]: line for line in json.loads(status("json"))["tasks"]}

        until(lambda: tasks()["tick.lua"]["runs"] and tasks()["bad"]["failures"], "runs")
        assert tasks()["tick.lua"]["failures"] == 0
        assert tasks()["bad"]["result"] in ("failed", "running")
        assert re.search(r"^tick\.lua +\d", status(""), re.MULTILINE)
        assert "<h2>Tasks</h2>" in status("html")
        assert re.search(r'^greenfcgi_task_failures_total\{task="bad"\} [1-9]', status("openmetrics"), re.MULTILINE)


class TestSchedules:
    def test_every(self) -> None:
        """Times that do not depend on the start."""
        next_after = schedule(Task("x", "x.lua", 600, ""))
        assert next_after(0) == 600
        assert next_after(599.9) == 600
        assert next_after(600) == 1200
        assert next_after(1764144000.5) == 1764144600

    def test_cron(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In local time: each day at three, also the day after which clocks change."""
        monkeypatch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        try:
            next_after = schedule(Task("x", "x.lua", 0, "30 3 * * *"))
            found = next_after(datetime(2026, 10, 24, 12, 0).timestamp())
            assert datetime.fromtimestamp(found) == datetime(2026, 10, 25, 3, 30)
            assert datetime.fromtimestamp(next_after(found)) == datetime(2026, 10, 26, 3, 30)
            assert next_after(found) - found == 24 * 3600
            # The hour that comes twice, and the one that is left out.
            next_after = schedule(Task("x", "x.lua", 0, "*/20 * * * *"))
            now, times = datetime(2026, 10, 25, 1, 50).timestamp(), []
            for _ in range(8):
                now = next_after(now)
                times.append(now)
            assert [times[at + 1] - times[at] for at in range(7)] == [1200] * 7
            next_after = schedule(Task("x", "x.lua", 0, "30 2 * * *"))
            assert next_after(datetime(2027, 3, 28, 1, 0).timestamp()) > datetime(2027, 3, 28, 1, 0).timestamp()
        finally:
            monkeypatch.undo()
            time.tzset()


class TestClock:
    @pytest.mark.parametrize("seconds", [-86400, 86400])
    def test_it_is_set(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: int) -> None:
        """Back or forward by a day: the task is due once for what was left out, and then as before."""
        dues: list[float] = []
        offset = 0

        class Board(TaskBoard):
            def begin(self, name: str, due: float) -> bool | None:
                dues.append(due)
                return None

        monkeypatch.setattr("greenfcgi.tasks.runner.time", SimpleNamespace(time=lambda: time.time() + offset))
        catalogue, log = Catalogue(str(tmp_path), ()), ErrorLog(str(tmp_path / "log"), "info")
        pool: Pool[Script, State] = Pool(lambda script: pytest.fail("nothing runs"), 1, 1)
        runner = TaskRunner([Task("x", "x.lua", 0.2, "")], Board(), catalogue, pool, log, 1)
        runner.start()
        try:
            for offset in (0, seconds):
                dues.clear()
                until_idle(lambda: len(dues) >= 4)
                assert [round(dues[at + 1] - dues[at], 3) for at in (1, 2)] == [0.2, 0.2]
                assert abs(dues[-1] - time.time() - offset) < 1
        finally:
            runner.stop()
            log.close()


class TestBoard:
    def test_each_time_is_taken_once(self) -> None:
        """By whoever comes first; while the task runs, nobody begins it again."""
        board = TaskBoard()
        assert board.begin("a", 100) is True
        assert board.run("a").is_running
        assert board.begin("a", 100) is None
        assert board.begin("a", 110) is False
        assert board.begin("b", 100) is True
        board.end("a", False)
        assert board.begin("a", 110) is None
        assert board.begin("a", 120) is True
        run = board.run("a")
        assert (run.due, run.runs, run.failures) == (120, 2, 1)

    def test_the_clock_is_set_back(self) -> None:
        """What was due at times that lie ahead now does not keep tasks from running until then."""
        board, now = TaskBoard(), time.time()
        assert board.begin("a", now + 3600) is True
        board.end("a", True)
        assert board.begin("a", now - 60) is True
        assert board.run("a").is_running
        assert board.begin("a", now - 60) is None

    def test_a_process_that_dies_leaves_its_tasks(self) -> None:
        """What it held is free at once, and until then nobody else begins it."""
        board = TaskBoard()
        program = f"""if True:
            import os, sys
            from greenfcgi.tasks.board import TaskBoard
            print(TaskBoard({board.descriptor}).begin("a", 100), flush=True)
            sys.stdin.read()
        """
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            pass_fds=[board.descriptor], cwd=Path(__file__).parents[2],
        ) as child:  # fmt: skip
            assert child.stdout is not None
            assert child.stdout.readline() == "True\n"
            assert board.begin("a", 100) is None
            assert board.begin("a", 110) is False
            child.kill()
        assert board.begin("a", 120) is True

    def test_more_than_there_is_room_for(self) -> None:
        """Records are used again: a task may run, whatever has been there."""
        board = TaskBoard()
        for number in range(1100):
            assert board.begin(f"task {number}", 1) is True
            board.end(f"task {number}", True)
        assert os.fstat(board.descriptor).st_size < 200_000


WRONG = {
    'tasks = 1': "tasks: found 1 (whole number), expected tables [[tasks]], each with script",
    '[[tasks]]\nevery = "1m"': 'tasks, element 1: script: found "" (text), expected a script below scripts.root',
    '[[tasks]]\nscript = "../a.lua"\nevery = 1': 'tasks, element 1: script: found "../a.lua" (text)',
    '[[tasks]]\nscript = "a.lua"': "tasks, element 1: found a table, expected every or cron, one of them",
    '[[tasks]]\nscript = "a.lua"\nevery = "1 m"': 'tasks, element 1: every: found "1 m" (text), expected a time of',
    '[[tasks]]\nscript = "a.lua"\nevery = 0': "tasks, element 1: every: found 0 (whole number), expected",
    '[[tasks]]\nscript = "a.lua"\ncron = "61 * * * *"': 'tasks, element 1: cron: found "61 * * * *" (text), exp',
    '[[tasks]]\nscript = "a.lua"\ncron = "0 0 30 2 *"': 'tasks, element 1: cron: found "0 0 30 2 *" (text), exp',
    '[[tasks]]\nscript = "a.lua"\nevery = 1\nat = 5': 'tasks, element 1: found "at" (text), expected script',
    '[[tasks]]\nscript = "a.lua"\nevery = 1\n[[tasks]]\nscript = "a.lua"\nevery = 2': 'element 2: name: found "a',
}  # fmt: skip


class TestSettings:
    @pytest.mark.parametrize("text", WRONG)
    def test_mistakes(self, tmp_path: Path, text: str) -> None:
        """Each is one line that says where, what was found, and what is expected."""
        from greenfcgi.errors import ConfigError

        (tmp_path / "lua_scripts").mkdir()
        path = tmp_path / "config.toml"
        path.write_text(text)
        with pytest.raises(ConfigError) as problem:
            load(str(path))
        assert WRONG[text] in str(problem.value)
        assert "\n" not in str(problem.value)

    def test_they_are_printed_as_they_are_read(self, tmp_path: Path) -> None:
        """--print-config gives what makes an equal configuration."""
        (tmp_path / "lua_scripts").mkdir()
        path = tmp_path / "config.toml"
        path.write_text(
            '[[tasks]]\nscript = "a.lua"\nevery = "10m"\n'
            '[[tasks]]\nname = "b"\nscript = "c/b.lua"\ncron = "0 3 * * *"\n'
        )
        config = load(str(path))
        assert config.tasks == (Task("a.lua", "a.lua", 600, ""), Task("b", "c/b.lua", 0, "0 3 * * *"))
        path.write_text(dump(config))
        assert load(str(path)) == config

    def test_a_script_that_is_not_there(self, tmp_path: Path) -> None:
        """The start says which one."""
        server = Server(tmp_path, {}, EVERY_SECOND)
        with pytest.raises(AssertionError, match="did not start"):
            server.start()
        assert '[[tasks]] element 1: script: found "tick.lua", expected a script' in server.log()
        command = [sys.executable, "-m", "greenfcgi", "--check-config", str(server.config)]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert '[[tasks]] element 1: script: found "tick.lua", expected a script' in checked.stdout + checked.stderr
        assert checked.returncode == 2
