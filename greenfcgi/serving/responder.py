"""One request, straight through: find its script, check out a state, run it, reply, give the state back."""

from __future__ import annotations

import os
from typing import Final, Protocol

from ..config.load import Config
from ..errors import FolderMoved, ScriptBroken, ScriptBusy, ScriptError
from ..fastcgi.proxied import PREFIX, rewrite
from ..fastcgi.request import Request
from ..fastcgi.response import Reply, redirection, refusal
from ..logs.error_log import ErrorLog
from ..logs.text import escape, traceback_of
from ..lua.state import LuaFailure, State
from ..scripts.catalogue import Catalogue
from ..scripts.long_scripts import LongScripts
from ..scripts.pool import Pool
from ..scripts.routes import Routes
from ..scripts.script import Script
from ..scripts.version import Version
from .exchange import Exchange

#: Bytes of a header block above which nginx and others answer 502, unless their buffer for headers has been made
#: larger: the default fastcgi_buffer_size is one page of memory.
_LARGE_HEAD: Final = 4096


class Inspector(Protocol):
    """Told what happens to requests: the developer mode's."""

    def ran(self, exchange: Exchange, state: State) -> None:
        """A script has run for a request, well or not."""

    def globals_used(self, script: str, version: Version, state: int, report: bytes) -> None:
        """A request in the state of this number has used globals: see `lua.bridge.OnGlobals`."""

    def hint(self, script: str, name: str, place: str) -> None:
        """A script has created a global of this name, which no `init` declares, at `place`: "path:line"."""

    def page(self, exchange: Exchange, failure: LuaFailure | ScriptError) -> Reply:
        """The reply to a request that failed; of status 0 and without a header block when that has been sent."""


class Responder:
    """Answers requests with scripts. `respond` is called in worker greenlets, for many requests at a time."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        routes: Routes,
        pool: Pool[Script, State],
        log: ErrorLog,
        long_scripts: LongScripts,
        inspector: Inspector | None = None,
    ) -> None:
        self._long_scripts = long_scripts
        self._long = long_scripts.names
        self._inspector = inspector
        self._catalogue = catalogue
        self._routes = routes
        self._known = catalogue.known
        self._pool = pool
        self._log = log
        self._timeout = config.timeout
        self._show_errors = config.scripts.show_errors
        self._stderr = config.scripts.stderr

    def respond(self, exchange: Exchange) -> None:
        """Answer one request. Never raises."""
        exchange.begin(self._timeout)
        try:
            request = exchange.request
            script = self._known.get(request.filename) or self._find(request)
            state = self._checkout(script, exchange.time_left())
            try:
                # The request may have been taken back while it waited for a worker or a state.
                result = None if exchange.aborted else state.run(exchange)
                if self._inspector is not None:
                    self._inspector.ran(exchange, state)
            finally:
                # Before the reply is sent: a slow client holds no state.
                self._pool.check_in(state, script)
                if self._long and not exchange.is_long and not exchange.aborted:
                    self._long_scripts.remember(exchange.request, False)
            if exchange.is_answered:
                if isinstance(result, LuaFailure):
                    self._log_error(exchange, f"{script.path}: {exchange.title}: {result.message}", result.traceback)
            elif result is None or (exchange.aborted and isinstance(result, LuaFailure)):
                exchange.finish()
            elif isinstance(result, LuaFailure):
                self._report(exchange, script, result)
            else:
                _, head, _ = result
                if len(head) > _LARGE_HEAD and not script.head_warned:
                    self._warn_of_head(script, len(head))
                exchange.reply(result)
        except FolderMoved as moved:
            exchange.reply(redirection(moved.path, exchange.request.variables().get(b"QUERY_STRING", b"")))
        except ScriptError as problem:
            self._refuse(exchange, problem)
        except Exception as problem:
            # The border of a request: whatever went wrong inside the server ends this request only.
            self._log.error(f"{exchange.title}: the server failed: {problem!r}", traceback_of(problem))
            self._fail(exchange, 500, "")

    def _find(self, request: Request) -> Script:
        filename = request.filename
        if filename is not None and filename.startswith(PREFIX):
            target = self._catalogue.target(filename)
            filename = rewrite(request, target, target.path in self._known)
        route = self._routes.find(filename, request.variables)
        if route is None:
            return self._catalogue.find(filename)
        request.append(
            (b"SCRIPT_FILENAME", os.fsencode(route.script.path)), (b"SCRIPT_NAME", os.fsencode(route.name)),
            (b"PATH_INFO", os.fsencode(route.info)),
        )  # fmt: skip
        return route.script

    def _checkout(self, script: Script, seconds: float) -> State:
        try:
            return self._pool.check_out(script, seconds)
        except TimeoutError:
            raise ScriptBusy(f"{script.path}: no state became free for {self._timeout:g} s") from None

    def _refuse(self, exchange: Exchange, problem: ScriptError) -> None:
        traceback = problem.traceback if isinstance(problem, ScriptBroken) else ""
        self._log_error(exchange, f"{exchange.title}: {problem}", traceback)
        self._fail(exchange, problem.status, f"{problem}\n{traceback}" if problem.status == 500 else "", problem)

    def _report(self, exchange: Exchange, script: Script, failure: LuaFailure) -> None:
        self._log_error(exchange, f"{script.path}: {exchange.title}: {failure.message}", failure.traceback)
        self._fail(exchange, failure.status, f"{failure.message}\n{failure.traceback}", failure)

    def _log_error(self, exchange: Exchange, text: str, traceback: str) -> None:
        self._log.error(text, traceback)
        if self._stderr:
            lines = [text, *traceback.strip("\n").expandtabs(4).split("\n")]
            exchange.report("\n".join(map(escape, lines)).encode())

    def _fail(
        self, exchange: Exchange, status: int, detail: str, failure: LuaFailure | ScriptError | None = None
    ) -> None:
        if failure is not None and self._inspector is not None:
            exchange.reply(self._inspector.page(exchange, failure))
        elif exchange.status:
            exchange.truncate()
        else:
            exchange.reply(refusal(status, detail if self._show_errors else "", exchange.head_only))

    def _warn_of_head(self, script: Script, length: int) -> None:
        script.head_warned = True
        self._log.warning(
            f"{script.path}: a header block of {length} bytes: web servers answer 502 to more than their buffer "
            "holds, which is 4 or 8 KiB unless set (nginx: fastcgi_buffer_size)"
        )
