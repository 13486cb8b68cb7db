"""The HTTP door: each request to a script goes through the gateway, files are sent as they are, pages follow saves.

For the loopback: no web server, but what a web server in front would do, so that no other is needed to see a page. A
request for the name of another machine is refused, since a page of that name could read everything here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs, quote

from ..config.load import Scripts
from ..logs.text import traceback_of
from . import pages
from .http.gateway import Answer, BadBody, Gateway
from .http.static_files import NO_STORE, Files
from .http.url_paths import Elsewhere, File, Folder, Paths, Script
from .live_reload import PREFIX, Live
from .save_order import Saves
from .terminal import Terminal

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

_HTML = ("Content-Type", "text/html; charset=utf-8")
_ASSETS = ("live.js", "worker.js")
#: What of a page a browser asks for when it shows one. A part that a script of the page asks for follows nothing.
_DOCUMENTS = ("", "document", "iframe", "frame")
#: Seconds for which a request is answered anew when a file has been saved meanwhile.
_MOST = 5.0


class Door:
    """The application of WSGI. `scripts` says what is served; `own` are paths that the server
    answers itself (status, ping); `host` is the name or address that it was told to listen on.
    """

    def __init__(
        self,
        scripts: Scripts,
        own: tuple[str, ...],
        host: str,
        gateway: Gateway,
        saves: Saves,
        live: Live,
        terminal: Terminal,
    ) -> None:
        self._scripts = scripts
        self._own = own
        self._hosts = {"localhost", host.lower()}
        self._gateway = gateway
        self._saves = saves
        self._live = live
        self._terminal = terminal
        self._paths = Paths(scripts.root, scripts.extensions, scripts.public)
        self._files = Files(f"{scripts.root}/{scripts.public}")

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        try:
            return self._answer(environ, start_response)
        except BadBody as problem:
            self._terminal.warning(f"HTTP: 400 Bad Request: {problem}")
            page = pages.document("Bad request", "<h1>The body of the request is broken</h1>")
            return self._page(environ, start_response, "400 Bad Request", page)
        except Exception as problem:
            # The border of a request: what fails in here is told in the terminal, and the next one is answered.
            self._terminal.error(f"the HTTP door failed: {problem!r}", traceback_of(problem))
            page = pages.document("Error", "<h1>greenfcgi failed</h1><p>The terminal tells more.</p>")
            return self._page(environ, start_response, "500 Internal Server Error", page)

    def _answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        # Characters of Latin-1 are bytes in WSGI.
        path = os.fsdecode(environ["PATH_INFO"].encode("latin-1")) or "/"
        if not self._is_own_host(environ.get("HTTP_HOST", "")):
            return self._page(environ, start_response, "403 Forbidden", pages.foreign_host(environ["HTTP_HOST"]))
        if path.startswith(PREFIX):
            return self._follow(path, environ, start_response)
        self._saves.settle()
        target = Script(path, "") if path in self._own else self._paths.find(path)
        if isinstance(target, Script):
            return self._run(environ, start_response, target)
        if isinstance(target, File):
            return self._send_file(environ, start_response, target.path)
        if isinstance(target, Folder):
            return self._page(environ, start_response, "200 OK", self._listing(path))
        if isinstance(target, Elsewhere):
            query = environ.get("QUERY_STRING", "")
            # Two slashes at its beginning would be another host.
            location = "/" + quote(target.path.lstrip("/"), errors="surrogateescape") + (f"?{query}" if query else "")
            start_response("302 Found", [("Location", location), ("Content-Length", "0")])
            return []
        if path == "/favicon.ico":
            # Browsers ask for it with each page.
            start_response("204 No Content", [])
            return []
        page = pages.missing(path, self._scripts.root, self._scripts.extensions, self._scripts.public)
        return self._page(environ, start_response, "404 Not Found", page)

    def _is_own_host(self, host: str) -> bool:
        name = host.lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        # The page of another name cannot be at a number; and browsers always tell a name.
        is_number = name.replace(".", "").isdigit() or (name.startswith("[") and name.endswith("]"))
        return not name or is_number or name in self._hosts or name.endswith(".localhost")

    def _run(self, environ: Environ, start_response: StartResponse, script: Script) -> Iterable[bytes]:
        since = self._saves.flushes
        answer = self._gateway.ask(environ, script)
        end = time.monotonic() + _MOST
        can_repeat = environ["REQUEST_METHOD"] in ("GET", "HEAD")
        while can_repeat and self._saves.is_disturbed(since) and time.monotonic() < end:
            # The script may have read half of a file.
            answer.body.close()
            self._saves.settle()
            since = self._saves.flushes
            answer = self._gateway.ask(environ, script)
        if not self._follows(environ, answer.status, answer.headers):
            start_response(answer.status, answer.headers)
            return answer.body
        # The page becomes longer by the line at its end.
        start_response(answer.status, [pair for pair in answer.headers if pair[0].lower() != "content-length"])
        return _followed(answer, self._script(environ))

    def _follows(self, environ: Environ, status: str, headers: list[tuple[str, str]]) -> bool:
        """The reply is a page that a browser shows."""
        named = {name.lower(): value for name, value in headers}
        return (
            environ["REQUEST_METHOD"] != "HEAD"
            and status[0] != "3"
            and status[:3] != "204"
            and named.get("content-type", "").startswith("text/html")
            and "content-encoding" not in named
            and environ.get("HTTP_SEC_FETCH_DEST", "") in _DOCUMENTS
        )

    def _script(self, environ: Environ) -> bytes:
        method = "GET" if environ["REQUEST_METHOD"] == "GET" else "other"
        return f'\n<script src="{PREFIX}live.js" data-at="{self._live.at}" data-method="{method}"></script>\n'.encode()

    def _send_file(self, environ: Environ, start_response: StartResponse, path: str) -> Iterable[bytes]:
        began = time.monotonic()
        is_page = path.endswith((".html", ".htm"))
        self._saves.watch_closely([path])
        file = self._files.read(environ, path, as_whole=is_page)
        while self._saves.is_disturbed() and time.monotonic() < began + _MOST:
            self._saves.settle()
            file = self._files.read(environ, path, as_whole=is_page)
        if file.status[:3] == "200" and is_page:
            return self._page(environ, start_response, file.status, b"".join(file.body))
        start_response(file.status, file.headers)
        self._tell(environ, int(file.status[:3]), began)
        return file.body

    def _page(self, environ: Environ, start_response: StartResponse, status: str, page: bytes) -> Iterable[bytes]:
        """A page that is no script's."""
        began = time.monotonic()
        if self._follows(environ, status, [_HTML]):
            page += self._script(environ)
        start_response(status, [_HTML, NO_STORE, ("Content-Length", str(len(page)))])
        self._tell(environ, int(status.split()[0]), began)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [page]

    def _tell(self, environ: Environ, status: int, began: float) -> None:
        title = f"{environ['REQUEST_METHOD']} {environ.get('REQUEST_URI', '')}"
        self._terminal.request(title, status, time.monotonic() - began)

    def _listing(self, path: str) -> bytes:
        if path == "/" and not self._paths.has_scripts():
            return pages.first_steps(self._scripts.root, self._scripts.extensions[0])
        return pages.listing(path, *self._paths.entries(path))

    def _follow(self, path: str, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """What live.js asks for."""
        name = path.removeprefix(PREFIX)
        if environ["REQUEST_METHOD"] != "GET":
            start_response("405 Method Not Allowed", [("Allow", "GET"), ("Content-Length", "0")])
            return []
        if name == "events":
            at = environ.get("HTTP_LAST_EVENT_ID") or parse_qs(environ.get("QUERY_STRING", "")).get("at", [""])[0]
            start_response("200 OK", [("Content-Type", "text/event-stream"), NO_STORE])
            return self._live.listen(at)
        if name in _ASSETS:
            with open(os.path.join(os.path.dirname(__file__), "browser", name), "rb") as file:
                text = file.read()
            start_response("200 OK", [("Content-Type", "text/javascript; charset=utf-8"), NO_STORE])
            return [text]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"not here\n"]


def _followed(answer: Answer, script: bytes) -> Iterator[bytes]:
    try:
        yield from answer.body
        yield script
    finally:
        answer.body.close()
