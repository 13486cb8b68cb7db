"""Which files have changed: by inotify where that works, else by polling.

Here is the choice between the two, and what they have in common. A watcher knows neither scripts nor states:
it puts changed paths into a flush queue.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ..scripts.file_signature import Signature
from .flush_queue import FlushQueue
from .inotify import InotifyWatcher, reason
from .polling import ErrorLogLike, PollWatcher


class Watcher(Protocol):
    """What both engines offer. Made, started and stopped once each, in the process that uses it."""

    #: "inotify" or "poll": what is at work now.
    engine: str
    #: The files that are being written now, by inotify with `track_writes`; else empty. Each has a number, and gets a
    #: new one when it is opened for writing again.
    writing: dict[str, int]

    def start(self) -> None:
        """Begin to watch."""

    def stop(self) -> None:
        """Stop watching. Harmless when repeated."""

    def add_file(self, path: str) -> None:
        """Watch this file too, an absolute path, wherever links lead; it need not exist yet.

        To be called before the file is read, and again with each version of a script that reads it.
        """

    def catch_up(self) -> None:
        """Put what has changed until now, unless that takes long."""

    def check(self) -> None:
        """See whether the folders still are where they were. To be called about once a second."""


def watch(
    engine: str,
    folders: Sequence[str],
    known: Callable[[], Mapping[str, Signature]],
    queue: FlushQueue,
    poll_interval: float,
    log: ErrorLogLike,
    track_writes: bool = False,
) -> Watcher:
    """A watcher of `folders` with all below them, not started yet. `engine` is "auto", "inotify" or "poll".

    Where inotify cannot do it, the watcher polls, and one warning says why: with "inotify" too, since a
    service that notices changes late is better than none. `known` returns the files that matter, with their signatures
    when they were read; `poll_interval` is in seconds. `track_writes`: note which files are being written.
    """
    poll = PollWatcher(known, queue, poll_interval, log)
    if engine == "poll":
        return poll
    try:
        return InotifyWatcher(folders, known, queue, poll, log, track_writes)
    except (ImportError, AttributeError):
        why = "this system has none"
    except OSError as error:
        why = reason(error)
    log.warning(poll.fallback_warning(why))
    return poll
