"""What a process that has stopped beating can still tell: which script holds it, and where that script is.

Lua runs without Python's global lock, so a thread can look at the state that the hub is stuck in, while nothing else
in the process can move. It waits for one byte from the supervisor, writes to the error log what it finds, and that is
all: the supervisor ends the process afterwards, whether there was an answer or not. The traceback is read from a
running Lua, which no Lua allows for; should that crash, it comes no sooner than the end.
"""

from __future__ import annotations

import _thread
import os
import sys
from typing import TYPE_CHECKING, Any

from ..logs.error_log import ErrorLog
from ..lua.state import State

if TYPE_CHECKING:
    from types import FrameType

#: The thread needs little; the default is 8 MB of address space.
_STACK = 256 * 1024
_GCSTOP = 0
_OWN = ("[C]:", "greenfcgi:", "?:", "(...tail call")


def start_stack_reporter(descriptor: int, log: ErrorLog) -> None:
    """Start the thread that waits for a byte from `descriptor`, and then tells `log` what holds this thread."""
    before = _thread.stack_size(_STACK)
    _thread.start_new_thread(_wait, (descriptor, log, _thread.get_ident()))
    _thread.stack_size(before)


def _wait(descriptor: int, log: ErrorLog, held: int) -> None:
    while os.read(descriptor, 1):
        frame = sys._current_frames().get(held)
        state = _state(frame)
        if state is None:
            log.critical("stalled outside any script", _python_way(frame))
            continue
        log.critical(f"stalled in {state.where()}")
        traceback = _lua_way(state) if state._runtime is not None else ""
        if traceback:
            log.critical("it is here:", traceback)


def _state(frame: FrameType | None) -> State | None:
    """The state whose code the thread runs."""
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, State):
            return owner
        frame = frame.f_back
    return None


def _python_way(frame: FrameType | None) -> str:
    import traceback

    return "".join(traceback.format_stack(frame))


def _lua_way(state: State) -> str:
    """Lua's traceback; empty where it cannot be had (Lua 5.1, or a lupa that is laid out otherwise)."""
    import ctypes

    runtime: Any = state._runtime
    lua = ctypes.CDLL(sys.modules[type(runtime).__module__].__file__)
    held = state.lua_state()
    if held is None or not hasattr(lua, "luaL_traceback"):
        return ""
    lua.luaL_newstate.restype = ctypes.c_void_p
    lua.lua_tolstring.restype = ctypes.c_char_p
    # Written in a state of its own: the other's stack is in use.
    page = ctypes.c_void_p(lua.luaL_newstate())
    lua.lua_gc(page, _GCSTOP, 0)
    lua.luaL_traceback(page, ctypes.c_void_p(held), None, 0)
    text: bytes = lua.lua_tolstring(page, -1, None) or b""
    lines = text.decode("utf-8", "replace").split("\n")
    # What is above the script is the server's own.
    while len(lines) > 1 and lines[-1].lstrip().startswith(_OWN):
        lines.pop()
    return "\n".join(lines)
