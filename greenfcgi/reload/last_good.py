"""The last good version of a script: what is served while the files as they are now do not load.

The process that has loaded it keeps serving it (`reloader`). Here, it is kept for the others: for a process that has
not loaded the script before, because it has just been started or had no request for it. When no process has a good
version, the request is answered with the error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from ..errors import ScriptBroken, ScriptBusy, ScriptError, ScriptMissing
from ..logs.error_log import ErrorLog
from ..lua.state import State
from ..scripts.file_signature import digest, signature
from ..scripts.script import Script
from ..scripts.version import Version
from .reloader import Load
from .version_store import HALF, VersionStore


class LastGood:
    """Loads scripts, or their last good versions from `store` where the files do not load.

    `put` is called with the path of a script that is to be checked again: the flush queue's.
    """

    def __init__(self, load: Load, store: VersionStore, log: ErrorLog, put: Callable[[str], None]) -> None:
        self._load = load
        self._store = store
        self._log = log
        self._put = put
        #: Scripts whose first version does not load, as the log says.
        self._logged: set[str] = set()
        #: Scripts whose files were gone at the last beat.
        self._gone: set[str] = set()

    def make(self, script: Script, version: Version | None = None) -> State:
        """A state that holds a script in this version; by default in the one that is served, or as its files are now.

        Raises `ScriptError`.
        """
        wanted = version or script.version
        is_known = version is None and script.loaded_at
        try:
            state = self._load(script, version)
        except ScriptError as problem:
            if version is not None:
                raise
            return self._make_last_good(script, wanted, problem)
        if not is_known and (version is not None or script.version is wanted):
            self._logged.discard(script.path)
            self._keep(script.path, wanted, grown=False)
        return state

    def _make_last_good(self, script: Script, failed: Version, problem: ScriptError) -> State:
        if isinstance(problem, (ScriptMissing, ScriptBusy)):
            raise problem
        if script.loaded_at:
            if script.version is failed:
                raise problem
            # Somebody else has found one meanwhile.
            return self._load(script)
        kept = self._store.get(script.path)
        if kept is None:
            self._log_first(script)
        if kept is None or _is_the_same(failed, kept.texts):
            raise problem
        good = script.new_version()
        good.restore(kept.texts)
        # Beside the script itself, only the files of the version that does not load are checked for changes.
        good.signatures[script.path] = signature(script.path)
        script.problem = ""
        try:
            state = self._load(script, good)
        except ScriptError:
            script.problem = str(problem)
            raise problem from None
        if script.version.is_complete:
            # While this one waited, the files were fixed.
            return state
        script.restored(good, failed, str(problem))
        traceback = problem.traceback if isinstance(problem, ScriptBroken) else ""
        self._log.error(f"{script.path}: does not load; the last good version stays in service: {problem}", traceback)
        if script.stale():
            self._put(script.path)
        return state

    def _log_first(self, script: Script) -> None:
        if script.path not in self._logged:
            self._logged.add(script.path)
            self._log.warning(f"{script.path}: does not load, and no version of it has since the server was started")

    def _keep(self, path: str, version: Version, grown: bool) -> None:
        files = version.files()
        if not grown:
            version.identity = digest(b"".join(_marks(version)))
        version.kept = len(files)
        if not self._store.put(path, files, version.identity, grown) and self._store.is_first_refusal():
            self._log.warning(
                f"{path}: its last good version is not kept for other processes, and others may not be: "
                f"their texts are more than {HALF // 1024 // 1024} MiB together"
            )

    def keep_all(self, scripts: Iterable[Script]) -> None:
        """Keep files that were added to the versions that are served: modules that requests have required.

        To be called with each heartbeat. Versions of scripts that were gone at the last one and still are, are dropped.
        """
        while self._gone:
            path = self._gone.pop()
            if not os.path.isfile(path):
                self._store.drop(path)
        for script in scripts:
            version = script.version
            if script.loaded_at and not version.is_held and version.kept != version.file_count():
                self._keep(script.path, version, grown=True)

    def forget(self, script: Script) -> None:
        """The file of a script is gone: drop its last good version at the next heartbeat, unless it is back by then."""
        self._logged.discard(script.path)
        self._gone.add(script.path)


def _is_the_same(version: Version, texts: dict[str, bytes | None]) -> bool:
    """All files that the version has looked for are the same in `texts`: its error is not one of the files."""
    files = version.files()
    for path in version.signatures:
        text = files.get(path)
        if path not in texts or texts[path] != (text.data if text is not None else None):
            return False
    return True


def _marks(version: Version) -> list[bytes]:
    files = sorted(version.files().items())
    return [path.encode("utf-8", "surrogateescape") + b"\0" + (text.digest if text else b"") for path, text in files]
