"""Random Lua programs end in a reply or in an error report, whatever they do: no crash, no hang, no exception.

The long form is run by hand: `python -m tests.fuzz lua --count 7000`, and with --server. What it finds is made smaller,
and becomes a test of its own beside what it belongs to.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..support.inside import FLAVOURS
from ..support.running import PATIENCE
from .lua.programs import program, program_text
from .lua.tree import shrink

PROJECT = Path(__file__).parents[2]
#: Programs of each flavour, and the first seed.
COUNT, FIRST = 50, 0
#: The same in whole servers.
SERVED_COUNT, SERVED_FIRST = 4, 100
MIN_PROGRAMS = 350
#: Seconds for all of them. They take twenty on one core that nobody else uses.
MAX_SECONDS = 30 * PATIENCE


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, in a process that may fork."""
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "lua", *arguments],
        cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=MAX_SECONDS,
    )  # fmt: skip


def count_of(output: str) -> int:
    """How many programs have run."""
    found = re.search(r"^([\d,]+) programs in", output, re.MULTILINE)
    return int(found[1].replace(",", "")) if found else 0


def test_random_programs_do_no_harm(capsys: pytest.CaptureFixture[str]) -> None:
    """All flavours, short deadlines, little memory: each program is answered, and a known script is after it."""
    start = time.monotonic()
    done = fuzz("--count", str(COUNT), "--first", str(FIRST))
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    count = count_of(done.stdout)
    with capsys.disabled():
        print(f"\nfuzz: {count} Lua programs in {time.monotonic() - start:.0f} s, none of them did any harm")
    assert count == COUNT * len(FLAVOURS) >= MIN_PROGRAMS
    # Most run to their end: what fails at once tries nothing.
    rows = [line.split() for line in done.stdout.splitlines()]
    [header] = [row for row in rows if row and row[-1] == "all"]
    ok = sum(int(row[header.index("ok") - len(header)]) for row in rows if row and row[0] in FLAVOURS)
    assert ok > count * 0.5


def test_random_programs_do_no_harm_to_a_server() -> None:
    """In a whole server, with real deadlines, while others ask for something else."""
    done = fuzz("--count", str(SERVED_COUNT), "--first", str(SERVED_FIRST), "--server")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert count_of(done.stdout) == SERVED_COUNT * len(FLAVOURS)


def test_a_seed_is_the_same_program_everywhere() -> None:
    """What a seed stands for depends neither on the machine nor on the process."""
    text = "".join(program_text(seed, flavour) for seed in range(20) for flavour in FLAVOURS)
    code = (
        "import hashlib, sys\nfrom tests.fuzz.lua.programs import program_text\n"
        "from tests.support.inside import FLAVOURS\n"
        "text = ''.join(program_text(seed, flavour) for seed in range(20) for flavour in FLAVOURS)\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT, env=environment, text=True)
    assert other.strip() == hashlib.sha256(text.encode()).hexdigest()


def test_a_program_that_fails_becomes_smaller() -> None:
    """Only what makes it fail is left."""
    seed = next(seed for seed in range(100) if "coroutine.yield(" in program_text(seed, "lua54"))
    small = shrink(program(seed, "lua54"), lambda text: "coroutine.yield(" in text)
    assert "coroutine.yield(" in small
    assert len(small.splitlines()) < 10 < len(program_text(seed, "lua54").splitlines())


# The runner sees what is wrong

#: Programs that do what none may, each in place of what runs a batch.
HARM = {
    "crash: SIGABRT": "os.abort()",
    "crash: exit 3": "os._exit(3)",
    "hang": "time.sleep(1000)",
    "exception": "reporter.tell(seed=1, outcome='exception', detail='', late=0.0); reporter.tell(begin=2); os._exit(0)",
}


@pytest.mark.parametrize("outcome", HARM)
def test_harm_is_seen(outcome: str) -> None:
    """Crashes and hangs are reported for the program that did it, whatever became of the process."""
    code = (
        "import os, time\nfrom tests.fuzz.lua import campaign, child\n"
        f"def run(flavour, programs, folder, reporter):\n    reporter.tell(begin=1)\n    {HARM[outcome]}\n"
        "child.run = run\n"
        "for result in campaign.run_texts('lua54', [child.Program(1, ''), child.Program(2, '')], patience=1.0):\n"
        "    print(result.seed, result.outcome, result.is_failure)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == f"1 {outcome} True", done.stdout + done.stderr


def test_a_state_that_spoils_others_is_seen(tmp_path: Path) -> None:
    """The known script that runs after each program is answered wrongly when something has changed for all states."""
    code = (
        "import os\nfrom tests.fuzz.lua import campaign, child\n"
        "compare = child._Place._compare\n"
        "child._Place._compare = staticmethod(lambda state, count: compare(state, count + (count == 2)))\n"
        "for result in campaign.run_texts('lua54', [child.Program(1, 'function main() end')]):\n"
        "    print(result.seed, result.outcome)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 corrupt"), done.stdout + done.stderr


def test_a_file_can_be_run_again(tmp_path: Path) -> None:
    """A program in a file, as it comes out of the runner, can be tried with the settings of its seed."""
    path = tmp_path / "program.lua"
    path.write_text("function main(env, con) con:puts('x') end")
    done = fuzz("--file", str(path), "--first", "7", "--flavour", "lua51,lua54")
    assert done.stdout.split() == ["lua51", "ok", "lua54", "ok"]
    assert done.returncode == 0
