"""A hello beside that of another revision: which one, and when it has grown."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from .__main__ import _choice, _options, _status
from .machine import Setting
from .record import write_json
from .regression import BOUND, Comparison, Series, measure_regression, twice
from .report import as_text
from .results import Results
from .revisions import NoRevision, other_packages, parent
from .rounds import Plan
from .work import ROWS, Row

SETUP = '[project]\ndependencies = ["gevent>=25.4"]\n'

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")


def _series(ratios: Sequence[float], row: str = "hello/new", faults: tuple[str, ...] = ()) -> Series:
    return Series(row, tuple(20.0 * ratio for ratio in ratios), (20.0,) * len(ratios), faults)


GREW, SAME = _series([BOUND + 0.01] * 9), _series([1.0] * 9)


@pytest.mark.parametrize(("ratios", "grew"), [
    ([1.0] * 9, False),
    ([BOUND] * 9, False),
    ([BOUND + 0.01] * 9, True),
    ([2.0] * 4 + [BOUND] * 5, False),
    ([2.0] * 5 + [BOUND + 0.01] * 4, True),
    ([2.0] * 8 + [1.0], False),
])  # fmt: skip
def test_a_series_grew_when_its_median_and_its_quickest_run_are_beyond_the_bound(
    ratios: list[float], grew: bool
) -> None:
    assert _series(ratios).grew is grew


def test_ratios_are_taken_round_by_round() -> None:
    """The whole machine has been slower in the second half."""
    here, there = (10.0, 11.0, 30.0, 33.0), (10.0, 10.0, 30.0, 30.0)
    assert Series("hello/new", here, there).ratio == pytest.approx((1.05, 1.0, 1.1))


@pytest.mark.parametrize(("series", "grown"), [
    ((GREW,), []),
    ((GREW, SAME), []),
    ((GREW, GREW), ["hello/new"]),
    ((GREW, _series([2.0] * 9, "hello/kept")), []),
    ((GREW, _series([2.0] * 9, "hello/kept"), SAME, _series([2.0] * 9, "hello/kept")), ["hello/kept"]),
])  # fmt: skip
def test_a_hello_has_grown_when_two_series_say_so(series: tuple[Series, ...], grown: list[str]) -> None:
    assert Comparison("1234567 before", series).grown == grown


def test_only_what_grew_is_measured_again() -> None:
    new, kept = ROWS[:2]
    asked = []

    def measure(rows: Sequence[Row]) -> list[Series]:
        asked.append(list(rows))
        return [_series([2.0 if row is kept else 1.0], row.name) for row in rows]

    assert [series.row for series in twice([new, kept], measure)] == [new.name, kept.name, kept.name]
    assert asked == [[new, kept], [kept]]
    assert len(twice([new], measure)) == 1
    assert len(asked) == 3


def _results(*series: Series, notes: tuple[str, ...] = ()) -> Results:
    setting = Setting("2026-11-25T16:00+00:00", "6.1", "a CPU", 2, 0.5, {"nginx": "1.22.1"})
    return Results(setting, Plan(3, 1), [], [], [], [], [], [], Comparison("1234567 before", series, notes))


def test_growth_is_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert _status(_results(GREW), short=True) == 0
    assert _status(_results(GREW, SAME), short=True) == 0
    assert capsys.readouterr().err == ""
    assert _status(_results(GREW, GREW), short=True) == 1
    told = "bench: hello/new takes more CPU than in 1234567 before: by more than 15%, in two series\n"
    assert capsys.readouterr().err == told


def test_a_wrong_reply_of_this_tree_is_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert _status(_results(_series([1.0], faults=("status 500, 200 expected",))), short=True) == 1


def test_each_series_is_told(tmp_path: Path) -> None:
    results = _results(GREW, SAME, notes=("a note",))
    *_, head, first, second, _, note = as_text(results).splitlines()
    assert head.startswith("beside 1234567  us CPU/request")
    assert first.endswith("1.16 (1.16..1.16)  1.16             <= 1.15 no")
    assert second.endswith("1.00 (1.00..1.00)  1.00             <= 1.15 yes")
    assert note == "a note"
    write_json(results, tmp_path / "file")
    assert '"grown": []' in (tmp_path / "file").read_text()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The top folder of a project with one commit, which the benchmark takes for its own."""
    project = tmp_path / "project"
    (project / "greenfcgi").mkdir(parents=True)
    (project / "greenfcgi" / "__init__.py").write_text("")
    (project / "greenfcgi" / "__main__.py").write_text('raise SystemExit("no such setting")\n')
    (project / "pyproject.toml").write_text(SETUP)
    monkeypatch.setattr("tests.bench.revisions.PROJECT", project)
    # Whatever is in the home folder of who runs this.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    _git(project, "init", "-q")
    _commit(project, "first")
    return project


def _git(project: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(project), *arguments], check=True, capture_output=True)


def _commit(project: Path, message: str) -> None:
    _git(project, "add", ".")
    _git(project, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", message)


@needs_git
def test_a_first_commit_has_no_parent(checkout: Path) -> None:
    with pytest.raises(NoRevision, match=r"^HEAD has no parent here$"):
        parent()


@needs_git
def test_what_is_not_committed_is_compared_with_head(checkout: Path) -> None:
    (checkout / "greenfcgi" / "new.py").write_text("")
    assert parent() == "HEAD"


@needs_git
def test_what_is_committed_is_compared_with_its_parent(checkout: Path) -> None:
    (checkout / "greenfcgi" / "new.py").write_text("")
    _commit(checkout, "second")
    (checkout / "README").write_text("not of the server")
    assert parent() == "HEAD^"
    _commit(checkout, "third")
    with pytest.raises(NoRevision, match=r"^the server is that of the parent of HEAD$"):
        parent()


@needs_git
def test_a_shallow_clone_has_no_parent(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "greenfcgi" / "new.py").write_text("")
    _commit(checkout, "second")
    clone = tmp_path / "clone"
    _git(checkout, "clone", "-q", "--depth=1", checkout.as_uri(), str(clone))
    monkeypatch.setattr("tests.bench.revisions.PROJECT", clone)
    with pytest.raises(NoRevision, match=r"^HEAD has no parent here$"):
        parent()


@needs_git
def test_a_release_in_a_checkout_of_something_else(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.revisions.PROJECT", checkout / "greenfcgi")
    with pytest.raises(NoRevision, match=r"^this is not the top folder of a checkout$"):
        parent()


def test_without_a_checkout_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With git and without."""
    monkeypatch.setattr("tests.bench.revisions.PROJECT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for path, reason in ((None, "git"), ("/nowhere", "git cannot be run: No such file or directory")):
        if path:
            monkeypatch.setenv("PATH", path)
        (note,) = _compared(None, tmp_path)
        assert note.startswith(f"no other revision is compared: {reason}") or "not a git repository" in note
        assert "\n" not in note


def _compared(revision: str | None, folder: Path) -> tuple[str, ...]:
    """The notes of a comparison that measures nothing."""
    comparison = measure_regression(revision, folder, print)
    assert comparison.series == ()
    return comparison.notes


@needs_git
def test_a_parent_that_does_not_start_is_one_line(checkout: Path, tmp_path: Path) -> None:
    """It is the parent's tree that is started, and not what is there now."""
    (checkout / "greenfcgi" / "__main__.py").write_text("")
    (note,) = _compared(None, tmp_path)
    assert note.endswith(" first is not compared: before ended with status 1: no such setting")


@needs_git
def test_a_parent_that_wants_other_packages_is_told_of(checkout: Path, tmp_path: Path) -> None:
    (checkout / "greenfcgi" / "new.py").write_text("")
    (checkout / "pyproject.toml").write_text(SETUP.replace("gevent>=25.4", "gevent >= 26"))
    assert other_packages(checkout) == []
    first, _ = _compared(None, tmp_path)
    assert first.endswith(" first runs with the packages that are installed; it asks for gevent>=25.4")


@needs_git
def test_a_revision_that_there_is_not_is_an_error(checkout: Path, tmp_path: Path) -> None:
    for revision in ("nothing", "--all"):
        with pytest.raises(NoRevision):
            measure_regression(revision, tmp_path, print)


@pytest.mark.parametrize(("arguments", "compares"), [
    (["--short"], True),
    ([], False),
    (["--against", "HEAD"], True),
    (["--only", "regression"], True),
    (["--short", "--only", "memory"], False),
    (["--short", "--null"], False),
])  # fmt: skip
def test_the_short_form_compares_and_others_when_asked(arguments: list[str], compares: bool) -> None:
    assert _choice(_options(arguments)).compares is compares


@pytest.mark.parametrize("others", [["--null"], ["--only", "memory"]])
def test_a_revision_for_nothing_is_refused(others: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _options(["--against", "HEAD", *others])
    assert "error: --against is of no use" in capsys.readouterr().err
