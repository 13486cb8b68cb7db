"""Two hundred clients on a script that waits: how many requests a second come through.

With a process for each request the processes are the limit; with a state for each it is the clients, each of which gets
a reply whenever the script has waited: CLIENTS / seconds of the wait.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .frontend import Frontend
from .load import Load, run_wrk
from .peers import Upstream
from .replies import Check, checked
from .spread import Spread
from .work import CANDIDATE_PEER, HELLO, WAIT

CLIENTS = 200
WAITED = float(WAIT.query)
#: The most requests a second that there can be, and the fewest that greenfcgi should answer.
LIMIT = CLIENTS / WAITED
TARGET = 1950.0

#: Runs of each server, and their seconds.
_RUNS = (4, 4, 4)
#: A server with a few processes needs no more to show how many requests they are good for.
_FEW_RUNS = (2,)


class Passed(NamedTuple):
    """What one server let through: requests a second, run by run; `replies` were compared byte for byte."""

    peer: str
    rates: tuple[float, ...]
    replies: int
    faults: tuple[str, ...]

    @property
    def rate(self) -> Spread:
        return Spread.of(self.rates)

    @property
    def target(self) -> float | None:
        """The fewest requests a second that this line must show; None for a server without targets."""
        return TARGET if self.peer == CANDIDATE_PEER else None


def measure_throughput(
    upstreams: Sequence[Upstream], frontend: Frontend, progress: Callable[[str], None]
) -> list[Passed]:
    """Load one server after the other. Raises `BenchError` when a server or wrk ends or falls silent."""
    return [_measure(upstream, frontend, progress) for upstream in upstreams]


def rate_of(load: Load) -> float:
    """Requests a second from when the first reply could come, since none can before the script has waited once."""
    seconds = load.requests / load.requests_per_second
    return load.requests / (seconds - WAITED)


def _measure(upstream: Upstream, frontend: Frontend, progress: Callable[[str], None]) -> Passed:
    target = frontend.target(upstream, "new", WAIT)
    checks, loads = [checked(frontend, upstream, "new", WAIT)], []
    for seconds in _RUNS if upstream.peer.name == CANDIDATE_PEER else _FEW_RUNS:
        load = run_wrk(target, seconds, CLIENTS)
        loads.append(load)
        progress(f"{CLIENTS} clients on {WAIT.name}: {upstream.peer.name}: {rate_of(load):.0f} requests/s")
        checks.append(_drained(upstream, frontend))
    checks.append(checked(frontend, upstream, "new", WAIT))
    faults = [check.fault for check in checks if check.fault] + [error for load in loads for error in load.errors]
    rates = tuple(rate_of(load) for load in loads)
    replies = sum(check.replies for check in checks)
    return Passed(upstream.peer.name, rates, replies, tuple(dict.fromkeys(faults)))


def _drained(upstream: Upstream, frontend: Frontend) -> Check:
    """Wait behind the requests that wrk gave up at its end: a hello is answered when they have been."""
    return checked(frontend, upstream, "new", HELLO)
