"""Programs one after the other in this process, which may crash: what became of each is told as soon as it is known."""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import gevent

from greenfcgi.config.load import load
from greenfcgi.errors import ScriptError
from greenfcgi.logs.error_log import ErrorLog
from greenfcgi.lua.engine import LuaEngine
from greenfcgi.lua.loader import StateLoader
from greenfcgi.lua.state import LuaFailure, State
from greenfcgi.modules.configured import modules
from greenfcgi.scripts.catalogue import Catalogue

from ...support.inside import FLAVOURS, Request, encoded
from .world import KNOWN_ANSWER, KNOWN_SCRIPT, NOBODY, Setup, clear, furnish, head_problem

#: Bytes of address space: on luajit20, lua.memory is not kept.
_ADDRESS_SPACE = 3 << 30
#: Bytes that a program may write to a file.
_FILE_SIZE = 50 << 20
#: Attempts at a known script: on a machine that is busy it may come too late.
_ATTEMPTS = 5


class Program(NamedTuple):
    """A program to run."""

    seed: int
    text: str


class Fault(Exception):
    """What must not happen has: its kind ("malformed", "corrupt", "leak"), and what was seen."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class Reporter:
    """Tells the parent what happens, in lines of JSON."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tell(self, **what: object) -> None:
        """One line."""
        os.write(self._descriptor, json.dumps(what).encode() + b"\n")


def prepare() -> None:
    """Import what a process will need: it may not be allowed to read it any more, and starts more quickly."""
    import tomllib  # noqa: F401

    for flavour in FLAVOURS:
        importlib.import_module(f"lupa.{flavour}")


def become_nobody() -> None:
    """Let what programs do to files not reach far. Only root can."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def limit() -> None:
    """The process takes neither all memory nor all of the disk, and leaves no core."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_SIZE, _FILE_SIZE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(flavour: str, programs: list[Program], folder: Path, reporter: Reporter) -> None:
    """Run programs of one batch in states of this process."""
    # The event loop imports what only who started this may read.
    gevent.get_hub()
    become_nobody()
    limit()
    place = _Place(flavour, Setup.of(programs[0].seed), folder)
    # What is there now stays: each collection behind a program need not look at it.
    gc.freeze()
    for program in programs:
        reporter.tell(begin=program.seed)
        started = time.monotonic()
        late, outcome, detail = 0.0, "", ""
        try:
            outcome, late = place.try_one(program)
            place.look_at_known()
            place.look_at_descriptors()
        except Fault as fault:
            outcome, detail = fault.kind, fault.detail
        except BaseException:
            outcome, detail = "exception", traceback.format_exc()
        reporter.tell(seed=program.seed, outcome=outcome, detail=detail, late=late, seconds=time.monotonic() - started)
    place.end()


class _Place:
    """A flavour with its settings, a folder of scripts, and a state that stays."""

    def __init__(self, flavour: str, setup: Setup, folder: Path) -> None:
        self._setup = setup
        self._root = folder / "lua_scripts"
        (self._root / "known").mkdir(parents=True)
        (self._root / "known" / "known.lua").write_text(KNOWN_SCRIPT)
        path = folder / "config.toml"
        settings = setup.toml().replace("[lua]\n", f'[lua]\nversion = "{flavour}"\n')
        path.write_text('errorlog = "error.log"\nloglevel = "debug"\n' + settings)
        config = load(str(path))
        log = ErrorLog(config.errorlog, config.loglevel)
        slow = (lambda *_: None) if setup.developer else None
        self._engine = LuaEngine(config, log, modules(config), slow, (lambda *_: None) if setup.developer else None)
        self._loader = StateLoader(self._engine)
        self._catalogue = Catalogue(config.scripts.root, config.scripts.extensions)
        self._kept = self._known_state()
        self._kept_count = 0
        self.look_at_known()
        self._descriptors = _descriptors()
        self._lost = 0

    def end(self) -> None:
        """Let the state that stays go."""
        self._kept.close()

    def try_one(self, program: Program) -> tuple[str, float]:
        """Run a program as the server would. Returns what became of it, and by how many seconds it was late."""
        folder = self._root / f"p{program.seed}"
        furnish(folder)
        (folder / "page.lua").write_text(program.text)
        try:
            return self._try(program.seed, str(folder / "page.lua"))
        finally:
            gc.collect()
            clear(folder)

    def _try(self, seed: int, path: str) -> tuple[str, float]:
        source = random.Random(seed)
        timeout = self._setup.timeout
        began = time.monotonic()
        try:
            state = self._loader.make(self._catalogue.find(path.encode()))
        except ScriptError as problem:
            _check_text(str(problem))
            return (
                f"no load, {problem.status}" if problem.status != 500 else "no load",
                time.monotonic() - began - timeout,
            )
        late = time.monotonic() - began - timeout
        outcomes = []
        try:
            for number in range(source.choice((1, 2, 3))):
                if not state.is_reusable:
                    break
                if number and state.has_hook("heartbeat"):
                    state.hook("heartbeat")
                    if not state.is_reusable:
                        break
                request = _request(source, timeout)
                began = time.monotonic()
                outcomes.append(_check(state.run(request), request))
                late = max(late, time.monotonic() - began - timeout)
            began = time.monotonic()
        finally:
            state.close()
        late = max(late, time.monotonic() - began - timeout)
        del state
        return max(outcomes, default="ok"), late

    def look_at_known(self) -> None:
        """Run the known script in a fresh state, and in the one that stays. Raises `Fault`."""
        fresh = self._known_state()
        try:
            self._compare(fresh, 1)
        finally:
            fresh.close()
        self._kept_count += 1
        self._compare(self._kept, self._kept_count)

    def look_at_descriptors(self) -> None:
        """What the states had open has been closed. Raises `Fault`."""
        open_now = _descriptors()
        more = [name for number, name in open_now.items() if number not in self._descriptors]
        self._descriptors = open_now
        # Where Lua cannot call the finalizer of a file, it is lost, and counted.
        lost, self._lost = self._engine.lost_files - self._lost, self._engine.lost_files
        if len(more) != lost:
            raise Fault("leak", f"descriptors that stay open, of which {lost} are known: {more}")

    def _known_state(self) -> State:
        script = self._catalogue.find(str(self._root / "known" / "known.lua").encode())
        for attempt in range(_ATTEMPTS):
            try:
                return self._loader.make(script)
            except ScriptError as problem:
                if problem.status != 504 or attempt == _ATTEMPTS - 1:
                    raise Fault("corrupt", f"the known script does not load: {problem}") from None
        raise AssertionError

    @staticmethod
    def _compare(state: State, count: int) -> None:
        request = Request({"QUERY_STRING": "q=1"})
        result: Any = state.run(request)
        if isinstance(result, LuaFailure):
            raise Fault("corrupt", f"the known script failed: {result.message}\n{result.traceback}")
        parts = [*request.parts, result]
        head, body = parts[0][1], b"".join(part[2] for part in parts).decode("latin-1")
        if body != KNOWN_ANSWER or f"X-Count: {count}\r\n".encode() not in head:
            raise Fault(
                "corrupt", f"the known script answered {head!r} {body!r}, expected count {count} and {KNOWN_ANSWER!r}"
            )


def _request(source: random.Random, timeout: float) -> Request:
    method = source.choice(("GET", "GET", "POST", "HEAD"))
    size = source.choice((0, 0, 10, 1000, 100_000))
    params = {
        "REQUEST_METHOD": method, "QUERY_STRING": "q=1&x=%00", "CONTENT_LENGTH": str(size),
        "HTTP_X": "v" * source.choice((0, 0, 200, 20_000)),
    }  # fmt: skip
    request = Request(encoded(*params.items()), source.randbytes(size), head_only=method == "HEAD", seconds=timeout)
    kind = source.random()
    if kind < 0.03:
        request.gone = True
    elif kind < 0.06:
        request.problem = "the request's body is shorter than CONTENT_LENGTH says"
    elif kind < 0.09:
        request.failure = OSError(5, "Input/output error")
    return request


def _check(result: Any, request: Request) -> str:
    """What became of a request. Raises `Fault` when the reply is not as it has to be."""
    parts: list[Any] = list(request.parts)
    outcome = "ok"
    if isinstance(result, LuaFailure):
        _check_text(result.message)
        _check_text(result.traceback)
        if result.status not in (500, 504):
            raise Fault("malformed", f"a failure with status {result.status}")
        if result.frames:
            # Names and values of a script may hold any bytes.
            json.loads(result.frames.decode("utf-8", "surrogateescape"))
        outcome = "late" if result.status == 504 else "memory" if result.message.startswith("out of mem") else "error"
    else:
        parts.append(result)
    for number, part in enumerate(parts):
        if not (type(part) is tuple and len(part) == 3 and [type(item) for item in part] == [int, bytes, bytes]):
            raise Fault("malformed", f"a reply {part!r:.300}")
        status, head, _ = part
        if number and (status or head):
            raise Fault("malformed", f"a second header block: {part!r:.300}")
        if not number:
            if not 200 <= status <= 999:
                raise Fault("malformed", f"status {status}")
            problem = head_problem(head)
            if problem:
                raise Fault("malformed", problem)
    return outcome


def _check_text(text: str) -> None:
    if type(text) is not str:
        raise Fault("malformed", f"a message of {type(text)}")


def _descriptors() -> dict[int, str]:
    """What is open, by number."""
    found = {}
    for name in os.listdir("/proc/self/fd") if sys.platform == "linux" else []:
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            # That was the folder itself, while it was read.
            pass
    return found
