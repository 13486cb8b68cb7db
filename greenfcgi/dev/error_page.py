"""The page of an error: the source around it, the traceback with all variables, and the request.

Everything on it comes from scripts and clients, and is escaped. Pure functions of a `Failure` and its `Sources`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl

from .pages import document
from .sources import Sources

#: "path/to/a.lua:12:", or ".../to/a.lua:12:".
_PLACE = re.compile(r"(\.\.\.)?([^\s:'\"][^\n:'\"]*):(\d{1,9}):")
#: Lines of source before and after the one of the error, and of a call.
_AROUND = 6
_AROUND_CALLER = 2
#: Characters of a chunk that has no name but its text.
_MAX_LABEL = 60
#: Characters of a message that stand in large letters.
_MAX_HEADING = 300
_MAX_FIELDS = 100

_STYLE = """
header { border-left: 5px solid var(--red); padding-left: 1rem; }
header h1 { color: var(--red); white-space: pre-wrap; } header p { margin: .2rem 0; } .text { white-space: pre-wrap; }
.source { line-height: 1.45; padding: .5rem 0; } .source span { display: block; min-width: max-content;
  padding: 0 .9rem; white-space: pre; }
.source i { color: var(--dim); display: inline-block; font-style: normal; margin-right: 1rem; min-width: 2.5em;
  text-align: right; user-select: none; }
.source .here { background: var(--mark); }
details { border-top: 1px solid var(--line); padding: .5rem 0; } summary { cursor: pointer; }
summary b { font-weight: 600; } table { border-collapse: collapse; margin: .4rem 0; width: 100%; }
td { padding: .12rem .8rem .12rem 0; vertical-align: top; }
td + td { white-space: pre-wrap; } td:first-child { color: var(--dim); min-width: 6rem; width: 1%; }
@media (min-width: 40rem) { td:first-child { white-space: nowrap; } td.long { white-space: normal; width: 30%; } }
"""


class Frame(NamedTuple):
    """A function of the traceback. `path` is its file, None where that is not known; `name` is what Lua calls it.

    `line` is that of the call or the error; locals are (name, value) as text.
    """

    path: str | None
    name: str
    line: int
    function: str
    locals: Sequence[tuple[str, str]] = ()


class Gap(NamedTuple):
    """So many functions of the traceback are left out here."""

    functions: int


class Failure(NamedTuple):
    """What there is to show. `seconds` is the time that the request took, `written` what the script had put out.

    `body` is the beginning of the request's, which is `length` bytes long.
    """

    status: int
    title: str
    message: str
    traceback: str
    frames: Sequence[Frame | Gap]
    params: Mapping[str, str]
    written: bytes
    seconds: float
    body: bytes = b""
    length: int = 0


class Report(NamedTuple):
    """What `inspect.lua` reports: the functions of the traceback, and the names of files that the script has opened."""

    frames: Sequence[Mapping[str, object]] = ()
    opened: Sequence[str] = ()


def read_report(data: bytes) -> Report:
    """Read what `inspect.lua` reports; nothing is an empty report."""
    if not data:
        return Report()
    found = json.loads(data.decode("utf-8", "surrogateescape"))
    return Report(found["frames"], found["read"])


def frames_of(report: Report, sources: Sources) -> list[Frame | Gap]:
    """The traceback in a report."""
    return [Gap(one["left_out"]) if "left_out" in one else _frame_of(one, sources) for one in report.frames]  # type: ignore[arg-type]


def _frame_of(one: Mapping[str, object], sources: Sources) -> Frame:
    source, found = str(one["source"]), one["locals"]
    assert isinstance(found, list)
    name = source[1:] if source.startswith(("@", "=")) else ""
    path = sources.find(name) if name else None
    label = name or f'[string "{source.partition(chr(10))[0][:_MAX_LABEL]}"]'
    return Frame(path, label, int(str(one["line"])), str(one["function"]), [(it["name"], it["value"]) for it in found])


def place_of(failure: Failure, sources: Sources) -> tuple[str, int] | None:
    """The file and line of an error, in one of the sources, or None. Lua writes a long path as "...end/of/path.lua"."""
    places, _ = _places(failure.message, sources)
    if places:
        return places[-1]
    found = _PLACE.findall(failure.message)
    # The place in a module comes behind that of its require.
    for is_short, name, line in reversed(found) if "error loading module" in failure.message else found:
        if path := sources.find(name, bool(is_short)):
            return path, int(line)
    frames = [frame for frame in failure.frames if isinstance(frame, Frame)]
    return (frames[0].path, frames[0].line) if frames and frames[0].path else None


def _places(message: str, sources: Sources) -> tuple[list[tuple[str, int]], str]:
    """The places in front of a message, and the rest: one that was raised again has several, the first one last."""
    places: list[tuple[str, int]] = []
    while (found := _PLACE.match(message)) and (path := sources.find(found[2], bool(found[1]))):
        places.append((path, int(found[3])))
        message = message[found.end() :].lstrip(" ")
    return places, message


def as_text(failure: Failure, sources: Sources) -> bytes:
    """The page as plain text, for a client that does not ask for HTML."""
    place = place_of(failure, sources)
    lines = [f"{failure.title}: {failure.message}"]
    if place:
        lines += ["", f"{place[0]}:{place[1]}"]
        around = _excerpt(sources, *place, _AROUND)
        lines += [f"{'>' if at == place[1] else ' '} {at:4}  {text}" for at, text in around]
    if failure.traceback:
        lines += ["", failure.traceback]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def as_html(failure: Failure, sources: Sources, root: str) -> bytes:
    """The page for a browser. Paths are shown relative to `root`."""
    place = place_of(failure, sources)
    # The place in front of it is shown below.
    message = _relative(_places(failure.message, sources)[1], root)
    heading, _, more = message.partition("\n")
    if len(heading) > _MAX_HEADING:
        heading, more = f"{heading[:_MAX_HEADING]}...", message
    parts = [f'<header><p class="dim">{failure.status} &middot; {_text(failure.title)}</p><h1>{_text(heading)}</h1>']
    if place:
        parts.append(f"<p><code>{_text(_relative(place[0], root))}</code>, line {place[1]}</p>")
    parts.append("</header>")
    if more:
        parts.append(f'<pre class="text">{_text(more.replace(chr(9), ""))}</pre>')
    if place:
        parts.append(_source(sources, *place, _AROUND))
    if failure.frames:
        parts.append("<h2>Traceback</h2>")
        parts += _traceback(failure.frames, sources, root)
    elif failure.traceback:
        parts.append(f'<h2>Traceback</h2><pre class="text">{_text(_relative(failure.traceback, root))}</pre>')
    parts.append("<h2>The request</h2>")
    if failure.written:
        written = failure.written.decode("utf-8", "replace")
        parts.append(_details("Output before the error", f'<pre class="text">{_text(written)}</pre>'))
    if failure.length:
        parts.append(_body(failure))
    params = _table(failure.params.items())
    parts.append(f"<details><summary>{len(failure.params)} parameters</summary>{params}</details>")
    took = f"It took {1000 * failure.seconds:.1f} ms."
    parts.append(f'<p class="dim">{took} Fix the file and the page comes back.</p>')
    return document(f"{failure.status}: {heading}", "\n".join(parts), _STYLE)


def _traceback(frames: Sequence[Frame | Gap], sources: Sources, root: str) -> Iterable[str]:
    """The functions of the traceback; one that calls itself again and again is shown once."""
    at = 0
    while at < len(frames):
        frame = frames[at]
        same = at + 1
        if isinstance(frame, Gap):
            plural = "s" if frame.functions != 1 else ""
            yield f'<p class="dim">{frame.functions} function{plural} left out</p>'
        else:
            yield _frame(frame, sources, root, is_first=at == 0)
            while same < len(frames) and _is_same(frame, frames[same]):
                same += 1
            if same > at + 1:
                yield f'<p class="dim">{same - at - 1} more from the same line</p>'
        at = same


def _is_same(frame: Frame, other: Frame | Gap) -> bool:
    return isinstance(other, Frame) and frame[:4] == other[:4]


def _frame(frame: Frame, sources: Sources, root: str, is_first: bool) -> str:
    where = f"{_relative(frame.path or frame.name, root)}, line {frame.line}"
    body = "" if is_first or not frame.path else _source(sources, frame.path, frame.line, _AROUND_CALLER)
    body += _table(frame.locals) if frame.locals else '<p class="dim">no variables</p>'
    is_open = " open" if is_first else ""
    return f"<details{is_open}><summary><b>{_text(frame.function)}</b> {_text(where)}</summary>{body}</details>"


def _body(failure: Failure) -> str:
    text = failure.body.decode("utf-8", "replace")
    is_whole = len(failure.body) == failure.length
    title = f"The body, {failure.length} bytes" + ("" if is_whole else f"; these are the first {len(failure.body)}")
    shown = f'<pre class="text">{_text(text)}</pre>'
    if is_whole and failure.params.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        fields = parse_qsl(text, keep_blank_values=True)[:_MAX_FIELDS]
        shown = _table(fields) if fields else shown
    elif b"\0" in failure.body:
        shown = '<p class="dim">It is not text.</p>'
    return _details(title, shown)


def _details(title: str, shown: str) -> str:
    return f"<details open><summary>{title}</summary>{shown}</details>"


def _source(sources: Sources, path: str, line: int, around: int) -> str:
    lines = [
        f"<span{' class=here' if at == line else ''}><i>{at}</i>{_text(text)}</span>"
        for at, text in _excerpt(sources, path, line, around)
    ]
    return f'<pre class="source">{"".join(lines)}</pre>' if lines else ""


def _excerpt(sources: Sources, path: str, line: int, around: int) -> list[tuple[int, str]]:
    first = max(1, line - around)
    return list(enumerate(sources.lines(path)[first - 1 : line + around], first))


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><td{' class=long' if len(name) > 40 else ''}>{_text(name)}</td><td>{_text(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table>{cells}</table>"


def _relative(text: str, root: str) -> str:
    return text.replace(root.rstrip("/") + "/", "")


def _text(text: str) -> str:
    return html.escape(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
