"""wrk: 32 clients that ask for one address without pause, and what they saw."""

import re
import shutil
import subprocess
from typing import NamedTuple

from .errors import BenchError

CLIENTS = 32

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}
_GRACE = 30.0


class Load(NamedTuple):
    """One run of wrk. Latencies in milliseconds; `errors` is empty when every reply came, with status 200."""

    requests: int
    requests_per_second: float
    p50: float
    p99: float
    errors: tuple[str, ...]


def run_wrk(url: str, seconds: int) -> Load:
    """Load `url` for so many seconds, on one thread. Raises `BenchError` when wrk fails."""
    command = [wrk_program(), "-t", "1", "-c", str(CLIENTS), "-d", f"{seconds}s", "--latency", url]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _GRACE, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"wrk did not come back from {url}") from error
    if done.returncode:
        raise BenchError(f"wrk ended with status {done.returncode}: {(done.stdout + done.stderr).strip()}")
    return parse(done.stdout)


def parse(output: str) -> Load:
    """Read what `wrk --latency` prints. Raises `BenchError` when a figure is missing or no reply came."""
    requests = int(_find(r"^\s*(\d+) requests in ", output))
    if not requests:
        raise BenchError("wrk got no reply at all")
    rate = _find(r"^Requests/sec:\s*([\d.]+)", output)
    p50 = _milliseconds(_find(r"^\s*50%\s+(\S+)", output))
    p99 = _milliseconds(_find(r"^\s*99%\s+(\S+)", output))
    return Load(requests, float(rate), p50, p99, _errors(output))


def wrk_program() -> str:
    """Raises `BenchError` when there is none."""
    found = shutil.which("wrk")
    if not found:
        raise BenchError("wrk is not installed: apt-get install wrk")
    return found


def _errors(output: str) -> tuple[str, ...]:
    # wrk prints these two lines only when there is something to count.
    return tuple(
        re.findall(r"^\s*((?:Socket errors|Non-2xx or 3xx responses): .*\S)\s*$", output, re.MULTILINE)
    )


def _find(pattern: str, output: str) -> str:
    match = re.search(pattern, output, re.MULTILINE)
    if not match:
        raise BenchError(f"wrk printed nothing like {pattern!r}: {output!r}")
    return match[1]


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if not match:
        raise BenchError(f"wrk printed a latency that is none: {text!r}")
    return float(match[1]) * _UNITS[match[2]]
