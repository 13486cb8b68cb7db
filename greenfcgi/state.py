"""One Lua state: a runtime that holds one version of one script. The only module that imports lupa.

A state is used by one greenlet at a time. lupa's own lock compares thread ids, so two greenlets pass it and get
silently wrong results from each other; `pool` sees to it that a state has one user.

Only scalars cross the border, and before anything is pushed into a state it must have room for it: a push into a
state that is at its memory limit is outside any protected call, and aborts the process or hangs it. `_make_room`
raises the limit for such a push; the state is thrown away after the request.
"""

from __future__ import annotations

import errno
import importlib
import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from .api import Exchange, Hint, Host, TellSlow, lua_literal, lua_parts
from .budget import Budget
from .bytecode import stripped
from .config import Config
from .errors import (
    ConfigError,
    ProtocolError,
    ScriptBroken,
    ScriptBusy,
    ScriptError,
    ScriptForbidden,
    ScriptLate,
    ScriptMissing,
)
from .flavours import available
from .lines import decode
from .log import ErrorLog
from .metrics import Metrics
from .quota import Quota
from .records import ROUTING, Routing, separator
from .replies import Reply
from .scripts import Script, Version
from .trim import give_back
from .turns import Turns

if TYPE_CHECKING:
    from .programs import Programs

#: What a push may need beside the text itself: its copy, the stack, a table that grows.
_HEADROOM: Final = 64 * 1024
#: For each byte of the parameters: a pair of one letter and nothing has 3 bytes, and takes 100 in a table.
_ROOM_FOR_PARAMS: Final = 16
#: What a state that has no memory left gets, so that it can end with an error.
_RESERVE: Final = 1024 * 1024
#: The kinds of error that `boot.lua` tells, beside b"gone".
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
#: The flavours whose memory lupa can neither count nor limit.
_UNLIMITED: Final = ("luajit20",)
_NEVER: Final = float("inf")
#: The parts of each state, in the order in which `boot.lua` takes them.
_BOOT_PARTS: Final = (
    "guard", "finalizers", "luajit", "limits", "bounds", "load", "standins", "random", "con",
)  # fmt: skip
#: Parts whose functions stand between a script and a function of Lua that tells where it was called. The line numbers
#: stay in them: a message that names one is given the script's line instead. The names are those of their chunks, which
#: tracebacks show: what stands in for a function of Lua is shown as that.
_WITH_LINES: Final = {"bounds": b"=[C]", "limits": b"=greenfcgi", "luajit": b"=[C]"}


class LuaFailure(NamedTuple):
    """The error that ended a script: its message and Lua's traceback, both text without a line break at the end."""

    message: str
    traceback: str
    #: What answers the request.
    status: int = 500
    #: What the developer mode is told: the functions on the way with their variables (JSON, or nothing), and what the
    #: script has written and not sent.
    frames: bytes = b""
    written: bytes = b""


class Flavour:
    """One of the Luas that lupa ships, made ready for this server's settings. Makes states.

    One flavour to a process: where native modules are allowed its symbols become global, and a second one
    would crash. Raises `ConfigError` when lupa does not have it.
    """

    def __init__(
        self,
        config: Config,
        log: ErrorLog,
        tell_slow: TellSlow | None = None,
        metrics: Metrics | None = None,
        hint: Hint | None = None,
        files: Quota | None = None,
    ) -> None:
        self._config = config
        #: Descriptors that the files of all scripts may take together; None: as many as there are.
        self.files = files
        #: Takes what developers are told; None in production, where states look at nothing for them.
        self._hint = hint
        #: Counts the runs that had to be stopped.
        self.metrics = metrics or Metrics()
        self._log = log
        self._tell_slow = tell_slow or _tell_nobody
        self._slow_after = None if tell_slow is None else config.slowlog_timeout
        #: The states whose scripts compute take turns.
        self.turns = Turns()
        allow = config.lua.allow
        self._lupa = _import_lupa(
            config.lua.version, native_modules=bool(config.lua.cpath) or "package.loadlib" in allow
        )
        #: Scripts may run other programs.
        self._with_programs = "os.execute" in allow or "io.popen" in allow
        more = (["programs"] if self._with_programs else []) + (["inspect"] if hint is not None else [])
        self._parts = self._compiled(lua_parts(*more))
        self._app = lua_literal(config.app)
        #: lua.memory is kept.
        self.limited = config.lua.version not in _UNLIMITED
        if not self.limited:
            log.warning(f"lua.memory is not kept on {config.lua.version}: lupa cannot limit its memory")
        #: 5.x
        self.minor: int = self._lupa.LUA_VERSION[1]
        #: "LuaJIT 2.1", "Lua 5.4".
        self.name: str = self._lupa.LuaRuntime().lua_implementation

    def budget(self) -> Budget:
        """The time of one state's code."""
        config = self._config
        return Budget(self.turns, config.timeout, self._slow_after, config.lua.time_slice)

    def make(self, script: Script, version: Version | None = None) -> State:
        """A state that has loaded `script`, in its current version unless another one is given.

        Raises `ScriptError`: missing, forbidden, or broken.
        """
        is_new = version is not None or not script.loaded
        try:
            state = State(self, script, version or script.version)
        except ScriptError as problem:
            if is_new:
                script.problem = str(problem)
            if not script.loaded:
                # There is nothing good to go back to: the next request reads the files anew.
                script.version = script.new_version()
            raise
        state.version.is_complete = True
        if is_new:
            if script.problem:
                self._log.info(f"{script.path}: loads again")
            script.loaded, script.problem = time.time(), ""
        return state

    def _compiled(self, parts: dict[str, bytes]) -> dict[str, bytes]:
        """The package's Lua sources as bytecode, mostly without line numbers.

        It takes a half (LuaJIT) to a fifth (5.1) of the time to make a state, and saves 8 KB (LuaJIT) to 40 KB (5.1)
        in each. Only our own: scripts cannot load bytecode.
        """
        dump = self._lupa.LuaRuntime(encoding=None).execute(
            b"local load, dump = loadstring or load, string.dump "
            b"return function(text, name, strip) return dump(assert(load(text, name)), strip) end"
        )
        version = self._config.lua.version
        compiled = {}
        for name, text in parts.items():
            chunk = _WITH_LINES.get(name)
            # LuaJIT has a place without them, too.
            keep_lines = chunk is not None and not version.startswith("luajit")
            code = dump(text, chunk or b"=greenfcgi", not keep_lines)
            compiled[name] = stripped(code, keep_lines) if version in ("lua51", "lua54") else code
        return compiled

    def syntax_problem(self, path: str) -> str:
        """What is wrong with the syntax of a Lua file; "" when nothing is. Runs nothing of it. Raises `OSError`."""
        with open(path, "rb") as file:
            text = file.read().removeprefix(b"\xef\xbb\xbf")
        check = self._lupa.LuaRuntime(encoding=None).execute(
            b"local load = loadstring or load return function(text, name) return (select(2, load(text, name))) end"
        )
        # A first line for a shell is none for Lua.
        problem: bytes | None = check(b"--" + text if text.startswith(b"#") else text, b"@" + os.fsencode(path))
        return decode(problem) if problem is not None else ""

    def router(self, more: Sequence[bytes] = ()) -> Routing:
        """`records.router` inside Lua, in a state of its own where LuaJIT may compile.

        0.7 us for 21 pairs, where Python takes 5; the seven variables of the usual access log add 0.2 us.
        """
        runtime = self._lupa.LuaRuntime(encoding=None, unpack_returned_tuples=True)
        names = (*ROUTING, *more)
        route = runtime.execute(self._parts["route"], len(names), *names, *map(separator, names))

        def routing(data: bytes) -> tuple[bytes | None, ...]:
            found: tuple[bytes | None, ...] | bool = route(data)
            if found is False:
                raise ProtocolError(f"a name-value pair is cut off: it reaches beyond the {len(data)} bytes sent")
            return found  # type: ignore[return-value]  # nothing but false is a boolean

        return routing

    def programs(self, host: Host, directory: str, room: Callable[[int], bool]) -> Programs | None:
        """What runs other programs for a state, where its script may."""
        if not self._with_programs:
            return None
        from .programs import Programs

        return Programs(host, directory, room)

    def _boot(self, host: Host, directory: str, programs: Programs | None) -> tuple[Any, Any, Any, Any, Any, Any, Any]:
        """A runtime with everything but a script in it, and what `boot.lua` returns."""
        runtime = self._lupa.LuaRuntime(
            encoding=None,
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            attribute_handlers=(_deny, _deny),
            max_memory=0 if self.limited else None,
        )
        lua, scripts = self._config.lua, self._config.scripts
        boot = runtime.compile(self._parts["boot"], name=b"=greenfcgi")
        functions = boot(
            *(self._parts[name] for name in _BOOT_PARTS),
            *struct.unpack("=4I", os.urandom(16)),
            *host.functions(),
            os.fsencode(directory),
            _search_path([directory, *lua.path, *self._system_folders()], (".lua", "/init.lua")),
            _search_path(lua.cpath, (".so",)),
            scripts.handler.encode(),
            scripts.http_status.encode(),
            scripts.content_type.encode(),
            "\n".join(scripts.headers).encode(),
            scripts.buffering,
            lua.jit,
            self._app,
            "\n".join(lua.allow).encode(),
            self._parts["errors"] if lua.version == "lua51" else None,
            self._parts.get("inspect"),
            host.hint if self._hint is not None else None,
            self._parts.get("programs"),
            *(programs.functions() if programs is not None else ()),
        )
        if self.limited:
            runtime.set_max_memory(lua.memory)
        return (runtime, *functions)

    def _system_folders(self) -> list[str]:
        """Where Debian, luarocks and others install modules for this Lua."""
        major, minor = self._lupa.LUA_VERSION
        return [f"{prefix}/share/lua/{major}.{minor}" for prefix in ("/usr/local", "/usr")]


class State:
    """One runtime with one version of one script loaded. Made by `Flavour.make`."""

    __slots__ = (
        "_budget", "_collect_above", "_collect_garbage", "_hook", "_host", "_limit", "_limited",
        "_load_text", "_log", "_metrics", "_most_requests", "_programs", "_report", "_run", "_runtime", "_settle",
        "_turns", "_was_full", "made", "requests", "script", "sound", "version",
    )  # fmt: skip

    def __init__(self, flavour: Flavour, script: Script, version: Version) -> None:
        self.script = script
        self.version = version
        #: False once something happened that may have left it in disorder: it must not be used again.
        self.sound = True
        #: When it was made, in seconds of the monotonic clock.
        self.made = time.monotonic()
        self._log = flavour._log
        self._metrics = flavour.metrics
        self._limit = flavour._config.lua.memory
        self._limited = flavour.limited
        #: All of its memory has been used.
        self._was_full = False
        #: How many requests it has answered.
        self.requests = 0
        states = flavour._config.states
        self._most_requests = 1 if states.per_request else states.max_requests or _NEVER
        self._turns = flavour.turns
        self._budget = flavour.budget()
        self._budget.is_load = True
        self._budget.begin()
        self._host = Host(
            script.path, version, flavour._log, flavour._tell_slow, self._budget, self._allow, self._exhausted,
            flavour._hint, flavour.files, flavour.minor, flavour._parts,
        )  # fmt: skip
        self._programs = flavour.programs(self._host, script.directory, self._allow)
        (
            self._runtime, self._load_text, self._run, self._hook, self._collect_garbage,
            self._settle, self._report,
        ) = flavour._boot(self._host, script.directory, self._programs)  # fmt: skip
        startup = flavour._config.scripts.startup
        try:
            if startup:
                self._load(startup, True)
            self._load(script.path, False)
        except BaseException:
            # Now, and not when Python's collector comes: its finalizers would run in somebody else's request.
            self._let_go()
            raise
        finally:
            if self._programs is not None:
                self._programs.end()
        self._load_text = None
        self._host.loading = self._budget.is_load = False
        if self._host.granted:
            self._settle_files()
        # What compiling left behind is half of the state's memory.
        self._collect()

    @property
    def fit(self) -> bool:
        """It may serve another request: it is sound, not used up, and holds the version that is served now."""
        return self.sound and self.version is self.script.version and self.requests < self._most_requests

    def memory(self) -> int:
        """Bytes that Lua has allocated; 0 where lupa cannot tell (luajit20)."""
        used: int = self._runtime.get_memory_used() or 0
        # The counter is unsigned, and can pass below zero when garbage of the boot is freed.
        return used if used < 1 << 62 else 0

    def run(self, exchange: Exchange) -> Reply | LuaFailure:
        """Answer one request. Never raises what a script has done; `sound` tells whether the state survived it."""
        params = exchange.params
        room = _ROOM_FOR_PARAMS * len(params)
        if self._limited and self._runtime.get_memory_used() + 2 * room + _HEADROOM > self._collect_above:
            self._collect()
            self._make_room(room)
        self.requests += 1
        self._budget.begin(exchange.deadline, exchange)
        host = self._host
        host.exchange = exchange
        try:
            result: Reply | tuple[bytes, bytes, bytes] = self._run(params)
        except self._errors() as problem:
            return self._failed(*_failure(problem))
        finally:
            if self._programs is not None:
                self._programs.end()
            host.exchange = None
            if host.granted:
                self._settle_files()
        kind, first, second = result
        if not isinstance(kind, bytes):
            return result  # type: ignore[return-value]
        if kind == _SHORT:
            exchange.send(0, b"", second)
            second = b""
        return self._failed(kind, first, second)

    def where(self) -> str:
        """The script, and the request that it answers, for messages."""
        exchange = self._host.exchange
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
        self._make_room(len(name))
        found: bool = self._hook(name.encode(), True)
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
            if self._programs is not None:
                self._programs.end()
            if self._host.granted:
                self._settle_files()
        if failure is not None:
            message, traceback = self._failed(*failure)[:2]
            self._log.error(f"{self.script.path}: {name}: {message}", traceback)

    def close(self) -> None:
        """Run the script's shutdown, and let the runtime go. A state in disorder goes without."""
        if self.sound:
            self.hook("shutdown")
        self._let_go()

    def _let_go(self) -> None:
        """End the runtime, which runs all finalizers; nothing else holds it."""
        self.sound = False
        if self._runtime is None:
            return
        if self._limited:
            # For what finalizers call. 5.2 and 5.3 write past the stack when many of them fail, as calls do where no
            # memory is left.
            self._host.closes_with = self.memory() + _RESERVE
            self._runtime.set_max_memory(self._host.closes_with)
        else:
            self._host.closes_with = _NEVER
        self._host.is_ending = True
        try:
            self._host.keep_files(self._settle(True)[0])
        except self._errors():
            # It is at its end already, and nobody knows.
            self._host.keep_files(0)
        self._run = self._hook = self._report = self._load_text = self._collect_garbage = self._settle = None
        self._runtime = None
        if self._host.granted > 0:
            # Lua has forgotten them where it could not call their finalizers. They are taken for ever.
            self._metrics.lost_files += self._host.granted
            self._log.warning(
                f"{self.script.path}: {self._host.granted} files stay open: "
                "Lua had no memory, or was too deep in calls, when it wanted to close them"
            )
        if self._was_full:
            # Lies in pieces between what is still in use, and 300 such requests in sequence would take a gigabyte.
            # In a turn of its own: it takes as long as an uninterruptible function of Lua.
            self._turns.queue(give_back)

    def _load(self, path: str, is_startup: bool) -> None:
        try:
            text = self.version.read(path, loading=True)
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
        """What `boot.lua` tells of an error, for people; the state is not used again where it may be in disorder."""
        text, way = decode(message), decode(traceback)
        if kind == _LATE:
            self.sound = False
            self._metrics.timeouts += 1
            return LuaFailure(f"stopped: it ran longer than timeout, {self._budget.timeout:g} s", way, 504)
        if kind == _MEMORY or (message == _IN_HANDLER and self.memory() + _HEADROOM > self._limit):
            self.sound = False
            self._was_full = True
            self._metrics.memory_kills += 1
            text = f"out of memory (lua.memory is {self._limit} bytes)"
        if self._report is None or not self.sound:
            return LuaFailure(text, way)
        frames, written = self._report()
        return LuaFailure(text, way, 500, frames, written)

    def _exhausted(self) -> None:
        """The script has used all of its memory: it gets a little more, to end with."""
        self.sound = False
        self._was_full = True
        if self._limited and self._runtime is not None:
            self._runtime.set_max_memory(self._limit + _RESERVE)

    def _collect(self) -> None:
        """Free what is garbage. Lua 5.1 and LuaJIT do not when they reach the limit: they fail, even when full of it.

        The next time is when half of the room that is left has been used.
        """
        self._collect_garbage()
        used = self.memory()
        self._collect_above = used + (self._limit - used) // 2

    def _allow(self, length: int) -> bool:
        """Make room for what the script has asked for. False when it has been given more than its memory before."""
        if self._runtime is None or (not self.sound and self.memory() > self._limit):
            return False
        self._make_room(length)
        return True

    def _make_room(self, length: int) -> None:
        if not self._limited or self._runtime.get_memory_used() + 2 * length + _HEADROOM <= self._limit:
            return
        need = self.memory() + 2 * length + _HEADROOM
        if need > self._limit:
            self._runtime.set_max_memory(need)
            self.sound = False

    def _settle_files(self) -> None:
        """Give back what the files that have been closed had taken."""
        if not self.sound:
            return
        try:
            held, lost = self._settle()
            self._host.keep_files(held)
            if lost:
                # Other finalizers may have failed, too.
                self.sound = False
        except self._errors():
            # The script's time was over in the midst of its last step.
            self.sound = False

    def _errors(self) -> type[Exception]:
        error: type[Exception] = sys.modules[type(self._runtime).__module__].LuaError
        return error


def _import_lupa(version: str, native_modules: bool) -> Any:
    flags = sys.getdlopenflags()
    if native_modules:
        # Lua's functions must be visible to the native modules that scripts load.
        sys.setdlopenflags(flags | os.RTLD_GLOBAL)
    try:
        return importlib.import_module(f"lupa.{version}")
    except ImportError as problem:
        there = available()
        if version in there:
            raise ConfigError(f"lua.version: found {version!r}, which cannot be imported: {problem}") from None
        what = f"expected one of those that it has: {', '.join(there)}" if there else "and no other either"
        raise ConfigError(f"lua.version: found {version!r}, which the installed lupa does not have; {what}") from None
    finally:
        sys.setdlopenflags(flags)


def _state_offset(kind: Any) -> int | None:
    """How far into a LuaRuntime of lupa its lua_State is: behind the object's head and its table of methods.

    Looked for in a runtime that has been told a number, which its lua_State must tell again.
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
    return offset if lua.lua_gethookcount(ctypes.c_void_p(address)) == _MARK else None


def _failure(problem: Exception) -> tuple[bytes, bytes, bytes]:
    """The same of an exception of lupa's: what was raised around a script, not in it."""
    text = str(problem)
    kind = _MEMORY if isinstance(problem, MemoryError) else _LATE if text.startswith(_LATE_TEXT) else _ERROR
    return kind, text.encode("utf-8", "replace"), b""


def _deny(*_: object) -> NoReturn:
    raise AttributeError("not available to scripts")


def _tell_nobody(*_: object) -> None:
    """Where there is no slow log."""


def _search_path(entries: list[str] | tuple[str, ...], endings: tuple[str, ...]) -> bytes:
    """package.path from folders and templates: a folder stands for its files of the given endings."""
    templates: list[str] = []
    for entry in entries:
        templates += [entry] if "?" in entry else [f"{entry}/?{end}" for end in endings]
    return os.fsencode(";".join(templates))


def _unreadable(path: str, problem: OSError) -> ScriptError:
    kind: type[ScriptError] = ScriptBroken
    if isinstance(problem, (FileNotFoundError, NotADirectoryError)):
        kind = ScriptMissing
    elif isinstance(problem, PermissionError):
        kind = ScriptForbidden
    elif problem.errno in (errno.EMFILE, errno.ENFILE):
        kind = ScriptBusy
    return kind(f"{path}: {problem.strerror}")
