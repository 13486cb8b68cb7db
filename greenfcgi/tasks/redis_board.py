"""Which tasks have run, where several machines share them: a Redis decides which of them runs a task this time.

On the machine that runs it, the `TaskBoard` of its processes knows the rest: how it went, and for how long.

That it runs is kept in Redis for a minute, and while it runs, for another one again and again. So a machine that is
gone in the midst of a task keeps the others from it for a minute at most, however long the task may take. A process
that hangs is replaced before that minute is over.
"""

from __future__ import annotations

import os
from typing import Any, Final

import gevent

from ..config.shared import RedisAddress
from ..modules.shared.redis_connection import RedisConnection
from .board import Run, TaskBoard

#: Seconds for which Redis remembers when a task was due last, and that it runs.
_REMEMBERED: Final = 7 * 24 * 3600
_LEASE: Final = 60.0
#: Seconds for a reply: a connection gives up before.
_PATIENCE: Final = 30
#: KEYS: what is remembered of a task, and what says that it runs. ARGV: when it is due, for how long that is
#: remembered, a token of this run, for how long it is said to run, in milliseconds. What lies far ahead was written by
#: a machine whose clock has been set back since. Who finds the own token asks again, since the reply was lost.
_BEGIN: Final = b"""
local last = tonumber(redis.call('GET', KEYS[1]) or 0)
if last == tonumber(ARGV[1]) and redis.call('GET', KEYS[2]) == ARGV[3] then return 1 end
if last >= tonumber(ARGV[1]) and last <= redis.call('TIME')[1] + 60 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if redis.call('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[4]) then return 1 end
return 2
"""
#: KEYS: what says that it runs. ARGV: the token, milliseconds. A Redis that was restarted has forgotten it.
_GO_ON: Final = b"""
local token = redis.call('GET', KEYS[1])
if not token or token == ARGV[1] then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
"""
#: KEYS: what says that it runs. ARGV: the token.
_END: Final = b"if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class RedisBoard:
    """A `TaskBoard` for all machines that have the same Redis."""

    def __init__(self, board: TaskBoard, address: RedisAddress) -> None:
        self._board = board
        self._connection = RedisConnection(address)
        self._process = os.urandom(16).hex()
        #: Tokens of the runs in this process, by the names of their tasks.
        self._runs: dict[str, bytes] = {}
        self._renewing: Any = None

    def begin(self, name: str, due: float) -> bool | None:
        """As of a `TaskBoard`. Raises `OSError` when Redis does not answer: then nobody knows, and it is not run.

        To be asked again then, for the same or a later time.
        """
        remembered, running = _keys(name)
        token = f"{self._process} {due:.3f}".encode()
        found = self._ask(
            b"EVAL", _BEGIN, b"2", remembered, running, b"%.3f" % due, _milliseconds(_REMEMBERED), token,
            _milliseconds(_LEASE),
        )  # fmt: skip
        if found != 1:
            return None if found == 0 else False
        is_begun = self._board.begin(name, due)
        if not is_begun:
            self._forget(name, token)
            return is_begun
        self._runs[name] = token
        if self._renewing is None:
            self._renewing = gevent.spawn(self._renew)
        return True

    def end(self, name: str, is_good: bool) -> None:
        """As of a `TaskBoard`."""
        self._board.end(name, is_good)
        self._forget(name, self._runs.pop(name))

    def run(self, name: str) -> Run:
        """What is known of a task on this machine."""
        return self._board.run(name)

    def _renew(self) -> None:
        """Say again and again of what runs that it does."""
        while self._runs:
            gevent.sleep(_LEASE / 4)
            for name, token in list(self._runs.items()):
                # It may have ended while another was asked for.
                if self._runs.get(name) == token:
                    self._try(b"EVAL", _GO_ON, b"1", _keys(name)[1], token, _milliseconds(_LEASE))
        self._renewing = None

    def _forget(self, name: str, token: bytes) -> None:
        self._try(b"EVAL", _END, b"1", _keys(name)[1], token)

    def _try(self, *command: bytes) -> None:
        try:
            self._ask(*command)
        except OSError:
            # It forgets by itself, later.
            pass

    def _ask(self, *command: bytes) -> object:
        pending = self._connection.send(command)
        pending.ended.wait(_PATIENCE)
        if pending.problem or not pending.ended.is_set():
            raise OSError(0, pending.problem.decode() or "redis: timed out")
        if isinstance(pending.reply, Exception):
            raise OSError(0, f"redis: {pending.reply}")
        return pending.reply


def _keys(name: str) -> tuple[bytes, bytes]:
    # In braces, so that a cluster has both in one place.
    tagged = b"{greenfcgi-task:" + name.encode("utf-8", "surrogateescape") + b"}"
    return tagged, tagged + b":runs"


def _milliseconds(seconds: float) -> bytes:
    return b"%d" % (seconds * 1000)
