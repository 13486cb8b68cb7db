"""Live reload: browsers listen to server-sent events, one for each change.

Each page carries the number of the last change before it was made. So a browser that was asleep, or had lost the
connection, gets the changes that it has missed; when the server has been restarted, these are not known, and the page
is loaded again.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator

import gevent.queue

from ..reload.flush_queue import Changes
from ..scripts.file_signature import Signature, looks_alike, signature

#: Paths of the browser's side begin so.
PREFIX = "/-greenfcgi/"
#: Seconds of silence after which a comment is sent, which shows whether the browser is still there.
_SILENCE = 10.0
#: Milliseconds after which browsers reconnect.
_RETRY = 300
#: Changes that are kept for browsers that were away.
_MAX_PAST = 100
#: Endings of files that make a page, beside scripts. Others may be data that scripts write, in ways that do not show.
_ENDINGS = (
    ".html", ".htm", ".css", ".js", ".mjs", ".json", ".svg", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".ico",
    ".woff", ".woff2", ".ttf", ".md", ".tpl", ".tmpl", ".lp", ".etlua", ".mustache", ".moon", ".xml", ".csv", ".wasm",
)  # fmt: skip


class LiveReload:
    """All browsers that listen. `public` is the folder of style sheets; `is_source`: a script has loaded the file."""

    def __init__(self, public: str, extensions: tuple[str, ...], is_source: Callable[[str], bool]) -> None:
        self._public = os.path.realpath(public).rstrip("/")
        self._endings = (*_ENDINGS, *extensions)
        self._is_source = is_source
        #: When the server was started: greater than that of any before.
        self._instance = f"{time.time_ns() // 1_000_000:015}"
        self._number = 0
        self._past: deque[dict[str, object]] = deque(maxlen=_MAX_PAST)
        self._listeners: set[gevent.queue.SimpleQueue[dict[str, object]]] = set()
        #: Files that scripts write themselves: their pages would be reloaded for ever.
        self._data: set[str] = set()
        self._last: dict[str, Signature] = {}

    @property
    def at(self) -> str:
        """What a page carries: "instance:number"."""
        return f"{self._instance}:{self._number}"

    def note_written(self, path: str) -> None:
        """A script writes this file itself."""
        self._data.add(os.path.realpath(path))

    def is_relevant(self, path: str) -> bool:
        """The file may be part of what a browser shows."""
        name = os.path.basename(path)
        if path in self._data or name.startswith((".", "#")) or name.endswith("~"):
            return False
        return name.endswith(self._endings) or self._is_source(path)

    def publish(self, changes: Changes) -> None:
        """Send changed files to all browsers."""
        paths = [path for path in sorted(changes.paths) if self.is_relevant(path) and self._is_new(path)]
        styles = [path for path in paths if path.endswith(".css")]
        if paths and len(styles) == len(paths):
            for path in styles:
                self._send("style", path.removeprefix(self._public))
        elif paths:
            self._send("page", "")

    def _is_new(self, path: str) -> bool:
        """Not seen before: one save has several events, such as created, written, moved, other permissions."""
        before, now = self._last.get(path), signature(path)
        is_first, self._last[path] = path not in self._last, now
        return is_first or not looks_alike(before, now)

    def _send(self, kind: str, path: str) -> None:
        self._number += 1
        change = {"instance": self._instance, "number": self._number, "kind": kind, "path": path}
        self._past.append(change)
        for listener in self._listeners:
            listener.put(change)

    def listen(self, at: str) -> Iterator[bytes]:
        """Server-sent events for a browser with a page that carries `at`: what it has missed, then each change."""
        queue: gevent.queue.SimpleQueue[dict[str, object]] = gevent.queue.SimpleQueue()
        self._listeners.add(queue)
        try:
            yield b"retry: %d\n\n" % _RETRY
            for change in self._missed(at):
                yield _event(change)
            while True:
                try:
                    yield _event(queue.get(timeout=_SILENCE))
                except gevent.queue.Empty:
                    yield b":\n\n"
        finally:
            self._listeners.discard(queue)

    def _missed(self, at: str) -> list[dict[str, object]]:
        instance, _, number = at.partition(":")
        # No page carries longer ones, and int() refuses thousands of digits.
        is_number = number.isascii() and number.isdecimal() and len(number) < 16
        if instance == self._instance and is_number and int(number) <= self._number:
            missed = [change for change in self._past if change["number"] > int(number)]  # type: ignore[operator]
            if len(missed) == self._number - int(number):
                return missed
        return [{"instance": self._instance, "number": self._number, "kind": "unknown", "path": ""}]


def _event(change: dict[str, object]) -> bytes:
    return f"id: {change['instance']}:{change['number']}\ndata: {json.dumps(change)}\n\n".encode()
