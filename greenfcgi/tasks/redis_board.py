"""Which tasks have run, where several machines share them: a Redis decides which of them runs a task this time.

On the machine that runs it, the `TaskBoard` of its processes knows the rest: how it went, and for how long.
"""

from __future__ import annotations

import os
from typing import Final

from ..config.shared import RedisAddress
from ..modules.shared.redis_connection import RedisConnection
from .board import Run, TaskBoard

#: Seconds for which Redis remembers when a task was due last, and more than a run's own time that it is said to run.
_REMEMBERED: Final = 7 * 24 * 3600
_MARGIN: Final = 60
#: Seconds for a reply: a connection gives up before.
_PATIENCE: Final = 30
#: KEYS: what is remembered of a task, and what says that it runs. ARGV: when it is due, for how long that is
#: remembered, a token, for how long it may run, in milliseconds. What lies far ahead was written by a machine whose
#: clock has been set back since.
_BEGIN: Final = b"""
local last = tonumber(redis.call('GET', KEYS[1]) or 0)
if last >= tonumber(ARGV[1]) and last <= redis.call('TIME')[1] + 60 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if redis.call('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[4]) then return 1 end
return 2
"""
#: KEYS: what says that it runs. ARGV: the token.
_END: Final = b"if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class RedisBoard:
    """A `TaskBoard` for all machines that have the same Redis. `timeout` is how long a task may run, in seconds."""

    def __init__(self, board: TaskBoard, address: RedisAddress, timeout: float) -> None:
        self._board = board
        self._connection = RedisConnection(address)
        self._timeout = timeout
        self._token = os.urandom(16).hex().encode()

    def begin(self, name: str, due: float) -> bool | None:
        """As of a `TaskBoard`. Raises `OSError` when Redis does not answer: then nobody knows, and it is not run."""
        remembered, running = _keys(name)
        milliseconds = [b"%d" % (seconds * 1000) for seconds in (_REMEMBERED, self._timeout + _MARGIN)]
        found = self._ask(
            b"EVAL", _BEGIN, b"2", remembered, running, b"%.3f" % due, milliseconds[0], self._token, milliseconds[1]
        )
        if found != 1:
            return None if found == 0 else False
        is_begun = self._board.begin(name, due)
        if not is_begun:
            self._forget(name)
        return is_begun

    def end(self, name: str, is_good: bool) -> None:
        """As of a `TaskBoard`."""
        self._board.end(name, is_good)
        self._forget(name)

    def run(self, name: str) -> Run:
        """What is known of a task on this machine."""
        return self._board.run(name)

    def _forget(self, name: str) -> None:
        try:
            self._ask(b"EVAL", _END, b"1", _keys(name)[1], self._token)
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
