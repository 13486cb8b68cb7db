"""The protocol takes any bytes: a fuzzer that looks for new ways through the code finds nothing but its own error.

The inputs and what has to hold for each are in `tests/fuzz`. An input that breaks a rule is kept by the fuzzer; the
message of the test has it in hex, and `python -m tests.fuzz COUNTS FILE` tries it again. The usual run tries 20,000
inputs, `pytest -m long` 100,000: .ci/run runs both.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from greenfcgi.errors import ProtocolError
from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.connection import Connection
from greenfcgi.fastcgi.request import Request
from greenfcgi.version import COMPILED

from ..fastcgi.test_corpus import FILES, NAMES, read
from ..support.running import PATIENCE
from .counts import Figures, figures
from .inputs import BUILT, HEAD, MODES, PAIRS, RAW
from .target import LIMITS, check

PROJECT = Path(__file__).parents[2]

#: These lower its limits, or break its methods.
source_only = pytest.mark.skipif(COMPILED, reason="compiled code holds its limits and the methods that it calls")
#: One fuzzer for each core of a small machine, each with a seed of its own.
SEEDS = (1, 2)
#: Inputs of each fuzzer in the usual run, and in the long one.
RUNS = 10_000
LONG_RUNS = 50_000
#: Longer inputs take longer, and reach nothing that shorter ones do not.
MAX_LENGTH = 250
#: Seconds before a fuzzer gives up. The long one takes thirty on two cores that nobody else uses.
MAX_SECONDS = 30 * PATIENCE


def of_corpus(data: bytes, how: int = 2) -> bytes:
    """An input in which a stream of the corpus stands as it is, with some way to cut and to answer it."""
    return bytes((RAW, how, 10, 3, 99, 1, 0, 3, 9, 2, 193)) + data


def programs(count: int, seed: int = 1) -> list[bytes]:
    """Inputs that are read as programs, of random instructions."""
    source = random.Random(seed)
    return [bytes((BUILT + at % (MODES - BUILT),)) + source.randbytes(HEAD + at % 60) for at in range(count)]


def seeds() -> list[bytes]:
    """What the fuzzers begin with: the short streams of the corpus, some programs, and name-value pairs."""
    streams = [of_corpus(read(path).data) for path in FILES]
    pairs = records.encode_pairs([(b"SCRIPT_FILENAME", b"/a.lua"), (b"HTTP_COOKIE", b"c=1"), (b"X", b"v" * 130)])
    short = [one for one in streams if len(one) <= MAX_LENGTH]
    return [*short, *programs(60), bytes((PAIRS, 0)) + pairs, bytes((PAIRS, 255)) + pairs]


def at_fixed_addresses() -> list[str]:
    """What to put before a command so that it finds its memory where it did the last time; nothing if that is denied.

    libFuzzer remembers comparisons by address: elsewhere, the same seed leads to other inputs.
    """
    setarch = shutil.which("setarch")
    if setarch is None or subprocess.run([setarch, "-R", "true"], capture_output=True, check=False).returncode:
        return []
    return [setarch, "-R"]


class Fuzzer:
    """A process with atheris that tries so many inputs."""

    def __init__(self, folder: Path, seed: int, runs: int) -> None:
        self._folder = folder
        for name in ("seeds", "found", "broken"):
            (folder / name).mkdir(parents=True)
        for number, one in enumerate(seeds()):
            (folder / "seeds" / str(number)).write_bytes(one)
        # No limit of its own for memory: libFuzzer takes the peak of the process that started it for its own.
        options = [
            f"-runs={runs}", f"-seed={seed}", f"-max_len={MAX_LENGTH}", f"-max_total_time={MAX_SECONDS:.0f}",
            f"-timeout={PATIENCE:.0f}", "-rss_limit_mb=0", "-reload=0", "-print_final_stats=1",
            "-artifact_prefix=broken/",
        ]  # fmt: skip
        with open(folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [*at_fixed_addresses(), sys.executable, "-m", "tests.fuzz", "counts", *options, "found", "seeds"],
                cwd=folder, env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONHASHSEED": "0"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def __enter__(self) -> Fuzzer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def figures(self) -> Figures:
        """Wait for its end, which is no error, and return what it has counted."""
        status = self._process.wait(MAX_SECONDS + PATIENCE)
        log = (self._folder / "log").read_text(errors="replace")
        if status:
            broken = [f"{path.name}: {path.read_bytes().hex()}" for path in (self._folder / "broken").iterdir()]
            pytest.fail("\n".join([log[-6000:], "The input that did it:", *broken]), pytrace=False)
        # Where coverage is not seen, no input is found to be new.
        [found] = re.findall(r"^stat::new_units_added:\s+(\d+)$", log, re.MULTILINE)
        assert int(found) > 50
        return figures(self._folder / "counts")


@source_only
@pytest.mark.skipif(
    find_spec("atheris") is None,
    reason="atheris is not installed: it has wheels for Linux on x86-64 only, up to Python 3.14",
)
@pytest.mark.parametrize("runs", [RUNS, pytest.param(LONG_RUNS, marks=pytest.mark.long)])
def test_inputs_find_nothing_but_protocol_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], runs: int) -> None:
    """Whatever comes in is FastCGI or a `ProtocolError`, means the same in any cut, and is answered by the rules."""
    start = time.monotonic()
    with Fuzzer(tmp_path / "1", SEEDS[0], runs) as one, Fuzzer(tmp_path / "2", SEEDS[1], runs) as other:
        inputs, refused, answered = map(sum, zip(one.figures(), other.figures(), strict=True))
    with capsys.disabled():
        print(
            f"\nfuzz: {inputs:,} inputs in {time.monotonic() - start:.0f} s, {refused:,} of them refused with "
            f"ProtocolError, nothing else raised; {answered:,} requests came in whole and were answered"
        )
    assert inputs == runs * len(SEEDS)
    # Neither is the most of it noise, nor is it all well-behaved.
    assert inputs * 0.2 < refused < inputs * 0.8
    assert answered > inputs * 0.2


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_rules_hold_for_the_corpus(path: Path) -> None:
    """Streams as web servers send them follow the rules with the limits that a server has, in each way to cut them."""
    for how in range(4):
        check(of_corpus(read(path).data, how))


def test_the_rules_hold_for_random_programs() -> None:
    """They do with the limits that a server has, so also where the protocol is compiled, and its limits with it."""
    check_all(programs(10_000))


# The checks can fail


def check_all(inputs: list[bytes]) -> None:
    """Try inputs one after the other, as a fuzzer does."""
    for one in inputs:
        check(one)


def ends_twice(connection: Connection, request: Request, app_status: int = 0) -> bytes:
    """`Connection.finish` that says END_REQUEST once more."""
    end = finish(connection, request, app_status)
    return end and end + records.end_request(request.id, app_status)


def speaks_unasked(connection: Connection, request_id: int, content: bytes) -> None:
    """`Connection._begin` that sends a record with id 0."""
    begin(connection, request_id, content)
    connection._output.append(records.unknown_type(records.BEGIN_REQUEST))


def trusts_the_length(connection: Connection, request_id: int, content: bytes) -> None:
    """`Connection._begin` that takes a body of any length for eight bytes, and so raises another error."""
    records.BEGIN_BODY.unpack(content)
    begin(connection, request_id, content)


def forgives(data: bytes) -> list[tuple[bytes, bytes]]:
    """`records.decode_pairs` that finds nothing where the last pair is cut off."""
    try:
        return decode_pairs(data)
    except ProtocolError:
        return []


finish, begin, decode_pairs = Connection.finish, Connection._begin, records.decode_pairs


@source_only
@pytest.mark.parametrize(
    ("target", "name", "broken"),
    [
        (Connection, "finish", ends_twice),
        (Connection, "_begin", speaks_unasked),
        (Connection, "_begin", trusts_the_length),
        (records, "decode_pairs", forgives),
    ],
)
def test_a_broken_protocol_is_noticed(
    monkeypatch: pytest.MonkeyPatch, target: object, name: str, broken: Callable[..., object]
) -> None:
    """What the fuzzers begin with, and random programs, are enough for the checks to find what is badly wrong."""
    for module, limit, value in LIMITS:
        monkeypatch.setattr(module, limit, value)
    inputs = [*seeds(), *programs(500, seed=2)]
    check_all(inputs)
    monkeypatch.setattr(target, name, broken)
    with pytest.raises((AssertionError, struct.error)):
        check_all(inputs)
