"""Browsers that follow: they listen to server-sent events, and are told of each change.

Each page carries the number of the last change before it was made, so whoever was asleep, or had lost the connection,
is told what it has missed; when the server has been started anew, nobody knows, and the page is loaded again.
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

#: Where the browser's side is.
PREFIX = "/-greenfcgi/"
#: Seconds of silence after which a comment is sent, which shows whether the browser is still there.
_SILENCE = 10.0
#: Milliseconds after which browsers connect anew.
_RETRY = 300
#: Changes that are remembered for those who were away.
_MOST = 100
#: Endings of files that make a page, beside scripts. Others may be data that scripts write by ways nobody sees.
_ENDINGS = (
    ".html", ".htm", ".css", ".js", ".mjs", ".json", ".svg", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".ico",
    ".woff", ".woff2", ".ttf", ".md", ".tpl", ".tmpl", ".lp", ".etlua", ".mustache", ".moon", ".xml", ".csv", ".wasm",
)  # fmt: skip


class Live:
    """All browsers that listen. `public` is the folder of style sheets; `is_source`: the file is one of a script's."""

    def __init__(self, public: str, extensions: tuple[str, ...], is_source: Callable[[str], bool]) -> None:
        self._public = os.path.realpath(public).rstrip("/")
        self._endings = (*_ENDINGS, *extensions)
        self._is_source = is_source
        #: When the server was started: greater than that of any before.
        self._instance = f"{time.time_ns() // 1_000_000:015}"
        self._number = 0
        self._past: deque[dict[str, object]] = deque(maxlen=_MOST)
        self._listeners: set[gevent.queue.SimpleQueue[dict[str, object]]] = set()
        #: Files that scripts write themselves: their pages would be loaded for ever.
        self._data: set[str] = set()
        self._last: dict[str, Signature] = {}

    @property
    def at(self) -> str:
        """What a page carries."""
        return f"{self._instance}:{self._number}"

    def note_written(self, path: str) -> None:
        """A script writes this file itself."""
        self._data.add(os.path.realpath(path))

    def counts(self, path: str) -> bool:
        """The file is part of what a browser may show."""
        name = os.path.basename(path)
        if path in self._data or name.startswith((".", "#")) or name.endswith("~"):
            return False
        return name.endswith(self._endings) or self._is_source(path)

    def tell(self, changes: Changes) -> None:
        """Files have changed: tell all browsers."""
        told = [path for path in sorted(changes.paths) if self.counts(path) and self._is_news(path)]
        styles = [path for path in told if path.endswith(".css")]
        if told and len(styles) == len(told):
            for path in styles:
                self._send("style", path.removeprefix(self._public))
        elif told:
            self._send("page", "")

    def _is_news(self, path: str) -> bool:
        """One save is seen several times: created, written, moved, given other rights."""
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
        """What a browser gets that knows all until `at`: what it has missed, then each change."""
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
        # Longer ones are nobody's: Python refuses to read thousands of digits.
        is_number = number.isascii() and number.isdecimal() and len(number) < 16
        if instance == self._instance and is_number and int(number) <= self._number:
            missed = [change for change in self._past if change["number"] > int(number)]  # type: ignore[operator]
            if len(missed) == self._number - int(number):
                return missed
        return [{"instance": self._instance, "number": self._number, "kind": "unknown", "path": ""}]


def _event(change: dict[str, object]) -> bytes:
    return f"id: {change['instance']}:{change['number']}\ndata: {json.dumps(change)}\n\n".encode()
