"""One script, and its life: which version of it is served, from the first request to the last change."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from .file_signature import Signature
from .texts import Texts
from .version import Version


class Script:
    """One script: where it lies, the version that is served, and what became of the last change.

        state       version           failed_version   loaded_at   problem
        new         is tried next     None             0           "" or why it does not load
        good        is served         None             when        ""
        held        is served         does not load    when        why it does not

    It begins as new. Loading it calls one of two methods: `loaded` makes it good; `failed` gives a new one another
    version, so that the next request reads the files again. When its files have changed and load, the new version has
    `replaced` the one before: good. When they do not load, it is `held`, and served as it was; or, where the last good
    version is not wanted, `withdrawn`: new. A version that was good in another process is `restored`: held at once.
    """

    __slots__ = (
        "_on_read", "_on_write", "_texts", "aliases", "directory", "failed_version", "head_warned", "launcher",
        "loaded_at", "path", "problem", "requests", "version",
    )  # fmt: skip

    def __init__(
        self,
        path: str,
        texts: Texts,
        on_read: Callable[[str], None],
        on_write: Callable[[str], None],
        directory: str = "",
        launcher: bytes = b"",
    ) -> None:
        self._texts = texts
        self._on_read = on_read
        self._on_write = on_write
        #: The real path.
        self.path = path
        #: Where its names of files begin.
        self.directory = directory or os.path.dirname(path)
        #: What a state runs instead of the file, which this requires; b"": the file.
        self.launcher = launcher
        #: The other paths by which it was asked for (symbolic links), with what they led to.
        self.aliases: dict[str, Signature] = {}
        #: The version that is served; before one has loaded, the one that is tried next.
        self.version = self.new_version()
        #: When a version was loaded last, in seconds of the epoch; 0: none has been yet.
        self.loaded_at = 0.0
        #: Why the last version that was tried does not load; empty when it does.
        self.problem = ""
        #: The version that was tried last and did not load; None while the files are good.
        self.failed_version: Version | None = None
        #: Requests that states have answered which are not there any more.
        self.requests = 0
        #: A warning about its large header block has been given.
        self.head_warned = False

    def is_in(self, root: str) -> bool:
        """It is a program of this folder, wherever its file lies."""
        return bool(self.launcher) and self.directory == root

    def loaded(self) -> bool:
        """A version has been loaded for the first time. Returns whether the last one that was tried did not load."""
        was_broken = bool(self.problem)
        self.loaded_at, self.problem = time.time(), ""
        return was_broken

    def failed(self, problem: str) -> None:
        """A version does not load, for this reason; "" of one that has loaded before."""
        self.problem = problem or self.problem
        if not self.loaded_at:
            # There is nothing good to go back to: the next request reads the files again.
            self.version = self.new_version()

    def replaced(self, version: Version) -> None:
        """This version, which has been loaded, is served from now on."""
        self.version, self.failed_version = version, None

    def held(self, failed: Version) -> None:
        """The same version is still served, since the files as they are now do not load."""
        self.failed_version = failed
        self.version.is_held = True

    def restored(self, version: Version, failed: Version, problem: str) -> None:
        """A version that was good in another process is served; that of the files as they are does not load."""
        self.version, self.failed_version, self.problem = version, failed, problem

    def withdrawn(self) -> None:
        """Nothing is served: whoever asks for it tries the files as they are then."""
        self.version, self.failed_version, self.loaded_at = self.new_version(), None, 0.0

    def new_version(self) -> Version:
        """A version that has read nothing yet."""
        return Version(self._texts, self._on_read, self._on_write)

    def stale(self) -> bool:
        """The files are not what they were when the script was last loaded, or tried."""
        return (self.failed_version or self.version).stale()

    def changed(self) -> list[str]:
        """Which of them; not the script itself."""
        return [path for path in (self.failed_version or self.version).changed() if path != self.path]

    def signatures(self) -> dict[str, Signature]:
        """Every file that counts for this script, with the signature that was last taken notice of.

        While the last change does not load, only the files of that version can put it right; or the script goes.
        """
        if self.failed_version is None:
            return self.version.signatures | self.aliases
        own = self.version.signatures
        return {path: own[path] for path in (self.path,) if path in own} | self.aliases | self.failed_version.signatures
