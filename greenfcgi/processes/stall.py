"""What a process that sends no heartbeats can still report: which script holds it, and where that script is.

Lua runs without Python's global lock, so a thread can look at the state that the hub is stuck in, while nothing else
in the process can move. It waits for a byte from the supervisor, and writes what it finds to the error log; then the
supervisor kills the process, whether there was a report or not. The traceback is read from a running Lua, which no Lua
allows for; should that crash, the process was to end anyway.
"""

from __future__ import annotations

import _thread
import os
import sys
from typing import TYPE_CHECKING, Any

from ..logs.error_log import ErrorLog
from ..lua.state import State
from ..lua.turns import Turns

if TYPE_CHECKING:
    from types import FrameType

#: Bytes of address space for the thread's stack; the default is 8 MB.
_STACK_SIZE = 256 * 1024
_GCSTOP = 0
_OWN = ("[C]:", "greenfcgi:", "?:", "(...tail call")


def start_stack_reporter(descriptor: int, log: ErrorLog, turns: Turns) -> None:
    """Start a thread that waits for a byte from `descriptor`, and then logs what the calling thread is stuck in.

    `turns.running` says whose code that thread runs.
    """
    before = _thread.stack_size(_STACK_SIZE)
    _thread.start_new_thread(_wait, (descriptor, log, turns, _thread.get_ident()))
    _thread.stack_size(before)


def _wait(descriptor: int, log: ErrorLog, turns: Turns, thread: int) -> None:
    while os.read(descriptor, 1):
        state = turns.running
        if not isinstance(state, State):
            frame = sys._current_frames().get(thread)
            log.critical("stuck outside Lua; Python traceback:", _python_traceback(frame))
            continue
        log.critical(f"stuck in {state.where()}")
        traceback = _lua_traceback(state) if state._runtime is not None else ""
        if traceback:
            log.critical("Lua traceback:", traceback)


def _python_traceback(frame: FrameType | None) -> str:
    import traceback

    return "".join(traceback.format_stack(frame))


def _lua_traceback(state: State) -> str:
    """Lua's traceback; empty where it cannot be had (Lua 5.1, or a lupa that is laid out otherwise)."""
    import ctypes

    runtime: Any = state._runtime
    lua = ctypes.CDLL(sys.modules[type(runtime).__module__].__file__)
    pointer = state.lua_state()
    if pointer is None or not hasattr(lua, "luaL_traceback"):
        return ""
    lua.luaL_newstate.restype = ctypes.c_void_p
    lua.lua_tolstring.restype = ctypes.c_char_p
    # Written in a state of its own: the other's stack is in use.
    scratch = ctypes.c_void_p(lua.luaL_newstate())
    lua.lua_gc(scratch, _GCSTOP, 0)
    lua.luaL_traceback(scratch, ctypes.c_void_p(pointer), None, 0)
    text: bytes = lua.lua_tolstring(scratch, -1, None) or b""
    lines = text.decode("utf-8", "replace").split("\n")
    # What is above the script is the server's own.
    while len(lines) > 1 and lines[-1].lstrip().startswith(_OWN):
        lines.pop()
    return "\n".join(lines)
