"""Tries scripts.startup before a process says that it is ready: what fails there would fail each request."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..config.load import Config
from ..errors import ConfigError, ScriptError
from ..scripts.script import Script
from ..scripts.texts import Texts
from ..scripts.version import Version
from .loader import StateLoader


class _Trial(Version):
    """A script behind scripts.startup that does nothing."""

    def __init__(self, path: str, handler: str) -> None:
        super().__init__(Texts(0))
        self._path = path
        self._text = f"function {handler}() end".encode()

    def read(self, path: str, fresh: bool = False, loading: bool = False) -> bytes:
        """As `Version.read`; nothing is read for the script itself."""
        return self._text if path == self._path else super().read(path, fresh, loading)


def try_startup(config: Config, loader: StateLoader) -> None:
    """Run scripts.startup in a state of its own, which goes again. Raises `ConfigError`, one line, when it fails.

    A script in the root, then the first one that there is below, can be the one that it is run for: what it requires
    may lie beside either.
    """
    if not config.scripts.startup:
        return
    failure: ScriptError | None = None
    for folder in _folders(config):
        path = os.path.join(folder, "scripts.startup")
        try:
            loader.make(Script(path, Texts(0), _ignore, _ignore), _Trial(path, config.scripts.handler)).close()
        except ScriptError as problem:
            failure = failure or problem
        else:
            return
    raise ConfigError(f"[scripts] startup: {str(failure).partition(chr(10))[0]}")


def _folders(config: Config) -> Iterator[str]:
    yield config.scripts.root
    for folder, _, names in os.walk(config.scripts.root):
        if any(name.endswith(config.scripts.extensions) for name in names):
            if folder != config.scripts.root:
                yield folder
            return


def _ignore(path: str) -> None:
    """Nobody watches the files of a trial."""
