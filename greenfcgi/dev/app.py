"""The web application of the developer mode: scripts by the gateway, files as they are, pages that reload when saved.

For the loopback: it does what a web server in front would do, so that none is needed to see a page. A request for the
name of another machine is refused, since a page of that name could read everything here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

from ..config.load import Scripts
from ..fastcgi.response import location
from ..logs.text import traceback_of
from . import pages
from .http.gateway import BadBody, Gateway, Reply
from .http.static_files import NO_STORE, StaticFiles
from .http.url_paths import File, Folder, Redirect, Script, UrlPaths
from .live_reload import PREFIX, LiveReload
from .save_order import SaveOrder
from .terminal import Terminal

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

_HTML = ("Content-Type", "text/html; charset=utf-8")
_ASSETS = ("live.js", "worker.js")
#: Sec-Fetch-Dest of a page that a browser shows; another one is for a script of a page, and gets no live reload.
_DOCUMENTS = ("", "document", "iframe", "frame")
#: Seconds for which a request is answered again when a file has been saved meanwhile.
_MAX_RETRY = 5.0


class DevApp:
    """A WSGI application. `scripts` says what is served; `internal_paths` are those that the server answers itself
    (status, ping); `host` is the name or address that it listens on.
    """

    def __init__(
        self,
        scripts: Scripts,
        internal_paths: tuple[str, ...],
        host: str,
        gateway: Gateway,
        save_order: SaveOrder,
        live_reload: LiveReload,
        terminal: Terminal,
        covers: Callable[[str], bool],
    ) -> None:
        self._scripts = scripts
        self._internal_paths = internal_paths
        self._hosts = {"localhost", host.lower()}
        self._gateway = gateway
        self._save_order = save_order
        self._live_reload = live_reload
        self._terminal = terminal
        self._paths = UrlPaths(scripts.root, scripts.extensions, scripts.public, scripts.index, covers)
        self._files = StaticFiles(f"{scripts.root}/{scripts.public}")

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        try:
            return self._answer(environ, start_response)
        except BadBody as problem:
            self._terminal.warning(f"HTTP: 400 Bad Request: {problem}")
            page = pages.document("Bad request", "<h1>The body of the request is broken</h1>")
            return self._page(environ, start_response, "400 Bad Request", page)
        except Exception as problem:
            # The border of a request: what fails in here is logged in the terminal, and the next one is answered.
            self._terminal.error(f"HTTP failed: {problem!r}", traceback_of(problem))
            page = pages.document("Error", "<h1>greenfcgi failed</h1><p>The terminal shows why.</p>")
            return self._page(environ, start_response, "500 Internal Server Error", page)

    def _answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        # Characters of Latin-1 are bytes in WSGI.
        path = os.fsdecode(environ["PATH_INFO"].encode("latin-1")) or "/"
        if not self._is_local_host(environ.get("HTTP_HOST", "")):
            return self._page(environ, start_response, "403 Forbidden", pages.foreign_host(environ["HTTP_HOST"]))
        if path.startswith(PREFIX):
            return self._send_live_reload(path, environ, start_response)
        self._save_order.wait_until_saved()
        target = Script(path, "") if path in self._internal_paths else self._paths.find(path)
        if isinstance(target, Script):
            return self._run(environ, start_response, target)
        if isinstance(target, File):
            return self._send_file(environ, start_response, target.path)
        if isinstance(target, Folder):
            return self._page(environ, start_response, "200 OK", self._listing(path))
        if isinstance(target, Redirect):
            to = location(target.path, environ.get("QUERY_STRING", "").encode("latin-1"))
            start_response("302 Found", [("Location", to), ("Content-Length", "0")])
            return []
        if path == "/favicon.ico":
            # Browsers ask for it with each page.
            start_response("204 No Content", [])
            return []
        page = pages.missing(path, self._scripts.root, self._scripts.extensions, self._scripts.public)
        return self._page(environ, start_response, "404 Not Found", page)

    def _is_local_host(self, host: str) -> bool:
        name = host.lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        # A page of another machine's name cannot be at a number; and browsers always send a host.
        is_number = name.replace(".", "").isdigit() or (name.startswith("[") and name.endswith("]"))
        return not name or is_number or name in self._hosts or name.endswith(".localhost")

    def _run(self, environ: Environ, start_response: StartResponse, script: Script) -> Iterable[bytes]:
        since = self._save_order.flushes
        reply = self._gateway.ask(environ, script)
        end = time.monotonic() + _MAX_RETRY
        may_repeat = environ["REQUEST_METHOD"] in ("GET", "HEAD")
        while may_repeat and self._save_order.has_pending_changes(since) and time.monotonic() < end:
            # The script may have read half of a file.
            reply.body.close()
            self._save_order.wait_until_saved()
            since = self._save_order.flushes
            reply = self._gateway.ask(environ, script)
        if not self._is_shown_page(environ, reply.status, reply.headers):
            start_response(reply.status, reply.headers)
            return reply.body
        # The line that is added to the page makes it longer.
        start_response(reply.status, [pair for pair in reply.headers if pair[0].lower() != "content-length"])
        return _with_script(reply, self._script_element(environ))

    def _is_shown_page(self, environ: Environ, status: str, headers: list[tuple[str, str]]) -> bool:
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

    def _script_element(self, environ: Environ) -> bytes:
        method = "GET" if environ["REQUEST_METHOD"] == "GET" else "other"
        at = self._live_reload.at
        return f'\n<script src="{PREFIX}live.js" data-at="{at}" data-method="{method}"></script>\n'.encode()

    def _send_file(self, environ: Environ, start_response: StartResponse, path: str) -> Iterable[bytes]:
        began = time.monotonic()
        is_page = path.endswith((".html", ".htm"))
        self._save_order.watch_closely([path])
        file = self._files.read(environ, path, as_whole=is_page)
        while self._save_order.has_pending_changes() and time.monotonic() < began + _MAX_RETRY:
            self._save_order.wait_until_saved()
            file = self._files.read(environ, path, as_whole=is_page)
        if file.status[:3] == "200" and is_page:
            return self._page(environ, start_response, file.status, b"".join(file.body))
        start_response(file.status, file.headers)
        self._log_request(environ, int(file.status[:3]), began)
        return file.body

    def _page(self, environ: Environ, start_response: StartResponse, status: str, page: bytes) -> Iterable[bytes]:
        """A page of the developer mode, or a static one."""
        began = time.monotonic()
        if self._is_shown_page(environ, status, [_HTML]):
            page += self._script_element(environ)
        start_response(status, [_HTML, NO_STORE, ("Content-Length", str(len(page)))])
        self._log_request(environ, int(status.split()[0]), began)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [page]

    def _log_request(self, environ: Environ, status: int, began: float) -> None:
        title = f"{environ['REQUEST_METHOD']} {environ.get('REQUEST_URI', '')}"
        self._terminal.request(title, status, time.monotonic() - began)

    def _listing(self, path: str) -> bytes:
        if path == "/" and not self._paths.has_scripts():
            return pages.first_steps(self._scripts.root, self._scripts.extensions[0])
        return pages.listing(path, *self._paths.entries(path))

    def _send_live_reload(self, path: str, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """What live.js asks for."""
        name = path.removeprefix(PREFIX)
        if environ["REQUEST_METHOD"] != "GET":
            start_response("405 Method Not Allowed", [("Allow", "GET"), ("Content-Length", "0")])
            return []
        if name == "events":
            at = environ.get("HTTP_LAST_EVENT_ID") or parse_qs(environ.get("QUERY_STRING", "")).get("at", [""])[0]
            start_response("200 OK", [("Content-Type", "text/event-stream"), NO_STORE])
            return self._live_reload.listen(at)
        if name in _ASSETS:
            with open(os.path.join(os.path.dirname(__file__), "browser", name), "rb") as file:
                text = file.read()
            start_response("200 OK", [("Content-Type", "text/javascript; charset=utf-8"), NO_STORE])
            return [text]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"not found\n"]


def _with_script(reply: Reply, script: bytes) -> Iterator[bytes]:
    try:
        yield from reply.body
        yield script
    finally:
        reply.body.close()
