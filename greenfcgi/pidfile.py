"""The file that holds the process id while the server runs."""

from __future__ import annotations

import os

from .errors import BindError


class PidFile:
    """The pid file at `path`; nothing when that is empty."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self) -> None:
        """Put this process's id there. Raises `BindError`."""
        if self._path:
            try:
                with open(self._path, "w") as file:
                    file.write(f"{os.getpid()}\n")
            except OSError as problem:
                raise BindError(f"pidfile: cannot write {self._path!r}: {problem.strerror}") from None

    def rename(self, before: str, after: str) -> None:
        """Append something else to its name, so that a successor can write its own there. Never raises."""
        if self._path:
            try:
                os.rename(self._path + before, self._path + after)
            except OSError:
                pass

    def remove(self, ending: str = "") -> None:
        """Remove it, if it still holds this process's id. Never raises."""
        try:
            with open(self._path + ending) as file:
                is_own = file.read().strip() == str(os.getpid())
            if self._path and is_own:
                os.unlink(self._path + ending)
        except OSError:
            pass
