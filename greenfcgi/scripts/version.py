"""What a script and its modules consisted of when they were read: the same code for all states of one version.

Nothing here runs Lua, watches files, or knows who uses a version.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from .file_signature import Signature, digest, looks_alike, settled, signature
from .texts import Text, Texts

#: Bytes of one file: what is larger is no Lua source.
_MAX_FILE: Final = 16 * 1024 * 1024
#: The most files of one version that are noted: a script may require names that its clients choose.
_MAX_FILES: Final = 1_000
#: Bytes of texts that one version keeps.
_MAX_TEXT: Final = 4 * 1024 * 1024


def _source(path: str) -> bytes:
    """The text of a file. Raises `OSError`: a pipe or a device could be waited for, or read, for ever."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    with open(path, "rb") as file:
        text = file.read(_MAX_FILE + 1)
    if len(text) > _MAX_FILE:
        raise OSError(errno.EFBIG, f"Larger than {_MAX_FILE} bytes")
    return text


class Version:
    """The files of one script as they were when this version first read them.

    The texts that it was loaded from are kept, so that all its states run the same code, up to `_MAX_TEXT` bytes and as
    far as `texts` has room. What is beyond that, and data that requests read afresh, is known by its digest.
    """

    __slots__ = (
        "_digests",
        "_missing",
        "_on_read",
        "_on_write",
        "_room",
        "_texts",
        "_texts_of_all",
        "identity",
        "is_complete",
        "is_held",
        "kept",
        "signatures",
    )  # fmt: skip

    def __init__(
        self,
        texts: Texts,
        on_read: Callable[[str], None] = lambda path: None,
        on_write: Callable[[str], None] = lambda path: None,
    ) -> None:
        self._texts_of_all = texts
        self._on_read = on_read
        self._on_write = on_write
        self._texts: dict[str, Text] = {}
        #: Files that were looked for when code was loaded, and were not there.
        self._missing: set[str] = set()
        #: Of each file that has been read.
        self._digests: dict[str, bytes] = {}
        #: Bytes of texts that may still be kept.
        self._room = _MAX_TEXT
        #: What was read or looked for, with the signature it had when that was first done.
        self.signatures: dict[str, Signature] = {}
        #: A state has been loaded from it.
        self.is_complete = False
        #: It is still served although its files have changed, since they do not load now.
        self.is_held = False
        #: Its digest where it is kept for other processes, and how many of its files are.
        self.identity = b""
        self.kept = 0

    @property
    def texts(self) -> dict[str, bytes]:
        """What code was loaded from, by path, as far as it is kept."""
        return {path: text.data for path, text in self._texts.items()}

    def read(self, path: str, fresh: bool = False, loading: bool = False) -> bytes:
        """The text of the file at `path`: as this version has read it before, or, with `fresh`, as it is now.

        `loading`: for a state that is being made. A file that was missing when the version was first loaded stays so
        then. That one state has looked afresh does not hide a change from the others. Raises `OSError`.
        """
        if not fresh:
            text = self._texts.get(path)
            if text is not None:
                return text.data
            if path in self._missing and (self.is_held or (loading and self.is_complete)):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if path not in self.signatures:
            if len(self.signatures) >= _MAX_FILES:
                return _source(path)
            # The watcher comes first, the signature is taken second, the text is read last: a change between
            # two of these is then seen as one, not missed.
            self._on_read(path)
            self.signatures[path] = settled(signature(path))
        try:
            data = _source(path)
        except (FileNotFoundError, NotADirectoryError):
            if not fresh:
                self._missing.add(path)
            raise
        noted = self._digests.get(path)
        if noted is None or not fresh:
            self._note(path, data, not fresh)
        return data

    def _note(self, path: str, data: bytes, keep: bool) -> None:
        found = digest(data)
        # What was read first counts: where the file has changed since, this version is stale.
        self._digests.setdefault(path, found)
        if keep and len(data) <= self._room:
            text = self._texts_of_all.keep(data, found)
            if text is not None:
                self._texts[path] = text
                self._room -= len(data)

    def files(self) -> dict[str, Text | None]:
        """The files that this version's code was loaded from, as far as their texts are kept; None: it was missing."""
        return dict.fromkeys(self._missing) | self._texts

    def file_count(self) -> int:
        """How many these are."""
        return len(self._missing) + len(self._texts)

    def restore(self, files: Mapping[str, bytes | None]) -> None:
        """Make it a version with these files, whatever is there now."""
        self.is_complete = self.is_held = True
        for path, data in files.items():
            self._on_read(path)
            if data is None:
                self._missing.add(path)
            else:
                self._note(path, data, True)

    def depend_on(self, path: str) -> None:
        """A file that is not Lua counts for this version: when it changes, the version is stale."""
        if path in self.signatures or len(self.signatures) >= _MAX_FILES:
            return
        self._on_read(path)
        self.signatures[path] = settled(signature(path))
        try:
            self._note(path, _source(path), False)
        except OSError:
            # It is not there, and may come.
            return

    def forget(self, path: str) -> None:
        """The script itself is about to write this file: what it was before does not count any more."""
        text = self._texts.pop(path, None)
        if text is not None:
            self._room += len(text.data)
        self._missing.discard(path)
        self._digests.pop(path, None)
        self.signatures.pop(path, None)
        self._on_write(path)

    def stale(self) -> bool:
        """A file is not what it was when this version read it.

        The text is compared too: it may have been changed within one tick of the file system's clock, or have been
        given the time of the one before.
        """
        return next(self.changed(), None) is not None

    def changed(self) -> Iterator[str]:
        """The files that are not what they were."""
        for path, noted in list(self.signatures.items()):
            found = signature(path)
            if found == noted:
                continue
            if not looks_alike(found, noted) or self._differs(path):
                yield path
            else:
                # Only its rights or its links have changed; or nothing, and it was read just after it had changed.
                self.signatures[path] = settled(found)

    def _differs(self, path: str) -> bool:
        try:
            data = _source(path)
        except OSError:
            # A file that could not be read is what it was when it still cannot.
            return path in self._digests
        return digest(data) != self._digests.get(path)
