"""Tells which files have changed by inotify: it watches folders, never files, and puts paths into a flush queue.

inotify is silent about a file that is written through a hard link in a folder not watched, about one cut by
truncate(2) without being opened, and on the file systems that `filesystems` knows.
"""

import errno
import os
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import gevent

from .filesystems import must_tell
from .flush_queue import FlushQueue
from .folders import Place, complete, entries, place
from .lines import traceback_of
from .polling import ErrorLogLike, PollWatcher
from .standins import stand_in

# Bytes of events read in one turn of the loop: some 130 events, 1 ms. The rest keeps the descriptor readable.
_READ = 4096

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
    """Watches `folders` with all below them, and each added folder by itself; links to folders are not followed.

    When it can no longer do so, it hands over to `poll` for good, and says so in one warning.
    """

    def __init__(
        self, folders: Sequence[str], queue: FlushQueue, poll: PollWatcher, log: ErrorLogLike, notice_writing: bool
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
        #: The folders to watch by themselves, likewise.
        self._added: dict[str, Place | None] = {}
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

    def add_folder(self, path: str) -> None:
        """Watch `path` too, unless it is below a root.

        Not what is below it: a script may have read a file of any folder, "/" among them. Puts everything: a
        file in it may have changed between its reading and this.
        """
        if path in self._added or path in self._roots or self._is_below_root(os.path.realpath(path)):
            return
        self._added[path] = None
        if self._running and self.engine == "inotify":
            self._unless_impossible(lambda: self._watch_added(path))
            self._queue.put_everything()

    def check(self) -> None:
        """Begin again if a folder came, went or leads elsewhere (a link was flipped), or events were lost."""
        if not self._running or self.engine != "inotify":
            return
        if self._lost_track or not self._are_in_place():
            self._unless_impossible(self._begin_again)

    def _are_in_place(self) -> bool:
        """Whether all folders asked for lead where they did, and are watched there.

        A folder that was removed and made anew may have got the same inode, but its watch has gone.
        """
        watched = set(self._folders.values())
        return all(
            place(folder) == before and (before is None or before.path in watched)
            for folder, before in (*self._roots.items(), *self._added.items())
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
        self._readable.stop()
        self._readable.close()
        self._inotify.close()
        self._folders.clear()

    def _begin_again(self) -> None:
        """Watch every folder as it is now, and no other. Watches that stay are kept, so no event is lost."""
        before, self._folders = self._folders, {}
        for root in self._roots:
            self._watch_root(root)
        for folder in self._added:
            self._watch_added(folder)
        for descriptor in before.keys() - self._folders.keys():
            self._remove(descriptor)
        self._lost_track = False
        self._queue.put_everything()

    def _watch_root(self, root: str) -> None:
        found = self._roots[root] = place(root)
        if found is not None:
            must_tell(found.path, with_below=True)
            self._watch_tree(found.path, tell=False)

    def _watch_added(self, folder: str) -> None:
        found = self._added[folder] = place(folder)
        if found is not None:
            must_tell(found.path, with_below=False)
            self._watch_folder(found.path)

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
        if mask & flags.ISDIR:
            self._take_folder(path, mask)
        elif mask & flags.MODIFY or (mask & flags.CREATE and not complete(path)):
            self.writing.add(path)
            return
        self.writing.discard(path)
        self._queue.put(path)

    def _take_folder(self, path: str, mask: int) -> None:
        """A folder came, went or may have become readable. One deleted is told by its own IGNORED."""
        if not self._is_below_root(path):
            return
        if mask & self._flags.MOVED_FROM:
            self._forget_tree(path)
        elif not mask & self._flags.DELETE:
            self._watch_tree(path, tell=True)
