"""Which connections take too long: looked at once a tick, each by itself.

Ages are counted in ticks, from the tick at which something was first seen unfinished: no clock is read for a request.
"""

from __future__ import annotations

from ..config.load import Config
from .context import Context
from .session import Session

#: Seconds for which a connection that has been answered early may go on sending.
_LINGER = 2.0


class Sweeper:
    """Closes what has been quiet for `keepalive`, and refuses or closes what is late by `timeouts` and `timeout`."""

    def __init__(self, context: Context, config: Config) -> None:
        self._context = context
        self._keepalive_ticks = max(1, round(config.keepalive / config.heartbeat))
        self._linger_ticks = max(1, round(_LINGER / config.heartbeat))

    def check(self, session: Session) -> None:
        """Look at a session. To be called once a tick."""
        quiet = self._context.ticks - session.quiet_since
        if session.lingering:
            if quiet > self._linger_ticks:
                session.close()
        elif not session.is_quiet:
            self._check_timeouts(session)
        elif quiet > self._keepalive_ticks:
            session.close_when_idle()
        else:
            session.unfinished_since = None

    def _check_timeouts(self, session: Session) -> None:
        """Something is under way: refuse what the web server takes too long to send, or close."""
        timeouts, timeout = self._context.timeouts, self._context.timeout
        before: dict[object, int] = session.unfinished_since or {}
        now: dict[object, int] = {}
        session.unfinished_since = now
        outbox = session.outbox
        if outbox is not None and self._age((outbox, outbox.taken), before, now) > timeout:
            session.close(f"no reply has been taken for {timeout:g} s")
            return
        if session.is_holding_input:
            # What is missing may have come, and waits here.
            return
        connection = session.connection
        unfinished = [
            request for request in connection.requests.values() if not (request.params_ended and request.stdin_ended)
        ]
        if connection.mid_record and not unfinished and self._age(session.quiet_since, before, now) > timeouts.header:
            session.close(f"incomplete record after {timeouts.header:g} s")
            return
        for request in unfinished:
            if session.closed:
                return
            length = session.body_length(request)
            seconds = timeouts.for_body(length) if request.params_ended else timeouts.params
            if self._age(request, before, now) > seconds:
                what = f"its body, of which {length} bytes have come" if request.params_ended else "its parameters"
                session.refuse(request, 408, f"waited {seconds:.0f} s for {what}")
        session.continue_closing()

    def _age(self, what: object, before: dict[object, int], now: dict[object, int]) -> float:
        """Seconds since something was first seen unfinished; noted in `now`, for the next tick."""
        ticks = self._context.ticks
        since = now[what] = before.get(what, ticks)
        return (ticks - since) * self._context.heartbeat
