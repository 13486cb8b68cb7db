"""The manual's pages: they name all options and settings, and `man` and mandoc read them without a complaint."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from greenfcgi.command_line import parser
from greenfcgi.config.load import describe
from greenfcgi.errors import ExitStatus

PROJECT = Path(__file__).parents[2]
MANUAL = PROJECT / ".ci" / "manual.py"
PAGES = ("greenfcgi.1", "greenfcgi.toml.5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pages have been written."""
    found = tmp_path_factory.mktemp("man")
    environment = os.environ | {"SOURCE_DATE_EPOCH": "86400"}
    subprocess.run([sys.executable, "-B", MANUAL, found], cwd="/", env=environment, check=True)
    assert sorted(path.name for path in found.iterdir()) == list(PAGES)
    return found


def plain(page: Path) -> str:
    """A page without what roff needs."""
    text = re.sub(r"\\f[BIR]|\\&", "", page.read_text())
    return " ".join(text.replace(r"\-", "-").replace(r"\(aq", "'").replace(r"\e", "\\").split())


def test_all_options_are_there(folder: Path) -> None:
    """Each with its help; and what the command ends with."""
    text = plain(folder / "greenfcgi.1")
    command = parser()
    for action in command._actions:
        for option in action.option_strings:
            assert option in text
        expanded = command._get_formatter()._expand_help(action)
        assert " ".join(expanded.split())[1:] in text
    for status in ExitStatus:
        assert f".TP {int(status)} " in text


def test_all_settings_are_there(folder: Path) -> None:
    """Each with its default, its reason and its type."""
    text = plain(folder / "greenfcgi.toml.5")
    for row in describe():
        assert row.key in text
        assert row.reason in text
        if row.key not in ("modules", "shared", "tasks", "apps", "app"):
            assert f".TP {row.key} = {row.default} " in text
            assert row.expects in text


def test_the_date_can_be_given(folder: Path) -> None:
    """So that a package has the same bytes each time it is built."""
    assert '.TH GREENFCGI 1 "1970-01-02"' in (folder / "greenfcgi.1").read_text()


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("command", [["man", "--warnings", "-l"], ["mandoc", "-T", "lint"]], ids=["man", "mandoc"])
def test_nothing_is_found(folder: Path, command: list[str], page: str) -> None:
    """Neither reader has a complaint."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} (Debian: man-db, mandoc)")
    done = subprocess.run(
        [*command, folder / page], env=os.environ | {"MANPAGER": "cat", "LC_ALL": "C.UTF-8"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    said = done.stderr if command[0] == "man" else done.stdout
    # That one has no manual of others to look into.
    complaints = [line for line in said.splitlines() if "referenced manual not found" not in line]
    assert (done.returncode, complaints) == (0, [])
