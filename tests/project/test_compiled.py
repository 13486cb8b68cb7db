"""The core compiled by mypyc does what its source does: a part of the tests, against the modules of a wheel."""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ..support import compiled
from ..support.compiled import Built, NotBuilt
from ..support.running import PATIENCE

#: What the compiled modules do is in these: bytes, requests, states, limits, ends.
PART = (
    "serving/test_faults.py::test_what_no_hook_can_stop", "lua/test_errors_in_lua.py::test_the_address_of_the_state",
    "fastcgi/test_connection.py", "fastcgi/test_records.py", "fastcgi/test_corpus.py", "fuzz/test_protocol.py",
    "serving/test_server.py", "serving/test_stop.py", "serving/test_clients.py", "scripts/test_pool.py",
    "system/test_listen.py", "lua/test_states.py",
)  # fmt: skip
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The package, unpacked, with a copy of the tests beside it; skips where it cannot be built."""
    folder = tmp_path_factory.mktemp("wheel")
    try:
        found = compiled.build(folder)
    except NotBuilt as reason:
        pytest.skip(str(reason))
    shutil.copy(TESTS.parent / "pyproject.toml", found.folder)
    shutil.copytree(TESTS, found.folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    # Some two hundred servers are started: each takes half the time where it finds bytecode.
    compileall.compile_dir(found.folder / "greenfcgi", quiet=2)
    return found


def run(built: Built, *arguments: str, seconds: float = PATIENCE) -> str:
    """Run Python where only the compiled package is found, and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=built.folder, env=os.environ | {"PYTHONPATH": str(built.folder)},
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(built: Built, modules: Sequence[str]) -> list[Path]:
    """Where these modules of the package are imported from."""
    program = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
    return [Path(line) for line in run(built, "-c", program, *(f"greenfcgi.{name}" for name in modules)).splitlines()]


@pytest.mark.pythons
def test_the_core_is_compiled_and_nothing_else(built: Built) -> None:
    """Each module that pyproject.toml names is imported from an extension module, and its source lies beside it."""
    found = files(built, compiled.modules())
    assert [".".join((path.parent.name, path.name.partition(".")[0])) for path in found] == compiled.modules()
    for path in found:
        assert path.suffix == ".so"
        assert path.parent.parent == built.folder / "greenfcgi"
        assert path.with_name(f"{path.name.partition('.')[0]}.py").exists()
    assert [path.suffix for path in files(built, ["lua.bridge", "serving.body", "processes.supervisor"])] == [".py"] * 3


def test_it_says_why_it_does_not_compile(tmp_path: Path) -> None:
    """Where the compiler fails, the wheel is pure Python, and the reason is short, whatever the tools have said."""
    project = compiled.with_one_module(tmp_path / "project")
    try:
        plain = Built(compiled.build_plain(tmp_path, {"CC": "false"}, project), "")
    except NotBuilt as reason:
        pytest.skip(str(reason))
    assert list(plain.folder.rglob("*.so")) == []
    text = run(plain, "-m", "greenfcgi", "--version")
    assert re.fullmatch(r"greenfcgi \S+ \(not compiled: [^\n]{1,100}\)\n", text)


def test_it_says_why_it_is_not_compiled(tmp_path: Path) -> None:
    """A wheel that is built where there is no compiler is pure Python, fetches no tools, and tells the reason."""
    try:
        folder = compiled.build_plain(tmp_path, {"CC": "no-compiler"})
    except NotBuilt as reason:
        pytest.skip(str(reason))
    plain = Built(folder, "")
    assert list(folder.rglob("*.so")) == []
    text = run(plain, "-m", "greenfcgi", "--version")
    assert re.fullmatch(r"greenfcgi \S+ \(not compiled: [^\n]+\)\n", text)
    if sys.version_info[:2] <= compiled.newest_python() and sys.platform == "linux":
        assert "no C compiler (no-compiler)" in text


@pytest.mark.pythons
def test_it_says_that_it_is_compiled(built: Built) -> None:
    """`--version` tells; the server's log begins with the same name."""
    assert run(built, "-m", "greenfcgi", "--version").endswith(" compiled\n")


def test_the_source_tree_holds_no_extension_module() -> None:
    """No build has left anything behind that would be imported instead of a source."""
    assert list((TESTS.parent / "greenfcgi").rglob("*.so")) == []
    assert list(TESTS.parent.glob("*.so")) == []


def test_a_part_of_the_tests_passes(built: Built) -> None:
    """What is tested of the source holds for the compiled modules, too."""
    tests = [f"tests/{name}" for name in PART]
    run(built, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, seconds=30 * PATIENCE)
