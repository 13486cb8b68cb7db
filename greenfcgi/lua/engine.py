"""One of the Luas that lupa ships, made ready for a server's settings. The only module that imports lupa."""

from __future__ import annotations

import importlib
import os
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from ..config.load import Config
from ..config.lua_versions import available
from ..errors import ConfigError, ProtocolError
from ..fastcgi.records import MAX_VALUE, ROUTING, Routing, Template, separator
from ..fastcgi.response import Reply
from ..logs.error_log import ErrorLog
from ..logs.text import decode
from ..quota import Quota
from ..system.executable_memory import may_make_code
from .bridge import Bridge, Hint, LogSlow, Module, ModuleStore, OnGlobals
from .budget import Budget
from .bytecode import stripped
from .sources import lua_literal, lua_parts
from .turns import Turns

#: The engines whose memory lupa can neither count nor limit.
_UNLIMITED: Final = ("luajit20",)
#: What `boot.lua` puts together in each state.
_BOOT_PARTS: Final = (
    "guard", "limits", "luajit", "standins", "random", "con", "bounds", "finalizers", "environment",
)  # fmt: skip
_BOOT_PARTS_OF_5_1: Final = ("quirks", "errors")
#: Parts whose functions stand between a script and a function of Lua whose errors name the place of the call. Their
#: line numbers stay: a message that names one is given the script's line instead. The names are those of their chunks,
#: which tracebacks show: what stands in for a function of Lua is shown as that.
_WITH_LINES: Final = {"bounds": b"=[C]", "calls": b"=greenfcgi", "limits": b"=greenfcgi", "luajit": b"=[C]"}
#: Headers that a response has once: setting one again replaces it. Any other name can come several times.
_ONCE: Final = (
    "content-type", "content-length", "location", "last-modified", "etag", "x-accel-redirect", "x-sendfile",
)  # fmt: skip

#: The kind of an error, its message, and Lua's traceback.
Failure = tuple[bytes, bytes, bytes]


class Booted(NamedTuple):
    """A runtime with everything but a script in it, and the functions that `boot.lua` returns."""

    runtime: Any
    #: (path, text, is_startup): run a file.
    load: Callable[[bytes, bytes, bool], Failure | None]
    #: (params): answer a request.
    run: Callable[[bytes], Reply | Failure]
    #: (name, only_ask): call a hook, or say whether there is one.
    hook: Callable[..., Any]
    collect_garbage: Callable[[], None]
    #: (is_end, is_load): a run is over. The files that are open, and those that are lost.
    settle: Callable[..., tuple[int, int]]
    #: For developers: the functions on the way to an error, and what the script has written.
    #: With True, what the request has done with globals.
    report: Callable[..., Any] | None


class LuaEngine:
    """Makes runtimes, and what is compiled once for all of them.

    `modules` are those that scripts may require. `log_slow`, `hint`, `on_globals`: see `bridge`; None where nobody
    wants to know. `files` is how many descriptors the files of all scripts may take together; None: as many as there
    are.

    One engine to a process: where native modules are allowed its symbols become global, and a second one would crash.
    Raises `ConfigError` when lupa does not have it.
    """

    def __init__(
        self,
        config: Config,
        log: ErrorLog,
        modules: Sequence[Module] = (),
        log_slow: LogSlow | None = None,
        hint: Hint | None = None,
        files: Quota | None = None,
        on_globals: OnGlobals | None = None,
    ) -> None:
        self.config = config
        self.log = log
        self.files = files
        #: Called for the developer mode; None in production, where states watch nothing for it.
        self.hint = hint
        self.on_globals = on_globals
        self.log_slow = log_slow or _log_nowhere
        self._slow_after = None if log_slow is None else config.slowlog_timeout
        #: Runs of scripts that were stopped because their time was over, or because their memory had run out.
        self.timeouts = 0
        self.memory_kills = 0
        #: Files of scripts that nobody can close any more.
        self.lost_files = 0
        #: The states whose scripts compute take turns.
        self.turns = Turns(config.lua.time_slice)
        version = config.lua.version
        self._lupa = _import_lupa(
            version, native_modules=bool(config.lua.cpath) or "package.loadlib" in config.lua.allow
        )
        #: The package's Lua sources, compiled.
        self.parts = self._compiled(lua_parts(*(["inspect", "globals"] if hint is not None else [])))
        names = [*_BOOT_PARTS, *(_BOOT_PARTS_OF_5_1 if version == "lua51" else [])]
        names += ["inspect"] if hint is not None else []
        self._boot_parts = {name.encode(): self.parts[name] for name in names}
        #: Those that scripts may require.
        self.modules = ModuleStore(modules, lambda name, source: self._compiled({name: source})[name])
        #: LuaJIT may compile: the server's own Lua, and scripts where `lua.jit` says so.
        self.compiles = version.startswith("luajit") and self._has_executable_memory()
        #: 5.x
        self.minor: int = self._lupa.LUA_VERSION[1]
        self._settings = self._fixed_settings()
        #: lua.memory is kept.
        self.limited = version not in _UNLIMITED
        if not self.limited:
            log.warning(f"lua.memory is not kept on {version}: lupa cannot limit its memory")
        #: "LuaJIT 2.1", "Lua 5.4".
        self.name: str = self._lupa.LuaRuntime().lua_implementation

    def budget(self) -> Budget:
        """The time of one state's code."""
        config = self.config
        return Budget(self.turns, config.timeout, self._slow_after)

    def boot(self, bridge: Bridge) -> Booted:
        """A runtime for the script of `bridge`."""
        runtime = self._lupa.LuaRuntime(
            encoding=None,
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            attribute_handlers=(_deny, _deny),
            max_memory=0 if self.limited else None,
        )
        boot = runtime.compile(self.parts["boot"], name=b"=greenfcgi")
        functions = boot(
            runtime.table_from(self._boot_parts),
            bridge.call,
            runtime.table_from(self._settings, self._own_settings(bridge.directory)),
        )
        if self.limited:
            runtime.set_max_memory(self.config.lua.memory)
        return Booted(runtime, *functions)

    def _has_executable_memory(self) -> bool:
        """Whether the system lets LuaJIT make code. It ends the process where it learns too late that it may not."""
        if may_make_code():
            return True
        what = "lua.jit is not kept" if self.config.lua.jit else "the server's own Lua is interpreted"
        self.log.warning(f"{what}: the system refuses memory that is both writable and executable")
        return False

    def _fixed_settings(self) -> dict[bytes, object]:
        """What `boot.lua` gets in each state, as `settings`."""
        lua, scripts = self.config.lua, self.config.scripts
        lines = {
            b"allow": lua.allow,
            b"users_modules": [*self.config.modules],
            b"at_start": [module.name for module in self.modules.by_name.values() if module.at_start],
        }
        return {name: "\n".join(line).encode() for name, line in lines.items()} | {
            b"cpath": _search_path(self._native_folders(), (".so",)),
            b"handler": scripts.handler.encode(),
            b"code": int(scripts.http_status[:3]),
            b"http_status": scripts.http_status.encode(),
            b"head": _default_head(scripts.http_status, scripts.content_type, scripts.headers),
            b"once": f" {' '.join(_ONCE)} ".encode(),
            b"buffering": scripts.buffering,
            b"jit": lua.jit and self.compiles,
            b"interprets": self.compiles and not lua.jit and "jit" not in lua.allow,
            b"config": lua_literal(self.config.app),
        }

    def _own_settings(self, directory: str) -> dict[bytes | int, object]:
        """What differs from state to state."""
        search = [directory, *self.config.lua.path, *self._system_folders()]
        chances = struct.unpack("=4I", os.urandom(16))
        return {
            b"directory": os.fsencode(directory),
            b"path": _search_path(search, (".lua", "/init.lua")),
            **dict(enumerate(chances, 1)),
        }

    def _system_folders(self) -> list[str]:
        """Where Debian, luarocks and others install modules for this Lua."""
        major, minor = self._lupa.LUA_VERSION
        return [f"{prefix}/share/lua/{major}.{minor}" for prefix in ("/usr/local", "/usr")]

    def _native_folders(self) -> list[str]:
        if not self.config.lua.cpath:
            return []
        from .native_modules import folders

        return folders(self.config.lua.cpath, self.minor)

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

    def router(self, wanted: Sequence[bytes] | Template = ()) -> Routing:
        """`records.router` inside Lua, in a state of its own where LuaJIT may compile.

        0.7 us for 21 pairs, where Python takes 5; the text of the usual access log adds a third.
        """
        runtime = self._lupa.LuaRuntime(encoding=None, unpack_returned_tuples=True)
        if not self.compiles:
            runtime.execute(b"if jit then jit.off() end")
        table = runtime.table_from
        template = wanted if isinstance(wanted, Template) else None
        names = (*ROUTING, *(template.names if template is not None else wanted))
        outline: list[object] = []
        if template is not None:
            places = [names.index(name) + 1 for name in template.variables]
            needed = names.index(template.needed) + 1 if template.needed else None
            outline = [table(template.texts), table(places), MAX_VALUE, needed]
        separators = {place: joint for place, joint in enumerate(map(separator, names), 1) if joint is not None}
        route = runtime.execute(self.parts["route"], table(names), table(separators), *outline)

        def routing(data: bytes) -> tuple[bytes | None, ...]:
            found: tuple[bytes | None, ...] | bool = route(data)
            if found is False:
                raise ProtocolError(f"a name-value pair is cut off: it reaches beyond the {len(data)} bytes sent")
            return found  # type: ignore[return-value]  # nothing but false is a boolean

        return routing

    def _compiled(self, parts: dict[str, bytes]) -> dict[str, bytes]:
        """The package's Lua sources as bytecode, mostly without line numbers.

        It takes a half (LuaJIT) to a fifth (5.1) of the time to make a state, and saves 8 KB (LuaJIT) to 40 KB (5.1)
        in each. Only our own: scripts cannot load bytecode.
        """
        dump = self._lupa.LuaRuntime(encoding=None).execute(
            b"local load, dump = loadstring or load, string.dump "
            b"return function(text, name, strip) return dump(assert(load(text, name)), strip) end"
        )
        version = self.config.lua.version
        compiled = {}
        for name, text in parts.items():
            chunk = _WITH_LINES.get(name)
            # LuaJIT has a place without them, too.
            keep_lines = chunk is not None and not version.startswith("luajit")
            code = dump(text, chunk or b"=greenfcgi", not keep_lines)
            compiled[name] = stripped(code, keep_lines) if version in ("lua51", "lua54") else code
        return compiled


def bare_runtime(version: str, memory: int) -> Any:
    """A runtime without anything of the server's, which Lua of others may run in: no way to Python, `memory` bytes.

    lupa limits no memory on LuaJIT 2.0. Raises `ConfigError` when lupa does not have this version.
    """
    lupa = _import_lupa(version, native_modules=False)
    limited = version not in _UNLIMITED
    runtime = lupa.LuaRuntime(
        encoding=None,
        register_eval=False,
        register_builtins=False,
        unpack_returned_tuples=True,
        attribute_handlers=(_deny, _deny),
        max_memory=0 if limited else None,
    )
    if limited:
        runtime.set_max_memory(memory)
    return runtime


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


def _deny(*_: object) -> NoReturn:
    raise AttributeError("not available to scripts")


def _log_nowhere(*_: object) -> None:
    """Where there is no slow log."""


def _default_head(status: str, content_type: str, headers: Sequence[str]) -> bytes:
    """The header block of a response without a word of the script's.

    Status stands last, where HAProxy needs it: it takes a Location behind it for a redirect of its own, with 302.
    """
    lines = {"content-type": f"Content-Type: {content_type}"}
    for number, header in enumerate(headers):
        name, _, value = header.partition(":")
        key = name.lower()
        lines[key if key in _ONCE else f"{key} {number}"] = f"{name}: {value.lstrip()}"
    return "".join(f"{line}\r\n" for line in (*lines.values(), f"Status: {status}", "")).encode()


def _search_path(entries: list[str] | tuple[str, ...], endings: tuple[str, ...]) -> bytes:
    """package.path from folders and templates: a folder stands for its files of the given endings."""
    templates: list[str] = []
    for entry in entries:
        templates += [entry] if "?" in entry else [f"{entry}/?{end}" for end in endings]
    return os.fsencode(";".join(templates))
