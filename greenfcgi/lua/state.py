"""One Lua state: a runtime that holds one version of one script.

A state is used by one greenlet at a time. lupa's own lock compares thread ids, so two greenlets pass it and get
silently wrong results from each other; `pool` sees to it that a state has one user.

Only scalars cross the border, and before anything is pushed into a state it must have room for it: a push into a
state that is at its memory limit is outside any protected call, and aborts the process or hangs it. `_make_room`
raises the limit for such a push; the state is thrown away after the request.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import Any, Final, NamedTuple

from ..errors import ScriptBroken, ScriptBusy, ScriptError, ScriptForbidden, ScriptLate, ScriptMissing
from ..fastcgi.response import Reply
from ..logs.text import decode
from ..scripts.script import Script
from ..scripts.version import Version
from ..system.malloc import trim_heap
from .bridge import Bridge, Exchange
from .closed import explained
from .engine import LuaEngine

#: What a push may need beside the text itself: its copy, the stack, a table that grows.
_HEADROOM: Final = 64 * 1024
#: For each byte of the parameters: a pair of one letter and nothing has 3 bytes, and takes 100 in a table.
_ROOM_FOR_PARAMS: Final = 16
#: What a state that has no memory left gets, so that it can end with an error.
_RESERVE: Final = 1024 * 1024
#: The kinds of error that `boot.lua` returns, beside b"gone".
_ERROR: Final = b"error"
_LATE: Final = b"late"
_MEMORY: Final = b"memory"
#: What `con.lua` says of a body that ends before the Content-Length that has been sent.
_SHORT: Final = b"short"
#: What late code raises outside any script, between the parts of a run.
_LATE_TEXT: Final = "the request has run longer than its time"
#: Often memory, at the moment when the way to an error is written down.
_IN_HANDLER: Final = b"error in error handling"
#: An unusual number of instructions between two calls of a hook.
_MARK: Final = 12345
_NEVER: Final = float("inf")


class LuaFailure(NamedTuple):
    """The error that ended a script: its message and Lua's traceback, both text without a line break at the end."""

    message: str
    traceback: str
    #: What answers the request.
    status: int = 500
    #: For the developer mode: the functions on the way with their variables (JSON, or nothing), and what the
    #: script has written and not sent.
    frames: bytes = b""
    written: bytes = b""


class State:
    """One runtime with one version of one script loaded. Made by `StateLoader.make`."""

    __slots__ = (
        "_bridge", "_budget", "_collect_above", "_collect_garbage", "_engine", "_hook", "_is_full", "_limit",
        "_limited", "_load_text", "_max_requests", "_report", "_run", "_runtime", "_settle", "is_healthy", "made",
        "requests", "script", "version",
    )  # fmt: skip

    def __init__(self, engine: LuaEngine, script: Script, version: Version) -> None:
        self.script = script
        self.version = version
        #: False once something happened that may have left it in disorder: it must not be used again.
        self.is_healthy = True
        #: When it was made, in seconds of the monotonic clock.
        self.made = time.monotonic()
        #: How many requests it has answered.
        self.requests = 0
        self._engine = engine
        self._limit = engine.config.lua.memory
        self._limited = engine.limited
        #: All of its memory has been used.
        self._is_full = False
        states = engine.config.states
        self._max_requests = 1 if states.per_request else states.max_requests or _NEVER
        self._budget = engine.budget()
        self._budget.is_load = True
        self._budget.state = self
        self._budget.begin()
        self._bridge = Bridge(
            script.path, version, engine.log, engine.log_slow, self._budget, self._reserve, self._on_out_of_memory,
            engine.hint, engine.files, engine.minor, engine.parts, engine.modules, engine.config.after_timeout,
            engine.config.folder, engine.config.lua.cpath, script.directory,
        )  # fmt: skip
        # Only these hold the runtime. None once it has been let go.
        self._runtime: Any = None
        self._load_text: Any
        self._run: Any
        self._hook: Any
        self._collect_garbage: Any
        self._settle: Any
        self._report: Any
        (
            self._runtime, self._load_text, self._run, self._hook, self._collect_garbage, self._settle, self._report,
        ) = engine.boot(self._bridge)  # fmt: skip
        startup = engine.config.scripts.startup
        try:
            if startup:
                self._load(startup, True)
            self._load(script.path, False, script.launcher)
        except BaseException:
            # Now, and not when Python's collector comes: its finalizers would run in somebody else's request.
            self._let_go()
            raise
        finally:
            if self._bridge.at_end:
                self._bridge.end_run()
        self._load_text = None
        self._bridge.loading = self._budget.is_load = False
        if self._bridge.granted:
            self._settle_files()
        # What compiling left behind is half of the state's memory.
        self._collect()
        self._budget.end()

    @property
    def is_reusable(self) -> bool:
        """It may serve another request: it is healthy, not used up, and holds the version that is served now."""
        return self.is_healthy and self.version is self.script.version and self.requests < self._max_requests

    def memory(self) -> int:
        """Bytes that Lua has allocated; 0 where lupa does not count (luajit20)."""
        used: int = self._runtime.get_memory_used() or 0
        # The counter is unsigned, and can pass below zero when garbage of the boot is freed.
        return used if used < 1 << 62 else 0

    def run(self, exchange: Exchange, seconds: float = 0.0) -> Reply | LuaFailure:
        """Answer one request. Never raises what a script has done; `is_healthy` says whether the state survived it.

        With `seconds`, it may run for so long, whatever the deadline of the request is.
        """
        params = exchange.params
        room = _ROOM_FOR_PARAMS * len(params)
        self._budget.begin(exchange.deadline, exchange)
        if seconds:
            self._budget.extend(seconds)
        if self._limited and self._runtime.get_memory_used() + 2 * room + _HEADROOM > self._collect_above:
            self._collect()
            self._make_room(room)
        self.requests += 1
        bridge = self._bridge
        bridge.exchange = exchange
        try:
            result: Reply | tuple[bytes, bytes, bytes] = self._run(params)
        except self._errors() as problem:
            return self._failed(*_failure(problem))
        finally:
            if bridge.at_end:
                bridge.end_run()
            bridge.exchange = None
            if bridge.granted:
                self._settle_files()
            self._budget.end()
        kind, first, second = result
        if not isinstance(kind, bytes):
            return result  # type: ignore[return-value]
        if kind == _SHORT:
            exchange.send(0, b"", second)
            second = b""
        return self._failed(kind, first, second)

    def where(self) -> str:
        """The script, and the request that it answers, for messages."""
        exchange = self._bridge.exchange
        return f"{self.script.path}: {exchange.title}" if exchange is not None else self.script.path

    def lua_state(self) -> int | None:
        """The address of the runtime's lua_State; None where lupa does not keep it where it is looked for."""
        from ctypes import c_void_p

        offset = _state_offset(type(self._runtime))
        return None if offset is None else c_void_p.from_address(id(self._runtime) + offset).value

    def has_hook(self, name: str) -> bool:
        """The script defines a function of this name."""
        # The time of whatever it ran last may be over, and its memory used up.
        self._budget.begin()
        try:
            self._make_room(len(name))
            found: bool = self._hook(name.encode(), True)
        finally:
            self._budget.end()
        return found

    def hook(self, name: str) -> None:
        """Call the script's function `name` (heartbeat, shutdown), where it has one. Errors go to the log."""
        self._budget.begin()
        try:
            self._make_room(len(name))
            failure = self._hook(name.encode())
        except self._errors() as problem:
            failure = _failure(problem)
        finally:
            if self._bridge.at_end:
                self._bridge.end_run()
            if self._bridge.granted:
                self._settle_files()
            self._budget.end()
        if failure is not None:
            message, traceback = self._failed(*failure)[:2]
            self._engine.log.error(f"{self.script.path}: {name}: {message}", traceback)

    def close(self) -> None:
        """Run the script's shutdown, and let the runtime go. A state in disorder skips the hook."""
        if self.is_healthy:
            self.hook("shutdown")
        self._let_go()

    def _let_go(self) -> None:
        """End the runtime, which runs all finalizers; nothing else holds it."""
        self.is_healthy = False
        if self._runtime is None:
            return
        if self._limited:
            # For what finalizers call. 5.2 and 5.3 write past the stack when many of them fail, as calls do where no
            # memory is left.
            self._bridge.closes_with = self.memory() + _RESERVE
            self._runtime.set_max_memory(self._bridge.closes_with)
        else:
            self._bridge.closes_with = _NEVER
        self._bridge.is_ending = True
        self._budget.resume()
        try:
            self._bridge.keep_files(self._settle(True)[0])
        except self._errors():
            # It is at its end already, and nobody knows.
            self._bridge.keep_files(0)
        self._run = self._hook = self._report = self._load_text = self._collect_garbage = self._settle = None
        self._runtime = None
        for close in self._bridge.at_close:
            close()
        self._budget.end()
        # Each has held the other.
        self._budget.state = None
        if self._bridge.granted > 0:
            # Lua has forgotten them where it could not call their finalizers. They are taken for ever.
            self._engine.lost_files += self._bridge.granted
            self._engine.log.warning(
                f"{self.script.path}: {self._bridge.granted} files stay open: "
                "Lua had no memory, or was too deep in calls, when it wanted to close them"
            )
        if self._is_full:
            # Lies in pieces between what is still in use, and 300 such requests in sequence would take a gigabyte.
            # In a turn of its own: it takes as long as an uninterruptible function of Lua.
            self._engine.turns.queue(trim_heap)

    def _load(self, path: str, is_startup: bool, launcher: bytes = b"") -> None:
        try:
            text = launcher or self.version.read(path, loading=True)
        except OSError as problem:
            if is_startup:
                raise ScriptBroken(f"scripts.startup: {path}: {problem.strerror}") from None
            raise _unreadable(path, problem) from None
        self._make_room(len(text) + len(path))
        try:
            failure = self._load_text(os.fsencode(path), text, is_startup)
        except self._errors() as problem:
            failure = _failure(problem)
        if failure is not None:
            found = self._failed(*failure)
            kind = ScriptLate if found.status == ScriptLate.status else ScriptBroken
            # Lua shortens a long path, and some messages have none.
            message = found.message if path in found.message else f"{path}: {found.message}"
            raise kind(message, found.traceback, found.frames, self.version.texts)

    def _failed(self, kind: bytes, message: bytes, traceback: bytes) -> LuaFailure:
        """An error of `boot.lua`, for people. The state is not used again where it may be in disorder."""
        text, way = explained(decode(message), self._engine.config.lua.allow), decode(traceback)
        if kind == _LATE:
            self.is_healthy = False
            self._engine.timeouts += 1
            limit = f"timeout, {self._budget.timeout:g} s"
            if self._budget.is_extended:
                limit = f"after_timeout, {self._engine.config.after_timeout:g} s"
            return LuaFailure(f"stopped: it ran longer than {limit}", way, 504)
        if kind == _MEMORY or (message == _IN_HANDLER and self.memory() + _HEADROOM > self._limit):
            self.is_healthy = False
            self._is_full = True
            self._engine.memory_kills += 1
            text = f"out of memory (lua.memory is {self._limit} bytes)"
        if self._report is None or not self.is_healthy:
            return LuaFailure(text, way)
        frames, written = self._report()
        return LuaFailure(text, way, 500, frames, written)

    def _on_out_of_memory(self) -> None:
        """The script has used all of its memory: it gets a little more, to end with."""
        self.is_healthy = False
        self._is_full = True
        if self._limited and self._runtime is not None:
            self._runtime.set_max_memory(self._limit + _RESERVE)

    def _collect(self) -> None:
        """Free what is garbage. Lua 5.1 and LuaJIT do not when they reach the limit: they fail, even when full of it.

        The next time is when half of the room that is left has been used.
        """
        self._collect_garbage()
        used = self.memory()
        self._collect_above = used + (self._limit - used) // 2

    def _reserve(self, length: int) -> bool:
        """Make room for what the script has asked for. False when it has been given more than its memory before."""
        if self._runtime is None:
            # It is being made, with all the memory it wants; or it has been let go.
            return not self._bridge.is_ending
        if not self.is_healthy and self.memory() > self._limit:
            return False
        self._make_room(length)
        return True

    def _make_room(self, length: int) -> None:
        if not self._limited or self._runtime.get_memory_used() + 2 * length + _HEADROOM <= self._limit:
            return
        need = self.memory() + 2 * length + _HEADROOM
        if need > self._limit:
            self._runtime.set_max_memory(need)
            self.is_healthy = False

    def _settle_files(self) -> None:
        """Give back what the files that have been closed had taken."""
        if not self.is_healthy:
            return
        try:
            held, lost = self._settle()
            self._bridge.keep_files(held)
            if lost:
                # Other finalizers may have failed, too.
                self.is_healthy = False
        except self._errors():
            # The script's time was over in the midst of its last step.
            self.is_healthy = False

    def _errors(self) -> type[Exception]:
        error: type[Exception] = sys.modules[type(self._runtime).__module__].LuaError
        return error


def _state_offset(kind: Any) -> int | None:
    """How far into a LuaRuntime of lupa its lua_State is: behind the object's head and its table of methods.

    Found by a number that is set in a runtime, and must be read again from its lua_State.
    """
    import ctypes

    lua = ctypes.CDLL(sys.modules[kind.__module__].__file__)
    runtime = kind(encoding=None)
    runtime.execute(b"debug.sethook(function() end, '', %d)" % _MARK)
    offset = 3 * ctypes.sizeof(ctypes.c_void_p)
    address = ctypes.c_void_p.from_address(id(runtime) + offset).value
    if offset >= kind.__basicsize__ or not address or not hasattr(lua, "lua_gethookcount"):
        return None
    shown = runtime.execute(b"return (tostring((coroutine.running())))")
    if shown.startswith(b"thread: 0x") and int(shown.partition(b"0x")[2], 16) != address:
        return None
    found = lua.lua_gethookcount(ctypes.c_void_p(address))
    # After the look: compiled code lets go of a local, here of the runtime that is looked into, when it is last used.
    runtime.execute(b"debug.sethook()")
    return offset if found == _MARK else None


def _failure(problem: Exception) -> tuple[bytes, bytes, bytes]:
    """The same of an exception of lupa's: what was raised around a script, not in it."""
    text = str(problem)
    kind = _MEMORY if isinstance(problem, MemoryError) else _LATE if text.startswith(_LATE_TEXT) else _ERROR
    return kind, text.encode("utf-8", "replace"), b""


def _unreadable(path: str, problem: OSError) -> ScriptError:
    kind: type[ScriptError] = ScriptBroken
    if isinstance(problem, (FileNotFoundError, NotADirectoryError)):
        kind = ScriptMissing
    elif isinstance(problem, PermissionError):
        kind = ScriptForbidden
    elif problem.errno in (errno.EMFILE, errno.ENFILE):
        kind = ScriptBusy
    return kind(f"{path}: {problem.strerror}")
