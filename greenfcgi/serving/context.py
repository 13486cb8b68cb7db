"""What all connections of one process share: the settings that they follow, what they may hold, where requests go."""

from __future__ import annotations

from _socket import socket as BareSocket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..config.load import Config
from ..fastcgi import records
from ..fastcgi.request import Request
from ..fastcgi.response import Reply
from ..logs.error_log import ErrorLog
from ..lua.turns import Turns
from ..scripts.long_scripts import LongScripts
from .exchange import Exchange
from .shares import Shares, shares
from .timeouts import DEFAULT, Timeouts
from .workers import Workers

if TYPE_CHECKING:
    from ..logs.access_log import AccessLog


class Context:
    """Read by each `Session`. `respond` answers a request in a worker greenlet, and must not raise.

    `routing`, `turns`, `shares_of_process` and `long_scripts` are made here when they are not given.
    """

    def __init__(
        self,
        config: Config,
        respond: Callable[[Exchange], None],
        log: ErrorLog,
        access: AccessLog | None = None,
        routing: records.Routing | None = None,
        timeouts: Timeouts = DEFAULT,
        turns: Turns | None = None,
        shares_of_process: Shares | None = None,
        authorizer: bytes | None = None,
        long_scripts: LongScripts | None = None,
    ) -> None:
        #: Finds in parameters what routes a request, and behind it what the access log wants.
        self.routing = routing or records.router(() if access is None else access.wanted)
        self.log = log
        #: Bytes of a request's body; more is answered with 413.
        self.max_post = config.scripts.max_post
        # Not `or`: without waiters its length is 0.
        self.turns = Turns(config.lua.time_slice) if turns is None else turns
        self.long_scripts = LongScripts(config.scripts.root) if long_scripts is None else long_scripts
        self.workers: Workers[Exchange] = Workers(
            config.workers, config.queue, respond, self.turns, self.long_scripts.names
        )
        #: What connections may hold: memory and descriptors.
        self.memory, self.descriptors = shares_of_process or shares(config.buffers)
        #: The share of memory that parameters and unfinished input come from.
        self.room_for_requests = self.memory.requests
        #: SCRIPT_FILENAME of the script that answers in the role AUTHORIZER; None: that role is refused.
        self.authorizer = authorizer
        #: Seconds that what has come in one read may take before others have a turn.
        self.time_slice = config.lua.time_slice
        #: How long a web server may take to send a request.
        self.timeouts = timeouts
        #: Seconds that a script has, and a web server to take some of a reply.
        self.timeout = config.timeout
        #: Counts rounds of housekeeping: a clock that costs nothing to read.
        self.ticks = 0
        #: Seconds between two ticks.
        self.heartbeat = config.heartbeat
        #: Answers requests to the server itself (status, ping): the reply, and whether it goes to the access log; None
        #: for all other requests.
        self.internal_handler: Callable[[Request], tuple[Reply, bool] | None] | None = None
        #: Where each request is logged when it has ended.
        self.access = access
        #: Called with each request that has ended, behind that.
        self.observers: list[Callable[[Exchange], None]] = []
        #: Passes a kept connection (its socket, the peer's name) to another process while this one leaves; False when
        #: that is not possible now. None: there is no such process, and they are closed.
        self.hand_over: Callable[[BareSocket, str], bool] | None = None
        #: Called with each session that has been closed or handed over.
        self.on_closed: Callable[[Any], None] = _nothing


def _nothing(session: object) -> None:
    """Nobody counts sessions."""
