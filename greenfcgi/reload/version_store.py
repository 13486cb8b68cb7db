"""The last version of each script that loaded, kept where all processes of a supervisor reach it.

A file without a name, in memory, made before the processes are. It is passed to those that are started later, and to a
new binary; nothing is left of it when all have ended. Records are only ever appended, and count once the header says
so: a process that dies while it writes leaves the others what was there before. When one half of the file is full, what
still counts is copied to the other half, and the header says which one it is. ::

    header   which half counts and how often that has changed, where its records end, where they ended when they were
             copied there, whether it has been full; the digest of these
    record   magic, kind, length, key; then so many bytes
    text     key: the digest of a file's text; the text
    version  key: the digest of the script's path; the digest of what follows; the script's path and its files

What is read may be anything: what does not fit its digest is not there.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from ..scripts.file_signature import DIGEST_SIZE, digest
from ..scripts.texts import Text
from ..system.temporary_files import nameless_file

#: Bytes of all records that count, and once more for as many that do not any longer. Untouched pages take no memory.
HALF = 8 * 1024 * 1024

#: Number of the half (its lowest bit says which one), end of its records, their end when they were copied, is full.
_HEADER = struct.Struct("=QQQB")
#: What still counts is copied to the other half once so large a part of this one (an eighth) has been appended.
_MIN_GAIN = 8
_RECORD = struct.Struct(f"=2ssI{DIGEST_SIZE}s")
_RECORD_MAGIC = b"\xa5R"
_TEXT, _VERSION, _GONE = b"t", b"v", b"-"
#: In a version: the length of a path, and the digest of the text, or nothing where the file was missing.
_FILE = struct.Struct("=HB")
#: Where records begin, in the file.
_START = 4096
#: Tries to lock the file, and seconds between two of them: no process holds it for longer, unless it was stopped.
_TRIES = 20
_PAUSE = 0.001


#: Kind, key, and what is kept.
_Record = tuple[bytes, bytes, bytes]


class _Header(NamedTuple):
    number: int
    end: int
    copied: int
    is_full: bool


_EMPTY = _Header(0, 0, 0, False)


class Files(NamedTuple):
    """A version of a script: the texts of its files by their paths; None for one that was looked for and missing."""

    #: A digest of the files that it was loaded from at first.
    identity: bytes
    texts: dict[str, bytes | None]


class VersionStore:
    """What `descriptor` holds; without one, a new store. Raises `OSError`.

    Used by many processes at a time. Each has an index of its own, which follows what is appended.
    """

    def __init__(self, descriptor: int = -1, half: int = HALF) -> None:
        #: To be passed on to a new binary.
        self.descriptor = descriptor if descriptor != -1 else nameless_file()
        self._half = half
        #: (kind, key) to (where its bytes are, how many they are).
        self._index: dict[tuple[bytes, bytes], tuple[int, int]] = {}
        #: The number of the half, and the end of what has been taken into the index.
        self._number = -1
        self._end = 0
        if descriptor == -1:
            self._write_header(_EMPTY)

    def get(self, path: str) -> Files | None:
        """The last version of a script that loaded; None when there is none, or not all of it. Does not raise."""
        try:
            return self._get(path)
        except OSError:
            return None

    def _get(self, path: str) -> Files | None:
        self._follow()
        found = self._read_version(digest(os.fsencode(path)), path)
        if found is None:
            return None
        identity, digests = found
        texts: dict[str, bytes | None] = {}
        for name, key in digests.items():
            text = self._read(_TEXT, key) if key else None
            if key and (text is None or digest(text) != key):
                return None
            texts[name] = text
        return Files(identity, texts)

    def put(self, path: str, files: Mapping[str, Text | None], identity: bytes, grown: bool = False) -> bool:
        """Keep a version of a script in place of the one before. False when there is no room for it.

        `grown`: files have come to a version that has been kept before; where another one has taken its place since,
        nothing is changed. Does not raise; what cannot be written now is not kept.
        """
        try:
            return self._put(path, files, identity, grown)
        except OSError:
            return False

    def _put(self, path: str, files: Mapping[str, Text | None], identity: bytes, grown: bool) -> bool:
        key = digest(os.fsencode(path))
        wanted = {name: text.digest if text is not None else b"" for name, text in files.items()}
        self._follow()
        there = self._read_version(key, path)
        if there is not None and (there[0] == identity or grown):
            if there[0] != identity or wanted.items() <= there[1].items():
                return True
            # Another process has read other files of the same version.
            wanted = there[1] | wanted
        new = {text.digest: text.data for text in files.values() if text is not None}
        return self._locked(lambda: self._append_version(key, path, identity, wanted, new))

    def drop(self, path: str) -> None:
        """A script is gone: forget its version."""
        key = digest(os.fsencode(path))
        try:
            self._follow()
            if (_VERSION, key) in self._index:
                self._locked(lambda: self._append([(_GONE, key, b"")]))
        except OSError:
            # It goes when room is made.
            pass

    def is_first_refusal(self) -> bool:
        """Whether no process has been refused for lack of room before."""
        try:
            return self._locked(self._note_refusal)
        except OSError:
            return False

    def _note_refusal(self) -> bool:
        header = self._header()
        self._write_header(header._replace(is_full=True))
        return not header.is_full

    # Records

    def _append_version(
        self, key: bytes, path: str, identity: bytes, digests: Mapping[str, bytes], texts: Mapping[bytes, bytes]
    ) -> bool:
        body = identity + b"".join(_packed(path, digests))
        version = _VERSION, key, digest(body) + body

        self._follow()
        new = [(_TEXT, one, text) for one, text in texts.items() if (_TEXT, one) not in self._index]
        if self._append([*new, version]) or self._make_room(key, {**texts}, version):
            return True
        # The one before is not the last one any more.
        self._append([(_GONE, key, b"")])
        return False

    def _append(self, records: list[_Record]) -> bool:
        """Write records at the end, for all or nothing. To be called with the lock."""
        self._follow()
        header = self._header()
        data = _encoded(records)
        end = header.end + len(data)
        if end > self._half:
            return False
        self._write(self._base(header.number) + header.end, data)
        self._write_header(header._replace(end=end))
        self._follow()
        return True

    def _make_room(self, old: bytes, texts: dict[bytes, bytes], version: _Record) -> bool:
        """Copy what counts to the other half, with the texts and the version of a script in place of that of `old`.

        To be called with the lock. Scripts whose files are gone are left out. False when even so there is no room.
        """
        header = self._header()
        if header.end - header.copied < self._half // _MIN_GAIN:
            # It has been done, and what is there counts.
            return False
        others = [(kind, key, self._read(kind, key)) for kind, key in self._index if kind == _VERSION and key != old]
        versions: list[_Record] = []
        for kind, key, body in [version, *others]:
            found = _unpacked(body) if body is not None else None
            if body is None or found is None or not os.path.isfile(found[1]):
                continue
            versions.append((kind, key, body))
            for wanted in filter(None, found[2].values()):
                text = texts.get(wanted) or self._read(_TEXT, wanted)
                if text is not None:
                    texts[wanted] = text
        data = _encoded([*((_TEXT, key, text) for key, text in texts.items()), *versions])
        if len(data) > self._half:
            return False
        self._write(self._base(header.number + 1), data)
        self._write_header(header._replace(number=header.number + 1, end=len(data), copied=len(data)))
        self._follow()
        return True

    def _follow(self) -> None:
        """Take what has been appended since the last time into the index."""
        number, end, _, _ = self._header()
        if number != self._number:
            self._number, self._end = number, 0
            self._index.clear()
        for kind, key, at, length in self._records(self._base(number), min(self._end, end), end):
            if kind == _GONE:
                self._index.pop((_VERSION, key), None)
            else:
                self._index[kind, key] = at, length
        self._end = end

    def _records(self, base: int, at: int, end: int) -> Iterator[tuple[bytes, bytes, int, int]]:
        while at + _RECORD.size <= end:
            head = os.pread(self.descriptor, _RECORD.size, base + at)
            if len(head) < _RECORD.size:
                return
            magic, kind, length, key = _RECORD.unpack(head)
            at += _RECORD.size
            if magic != _RECORD_MAGIC or at + length > end:
                # Where the next record begins is not known.
                return
            yield kind, key, base + at, length
            at += length

    def _read(self, kind: bytes, key: bytes) -> bytes | None:
        place = self._index.get((kind, key))
        if place is None:
            return None
        try:
            return os.pread(self.descriptor, place[1], place[0])
        except OSError:
            return None

    def _read_version(self, key: bytes, path: str) -> tuple[bytes, dict[str, bytes]] | None:
        body = self._read(_VERSION, key)
        found = _unpacked(body) if body is not None else None
        return (found[0], found[2]) if found is not None and found[1] == path else None

    # The file

    def _base(self, number: int) -> int:
        return _START + number % 2 * self._half

    def _header(self) -> _Header:
        for _ in range(_TRIES):
            data = os.pread(self.descriptor, _HEADER.size + DIGEST_SIZE, 0)
            fields = data[: _HEADER.size]
            if len(fields) == _HEADER.size and digest(fields) == data[_HEADER.size :]:
                number, end, copied, is_full = _HEADER.unpack(fields)
                return _Header(number, min(end, self._half), copied, bool(is_full))
            # It is being written at this moment.
        return _EMPTY

    def _write_header(self, header: _Header) -> None:
        fields = _HEADER.pack(*header)
        self._write(0, fields + digest(fields))

    def _write(self, at: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self.descriptor, view, at)
            view, at = view[written:], at + written

    def _locked(self, work: Callable[[], bool]) -> bool:
        """Do `work` while no other process writes. Raises `OSError` when one does all the time.

        A process that ends gives the lock back.
        """
        for attempt in range(_TRIES):
            try:
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if attempt == _TRIES - 1:
                    raise
                time.sleep(_PAUSE)
        try:
            return work()
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN)


def _encoded(records: Iterable[_Record]) -> bytes:
    return b"".join(_RECORD.pack(_RECORD_MAGIC, kind, len(body), key) + body for kind, key, body in records)


def _packed(path: str, digests: Mapping[str, bytes]) -> Iterator[bytes]:
    for name, key in ((path, b""), *sorted(digests.items())):
        encoded = os.fsencode(name)
        yield _FILE.pack(len(encoded), len(key)) + encoded + key


def _unpacked(body: bytes) -> tuple[bytes, str, dict[str, bytes]] | None:
    """The identity, the script's path, and the digests of its files; None when it is not what was written."""
    if digest(body[DIGEST_SIZE:]) != body[:DIGEST_SIZE]:
        return None
    identity, at = body[DIGEST_SIZE : 2 * DIGEST_SIZE], 2 * DIGEST_SIZE
    files: list[tuple[str, bytes]] = []
    try:
        while at < len(body):
            length, size = _FILE.unpack_from(body, at)
            at += _FILE.size
            name, key = body[at : at + length], body[at + length : at + length + size]
            at += length + size
            files.append((os.fsdecode(name), key))
    except struct.error:
        return None
    return (identity, files[0][0], dict(files[1:])) if files and at == len(body) else None
