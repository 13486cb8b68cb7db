"""config.toml in, a `Config` or one clear line out, and the effective settings back as TOML.

What the settings are is in `settings`, and which values they can have in `types`. This module knows TOML, says where
a mistake is and what was probably meant, and checks what concerns two settings at once. What the environment and the
command line set comes as `Overrides`.
"""

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigError
from . import toml
from .address import Address
from .settings import FREE_TABLES, TABLES, Config, Lua, Scripts, States, settings_of
from .value_type import InvalidValue

if TYPE_CHECKING:
    from .overrides import Overrides


__all__ = [
    "Address", "Config", "Lua", "Row", "Scripts", "States", "defaults", "describe", "dump", "load", "mistake",
    "toml_line",
]  # fmt: skip


class Row(NamedTuple):
    """A setting for readers: `table` is "" for what stands before the first table, `default` is TOML."""

    table: str
    key: str
    expects: str
    default: str
    reason: str


def load(path: str, overrides: "Overrides | None" = None) -> Config:
    """The configuration in the TOML file `path`, with what is set elsewhere; relative paths are relative to its folder.

    Raises ConfigError, one line, when the file cannot be read or anything is wrong.
    """
    config, problems = examine(path, overrides)
    if config is None or problems:
        raise ConfigError(problems[0])
    return config


def examine(path: str, overrides: "Overrides | None" = None) -> tuple[Config | None, list[str]]:
    """The configuration in a TOML file, and each mistake in one line; settings that are wrong have their defaults.

    `path` is "" for no file: all has its default then but for `overrides`. The configuration is None where there is
    nothing to go on with: a file that cannot be parsed is one mistake.
    """
    problems: list[str] = []
    config = None
    folder = os.path.dirname(os.path.abspath(path)) if path else os.getcwd()
    try:
        config = _build(_parse(path) if path else {}, folder, problems, overrides)
    except ConfigError as error:
        problems.append(str(error))
    return config, _located(problems, toml.quoted(path)[1:-1], overrides)


def defaults(folder: str, root: str = "", overrides: "Overrides | None" = None) -> Config:
    """The configuration that an empty file in `folder` gives, or one that names `root` only; and what is set elsewhere.

    Raises ConfigError as that file would: the default of scripts.root must be there.
    """
    problems: list[str] = []
    document = {"scripts": {"root": root}} if root else {}
    config = _build(document, os.path.abspath(folder), problems, overrides)
    if problems := _located(problems, "", overrides):
        raise ConfigError(problems[0])
    assert config is not None
    return config


def _located(problems: list[str], file: str, overrides: "Overrides | None") -> list[str]:
    """Mistakes with where each of them is, and those that are in no setting's value."""
    if overrides is None:
        return [f"{file}: {problem}" if file else problem for problem in problems]
    return overrides.problems + [overrides.locate(problem, file) for problem in problems]


def names(path: str) -> set[str]:
    """The settings before the first table of the TOML file `path`, "" for none. Raises ConfigError as `load` does."""
    return set(_parse(path)) if path else set()


def dump(config: Config) -> str:
    """The configuration as TOML with every setting in it, from which `load` makes an equal one."""
    document = _written(config)
    return "\n".join(_table_lines(document, "")) + "\n"


def describe() -> list[Row]:
    """Every setting in the order of `dump`, for help texts and documents."""
    tables: dict[str, type] = {"": Config, **TABLES}
    rows = [
        Row(table, key, setting.value_type.expected, toml.value(setting.default), setting.reason)
        for table, fields in tables.items()
        for key, setting in settings_of(fields).items()
    ]
    return sorted(rows, key=lambda row: row.key in FREE_TABLES)  # these are tables, and come last


def mistake(table: str, key: str, value: object, folder: str) -> str:
    """What is wrong with `value`, as TOML gives it, for one setting: "found ..., expected ..."; "" when nothing is.

    `table` is "" for what stands before the first table; `folder` is where config.toml lies.
    """
    setting = settings_of(TABLES[table] if table else Config)[key]
    try:
        setting.value_type.read(value, folder)
    except InvalidValue as invalid:
        return f"found {toml.shown(invalid.found)}, expected {invalid.expected}"
    return ""


def toml_line(key: str, value: object) -> str:
    """A key and its value as a line of TOML, without its end."""
    return f"{toml.key(key)} = {toml.value(value)}"


# From TOML


def _parse(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise ConfigError(f"line {line}: found byte 0x{byte:02x}, expected text in UTF-8") from None
    return toml.parse(text)


def _build(
    document: dict[str, Any], folder: str, problems: list[str], overrides: "Overrides | None" = None
) -> Config | None:
    """The configuration; for each mistake a line without the name of the file is added to `problems`.

    What is wrong has its default, and it is None when that is wrong, too. Raises ConfigError when nothing can be right.
    """
    if folder != folder.encode(errors="replace").decode():
        raise ConfigError("found a folder whose name is not UTF-8, expected one that TOML can hold")
    if overrides is not None:
        overrides.apply(document)
    tables: dict[str, dict[str, Any]] = {}
    for name in TABLES:
        tables[name] = document.get(name, {})
        if not isinstance(tables[name], dict):
            problems.append(f"{name}: found {toml.shown(document[name])}, expected a table [{name}]")
            tables[name] = {}
    values: dict[str, Any] = _read_table("", Config, document, folder, problems, overrides)
    read = {
        name: _read_table(name, fields, tables[name], folder, problems, overrides) for name, fields in TABLES.items()
    }
    try:
        tables_read = {name: fields(**read[name]) for name, fields in TABLES.items()}
        config = Config(**values, **tables_read, folder=folder)
    except TypeError:
        # A default is wrong, and so missing.
        return None
    if config.accesslog:
        problems += _check_format(config.access_log_format)
    if not problems:
        problems += _check_together(config, overrides)
    return config


def _check_format(format: str) -> Iterator[str]:
    # With an access log only: its patterns cost memory.
    from ..logs.access_format import check_format

    try:
        check_format(format)
    except ConfigError as error:
        yield str(error)


def _read_table(
    name: str, fields: type, found: dict[str, Any], folder: str, problems: list[str], overrides: "Overrides | None"
) -> dict[str, object]:
    settings = settings_of(fields)
    known = settings if name else {**settings, **TABLES}
    problems += [_unknown(name, key, value) for key, value in found.items() if key not in known]
    values = {}
    for key, setting in settings.items():
        origin = overrides.origin(name, key) if overrides is not None else None
        try:
            value = found.get(key, setting.default)
            values[key] = setting.value_type.read(value, folder) if origin is None else origin.read(setting, value)
        except InvalidValue as invalid:
            what = "found" if key in found else "the default is"
            where = f"{_label(name, key)}{invalid.place}"
            problems.append(f"{where}: {what} {toml.shown(invalid.found)}, expected {invalid.expected}")
            if key in found:
                try:
                    values[key] = setting.value_type.read(setting.default, folder)
                except InvalidValue:
                    pass
    return values


def _check_together(config: Config, overrides: "Overrides | None") -> Iterator[str]:
    """What is wrong with settings that each are right."""
    workers = timeout = ""
    if overrides is not None:
        workers, timeout = overrides.note("", "workers"), overrides.note("", "timeout")
    if config.states.max < config.workers:
        yield (
            f"[states] max: found {config.states.max}, expected at least {config.workers}, "
            f"as many as workers{workers}, because a running request holds a state"
        )
    if config.slowlog and config.slowlog_timeout >= config.timeout:
        yield (
            f"slowlog_timeout: found {config.slowlog_timeout:g}, expected less than timeout{timeout}, which is "
            f"{config.timeout:g}: a request does not run longer"
        )
    if config.ping_path and config.ping_path == config.status_path:
        yield f"ping_path: found {toml.shown(config.ping_path)}, which is status_path too; expected another"
    for number, address in enumerate(config.bind):
        if address in config.bind[:number] and not (address.kind == "tcp" and address.port == 0):
            yield f"bind: found {toml.shown(str(address))} twice"
        if address.kind == "tcp" and not address.is_loopback() and not config.allowed_clients:
            yield (
                f"bind: found {toml.shown(str(address))} with empty allowed_clients, and whoever can connect "
                "from another machine can run any script; expected the web servers' networks in "
                "allowed_clients, or a bind to 127.0.0.1 or to a unix socket"
            )


# Messages


def _label(table: str, key: str) -> str:
    return f"[{table}] {toml.key(toml.short(key))}" if table else toml.key(toml.short(key))


def _unknown(table: str, key: str, found: object) -> str:
    """What to say of a key that `table` does not have: its place, or what is near, or what there is."""
    from difflib import get_close_matches

    if isinstance(found, dict):
        names = [*TABLES, *FREE_TABLES]
        near = get_close_matches(key.lower(), names, 1) if not table else []
        known = ", ".join(f"[{name}]" for name in names)
        hint = f", did you mean [{near[0]}]?" if near else f"; known are {known}"
        return f"[{table + '.' if table else ''}{toml.key(toml.short(key))}]: unknown table{hint}"
    homes = {row.key: row.table for row in describe() if row.key not in FREE_TABLES}
    here = [name for name, home in homes.items() if home == table]
    if key in homes:
        hint = f" here, it belongs {_place(homes[key])}"
    elif near := get_close_matches(key.lower(), here, 1):
        hint = f', did you mean "{near[0]}"?'
    elif near := get_close_matches(key.lower(), homes, 1):
        hint = f', did you mean "{near[0]}" {_place(homes[near[0]])}?'
    else:
        hint = f"; known here are {', '.join(here)}"
    return f"{_label(table, key)}: unknown setting{hint}"


def _place(table: str) -> str:
    return f"in [{table}]" if table else "above the first table"


def _written(values: Any) -> dict[str, Any]:
    """A Config, or one of its tables, as the document that TOML would give."""
    settings = settings_of(type(values))
    return {
        key: settings[key].value_type.write(value) if key in settings else _written(value)
        for key, value in values._asdict().items()
        if key in settings or key in TABLES
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
            inner = f"{name}.{toml.key(key)}" if name else toml.key(key)
            yield f"\n[{inner}]"
            yield from _table_lines(value, inner)
