"""Loads scripts into states, and records on the script whether that worked."""

from __future__ import annotations

from ..errors import ScriptError
from ..scripts.script import Script
from ..scripts.version import Version
from .engine import LuaEngine
from .state import State


class StateLoader:
    """Makes states of one engine."""

    def __init__(self, engine: LuaEngine) -> None:
        self._engine = engine

    def make(self, script: Script, version: Version | None = None) -> State:
        """A state that has loaded `script`, in the version that is served unless another one is given.

        Raises `ScriptError`: missing, forbidden, or broken.
        """
        is_new = version is not None or not script.loaded_at
        try:
            state = State(self._engine, script, version or script.version)
        except ScriptError as problem:
            script.failed(str(problem) if is_new else "")
            raise
        state.version.is_complete = True
        if is_new and script.loaded():
            self._engine.log.info(f"{script.path}: loads again")
        return state
