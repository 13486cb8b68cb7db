"""Three machines behind HAProxy and behind nginx, from the files of `--init machines`: one is killed, all are restarted.

`TEST_MACHINES=10` takes ten times as many requests, and `pytest -s` shows the numbers.
"""

from __future__ import annotations

import http.client
import os

from ...support.running import PATIENCE, until
from .clients import Clients
from .cluster import Cluster, Machine

SCALE = int(os.environ.get("TEST_MACHINES", "1"))


def count_of(cluster: Cluster, number: str) -> int:
    """How often a POST has been done, by Redis's word."""
    found = cluster.redis.command("GET", f"greenfcgi:counts:id{number}")
    return 0 if found == b"$-1\r\n" else int(found.split()[1])


def is_answered(cluster: Cluster, machine: Machine) -> None:
    """Wait until the balancer sends requests to it."""
    name = machine.folder.name
    with Clients(cluster.port, gets=2) as clients:
        clients.until_answered_by(name)


def say(cluster: Cluster, what: str, clients: Clients) -> None:
    """One line with what has come of requests."""
    parts = [
        f"{len(clients.failures(method))} of {clients.number(method)} {method}s failed" for method in ("GET", "POST")
    ]
    print(f"\n{cluster.balancer}, {what}: {', '.join(parts)}; {dict(clients.machines())}")


def check_posts(cluster: Cluster, clients: Clients) -> None:
    """None was done twice, and those that were answered were done."""
    assert cluster.redis.command("LLEN", "greenfcgi:counts:twice") == b":0\r\n"
    done = [count_of(cluster, got.number) for got in clients.failures("POST")]
    print(f"of {len(done)} POSTs that failed, {sum(done)} were done")
    assert set(done) <= {0, 1}


def test_one_is_killed_under_load(cluster: Cluster) -> None:
    """No GET fails. A POST fails only where it was under way there, and none is done twice."""
    victim = cluster.machines[0]
    with Clients(cluster.port, gets=6, posts=4) as clients:
        for name in "abc":
            clients.until_answered_by(name)
        clients.until_number(100 * SCALE)
        victim.kill()
        clients.until_number(500 * SCALE)
    say(cluster, "one killed", clients)
    assert clients.failures("GET") == []
    # As many as can be under way at a time.
    assert len(clients.failures("POST")) <= 4
    check_posts(cluster, clients)
    victim.start()
    is_answered(cluster, victim)


def test_a_rolling_restart(cluster: Cluster) -> None:
    """Each is stopped by SIGTERM and started again, and no GET fails."""
    with Clients(cluster.port, gets=6) as clients:
        for number, machine in enumerate(cluster.machines, 1):
            assert machine.stop() == 0
            machine.start()
            clients.until_answered_by(machine.folder.name)
            clients.until_number(number * 350 * SCALE)
        clients.until_number(1100 * SCALE)
    say(cluster, "rolling restart", clients)
    assert clients.failures("GET") == []
