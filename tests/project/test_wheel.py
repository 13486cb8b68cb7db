"""A wheel holds all of the package, its documentation and the manual's pages, and works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..support import compiled
from ..support.compiled import NotBuilt
from ..support.running import PATIENCE
from .test_docs import run_examples

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pure wheel, unpacked."""
    try:
        return compiled.build_plain(tmp_path_factory.mktemp("wheel"), {"GREENFCGI_PURE": "1"})
    except NotBuilt as reason:
        pytest.skip(str(reason))


def test_it_holds_all_of_the_package(wheel: Path) -> None:
    """Each file that is in the source, and no other; it is for any platform, and says nothing of compiling."""
    kept = {path.relative_to(wheel) for path in (wheel / "greenfcgi").rglob("*") if path.is_file()}
    source = {
        path.relative_to(PROJECT) for path in (PROJECT / "greenfcgi").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }  # fmt: skip
    assert kept == source
    assert next(path.name for path in wheel.parent.glob("*.whl")).endswith("-py3-none-any.whl")


def test_it_holds_the_manual(wheel: Path) -> None:
    """Where an installer puts it beside the command, and `man` looks."""
    (data,) = wheel.glob("*.data")
    pages = sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())
    assert pages == ["data/share/man/man1/greenfcgi.1", "data/share/man/man5/greenfcgi.toml.5"]


@pytest.mark.parametrize(
    "page", [PROJECT / "README.md", PROJECT / "greenfcgi" / "docs" / "luafcgid.md"], ids=["README", "luafcgid"]
)
def test_examples_work_without_the_checkout(wheel: Path, tmp_path: Path, page: Path) -> None:
    """In an empty folder, with the package of the wheel."""
    assert run_examples(page, tmp_path, {"PYTHONPATH": str(wheel)})


def test_it_says_where_its_documentation_is(wheel: Path, tmp_path: Path) -> None:
    """The pages that `--help` names are in it."""
    done = subprocess.run(
        [sys.executable, "-m", "greenfcgi", "--help"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(wheel)},
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert str(wheel / "greenfcgi" / "docs") in "".join(done.stdout.split())
    assert (wheel / "greenfcgi" / "docs" / "settings.md").exists()
