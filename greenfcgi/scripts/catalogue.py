"""The scripts of a server: which files may run, what they and their modules consisted of when they were read.

A `Catalogue` turns SCRIPT_FILENAME into a `Script`. A `Version` of a script is the text of all its files as they
were read, so that every state of one version runs the same code, also while the files are being edited. Nothing
here runs Lua, watches files, or knows who uses a script.

Only regular files below `scripts.root`, after all symbolic links have been followed, with a listed extension, are
scripts; but neither are what lies in the folder of static files nor what is private, by a name that begins with "_" or
".". The path is taken as it is: there is no walking up a path that does not exist to find one that does (php-fpm's
cgi.fix_pathinfo made that way into remote execution twice, CVE-2019-11043 the last time). What comes from Apache as the
address of a proxy is resolved in `proxied` before.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ..errors import ScriptForbidden, ScriptMissing
from ..fastcgi.proxied import Target, target
from .file_signature import Signature, digest, looks_alike, settled, signature
from .texts import Text, Texts

#: The most SCRIPT_FILENAMEs that are remembered; one script can be reached by many spellings of its path.
_MOST_SPELLINGS = 1_000
#: The longest that is remembered; the kernel takes none that is longer (PATH_MAX).
_LONGEST_SPELLING = 4096
#: Bytes of one file: what is larger is no Lua source.
_LARGEST_FILE = 16 * 1024 * 1024
#: The most files of one version that are noted: a script may require names that its clients choose.
_MOST_FILES = 1_000
#: Bytes of texts that one version keeps, and that all versions of a process do.
_MAX_TEXT = 4 * 1024 * 1024
_MAX_TEXTS = 32 * 1024 * 1024


def _source(path: str) -> bytes:
    """The text of a file. Raises `OSError`: a pipe or a device could be waited for, or read, for ever."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    with open(path, "rb") as file:
        text = file.read(_LARGEST_FILE + 1)
    if len(text) > _LARGEST_FILE:
        raise OSError(errno.EFBIG, f"Larger than {_LARGEST_FILE} bytes")
    return text


def is_private(name: str) -> bool:
    """A file or folder of this name holds modules, or nothing for visitors: no script in it answers a request.

    Two dots are Kubernetes's: a mounted folder's files are links into "..data".
    """
    return name.startswith("_") or (name.startswith(".") and not name.startswith(".."))


class Version:
    """The files of one script as they were when this version first read them.

    The texts that it was loaded from are kept, so that all its states run the same code, up to `_MAX_TEXT` bytes and as
    far as `texts` has room. What is beyond that, and data that requests read afresh, is known by its digest.
    """

    __slots__ = (
        "_digests", "_missing", "_noticed", "_room", "_texts", "_texts_of_all", "_written", "identity", "is_complete",
        "is_held", "kept", "signatures",
    )  # fmt: skip

    def __init__(
        self,
        texts: Texts,
        noticed: Callable[[str], None] = lambda path: None,
        written: Callable[[str], None] = lambda path: None,
    ) -> None:
        self._texts_of_all = texts
        self._noticed = noticed
        self._written = written
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
        #: It goes on although the files have changed since: what is there now does not load.
        self.is_held = False
        #: What tells it from others where it is kept for other processes, and how many of its files are.
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
            if len(self.signatures) >= _MOST_FILES:
                return _source(path)
            # Whoever watches it is told first, the signature is taken second, the text is read last: a change between
            # two of these is then seen as one, not missed.
            self._noticed(path)
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
            self._noticed(path)
            if data is None:
                self._missing.add(path)
            else:
                self._note(path, data, True)

    def forget(self, path: str) -> None:
        """The script itself is about to write this file: what it was before does not count any more."""
        text = self._texts.pop(path, None)
        if text is not None:
            self._room += len(text.data)
        self._missing.discard(path)
        self._digests.pop(path, None)
        self.signatures.pop(path, None)
        self._written(path)

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


class Script:
    """One script: where it lies, the version that is served, and what became of the last change."""

    __slots__ = (
        "_noticed", "_texts", "_written", "directory", "head_warned", "loaded", "path", "problem", "requests",
        "spellings", "tried", "version",
    )  # fmt: skip

    def __init__(
        self, path: str, texts: Texts, noticed: Callable[[str], None], written: Callable[[str], None]
    ) -> None:
        self._texts = texts
        self._noticed = noticed
        self._written = written
        #: The real path.
        self.path = path
        self.directory = os.path.dirname(path)
        #: The other paths by which it was asked for (symbolic links), with what they led to.
        self.spellings: dict[str, Signature] = {}
        #: The last version that loaded; before the first has, the one that is tried next.
        self.version = self.new_version()
        #: When that version was loaded, in seconds of the epoch; 0: none has been yet.
        self.loaded = 0.0
        #: Why the last version that was tried does not load; empty when it does.
        self.problem = ""
        #: Requests that states have answered which are not there any more.
        self.requests = 0
        #: The version that was tried last and did not load; None while the files are sound.
        self.tried: Version | None = None
        #: A warning about its large header block has been given.
        self.head_warned = False

    def new_version(self) -> Version:
        """A version that has read nothing yet."""
        return Version(self._texts, self._noticed, self._written)

    def stale(self) -> bool:
        """The files are not what they were when the script was last loaded, or tried."""
        return (self.tried or self.version).stale()

    def changed(self) -> list[str]:
        """Which of them; not the script itself."""
        return [path for path in (self.tried or self.version).changed() if path != self.path]

    def signatures(self) -> dict[str, Signature]:
        """Every file that counts for this script, with the signature that was last taken notice of.

        While the last change does not load, only the files of that version can put it right; or the script goes.
        """
        if self.tried is None:
            return self.version.signatures | self.spellings
        own = self.version.signatures
        return {path: own[path] for path in (self.path,) if path in own} | self.spellings | self.tried.signatures


class Catalogue:
    """All scripts that have been asked for.

    `root` is a directory, `extensions` the endings that a script may have (".lua"), compared byte for byte; `public` is
    the folder below it whose files are sent as they are, and never run, or "".
    """

    def __init__(self, root: str, extensions: Sequence[str], public: str = "") -> None:
        self._given_root = root
        self.root = os.path.realpath(root)
        self._extensions = tuple(extensions)
        self._public = public
        #: Scripts that the configuration names, by their real paths: these may be private.
        self._named: set[str] = set()
        #: The scripts by what SCRIPT_FILENAME has been for them; `find` is for what is not in it.
        self.known: dict[bytes | None, Script] = {}
        self._by_path: dict[str, Script] = {}
        self._texts = Texts(_MAX_TEXTS)
        self._proxied: dict[bytes, Target] = {}
        #: Called with the path of each file that a script is made of, before a version reads it first, also where it
        #: is missing; and with the path by which a script was asked for, where links are on the way.
        self.noticed: Callable[[str], None] = lambda path: None
        #: Called with the path of each file that a script itself is about to write.
        self.written: Callable[[str], None] = lambda path: None

    def __iter__(self) -> Iterator[Script]:
        return iter(list(self._by_path.values()))

    def find(self, filename: bytes | None) -> Script:
        """The script that SCRIPT_FILENAME means.

        Raises `ScriptMissing` or `ScriptForbidden`, whose text is for the error log.
        """
        script = self.known.get(filename)
        return script if script is not None else self._resolve(filename)

    def _resolve(self, filename: bytes | None) -> Script:
        if not filename:
            raise ScriptMissing("the web server sent no SCRIPT_FILENAME: is a fastcgi_param for it missing?")
        spelling = os.fsdecode(filename)
        if "\0" in spelling:
            raise ScriptForbidden(f"SCRIPT_FILENAME {spelling!r} has a zero byte in it")
        path = os.path.realpath(spelling)
        if not self._is_inside(path):
            # The root may be a link that leads to another release by now.
            self.root = os.path.realpath(self._given_root)
        if not self._is_inside(path):
            raise ScriptForbidden(f"SCRIPT_FILENAME {spelling!r} is not below scripts.root, which is {self.root!r}")
        if not path.endswith(self._extensions):
            expected = ", ".join(self._extensions)
            raise ScriptForbidden(f"SCRIPT_FILENAME {spelling!r} does not end in one of scripts.extensions: {expected}")
        if reason := self._why_not_run(path):
            raise ScriptMissing(f"SCRIPT_FILENAME {spelling!r} is not run: {reason}")
        try:
            mode = os.stat(path).st_mode
        except OSError as problem:
            raise ScriptMissing(f"SCRIPT_FILENAME {spelling!r}: {problem.strerror}") from None
        if not stat.S_ISREG(mode):
            raise ScriptMissing(f"SCRIPT_FILENAME {spelling!r} is not a regular file")
        script = self._by_path.setdefault(path, Script(path, self._texts, self._notice, self._write))
        if len(self.known) >= _MOST_SPELLINGS:
            self.forget_spellings()
        if len(filename) > _LONGEST_SPELLING:
            return script
        self.known[filename] = script
        named = os.path.normpath(spelling)
        if named != path:
            script.spellings[spelling] = signature(spelling)
            # A link on the way may come to lead elsewhere.
            self._notice(named)
        return script

    def target(self, filename: bytes) -> Target:
        """What Apache means by a SCRIPT_FILENAME that begins with "proxy:"."""
        found = self._proxied.get(filename)
        if found is None:
            found = target(filename, tuple(map(os.fsencode, self._extensions)))
            # PATH_INFO is the client's: what has one is not remembered, nor is what leads to no script.
            if not found.info and found.path in self.known and len(filename) <= _LONGEST_SPELLING:
                if len(self._proxied) >= _MOST_SPELLINGS:
                    self._proxied.clear()
                self._proxied[filename] = found
        return found

    def _why_not_run(self, path: str) -> str:
        """The reason why nobody can ask for a file below the root, or "". `path` is a real path."""
        # What visitors have uploaded may lie there, with names that they chose.
        if self._public and path.startswith(os.path.realpath(f"{self.root}/{self._public}") + "/"):
            return f"it is in scripts.public, which is {self._public!r}, for static files"
        if path in self._named:
            return ""
        for name in path.removeprefix(self.root).split("/"):
            if is_private(name):
                return f"{name!r} is private, as each name that begins with an underscore or a dot"
        return ""

    def name(self, path: str) -> Script:
        """The script that the configuration names, which may be private. Raises as `find` does."""
        self._named.add(os.path.realpath(path))
        return self.find(os.fsencode(path))

    def _is_inside(self, path: str) -> bool:
        return path.startswith(self.root.rstrip("/") + "/")

    def _notice(self, path: str) -> None:
        self.noticed(path)

    def _write(self, path: str) -> None:
        self.written(path)

    def forget(self, script: Script) -> None:
        """Take a script out: its file is gone, or is not below the root any more."""
        self._by_path.pop(script.path, None)
        self.forget_spellings()

    def forget_spellings(self) -> None:
        """Resolve each SCRIPT_FILENAME anew: a symbolic link may lead elsewhere now."""
        self.known.clear()
        self._proxied.clear()
        for script in self._by_path.values():
            script.spellings.clear()

    def follow_root(self) -> list[Script]:
        """Resolve `scripts.root` anew; the scripts that are not below it any more are taken out and returned."""
        self.root = os.path.realpath(self._given_root)
        gone = [script for script in self if not self._is_inside(script.path)]
        for script in gone:
            self.forget(script)
        return gone

    def signatures(self) -> dict[str, Signature]:
        """Every file that counts for any script, with the signature that was last taken notice of."""
        known: dict[str, Signature] = {}
        for script in self:
            known |= script.signatures()
        return known

    def touched(self, paths: frozenset[str]) -> list[Script]:
        """The scripts that one of `paths` is a file of, or a directory above one."""
        return [script for script in self if _touches(paths, script.signatures())]


def _touches(paths: frozenset[str], files: Iterable[str]) -> bool:
    for file in files:
        if file in paths or os.path.realpath(file) in paths:
            return True
        parent = os.path.dirname(file)
        while parent != "/" and parent:
            if parent in paths:
                return True
            parent = os.path.dirname(parent)
    return False
