"""Three machines behind HAProxy and nginx, from the files of `--init machines`: killed, restarted, without Redis.

`TEST_MACHINES=10` takes ten times as many requests, and `pytest -s` shows how many there were.
"""

from __future__ import annotations

import http.client
import os
import re
import signal

import pytest

from ...support.running import PATIENCE, until
from .clients import Clients
from .cluster import Cluster, Machine

SCALE = int(os.environ.get("TEST_MACHINES", "1"))


def show(cluster: Cluster, what: str, clients: Clients) -> None:
    """A line with what has come of requests."""
    parts = [
        f"{len(clients.failures(method))} of {clients.number(method)} {method}s failed" for method in ("GET", "POST")
    ]
    print(f"\n{cluster.balancer}, {what}: {', '.join(parts)}; {dict(clients.machines())}")


def check_posts(cluster: Cluster, clients: Clients) -> None:
    """None was done twice."""
    assert cluster.redis.command("LLEN", "greenfcgi:counts:twice") == b":0\r\n"
    failures = clients.failures("POST")
    found = [cluster.redis.command("EXISTS", f"greenfcgi:counts:id{got.number}") for got in failures]
    done = found.count(b":1\r\n")
    print(f"of {len(failures)} POSTs that failed, {done} were done")


def back_again(cluster: Cluster, machine: Machine) -> None:
    """Start a machine, and wait until the balancer sends requests to it."""
    machine.start()
    with Clients(cluster.port, gets=2) as clients:
        clients.until_answered_by(machine.name)


def test_one_is_killed_under_load(cluster: Cluster) -> None:
    """No GET fails. A POST fails only where it was under way there, and none is done twice."""
    victim = cluster.machines[0]
    with Clients(cluster.port, gets=6, posts=4) as clients:
        for machine in cluster.machines:
            clients.until_answered_by(machine.name)
        clients.until_number(100 * SCALE)
        until(lambda: cluster.under_way(victim) > 0, "a POST under way")
        victim.kill()
        clients.until_number(500 * SCALE)
    show(cluster, "one killed", clients)
    assert clients.failures("GET") == []
    # As many as can be under way at a time.
    assert len(clients.failures("POST")) <= 4
    check_posts(cluster, clients)
    back_again(cluster, victim)


def test_a_rolling_restart(cluster: Cluster) -> None:
    """Each is stopped by SIGTERM and started again, and no GET fails. A POST fails only where it met the stop."""
    with Clients(cluster.port, gets=6, posts=4) as clients:
        for number, machine in enumerate(cluster.machines, 1):
            assert machine.stop() == 0
            machine.start()
            clients.until_answered_by(machine.name)
            clients.until_number(number * 350 * SCALE)
        clients.until_number(1100 * SCALE)
    show(cluster, "rolling restart", clients)
    assert clients.failures("GET") == []
    # For each stop, as many as can be under way at a time.
    assert len(clients.failures("POST")) <= 4 * 3
    check_posts(cluster, clients)


def test_a_new_configuration_everywhere(cluster: Cluster) -> None:
    """SIGHUP, machine after machine, costs neither a GET nor a POST."""
    with Clients(cluster.port, gets=3, posts=4) as clients:
        for machine in cluster.machines:
            machine.send_signal(signal.SIGHUP)
            machine.logged("configuration reloaded")
            clients.until_answered_by(machine.name)
        clients.until_number(300 * SCALE)
    show(cluster, "reload", clients)
    assert clients.failures("GET") + clients.failures("POST") == []
    check_posts(cluster, clients)


def test_machines_that_are_taken_out_first(cluster: Cluster) -> None:
    """A rolling restart costs no POST either, where the balancer is told before."""
    if cluster.balancer != "haproxy":
        pytest.skip("HAProxy can be told while it runs")
    with Clients(cluster.port, gets=3, posts=4) as clients:
        for machine in cluster.machines:
            cluster.command(f"set server greenfcgi/{machine.name} state maint")
            # What is under way there ends: it is the stop that waits for it.
            assert machine.stop() == 0
            machine.start()
            cluster.command(f"set server greenfcgi/{machine.name} state ready")
            clients.until_answered_by(machine.name)
        clients.until_number(300 * SCALE)
    show(cluster, "rolling restart, each taken out", clients)
    assert clients.failures("GET") + clients.failures("POST") == []
    check_posts(cluster, clients)


class Browser:
    """Keeps its cookie, and sends one request after the other."""

    def __init__(self, cluster: Cluster, target: str) -> None:
        self._port = cluster.port
        self._target = target
        self._cookie = ""

    def get(self) -> tuple[int, str, str]:
        """The status, the body, and which machine it was."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        connection.request("GET", self._target, headers={"Cookie": self._cookie} if self._cookie else {})
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        if cookie := response.headers["Set-Cookie"]:
            self._cookie = cookie.partition(";")[0]
        return response.status, body, response.headers["X-Machine"]


def test_sessions_and_tasks_survive_a_machine(cluster: Cluster) -> None:
    """Whichever machine answers, it knows who comes. A task runs each second, on one of the machines that are left."""

    def runs() -> list[int]:
        found = (re.findall(r"ran at (\d+)", machine.log()) for machine in cluster.machines)
        return sorted(int(second) for seconds in found for second in seconds)

    browsers = [Browser(cluster, "/session.lua?shared"), Browser(cluster, "/session.lua?cookie")]
    found = [[browser.get() for _ in range(6)] for browser in browsers]
    assert {machine for _, _, machine in found[0]} == {"a", "b", "c"}
    before = len(runs())
    # The one where the first session began.
    first = next(machine for machine in cluster.machines if machine.name == found[0][0][2])
    first.kill()
    for browser, visits in zip(browsers, found, strict=True):
        visits += [browser.get() for _ in range(6)]
        assert [(status, body) for status, body, _ in visits] == [(200, str(visit)) for visit in range(1, 13)]
    until(lambda: len(runs()) >= before + 3, "three runs")
    ran = runs()[before:]
    # One that was late can be in the second of the next.
    assert len(ran) <= ran[-1] - ran[0] + 2
    back_again(cluster, first)


def test_redis_is_away(cluster: Cluster) -> None:
    """Pages go on; what needs it says so at once, and goes on by itself when it is back."""
    shared, cookie = Browser(cluster, "/session.lua?shared"), Browser(cluster, "/session.lua?cookie")
    assert (shared.get()[:2], cookie.get()[:2]) == ((200, "1"), (200, "1"))
    with Clients(cluster.port, gets=2) as clients:
        cluster.redis.stop()
        for _ in range(6):
            status, problem, _ = shared.get()
            assert (status, problem[:17]) == (503, "redis: connection")
        assert cookie.get()[:2] == (200, "2")
        cluster.redis.start()
        # This Redis keeps nothing over its end: a new session.
        assert [shared.get()[:2] for _ in range(6)] == [(200, str(visit)) for visit in range(1, 7)]
        clients.until_number(100 * SCALE)
    assert clients.failures("GET") == []
