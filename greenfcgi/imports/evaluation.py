"""A configuration that is a Lua script, run for what it sets: closed, with limits of time and memory.

The file may come from a stranger, and nobody may have read it. So it reaches no file and no program, and what does not
end is ended with the whole command: no hook is called in a pattern that takes for ever, but lupa lets other threads run
meanwhile.
"""

from __future__ import annotations

import _thread
import os
import re
import sys
from collections.abc import Iterable
from typing import NamedTuple

from ..config.lua_versions import available
from ..errors import ConfigError, ExitStatus
from ..logs.text import decode, escape
from ..lua.engine import bare_runtime

#: Real ones take a millisecond and some 50 KB.
_SECONDS = 2.0
_MEMORY = 16 * 2**20
_MAX_MESSAGE = 200  # characters
_SOURCE = os.path.join(os.path.dirname(__file__), "evaluate.lua")

Value = bytes | int | float | bool


class Found(NamedTuple):
    """What a script has set: of the names asked for, and the names of other globals."""

    values: dict[str, Value]
    others: list[str]


def evaluate(path: str, text: str, names: Iterable[str]) -> Found:
    """Run the Lua script `text`, which is the file `path`, and return the globals of these names.

    Raises `ConfigError`, one line, when it does not parse, raises an error, takes more memory than it should, or sets
    one of them to what is no text, number or boolean. Ends the process, with one line, when it does not end.
    """
    there = available()
    if not there:
        raise ConfigError("no Lua to read it with: expected an installed lupa (pip install lupa)")
    runtime = bare_runtime(there[0], _MEMORY)
    with open(_SOURCE, "rb") as file:
        source = file.read()
    ended = _thread.allocate_lock()
    ended.acquire()
    _thread.start_new_thread(_end_late, (ended, path))
    try:
        done, *found = runtime.execute(source, text.encode(), " ".join(names).encode())
    except MemoryError:
        done, found = False, [b"not enough memory"]
    finally:
        ended.release()
    if not done:
        raise ConfigError(_message(path, decode(found[0])))
    values: dict[str, Value] = {}
    for name, kind, value in zip(found[1::3], found[2::3], found[3::3], strict=True):
        if value is None:
            what = f"found a {decode(kind)}, expected text, a number or a boolean"
            raise ConfigError(f"{escape(path)}: {decode(name)}: {what}")
        values[decode(name)] = value
    return Found(values, decode(found[0]).split())


def _message(path: str, problem: str) -> str:
    problem = problem if len(problem) <= _MAX_MESSAGE else problem[:_MAX_MESSAGE] + "..."
    if problem.endswith("not enough memory"):
        problem = f"it takes more than {_MEMORY // 2**20} MB of memory"
    place = re.match(r"import:(\d+): ?", problem)
    where = f"{path}:{place[1]}" if place else path
    return f"{escape(where)}: {escape(problem[place.end() :] if place else problem)}"


def _end_late(ended: _thread.LockType, path: str) -> None:
    if not ended.acquire(timeout=_SECONDS):
        sys.stderr.write(f"greenfcgi: {escape(path)}: it has not ended after {_SECONDS:g} s\n")
        sys.stderr.flush()
        os._exit(ExitStatus.USAGE)
