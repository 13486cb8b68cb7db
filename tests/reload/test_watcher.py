"""Changed files reach the flush queue, whichever way they were saved and whichever engine looks."""

import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import gevent
import pytest

from greenfcgi.reload import inotify as inotify_engine
from greenfcgi.reload import mounts
from greenfcgi.reload.flush_queue import Changes, FlushQueue
from greenfcgi.reload.mounts import silent_filesystem
from greenfcgi.reload.polling import PollWatcher
from greenfcgi.reload.watcher import Watcher, watch
from greenfcgi.scripts.file_signature import Signature, changed, signature

from ..support.limits import descriptors_left

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")

INTERVAL = 0.01
PROJECT = Path(__file__).parents[2]


class Log:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.infos: list[str] = []

    def info(self, text: str) -> None:
        self.infos.append(text)

    def warning(self, text: str, detail: str = "") -> None:
        self.warnings.append(text)


class Watching:
    """A started watcher of `folders` with what it has put: `seen` gathers the paths of all drains."""

    def __init__(self, engine: str, *folders: Path, track_writes: bool = False) -> None:
        self.queue = FlushQueue()
        self.log = Log()
        self.known: dict[str, Signature] = {}
        self.seen: set[str] = set()
        self.everything = 0
        self.watcher: Watcher = watch(
            engine,
            [str(folder) for folder in folders],
            lambda: self.known,
            self.queue,
            INTERVAL,
            self.log,
            track_writes,
        )

    def start(self, *files: Path) -> None:
        """Start with `files` known as they are now."""
        self.watcher.start()
        for file in files:
            self.add(file)
        self.forget()

    def add(self, *files: Path) -> None:
        """From now on these files count, as they are now."""
        for file in files:
            self.watcher.add_file(str(file))
            self.known[str(file)] = signature(str(file))

    def forget(self) -> None:
        self.queue.drain()
        self.seen.clear()
        self.everything = 0

    def drain(self) -> None:
        changes = self.queue.drain()
        self.seen |= changes.paths
        self.everything += changes.everything

    def has(self, *paths: Path) -> bool:
        self.drain()
        return self.seen >= {str(path) for path in paths}

    def settle(self, folder: Path) -> None:
        """Let everything that happened so far arrive: events come in order, so a last one shows it."""
        last = folder / "last"
        last.unlink(missing_ok=True)
        self.add(last)
        last.write_text("x")
        until(lambda: self.has(last))
        del self.known[str(last)]
        self.seen.discard(str(last))


def until(predicate: Callable[[], object], timeout: float = 5.0) -> None:
    """Let gevent run until `predicate` holds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline, "it did not come true in time"
        gevent.sleep(0.002)


def watches() -> int:
    """How many inotify watches this process holds, as the kernel reports."""
    found = 0
    for descriptor in os.listdir("/proc/self/fdinfo"):
        try:
            found += Path("/proc/self/fdinfo", descriptor).read_text().count("inotify wd:")
        except OSError:
            continue  # the descriptor by which the folder was listed
    return found


@pytest.fixture
def watching() -> Iterator[Callable[..., Watching]]:
    """Makes `Watching`s and stops them."""
    made: list[Watching] = []

    def make(engine: str, *folders: Path, track_writes: bool = False) -> Watching:
        made.append(Watching(engine, *folders, track_writes=track_writes))
        return made[-1]

    yield make
    for each in made:
        each.watcher.stop()


@pytest.fixture
def inotify(watching: Callable[..., Watching], tmp_path: Path) -> Watching:
    """A started inotify watcher of tmp_path."""
    made = watching("inotify", tmp_path)
    made.start()
    return made


# The ways of saving. Each is given the script, which exists and reads "return 1".


def in_place(file: Path) -> None:
    with file.open("r+") as opened:
        opened.write("return 2 -- longer")


def truncate_and_write(file: Path) -> None:
    file.write_text("return 2 -- longer")


def append(file: Path) -> None:
    with file.open("a") as opened:
        opened.write(" + 1")


def rename_over(file: Path) -> None:
    fresh = file.with_suffix(".tmp")
    fresh.write_text("return 2")
    os.replace(fresh, file)


def rename_over_from_elsewhere(file: Path) -> None:
    fresh = file.parent.parent / "fresh"
    fresh.write_text("return 2")
    os.replace(fresh, file)


def backup_by_rename(file: Path) -> None:
    file.rename(f"{file}~")
    file.write_text("return 2")


def delete_and_create(file: Path) -> None:
    file.unlink()
    file.write_text("return 2")


def replace_by_hard_link(file: Path) -> None:
    other = file.parent.parent / "other"
    other.write_text("return 2")
    file.unlink()
    os.link(other, file)


def replace_by_unnamed_file(file: Path) -> None:
    file.unlink()
    name_unnamed_file(file)


def name_unnamed_file(file: Path) -> None:
    descriptor = os.open(file.parent, os.O_TMPFILE | os.O_WRONLY)
    os.write(descriptor, b"return 2")
    # Only with a src_dir_fd does Python call linkat(2), which alone follows the link in /proc.
    os.link(f"/proc/self/fd/{descriptor}", file, src_dir_fd=descriptor, follow_symlinks=True)
    os.close(descriptor)


def replace_by_symlink(file: Path) -> None:
    other = file.parent.parent / "other"
    other.write_text("return 2")
    file.unlink()
    file.symlink_to(other)


def copy_over(file: Path) -> None:
    other = file.parent.parent / "other"
    other.write_text("return 2 -- longer")
    shutil.copyfile(other, file)


def touch(file: Path) -> None:
    os.utime(file, (1, 1))


def delete(file: Path) -> None:
    file.unlink()


def move_away(file: Path) -> None:
    file.rename(file.parent.parent / "away")


SAVES = [
    in_place, truncate_and_write, append, rename_over, rename_over_from_elsewhere, backup_by_rename,
    delete_and_create, replace_by_hard_link, replace_by_unnamed_file, replace_by_symlink, copy_over, touch,
    delete, move_away,
]  # fmt: skip


@pytest.mark.parametrize("engine", ["inotify", "poll"])
@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
def test_every_way_of_saving_is_noticed(
    engine: str, save: Callable[[Path], None], watching: Callable[..., Watching], tmp_path: Path
) -> None:
    """However an editor saves, the script's path is put."""
    root = tmp_path / "root"
    root.mkdir()
    script = root / "a.lua"
    script.write_text("return 1")
    made = watching(engine, root)
    made.start(script)
    save(script)
    until(lambda: made.has(script))
    assert made.watcher.engine == engine
    assert not made.log.warnings


@pytest.mark.parametrize("engine", ["inotify", "poll"])
def test_a_flipped_symlink_is_noticed(engine: str, watching: Callable[..., Watching], tmp_path: Path) -> None:
    """A link that is renamed over another is put by its own name."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    link = tmp_path / "a.lua"
    link.symlink_to("one")
    made = watching(engine, tmp_path)
    made.start(link)
    (tmp_path / "new").symlink_to("two")
    os.replace(tmp_path / "new", link)
    until(lambda: made.has(link))


@pytest.mark.parametrize("engine", ["inotify", "poll"])
def test_a_file_that_appears_is_noticed(engine: str, watching: Callable[..., Watching], tmp_path: Path) -> None:
    """A file that was looked for and missing is put when it comes, with folders that come with it."""
    file = tmp_path / "a" / "b" / "c" / "late.lua"
    made = watching(engine, tmp_path)
    made.start(file)
    file.parent.mkdir(parents=True)
    file.write_text("return 1")
    until(lambda: made.has(file))


@pytest.mark.parametrize("make", ["symlink", "hard link", "unnamed file"])
def test_what_appears_without_being_written_is_noticed(make: str, inotify: Watching, tmp_path: Path) -> None:
    """A link, or a file that is named after it was written, is never closed under the name it has now."""
    file, other = tmp_path / "a.lua", tmp_path / "other"
    other.touch()
    if make == "symlink":
        file.symlink_to("missing")
    elif make == "hard link":
        os.link(other, file)
    else:
        name_unnamed_file(file)
    until(lambda: inotify.has(file))


def test_a_file_being_written_is_told_when_it_is_closed(inotify: Watching, tmp_path: Path) -> None:
    """A new file is not put while it is open and empty, but as soon as it is closed."""
    file = tmp_path / "new.lua"
    with file.open("w"):
        inotify.settle(tmp_path)
        assert not inotify.has(file)
    until(lambda: inotify.has(file))


def test_reading_and_listing_put_nothing(inotify: Watching, tmp_path: Path) -> None:
    """Only changes count: a request that reads its script flushes nothing."""
    file = tmp_path / "a.lua"
    file.write_text("return 1")
    inotify.settle(tmp_path)
    inotify.forget()
    file.read_text()
    os.listdir(tmp_path)
    inotify.settle(tmp_path)
    assert inotify.seen == set()


def test_folders_made_and_filled_at_once_lose_no_file(inotify: Watching, tmp_path: Path) -> None:
    """Every file of a tree that appears in one go is put, and later changes in it too."""
    files = [tmp_path / f"{top}" / "x" / "y" / f"{name}.lua" for top in range(30) for name in range(5)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("return 1")
        if int(file.stem) == 2:
            gevent.sleep(0)
    until(lambda: inotify.has(*files))
    inotify.forget()
    for file in files:
        append(file)
    until(lambda: inotify.has(*files))


def test_a_removed_folder_is_put_and_watched_again_when_it_returns(inotify: Watching, tmp_path: Path) -> None:
    """The folder's path stands for what was in it; the new folder of this name is watched."""
    folder = tmp_path / "lib"
    file = folder / "m.lua"
    for _ in range(3):
        folder.mkdir()
        file.write_text("return 1")
        until(lambda: inotify.has(file))
        inotify.forget()
        shutil.rmtree(folder)
        until(lambda: inotify.has(folder, file))
        inotify.forget()


def test_a_renamed_folder_is_watched_under_its_new_name(inotify: Watching, tmp_path: Path) -> None:
    """Both names are put, and what changes below is put with the new one only."""
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "sub").mkdir(parents=True)
    (old / "sub" / "m.lua").write_text("return 1")
    inotify.settle(tmp_path)
    old.rename(new)
    until(lambda: inotify.has(old, new, new / "sub" / "m.lua"))
    inotify.settle(tmp_path)
    inotify.forget()
    append(new / "sub" / "m.lua")
    inotify.settle(tmp_path)
    assert inotify.seen == {str(new / "sub" / "m.lua")}


def test_links_to_folders_are_not_followed(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """A link that leads round in a circle, or out of the tree, is a thing in its folder like others."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    (outside / "sub").mkdir(parents=True)
    (root / "circle").symlink_to(".")
    (root / "out").symlink_to(outside)
    made = watching("inotify", root)
    made.start()
    assert watches() == 1
    (root / "later").symlink_to(outside)
    until(lambda: made.has(root / "later"))
    assert watches() == 1


def test_folders_that_change_places_keep_their_names_right(inotify: Watching, tmp_path: Path) -> None:
    """After renames in a ring, made faster than they are read, each file is put with the path it has now."""
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / name).write_text(name)
    inotify.settle(tmp_path)
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    (tmp_path / "c").rename(tmp_path / "b")
    inotify.settle(tmp_path)
    inotify.forget()
    expected = {tmp_path / "a" / "sub" / "b", tmp_path / "b" / "sub" / "a"}
    for file in expected:
        append(file)
    inotify.settle(tmp_path)
    assert inotify.seen == {str(file) for file in expected}


def test_a_folder_moved_away_is_watched_no_longer(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """What has left the tree is put once and concerns nobody afterwards."""
    root, away = tmp_path / "root", tmp_path / "away"
    (root / "lib" / "sub").mkdir(parents=True)
    (root / "lib" / "sub" / "m.lua").write_text("return 1")
    made = watching("inotify", root)
    made.start()
    assert watches() == 3
    (root / "lib").rename(away)
    until(lambda: made.has(root / "lib"))
    assert watches() == 1
    made.forget()
    append(away / "sub" / "m.lua")
    made.settle(root)
    assert made.seen == set()


def test_a_root_link_that_is_flipped_is_followed(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """A deployment that flips `current` leads to one full look, and to the files of the new release."""
    for release in ("r1", "r2"):
        (tmp_path / release / "sub").mkdir(parents=True)
        (tmp_path / release / "sub" / "a.lua").write_text(release)
    current = tmp_path / "current"
    current.symlink_to("r1")
    made = watching("inotify", current)
    made.start()
    (tmp_path / "next").symlink_to("r2")
    os.replace(tmp_path / "next", current)
    made.watcher.check()
    made.watcher.check()
    made.drain()
    assert made.everything == 1
    assert watches() == 2
    append(tmp_path / "r1" / "sub" / "a.lua")
    append(tmp_path / "r2" / "sub" / "a.lua")
    until(lambda: made.has(tmp_path / "r2" / "sub" / "a.lua"))
    assert made.seen == {str(tmp_path / "r2" / "sub" / "a.lua")}


def test_a_root_that_goes_and_returns_is_watched_again(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """A root may be missing at the start, come, go and come again."""
    root = tmp_path / "root"
    made = watching("inotify", root)
    made.start()
    for _ in range(2):
        root.mkdir()
        made.watcher.check()
        assert made.queue.drain().everything
        (root / "a.lua").write_text("return 1")
        until(lambda: made.has(root / "a.lua"))
        shutil.rmtree(root)
        until(lambda: made.has(root))
        made.watcher.check()
        assert made.queue.drain().everything
        made.forget()


def test_a_root_that_is_renamed_is_put_at_once(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """Its path stands for all that is not there any more, without waiting for a check."""
    root = tmp_path / "root"
    root.mkdir()
    made = watching("inotify", root)
    made.start()
    root.rename(tmp_path / "away")
    until(lambda: made.has(root))


def test_a_check_without_a_reason_does_nothing(inotify: Watching) -> None:
    """The check each second is silent as long as the folders stay."""
    inotify.watcher.check()
    assert not inotify.queue


def test_a_file_added_later_is_watched(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """Wherever it lies; it was added before it was read, so nothing has to be looked at again."""
    root, lib = tmp_path / "root", tmp_path / "lib"
    root.mkdir()
    lib.mkdir()
    made = watching("inotify", root)
    made.start()
    made.add(lib / "m.lua")
    assert not made.queue
    (lib / "m.lua").write_text("return 1")
    until(lambda: made.has(lib / "m.lua"))


def test_an_added_file_has_nothing_else_watched(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """A script that reads one file of a big tree hears nothing of the rest, now or later."""
    root, lib = tmp_path / "root", tmp_path / "lib"
    root.mkdir()
    (lib / "old" / "deep").mkdir(parents=True)
    made = watching("inotify", root)
    made.start(lib / "m.lua")
    assert watches() == 2
    made.forget()
    (lib / "new" / "deep").mkdir(parents=True)
    (lib / "old").rename(lib / "moved")
    (lib / "moved" / "m.lua").touch()
    (lib / "other.lua").write_text("return 1")
    made.settle(lib)
    assert made.seen == set()
    made.watcher.check()
    assert watches() == 2
    assert not made.queue


def test_a_root_below_the_folder_of_an_added_file_stays_whole(
    watching: Callable[..., Watching], tmp_path: Path
) -> None:
    """A script may read a file beside its root: the root is watched with all below it all the same."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    made = watching("inotify", root)
    made.start(tmp_path / "m.lua")
    assert watches() == 3
    (root / "sub" / "deep").mkdir()
    (root / "sub" / "deep" / "m.lua").touch()
    until(lambda: made.has(root / "sub" / "deep" / "m.lua"))
    root.rename(tmp_path / "away")
    (tmp_path / "away").rename(root)
    made.settle(tmp_path)
    made.watcher.check()
    append(root / "sub" / "deep" / "m.lua")
    until(lambda: made.has(root / "sub" / "deep" / "m.lua"))
    assert watches() == 4


def test_the_folder_of_an_added_file_may_go_and_return(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """It may be missing when the file is added, with its parent; each time it comes, the file is put at once."""
    root, lib = tmp_path / "root", tmp_path / "parent" / "lib"
    root.mkdir()
    made = watching("inotify", root)
    made.start(lib / "m.lua")
    for _ in range(2):
        lib.mkdir(parents=True)
        (lib / "m.lua").touch()
        until(lambda: made.has(lib / "m.lua"))
        made.settle(lib)
        made.forget()
        lib.rename(tmp_path / "away")
        (tmp_path / "away").rename(lib)
        until(lambda: made.has(lib / "m.lua"))
        made.settle(lib)
        made.forget()
        append(lib / "m.lua")
        until(lambda: made.has(lib / "m.lua"))
        made.forget()
        shutil.rmtree(lib.parent)
        until(lambda: made.has(lib / "m.lua"))
        made.forget()


def test_a_folder_that_moves_with_its_parent_is_missed_at_the_next_check(
    watching: Callable[..., Watching], tmp_path: Path
) -> None:
    """It has no event; what has its path then is watched, and everything is checked."""
    root, lib = tmp_path / "root", tmp_path / "parent" / "lib"
    root.mkdir()
    lib.mkdir(parents=True)
    made = watching("inotify", root)
    made.start(lib / "m.lua")
    lib.parent.rename(tmp_path / "away")
    lib.mkdir(parents=True)
    made.watcher.check()
    assert made.queue.drain().everything
    (lib / "m.lua").touch()
    until(lambda: made.has(lib / "m.lua"))
    made.watcher.check()
    assert not made.queue


@pytest.mark.parametrize("added", [False, True])
def test_a_folder_made_anew_between_two_checks_is_watched(
    added: bool, watching: Callable[..., Watching], tmp_path: Path
) -> None:
    """Even where the new folder gets the inode of the old one, as on ext4, it is watched in place of it."""
    root, lib = tmp_path / "root", tmp_path / "lib"
    root.mkdir()
    lib.mkdir()
    made = watching("inotify", root)
    made.start(*([lib / "m.lua"] if added else []))
    folder = lib if added else root
    folder.rmdir()
    folder.mkdir()
    until(lambda: made.has(folder))
    made.watcher.check()
    assert added or made.queue.drain().everything
    (folder / "m.lua").touch()
    until(lambda: made.has(folder / "m.lua"))


def test_a_file_below_a_root_takes_no_watch_of_its_own(inotify: Watching, tmp_path: Path) -> None:
    """Nothing happens when a file is added whose folder is watched."""
    (tmp_path / "sub").mkdir()
    inotify.settle(tmp_path)
    inotify.forget()
    before = watches()
    inotify.add(tmp_path / "sub" / "m.lua", tmp_path / "m.lua")
    assert watches() == before
    assert not inotify.queue


def test_files_that_do_not_count_any_more_are_forgotten(
    watching: Callable[..., Watching], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of scripts that are gone, when there are many of them; and their folders are not watched any longer."""
    monkeypatch.setattr(inotify_engine, "_MAX_FILES", 10)
    root = tmp_path / "root"
    root.mkdir()
    for number in range(20):
        (tmp_path / f"lib{number}").mkdir()
    made = watching("inotify", root)
    made.start()
    made.add(*(tmp_path / f"lib{number}" / "m.lua" for number in range(20)))
    assert watches() == 21
    for number in range(1, 20):
        del made.known[str(tmp_path / f"lib{number}" / "m.lua")]
    made.watcher.check()
    assert watches() == 2
    made.forget()
    made.watcher.check()
    assert not made.queue
    (tmp_path / "lib0" / "m.lua").touch()
    until(lambda: made.has(tmp_path / "lib0" / "m.lua"))


# Links on the way to a file


class Linked:
    """A module that is reached by links: as it is named, and what is done to make it another one."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        #: The folder in which it is named: below the root, or of lua.path.
        self.base = base

    def file(self, path: Path, text: str = "return 1") -> Path:
        """Write a file, with its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def link(self, path: Path, target: str | Path) -> Path:
        """Make a link, or make it lead elsewhere, in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name("fresh")
        fresh.symlink_to(target)
        fresh.replace(path)
        return path


def edited_in_place(at: Linked) -> tuple[Path, Callable[[], None]]:
    real = at.file(at.folder / "shared" / "m.lua")
    return at.link(at.base / "m.lua", real), lambda: append(real)


def edited_by_rename(at: Linked) -> tuple[Path, Callable[[], None]]:
    real = at.file(at.folder / "shared" / "m.lua")
    return at.link(at.base / "m.lua", real), lambda: rename_over(real)


def edited_behind_two_links(at: Linked) -> tuple[Path, Callable[[], None]]:
    real = at.file(at.folder / "shared" / "v1" / "m.lua")
    between = at.link(at.folder / "between" / "m.lua", "../shared/v1/m.lua")
    return at.link(at.base / "m.lua", between), lambda: rename_over(real)


def link_in_the_middle_flipped(at: Linked) -> tuple[Path, Callable[[], None]]:
    one, two = (at.file(at.folder / "shared" / name, f"return '{name}'") for name in ("one", "two"))
    between = at.link(at.folder / "between" / "m.lua", one)
    return at.link(at.base / "m.lua", between), lambda: [at.link(between, two), None][1]  # type: ignore[return-value]


def kubernetes(at: Linked) -> tuple[Path, Callable[[], None]]:
    for version in ("..1", "..2"):
        at.file(at.base / version / "m.lua", f"return '{version}'")
    at.link(at.base / "..data", "..1")
    named = at.link(at.base / "m.lua", "..data/m.lua")

    def flip() -> None:
        at.link(at.base / "..data", "..2")
        shutil.rmtree(at.base / "..1")

    return named, flip


def folder_link_flipped(at: Linked) -> tuple[Path, Callable[[], None]]:
    for release in ("one", "two"):
        at.file(at.folder / "releases" / release / "lib" / "m.lua", f"return '{release}'")
    at.link(at.base / "current", at.folder / "releases" / "one")
    at.link(at.base / "lib", "current/lib")
    return at.base / "lib" / "m.lua", lambda: [at.link(at.base / "current", at.folder / "releases" / "two"), None][1]  # type: ignore[return-value]


def edited_after_a_flip(at: Linked) -> tuple[Path, Callable[[], None]]:
    named, flip = folder_link_flipped(at)

    def flip_and_edit() -> None:
        flip()
        gevent.sleep(0.05)
        rename_over(at.folder / "releases" / "two" / "lib" / "m.lua")

    return named, flip_and_edit


def folder_becomes_a_link(at: Linked) -> tuple[Path, Callable[[], None]]:
    named = at.file(at.base / "lib" / "m.lua")

    def change() -> None:
        named.parent.rename(at.folder / "elsewhere")
        at.link(named.parent, at.folder / "elsewhere")
        gevent.sleep(0.05)
        append(at.folder / "elsewhere" / "m.lua")

    return named, change


def dangling_link_filled(at: Linked) -> tuple[Path, Callable[[], None]]:
    named = at.link(at.base / "m.lua", at.folder / "later" / "deep" / "m.lua")
    return named, lambda: [at.file(at.folder / "later" / "deep" / "m.lua"), None][1]  # type: ignore[return-value]


def target_removed(at: Linked) -> tuple[Path, Callable[[], None]]:
    real = at.file(at.folder / "shared" / "m.lua")
    return at.link(at.base / "m.lua", real), lambda: shutil.rmtree(real.parent)


def written_by_a_hard_link(at: Linked) -> tuple[Path, Callable[[], None]]:
    real = at.file(at.folder / "shared" / "m.lua")
    named = at.base / "m.lua"
    named.parent.mkdir(parents=True, exist_ok=True)
    os.link(real, named)
    return named, lambda: append(real)


LINKED = [
    edited_in_place, edited_by_rename, edited_behind_two_links, link_in_the_middle_flipped, kubernetes,
    folder_link_flipped, edited_after_a_flip, folder_becomes_a_link, dangling_link_filled, target_removed,
    written_by_a_hard_link,
]  # fmt: skip


@pytest.mark.parametrize("engine", ["inotify", "poll"])
@pytest.mark.parametrize("where", ["root", "modules"])
@pytest.mark.parametrize("change", LINKED, ids=lambda change: change.__name__)
def test_a_file_behind_links_is_another_one(
    change: Callable[[Linked], tuple[Path, Callable[[], None]]],
    where: str,
    engine: str,
    watching: Callable[..., Watching],
    tmp_path: Path,
) -> None:
    """The file is put by the path by which it is named, whichever link on the way leads elsewhere, without a check."""
    (tmp_path / "root").mkdir()
    named, act = change(Linked(tmp_path, tmp_path / where))
    made = watching(engine, tmp_path / "root")
    made.start(named)
    act()
    until(lambda: made.has(named))
    assert made.watcher.engine == engine
    assert not made.log.warnings


def test_a_link_that_is_flipped_again_and_again(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """Each time, and the folders that it leads to no longer are not watched for ever."""
    at = Linked(tmp_path, tmp_path / "modules")
    (tmp_path / "root").mkdir()
    for number in range(5):
        at.file(tmp_path / "releases" / str(number) / "m.lua", f"return {number}")
    named = at.base / "current" / "m.lua"
    at.link(named.parent, "../releases/0")
    made = watching("inotify", tmp_path / "root")
    made.start(named)
    for number in (1, 2, 3, 4, 0, 1):
        at.link(named.parent, f"../releases/{number}")
        until(lambda: made.has(named))
        made.known[str(named)] = signature(str(named))
        made.forget()
        append(tmp_path / "releases" / str(number) / "m.lua")
        until(lambda: made.has(named))
        made.forget()


@pytest.mark.parametrize("mounted", ["file", "folder"])
def test_what_is_mounted_later_is_noticed(
    mounted: str, watching: Callable[..., Watching], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is mounted by itself is polled, with one warning; a folder leads to a full look."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("1 0 0:1 / / rw - ext4 x rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", str(mountinfo))
    root = tmp_path / "root"
    root.mkdir()
    file = root / "m.lua"
    file.touch()
    made = watching("inotify", root)
    made.start(file)
    point = file if mounted == "file" else root / "sub"
    for where in (tmp_path / "other", point):
        with mountinfo.open("a") as opened:
            opened.write(f"2 1 0:2 /x {where} rw - ext4 x rw\n")
        made.watcher.check()
        assert made.queue.drain().everything == (where == point)
    made.watcher.check()
    assert not made.queue
    if mounted == "file":
        [warning] = made.log.warnings
        assert warning == (
            f"inotify cannot be used ({file} is mounted by itself): {file} is polled every {INTERVAL:g} s instead"
        )
    else:
        assert not made.log.warnings
    assert made.watcher.engine == "inotify"


MOUNTED = """
    import subprocess
    root, elsewhere = Path(sys.argv[1]) / "root", Path(sys.argv[1]) / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    for name in ("m.lua", "other.lua"):
        (root / name).touch()
        (elsewhere / name).write_text("return 1")
    subprocess.run(["mount", "--bind", elsewhere / "m.lua", root / "m.lua"], check=True)
    made = Watching("inotify", root)
    made.start(root / "m.lua", root / "other.lua")
    with (elsewhere / "m.lua").open("a") as opened:
        opened.write(" + 1")
    until(lambda: made.has(root / "m.lua"))
    made.known[str(root / "m.lua")] = signature(str(root / "m.lua"))
    shows_a_change(made, root)
    print(made.watcher.engine, *made.log.warnings)
    made.watcher.stop()
"""


def test_a_single_file_that_is_mounted_is_polled(tmp_path: Path) -> None:
    """As containers have their configuration: the folder is silent when the file is written by its other path."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    (tmp_path / "a").touch()
    try:
        subprocess.run([*unshare, "mount", "--bind", tmp_path / "a", tmp_path / "a"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mount namespaces are not allowed here")
    printed = run(MOUNTED, str(tmp_path), before=unshare)
    file = tmp_path / "root" / "m.lua"
    assert printed == (
        f"inotify inotify cannot be used ({file} is mounted by itself): {file} is polled every 0.01 s instead\n"
    )


def fill_the_event_queue(folder: Path) -> None:
    """The kernel has no room for another event."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("it would take too long to fill this kernel's event queue")
    pair = [folder / "one", folder / "two"]
    for file in pair:
        file.touch()
    for _ in range(limit // 2 + 1):
        os.utime(pair[0])
        os.utime(pair[1])


def until_it_overflowed(made: Watching) -> None:
    """Wait until the watcher knows of it."""

    def overflowed() -> bool:
        made.drain()
        return made.everything > 0

    until(overflowed)


def test_lost_events_lead_to_a_full_look_and_a_new_start(inotify: Watching, tmp_path: Path) -> None:
    """When the kernel's queue overflows, folders whose making was lost are watched from the next check on."""
    fill_the_event_queue(tmp_path)
    lost = tmp_path / "lost" / "sub"
    lost.mkdir(parents=True)
    until_it_overflowed(inotify)
    inotify.watcher.check()
    (lost / "m.lua").write_text("return 1")
    until(lambda: inotify.has(lost / "m.lua"))
    assert not inotify.log.warnings
    inotify.forget()
    inotify.watcher.check()
    assert not inotify.queue


def test_who_writes_is_forgotten_with_lost_events(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """A file that was closed meanwhile does not count as open for ever, and one that is still open counts again."""
    made = watching("inotify", tmp_path, track_writes=True)
    made.start()
    closed, kept = (tmp_path / name for name in ("closed.lua", "kept.lua"))
    with kept.open("w", buffering=1) as writer:
        with closed.open("w", buffering=1) as other:
            writer.write("return\n")
            other.write("return\n")
            until(lambda: set(made.watcher.writing) == {str(closed), str(kept)})
            fill_the_event_queue(tmp_path)
        until_it_overflowed(made)
        assert str(closed) not in made.watcher.writing
        writer.write("1\n")
        until(lambda: set(made.watcher.writing) == {str(kept)})
    until(lambda: not made.watcher.writing)


def test_what_vanishes_while_it_is_looked_at_does_no_harm(inotify: Watching, tmp_path: Path) -> None:
    """Folders that come and go faster than they can be watched stop nothing, and nothing is logged."""
    for number in range(200):
        folder = tmp_path / f"d{number}"
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "f").touch()
        if number % 10 == 0:
            inotify.settle(tmp_path)
            folder = folder.rename(tmp_path / "renamed")
        shutil.rmtree(folder)
    inotify.settle(tmp_path)
    assert inotify.watcher.engine == "inotify"
    assert not inotify.log.warnings
    assert watches() == 1


def test_an_error_in_one_event_does_not_stop_the_watcher(inotify: Watching, tmp_path: Path) -> None:
    """It is logged, the next check asks for a full look, and later events arrive."""

    def broken() -> None:
        raise ValueError("nobody expects this")

    inotify.queue.on_put = broken
    (tmp_path / "one.lua").touch()
    until(lambda: inotify.log.warnings)
    assert "nobody expects this" in inotify.log.warnings[0]
    inotify.queue.on_put = None
    inotify.forget()
    inotify.watcher.check()
    assert inotify.queue.drain().everything
    inotify.settle(tmp_path)


def test_an_error_in_one_look_does_not_stop_polling(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """It is logged, and the next look takes place."""
    file = tmp_path / "a.lua"
    made = watching("poll", tmp_path)
    made.start(file)
    made.known = None  # type: ignore[assignment]
    until(lambda: made.log.warnings)
    made.known = {str(file): None}
    file.touch()
    until(lambda: made.has(file))


def test_polling_gives_way_to_others(tmp_path: Path) -> None:
    """A look at many files lets other greenlets run in between."""
    known: dict[str, Signature] = {str(tmp_path / f"{number}.lua"): (0, 0, 0, 0) for number in range(6_000)}
    queue = FlushQueue()
    poll = PollWatcher(lambda: known, queue, INTERVAL, Log())
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    counting = gevent.spawn(count)
    poll.check_all()
    counting.kill()
    assert turns > 2
    assert queue.drain().paths == known.keys()


def test_a_stopped_watcher_is_silent_and_may_be_stopped_again(
    watching: Callable[..., Watching], tmp_path: Path
) -> None:
    """After the stop nothing is put, checks and additions do nothing, and the descriptor is given back."""
    before = len(os.listdir("/proc/self/fd"))
    made = watching("inotify", tmp_path)
    made.start()
    made.watcher.stop()
    made.watcher.stop()
    assert len(os.listdir("/proc/self/fd")) == before
    (tmp_path / "a.lua").touch()
    made.watcher.check()
    made.watcher.add_file(str(tmp_path.parent / "m.lua"))
    gevent.sleep(0.001)
    assert not made.queue


def test_the_queue_keeps_each_path_once_and_is_emptied_by_a_drain() -> None:
    """Paths are a set, and missed events are noted beside them."""
    queue = FlushQueue()
    assert not queue
    queue.put("/a")
    queue.put("/a")
    assert queue
    assert queue.drain() == Changes(frozenset({"/a"}), False)
    queue.put_everything()
    assert queue
    assert queue.drain() == Changes(frozenset(), True)
    assert not queue
    assert queue.drain() == Changes(frozenset(), False)


def test_the_first_thing_put_wakes_whoever_waits() -> None:
    """`on_put` is called when the queue was empty, and not again before a drain."""
    queue = FlushQueue()
    calls: list[Changes] = []
    queue.on_put = lambda: calls.append(Changes(frozenset(), True))
    queue.put("/a")
    queue.put("/b")
    queue.put_everything()
    assert len(calls) == 1
    queue.drain()
    queue.put_everything()
    assert len(calls) == 2


def test_changed_compares_with_what_was_noted(tmp_path: Path) -> None:
    """Files that differ, came or went are returned; those that stayed, or stayed away, are not."""
    names = ("same", "grown", "gone", "came", "away")
    paths = {name: str(tmp_path / name) for name in names}
    for name in ("same", "grown", "gone"):
        (tmp_path / name).write_text("1")
    known = {path: signature(path) for path in paths.values()}
    (tmp_path / "grown").write_text("22")
    (tmp_path / "gone").unlink()
    (tmp_path / "came").touch()
    assert changed(known) == {paths["grown"], paths["gone"], paths["came"]}


def test_a_path_that_cannot_be_looked_at_has_no_signature(tmp_path: Path) -> None:
    """A zero byte, a file as folder and a missing file are all the same: not there."""
    (tmp_path / "file").touch()
    assert signature(f"{tmp_path}/a\0b") is None
    assert signature(f"{tmp_path}/file/x") is None
    assert signature(f"{tmp_path}/missing") is None


MOUNTS = """\
2 1 0:21 / /srv rw,relatime shared:7 master:2 - nfs4 filer:/srv rw,vers=4.2
3 2 0:22 / /srv/local rw - xfs /dev/vdb rw
4 1 0:23 / /home/with\\040a\\134blank rw - fuse.sshfs host: rw
5 1 0:24 / /twice rw - autofs systemd-1 rw
6 5 0:25 / /twice rw - smb3 //host/share rw
7 1 0:26 / /data/deep/9p rw - 9p share rw
8 1 0:27 / /disk rw - fuseblk /dev/sdb1 rw
1 0 254:0 / / rw,relatime - ext4 /dev/vda rw

a line that means nothing
"""


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/var/www", ""),
        ("/srv", "nfs4"),
        ("/srv/scripts", "nfs4"),
        ("/srvother", ""),
        ("/srv/local/scripts", ""),
        ("/home/with a\\blank/x", "fuse.sshfs"),
        ("/home/with", ""),
        ("/twice/x", "smb3"),
        ("/data", "9p"),
        ("/data/deep/9p", "9p"),
        ("/data/deep/9", ""),
        ("/disk/x", ""),
        ("/", "nfs4"),
    ],
)
def test_the_longest_mount_point_tells_the_file_system(folder: str, expected: str) -> None:
    """Network file systems on or below the folder are found, and neighbours with a similar name are not."""
    assert silent_filesystem(folder, MOUNTS, with_below=True) == expected


@pytest.mark.parametrize(("folder", "expected"), [("/", ""), ("/data", ""), ("/srv", "nfs4"), ("/twice", "smb3")])
def test_what_is_mounted_below_may_be_left_out(folder: str, expected: str) -> None:
    """For a folder that is watched by itself only its own file system counts."""
    assert silent_filesystem(folder, MOUNTS, with_below=False) == expected


def test_nothing_is_said_of_a_system_without_mountinfo() -> None:
    """An empty text, as where the file is missing, finds nothing."""
    assert silent_filesystem("/srv", "", with_below=True) == ""


def shows_a_change(made: Watching, folder: Path) -> None:
    """Assert that a change in `folder` is noticed."""
    made.forget()
    made.settle(folder)


@pytest.mark.parametrize("engine", ["auto", "inotify"])
def test_a_file_system_that_does_not_tell_is_polled(
    engine: str, watching: Callable[..., Watching], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning names folder and type, and changes are noticed all the same."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / {tmp_path} rw - nfs4 filer:/ rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", str(mountinfo))
    made = watching(engine, tmp_path)
    assert made.watcher.engine == "poll"
    made.start()
    [warning] = made.log.warnings
    assert "nfs4" in warning
    assert str(tmp_path) in warning
    shows_a_change(made, tmp_path)


def test_a_file_added_on_a_silent_file_system_ends_inotify(
    watching: Callable[..., Watching], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on everything is polled, with one warning and one full look."""
    root, share = tmp_path / "root", tmp_path / "share"
    root.mkdir()
    share.mkdir()
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / {share} rw - cifs //host/share rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", str(mountinfo))
    made = watching("auto", root)
    made.start()
    assert made.watcher.engine == "inotify"
    made.add(share / "m.lua")
    assert made.watcher.engine == "poll"
    assert made.queue.drain().everything
    made.add(share / "sub" / "m.lua")
    made.watcher.check()
    assert len(made.log.warnings) == 1
    shows_a_change(made, root)


def test_a_system_without_inotify_is_polled(
    watching: Callable[..., Watching], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the library is missing, as on BSD, a warning says so."""
    monkeypatch.setitem(sys.modules, "inotify_simple", None)
    made = watching("auto", tmp_path)
    made.start()
    assert made.watcher.engine == "poll"
    assert "this system has none" in made.log.warnings[0]
    shows_a_change(made, tmp_path)


def test_polling_by_choice_gives_no_warning(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """Who asks for "poll" gets it without a word."""
    made = watching("poll", tmp_path)
    made.start()
    assert made.watcher.engine == "poll"
    assert not made.log.warnings


def test_without_a_descriptor_to_spare_it_polls(watching: Callable[..., Watching], tmp_path: Path) -> None:
    """EMFILE at the start is one warning, and changes are noticed all the same."""
    watching("auto", tmp_path).watcher.stop()  # loads the C library, which takes descriptors once
    with descriptors_left(0):
        made = watching("auto", tmp_path)
    made.start()
    assert made.watcher.engine == "poll"
    [warning] = made.log.warnings
    assert "fs.inotify.max_user_instances" in warning
    shows_a_change(made, tmp_path)


PREAMBLE = f"""
import os, sys
sys.path[:0] = [{str(PROJECT)!r}]
from pathlib import Path
from tests.reload.test_watcher import Watching, shows_a_change, signature, until
"""


def run(source: str, *arguments: str, before: Sequence[str] = ()) -> str:
    """What a Python program with the names above in reach prints; it must not complain."""
    done = subprocess.run(
        [*before, sys.executable, "-c", PREAMBLE + textwrap.dedent(source), *arguments],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


SCARCE = """
    root, there = Path(sys.argv[1]), int(sys.argv[2])
    Path("/proc/sys/user/max_inotify_watches").write_text("3")
    folders = [root / str(number) for number in range(4)]
    for folder in folders[:there]:
        folder.mkdir()
    made = Watching("auto", root)
    made.start()
    before = made.watcher.engine
    for folder in folders[there:]:
        folder.mkdir()
    until(lambda: made.watcher.engine == "poll")
    assert made.queue.drain().everything or before == "poll"
    shows_a_change(made, root)
    [warning] = made.log.warnings
    print(before, warning)
    made.watcher.stop()
"""


@pytest.mark.parametrize(("there", "before"), [("4", "poll"), ("1", "inotify")])
def test_without_watches_left_it_polls(there: str, before: str, tmp_path: Path) -> None:
    """ENOSPC, at the start or for a folder that comes later, is one warning that names the limit.

    The limit is real: it is lowered in a user namespace of its own.
    """
    unshare = ["unshare", "--user", "--map-root-user"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("user namespaces are not allowed here")
    printed = run(SCARCE, str(tmp_path), there, before=unshare)
    assert printed.startswith(f"{before} ")
    assert "fs.inotify.max_user_watches" in printed


CLOSED = """
    import inotify_simple, tempfile  # while the files of Python can still be read
    if os.geteuid() == 0:
        os.setuid(65534)
    with tempfile.TemporaryDirectory() as name:
        root = Path(os.path.realpath(name))
        closed = root / "closed"
        (closed / "sub").mkdir(parents=True)
        (closed / "sub" / "m.lua").touch()
        closed.chmod(int(sys.argv[1], 8))
        made = Watching("auto", root)
        made.start()
        print(made.watcher.engine, *made.log.warnings)
        closed.chmod(0o755)
        made.known = {str(closed / "sub" / "m.lua"): None}
        until(lambda: made.has(closed / "sub" / "m.lua"))
        shows_a_change(made, closed / "sub")
        made.watcher.stop()
"""


@pytest.mark.parametrize(
    ("mode", "engine", "warned"),
    [("0", "inotify", False), ("644", "inotify", False), ("311", "poll", True)],
)
def test_a_folder_that_may_not_be_listed(mode: str, engine: str, warned: bool) -> None:
    """It is passed over while its files cannot be opened, and polled when they can; opened, it is watched."""
    printed = run(CLOSED, mode)
    assert printed.split()[0] == engine
    assert ("closed: Permission denied" in printed) == warned


CLOSED_FOLDER = """
    import inotify_simple, tempfile  # while the files of Python can still be read
    if os.geteuid() == 0:
        os.setuid(65534)
    with tempfile.TemporaryDirectory() as name:
        root, closed = Path(os.path.realpath(name)) / "root", Path(os.path.realpath(name)) / "closed"
        root.mkdir()
        closed.mkdir()
        for file in ("one.lua", "two.lua"):
            (closed / file).touch()
        closed.chmod(0o311)
        made = Watching("auto", root)
        made.start(closed / "one.lua", closed / "two.lua")
        with (closed / "two.lua").open("w") as opened:
            opened.write("return 2")
        until(lambda: made.has(closed / "two.lua"))
        print(made.watcher.engine, len(made.log.warnings), *made.log.warnings)
        closed.chmod(0o755)
        made.watcher.stop()
"""


def test_a_file_in_a_folder_that_may_not_be_listed() -> None:
    """It alone is polled, with one warning for its folder; the rest is watched."""
    printed = run(CLOSED_FOLDER)
    assert printed.startswith("inotify 1 inotify cannot be used (")
    assert "/closed: Permission denied): " in printed


def test_the_library_is_loaded_by_the_engine_that_needs_it() -> None:
    """Polling stays free of ctypes, which inotify_simple brings."""
    source = """
        import sys
        from greenfcgi.reload.flush_queue import FlushQueue
        from greenfcgi.reload.watcher import watch
        watch("poll", [], dict, FlushQueue(), 1.0, None)
        print(sorted({"inotify_simple", "ctypes", "subprocess"} & set(sys.modules)))
    """
    assert run_alone(source) == "[]"


# The library is imported with a stand-in for ctypes.util in its place.
LIGHT = """
    import os, sys
    import gevent
    from greenfcgi.reload.flush_queue import FlushQueue
    from greenfcgi.reload.watcher import watch

    class Log:
        def info(self, text): pass
        def warning(self, text, detail=""): print(text)

    queue = FlushQueue()
    watcher = watch("inotify", [sys.argv[1]], dict, queue, 1.0, Log())
    watcher.start()
    queue.drain()
    loaded = {"ctypes.util", "subprocess", "tempfile"} & set(sys.modules)
    os.mkdir(os.path.join(sys.argv[1], "new"))
    with gevent.Timeout(5):
        while not queue:
            gevent.sleep(0.002)
    print(watcher.engine, sorted(loaded), *queue.drain().paths)
"""


def test_the_library_brings_neither_subprocess_nor_tempfile(tmp_path: Path) -> None:
    """They are what costs most of it, and inotify works without them."""
    assert run_alone(LIGHT, str(tmp_path)) == f"inotify [] {tmp_path / 'new'}"


@pytest.mark.parametrize("first", ["ctypes.util", "sys"])
def test_others_get_the_real_ctypes_util(first: str, tmp_path: Path) -> None:
    """Whether it is imported before the watcher is made or afterwards."""
    source = textwrap.dedent(LIGHT) + textwrap.dedent("""
        import ctypes.util
        from ctypes import util
        print(util is ctypes.util is sys.modules["ctypes.util"], ctypes.util.find_library("c") is not None)
        print(util.find_library.__code__.co_filename == util.__file__)
    """)
    printed = run_alone(f"import {first}\n{source}", str(tmp_path))
    assert printed.splitlines()[-2:] == ["True True", "True"]


def run_alone(source: str, *arguments: str) -> str:
    """What a Python program prints that has nothing imported yet, not even this file."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        cwd=PROJECT, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.strip()
