"""Modules for scripts that users write in Python: `[modules]` in config.toml.

A script gets a table of the functions that carry `@greenfcgi.export`. What they take and return crosses as text (see
`values`), so no object of Python's comes within reach of Lua. What such a function raises is an error of the script's,
one line; the traceback goes to the error log.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module, reload
from importlib.util import cache_from_source
from typing import Any, Final, NamedTuple

from gevent.event import Event
from gevent.threadpool import ThreadPool

from ..config.load import Config
from ..config.types import PythonModule
from ..errors import ConfigError
from ..logs.text import escape, traceback_of
from ..lua.bridge import Bridge, Module, ModuleFunction, Outcome
from ..scripts.file_signature import Signature, signature
from .values import decode, encode

#: Blocking functions that run at a time in one process; more wait.
MAX_THREADS: Final = 16
#: Results of one call: some Luas have no room for more on their stack.
_MAX_RESULTS: Final = 200


class Exported(NamedTuple):
    """A function that scripts may call."""

    name: str
    function: Callable[..., object]
    is_blocking: bool


class Answer(NamedTuple):
    """What a call came to: its results as text; or why it has failed, in one line, and the traceback."""

    results: bytes
    problem: str = ""
    traceback: str = ""


def modules(config: Config) -> list[Module]:
    """Those of this configuration. Nothing is imported before `import_all`, or before a script requires it."""
    if not config.modules:
        return []
    with open(os.path.join(os.path.dirname(__file__), "_python.lua"), "rb") as file:
        source = file.read()
    return [Module(name, source, partial(_functions, name, module)) for name, module in config.modules.items()]


def import_all(config: Config) -> None:
    """Import them. Raises `ConfigError`, one line, where one cannot be, or exports nothing."""
    for name, module in config.modules.items():
        try:
            exported(module)
        except ConfigError:
            raise
        except BaseException as problem:
            where = _last_place(problem)
            raise ConfigError(
                f"[modules] {name}: found {module.path!r}, which cannot be imported: {_described(problem)}{where}"
            ) from None
        if not exported(module):
            raise ConfigError(
                f"[modules] {name}: found {module.path!r}, in which no function carries @greenfcgi.export; expected one"
            )


#: What the files of those that have been imported were then.
_imported: dict[str, Signature] = {}


def exported(module: PythonModule) -> list[Exported]:
    """The functions of a Python module that scripts may call; as its file is now. Raises whatever its import does."""
    if module.folder not in sys.path:
        sys.path.insert(0, module.folder)
    found = sys.modules.get(module.path)
    path = file_of(module)
    now = signature(path)
    if found is None:
        found = import_module(module.path)
        now = signature(file_of(module))
    elif _imported.get(module.path, now) != now:
        # Python takes what it has compiled for the same where size and second are.
        with suppress(OSError):
            os.unlink(cache_from_source(path))
        found = reload(found)
    _imported[module.path] = now
    return [
        Exported(name, value, value.__greenfcgi_blocking__)
        for name, value in vars(found).items() if hasattr(value, "__greenfcgi_blocking__")
    ]  # fmt: skip


def file_of(module: PythonModule) -> str:
    """The source of an imported Python module; "" where it has none."""
    path = getattr(sys.modules.get(module.path), "__file__", None) or ""
    return path if path.endswith(".py") else ""


def _functions(name: str, module: PythonModule, bridge: Bridge) -> Mapping[str, ModuleFunction]:
    path = file_of(module)
    if path:
        # Before it is read: it may be what keeps the script from loading.
        bridge.depend_on(path)
    functions = exported(module)
    if not path and file_of(module):
        bridge.depend_on(file_of(module))
    calls = _Calls(name, bridge)
    return {**{one.name: partial(calls.call, one) for one in functions}, " wait": calls.wait}


class _Calls:
    """The calls of one state, of which one is under way at a time."""

    def __init__(self, name: str, bridge: Bridge) -> None:
        self._name = name
        self._bridge = bridge
        self._job: _Job | None = None

    def call(self, exported: Exported, arguments: bytes) -> Outcome:
        """Call a function. A number: it is to be waited for on."""
        values = decode(arguments)
        if not exported.is_blocking:
            return self._finish(_answer(exported, values), exported.name)
        self._job = _Job(exported, values)
        return self.wait()

    def wait(self) -> Outcome:
        """Wait for the function that runs in a thread."""
        job = self._job
        assert job is not None
        while job.answer is None:
            answer = self._bridge.wait(job.changed)
            # 0: somebody wants to know where the script is, and it waits on.
            if answer is not None and answer != 0:
                job.give_up(partial(self._log, job.exported.name))
            if answer is not None:
                return answer
        return self._finish(job.answer, job.exported.name)

    def _finish(self, answer: Answer, name: str) -> Outcome:
        if answer.problem:
            self._log(name, answer)
            text = answer.problem.encode("utf-8", "surrogateescape")
            return (None, text) if self._bridge.reserve(len(text)) else False
        return answer.results if self._bridge.reserve(len(answer.results)) else False

    def _log(self, name: str, answer: Answer) -> None:
        self._bridge.log_error(f"{self._name}.{name}: {answer.problem}", answer.traceback)


class _Job:
    """A blocking function, which runs in a thread as soon as one is free."""

    def __init__(self, exported: Exported, values: list[object]) -> None:
        self.exported = exported
        self.answer: Answer | None = None
        #: Set when the answer is there.
        self.changed = Event()
        self._log: Callable[[Answer], None] | None = None
        _threads.start(partial(_answer, exported, values), self._ended)

    def give_up(self, log: Callable[[Answer], None]) -> None:
        """Nobody waits any more; a thread cannot be ended. When the function fails later, the log has it."""
        self._log = log

    def _ended(self, answer: Answer) -> None:
        self.answer = answer
        self.changed.set()
        if self._log is not None and answer.problem:
            self._log(answer)


class _Threads:
    """gevent's pool of threads, with a queue before it: to wait for one would hold up whoever asks."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._running = 0
        self._waiting: deque[tuple[Callable[[], Answer], Callable[[Answer], None]]] = deque()

    def start(self, work: Callable[[], Answer], ended: Callable[[Answer], None]) -> None:
        """Run `work` in a thread; `ended` is called in the event loop."""
        if self._running >= MAX_THREADS:
            self._waiting.append((work, ended))
            return
        if self._pool is None:
            self._pool = ThreadPool(MAX_THREADS)
        self._running += 1
        self._pool.spawn(work).rawlink(partial(self._next, ended))

    def _next(self, ended: Callable[[Answer], None], result: Any) -> None:
        self._running -= 1
        if self._waiting:
            self.start(*self._waiting.popleft())
        ended(result.get())


_threads = _Threads()


def _answer(exported: Exported, values: list[object]) -> Answer:
    """Call a function, here or in a thread. Never raises."""
    try:
        results = exported.function(*values)
    except BaseException as problem:
        # Without this function's own frame; there is no other where the arguments are wrong.
        trace = problem.__traceback__ and problem.__traceback__.tb_next
        return Answer(b"", _described(problem), traceback_of(problem.with_traceback(trace)) if trace else "")
    found = results if isinstance(results, tuple) else (results,)
    try:
        if len(found) > _MAX_RESULTS:
            raise ValueError(f"found a tuple of {len(found)} results, expected at most {_MAX_RESULTS}")
        return Answer(encode(found))
    except BaseException as problem:
        return Answer(b"", f"what it returned cannot be passed to Lua: {problem}", "")


def _described(problem: BaseException) -> str:
    """An exception in one line: "ValueError: what it says"."""
    try:
        text = str(problem)
    except BaseException:
        text = ""
    name = type(problem).__name__
    return escape(f"{name}: {text}" if text else name)


def _last_place(problem: BaseException) -> str:
    """Where an import failed, as far as that is known: " (mailer.py, line 3)"."""
    trace = problem.__traceback__
    place = ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not name.startswith("<frozen"):
            place = f" ({os.path.basename(name)}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place if not place.startswith((" (python_modules.py", " (__init__.py")) else ""
