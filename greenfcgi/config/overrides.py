"""Settings from elsewhere than config.toml: the environment, `--set` and the short options of the command line.

What comes later wins: the file, the environment, `--set`, the short options. Each value is TOML where it is a value of
TOML, else text, and remembers where it is from, which is what messages about it begin with. Relative paths in it are
relative to the folder in which the command was started, as a shell completes them.

Of variables, GREENFCGI_ is followed by the table and the key, joined by _, in upper case.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from ..errors import ConfigError
from . import toml
from .settings import FREE_TABLES, TABLES, Config, Setting, settings_of
from .value_type import InvalidValue

PREFIX: Final = "GREENFCGI_"
#: What a supervisor leaves for the new binary that it starts, and what a build of the package asks for.
_INTERNAL: Final = ("GREENFCGI_INHERITED", "GREENFCGI_PURE")
#: What Kubernetes and Docker set in each container where a service is called greenfcgi, or greenfcgi-something, as
#: NAME=VALUE.
_SERVICE: Final = (
    r"GREENFCGI_(?:\w+_)?(?:SERVICE_HOST=.*|SERVICE_PORT\w*=.*|PORT_\d+_(?:TCP|UDP|SCTP)\w*=.*|PORT=\w+://.*)"
)
#: Tables whose keys can be in the names of variables: those of apps are paths, and tasks have none.
_OPEN: Final = ("app", "shared", "modules")
_KEY: Final = r'(?:[\w-]+|"(?:[^"\\]|\\.)*")'
#: NAME=VALUE, where a quoted part of the name may have anything.
_ASSIGNMENT: Final = r"""((?:"(?:[^"\\]|\\.)*"|'[^']*'|[^="'])+)=((?s:.*))"""
#: The setting that a message begins with: `workers`, `[scripts] root`, `[scirpts]`, `shared.sessions`.
_LABEL: Final = rf"\[{{0,2}}({_KEY})(?:\.({_KEY})(?:\.{_KEY})*)?\]{{0,2}}(?: ({_KEY}))?(?=[:,])"
_FOUND: Final = r': found ("(?:[^"\\]|\\.)*")'


class Override(NamedTuple):
    """A setting, and where it is from: "--set workers". `texts` is what was written; a list is one of texts."""

    source: str
    path: tuple[str, ...]
    texts: str | list[str]

    def value(self) -> Any:
        """The TOML value that it is, or the text."""
        if isinstance(self.texts, list):
            return list(self.texts)
        try:
            found = toml.parse(f"value = {self.texts}")
        except ConfigError:
            return self.texts
        # A line feed could begin other settings.
        return found["value"] if len(found) == 1 else self.texts


class Origin(NamedTuple):
    """Where a setting is from, its text where it is written as one, and the folder that paths in it are relative to."""

    source: str
    text: str | None
    folder: str

    def read(self, setting: Setting, value: object) -> object:
        """The value of the setting. Raises `InvalidValue`."""
        try:
            return setting.value_type.read(value, self.folder)
        except InvalidValue:
            if self.text is not None:
                try:
                    # A folder, say, whose name is a number.
                    return setting.value_type.read(self.text, self.folder)
                except InvalidValue:
                    pass
            raise


class Overrides:
    """What is set elsewhere than in the file, from what is weakest to what wins.

    `folder` is what relative paths in them are relative to. `problems` are mistakes in names, each in one line.
    """

    def __init__(self, given: Iterable[Override], folder: str, problems: Iterable[str] = ()) -> None:
        self._given: list[Override] = []
        self._folder = folder
        self.problems = list(problems)
        self._origins: dict[tuple[str, str], Origin] = {}
        for one in given:
            texts = one.texts if isinstance(one.texts, list) else [one.texts]
            if any(text != text.encode(errors="replace").decode() for text in texts):
                self.problems.append(f"{one.source}: found bytes that are not UTF-8, expected text that is")
                continue
            self._given.append(one)
            for path, source, _ in _split(one):
                text = one.texts if isinstance(one.texts, str) and path == one.path else None
                self._origins[_home(path)] = Origin(source, text, folder)

    def __bool__(self) -> bool:
        return bool(self._given or self.problems)

    def origin(self, table: str, key: str) -> Origin | None:
        """Where a setting is from; None for the file. "" is the table of those before the first one."""
        return self._origins.get((table, key))

    def note(self, table: str, key: str) -> str:
        """For a message that names a setting: where it is from, in brackets; "" for the file."""
        origin = self.origin(table, key)
        return f" ({origin.source})" if origin is not None else ""

    def plus(self, source: str, path: tuple[str, ...], text: str) -> Overrides:
        """These, and one more that wins."""
        return Overrides([*self._given, Override(source, path, text)], self._folder, self.problems)

    def apply(self, document: dict[str, Any]) -> None:
        """Put them into the document that the file is."""
        for one in self._given:
            for path, _, value in _split(one):
                _put(document, path, value)

    def locate(self, problem: str, file: str = "") -> str:
        """A message about a setting, with where that is from in place of its name, or behind the name of the file."""
        otherwise = f"{file}: {problem}" if file else problem
        label = re.match(_LABEL, problem)
        if label is None or not self._origins:
            return otherwise
        table, key = _unquoted(label[1]), _unquoted(label[3] or label[2] or "")
        rest = problem[label.end() :]
        origin = self._origins.get((table, key)) or self._origins.get(("", table))
        if origin is None and not key:
            # A whole table, of which a part is from here.
            origin = next((origin for (home, _), origin in self._origins.items() if home == table), None)
        if origin is None and (found := re.match(_FOUND, rest)):
            # A key that a table cannot have.
            origin = self._origins.get((table, _unquoted(found[1])))
        return f"{origin.source}{rest}" if origin is not None else otherwise


def from_environment(environment: Mapping[str, str]) -> tuple[list[Override], list[str]]:
    """The settings in variables, in their order by name; and a line for each variable of no setting."""
    known = variables()
    given, problems = [], []
    for name in sorted(name for name in environment if name.startswith(PREFIX)):
        path = known.get(name) or _free(name)
        if name in _INTERNAL or (name not in known and re.fullmatch(_SERVICE, f"{name}={environment[name]}")):
            continue
        if path:
            given.append(Override(name, path, environment[name]))
        else:
            problems.append(f"{toml.quoted(name)[1:-1]}: variable of no setting{_meant(name, known)}")
    return given, problems


def variables() -> dict[str, tuple[str, ...]]:
    """The path of each setting that has a variable, by its name."""
    paths: list[tuple[str, ...]] = [(key,) for key in settings_of(Config)]
    paths += [(table, key) for table, fields in TABLES.items() for key in settings_of(fields)]
    return {PREFIX + "_".join(path).upper(): path for path in paths}


def _free(name: str) -> tuple[str, ...]:
    table, _, key = name.removeprefix(PREFIX).lower().partition("_")
    return (table, key) if table in _OPEN and key else ()


def _meant(name: str, known: Mapping[str, tuple[str, ...]]) -> str:
    from difflib import get_close_matches

    upper = name.upper()
    # The table is easily forgotten.
    near = [other for other, path in known.items() if PREFIX + path[-1].upper() == upper]
    short = [other.removeprefix(PREFIX) for other in known]
    near = near or [PREFIX + other for other in get_close_matches(upper.removeprefix(PREFIX), short, 1)]
    return f", did you mean {near[0]}?" if near else "; expected GREENFCGI_, and a setting such as WORKERS"


def from_assignment(text: str) -> Override:
    """The setting of `--set NAME=VALUE`. Raises `ConfigError`."""
    match = re.fullmatch(_ASSIGNMENT, text)
    path = _path(match[1].strip()) if match else ()
    if match is None or not path:
        raise ConfigError(f"--set: found {toml.shown(text)}, expected NAME=VALUE such as scripts.root=/srv/www")
    value = match[2].lstrip() if match[1][-1].isspace() else match[2]
    return Override("--set " + ".".join(map(toml.key, path)), path, value)


def _path(key: str) -> tuple[str, ...]:
    """The parts of a key of TOML; none where it is no key."""
    try:
        found: Any = toml.parse(f"{key} = 0")
    except ConfigError:
        return ()
    path = []
    while isinstance(found, dict):
        if len(found) != 1:
            return ()
        name, found = next(iter(found.items()))
        path.append(name)
    return tuple(path)


def _split(one: Override) -> list[tuple[tuple[str, ...], str, Any]]:
    """(path, source, value) of the setting; where a table of settings is given, of each in it."""
    value = one.value()
    if len(one.path) == 1 and one.path[0] in (*TABLES, *FREE_TABLES) and isinstance(value, dict):
        return [((*one.path, key), f"{one.source}.{toml.key(key)}", inner) for key, inner in value.items()]
    return [(one.path, one.source, value)]


def _home(path: tuple[str, ...]) -> tuple[str, str]:
    return (path[0], path[1]) if len(path) > 1 and path[0] in (*TABLES, *FREE_TABLES) else ("", path[0])


def _put(document: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    table = document
    for key in path[:-1]:
        inner = table.get(key)
        table[key] = inner = inner if isinstance(inner, dict) else {}
        table = inner
    table[path[-1]] = value


def _unquoted(key: str) -> str:
    return next(iter(_path(key)), key)


def gather(assignments: Iterable[str], short: Iterable[Override]) -> Overrides:
    """All of this process, in their order: its environment, `--set`, and `short`, the options for single settings."""
    given, problems = from_environment(os.environ)
    for text in assignments:
        try:
            given.append(from_assignment(text))
        except ConfigError as problem:
            problems.append(str(problem))
    return Overrides([*given, *short], os.getcwd(), problems)
