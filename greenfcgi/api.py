"""What a script can reach of the server: the functions behind `con`, and the Lua sources that wrap them.

`Host` is one state's window to the outside. Its functions are called from Lua, so they take and return scalars
only (a Lua table or function that crosses over from a coroutine can crash the process), never raise (an exception
would reach the script as a Python object), and ask for room in the state before they return text (a push into a
state at its memory limit ends the process).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import Protocol

import gevent
from gevent.event import Event

from .budget import LATE, Budget
from .file_rules import FileRules
from .lines import MAX_TEXT, decode, shorten
from .log import ErrorLog
from .quota import Quota
from .scripts import Version

#: What a function returns to Lua: nil, text, or (value, problem); false when there is no memory for these, true when
#: the script's time is over. A number: it has waited for so long that somebody wants to know where the script is;
#: then it is to be called again with that number, and waits on.
Answer = bytes | bool | float | None | tuple[bytes | None, bytes | None]

_PARTS = (
    "boot", "guard", "finalizers", "luajit", "limits", "bounds", "load", "standins", "random", "con", "errors", "files",
    "finalizing", "generator", "loading", "luafcgid", "modules", "reasons", "seldom", "show", "streams", "route",
)  # fmt: skip


#: Bytes for any of these parts, twice: as text, and compiled.
_ROOM_TO_COMPILE = 128 * 1024

#: Takes what the slow log tells: the script, the request's title ("" when there is none), the seconds that it has
#: run, and Lua's traceback.
TellSlow = Callable[[str, str, float, bytes], None]


#: Takes what developers are told of a global that was written by the way: the script, the name, the place.
Hint = Callable[[str, str, str], None]


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

    def read(self, most: int) -> bytes:
        """The next bytes of the body, or all that are left with -1. Raises `OSError`."""

    def body_problem(self) -> str:
        """How the body differs from CONTENT_LENGTH; empty when it does not."""

    def sleep(self, seconds: float) -> None:
        """Wait, as long as the client is there."""

    def wait(self, event: Event, seconds: float) -> None:
        """Wait for the event, as long as the client is there, at most so long."""

    def computes_long(self) -> None:
        """The script has computed for longer than a short turn."""


class Host:
    """The functions that one state calls."""

    __slots__ = (
        "_files", "_hint", "_log", "_minor", "_name", "_parts", "_room", "_rules", "_tell_slow", "_version", "budget",
        "closes_with", "exchange", "exhausted", "granted", "is_ending", "loading",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        version: Version,
        log: ErrorLog,
        tell_slow: TellSlow,
        budget: Budget,
        room: Callable[[int], bool],
        exhausted: Callable[[], None],
        hint: Hint | None = None,
        files: Quota | None = None,
        minor: int = 1,
        parts: Mapping[str, bytes] | None = None,
    ) -> None:
        self._name = name
        self._rules = FileRules(os.fsencode(os.path.dirname(name)))
        #: What all states may have open together, and how much of it this one was granted.
        self._files = files
        self.granted = 0
        #: The state goes: nothing is opened any more.
        self.is_ending = False
        #: Of Lua's version, 5.x.
        self._minor = minor
        self._parts = parts or {}
        self._version = version
        self._log = log
        self._tell_slow = tell_slow
        #: The time of the run under way.
        self.budget = budget
        self._room = room
        #: Called from Lua when the state has no memory left.
        self.exhausted = exhausted
        self._hint = hint
        #: The request under way; None while the script loads, and in hooks.
        self.exchange: Exchange | None = None
        #: Bytes that the state may use while it is closed, which runs finalizers; None before.
        self.closes_with: float | None = None
        #: The script is being loaded: all files are those of its version, so that it is in one piece.
        self.loading = True

    def functions(self) -> tuple[Callable[..., Answer], ...]:
        """What `boot.lua` takes, in its order."""
        return (
            self.log, self.send, self.read, self.sleep, self.source, self.check, self.native, self.grant, self.entropy,
            self.more, self.exhausted, self.budget.tick, self.slow,
        )  # fmt: skip

    def log(self, level: bytes, text: bytes) -> None:
        """Write to the error log, with the script and the request it happened in."""
        where = f"{self._name}: {self.exchange.title}" if self.exchange else self._name
        self._log.log(level.decode(), f"{where}: {decode(shorten(text, MAX_TEXT))}")

    def slow(self, traceback: bytes) -> None:
        """Tell the slow log where the script is."""
        title = self.exchange.title if self.exchange else ""
        self._tell_slow(self._name, title, self.budget.spent(), traceback)

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
        while not exchange.drain(self.budget.patience()):
            verdict = self.budget.verdict()
            if verdict is not None:
                return True if verdict is LATE else 0
        return self._text(b"the client has gone") if exchange.aborted else None

    def read(self, most: int) -> Answer:
        """Read from the request's body. Returns the bytes, and how the body differs from CONTENT_LENGTH."""
        if self.exchange is None:
            return None
        try:
            data = self.exchange.read(most)
        except OSError as problem:
            return self._problem(f"cannot read the request's body: {problem.strerror}".encode())
        problem_text = self.exchange.body_problem().encode()
        return (data, problem_text or None) if self._room(len(data) + len(problem_text)) else False

    def sleep(self, seconds: float) -> Answer:
        """Wait while other requests run. Returns nil, or what went wrong."""
        while True:
            wait = min(seconds, self.budget.patience())
            if self.exchange is None:
                gevent.sleep(wait)
            else:
                self.exchange.sleep(wait)
                if self.exchange.aborted:
                    return self._text(b"the client has gone")
            seconds -= wait
            verdict = self.budget.verdict()
            if verdict is not None:
                return True if verdict is LATE else seconds
            if seconds <= 0:
                return None

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
        return self._text(text)

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

    def native(self, path: bytes) -> Answer:
        """Why a native module cannot be loaded; nil where it can be, or is not there."""
        from .native_modules import misfit

        try:
            problem = misfit(os.fsdecode(path), self._minor)
        except OSError:
            return None
        return self._text(os.fsencode(problem)) if problem else None

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
        return self._files is None or self._files.take(number)

    def give_descriptors(self, number: int) -> None:
        """So many of them have been closed."""
        if self._files is not None:
            self._files.give_back(number)

    def keep_files(self, number: int) -> None:
        """So many files are open in the state; what it was granted beyond them is given back."""
        self.give_descriptors(self.granted - number)
        self.granted = number

    def entropy(self, number: int) -> Answer:
        """So many bytes that nobody can guess."""
        return os.urandom(number) if self._room(number) else False

    def more(self, name: bytes, kilobytes: float | None) -> Answer:
        """A part of the server's own Lua that few scripts need.

        `kilobytes`: so much memory is in use; 5.4 and 5.5 do not tell it to finalizers, which get no part then while
        the state is closed.
        """
        text = self._parts[name.decode()]
        if self.closes_with is None:
            return self._text(text)
        return text if kilobytes is not None and kilobytes * 1024 + _ROOM_TO_COMPILE <= self.closes_with else False

    def _text(self, text: bytes) -> Answer:
        return text if self._room(len(text)) else False

    def _problem(self, text: bytes) -> Answer:
        return (None, text) if self._room(len(text)) else False


def lua_parts(*more: str) -> dict[str, bytes]:
    """The Lua sources of the package by name: those that every state is made of, and more."""
    # Not importlib.resources: it costs memory, and the package is never run from a zip file.
    folder = os.path.join(os.path.dirname(__file__), "lua")
    parts = {}
    for name in (*_PARTS, *more):
        with open(os.path.join(folder, name + ".lua"), "rb") as file:
            parts[name] = file.read()
    return parts


def lua_literal(value: object) -> bytes:
    """A value of TOML as Lua source: tables, arrays, text, numbers, booleans; dates and times as ISO 8601 text."""
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float):
        return _lua_float(value)
    if isinstance(value, Mapping):
        items = (b"[" + lua_literal(str(key)) + b"]=" + lua_literal(item) for key, item in value.items())
        return b"{" + b",".join(items) + b"}"
    if isinstance(value, (list, tuple)):
        return b"{" + b",".join(lua_literal(item) for item in value) + b"}"
    text = value if isinstance(value, str) else value.isoformat()  # type: ignore[attr-defined]
    return b'"' + b"".join(map(_lua_byte, text.encode())) + b'"'


def _lua_byte(byte: int) -> bytes:
    return b"\\%03d" % byte if byte < 32 or byte in b'"\\\x7f' else b"%c" % byte


def _lua_float(value: float) -> bytes:
    if value != value:
        return b"(0/0)"
    if value in (float("inf"), float("-inf")):
        return b"(1/0)" if value > 0 else b"(-1/0)"
    return repr(value).encode()
