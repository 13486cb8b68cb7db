"""The scripts of a server: which files may run, and which of them SCRIPT_FILENAME means.

Only regular files below `scripts.root`, after all symbolic links have been followed, with a listed extension, are
scripts; but neither are what lies in the folder of static files nor what is private, by a name that begins with "_" or
".". The path is taken as it is: there is no walking up a path that does not exist to find one that does (php-fpm's
cgi.fix_pathinfo made that way into remote execution twice, CVE-2019-11043 the last time). What comes from Apache as the
address of a proxy is resolved in `proxied` before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from ..errors import ScriptForbidden, ScriptMissing
from ..fastcgi.proxied import Target, parse
from .file_signature import Signature, signature
from .script import Script
from .texts import Texts

#: The most SCRIPT_FILENAMEs that are remembered; one script can be reached by many spellings of its path.
_MAX_ALIASES = 1_000
#: The longest that is remembered; the kernel takes none that is longer (PATH_MAX).
_MAX_ALIAS = 4096
#: Bytes of texts that all versions of a process keep.
_MAX_TEXTS = 32 * 1024 * 1024


def is_private(name: str) -> bool:
    """A file or folder of this name holds modules, or nothing for visitors: no script in it answers a request.

    Two dots are Kubernetes's: a mounted folder's files are links into "..data".
    """
    return name.startswith("_") or (name.startswith(".") and not name.startswith(".."))


class Catalogue:
    """All scripts that have been asked for.

    `root` is a directory, `extensions` the endings that a script may have (".lua"), compared byte for byte; `public` is
    the folder below it whose files are sent as they are, and never run, or "".
    """

    def __init__(self, root: str, extensions: Sequence[str], public: str = "") -> None:
        #: As the configuration has it.
        self.given_root = root.rstrip("/")
        self.root = os.path.realpath(root)
        self._extensions = tuple(extensions)
        self._public = public
        #: Scripts that the configuration names, by their real paths: these may be private.
        self._named: set[str] = set()
        #: The scripts by what SCRIPT_FILENAME has been for them; `find` is for what is not in it.
        self.known: dict[bytes | None, Script] = {}
        self._by_path: dict[str, Script] = {}
        #: The programs of [apps], which are not found by a path.
        self.applications: dict[Hashable, Script] = {}
        self._texts = Texts(_MAX_TEXTS)
        self._proxied: dict[bytes, Target] = {}
        #: Called with the path of each file that a script is made of, before a version reads it first, also where it
        #: is missing; and with the path by which a script was asked for, where links are on the way.
        self.on_read: Callable[[str], None] = lambda path: None
        #: Called with the path of each file that a script itself is about to write.
        self.on_write: Callable[[str], None] = lambda path: None

    def __iter__(self) -> Iterator[Script]:
        return iter([*self._by_path.values(), *self.applications.values()])

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
            self.root = os.path.realpath(self.given_root)
        if path == self.root:
            raise ScriptMissing(f"SCRIPT_FILENAME {spelling!r} is scripts.root, which has no scripts.index")
        if not self._is_inside(path):
            raise ScriptForbidden(f"SCRIPT_FILENAME {spelling!r} is not below scripts.root, which is {self.root!r}")
        if not path.endswith(self._extensions):
            expected = ", ".join(self._extensions)
            raise ScriptMissing(f"SCRIPT_FILENAME {spelling!r} does not end in one of scripts.extensions: {expected}")
        if reason := self._why_not_run(path):
            raise ScriptMissing(f"SCRIPT_FILENAME {spelling!r} is not run: {reason}")
        try:
            mode = os.stat(path).st_mode
        except OSError as problem:
            raise ScriptMissing(f"SCRIPT_FILENAME {spelling!r}: {problem.strerror}") from None
        if not stat.S_ISREG(mode):
            raise ScriptMissing(f"SCRIPT_FILENAME {spelling!r} is not a regular file")
        script = self._by_path.setdefault(path, Script(path, self._texts, self._read, self._write))
        if len(self.known) >= _MAX_ALIASES:
            self.forget_aliases()
        if len(filename) > _MAX_ALIAS:
            return script
        self.known[filename] = script
        named = os.path.normpath(spelling)
        if named != path:
            script.aliases[spelling] = signature(spelling)
            # A link on the way may come to lead elsewhere.
            self._read(named)
        return script

    def target(self, filename: bytes) -> Target:
        """What Apache means by a SCRIPT_FILENAME that begins with "proxy:"."""
        found = self._proxied.get(filename)
        if found is None:
            found = parse(filename, tuple(map(os.fsencode, self._extensions)))
            # PATH_INFO is the client's: what has one is not remembered, nor is what leads to no script.
            if not found.info and found.path in self.known and len(filename) <= _MAX_ALIAS:
                if len(self._proxied) >= _MAX_ALIASES:
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

    def add_application(self, key: Hashable, path: str, launcher: bytes) -> Script:
        """A program that is the module at this real path, and begins with this Lua source, in the folder `root`."""
        script = Script(path, self._texts, self._read, self._write, self.root, launcher)
        self.applications[key] = script
        return script

    def _is_inside(self, path: str) -> bool:
        return path.startswith(self.root.rstrip("/") + "/")

    def _read(self, path: str) -> None:
        self.on_read(path)

    def _write(self, path: str) -> None:
        self.on_write(path)

    def forget(self, script: Script) -> None:
        """Take a script out: its file is gone, or is not below the root any more."""
        if script.launcher:
            self.applications = {key: one for key, one in self.applications.items() if one is not script}
        else:
            self._by_path.pop(script.path, None)
        self.forget_aliases()

    def forget_aliases(self) -> None:
        """Resolve each SCRIPT_FILENAME again: a symbolic link may lead elsewhere now."""
        self.known.clear()
        self._proxied.clear()
        for script in self._by_path.values():
            script.aliases.clear()

    def follow_root(self) -> list[Script]:
        """Resolve `scripts.root` again; the scripts that are not below it any more are taken out and returned."""
        self.root = os.path.realpath(self.given_root)
        gone = [script for script in self if not self._is_inside(script.path) and not script.is_in(self.root)]
        for script in gone:
            self.forget(script)
        return gone

    def signatures(self) -> dict[str, Signature]:
        """Every file that counts for any script, with the signature that was last taken notice of."""
        known: dict[str, Signature] = {}
        for script in self:
            known |= script.signatures()
        return known

    def affected_by(self, paths: frozenset[str]) -> list[Script]:
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
