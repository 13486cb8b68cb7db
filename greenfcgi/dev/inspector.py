"""Follows requests for developers: shows errors as pages, and logs requests and accidental globals in the terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from ..errors import ScriptBroken, ScriptError
from ..fastcgi.response import Reply, refusal
from ..logs.text import decode
from ..lua.state import LuaFailure, State
from ..scripts.version import Version
from ..serving.exchange import Exchange
from .error_page import Failure, Frame, Gap, as_html, as_text, frames_of, read_report
from .global_state import GlobalState
from .sources import Sources
from .terminal import Terminal

#: Bytes of a request's body that are shown.
_MAX_BODY = 8192


class DevInspector:
    """The `responder.Inspector` of the developer mode."""

    def __init__(self, terminal: Terminal, root: str) -> None:
        self._terminal = terminal
        self._root = root
        #: Memory of the states that requests under way have run in.
        self._memory: dict[Exchange, int] = {}
        self._hinted: set[tuple[str, str]] = set()
        self._global_state = GlobalState()
        #: The texts that Lua has run in these, by path.
        self._texts: dict[Exchange, Mapping[str, bytes]] = {}

    def ran(self, exchange: Exchange, state: State) -> None:
        """A script has run for a request."""
        self._memory[exchange] = state.memory()
        self._texts[exchange] = state.version.texts

    def ended(self, exchange: Exchange) -> None:
        """A request has been answered: log it."""
        memory = self._memory.pop(exchange, None)
        self._texts.pop(exchange, None)
        if exchange.is_logged and exchange.request.params_ended:
            self._terminal.request(exchange.title, exchange.status, time.monotonic() - exchange.started, memory)

    def hint(self, script: str, name: str, place: str) -> None:
        """A script has created a global that no `init` declares: logged once for each name."""
        if (script, name) not in self._hinted:
            self._hinted.add((script, name))
            self._terminal.warning(
                f"{place}: {name} is a global, and keeps its value for later requests. Is `local` missing? "
                f"If it is meant to stay, set it in init() or at the top of the file"
            )

    def globals_used(self, script: str, version: Version, state: int, report: bytes) -> None:
        """A request has used globals: logged once for each that another state has, and this one has not."""
        for name, text in self._global_state.used(script, version, state, report):
            # One hint for all fields of a table.
            key = script, f"{name.partition('[')[0]} shared"
            if key not in self._hinted:
                self._hinted.add(key)
                self._terminal.warning(
                    f"{script}: {name} {text}. What requests share is kept by greenfcgi.shared or greenfcgi.session"
                )

    def page(self, exchange: Exchange, failure: LuaFailure | ScriptError) -> Reply:
        """The error as a page, or behind what has been sent already."""
        params = {decode(name): decode(value) for name, value in exchange.request.variables().items()}
        report = read_report(failure.frames if isinstance(failure, (LuaFailure, ScriptBroken)) else b"")
        texts = failure.texts if isinstance(failure, ScriptBroken) else self._texts.get(exchange)
        directory = os.path.dirname(os.path.realpath(params.get("SCRIPT_FILENAME", "")))
        sources = Sources(texts, report.opened, directory, self._root)
        shown = _failure(exchange, failure, params, frames_of(report, sources))
        accepts = params.get("HTTP_ACCEPT", "")
        is_html = b"text/html" in exchange.head_sent if exchange.status else "text/html" in accepts
        body = as_html(shown, sources, self._root) if is_html else as_text(shown, sources)
        if exchange.status:
            return 0, b"", body
        _, head, _ = refusal(shown.status)
        if not is_html:
            head = head.replace(b"text/html", b"text/plain")
        return shown.status, head, b"" if exchange.head_only else body


def _failure(
    exchange: Exchange, failure: LuaFailure | ScriptError, params: dict[str, str], frames: list[Frame | Gap]
) -> Failure:
    seconds = time.monotonic() - exchange.started
    body, length = b"", 0
    if exchange.body is not None:
        try:
            body, length = exchange.body.beginning(_MAX_BODY), exchange.body.length
        except OSError:
            # Its temporary file cannot be read: the error is still worth a page.
            pass
    if isinstance(failure, LuaFailure):
        message, traceback, written = failure.message, failure.traceback, failure.written
    else:
        message, traceback, written = str(failure), "", b""
        if isinstance(failure, ScriptBroken):
            traceback = failure.traceback
    return Failure(failure.status, exchange.title, message, traceback, frames, params, written, seconds, body, length)
