"""The command `greenfcgi` for tests: run until it ends, with what it has printed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .running import PATIENCE

PROJECT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "greenfcgi"]
#: Says what it got.
ECHO = """
function main(env, con)
    con:header("Content-Type", "text/plain")
    con:puts(env.REQUEST_METHOD .. " " .. env.SCRIPT_NAME .. " " .. env.PATH_INFO .. " " .. env.QUERY_STRING)
end
"""


class Result(NamedTuple):
    """What became of a command."""

    status: int
    out: str
    err: str


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command, with `more` variables."""
    return {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"} | dict(more or {})


def run(
    folder: Path, *arguments: str | bytes, command: list[str] = MODULE, env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Result:  # fmt: skip
    """Run the command in `folder` until it ends; `env` are variables beside the usual ones."""
    done = subprocess.run(
        [*command, *arguments], cwd=folder, env=environment(env), input=stdin, capture_output=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def refusal(result: Result) -> str:
    """The one line that says what is wrong with the configuration or the command line."""
    assert result.status == 2, result
    assert result.out == ""
    assert result.err.startswith("greenfcgi: ")
    assert result.err.count("\n") == 1
    assert result.err.endswith("\n")
    return result.err
