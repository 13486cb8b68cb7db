"""The pid file in a folder that others can write to: no link is followed, nothing of anybody is overwritten."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.errors import BindError
from greenfcgi.system.pidfile import PidFile

pytestmark = [pytest.mark.pythons, pytest.mark.systems]


@pytest.fixture(params=[0, 0o077])
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    """A process with this mask."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_its_mode(tmp_path: Path, mask: int) -> None:
    """All can read it and only its owner can write it, whatever the mask is."""
    path = tmp_path / "pid"
    PidFile(str(path)).write()
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_one_that_was_left_is_replaced(tmp_path: Path) -> None:
    """A server that was killed has left it, longer and with another mode."""
    path = tmp_path / "pid"
    path.write_text("1234567890\n\n\n")
    path.chmod(0o666)
    PidFile(str(path)).write()
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "folder", "pipe"])
def test_what_is_no_plain_file_is_left_alone(tmp_path: Path, kind: str) -> None:
    """One line says so; what a link leads to stays as it was."""
    path, other = tmp_path / "pid", tmp_path / "other"
    if kind != "dangling link":
        other.write_text("precious")
    if "link" in kind:
        os.link(other, path) if kind == "hard link" else path.symlink_to(other)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(BindError) as error:
        PidFile(str(path)).write()
    expected = "something else than a plain file is there, such as a link"
    assert str(error.value) == f"pidfile: cannot write '{path}': {expected}"
    assert other.exists() == (kind != "dangling link")
    assert not other.exists() or other.read_text() == "precious"


def test_a_link_that_is_put_there_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not followed either."""
    path, other = tmp_path / "pid", tmp_path / "other"
    path.write_text("1\n")
    unlink = os.unlink

    def and_back(name: str) -> None:
        unlink(name)
        os.symlink(other, name)

    monkeypatch.setattr(os, "unlink", and_back)
    with pytest.raises(BindError, match="File exists"):
        PidFile(str(path)).write()
    assert not other.exists()


def test_a_folder_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that somebody has made for this user is written, where the folder can not be."""
    path = tmp_path / "pid"
    path.write_text("1234567890\n\n\n")

    def refuse(name: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    PidFile(str(path)).write()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_link_is_not_read_at_the_end(tmp_path: Path) -> None:
    """What it leads to may be anything; the link stays."""
    path, other = tmp_path / "pid", tmp_path / "other"
    other.write_text(f"{os.getpid()}\n")
    path.symlink_to(other)
    PidFile(str(path)).remove()
    assert path.is_symlink()
