"""What a script can reach of the server: the functions behind `con`, and the Lua sources that wrap them.

`Bridge` is one state's window to the outside. Its functions are called from Lua, so they take and return scalars
only (a Lua table or function that crosses over from a coroutine can crash the process), never raise (an exception
would reach the script as a Python object), and ask for room in the state before they return text (a push into a
state at its memory limit ends the process).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import gevent

from ..errors import ConfigError
from ..fastcgi.response import Reply
from ..logs.error_log import ErrorLog
from ..logs.text import MAX_TEXT, decode, described, shorten, traceback_of
from ..quota import Quota
from ..scripts.version import Version
from .budget import LATE, SLOW, Budget
from .file_rules import FileRules

if TYPE_CHECKING:
    from .dumps import Dumps

#: What a function returns to Lua: nil, text, or (value, problem); false when there is no memory for these, true when
#: the script's time is over. A number: it has waited for so long that somebody wants to know where the script is;
#: then it is to be called again with that number, and waits on.
Answer = bytes | bool | float | None | tuple[bytes | None, bytes | None]

GONE = b"the client has gone"
Scalar = bytes | float | bool | None
#: What a function of a module returns to Lua: an answer, or several results. The first of them is text, or nil where it
#: has failed: then the second is the problem, and the third, if any, an errno or a code.
Outcome = Answer | tuple[Scalar, ...]
ModuleFunction = Callable[..., Outcome]

#: Bytes for any of these parts, twice: as text, and compiled.
_ROOM_TO_COMPILE = 128 * 1024

#: Writes to the slow log: the script, the request's title ("" when there is none), the seconds that it has
#: run, and Lua's traceback.
LogSlow = Callable[[str, str, float, bytes], None]
#: Called when a script creates a global by accident, with the script, the name, and the place.
Hint = Callable[[str, str, str], None]


class Module(NamedTuple):
    """A module that scripts may require. It costs a state nothing before its script does.

    `read` returns the source of a chunk that gets three tables: functions of Lua as they were before any script, what
    all modules share, and the module's own functions by their names (see `boot.lua`). What it returns is what `require`
    gives.

    `functions` makes these for one state, when the module is first required there. They are called from Lua as all of
    `Bridge` is; what has to happen when a run of the script is over, they add to `bridge.at_end`.
    """

    name: str
    read: Callable[[], bytes]
    functions: Callable[[Bridge], Mapping[str, ModuleFunction]]
    #: It runs in each new state before the script does, and is no module for `require`.
    at_start: bool = False
    #: A part that other modules share, which is none for `require` either.
    is_part: bool = False


class ModuleStore:
    """The modules that scripts may require, each compiled when the first of them does.

    `compiled` makes bytecode of a chunk of this name; without it, states get the source.
    """

    def __init__(self, modules: Iterable[Module] = (), compiled: Callable[[str, bytes], bytes] | None = None) -> None:
        self.by_name = {module.name.encode(): module for module in modules}
        self._compiled = compiled
        self._codes: dict[bytes, bytes] = {}

    def code(self, name: bytes) -> bytes:
        """What a state runs for it. Raises `OSError`."""
        code = self._codes.get(name)
        if code is None:
            module = self.by_name[name]
            code = module.read()
            if self._compiled is not None:
                code = self._compiled(module.name, code)
            self._codes[name] = code
        return code


class Waitable(Protocol):
    """What a function of a module waits for: an Event of gevent's, or the like."""

    def set(self) -> None:
        """Wake who waits."""

    def wait(self, timeout: float) -> object:
        """Wait until it is set, at most so many seconds."""


class Exchange(Protocol):
    """The request that a script answers, as far as its `con` reaches it."""

    @property
    def title(self) -> str:
        """The request in a few words, for the log."""

    @property
    def params(self) -> bytes:
        """The PARAMS stream."""

    @property
    def deadline(self) -> float:
        """Until when the script may run, in seconds of the monotonic clock."""

    @property
    def aborted(self) -> bool:
        """The client has gone."""

    def send(self, status: int, head: bytes, data: bytes) -> None:
        """Send a part of the reply. Does not wait."""

    def drain(self, seconds: float) -> bool:
        """Wait for a slow client, at most so long; True when all has left, or the client has gone."""

    def answer_early(self, reply: Reply, is_whole: bool) -> None:
        """Send the reply, or what is left of it, and end the request, while the script goes on. Does not wait."""

    def read(self, size: int) -> bytes:
        """The next bytes of the body, or all that are left with -1. Raises `OSError`."""

    def body_problem(self) -> str:
        """How the body differs from CONTENT_LENGTH; empty when it does not."""

    def sleep(self, seconds: float) -> None:
        """Wait, as long as the client is there."""

    def wait(self, event: Waitable, seconds: float) -> None:
        """Wait for the event, as long as the client is there, at most so long."""

    def computes_long(self) -> None:
        """The script has computed for longer than a short turn."""


class Bridge:
    """What one state calls of the server."""

    __slots__ = (
        "_cpath", "_dumps", "_functions", "_hint", "_log", "_log_slow", "_minor", "_modules", "_name", "_opened",
        "_parts", "_rules", "_version", "after_timeout", "at_close", "at_end", "budget", "closes_with", "directory",
        "exchange", "files", "granted", "home", "is_ending", "loading", "on_out_of_memory", "reserve",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        version: Version,
        log: ErrorLog,
        log_slow: LogSlow,
        budget: Budget,
        reserve: Callable[[int], bool],
        on_out_of_memory: Callable[[], None],
        hint: Hint | None = None,
        files: Quota | None = None,
        minor: int = 1,
        parts: Mapping[str, bytes] | None = None,
        modules: ModuleStore | None = None,
        after_timeout: float = 0.0,
        home: str = "",
        cpath: Sequence[str] = (),
        directory: str = "",
    ) -> None:
        #: Where config.toml lies.
        self.home = home
        self._name = name
        #: Where the script's names of files begin.
        self.directory = directory or os.path.dirname(name)
        self._rules = FileRules(os.fsencode(self.directory))
        #: What all states may have open together, and how much of it this one was granted.
        self.files = files
        self.granted = 0
        #: The state goes: nothing is opened any more.
        self.is_ending = False
        #: Of Lua's version, 5.x; and lua.cpath.
        self._minor = minor
        self._cpath = cpath
        #: Made when the script first calls string.dump.
        self._dumps: Dumps | None = None
        self._parts = parts or {}
        self._modules = modules or ModuleStore()
        #: Seconds for a script that goes on after its reply.
        self.after_timeout = after_timeout
        #: The functions of the modules that the script has required, which Lua knows by their numbers; and by module,
        #: their names in lines, and the number of the first.
        self._functions: list[ModuleFunction] = []
        self._opened: dict[bytes, tuple[bytes, int]] = {}
        #: What modules do when a run of the script is over, and when the state goes.
        self.at_end: list[Callable[[], None]] = []
        self.at_close: list[Callable[[], None]] = []
        self._version = version
        self._log = log
        self._log_slow = log_slow
        #: The time of the run under way.
        self.budget = budget
        #: Asked before text is returned: makes room for so many bytes in the state. False where there is none.
        self.reserve = reserve
        #: Called from Lua when the state has no memory left.
        self.on_out_of_memory = on_out_of_memory
        self._hint = hint
        #: The request under way; None while the script loads, and in hooks.
        self.exchange: Exchange | None = None
        #: Bytes that the state may use while it is closed, which runs finalizers; None before.
        self.closes_with: float | None = None
        #: The script is being loaded: all files are those of its version, so that it is in one piece.
        self.loading = True

    def call(self, function: bytes | int, *arguments: Any) -> Outcome:
        """Call one of the functions below by its name, or that of a module by its number."""
        if isinstance(function, bytes):
            return _FUNCTIONS[function](self, *arguments)
        try:
            return self._functions[function](*arguments)
        except BaseException as problem:
            # The border to Lua, which would get the exception as an object of Python's.
            self._failed("a module of the server", problem)
            return self._problem(b"an error of the server's own: its log has it")

    def tick(self) -> int | None:
        """The count hook asks whether the script may go on."""
        return self.budget.tick()

    def has_module(self, name: bytes) -> bool:
        """There is a module of this name for `require`."""
        module = self._modules.by_name.get(name)
        return module is not None and not module.at_start and not module.is_part

    def open_module(self, name: bytes) -> Outcome:
        """The script requires a module: its code, the names of its functions in lines, and the first one's number; or
        nil and why it has none.
        """
        try:
            code = self._modules.code(name)
            # The script may have made Lua forget it.
            names, first = self._opened.get(name) or self._functions_of(name)
        except ConfigError as problem:
            # What is to be installed, or put into config.toml.
            return self._problem(f"module '{decode(name)}': {problem}".encode())
        except BaseException as problem:
            # Whatever its import has come to.
            return self._failed(f"module '{decode(name)}'", problem)
        return (code, names, first) if self.reserve(len(code) + len(names)) else False

    def _functions_of(self, name: bytes) -> tuple[bytes, int]:
        functions = self._modules.by_name[name].functions(self)
        opened = "\n".join(functions).encode(), len(self._functions)
        self._functions += functions.values()
        self._opened[name] = opened
        return opened

    def _failed(self, what: str, problem: BaseException) -> Outcome:
        text = f"{what}: {described(problem)}"
        self.log_error(text, traceback_of(problem), self.title())
        return self._problem(text.encode("utf-8", "backslashreplace"))

    def end_run(self) -> None:
        """A run of the script is over."""
        for end in self.at_end:
            end()

    def log(self, level: bytes, text: bytes) -> None:
        """Write to the error log, with the script and the request it happened in."""
        self._log.log(level.decode(), f"{self._where(self.title())}: {decode(shorten(text, MAX_TEXT))}")

    def slow(self, traceback: bytes) -> None:
        """Write to the slow log where the script is."""
        self._log_slow(self._name, self.title(), self.budget.elapsed(), traceback)

    def depend_on(self, path: str) -> None:
        """The script is reloaded when this file changes, as when one of its Lua files does."""
        self._version.depend_on(path)

    @property
    def is_trial(self) -> bool:
        """The script's version has not been loaded before: it is tried."""
        return not (self._version.is_complete or self._version.is_held)

    def title(self) -> str:
        """The request under way, in a few words; "" where there is none."""
        return self.exchange.title if self.exchange is not None else ""

    def log_error(self, text: str, traceback: str, title: str) -> None:
        """Write to the error log what has failed in Python, with the script and the request of this title."""
        self._log.error(f"{self._where(title)}: {text}", traceback)

    def _where(self, title: str) -> str:
        return f"{self._name}: {title}" if title else self._name

    def hint(self, name: bytes, place: bytes) -> None:
        """A global was written that no `init` has declared."""
        if self._hint is not None:
            self._hint(self._name, decode(name), decode(place))

    def send(self, status: int, head: bytes = b"", data: bytes = b"") -> Answer:
        """Send a part of the reply, and wait while the client is slow. Returns nil, or what went wrong."""
        exchange = self.exchange
        if exchange is None:
            return None
        if head or data:
            exchange.send(status, head, data)
        while not exchange.drain(self.budget.max_wait()):
            found = self.budget.check()
            if found is not None:
                return True if found == LATE else 0
        self.budget.resume()
        return self.text(GONE) if exchange.aborted else None

    def finish(self, status: int, head: bytes, data: bytes, problem: bytes | None = None) -> None:
        """Send the reply, or what is left of it, and end the request; the script goes on.

        `problem`: the reply is not as long as its header block, which has been sent, says.
        """
        exchange = self.exchange
        if exchange is None:
            return
        if problem is not None:
            self.log_error(decode(problem), "", self.title())
        exchange.answer_early((status, head, data), problem is None)
        self.budget.extend(self.after_timeout)

    def read(self, size: int) -> Answer:
        """Read from the request's body. Returns the bytes, and how the body differs from CONTENT_LENGTH."""
        if self.exchange is None:
            return None
        try:
            data = self.exchange.read(size)
        except OSError as problem:
            return self._problem(f"cannot read the request's body: {problem.strerror}".encode())
        problem_text = self.exchange.body_problem().encode()
        return (data, problem_text or None) if self.reserve(len(data) + len(problem_text)) else False

    def sleep(self, seconds: float) -> Answer:
        """Wait while other requests run. Returns nil, or what went wrong."""
        while True:
            wait = min(seconds, self.budget.max_wait())
            if self.exchange is None:
                gevent.sleep(wait)
            else:
                self.exchange.sleep(wait)
                if self.exchange.aborted:
                    self.budget.resume()
                    return self.text(GONE)
            seconds -= wait
            found = self.budget.check()
            if found is not None:
                return True if found == LATE else seconds
            if seconds <= 0:
                return None

    def wait(self, event: Waitable, most: float | None = None) -> Outcome:
        """Wait for an event, for a function of a module; at most so many seconds.

        Returns nil when it is to be looked for again; true when the time is over; 0 when somebody wants to know where
        the script is; nil, text and 0 when the client has gone.
        """
        seconds = self.budget.max_wait()
        if most is not None and most < seconds:
            seconds = most
        if self.exchange is None:
            event.wait(seconds)
        else:
            self.exchange.wait(event, seconds)
            if self.exchange.aborted:
                self.budget.resume()
                return self.failure(GONE)
        found = self.budget.check()
        return True if found == LATE else 0 if found == SLOW else None

    def source(self, path: bytes, fresh: bool) -> Answer:
        """The text of a Lua file, which counts for the script from then on. Returns nil and why it has none.

        `fresh`: as it is now, if the script has been loaded.
        """
        if self._rules.leads_inside(path):
            return self._problem(b"Permission denied")
        try:
            text = self._version.read(os.fsdecode(path), fresh and not self.loading, self.loading)
        except OSError as problem:
            return self._problem((problem.strerror or str(problem)).encode())
        return self.text(text)

    def check(self, path: bytes, opens: bool, writes: bool) -> int | None:
        """The script is about to open a file, or to rename or remove it. Returns nil, or why not as an errno."""
        if opens:
            problem = self._rules.problem(path, writes)
        else:
            problem = errno.EACCES if self._rules.leads_inside(path) else None
        if writes and problem is None:
            name = os.fsdecode(path)
            if name != self._name:
                self._version.forget(name)
        return problem

    def native(self, name: bytes, is_last: bool) -> Answer:
        """Why the native module `name` cannot be loaded; nil where it can be, or is not there.

        `is_last`: it is looked for in the one that holds it among others.
        """
        from .native_modules import misfit, wanted

        path = wanted(os.fsdecode(name), self._cpath, self._minor, is_last)
        problem = misfit(path, self._minor) if path else ""
        return self.text(os.fsencode(problem)) if problem else None

    def native_file(self, path: bytes) -> Answer:
        """The same for a file."""
        from .native_modules import misfit

        problem = misfit(os.fsdecode(path), self._minor)
        return self.text(os.fsencode(problem)) if problem else None

    def native_hint(self, name: bytes) -> Answer:
        """How `require` would find a native module of this name; nil where there is none."""
        from .native_modules import hint

        text = hint(os.fsdecode(name), self._cpath, self._minor)
        return self.text(os.fsencode(text)) if text else None

    def remember_dump(self, code: bytes) -> None:
        """The state's own string.dump has made this."""
        if self._dumps is None:
            from .dumps import Dumps

            self._dumps = Dumps()
        self._dumps.add(code)

    def is_dump(self, code: bytes) -> bool:
        """The state's own string.dump has made exactly this."""
        return self._dumps is not None and code in self._dumps

    def grant(self, number: int) -> bool:
        """So many files more may be open in the state. Returns whether they may.

        Below zero: while the state ends, so many have been closed.
        """
        if number < 0:
            self.keep_files(self.granted + number)
            return True
        if self.is_ending or not self.take_descriptors(number):
            return False
        self.granted += number
        return True

    def take_descriptors(self, number: int) -> bool:
        """So many more of the process's are taken. False, and none is, where scripts have too many."""
        return self.files is None or self.files.take(number)

    def give_descriptors(self, number: int) -> None:
        """So many of them have been closed."""
        if self.files is not None:
            self.files.give_back(number)

    def keep_files(self, number: int) -> None:
        """So many files are open in the state; what it was granted beyond them is given back."""
        self.give_descriptors(self.granted - number)
        self.granted = number

    def entropy(self, number: int) -> Answer:
        """So many bytes that nobody can guess."""
        return os.urandom(number) if self.reserve(number) else False

    def more(self, name: bytes, kilobytes: float | None) -> Answer:
        """A part of the server's own Lua that few scripts need.

        `kilobytes`: so much memory is in use; 5.4 and 5.5 hide that from finalizers, which get no part then while
        the state is closed.
        """
        text = self._parts[name.decode()]
        if self.closes_with is None:
            return self.text(text)
        return text if kilobytes is not None and kilobytes * 1024 + _ROOM_TO_COMPILE <= self.closes_with else False

    def text(self, text: bytes) -> Answer:
        """Text for Lua; false where it has no room for it."""
        return text if self.reserve(len(text)) else False

    def failure(self, text: bytes, number: int = 0) -> Outcome:
        """The same of (nil, what has failed, a number)."""
        return (None, text, number) if self.reserve(len(text)) else False

    def _problem(self, text: bytes) -> Answer:
        return (None, text) if self.reserve(len(text)) else False


#: What Lua calls, by the names that it has there. One function of Python's crosses over to each state, not sixteen.
_FUNCTIONS: Final[Mapping[bytes, Callable[..., Outcome]]] = {
    b"log": Bridge.log, b"send": Bridge.send, b"read": Bridge.read, b"sleep": Bridge.sleep, b"source": Bridge.source,
    b"check": Bridge.check, b"native": Bridge.native, b"native_file": Bridge.native_file,
    b"native_hint": Bridge.native_hint, b"remember_dump": Bridge.remember_dump, b"is_dump": Bridge.is_dump,
    b"grant": Bridge.grant, b"entropy": Bridge.entropy,
    b"more": Bridge.more, b"slow": Bridge.slow, b"hint": Bridge.hint, b"tick": Bridge.tick,
    b"on_out_of_memory": lambda bridge: bridge.on_out_of_memory(), b"finish": Bridge.finish,
    b"has_module": Bridge.has_module, b"open_module": Bridge.open_module,
}  # fmt: skip
