"""The types of values that settings can have: a size, a path, a list and so on.

Which setting is of which type is in `settings`, the words around a message in `load`. Files may be looked for here, but
none is read.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..logs.error_log import LEVELS
from .lua_versions import AUTO, FLAVOURS, available
from .value_type import InvalidValue, ValueType

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

_MAX_INT = 2**31 - 1  # what a C int holds, since listen() takes one; as a time, 68 years
_MAX_SIZE = 2**40
_MAX_DEPTH = 32
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_LUA_WORDS = (
    "and break do else elseif end false for function goto if in local nil not or repeat return then true until while"
)


class PythonModule(NamedTuple):
    """The name of a Python module, and the folder that is first on Python's path when it is imported."""

    path: str
    folder: str


class Task(NamedTuple):
    """A script, below scripts.root, that runs by the clock: each time that so many seconds are over, or as cron has it.

    `every` is 0 where there is a `cron`.
    """

    name: str
    script: str
    every: float
    cron: str


def integer(minimum: int) -> ValueType:
    """A whole number from `minimum` to what a C int holds."""
    expected = f"a whole number of at least {minimum}"

    def read(found: object, folder: str) -> int:
        if type(found) is not int or found < minimum:
            raise InvalidValue(found, expected)
        if found > _MAX_INT:
            raise InvalidValue(found, f"a whole number of at most {_MAX_INT}")
        return found

    return ValueType(expected, read)


def seconds(minimum: float) -> ValueType:
    """A time in seconds, `minimum` or more."""
    expected = f"a number of seconds, at least {minimum}"

    def read(found: object, folder: str) -> float:
        if not isinstance(found, (int, float)) or isinstance(found, bool) or not found >= minimum:  # nan is not
            raise InvalidValue(found, expected)
        if found > _MAX_INT:
            raise InvalidValue(found, f"a number of seconds, at most {_MAX_INT}")
        return found

    return ValueType(expected, read)


def size(minimum: int, minimum_text: str) -> ValueType:
    """A number of bytes from `minimum`, which is `minimum_text` in the message, to 1 TiB."""
    expected = f'a size in bytes or as text such as "16M", at least {minimum_text}'

    def read(found: object, folder: str) -> int:
        count = found
        if isinstance(found, str) and (match := re.fullmatch("([0-9]{1,15})([KMG]?)B?", found.upper())):
            count = int(match[1]) * _UNITS[match[2]]
        if type(count) is not int or count < minimum:
            raise InvalidValue(found, expected)
        if count > _MAX_SIZE:
            raise InvalidValue(found, 'a size of at most "1024G"')
        return count

    return ValueType(expected, read, size_text)


def size_text(count: int) -> object:
    """A number of bytes as config.toml has it: "16M", or the number where no unit divides it."""
    unit = next((unit for unit in "GMK" if count and count % _UNITS[unit] == 0), "")
    return f"{count // _UNITS[unit]}{unit}" if unit else count


def _text(expected: str, pattern: str, but_not: str = "") -> ValueType:
    def read(found: object, folder: str) -> str:
        if not isinstance(found, str) or not re.fullmatch(pattern, found) or found in but_not.split():
            raise InvalidValue(found, expected)
        return found

    return ValueType(expected, read)


def _choice(*names: str) -> ValueType:
    return _text("one of " + ", ".join(f'"{name}"' for name in names), "|".join(names))


def _path(expected: str, *kept: str) -> ValueType:
    """A path, relative to config.toml, as absolute text; the texts in `kept` stay as they are."""

    def read(found: object, folder: str) -> str:
        if isinstance(found, str) and found in kept:
            return found
        if not isinstance(found, str) or not found or "\0" in found:
            raise InvalidValue(found, expected)
        return os.path.normpath(os.path.join(folder, found))

    return ValueType(expected, read)


def list_of(element: ValueType, min_length: int = 0, or_one: bool = False) -> ValueType:
    """Elements of one type, as a tuple; with `or_one`, a text is a list of one."""
    some = " of at least one element" if min_length else ""
    expected = f"{element.expected}, or a list of them" if or_one else f"a list{some}, each {element.expected}"

    def read(found: object, folder: str) -> tuple[object, ...]:
        if or_one and isinstance(found, str):
            return (element.read(found, folder),)
        if not isinstance(found, list) or len(found) < min_length:
            raise InvalidValue(found, expected)
        values = []
        for number, value in enumerate(found, 1):
            try:
                values.append(element.read(value, folder))
            except InvalidValue as invalid:
                raise InvalidValue(invalid.found, invalid.expected, f", element {number}") from None
        return tuple(values)

    def write(values: tuple[object, ...]) -> object:
        written = [element.write(value) for value in values]
        return written[0] if or_one and len(written) == 1 else written

    return ValueType(expected, read, write)


def _read_flag(found: object, folder: str) -> bool:
    if not isinstance(found, bool):
        raise InvalidValue(found, "true or false")
    return found


def _read_mode(found: object, folder: str) -> int:
    return int(str(_OCTAL.read(found, folder)), 8)


def _read_root(found: object, folder: str) -> str:
    path = str(DIRECTORY.read(found, folder))
    if not os.path.isdir(path):
        raise InvalidValue(found, f"{ROOT.expected} (there is none at {path!r})")
    return path


def _read_startup(found: object, folder: str) -> str:
    path = str(OPTIONAL_PATH.read(found, folder))
    if path and not (os.path.isfile(path) and os.access(path, os.R_OK)):
        raise InvalidValue(found, f"a file that exists and can be read (there is none at {path!r})")
    return path


def _read_version(found: object, folder: str) -> str:
    version = str(_VERSIONS.read(found, folder))
    if version != AUTO:
        return version
    there = available()
    if not there:
        raise InvalidValue(found, "an installed lupa, with any Lua in it (pip install lupa)")
    return there[0]


def _read_network(found: object, folder: str) -> "IPv4Network | IPv6Network":
    import ipaddress  # 270 KB that a server on a unix socket or the loopback does without

    if isinstance(found, str):
        try:
            network = ipaddress.ip_network(found, strict=False)
        except ValueError:
            pass
        else:
            if "/" in found and ipaddress.ip_address(found.partition("/")[0]) != network.network_address:
                raise InvalidValue(found, f'a network without host bits, such as "{network}"')
            return network
    raise InvalidValue(found, NETWORK.expected)


def _read_modules(found: object, folder: str) -> dict[str, PythonModule]:
    if not isinstance(found, dict):
        raise InvalidValue(found, MODULES.expected)
    modules = {}
    for name, path in found.items():
        if not re.fullmatch(_MODULE_NAME, name) or name in _LUA_MODULES or name.partition(".")[0] == "greenfcgi":
            raise InvalidValue(name, "names for require that are not taken: letters, digits, _ and .")
        if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
            raise InvalidValue(path, 'the name of a Python module such as "my.module"', f".{name}")
        modules[name] = PythonModule(path, folder)
    return modules


def _read_tasks(found: object, folder: str) -> tuple[Task, ...]:
    if not isinstance(found, list):
        raise InvalidValue(found, TASKS.expected)
    tasks: list[Task] = []
    for number, table in enumerate(found, 1):
        try:
            tasks.append(_read_task(table, folder))
        except InvalidValue as invalid:
            raise InvalidValue(invalid.found, invalid.expected, f", element {number}{invalid.place}") from None
        if tasks[-1].name in [task.name for task in tasks[:-1]]:
            raise InvalidValue(tasks[-1].name, "names that differ (name =)", f", element {number}: name")
    return tuple(tasks)


def _read_task(found: object, folder: str) -> Task:
    if not isinstance(found, dict):
        raise InvalidValue(found, TASKS.expected)
    for key in found:
        if key not in ("name", "script", "every", "cron"):
            raise InvalidValue(key, "script, and every or cron, and a name if you like")
    script = _part(found, "script", _TASK_SCRIPT, None, folder)
    if ("every" in found) == ("cron" in found):
        raise InvalidValue(found, "every or cron, one of them")
    every = _part(found, "every", _INTERVAL, 0, folder)
    cron = _part(found, "cron", _CRON, "", folder)
    name = _part(found, "name", ONE_LINE, script, folder)
    return Task(str(name), str(script), float(str(every)), str(cron))


def _part(table: Mapping[str, object], key: str, type_: ValueType, default: object, folder: str) -> object:
    if key not in table and default is not None:
        return default
    try:
        return type_.read(table.get(key, ""), folder)
    except InvalidValue as invalid:
        raise InvalidValue(invalid.found, invalid.expected, f": {key}") from None


def _read_interval(found: object, folder: str) -> float:
    length = found
    if isinstance(found, str) and (match := re.fullmatch("([0-9]{1,9})([smhd])", found)):
        length = int(match[1]) * _SECONDS[match[2]]
    if not isinstance(length, (int, float)) or isinstance(length, bool) or not 1 <= length <= _MAX_INT:
        raise InvalidValue(found, _INTERVAL.expected)
    return length


def _read_cron(found: object, folder: str) -> str:
    if not isinstance(found, str):
        raise InvalidValue(found, _CRON.expected)
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        raise InvalidValue(found, "the package cronsim to be installed (pip install 'greenfcgi[tasks]')") from None
    from datetime import datetime

    try:
        # One that never comes is an error, too.
        next(CronSim(found, datetime.now()))
    except (CronSimError, StopIteration):
        raise InvalidValue(found, _CRON.expected) from None
    return found


def _write_tasks(tasks: Sequence[Task]) -> list[dict[str, object]]:
    return [
        {"name": one.name, "script": one.script} | ({"cron": one.cron} if one.cron else {"every": one.every})
        for one in tasks
    ]


def _read_free(found: object, folder: str, depth: int = 0) -> object:
    if not depth and not isinstance(found, dict):
        raise InvalidValue(found, ANY_TABLE.expected)
    if depth > _MAX_DEPTH:
        raise InvalidValue(found, f"tables and lists at most {_MAX_DEPTH} deep")
    if type(found) is int and not -(2**63) <= found < 2**63:
        raise InvalidValue(found, "whole numbers of 64 bits")
    for value in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        _read_free(value, folder, depth + 1)
    return found


def is_identifier(text: str) -> bool:
    """A Lua function can have this name."""
    return re.fullmatch(_IDENTIFIER, text) is not None and text not in _LUA_WORDS.split()


def _read_user(found: object, folder: str) -> str:
    if found == "":
        return ""
    import pwd

    return _known(found, pwd.getpwnam, USER)


def _read_group(found: object, folder: str) -> str:
    if found == "":
        return ""
    import grp

    return _known(found, grp.getgrnam, GROUP)


def _known(found: object, find: Callable[[str], object], type_: ValueType) -> str:
    if isinstance(found, str) and "\0" not in found:
        try:
            find(found)
        except KeyError:
            pass
        else:
            return found
    raise InvalidValue(found, type_.expected)


FLAG = ValueType("true or false", _read_flag)
_OCTAL = _text('octal text such as "0660"', "(0|0o)?[0-7]{3}")
MODE = ValueType(_OCTAL.expected, _read_mode, lambda mode: f"{mode:04o}")
OPTIONAL_PATH = _path('a path, or "" for none', "")
STARTUP = ValueType('a path of a file that can be read, or "" for none', _read_startup)
DIRECTORY = _path("a path of a directory")
#: What stands for the folders where the system has modules written in C.
SYSTEM = "system"
NATIVE_FOLDER = _path('a path of a directory, or "system"', SYSTEM)
ROOT = ValueType("a path of a directory that exists", _read_root)
NETWORK = ValueType('a network such as "10.0.0.0/8", "192.0.2.7" or "2001:db8::/32"', _read_network, str)
_NAME = r"(?!\.\.?(?:/|\Z))[^/\0]+"
FOLDER_BELOW = _text('a folder below scripts.root such as "public", or "" for none', f"|{_NAME}(?:/{_NAME})*")
FILE_NAME = _text('the name of a file such as "index.lua", or "" for none', f"|{_NAME}")
_MODULE_NAME = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
_LUA_MODULES = {
    "_G", "bit", "bit32", "coroutine", "debug", "ffi", "io", "jit", "luafcgid", "math", "os", "package", "string",
    "table", "utf8",
}  # fmt: skip
MODULES = ValueType("a table of modules", _read_modules, lambda found: {name: one.path for name, one in found.items()})
ANY_TABLE = ValueType("a table", _read_free)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TASK_SCRIPT = _text('a script below scripts.root such as "cleanup.lua"', f"{_NAME}(?:/{_NAME})*")
_INTERVAL = ValueType('a time of at least a second, as a number or as text such as "10m" (s, m, h, d)', _read_interval)
_CRON = ValueType('five fields of cron such as "0 3 * * *"', _read_cron)
TASKS = ValueType(
    'tables [[tasks]], each with script, and every = "10m" or cron = "0 3 * * *"', _read_tasks, _write_tasks
)
ANY_TEXT = _text("text", "(?s:.*)")
ONE_LINE = _text("text on one line, not empty", r"[^\r\n\0]+")
EXTENSION = _text('an extension such as ".lua"', r"\.[^/\0]+")
_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
IDENTIFIER = _text("a name that a Lua function can have", _IDENTIFIER, _LUA_WORDS)
STATUS = _text('a status from 200 to 599 such as "200 OK"', r"[2-5][0-9]{2} [^\x00-\x1f\x7f]+")
HEADER = _text('a header such as "Name: value" on one line', r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*")
_VERSIONS = _choice(AUTO, *sorted(FLAVOURS, key=lambda name: (not name.startswith("luajit"), name)))
VERSION = ValueType(_VERSIONS.expected, _read_version)
LEVEL = _choice(*LEVELS)
ENGINE = _choice("auto", "inotify", "poll")
ERROR_LOG = _path('a path, or "-" for stderr', "-")
ACCESS_LOG = _path('a path, "-" for stdout, or "" for none', "-", "")
SLOW_LOG = _path('a path, "-" for stderr, or "" for none', "-", "")
LOG_FORMAT = _choice("text", "json")
URL_PATH = _text('a path that begins with "/", or "" for none', r"|/[!-~]*", "/")
REACH = _choice("os.execute", "io.popen", "ffi", "debug", "bytecode", "package.loadlib", "jit", "string.buffer")
USER = ValueType('a user of this machine, or "" to stay who starts it', _read_user)
GROUP = ValueType('a group of this machine, or "" for the user\'s own', _read_group)
