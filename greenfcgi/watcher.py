"""Tells which files have changed: by inotify where that works, else by looking at them in turn.

It knows neither scripts nor states. The paths go into a flush queue, which somebody else drains. A path there
is a file's or a folder's; a folder's stands for everything below it. It may be there although nothing has
changed (a swap file, a CREATE that a CLOSE_WRITE follows); the reverse must not happen. Paths are real
ones (`os.path.realpath`), so what `known` returns must be real paths too.

inotify is silent about a file that is written through a hard link in a folder not watched, and about one cut
by truncate(2) without being opened.
"""

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import gevent

from .signature import Signature, signature

#: Where Linux tells what is mounted; elsewhere it is missing, and nothing is known of the file systems.
MOUNTINFO = "/proc/self/mountinfo"

# Another machine can change their files unnoticed by this kernel. After the list in coreutils, whose
# `tail -f` has the same choice to make.
_SILENT = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "ocfs2", "prl_fs", "vboxsf", "virtiofs"}
)
_SILENT_PREFIXES = ("fuse.", "smb")

# Bytes of events read in one turn of the loop: some 130 events, 1 ms. The rest keeps the descriptor readable.
_READ = 4096

# Seconds of looking at files before other greenlets get a turn, and how long that turn is at least.
_TURN = 0.001

# A folder that cannot be watched for one of these has gone, or nothing in it can be opened by its path.
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class ErrorLogLike(Protocol):
    """What a watcher needs of an error log."""

    def info(self, text: str, /) -> object: ...

    def warning(self, text: str, /) -> object: ...


class Watcher(Protocol):
    """What both engines offer. Made, started and stopped once each, in the process that uses it."""

    #: "inotify" or "poll": what is at work now.
    engine: str

    def start(self) -> None:
        """Begin to watch."""

    def stop(self) -> None:
        """Watch no longer. Harmless when repeated."""

    def add_folder(self, path: str) -> None:
        """Watch this folder too, with all below it; it need not exist yet. Cheap when it is watched."""

    def check(self) -> None:
        """See whether the folders are still where they were. To be called about once a second."""


class Changes(NamedTuple):
    """What a flush queue held: changed paths, and whether a look at everything known is due."""

    paths: frozenset[str]
    everything: bool


class FlushQueue:
    """Changed paths, each once, until somebody drains them."""

    def __init__(self) -> None:
        #: Called when something is put into the empty queue, perhaps in the hub: it must not wait.
        self.on_put: Callable[[], None] | None = None
        self._paths: set[str] = set()
        self._everything = False

    def __bool__(self) -> bool:
        return self._everything or bool(self._paths)

    def put(self, path: str) -> None:
        """`path`, or something below it, has changed."""
        was_empty = not self
        self._paths.add(path)
        self._tell(was_empty)

    def put_everything(self) -> None:
        """Changes may have been missed: a look at everything is due."""
        was_empty = not self
        self._everything = True
        self._tell(was_empty)

    def drain(self) -> Changes:
        """Everything put since the last time; the queue is empty afterwards."""
        changes = Changes(frozenset(self._paths), self._everything)
        self._paths.clear()
        self._everything = False
        return changes

    def _tell(self, was_empty: bool) -> None:
        if was_empty and self.on_put is not None:
            self.on_put()


def watch(
    engine: str,
    folders: Sequence[str],
    known: Callable[[], Mapping[str, Signature]],
    queue: FlushQueue,
    poll_interval: float,
    log: ErrorLogLike,
) -> "InotifyWatcher | PollWatcher":
    """A watcher, not started yet. `engine` is "auto", "inotify" or "poll".

    Where inotify cannot do it, the watcher polls, and one warning says why: with "inotify" too, since a
    service that notices changes late is better than none. `known` returns what polling looks at,
    `poll_interval` is in seconds.
    """
    poll = PollWatcher(known, queue, poll_interval, log)
    if engine == "poll":
        return poll
    try:
        return InotifyWatcher(folders, queue, poll, log)
    except (ImportError, AttributeError):
        reason = "this system has none"
    except OSError as error:
        reason = _reason(error)
    log.warning(poll.instead(reason))
    return poll


def silent_filesystem(folder: str, mountinfo: str) -> str:
    """The type of a file system on or below `folder` that does not tell all changes; "" when all do.

    `folder` is a real path, `mountinfo` the text of /proc/self/mountinfo (proc_pid_mountinfo(5)).
    """
    inside = folder.rstrip("/") + "/"
    mounts: dict[str, str] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) > 4 and right:
            mounts[_unescaped(fields[4])] = right.split(" ")[0]
    above = [point for point in mounts if inside.startswith(point.rstrip("/") + "/")]
    below = [point for point in mounts if point.startswith(inside)]
    kinds = [mounts[point] for point in sorted(above, key=len)[-1:] + below]
    return next((kind for kind in kinds if kind in _SILENT or kind.startswith(_SILENT_PREFIXES)), "")


def _unescaped(field: str) -> str:
    """`field` with the kernel's octal escapes (of space, tab, newline and backslash) resolved."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


def _must_tell(folder: str) -> None:
    """Raise OSError when `folder`, a real path, has a file system on which inotify misses changes."""
    try:
        with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
            kind = silent_filesystem(folder, file.read())
    except OSError:
        return
    if kind:
        raise OSError(None, f"another machine may change files on {kind} unnoticed", folder)


def _reason(error: OSError) -> str:
    """Why inotify cannot be used, with the limit that the operator may raise."""
    if error.errno == errno.ENOSPC:
        return "no watches are left; fs.inotify.max_user_watches is the limit"
    if error.errno == errno.EMFILE:
        return "no instance is left; fs.inotify.max_user_instances or the number of open files is the limit"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


class PollWatcher:
    """Looks at every known file, one after the other, every `interval` seconds.

    A look gives way after each millisecond; still, a file server that does not answer blocks it, and with it
    the process.
    """

    def __init__(
        self,
        known: Callable[[], Mapping[str, Signature]],
        queue: FlushQueue,
        interval: float,
        log: ErrorLogLike,
    ) -> None:
        self.engine = "poll"
        self._known = known
        self._queue = queue
        self._interval = interval
        self._log = log
        self._looking: gevent.Greenlet[..., None] | None = None

    def start(self) -> None:
        """Begin to look; the first time after one interval."""
        self._looking = gevent.spawn(self._look_again_and_again)

    def stop(self) -> None:
        """Look no longer."""
        if self._looking is not None:
            self._looking.kill(block=False)
            self._looking = None

    def add_folder(self, path: str) -> None:
        """Nothing to do: what is looked at are files."""

    def check(self) -> None:
        """Nothing to do: a folder that moved shows in its files."""

    def look(self) -> None:
        """Look at every known file now and put those that differ."""
        end_of_turn = time.perf_counter() + _TURN
        for path, noted in tuple(self._known().items()):
            if signature(path) != noted:
                self._queue.put(path)
            if time.perf_counter() >= end_of_turn:
                gevent.sleep(_TURN)
                end_of_turn = time.perf_counter() + _TURN

    def instead(self, reason: str) -> str:
        """The warning that polling is used, for `reason`."""
        return f"inotify cannot be used ({reason}): files are looked at every {self._interval:g} s instead"

    def _look_again_and_again(self) -> None:
        while True:
            gevent.sleep(self._interval)
            try:
                self.look()
            except Exception as error:  # the border of this greenlet: one bad look must not be the last
                self._log.warning(f"looking for changed files failed, to be tried again: {error!r}")


class _Place(NamedTuple):
    """Which folder a path leads to."""

    path: str
    device: int
    inode: int


def _place(folder: str) -> _Place | None:
    """Where `folder` leads now; None when it is no folder, or none whose files can be opened."""
    real = os.path.realpath(folder)
    try:
        status = os.stat(real)
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode) or not os.access(real, os.X_OK):
        return None
    return _Place(real, status.st_dev, status.st_ino)


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    """(path, whether it is a folder and no link to one) of all in `folder`; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.path, entry.is_dir(follow_symlinks=False)
    except OSError:
        return


def _complete(path: str) -> bool:
    """Whether a file just created may be so for good, with no CLOSE_WRITE to follow.

    A link, or an unnamed file that got a name (O_TMPFILE), is told by its CREATE alone. An empty file with
    one name has just been opened for writing, and will be told when it is closed.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return status.st_size > 0 or status.st_nlink > 1


class InotifyWatcher:
    """Watches folders, never files, and all folders below them; links to folders are not followed.

    When it can no longer do so, it hands over to `poll` for good, and says so in one warning.
    """

    def __init__(
        self, folders: Sequence[str], queue: FlushQueue, poll: PollWatcher, log: ErrorLogLike
    ) -> None:
        """Raise OSError, ImportError or AttributeError where inotify cannot be used."""
        for folder in folders:
            _must_tell(os.path.realpath(folder))
        # Imported here because it brings ctypes and subprocess: 2 MB, which polling does not need.
        import inotify_simple

        self.engine = "inotify"
        self._flags = flags = inotify_simple.flags
        self._parse = inotify_simple.parse_events
        self._mask = int(
            flags.CLOSE_WRITE | flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.ATTRIB
            | flags.MOVE_SELF | flags.ONLYDIR | flags.DONT_FOLLOW
        )  # fmt: skip
        self._inotify = inotify_simple.INotify(nonblocking=True)
        self._readable = gevent.get_hub().loop.io(self._inotify.fileno(), 1)
        self._queue = queue
        self._poll = poll
        self._log = log
        #: The folders asked for, and where each led when it was last looked at.
        self._roots: dict[str, _Place | None] = dict.fromkeys(folders)
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
        """Watch `path` too. Puts everything: a file in it may have changed between its reading and this."""
        if path in self._roots or self._is_covered(os.path.realpath(path)):
            return
        self._roots[path] = None
        if self._running and self.engine == "inotify":
            self._unless_impossible(lambda: self._watch_root(path))
            self._queue.put_everything()

    def check(self) -> None:
        """Begin again if a folder came, went or leads elsewhere (a link was flipped), or events were lost."""
        if not self._running or self.engine != "inotify":
            return
        if self._lost_track or any(_place(root) != place for root, place in self._roots.items()):
            self._unless_impossible(self._begin_again)

    def _is_covered(self, real: str) -> bool:
        roots = (place.path.rstrip("/") + "/" for place in self._roots.values() if place)
        return f"{real}/".startswith(tuple(roots))

    def _unless_impossible(self, work: Callable[[], None]) -> None:
        """Do `work`; when inotify cannot, poll from now on."""
        try:
            work()
        except OSError as error:
            self._close()
            self.engine = self._poll.engine
            self._log.warning(self._poll.instead(_reason(error)))
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
        for descriptor in before.keys() - self._folders.keys():
            self._remove(descriptor)
        self._lost_track = False
        self._queue.put_everything()

    def _watch_root(self, root: str) -> None:
        place = self._roots[root] = _place(root)
        if place is None:
            return
        _must_tell(place.path)
        self._watch_tree(place.path, tell=False)

    def _watch_tree(self, top: str, tell: bool) -> None:
        """Watch `top` and all folders below it; `tell`: put the files in those that were not watched before.

        The watch comes first and the look inside second, so a file is seen by one or the other.
        """
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            is_new = self._watch_folder(folder)
            for path, is_folder in _entries(folder):
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
            self._log.warning(f"an inotify event failed, all files will be looked at: {error!r}")

    def _read(self) -> None:
        try:
            data = os.read(self._inotify.fileno(), _READ)
        except BlockingIOError:
            return
        for event in self._parse(data):
            self._take(event)

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
        elif mask & flags.CREATE and not _complete(path):
            return
        self._queue.put(path)

    def _take_folder(self, path: str, mask: int) -> None:
        """A folder came, went or may have become readable. One deleted is told by its own IGNORED."""
        if mask & self._flags.MOVED_FROM:
            self._forget_tree(path)
        elif not mask & self._flags.DELETE:
            self._watch_tree(path, tell=True)
