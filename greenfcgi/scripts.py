"""The scripts of a server: which files may run, what they and their modules consisted of when they were read.

A `Catalogue` turns SCRIPT_FILENAME into a `Script`. A `Version` of a script is the text of all its files as they
were read, so that every state of one version runs the same code, also while the files are being edited. Nothing
here runs Lua, watches files, or knows who uses a script.

Only regular files below `scripts.root`, after all symbolic links have been followed, with a listed extension, are
scripts; but neither are what lies in the folder of static files nor what is private, by a name that begins with "_" or
".". The path is taken as it is: there is no walking up a path that does not exist to find one that does
(php-fpm's cgi.fix_pathinfo made that way into remote execution twice, CVE-2019-11043 the last time).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from .errors import ScriptForbidden, ScriptMissing
from .signature import Signature, signature

#: The most SCRIPT_FILENAMEs that are remembered; one script can be reached by many spellings of its path.
_MOST_SPELLINGS = 1_000
#: The longest that is remembered; the kernel takes none that is longer (PATH_MAX).
_LONGEST_SPELLING = 4096
#: Bytes of one file: what is larger is no Lua source.
_LARGEST_FILE = 16 * 1024 * 1024
#: The most files of one version that are noted: a script may require names that its clients choose.
_MOST_FILES = 1_000


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
    """The files of one script as they were when this version was first read."""

    __slots__ = ("_noticed", "_texts", "_written", "signatures")

    def __init__(
        self,
        noticed: Callable[[str], None] = lambda folder: None,
        written: Callable[[str], None] = lambda path: None,
    ) -> None:
        self._noticed = noticed
        self._written = written
        self._texts: dict[str, bytes] = {}
        #: What was read or looked for, with the signature it had when that was first done.
        self.signatures: dict[str, Signature] = {}

    @property
    def texts(self) -> Mapping[str, bytes]:
        """What was read, by path."""
        return self._texts

    def read(self, path: str, fresh: bool = False) -> bytes:
        """The text of the file at `path`: as this version has read it before, or, with `fresh`, as it is now.

        That one state has looked afresh does not hide the change from the others. Raises `OSError`.
        """
        text = self._texts.get(path)
        if text is not None and not fresh:
            return text
        # The signature is taken first: a change between the two is then seen as one, not missed.
        found = signature(path)
        if len(self.signatures) < _MOST_FILES:
            self.signatures.setdefault(path, found)
        text = _source(path)
        if path not in self._texts and path in self.signatures:
            self._texts[path] = text
            self._noticed(os.path.dirname(path))
        return text

    def forget(self, path: str) -> None:
        """The script itself is about to write this file: what it was before does not count any more."""
        self._texts.pop(path, None)
        self.signatures.pop(path, None)
        self._written(path)

    def stale(self) -> bool:
        """A file is not what it was when this version read it.

        The text is compared too: two changes within one tick of the file system's clock have the same time.
        """
        return next(self.changed(), None) is not None

    def changed(self) -> Iterator[str]:
        """The files that are not what they were."""
        for path, noted in self.signatures.items():
            if signature(path) != noted or self._differs(path):
                yield path

    def _differs(self, path: str) -> bool:
        if path not in self._texts:
            # It was looked for and could not be read; where it is there all the same, that may have been for a time.
            return self.signatures[path] is not None
        try:
            with open(path, "rb") as file:
                return file.read() != self._texts[path]
        except OSError:
            return True


class Script:
    """One script: where it lies, the version that is served, and what became of the last change."""

    __slots__ = (
        "_noticed", "_written", "directory", "head_warned", "loaded", "path", "problem", "requests", "spellings",
        "tried", "version",
    )  # fmt: skip

    def __init__(self, path: str, noticed: Callable[[str], None], written: Callable[[str], None]) -> None:
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
        return Version(self._noticed, self._written)

    def stale(self) -> bool:
        """The files are not what they were when the script was last loaded, or tried."""
        return (self.tried or self.version).stale()

    def changed(self) -> list[str]:
        """Which of them; not the script itself."""
        return [path for path in (self.tried or self.version).changed() if path != self.path]

    def signatures(self) -> dict[str, Signature]:
        """Every file that counts for this script, with the signature that was last taken notice of."""
        known = self.version.signatures | self.spellings
        if self.tried is not None:
            known |= self.tried.signatures
        return known


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
        self._by_spelling: dict[bytes, Script] = {}
        self._by_path: dict[str, Script] = {}
        #: Called with the folder of each file that a script is made of, when the file is first read.
        self.noticed: Callable[[str], None] = lambda folder: None
        #: Called with the path of each file that a script itself is about to write.
        self.written: Callable[[str], None] = lambda path: None

    def __iter__(self) -> Iterator[Script]:
        return iter(list(self._by_path.values()))

    def find(self, filename: bytes | None) -> Script:
        """The script that SCRIPT_FILENAME means.

        Raises `ScriptMissing` or `ScriptForbidden`, whose text is for the error log.
        """
        script = self._by_spelling.get(filename)  # type: ignore[arg-type]  # None is never a key
        return script if script is not None else self._resolve(filename)

    def _resolve(self, filename: bytes | None) -> Script:
        if not filename:
            raise ScriptMissing("the web server sent no SCRIPT_FILENAME: is a fastcgi_param for it missing?")
        spelling = _without_proxy(os.fsdecode(filename))
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
        script = self._by_path.setdefault(path, Script(path, self._notice, self._write))
        if len(self._by_spelling) >= _MOST_SPELLINGS:
            self.forget_spellings()
        if len(filename) > _LONGEST_SPELLING:
            return script
        self._by_spelling[filename] = script
        if os.path.normpath(spelling) != path:
            script.spellings[spelling] = signature(spelling)
        return script

    def _why_not_run(self, path: str) -> str:
        """The reason why nobody can ask for a file below the root, or "". `path` is a real path."""
        # What visitors have uploaded may lie there, with names that they chose.
        if self._public and path.startswith(os.path.realpath(f"{self.root}/{self._public}") + "/"):
            return f"it is in scripts.public, which is {self._public!r}, for static files"
        for name in path.removeprefix(self.root).split("/"):
            if is_private(name):
                return f"{name!r} is private, as each name that begins with an underscore or a dot"
        return ""

    def _is_inside(self, path: str) -> bool:
        return path.startswith(self.root.rstrip("/") + "/")

    def _notice(self, folder: str) -> None:
        self.noticed(folder)

    def _write(self, path: str) -> None:
        self.written(path)

    def forget(self, script: Script) -> None:
        """Take a script out: its file is gone, or is not below the root any more."""
        self._by_path.pop(script.path, None)
        self.forget_spellings()

    def forget_spellings(self) -> None:
        """Resolve each SCRIPT_FILENAME anew: a symbolic link may lead elsewhere now."""
        self._by_spelling.clear()
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


def _without_proxy(filename: str) -> str:
    """The path in what Apache's mod_proxy_fcgi sends: "proxy:fcgi://host:port/path", "proxy:unix:/s|fcgi://h/path"."""
    if not filename.startswith("proxy:"):
        return filename
    _, _, rest = filename.partition("fcgi://")
    return "/" + rest.partition("/")[2] if rest else filename
