"""`greenfcgi --init TARGET [--write DIR]`: print the files of a target, or write them into an empty directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches

from ..config.load import Config
from ..errors import ConfigError
from ..logs.text import escape
from .targets import TARGETS, File, Target
from .template import fill
from .values import values

#: Where nobody but root makes files.
_ROOTS_FOLDERS = ("/run", "/var/run", "/")
_TEMPLATES = os.path.join(os.path.dirname(__file__), "templates")
#: In templates: the server block of nginx.conf.
_NGINX_SERVER = "@nginx_server@"


def run(name: str, path: str, read: Callable[[], Config], directory: str | None) -> str:
    """The files of the target `name` as text, for the configuration that `read` reads from `path`.

    With a `directory`, which is made where it is missing, they are written there instead, and the text has their paths
    in lines. Raises ConfigError, one line, for an unknown target, for a socket that its service could not make, and for
    a directory that is not empty or cannot be written to.
    """
    target = _target(name)
    places = values(read(), path) if target.needs_config else {}
    if target.makes_sockets and places["socket_folder"] in _ROOTS_FOLDERS:
        raise ConfigError(
            f'--init: found bind = "unix:{places["socket"]}", expected a folder of its own, such as '
            f'"unix:{places["socket_folder"].rstrip("/")}/greenfcgi/greenfcgi.sock"'
        )
    texts = {file: _text(file, places) for file in target.files}
    return _listing(texts) if directory is None else _write(directory, texts)


def _target(name: str) -> Target:
    if name not in TARGETS:
        near = get_close_matches(name, TARGETS, 1)
        hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(TARGETS)}"
        raise ConfigError(f"--init: found {name!r}, {hint}")
    return TARGETS[name]


def _text(file: File, places: Mapping[str, str]) -> str:
    if not places:
        return _template(file.template)
    template = _template(file.template)
    if _NGINX_SERVER in template:
        # It has places of its own.
        template = template.replace(_NGINX_SERVER, "".join(_template("nginx.conf").partition("\nserver {")[1:]).strip())
    return fill(template, {**places, "sandbox": _template("sandbox.service").rstrip()})


def _template(name: str) -> str:
    with open(os.path.join(_TEMPLATES, name), encoding="utf-8") as file:
        return file.read()


def _listing(texts: Mapping[File, str]) -> str:
    """One file as it is, so that it can be sent to its place with >; several with their names before them."""
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "\n".join(f"### {file.path}\n{text}" for file, text in texts.items())


def _write(directory: str, texts: Mapping[File, str]) -> str:
    if not directory:
        raise ConfigError("--write: found '', expected a directory")
    paths = [os.path.join(directory, file.path) for file in texts]
    try:
        os.makedirs(directory, exist_ok=True)
        if os.listdir(directory):
            raise ConfigError(
                f"--write: found files in {escape(directory)}, expected an empty directory, or one to be made"
            )
        for path, (file, text) in zip(paths, texts.items(), strict=True):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode), "w", encoding="utf-8") as output:
                output.write(text)
    except OSError as problem:
        raise ConfigError(f"--write: {escape(problem.filename or directory)}: {problem.strerror}") from None
    return "".join(f"{path}\n" for path in paths)
