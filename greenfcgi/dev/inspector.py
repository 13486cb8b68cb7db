"""Looks on while scripts run: shows errors as pages, tells requests and stray globals in the terminal."""

from __future__ import annotations

import time

from ..errors import ScriptBroken, ScriptError
from ..exchange import Exchange
from ..lines import decode
from ..replies import Reply, refusal
from ..state import LuaFailure, State
from . import errorpage
from .errorpage import Failure
from .terminal import Terminal


class DevInspector:
    """What `responder.Inspector` asks for."""

    def __init__(self, terminal: Terminal, root: str) -> None:
        self._terminal = terminal
        self._root = root
        #: Memory of the states that requests under way have run in.
        self._memory: dict[Exchange, int] = {}
        self._hinted: set[tuple[str, str]] = set()
        #: The files that a script consists of, where the last error of it was.
        self._files: list[str] = []

    def ran(self, exchange: Exchange, state: State) -> None:
        """A script has run for a request."""
        self._memory[exchange] = state.memory()
        self._files = list(state.version.signatures)

    def ended(self, exchange: Exchange) -> None:
        """A request has been answered: tell it."""
        memory = self._memory.pop(exchange, None)
        if exchange.is_logged and exchange.request.params_ended:
            self._terminal.request(exchange.title, exchange.status, time.monotonic() - exchange.started, memory)

    def hint(self, script: str, name: str, place: str) -> None:
        """A script has written a global that no `init` has declared: once a name."""
        if (script, name) not in self._hinted:
            self._hinted.add((script, name))
            self._terminal.warning(
                f"{place}: {name} is a global: it stays from one request to the next. Is a local missing? "
                f"If it is meant to stay, set it in init() or at the top of the file"
            )

    def page(self, exchange: Exchange, failure: LuaFailure | ScriptError) -> Reply:
        """The error as a page; what has been sent already stays before it."""
        shown = self._shown(exchange, failure)
        files = [*self._files, shown.params.get("SCRIPT_FILENAME", "")]
        accepts = shown.params.get("HTTP_ACCEPT", "")
        is_html = b"text/html" in exchange.head_sent if exchange.status else "text/html" in accepts
        body = errorpage.as_html(shown, files, self._root) if is_html else errorpage.as_text(shown, files, self._root)
        if exchange.status:
            return 0, b"", body
        _, head, _ = refusal(shown.status)
        if not is_html:
            head = head.replace(b"text/html", b"text/plain")
        return shown.status, head, b"" if exchange.head_only else body

    def _shown(self, exchange: Exchange, failure: LuaFailure | ScriptError) -> Failure:
        params = {decode(name): decode(value) for name, value in exchange.request.variables().items()}
        seconds = time.monotonic() - exchange.started
        title = exchange.title
        if isinstance(failure, LuaFailure):
            frames = errorpage.frames_of(failure.frames)
            message, written = failure.message, failure.written
            return Failure(failure.status, title, message, failure.traceback, frames, params, written, seconds)
        traceback = failure.traceback if isinstance(failure, ScriptBroken) else ""
        frames = errorpage.frames_of(failure.frames) if isinstance(failure, ScriptBroken) else []
        return Failure(failure.status, title, str(failure), traceback, frames, params, b"", seconds)
