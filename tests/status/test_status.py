"""What the server reports of itself: ping and status, for all of its processes, however busy they are."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from greenfcgi.fastcgi.client import Client, Reply
from greenfcgi.status import snapshot, totals
from greenfcgi.status.page import page
from greenfcgi.status.scoreboard import Scoreboard
from greenfcgi.status.snapshot import ScriptLine, Snapshot
from greenfcgi.status.totals import Totals

from ..support.processes import children
from ..support.running import Connection, Server, until

Serve = Callable[..., Server]

SETTINGS = 'status_path = "/status"\nping_path = "/ping"\n'
HELLO = "function main(env, con) con:puts('hello') end"
SLEEP = "function main(env, con) con:sleep(tonumber(env.QUERY_STRING)) con:puts('slept') end"
FORMS = {
    "": "text/plain; charset=utf-8",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
}


def ask(server: Server, name: str, query: str = "", **more: str) -> Any:
    """The reply to a request to the server itself."""
    params = {"SCRIPT_NAME": name, "QUERY_STRING": query, "REQUEST_URI": f"{name}?{query}"} | more
    return server.get("none.lua", b"", **params)


def status(server: Server) -> dict[str, Any]:
    """The status page as JSON."""
    found: dict[str, Any] = json.loads(ask(server, "/status", "json").body)
    return found


def metrics(server: Server) -> dict[tuple[str, str], float]:
    """The status page as OpenMetrics, by a sample's name and the one label that it has."""
    text = ask(server, "/status", "openmetrics").body.decode()
    assert text.endswith("# EOF\n")
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }


class TestPing:
    def test_pong(self, serve: Serve) -> None:
        """Answered without a script, and not in the access log, where other requests are."""
        server = serve({"hello.lua": HELLO}, SETTINGS + 'accesslog = "access.log"\n')
        reply = ask(server, "/ping")
        assert (reply.status, reply.body, reply.ended) == (200, b"pong\n", (0, 0))
        assert b"Cache-Control: no-store\r\n" in reply.stdout
        server.get("hello.lua")
        ask(server, "/status")
        assert server.stop() == 0
        lines = (server.folder / "access.log").read_text().splitlines()
        assert [re.findall(r'"GET (\S+) ', line) for line in lines] == [["/hello.lua"], ["/status?"]]

    def test_only_when_asked_for(self, serve: Serve) -> None:
        """Without the settings, these are paths like others; and a path that only begins so, or stands in the query,
        is one in any case."""
        server = serve({"hello.lua": HELLO}, 'ping_path = "/ping"\n')
        assert ask(server, "/status").status == 404
        assert ask(server, "/ping/x").status == 404
        assert ask(server, "/other", "/ping").status == 404

    @pytest.mark.parametrize("name", ["/ping", "/status"])
    def test_head(self, serve: Serve, name: str) -> None:
        """HEAD gets no body."""
        reply = ask(serve({}, SETTINGS), name, REQUEST_METHOD="HEAD")
        assert (reply.status, reply.body) == (200, b"")

    def test_when_all_workers_are_busy(self, serve: Serve) -> None:
        """The server answers itself when nobody else can."""
        server = serve({"sleep.lua": SLEEP}, SETTINGS + "workers = 1\nqueue = 1\n")
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(server.connect()).send(server.request("sleep.lua?20"))
            until(lambda: status(server)["waiting"] == 1)
            assert server.get("sleep.lua?20").status == 503
            assert ask(server, "/ping").body == b"pong\n"
            found = status(server)
            assert (found["running"], found["waiting"], found["longest_queue"], found["turned_away"]) == (1, 1, 1, 1)


class TestFigures:
    @pytest.mark.parametrize("form", FORMS)
    def test_forms(self, serve: Serve, form: str) -> None:
        """Each form has its content type, the figures, and the script."""
        server = serve({"hello.lua": HELLO}, SETTINGS)
        for _ in range(3):
            server.get("hello.lua")
        reply = ask(server, "/status", form)
        assert (reply.status, reply.ended) == (200, (0, 0))
        assert f"Content-Type: {FORMS[form]}\r\n".encode() in reply.stdout
        assert f"{server.root}/hello.lua" in reply.body.decode()
        assert re.search(rb"requests.{0,40}\b3\b", reply.body, re.DOTALL)

    def test_what_happened(self, serve: Serve) -> None:
        """Requests by status, timeouts, memory kills, evictions, flushes, and the time that requests took."""
        scripts = {
            "hello.lua": HELLO,
            "late.lua": "function main() while true do end end",
            "greedy.lua": "function main() local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end end",
            "sleep.lua": SLEEP,
        }
        settings = "timeout = 0.4\nworkers = 1\n[lua]\nmemory = '2M'\n[states]\nmax = 1\n"
        server = serve(scripts, SETTINGS + settings)
        for name in ("hello.lua", "hello.lua", "late.lua", "greedy.lua", "sleep.lua?0.11", "missing.lua"):
            server.get(name)
        server.write("sleep.lua", SLEEP + " -- changed")
        until(lambda: status(server)["flushes"] == 1)
        found = status(server)
        expected = {"200": 3, "404": 1, "500": 1, "504": 1}
        assert {code: found["statuses"][code] - (code == "200") * asked(found) for code in expected} == expected
        assert (found["timeouts"], found["memory_kills"], found["states"]) == (1, 1, 1)
        assert found["evictions"] == 1
        classes = found["seconds"]["classes"]
        assert classes["+Inf"] - classes["0.25"] == 1
        assert classes["0.25"] - classes["0.1"] == 1
        assert found["seconds"]["sum"] >= 0.5
        assert found["uptime"] > 0.5

    def test_scripts(self, serve: Serve) -> None:
        """Of each script: requests, states, memory, age, and whether what is served is what the files hold."""
        server = serve({"hello.lua": HELLO, "sleep.lua": SLEEP, "broken.lua": "function main("}, SETTINGS)
        server.get("broken.lua")
        for _ in range(4):
            server.get("hello.lua")
        with server.connect() as busy:
            busy.send(server.request("sleep.lua?20"))
            until(lambda: lines(server).get("sleep.lua", {}).get("busy") == 1)
            found = lines(server)
        assert (found["hello.lua"]["requests"], found["hello.lua"]["states"], found["hello.lua"]["busy"]) == (4, 1, 0)
        assert 20_000 < found["hello.lua"]["memory"] < 500_000
        assert found["hello.lua"]["version"] == "current"
        assert found["broken.lua"]["version"] == "broken"
        assert "broken.lua:1: " in found["broken.lua"]["problem"]
        server.write("hello.lua", "function main(")
        until(lambda: lines(server)["hello.lua"]["version"] == "last good")
        assert "hello.lua:1: " in lines(server)["hello.lua"]["problem"]
        assert server.get("hello.lua").body == b"hello"
        server.write("hello.lua", HELLO + " -- mended")
        until(lambda: lines(server)["hello.lua"]["version"] == "current")
        # The states of the old version have gone; what they have answered has not.
        until(lambda: lines(server)["hello.lua"]["requests"] == 5)

    def test_names_are_text(self, serve: Serve) -> None:
        """A script's name with markup, quotes and a line feed in it breaks no form."""
        name = 'x<script>&"\\\n.lua'
        server = serve({name: HELLO}, SETTINGS)
        assert server.get(name).body == b"hello"
        assert b"<script>" not in ask(server, "/status", "html").body
        shown = f"{server.root}/{name}".replace("\n", "\\n")
        assert metrics(server)["greenfcgi_script_requests_total", shown] == 1
        assert status(server)["scripts"][0]["path"] == shown
        assert shown in ask(server, "/status").body.decode()

    def test_openmetrics(self, serve: Serve) -> None:
        """Prometheus's own parser takes it, and finds the same as in the other forms."""
        server = serve({"hello.lua": HELLO}, SETTINGS)
        for _ in range(5):
            server.get("hello.lua")
        found = metrics(server)
        assert found["greenfcgi_requests_total", "200"] == 5
        assert found["greenfcgi_script_requests_total", f"{server.root}/hello.lua"] == 5
        assert found["greenfcgi_request_duration_seconds_bucket", "+Inf"] == 5
        assert found["greenfcgi_request_duration_seconds_count", ""] == 5
        assert found["greenfcgi_processes", ""] == 1


def asked(found: dict[str, Any]) -> int:
    """How many requests for the status page itself are among those of a status page."""
    return int(found["requests"]) - 6


def lines(server: Server) -> dict[str, dict[str, Any]]:
    """What the status page shows of each script, by its file's name."""
    return {os.path.basename(line["path"]): line for line in status(server)["scripts"]}


class TestProcesses:
    def test_all_together(self, serve: Serve) -> None:
        """Whichever process is asked shows all of them; counters never go back when one ends, however it ends."""
        pid = "function main(env, con) con:puts(io.open('/proc/self/stat'):read('*n')) end"
        server = serve({"pid.lua": pid}, SETTINGS + "processes = 3\n")
        until(lambda: status(server)["processes"] == 3)
        assert {process["pid"] for process in status(server)["process"]} == set(children(server.pid))
        answers = [int(server.get("pid.lua").body) for _ in range(60)]
        before = set(children(server.pid))
        page = server.params("x.lua", SCRIPT_NAME="/status", QUERY_STRING="json")
        with ExitStack() as stack:
            there: dict[int, Connection] = {}
            while len(there) < 3:
                connection = stack.enter_context(server.connect())
                answers.append(int(self.on(connection, server.params("pid.lua")).body))
                there[answers[-1]] = connection

            def all_have_published() -> bool:
                pages = [json.loads(self.on(connection, page).body) for connection in there.values()]
                return all(lines_of(found) == len(answers) for found in pages)

            until(all_have_published)
            os.kill(answers[0], signal.SIGKILL)
        for found in watched(server, lambda found: found["processes_replaced"] == 1 and found["processes"] == 3):
            assert lines_of(found) == len(answers)
        server.send_signal(signal.SIGHUP)
        for found in watched(server, lambda found: not before & {process["pid"] for process in found["process"]}):
            assert lines_of(found) == len(answers)
        assert status(server)["processes_replaced"] == 1

    @staticmethod
    def on(connection: Connection, params: dict[str, str]) -> Reply:
        """The reply to a request on a kept connection, which stays with one process."""
        connection.send(Client.request(params, keep_conn=True))
        return connection.reply()


def lines_of(found: dict[str, Any]) -> float:
    """Requests for all scripts on a status page."""
    return float(sum(line["requests"] for line in found["scripts"]))


def watched(server: Server, done: Callable[[dict[str, Any]], bool]) -> Iterator[dict[str, Any]]:
    """Status pages until one is as it should be."""
    deadline = time.monotonic() + 10
    while True:
        found = status(server)
        yield found
        if done(found):
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


class TestHistory:
    def test_what_has_been_added_is_not_counted_twice(self) -> None:
        """A slot read just before its process was reaped, and the sum just after, give each request once."""
        scoreboard = Scoreboard(4)
        past = Totals(scoreboard)
        gone = Snapshot(pid=1, started=5.0, statuses={200: 7}, scripts=(ScriptLine("a", 7, states=1),))
        message = snapshot.pack(gone, 1000)
        scoreboard.publish(2, message)
        past.add(2)
        # As if the supervisor had not come to clear it.
        scoreboard.publish(2, message)
        found = totals.read(scoreboard, Snapshot(pid=9, started=6.0, statuses={200: 1, 404: 1}))
        assert found.total.statuses == {200: 8, 404: 1}
        assert [process.pid for process in found.processes] == [9]
        assert found.total.scripts == (ScriptLine("a", 7),)

    def test_too_many_scripts(self) -> None:
        """Where there is no room for all scripts, the most popular are kept."""
        scripts = tuple(ScriptLine(f"/srv/{number}.lua", number) for number in range(5000))
        packed = snapshot.pack(Snapshot(scripts=scripts), 128 * 1024)
        assert len(packed) <= 128 * 1024
        found = snapshot.unpack(packed)
        assert len(found.scripts) > 500
        assert found.scripts[0].requests == 4999

    def test_a_process_that_died_while_it_wrote(self) -> None:
        """Half a message is none."""
        scoreboard = Scoreboard(2)
        for _ in range(5):
            pid = os.fork()
            while pid == 0:
                for letter in b"abc":
                    scoreboard.publish(1, bytes([letter]) * 100_000)
            until(lambda: scoreboard.read(1))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            assert len(set(scoreboard.read(1))) <= 1
            scoreboard.clear(1)
            assert scoreboard.read(1) == b""


#: What a hostile script can have a process publish.
HOSTILE = {
    "nested": b"[" * 200_000,
    "not JSON": b"\xff\xfe",
    "an object": b'{"pid": 1}',
    "a number": b"7",
    "too many values": json.dumps([*Snapshot(), 1]).encode(),
    "text for a number": json.dumps(Snapshot(pid="1")).encode(),  # type: ignore[arg-type]
    "a boolean": json.dumps(Snapshot(running=True)).encode(),
    "no number": json.dumps(Snapshot(started=float("nan"))).encode(),
    "no date": json.dumps(Snapshot(scripts=(ScriptLine("a", loaded=1e300),))).encode(),
    "a huge number": b"[" + b"9" * 4000 + b"]",
    "a huge count": json.dumps(Snapshot(statuses={200: 10**400})).encode(),
    "a negative one": json.dumps(Snapshot(statuses={200: -1})).encode(),
    "a status that is none": json.dumps(Snapshot(statuses={"x": 1})).encode(),  # type: ignore[dict-item]
    "statuses that are none": json.dumps(Snapshot(statuses=[1])).encode(),  # type: ignore[arg-type]
    "a count that is none": json.dumps(Snapshot(statuses={200: [1]})).encode(),  # type: ignore[dict-item]
    "a short histogram": json.dumps(Snapshot(histogram=[1])).encode(),
    "a list for a path": json.dumps(Snapshot(scripts=(ScriptLine(["a"]),))).encode(),  # type: ignore[arg-type]
    "a script that is none": json.dumps(Snapshot(scripts=(1,))).encode(),  # type: ignore[arg-type]
}


class TestHostile:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_what_a_process_publishes(self, name: str) -> None:
        """A message that is none is passed over: the others are shown, in every form, and the supervisor goes on."""
        scoreboard = Scoreboard(4)
        past = Totals(scoreboard)
        well = Snapshot(pid=2, started=5.0, statuses={200: 7})
        scoreboard.publish(1, HOSTILE[name])
        scoreboard.publish(2, snapshot.pack(well, 1000))
        found = totals.read(scoreboard, Snapshot(pid=9, started=6.0, statuses={404: 1}))
        assert [process.pid for process in found.processes] == [2, 9]
        assert found.total.statuses == {200: 7, 404: 1}
        for form in ("text", "json", "html", "openmetrics"):
            assert page(form, found)[1]
        past.add(1)
        past.add(2)
        found = totals.read(scoreboard, Snapshot(pid=9, started=6.0, statuses={404: 1}))
        assert found.total.statuses == {200: 7, 404: 1}

    @pytest.mark.parametrize("name", HOSTILE)
    @pytest.mark.parametrize("with_head", [False, True])
    def test_in_the_slot_of_the_supervisor(self, name: str, with_head: bool) -> None:
        """All memory of the scoreboard is shared: what the supervisor had written is lost, and nothing else."""
        scoreboard = Scoreboard(4)
        Totals(scoreboard)
        head = json.dumps((1.0, 2, [])).encode()
        message = len(head).to_bytes(4) + head + HOSTILE[name] if with_head else HOSTILE[name]
        scoreboard.publish(totals.SLOT, message)
        found = totals.read(scoreboard, Snapshot(pid=9, started=6.0, statuses={404: 1}))
        assert found.total.statuses == {404: 1}
        assert page("text", found)[1]


class TestSlowLog:
    SLOW = """
    local function wait(con)
        con:sleep(0.4)
    end
    function main(env, con)
        wait(con)
        local stop = os.clock() + 0.1
        while os.clock() < stop do end
        con:puts("done")
    end
    """

    @pytest.mark.parametrize("work", ["wait", "compute"])
    def test_where_the_script_is(self, serve: Serve, work: str) -> None:
        """Past slowlog_timeout, once for a request: the script, the request, and Lua's traceback of that moment."""
        compute = "local stop = os.clock() + 0.3 while os.clock() < stop do end"
        text = self.SLOW if work == "wait" else self.SLOW.replace("con:sleep(0.4)", compute)
        server = serve({"slow.lua": text, "hello.lua": HELLO}, 'slowlog = "slow.log"\nslowlog_timeout = 0.1\n')
        server.get("hello.lua")
        assert server.get("slow.lua?x=1").body == b"done"
        lines = (server.folder / "slow.log").read_text().splitlines()
        assert len([line for line in lines if "[WARNING]" in line]) == 1
        assert re.search(r"slow\.lua: GET /slow\.lua\?x=1: slow: running for 0\.1 s; traceback:$", lines[0])
        assert lines[1] == "    stack traceback:"
        assert re.search(r"slow\.lua:3: in ", "\n".join(lines))
        assert re.search(r"slow\.lua:6: in ", "\n".join(lines))

    def test_reopened(self, serve: Serve) -> None:
        """SIGUSR1 reopens it like the others."""
        server = serve({"sleep.lua": SLEEP}, 'slowlog = "slow.log"\nslowlog_timeout = 0.05\n')
        log = server.folder / "slow.log"
        log.rename(server.folder / "old.log")
        server.send_signal(signal.SIGUSR1)
        until(log.exists)
        server.get("sleep.lua?0.2")
        assert "sleep.lua: GET /sleep.lua?0.2: slow: running for" in log.read_text()
        assert (server.folder / "old.log").read_text() == ""
