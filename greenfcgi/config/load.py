"""config.toml in, a `Config` or one clear line out, and the effective settings back as TOML.

What the settings are is in `settings`, and which values they can have in `types`. This module knows TOML, says where
a mistake is and what was probably meant, and checks what concerns two settings at once. It looks neither at the
environment nor at the command line.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import ConfigError
from .address import Address
from .settings import Config, Lua, Scripts, Setting, States
from .value_type import InvalidValue

__all__ = [
    "Address", "Config", "Lua", "Row", "Scripts", "States", "defaults", "describe", "dump", "load", "mistake",
    "toml_line",
]  # fmt: skip

_TABLES: dict[str, type] = {"scripts": Scripts, "lua": Lua, "states": States}
#: Tables whose keys are free.
_FREE_TABLES = ("modules", "shared", "tasks", "apps", "app")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MAX_SHOWN = 60  # characters of a found value that a message repeats


class Row(NamedTuple):
    """A setting for readers: `table` is "" for what stands before the first table, `default` is TOML."""

    table: str
    key: str
    expects: str
    default: str
    reason: str


def load(path: str) -> Config:
    """The configuration in the TOML file `path`; relative paths in it are relative to its folder.

    Raises ConfigError, one line, when the file cannot be read or anything in it is wrong.
    """
    config, problems = examine(path)
    if config is None or problems:
        raise ConfigError(problems[0])
    return config


def examine(path: str) -> tuple[Config | None, list[str]]:
    """The configuration in a TOML file, and each mistake in one line; settings that are wrong have their defaults.

    None where there is nothing to go on with: a file that cannot be parsed is one mistake.
    """
    problems: list[str] = []
    config = None
    try:
        config = _build(_parse(path), os.path.dirname(os.path.abspath(path)), problems)
    except ConfigError as error:
        problems.append(str(error))
    file = _quoted(path)[1:-1]
    return config, [f"{file}: {problem}" for problem in problems]


def defaults(folder: str, root: str = "") -> Config:
    """The configuration that an empty file in `folder` gives, or one that names `root` only.

    Raises ConfigError as that file would: the default of scripts.root must be there.
    """
    problems: list[str] = []
    config = _build({"scripts": {"root": root}} if root else {}, os.path.abspath(folder), problems)
    if config is None or problems:
        raise ConfigError(problems[0])
    return config


def names(path: str) -> set[str]:
    """The settings before the first table that the TOML file `path` has. Raises ConfigError as `load` does."""
    return set(_parse(path))


def dump(config: Config) -> str:
    """The configuration as TOML with every setting in it, from which `load` makes an equal one."""
    document = _written(config)
    return "\n".join(_table_lines(document, "")) + "\n"


def describe() -> list[Row]:
    """Every setting in the order of `dump`, for help texts and documents."""
    tables: dict[str, type] = {"": Config, **_TABLES}
    rows = [
        Row(table, key, setting.value_type.expected, _value(setting.default), setting.reason)
        for table, fields in tables.items()
        for key, setting in _settings(fields).items()
    ]
    return sorted(rows, key=lambda row: row.key in _FREE_TABLES)  # these are tables, and come last


def mistake(table: str, key: str, value: object, folder: str) -> str:
    """What is wrong with `value`, as TOML gives it, for one setting: "found ..., expected ..."; "" when nothing is.

    `table` is "" for what stands before the first table; `folder` is where config.toml lies.
    """
    setting = _settings(_TABLES[table] if table else Config)[key]
    try:
        setting.value_type.read(value, folder)
    except InvalidValue as invalid:
        return f"found {_shown(invalid.found)}, expected {invalid.expected}"
    return ""


def toml_line(key: str, value: object) -> str:
    """A key and its value as a line of TOML, without its end."""
    return f"{_key(key)} = {_value(value)}"


def _settings(table: type) -> dict[str, Setting]:
    hints = table.__annotations__
    return {key: hint.__metadata__[0] for key, hint in hints.items() if hasattr(hint, "__metadata__")}


# From TOML


def _parse(path: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(path, "rb") as file:
            text = file.read().decode()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise ConfigError(f"line {line}: found byte 0x{byte:02x}, expected text in UTF-8") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).removesuffix(")").rpartition(" (at ")
        if place == "end of document":
            place = f"line {text.count(chr(10)) + 1}, at the end of the file"
        raise ConfigError(f"{place}: {message}") from None
    except ValueError:  # Python converts at most 4300 decimal digits
        raise ConfigError("found a whole number of thousands of digits, expected 64 bits") from None
    except RecursionError:
        raise ConfigError("found lists or tables that are nested too deep") from None


def _build(document: dict[str, Any], folder: str, problems: list[str]) -> Config | None:
    """The configuration; for each mistake a line without the name of the file is added to `problems`.

    What is wrong has its default, and it is None when that is wrong, too. Raises ConfigError when nothing can be right.
    """
    if folder != folder.encode(errors="replace").decode():
        raise ConfigError("found a folder whose name is not UTF-8, expected one that TOML can hold")
    tables: dict[str, dict[str, Any]] = {}
    for name in _TABLES:
        tables[name] = document.get(name, {})
        if not isinstance(tables[name], dict):
            problems.append(f"{name}: found {_shown(document[name])}, expected a table [{name}]")
            tables[name] = {}
    values: dict[str, Any] = _read_table("", Config, document, folder, problems)
    read = {name: _read_table(name, fields, tables[name], folder, problems) for name, fields in _TABLES.items()}
    try:
        tables_read = {name: fields(**read[name]) for name, fields in _TABLES.items()}
        config = Config(**values, **tables_read, folder=folder)
    except TypeError:
        # A default is wrong, and so missing.
        return None
    if config.accesslog:
        problems += _check_format(config.access_log_format)
    if not problems:
        problems += _check_together(config)
    return config


def _check_format(format: str) -> Iterator[str]:
    # With an access log only: its patterns cost memory.
    from ..logs.access_format import check_format

    try:
        check_format(format)
    except ConfigError as error:
        yield str(error)


def _read_table(name: str, fields: type, found: dict[str, Any], folder: str, problems: list[str]) -> dict[str, object]:
    settings = _settings(fields)
    known = settings if name else {**settings, **_TABLES}
    problems += [_unknown(name, key, value) for key, value in found.items() if key not in known]
    values = {}
    for key, setting in settings.items():
        try:
            values[key] = setting.value_type.read(found.get(key, setting.default), folder)
        except InvalidValue as invalid:
            what = "found" if key in found else "the default is"
            where = f"{_label(name, key)}{invalid.place}"
            problems.append(f"{where}: {what} {_shown(invalid.found)}, expected {invalid.expected}")
            if key in found:
                try:
                    values[key] = setting.value_type.read(setting.default, folder)
                except InvalidValue:
                    pass
    return values


def _check_together(config: Config) -> Iterator[str]:
    """What is wrong with settings that each are right."""
    if config.states.max < config.workers:
        yield (
            f"[states] max: found {config.states.max}, expected at least {config.workers}, "
            "as many as workers, because a running request holds a state"
        )
    if config.slowlog and config.slowlog_timeout >= config.timeout:
        yield (
            f"slowlog_timeout: found {config.slowlog_timeout:g}, expected less than timeout, which is "
            f"{config.timeout:g}: a request does not run longer"
        )
    if config.ping_path and config.ping_path == config.status_path:
        yield f"ping_path: found {_shown(config.ping_path)}, which is status_path too; expected another"
    for number, address in enumerate(config.bind):
        if address in config.bind[:number] and not (address.kind == "tcp" and address.port == 0):
            yield f"bind: found {_shown(str(address))} twice"
        if address.kind == "tcp" and not address.is_loopback() and not config.allowed_clients:
            yield (
                f"bind: found {_shown(str(address))} with empty allowed_clients, and whoever can connect "
                "from another machine can run any script; expected the web servers' networks in "
                "allowed_clients, or a bind to 127.0.0.1 or to a unix socket"
            )


# Messages


def _label(table: str, key: str) -> str:
    return f"[{table}] {_key(_short(key))}" if table else _key(_short(key))


def _unknown(table: str, key: str, found: object) -> str:
    """What to say of a key that `table` does not have: its place, or what is near, or what there is."""
    from difflib import get_close_matches

    if isinstance(found, dict):
        names = [*_TABLES, *_FREE_TABLES]
        near = get_close_matches(key, names, 1) if not table else []
        known = ", ".join(f"[{name}]" for name in names)
        hint = f", did you mean [{near[0]}]?" if near else f"; known are {known}"
        return f"[{table + '.' if table else ''}{_key(_short(key))}]: unknown table{hint}"
    homes = {row.key: row.table for row in describe() if row.key not in _FREE_TABLES}
    here = [name for name, home in homes.items() if home == table]
    if key in homes:
        hint = f" here, it belongs {_place(homes[key])}"
    elif near := get_close_matches(key, here, 1):
        hint = f', did you mean "{near[0]}"?'
    elif near := get_close_matches(key, homes, 1):
        hint = f', did you mean "{near[0]}" {_place(homes[near[0]])}?'
    else:
        hint = f"; known here are {', '.join(here)}"
    return f"{_label(table, key)}: unknown setting{hint}"


def _place(table: str) -> str:
    return f"in [{table}]" if table else "above the first table"


def _shown(found: object) -> str:
    """A TOML value as a message repeats it: short, on one line, with its type."""
    if isinstance(found, dict):
        return "a table"
    if isinstance(found, list):
        return "a list" if found else "an empty list"
    if isinstance(found, str):
        return f"{_quoted(_short(found))} (text)"
    names: dict[type, str] = {bool: "true or false", int: "whole number", float: "number"}
    return f"{_short(_value(found))} ({names.get(type(found), 'date or time')})"


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


# To TOML


def _written(values: Any) -> dict[str, Any]:
    """A Config, or one of its tables, as the document that TOML would give."""
    settings = _settings(type(values))
    return {
        key: settings[key].value_type.write(value) if key in settings else _written(value)
        for key, value in values._asdict().items()
        if key in settings or key in _TABLES
    }


def _table_lines(table: Mapping[str, Any], name: str) -> Iterator[str]:
    for key, value in table.items():
        if not isinstance(value, dict) and key != "tasks":
            yield toml_line(key, value)
    for task in table.get("tasks", ()) if not name else ():
        yield "\n[[tasks]]"
        yield from _table_lines(task, "tasks")
    for key, value in table.items():
        if isinstance(value, dict):
            inner = f"{name}.{_key(key)}" if name else _key(key)
            yield f"\n[{inner}]"
            yield from _table_lines(value, inner)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value < 2**63 else hex(value)  # Python refuses to write 4300 decimal digits
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(key)} = {_value(inner)}' for key, inner in value.items())}}}"
    return str(value.isoformat())  # a date, a time, or both


def _key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _quoted(key)


def _quoted(text: str) -> str:
    """A basic string of TOML, in which nothing is left that a terminal would obey."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escape(ord(c))) for c in text) + '"'


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
