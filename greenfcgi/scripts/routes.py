"""What answers a URL that names no script: the index of a folder, a program of [apps], or the front script.

So one rule of the web server serves a whole application: it sends what is no static file. A request is looked for here
before the catalogue says what it thinks of its SCRIPT_FILENAME; scripts that are there come first.

A SCRIPT_FILENAME that is the folder of the scripts itself leaves all to these rules, also which script a path has in
it: then the path is SCRIPT_NAME and PATH_INFO, however the web server has cut it.

What is found decides about SCRIPT_NAME and PATH_INFO, which together are the path of the URL, as RFC 3875 has them
(sections 4.1.5 and 4.1.13): a program gets its own path as SCRIPT_NAME, a front script "".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..config.apps import App
from ..config.settings import Scripts
from ..errors import FolderMoved, ScriptError, ScriptMissing
from ..fastcgi.path_info import split
from .catalogue import Catalogue
from .script import Script


class Route(NamedTuple):
    """The script that answers, with what its SCRIPT_NAME and PATH_INFO are."""

    script: Script
    name: str
    info: str


class Routes:
    """The routes into the folder of a catalogue."""

    def __init__(self, catalogue: Catalogue, settings: Scripts, apps: Mapping[str, App], path: Sequence[str]) -> None:
        self._catalogue = catalogue
        self._extensions = settings.extensions
        self._public = f"/{settings.public}/" if settings.public else ""
        self._index = settings.index
        self._front = settings.front
        self._handler = settings.handler
        #: Where modules are looked for beside the root.
        self._path = path
        #: The longest path first, without a slash at its end.
        self._apps = sorted(((prefix.rstrip("/"), app) for prefix, app in apps.items()), reverse=True)
        self._has_programs = bool(apps or settings.front)

    def find(self, filename: bytes | None, variables: Callable[[], Mapping[bytes, bytes]]) -> Route | None:
        """What answers a request with this SCRIPT_FILENAME; None: the script of that name, if there is one.

        `variables` returns the request's variables, where they are needed. Raises `ScriptMissing`, `ScriptForbidden`,
        and `FolderMoved` where the slash at the end of a folder is missing.
        """
        name = os.fsdecode(filename or b"")
        if name and name in (self._catalogue.given_root, self._catalogue.root):
            return self._by_url(_url_path(variables()))
        path = self._below_root(name, variables)
        may_be_script = any(end in path for end in self._extensions)
        if path:
            if not _is_plain(path):
                return None
            if may_be_script and os.path.isfile(self._catalogue.root + path):
                return None
            found = self._folder(path) if not may_be_script else self._script(path) if self._has_programs else None
            if found is not None:
                return found
        if not self._has_programs:
            return None
        if not path or may_be_script:
            # What stands behind an ending may have been taken for PATH_INFO.
            path = _url_path(variables())
        return self._program(path) if path.startswith("/") and _is_plain(path) else None

    def _by_url(self, path: str) -> Route:
        if path.startswith("/") and _is_plain(path):
            may_be_script = any(end in path for end in self._extensions)
            found = self._script(path) if may_be_script else self._folder(path)
            if found is None and self._public:
                public = self._catalogue.root + self._public[:-1]
                if not path.endswith("/") and os.path.isfile(f"{public}{path}/index.html"):
                    raise FolderMoved(path + "/")
            found = found or self._program(path)
            if found is not None:
                return found
        raise ScriptMissing(f"{path!r} is no script, and no folder with scripts.index")

    def covers(self, path: str) -> bool:
        """A program or the front script answers this path of a URL, where nothing else does."""
        return bool(self._front) or self._app_of(path) is not None

    def _below_root(self, filename: str, variables: Callable[[], Mapping[bytes, bytes]]) -> str:
        """The path of a URL that a SCRIPT_FILENAME means; "" where it is not below the root."""
        for root in (self._catalogue.given_root, self._catalogue.root):
            if filename.startswith(root + "/"):
                path = filename[len(root) :]
                if self._public and path.startswith(self._public):
                    # Where static files are the web server's root, it sends the paths of its own.
                    url = os.fsdecode(variables().get(b"SCRIPT_NAME", b""))
                    return path if url.startswith(self._public) else path[len(self._public) - 1 :]
                return path
        return ""

    def _script(self, path: str) -> Route | None:
        """A script with PATH_INFO behind it. Without programs that is the web server's to find, if it sends a file."""
        root = self._catalogue.root
        name, info = split(path, self._extensions, lambda name: os.path.isfile(root + name))
        if not name.endswith(self._extensions) or not os.path.isfile(root + name):
            return None
        return Route(self._catalogue.find(os.fsencode(root + name)), name, info)

    def _folder(self, path: str) -> Route | None:
        if not self._index:
            return None
        is_whole = path.endswith("/")
        name = path + self._index if is_whole else f"{path}/{self._index}"
        file = self._catalogue.root + name
        if not os.path.isfile(file):
            return None
        # Of a folder that is private nobody learns that it is there.
        script = self._catalogue.find(os.fsencode(file))
        if not is_whole:
            raise FolderMoved(path + "/")
        return Route(script, name, "")

    def _program(self, path: str) -> Route | None:
        found = self._app_of(path)
        if found is not None:
            prefix, app = found
            return Route(self._application(prefix, app), prefix, path[len(prefix) :])
        if self._front:
            return Route(self.front(), "", path)
        return None

    def _app_of(self, path: str) -> tuple[str, App] | None:
        for prefix, app in self._apps:
            if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
                return prefix, app
        return None

    def front(self) -> Script:
        """The front script, which may be private. Raises `ScriptMissing` and `ScriptForbidden`."""
        path = f"{self._catalogue.root}/{self._front}"
        # Its real path is looked for once, and again when the catalogue has forgotten it.
        known = self._catalogue.known.get(os.fsencode(path))
        return known if known is not None else self._catalogue.name(path)

    def _application(self, prefix: str, app: App) -> Script:
        script = self._catalogue.applications.get(app)
        return script if script is not None else self._add_application(prefix, app)

    def _add_application(self, prefix: str, app: App) -> Script:
        file = app.module.replace(".", "/")
        folders = [self._catalogue.root, *self._path]
        templates = [one if "?" in one else f"{one}/{end}" for one in folders for end in ("?.lua", "?/init.lua")]
        for template in templates:
            path = template.replace("?", file)
            if os.path.isfile(path):
                launcher = f'{self._handler} = require("greenfcgi.{app.kind}").main("{app.module}")'
                return self._catalogue.add_application(app, os.path.realpath(path), launcher.encode())
        raise ScriptMissing(
            f'[apps] "{prefix or "/"}": there is no file of the module "{app.module}": '
            f"looked for {', '.join(dict.fromkeys(one.replace('?', file) for one in templates))}"
        )

    def problems(self) -> Iterator[str]:
        """What is wrong with the settings, each in one line."""
        if self._front:
            try:
                self.front()
            except ScriptError as problem:
                yield f'[scripts] front: found "{self._front}", expected a script: {problem}'
        for prefix, app in self._apps:
            try:
                self._application(prefix, app)
            except ScriptError as problem:
                yield str(problem)


def _url_path(variables: Mapping[bytes, bytes]) -> str:
    return os.fsdecode(variables.get(b"SCRIPT_NAME", b"") + variables.get(b"PATH_INFO", b""))


def _is_plain(path: str) -> bool:
    """It leads nowhere but down."""
    return "\0" not in path and "/../" not in f"{path}/"
