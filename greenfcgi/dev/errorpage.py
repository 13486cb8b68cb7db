"""The page that shows an error where it is: the source around it, the way to it with all variables, what was asked for.

Everything on it is text of somebody: it is escaped. Pure functions of a `Failure` and the files that it names.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .pages import document

#: "path/to/a.lua:12:", or ".../to/a.lua:12:".
_PLACE = re.compile(r"(\.\.\.)?([^\s:'\"][^\n:'\"]*):(\d+):")
#: A module that does not load, with its whole path.
_MODULE = re.compile(r"error loading module '[^'\n]*' from file '([^'\n]+)'")
#: Lines of source before and behind the one that counts.
_AROUND = 6
_AROUND_CALLER = 2

_STYLE = """
header { border-left: 5px solid var(--red); padding-left: 1rem; }
header h1 { color: var(--red); white-space: pre-wrap; }
header p { margin: .2rem 0; }
.source { line-height: 1.45; padding: .5rem 0; } .source span { display: block; padding: 0 .9rem; white-space: pre; }
.source i { color: var(--dim); display: inline-block; font-style: normal; margin-right: 1rem; min-width: 2.5em;
  text-align: right; user-select: none; }
.source .here { background: var(--mark); }
details { border-top: 1px solid var(--line); padding: .5rem 0; } summary { cursor: pointer; }
summary b { font-weight: 600; } table { border-collapse: collapse; margin: .4rem 0; width: 100%; }
td { padding: .12rem .8rem .12rem 0; vertical-align: top; word-break: break-word; }
td:first-child { color: var(--dim); white-space: nowrap; width: 1%; }
"""


class Frame(NamedTuple):
    """A function on the way to an error. `line` is that of the call or the error; locals are (name, value) as text."""

    file: str
    line: int
    function: str
    locals: Sequence[tuple[str, str]] = ()


class Failure(NamedTuple):
    """What there is to show. `seconds` is the time that the request took, `written` what the script had written."""

    status: int
    title: str
    message: str
    traceback: str
    frames: Sequence[Frame]
    params: Mapping[str, str]
    written: bytes
    seconds: float


def frames_of(data: bytes) -> list[Frame]:
    """Read what `inspect.lua` reports."""
    found = json.loads(data.decode("utf-8", "replace"))
    return [
        Frame(one["file"], one["line"], one["function"], [(item["name"], item["value"]) for item in one["locals"]])
        for one in found
    ]


def place_of(failure: Failure, files: Sequence[str], root: str) -> tuple[str, int] | None:
    """The file and line of an error: one of `files`, or one below `root`, and no other, since anybody may have chosen
    the text of a message. Lua writes a long path as "...end/of/path.lua".
    """
    found = _PLACE.findall(failure.message)
    inside = os.path.realpath(root) + "/"
    modules = [path for path in _MODULE.findall(failure.message) if os.path.realpath(path).startswith(inside)]
    # The place in a module comes behind that of its require.
    for is_short, name, line in reversed(found) if "error loading module" in failure.message else found:
        for path in [*(frame.file for frame in failure.frames), *files, *modules]:
            if path == name or (is_short and path.endswith(name)):
                return path, int(line)
        if os.path.realpath(name).startswith(inside):
            return name, int(line)
    return (failure.frames[0].file, failure.frames[0].line) if failure.frames else None


def as_text(failure: Failure, files: Sequence[str], root: str) -> bytes:
    """For a client that shows no HTML."""
    place = place_of(failure, files, root)
    lines = [f"{failure.title}: {failure.message}"]
    if place:
        lines += ["", f"{place[0]}:{place[1]}"]
        lines += [f"{'>' if at == place[1] else ' '} {at:4}  {text}" for at, text in _excerpt(*place, _AROUND)]
    if failure.traceback:
        lines += ["", failure.traceback]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def as_html(failure: Failure, files: Sequence[str], root: str) -> bytes:
    """For a browser. Paths are shown relative to `root`."""
    place = place_of(failure, files, root)
    message = _relative(failure.message, root)
    if place:
        # It is told below.
        message = message.removeprefix(f"{_relative(place[0], root)}:{place[1]}: ")
    parts = [f'<header><p class="dim">{failure.status} &middot; {_text(failure.title)}</p><h1>{_text(message)}</h1>']
    if place:
        parts.append(f"<p><code>{_text(_relative(place[0], root))}</code>, line {place[1]}</p>")
    parts.append("</header>")
    if place:
        parts.append(_source(*place, _AROUND))
    if failure.frames:
        parts.append("<h2>The way there</h2>")
        parts += [_frame(frame, root, is_first=number == 0) for number, frame in enumerate(failure.frames)]
    elif failure.traceback:
        parts.append(f"<h2>The way there</h2><pre>{_text(_relative(failure.traceback, root))}</pre>")
    parts.append("<h2>The request</h2>")
    if failure.written:
        written = failure.written.decode("utf-8", "replace")
        parts.append(f"<details open><summary>Written before</summary><pre>{_text(written)}</pre></details>")
    params = _table(failure.params.items())
    parts.append(f"<details><summary>{len(failure.params)} parameters</summary>{params}</details>")
    took = f"It took {1000 * failure.seconds:.1f} ms."
    parts.append(f'<p class="dim">{took} Save the file, and this page shows the result.</p>')
    return document(f"{failure.status}: {message}", "\n".join(parts), _STYLE)


def _frame(frame: Frame, root: str, is_first: bool) -> str:
    where = f"{_relative(frame.file, root)}, line {frame.line}"
    body = "" if is_first else _source(frame.file, frame.line, _AROUND_CALLER)
    body += _table(frame.locals) if frame.locals else '<p class="dim">no variables</p>'
    is_open = " open" if is_first else ""
    return f"<details{is_open}><summary><b>{_text(frame.function)}</b> {_text(where)}</summary>{body}</details>"


def _source(path: str, line: int, around: int) -> str:
    lines = [
        f"<span{' class=here' if at == line else ''}><i>{at}</i>{_text(text)}</span>"
        for at, text in _excerpt(path, line, around)
    ]
    return f'<pre class="source">{"".join(lines)}</pre>' if lines else ""


def _excerpt(path: str, line: int, around: int) -> list[tuple[int, str]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    first = max(1, line - around)
    return list(enumerate(lines[first - 1 : line + around], first))


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _relative(text: str, root: str) -> str:
    return text.replace(root.rstrip("/") + "/", "")


def _text(text: str) -> str:
    return html.escape(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
