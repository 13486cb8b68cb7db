"""The README and the pages in `greenfcgi/docs`: their examples are run, and give what the page says.

In a page, a fenced block whose first line is a comment ``-- file: NAME``, ``# file: NAME`` or ``<!-- file: NAME -->``
is a file of the example, written to that name in a folder of the page's own. A fenced block of the kind ``console``
holds commands, ``$ greenfcgi ...``, each followed by its output; a line ``...`` stands for any lines, and "..." in a
line for anything.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ..support.running import PATIENCE

DOCS = Path(__file__).parents[2] / "greenfcgi" / "docs"
PAGES = [DOCS.parents[1] / "README.md", *sorted(DOCS.glob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?:--|#|<!--) file: (\S+)(?: -->)?\n")


def _commands(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that the page shows."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def _pattern(output: str) -> str:
    lines = [re.escape(line).replace(r"\.\.\.", ".*") for line in output.rstrip("\n").split("\n")]
    return "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_give_what_the_page_says(page: Path, tmp_path: Path) -> None:
    """Each page has an example, and all of its commands print what stands below them."""
    assert run_examples(page, tmp_path, {}), f"{page.name} has no example that runs"


def run_examples(page: Path, tmp_path: Path, environment: Mapping[str, str]) -> int:
    """Run the commands of a page in an empty folder, and return how many there are."""
    ran = 0
    (tmp_path / "config.toml").touch()
    for kind, block in _BLOCK.findall(page.read_text()):
        name = _FILE.match(block)
        if name:
            path = tmp_path / name[1]
            if name[1].startswith("greenfcgi/") and not (tmp_path / "greenfcgi").exists():
                # A change to the package itself, which is then the one that runs.
                shutil.copytree(DOCS.parent, tmp_path / "greenfcgi", ignore=shutil.ignore_patterns("__pycache__"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block)
        elif kind == "console":
            for command, expected in _commands(block):
                program, *arguments = shlex.split(command)
                assert program == "greenfcgi", command
                done = subprocess.run(
                    [sys.executable, "-m", "greenfcgi", *arguments], cwd=tmp_path, stdin=subprocess.DEVNULL,
                    env=os.environ | environment,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False,
                )  # fmt: skip
                assert re.fullmatch(_pattern(expected), done.stdout.rstrip("\n"), re.DOTALL), done.stdout
                ran += 1
    return ran


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Files that a page links to are there."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
