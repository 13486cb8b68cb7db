"""Modules for scripts that users write in Python: `[modules]` in config.toml.

A script gets a table of the functions that carry `@greenfcgi.export`. What they take and return crosses as text (see
`values`), so no object of Python's comes within reach of Lua. What such a function raises is an error of the script's,
one line; the traceback goes to the error log.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib import import_module, invalidate_caches
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from types import CodeType, ModuleType, TracebackType
from typing import Final, NamedTuple

from gevent.lock import RLock

from ..config.load import Config
from ..config.types import PythonModule
from ..errors import ConfigError
from ..logs.text import described, traceback_of
from ..lua.bridge import Bridge, Module, ModuleFunction, Outcome
from ..scripts.file_signature import Signature, signature
from .threads import Job, Jobs, Threads
from .values import Uncrossable, decode, encode

#: Where blocking functions run.
_threads: Final = Threads()
#: Results of one call: some Luas have no room for more on their stack.
_MAX_RESULTS: Final = 200
#: Imported by `invalidate_caches`: see `configured.import_shipped`.
LATE_IMPORTS: Final = ("importlib.metadata",) if sys.version_info >= (3, 13) else ()
#: The files of what imports a module, which are none of its own.
_IMPORTERS: Final = (__file__, importlib.__file__)


class Exported(NamedTuple):
    """A function that scripts may call."""

    name: str
    function: Callable[..., object]
    is_blocking: bool


class Result(NamedTuple):
    """What a call came to: its results as text; or why it has failed, in one line, and the traceback."""

    values: bytes
    problem: str = ""
    traceback: str = ""


def modules(config: Config) -> list[Module]:
    """Those of this configuration. Nothing is imported before `import_all`, or before a script requires it."""
    return [
        Module(name, lua_source, partial(_functions, name, module, config.reload))
        for name, module in config.modules.items()
    ]  # fmt: skip


@cache
def lua_source() -> bytes:
    """The Lua side of each of them."""
    with open(os.path.join(os.path.dirname(__file__), "_python.lua"), "rb") as file:
        return file.read()


def import_all(config: Config) -> None:
    """Import them. Raises `ConfigError`, one line, where one cannot be, or exports nothing."""
    for name, module in config.modules.items():
        try:
            _user_module(module).functions(config.reload, is_trial=True)
        except BaseException as problem:
            raise ConfigError(
                f"[modules] {name}: found {module.path!r}, which cannot be imported: {described(problem)}"
                f"{_last_place(problem)}"
            ) from None


def check_all(config: Config) -> Iterator[str]:
    """What is wrong with them, as far as that is known without running them; one line each."""
    for name, module in config.modules.items():
        try:
            spec = _find(module)
            if spec is None:
                yield f"[modules] {name}: found {module.path!r}, which Python does not find; expected a module"
            elif path := _source(spec):
                _compiled(path)
        except Exception as problem:
            yield f"[modules] {name}: found {module.path!r}, which cannot be imported: {described(problem)}"


def _find(module: PythonModule) -> ModuleSpec | None:
    """Where Python would import it from. Raises whatever the packages above it do."""
    if module.folder not in sys.path:
        sys.path.insert(0, module.folder)
    # Its file may have come since Python listed the folder.
    invalidate_caches()
    return find_spec(module.path)


def _source(spec: ModuleSpec) -> str:
    """The path of its Python source; "" where there is none."""
    path = spec.origin or ""
    return path if path.endswith(".py") else ""


def _compiled(path: str) -> CodeType:
    # Not by way of the importer, which takes two texts for the same when size and second are.
    with open(path, "rb") as file:
        code: CodeType = compile(file.read(), path, "exec", dont_inherit=True)
    return code


class _UserModule:
    """A Python module: the functions of its last good execution, which stay while its file does not load.

    Each execution has a namespace of its own, so functions in use keep the globals that they began with. (That is where
    it differs from `importlib.reload`.)
    """

    def __init__(self, module: PythonModule) -> None:
        self._module = module
        self._path = ""
        self._exported: list[Exported] = []
        #: The file as it was executed last, and why that failed.
        self._executed: Signature = None
        self._problem: BaseException | None = None
        self._traceback: TracebackType | None = None
        #: An import may wait for something: nobody else sees it half done.
        self._lock = RLock()

    def path(self) -> str:
        """Its Python source; "" where there is none, or none yet."""
        if not self._path:
            try:
                spec = _find(self._module)
            except Exception:
                # To import it will say so.
                return ""
            self._path = _source(spec) if spec is not None else ""
        return self._path

    def functions(self, follow: bool, is_trial: bool) -> list[Exported]:
        """Those that scripts may call; with `follow`, of the file as it is now.

        Raises what the last execution has raised, for a version of a script that is being tried, or where there has
        been no good one.
        """
        with self._lock:
            path = self.path()
            now = signature(path) if path else None
            has_changed = now is not None and now != self._executed
            if (follow and has_changed) or (not self._exported and (has_changed or self._problem is None)):
                self._execute(path, now)
            if self._problem is not None and (is_trial or not self._exported):
                raise self._problem.with_traceback(self._traceback)
            return self._exported

    def _execute(self, path: str, now: Signature) -> None:
        self._executed = now
        try:
            if self._module.path in sys.modules and path:
                found = _executed_again(self._module.path, path)
            else:
                found = import_module(self._module.path)
            exported = [*_exported_by(found)]
            if not exported:
                raise ImportError("no function in it carries @greenfcgi.export")
        except BaseException as problem:
            # Without the frames of those who will raise it.
            self._problem, self._traceback = problem, problem.__traceback__
        else:
            self._exported, self._problem = exported, None


_user_modules: dict[str, _UserModule] = {}


def _user_module(module: PythonModule) -> _UserModule:
    found = _user_modules.get(module.path)
    if found is None:
        found = _user_modules[module.path] = _UserModule(module)
    return found


def _executed_again(name: str, path: str) -> ModuleType:
    """The module in a new namespace, in the place of the one before; that one stays where it fails."""
    before = sys.modules[name]
    spec = spec_from_file_location(name, path, submodule_search_locations=getattr(before, "__path__", None))
    assert spec is not None
    found = module_from_spec(spec)
    code = _compiled(path)
    parent, _, last = name.rpartition(".")
    sys.modules[name] = found
    try:
        exec(code, found.__dict__)
    except BaseException:
        sys.modules[name] = before
        raise
    if parent in sys.modules:
        setattr(sys.modules[parent], last, found)
    return found


def _exported_by(module: ModuleType) -> Iterator[Exported]:
    for name, value in vars(module).items():
        try:
            # Not getattr: some objects answer whatever they are asked.
            is_blocking = vars(value).get("__greenfcgi_blocking__")
        except Exception:
            continue
        if type(is_blocking) is bool:
            yield Exported(name, value, is_blocking)


def _functions(name: str, module: PythonModule, follow: bool, bridge: Bridge) -> Mapping[str, ModuleFunction]:
    user_module = _user_module(module)
    if follow and user_module.path():
        # Before it is read: it may be what keeps the script from loading.
        bridge.depend_on(user_module.path())
    functions = user_module.functions(follow, bridge.is_trial)
    calls = _Calls(name, bridge)
    return {**{one.name: partial(calls.call, one) for one in functions}, " wait": calls.wait}


class _Calls:
    """The calls of one state."""

    def __init__(self, name: str, bridge: Bridge) -> None:
        self._name = name
        self._bridge = bridge
        self._jobs = Jobs(bridge)
        self.wait = self._jobs.wait

    def call(self, exported: Exported, arguments: bytes) -> Outcome:
        """Call a function. A number: it is to be waited for on, by `wait` with that number."""
        if self._bridge.is_ending:
            # A finalizer's. What it got could not be given to Lua.
            return None, b"the state is being closed"
        call = _Call(self._name, exported, decode(arguments), self._bridge)
        if exported.is_blocking:
            return self._jobs.run(call)
        call.work()
        return call.outcome()


class _Call(Job):
    """A function that is called, here or in a thread."""

    def __init__(self, module: str, exported: Exported, values: list[object], bridge: Bridge) -> None:
        super().__init__(_threads)
        self._name = f"{module}.{exported.name}"
        self._exported = exported
        self._values = values
        self._bridge = bridge
        #: The request that it is called for.
        self._title = bridge.title()
        self._result = Result(b"")

    def work(self) -> None:
        """Call it."""
        self._result = _call(self._exported, self._values)

    def fail(self, problem: Exception) -> None:
        """There is no thread for it."""
        self._result = Result(b"", described(problem), traceback_of(problem))

    def outcome(self) -> Outcome:
        """Its results as text; or nil and why it has failed."""
        self._log()
        values, text = self._result.values, self._result.problem.encode("utf-8", "backslashreplace")
        if not self._bridge.reserve(len(text or values)):
            return False
        return (None, text) if text else values

    def end(self) -> None:
        """It has ended. What fails is logged where nobody has waited for it: a thread cannot be ended."""
        if self.is_given_up:
            self._log()
        super().end()

    def _log(self) -> None:
        if self._result.problem:
            self._bridge.log_error(f"{self._name}: {self._result.problem}", self._result.traceback, self._title)


def _call(exported: Exported, values: list[object]) -> Result:
    """Call a function, here or in a thread. Never raises."""
    try:
        results = exported.function(*values)
    except BaseException as problem:
        # Without this function's own frame; there is no other where the arguments are wrong.
        trace = problem.__traceback__ and problem.__traceback__.tb_next
        return Result(b"", described(problem), traceback_of(problem.with_traceback(trace)) if trace else "")
    found = results if isinstance(results, tuple) else (results,)
    try:
        if len(found) > _MAX_RESULTS:
            raise Uncrossable(f"found a tuple of {len(found)} results, expected at most {_MAX_RESULTS}")
        return Result(encode(found))
    except Uncrossable as problem:
        return Result(b"", f"what it returned cannot be passed to Lua: {problem}", "")
    except BaseException as problem:
        return Result(b"", f"what it returned cannot be passed to Lua: {described(problem)}", "")


def _last_place(problem: BaseException) -> str:
    """Where an import failed, as far as the traceback says: " (mailer.py, line 3)"."""
    trace, place = problem.__traceback__, ""
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if path not in _IMPORTERS and not path.startswith("<frozen"):
            place = f" ({os.path.basename(path)}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place
