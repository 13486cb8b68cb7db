"""Finds changed files by inotify: it watches folders, never files, and puts paths into a flush queue.

Beside some folders with all below them, it watches the folders of single files, and those of all links that lead to
them: a file counts as changed when one of these is.

inotify is silent about a file that is written through a hard link in a folder not watched, and about one that is
mounted by itself: these are polled. It is silent about a file cut by truncate(2) without being opened, and on the file
systems that `mounts` knows.
"""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from types import ModuleType
from typing import Any

import gevent

from ..logs.text import counted, traceback_of
from ..scripts.file_signature import Signature
from ..system.stub_modules import stand_in
from .directories import Location, entries, has_hard_links, is_complete, link_chain, locate
from .flush_queue import FlushQueue
from .links import LinkIndex
from .mounts import mount_points, require_events
from .polling import ErrorLogLike, PollWatcher

# Bytes of events read in one turn of the loop: some 130 events, 1 ms. The rest keeps the descriptor readable.
_READ_SIZE = 4096

# Added files that are kept before those that do not matter any more are forgotten.
_MAX_FILES = 5_000

# How often a link chain is read that changes all the while.
_TRIES = 10

# Errors of watching a folder that has gone, or in which nothing can be opened by its path.
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


def reason(error: OSError) -> str:
    """Why inotify cannot be used, with the limit that an operator may raise."""
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

    When it can no longer do so, it hands over to `poll` for good, and logs one warning. `known` are the files
    that matter: others that were added are forgotten in time.
    """

    def __init__(
        self,
        folders: Sequence[str],
        known: Callable[[], Mapping[str, Signature]],
        queue: FlushQueue,
        poll: PollWatcher,
        log: ErrorLogLike,
        track_writes: bool,
    ) -> None:
        """Raise OSError, ImportError or AttributeError where inotify cannot be used."""
        for folder in folders:
            require_events(os.path.realpath(folder), with_below=True)
        inotify_simple = _import_inotify()

        self.engine = "inotify"
        self._flags = flags = inotify_simple.flags
        self._parse = inotify_simple.parse_events
        self._mask = int(
            flags.CLOSE_WRITE | flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.ATTRIB
            | flags.MOVE_SELF | flags.ONLYDIR | flags.DONT_FOLLOW
        )  # fmt: skip
        if track_writes:
            self._mask |= int(flags.MODIFY)
        #: As `Watcher.writing` says; empty unless `track_writes`.
        self.writing: dict[str, int] = {}
        self._writers = count()
        self._inotify = inotify_simple.INotify(nonblocking=True)
        self._readable = gevent.get_hub().loop.io(self._inotify.fileno(), 1)
        self._queue = queue
        self._poll = poll
        self._log = log
        #: The folders to watch with all below them, and where each led when it was last checked.
        self._roots: dict[str, Location | None] = dict.fromkeys(folders)
        self._known = known
        #: The added files, with the links that lead to them.
        self._links = LinkIndex()
        #: The folders that are watched for them, without those below, by their real paths.
        self._file_folders: dict[str, Location | None] = {}
        #: Those of the added files that are polled, and the folders and files of which a warning has said so.
        self._polled: set[str] = set()
        self._warned: set[str] = set()
        self._poll_of_some = poll.restricted_to(self._polled)
        self._mounts: frozenset[str] = frozenset()
        #: With more added files than this, those that do not matter any more are forgotten.
        self._max_files = _MAX_FILES
        #: Watch descriptor to the folder's real path.
        self._folders: dict[int, str] = {}
        self._running = False
        self._has_missed_events = False

    def start(self) -> None:
        """Watch all folders. All known files are to be checked: what happened to them before is not known."""
        self._running = True
        self._readable.start(self._on_readable)
        self._or_poll(self._watch_all)
        if self.engine == "inotify":
            self._log.info(f"inotify watches {counted(len(self._folders), 'folder')}")

    def stop(self) -> None:
        """Stop watching, and give everything back to the kernel."""
        self._running = False
        self._close()
        self._poll.stop()

    def add_file(self, path: str) -> None:
        """Watch the folder of the file, and those of the links that lead to it, unless they are below a root.

        Not what is below these: a script may have read a file in any folder, even in "/".
        """
        if self._running and self.engine == "inotify":
            self._or_poll(lambda: self._follow(path))
        else:
            self._links.put(path, ())

    def check(self) -> None:
        """Watch all again if a folder came, went or leads elsewhere (a link was flipped), or events were lost."""
        if not self._running or self.engine != "inotify":
            return
        is_in_place = len(self._links) <= self._max_files and self._are_in_place() and not self._are_mounts_new()
        if self._has_missed_events or not is_in_place:
            self._or_poll(self._watch_all)

    def _are_mounts_new(self) -> bool:
        """Whether something has been mounted, or is not any more, where files matter."""
        before, self._mounts = self._mounts, mount_points()
        return any(
            self._is_below_root(point) or self._links.affected_by(point) or self._is_above(point)
            for point in before ^ self._mounts
        )

    def _is_above(self, folder: str) -> bool:
        """Whether something is watched below `folder`."""
        below = folder.rstrip("/") + "/"
        return any(watched.startswith(below) for watched in self._folders.values())

    def _are_in_place(self) -> bool:
        """Whether all folders asked for lead where they did, and are watched there.

        A folder that was removed and made again may have got the same inode, but its watch has gone.
        """
        watched = set(self._folders.values())
        return all(
            locate(folder) == before and (before is None or before.path in watched)
            for folder, before in (*self._roots.items(), *self._file_folders.items())
        )

    def _is_below_root(self, real: str) -> bool:
        """Whether `real`, a real path, is a root or below one, and so watched with all below it."""
        roots = (root.path.rstrip("/") + "/" for root in self._roots.values() if root)
        return f"{real}/".startswith(tuple(roots))

    def _or_poll(self, work: Callable[[], object]) -> None:
        """Do `work`; when it raises OSError, poll from now on."""
        try:
            work()
        except OSError as error:
            self._close()
            self.engine = self._poll.engine
            self._log.warning(self._poll.fallback_warning(reason(error)))
            self._poll.start()
            self._queue.put_everything()

    def _close(self) -> None:
        self._poll_of_some.stop()
        self._readable.stop()
        self._readable.close()
        self._inotify.close()
        self._folders.clear()

    def _watch_all(self) -> None:
        """Watch every folder as it is now, and no other. Watches that still hold are kept, so that no event is lost."""
        before, self._folders = self._folders, {}
        self._file_folders.clear()
        self._polled.clear()
        self._mounts = mount_points()
        for root in self._roots:
            self._watch_root(root)
        if len(self._links) > self._max_files:
            self._links.keep(self._known().keys())
            # Twice what is left: else every further file would have all of them looked through again.
            self._max_files = max(_MAX_FILES, 2 * len(self._links))
        for file in self._links.files():
            self._follow(file)
        for descriptor in before.keys() - self._folders.keys():
            self._remove(descriptor)
        self._has_missed_events = False
        self._queue.put_everything()

    def _watch_root(self, root: str) -> None:
        found = self._roots[root] = locate(root)
        if found is not None:
            require_events(found.path, with_below=True)
            self._watch_tree(found.path, put_files=False)

    def _follow(self, file: str) -> None:
        """Watch the links that lead to a file now. Each is watched first, and followed second."""
        found = link_chain(file)
        # A link that is flipped all the while has an event each time.
        for _ in range(_TRIES):
            for one in found:
                self._watch_folder_of(os.path.dirname(one), file)
            before, found = found, link_chain(file)
            if found == before:
                break
        self._links.put(file, found)
        self._poll_if_silent(file)

    def _watch_folder_of(self, folder: str, file: str) -> None:
        if folder in self._file_folders or self._is_below_root(folder):
            return
        found = self._file_folders[folder] = locate(folder)
        if found is not None:
            require_events(found.path, with_below=False)
            try:
                self._watch_folder(found.path)
            except OSError as error:
                if error.errno != errno.EACCES:
                    raise
                del self._file_folders[folder]
                self._poll_file(file, folder, reason(error))

    def _poll_if_silent(self, file: str) -> None:
        """Poll a file that can be changed without an event, by another name or where it is mounted from."""
        chain = self._links.chain(file)
        if chain and chain[-1] in self._mounts and not os.path.isdir(chain[-1]):
            self._poll_file(file, chain[-1], f"{chain[-1]} is mounted by itself")
        elif has_hard_links(file):
            # As many deployments and backups make it: no reason for a warning.
            self._poll_file(file, file, "")

    def _poll_file(self, file: str, because_of: str, why: str) -> None:
        self._polled.add(file)
        self._poll_of_some.start()
        if why and because_of not in self._warned:
            self._warned.add(because_of)
            self._log.warning(self._poll.fallback_warning(why, f"{file} is"))

    def _watch_tree(self, top: str, put_files: bool) -> None:
        """Watch `top` and all folders below it; with `put_files`, put the files in those that were not watched before.

        Each folder is watched first and listed second, so that a file is seen by one or the other.
        """
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            is_new = self._watch_folder(folder)
            for path, is_folder in entries(folder):
                if is_folder:
                    waiting.append(path)
                elif is_new and put_files:
                    self._queue.put(path)

    def _watch_folder(self, folder: str) -> bool:
        """Whether `folder` is watched from now on, and was not under this path before."""
        try:
            descriptor = self._inotify.add_watch(folder, self._mask)
        except OSError as error:
            if error.errno in _GONE:
                return False
            # It cannot be listed: files in it matter only if they can be opened all the same.
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
        self.writing = {path: number for path, number in self.writing.items() if not path.startswith(below)}

    def _remove(self, descriptor: int) -> None:
        try:
            self._inotify.rm_watch(descriptor)
        except OSError as error:
            # The folder has gone, and its watch with it.
            if error.errno != errno.EINVAL:
                raise

    def _on_readable(self) -> None:
        try:
            self._or_poll(self._read)
        except Exception as error:  # the border to the hub: a failure must not be the last event
            self._miss_events()
            self._log.warning(f"an inotify event failed, all files will be checked: {error!r}", traceback_of(error))

    def _miss_events(self) -> None:
        """Some are lost. All is watched again at the next `check`."""
        self._has_missed_events = True
        # They may have been closed meanwhile. Who goes on writing is noticed again.
        self.writing.clear()

    def catch_up(self) -> None:
        """Take what has happened until now."""
        more = True

        def read() -> None:
            nonlocal more
            more = self._read()

        while more and self._running and self.engine == "inotify":
            self._or_poll(read)

    def _read(self) -> bool:
        """Take some events; False when there are none."""
        try:
            data = os.read(self._inotify.fileno(), _READ_SIZE)
        except BlockingIOError:
            return False
        for event in self._parse(data):
            self._on_event(event)
        return True

    def _on_event(self, event: Any) -> None:
        flags, mask = self._flags, event.mask
        if mask & flags.Q_OVERFLOW:
            # In a burst, once for many overflows.
            self._miss_events()
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
            self._file_folders.pop(folder, None)
            if not gone:
                del self._folders[event.wd]
                self._remove(event.wd)
        is_folder = bool(mask & flags.ISDIR) or not event.name
        files = self._links.affected_by(path) if is_folder else self._links.through(path)
        if not (files or is_below_root):
            # In the folder of a file that matters, there may be many others.
            return
        if mask & flags.ISDIR:
            self._on_folder(path, mask)
        elif mask & flags.MODIFY or (mask & flags.CREATE and not is_complete(path)):
            if path not in self.writing:
                self.writing[path] = next(self._writers)
            return
        self.writing.pop(path, None)
        self._queue.put(path)
        for file in list(files):
            self._queue.put(file)
            self._follow(file)

    def _on_folder(self, path: str, mask: int) -> None:
        """A folder came, went or may have become readable. One that was deleted has an IGNORED of its own."""
        if not self._is_below_root(path):
            return
        if mask & self._flags.MOVED_FROM:
            self._forget_tree(path)
        elif not mask & self._flags.DELETE:
            self._watch_tree(path, put_files=True)
