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

from whitenoise import WhiteNoise

from .. import __version__
from ..lines import traceback_of
from ..log import ErrorLog
from . import pages
from .gateway import Answer, Gateway
from .live import PREFIX, Live
from .paths import Elsewhere, File, Folder, Paths, Script
from .saves import Saves
from .terminal import Terminal

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

_HTML = ("Content-Type", "text/html; charset=utf-8")
#: Nothing of this is kept by a browser: the next save may come within the same second.
_NO_STORE = ("Cache-Control", "no-store")
_ASSETS = ("live.js", "worker.js")
#: What of a page a browser asks for when it shows one. A part that a script of the page asks for follows nothing.
_DOCUMENTS = ("", "document", "iframe", "frame")
_LOCAL = ("localhost", "127.0.0.1", "[::1]", "0.0.0.0", "[::]")


#: Bytes of a file that is read at once, so that no half of it is sent; a larger one leaves as it is read.
_MOST_AT_ONCE = 1024 * 1024
#: Seconds for which a request is answered anew when a file has been saved meanwhile.
_MOST = 5.0


class Door:
    """The application of WSGI. `own` are paths that the server answers itself (status, ping); `host` is the name or
    address that it was told to listen on.
    """

    def __init__(
        self,
        root: str,
        extensions: tuple[str, ...],
        own: tuple[str, ...],
        host: str,
        gateway: Gateway,
        saves: Saves,
        live: Live,
        terminal: Terminal,
    ) -> None:
        self._root = root
        self._extensions = extensions
        self._own = own
        self._hosts = {*_LOCAL, host.lower()}
        self._gateway = gateway
        self._saves = saves
        self._live = live
        self._terminal = terminal
        self._paths = Paths(root, extensions)
        self._files = _Files(
            _nothing, root, autorefresh=True, max_age=0, allow_all_origins=False, add_headers_function=_never_store
        )

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        try:
            return self._answer(environ, start_response)
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
            return self._page(environ, start_response, "200 OK", self._listing(path, target.path))
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
        page = pages.missing(path, self._root, self._extensions)
        return self._page(environ, start_response, "404 Not Found", page)

    def _is_own_host(self, host: str) -> bool:
        name = host.lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        # The page of another name cannot be at a number; and browsers always tell a name.
        is_number = name.replace(".", "").isdigit() or (name.startswith("[") and name.endswith("]"))
        return not name or is_number or name in self._hosts or name.endswith(".localhost")

    def _run(self, environ: Environ, start_response: StartResponse, script: Script) -> Iterable[bytes]:
        answer = self._gateway.ask(environ, script)
        end = time.monotonic() + _MOST
        while environ["REQUEST_METHOD"] in ("GET", "HEAD") and self._saves.is_disturbed() and time.monotonic() < end:
            # The script may have read half of a file.
            answer.body.close()
            self._saves.settle()
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
        started: list[Any] = []
        # A folder's index has a path of its own.
        name = os.fsencode(path.removeprefix(self._root)).decode("latin-1")
        is_page = path.endswith((".html", ".htm"))
        asked = {**environ, "PATH_INFO": name, "HTTP_ACCEPT_ENCODING": ""}
        if is_page:
            # The whole of it, whatever is asked for: it becomes longer.
            asked["REQUEST_METHOD"] = "GET"
            asked.pop("HTTP_RANGE", None)
        body: Iterable[bytes] = []
        while time.monotonic() < began + _MOST:
            body = self._files(asked, lambda *head: started.append(head))
            if not is_page and os.path.getsize(path) > _MOST_AT_ONCE:
                break
            body = [_whole(body)]
            if not self._saves.is_disturbed():
                break
            self._saves.settle()
        status, headers = started[-1][:2]
        if status[:3] == "200" and is_page:
            return self._page(environ, start_response, status, b"".join(body))
        start_response(status, headers)
        self._tell(environ, int(status[:3]), began)
        return body

    def _page(self, environ: Environ, start_response: StartResponse, status: str, page: bytes) -> Iterable[bytes]:
        """A page that is no script's."""
        began = time.monotonic()
        if self._follows(environ, status, [_HTML]):
            page += self._script(environ)
        start_response(status, [_HTML, _NO_STORE, ("Content-Length", str(len(page)))])
        self._tell(environ, int(status.split()[0]), began)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [page]

    def _tell(self, environ: Environ, status: int, began: float) -> None:
        title = f"{environ['REQUEST_METHOD']} {environ.get('REQUEST_URI', '')}"
        self._terminal.request(title, status, time.monotonic() - began)

    def _listing(self, path: str, folder: str) -> bytes:
        if path == "/" and not self._paths.has_scripts():
            return pages.first_steps(self._root, self._extensions[0])
        return pages.listing(path, *self._paths.entries(folder))

    def _follow(self, path: str, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """What live.js asks for."""
        name = path.removeprefix(PREFIX)
        if environ["REQUEST_METHOD"] != "GET":
            start_response("405 Method Not Allowed", [("Allow", "GET"), ("Content-Length", "0")])
            return []
        if name == "events":
            at = environ.get("HTTP_LAST_EVENT_ID") or parse_qs(environ.get("QUERY_STRING", "")).get("at", [""])[0]
            start_response("200 OK", [("Content-Type", "text/event-stream"), _NO_STORE])
            return self._live.listen(at)
        if name in _ASSETS:
            with open(os.path.join(os.path.dirname(__file__), name), "rb") as file:
                text = file.read()
            start_response("200 OK", [("Content-Type", "text/javascript; charset=utf-8"), _NO_STORE])
            return [text]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"not here\n"]


class _Files(WhiteNoise):  # type: ignore[misc]  # it has no types
    """Files as they are: what somebody has compressed beside one may be older than it."""

    def is_compressed_variant(self, path: str, cache: Any = None) -> bool:
        """None is: each is a file of its own."""
        return False


def _whole(parts: Iterable[bytes]) -> bytes:
    body = b"".join(parts)
    if hasattr(parts, "close"):
        parts.close()
    return body


def _followed(answer: Answer, script: bytes) -> Iterator[bytes]:
    try:
        yield from answer.body
        yield script
    finally:
        answer.body.close()


def _never_store(headers: Any, path: str, url: str) -> None:
    headers[_NO_STORE[0]] = _NO_STORE[1]


def _nothing(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The file has gone between two looks."""
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"gone\n"]


def log_of(terminal: ErrorLog) -> Any:
    """Where pywsgi writes what it has to say of bad requests: a file for it."""

    class File:
        def write(self, text: str) -> None:
            if text.strip():
                terminal.warning(f"greenfcgi {__version__}, HTTP: {text.strip()}")

        def flush(self) -> None:
            """Nothing waits."""

    return File()
