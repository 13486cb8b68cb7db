"""Tells which files have changed by inotify: it watches folders, never files, and puts paths into a flush queue.

Beside some folders with all below them, it watches the folders of single files, and those of all links on the way to
them: a file counts as changed when one of these leads elsewhere.

inotify is silent about a file that is written through a hard link in a folder not watched, and about one that is
mounted by itself: these are polled. It is silent about a file cut by truncate(2) without being opened, and on the file
systems that `filesystems` knows.
"""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import gevent

from ..logs.text import traceback_of
from ..scripts.file_signature import Signature
from ..system.stub_modules import stand_in
from .directories import Place, complete, entries, has_other_names, place, way
from .flush_queue import FlushQueue
from .links import Ways
from .mounts import mount_points, must_tell
from .polling import ErrorLogLike, PollWatcher

# Bytes of events read in one turn of the loop: some 130 events, 1 ms. The rest keeps the descriptor readable.
_READ = 4096

# Added files, some of which may not count any more.
_MAX_FILES = 5_000

# How often a way is looked for that changes all the while.
_TRIES = 10

# A folder that cannot be watched for one of these has gone, or nothing in it can be opened by its path.
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


def reason(error: OSError) -> str:
    """Why inotify cannot be used, with the limit that the operator may raise."""
    if error.errno == errno.ENOSPC:
        return "no watches are left; fs.inotify.max_user_watches is the limit"
    if error.errno == errno.EMFILE:
        return "no instance is left; fs.inotify.max_user_instances or the number of open files is the limit"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _import_inotify() -> ModuleType:
    """inotify_simple without ctypes.util. Raises ImportError where it is missing.

    It asks ctypes.util for the name of the C library. That imports subprocess, tempfile, random and others, and
    runs ldconfig: 1.3 MB of resident memory in a running server, and 10 ms (Python 3.11, x86-64). When the answer
    is None, ctypes opens the process itself, which has the C library already.
    """
    with stand_in("ctypes.util", find_library=lambda name: None):
        import inotify_simple
    return inotify_simple  # type: ignore[no-any-return]


class InotifyWatcher:
    """Watches `folders` with all below them, where links to folders are not followed, and each added file.

    When it can no longer do so, it hands over to `poll` for good, and says so in one warning. `known` are the files
    that count: others that were added are forgotten in time.
    """

    def __init__(
        self,
        folders: Sequence[str],
        known: Callable[[], Mapping[str, Signature]],
        queue: FlushQueue,
        poll: PollWatcher,
        log: ErrorLogLike,
        notice_writing: bool,
    ) -> None:
        """Raise OSError, ImportError or AttributeError where inotify cannot be used."""
        for folder in folders:
            must_tell(os.path.realpath(folder), with_below=True)
        inotify_simple = _import_inotify()

        self.engine = "inotify"
        self._flags = flags = inotify_simple.flags
        self._parse = inotify_simple.parse_events
        self._mask = int(
            flags.CLOSE_WRITE | flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.ATTRIB
            | flags.MOVE_SELF | flags.ONLYDIR | flags.DONT_FOLLOW
        )  # fmt: skip
        if notice_writing:
            self._mask |= int(flags.MODIFY)
        #: Files that somebody is writing, where that is noticed.
        self.writing: set[str] = set()
        self._inotify = inotify_simple.INotify(nonblocking=True)
        self._readable = gevent.get_hub().loop.io(self._inotify.fileno(), 1)
        self._queue = queue
        self._poll = poll
        self._log = log
        #: The folders to watch with all below them, and where each led when it was last looked at.
        self._roots: dict[str, Place | None] = dict.fromkeys(folders)
        self._known = known
        #: The added files.
        self._ways = Ways()
        #: The folders that are watched for them, by themselves, by their real paths.
        self._alone: dict[str, Place | None] = {}
        #: Those of the added files that are polled, and the folders and files of which a warning has said so.
        self._polled: set[str] = set()
        self._warned: set[str] = set()
        self._some = poll.only(self._polled)
        self._mounts: frozenset[str] = frozenset()
        #: With more added files than this, those that do not count any more are forgotten.
        self._max_files = _MAX_FILES
        #: Watch descriptor to the folder's real path.
        self._folders: dict[int, str] = {}
        self._running = False
        self._lost_track = False

    def start(self) -> None:
        """Watch all folders. Puts everything: what happened to files read earlier is not known."""
        self._running = True
        self._readable.start(self._on_readable)
        self._unless_impossible(self._begin_again)
        if self.engine == "inotify":
            self._log.info(f"inotify watches {len(self._folders)} folders")

    def stop(self) -> None:
        """Watch no longer, and give everything back to the kernel."""
        self._running = False
        self._close()
        self._poll.stop()

    def add_file(self, path: str) -> None:
        """Watch the folder of the file, and those of the links on the way to it, unless they are below a root.

        Not what is below these: a script may have read a file of any folder, "/" among them.
        """
        if self._running and self.engine == "inotify":
            self._unless_impossible(lambda: self._follow(path))
        else:
            self._ways.put(path, ())

    def check(self) -> None:
        """Begin again if a folder came, went or leads elsewhere (a link was flipped), or events were lost."""
        if not self._running or self.engine != "inotify":
            return
        is_in_place = len(self._ways) <= self._max_files and self._are_in_place() and not self._are_mounts_new()
        if self._lost_track or not is_in_place:
            self._unless_impossible(self._begin_again)

    def _are_mounts_new(self) -> bool:
        """Whether something has been mounted, or is not any more, where files count."""
        before, self._mounts = self._mounts, mount_points()
        return any(
            self._is_below_root(point) or self._ways.touched(point) or self._is_above(point)
            for point in before ^ self._mounts
        )

    def _is_above(self, folder: str) -> bool:
        """Whether something is watched below `folder`."""
        below = folder.rstrip("/") + "/"
        return any(watched.startswith(below) for watched in self._folders.values())

    def _are_in_place(self) -> bool:
        """Whether all folders asked for lead where they did, and are watched there.

        A folder that was removed and made anew may have got the same inode, but its watch has gone.
        """
        watched = set(self._folders.values())
        return all(
            place(folder) == before and (before is None or before.path in watched)
            for folder, before in (*self._roots.items(), *self._alone.items())
        )

    def _is_below_root(self, real: str) -> bool:
        """Whether `real`, a real path, is a root or below one, and so watched with all below it."""
        roots = (root.path.rstrip("/") + "/" for root in self._roots.values() if root)
        return f"{real}/".startswith(tuple(roots))

    def _unless_impossible(self, work: Callable[[], object]) -> None:
        """Do `work`; when inotify cannot, poll from now on."""
        try:
            work()
        except OSError as error:
            self._close()
            self.engine = self._poll.engine
            self._log.warning(self._poll.instead(reason(error)))
            self._poll.start()
            self._queue.put_everything()

    def _close(self) -> None:
        self._some.stop()
        self._readable.stop()
        self._readable.close()
        self._inotify.close()
        self._folders.clear()

    def _begin_again(self) -> None:
        """Watch every folder as it is now, and no other. Watches that stay are kept, so no event is lost."""
        before, self._folders = self._folders, {}
        self._alone.clear()
        self._polled.clear()
        self._mounts = mount_points()
        for root in self._roots:
            self._watch_root(root)
        if len(self._ways) > self._max_files:
            self._ways.keep(self._known().keys())
            self._max_files = max(_MAX_FILES, 2 * len(self._ways))
        for file in self._ways.files():
            self._follow(file)
        for descriptor in before.keys() - self._folders.keys():
            self._remove(descriptor)
        self._lost_track = False
        self._queue.put_everything()

    def _watch_root(self, root: str) -> None:
        found = self._roots[root] = place(root)
        if found is not None:
            must_tell(found.path, with_below=True)
            self._watch_tree(found.path, tell=False)

    def _follow(self, file: str) -> None:
        """Watch the way to a file as it is now. Each watch comes first, and the look where the way leads second."""
        found = way(file)
        # A link that is flipped again and again is told of again and again.
        for _ in range(_TRIES):
            for one in found:
                self._watch_alone(os.path.dirname(one), file)
            before, found = found, way(file)
            if found == before:
                break
        self._ways.put(file, found)
        self._poll_if_silent(file)

    def _watch_alone(self, folder: str, file: str) -> None:
        if folder in self._alone or self._is_below_root(folder):
            return
        found = self._alone[folder] = place(folder)
        if found is not None:
            must_tell(found.path, with_below=False)
            try:
                self._watch_folder(found.path)
            except OSError as error:
                if error.errno != errno.EACCES:
                    raise
                del self._alone[folder]
                self._poll_file(file, folder, reason(error))

    def _poll_if_silent(self, file: str) -> None:
        """Poll a file that can be changed by another name, or in another place, without a word."""
        places = self._ways.places(file)
        if places and places[-1] in self._mounts and not os.path.isdir(places[-1]):
            self._poll_file(file, places[-1], f"{places[-1]} is mounted by itself")
        elif has_other_names(file):
            # As many deployments and backups make it, and no reason to worry.
            self._poll_file(file, file, "")

    def _poll_file(self, file: str, because_of: str, why: str) -> None:
        self._polled.add(file)
        self._some.start()
        if why and because_of not in self._warned:
            self._warned.add(because_of)
            self._log.warning(self._poll.instead(why, f"{file} is"))

    def _watch_tree(self, top: str, tell: bool) -> None:
        """Watch `top` and all folders below it; `tell`: put the files in those that were not watched before.

        The watch comes first and the look inside second, so a file is seen by one or the other.
        """
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            is_new = self._watch_folder(folder)
            for path, is_folder in entries(folder):
                if is_folder:
                    waiting.append(path)
                elif is_new and tell:
                    self._queue.put(path)

    def _watch_folder(self, folder: str) -> bool:
        """Whether `folder` is watched from now on, and was not under this path before."""
        try:
            descriptor = self._inotify.add_watch(folder, self._mask)
        except OSError as error:
            if error.errno in _GONE:
                return False
            # Not to be listed: files in it count only if they can be opened all the same.
            if error.errno == errno.EACCES and not os.access(folder, os.X_OK):
                return False
            raise OSError(error.errno, error.strerror, folder) from None
        # The kernel answers with the same descriptor for a folder that has been renamed.
        was = self._folders.get(descriptor)
        self._folders[descriptor] = folder
        return was != folder

    def _forget_tree(self, top: str) -> None:
        below = top + "/"
        for descriptor, folder in tuple(self._folders.items()):
            if folder == top or folder.startswith(below):
                del self._folders[descriptor]
                self._remove(descriptor)

    def _remove(self, descriptor: int) -> None:
        try:
            self._inotify.rm_watch(descriptor)
        except OSError as error:
            # The folder has gone, and its watch with it.
            if error.errno != errno.EINVAL:
                raise

    def _on_readable(self) -> None:
        try:
            self._unless_impossible(self._read)
        except Exception as error:  # the border to the hub: one bad event must not be the last
            self._lost_track = True
            self._log.warning(f"an inotify event failed, all files will be looked at: {error!r}", traceback_of(error))

    def catch_up(self) -> None:
        """Take what has happened until now."""
        more = True

        def read() -> None:
            nonlocal more
            more = self._read()

        while more and self._running and self.engine == "inotify":
            self._unless_impossible(read)

    def _read(self) -> bool:
        """Take some events; False when there are none."""
        try:
            data = os.read(self._inotify.fileno(), _READ)
        except BlockingIOError:
            return False
        for event in self._parse(data):
            self._take(event)
        return True

    def _take(self, event: Any) -> None:
        flags, mask = self._flags, event.mask
        if mask & flags.Q_OVERFLOW:
            # The folders are looked through at the next check: in a burst that is once for many overflows.
            self._lost_track = True
            self._queue.put_everything()
            return
        gone = mask & flags.IGNORED
        folder = self._folders.pop(event.wd, None) if gone else self._folders.get(event.wd)
        if folder is None:
            return
        path = os.path.join(folder, event.name) if event.name else folder
        is_below_root = self._is_below_root(folder)
        if mask & (flags.IGNORED | flags.MOVE_SELF) and not is_below_root:
            # What has its path now is watched when the files are followed.
            self._alone.pop(folder, None)
            if not gone:
                del self._folders[event.wd]
                self._remove(event.wd)
        is_folder = bool(mask & flags.ISDIR) or not event.name
        files = self._ways.touched(path) if is_folder else self._ways.at(path)
        if not (files or is_below_root):
            # Beside a file that counts, there may be many others.
            return
        if mask & flags.ISDIR:
            self._take_folder(path, mask)
        elif mask & flags.MODIFY or (mask & flags.CREATE and not complete(path)):
            self.writing.add(path)
            return
        self.writing.discard(path)
        self._queue.put(path)
        for file in list(files):
            self._queue.put(file)
            self._follow(file)

    def _take_folder(self, path: str, mask: int) -> None:
        """A folder came, went or may have become readable. One deleted is told by its own IGNORED."""
        if not self._is_below_root(path):
            return
        if mask & self._flags.MOVED_FROM:
            self._forget_tree(path)
        elif not mask & self._flags.DELETE:
            self._watch_tree(path, tell=True)
