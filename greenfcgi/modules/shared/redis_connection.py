"""The connection of a process to Redis: one for all scripts. Commands go out as they come, and are answered in order.

hiredis, which Redis's own client has, reads and writes the protocol; the waiting is gevent's. (The client itself takes
18 MB and imports asyncio, and its pool of connections locks threads where here greenlets take turns.)

It is made by the first command, and again by the first one after it was lost. While there is none, commands fail with a
message; what had been sent may have been done or not. Nothing blocks in Redis, so that no command waits for another.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any, Final

import gevent
import hiredis
from gevent import get_hub, socket
from gevent.event import Event

from ...config.shared import RedisAddress

#: Seconds to connect, and for a reply.
_TIMEOUT: Final = 5.0
#: Bytes that are read at once.
_PART: Final = 65536
_NOTHING: Final = object()


def import_tls() -> None:
    """Import what a connection with TLS needs, and one without does not."""
    from gevent import ssl  # noqa: F401


class Pending:
    """A command that has been sent, or is about to be; `ended` is set when its reply is there, or never will be."""

    __slots__ = ("arguments", "ended", "is_given_up", "is_second_try", "problem", "reply", "since")

    def __init__(self, arguments: tuple[bytes, ...]) -> None:
        self.arguments = arguments
        self.ended = Event()
        #: None, int, bytes, or a list of these; an error of Redis is a `hiredis.ReplyError`.
        self.reply: Any = None
        #: Why there is none: "redis: connection refused".
        self.problem = b""
        #: Nobody waits for it any more.
        self.is_given_up = False
        #: It could not be sent before, since the connection was no more.
        self.is_second_try = False
        #: When, in seconds of the monotonic clock: the loop's own stands still while something holds it up.
        self.since = monotonic()

    def fail(self, problem: str) -> None:
        """There will be no reply."""
        self.problem = f"redis: {problem}".encode("utf-8", "backslashreplace")
        self.ended.set()


class RedisConnection:
    """Sends commands to the Redis at an address."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._socket: Any = None
        #: What waits for a connection, and what waits for its reply.
        self._unsent: deque[Pending] = deque()
        self._sent: deque[Pending] = deque()
        self._output = bytearray()
        self._connecting: Any = None
        self._writing: Any = None
        self._reading: Any = None
        self._timer: Any = None

    def send(self, arguments: tuple[bytes, ...]) -> Pending:
        """Send a command. Does not wait."""
        pending = Pending(arguments)
        self._watch()
        if self._socket is not None:
            self._write(pending)
        else:
            self._await_connection(pending)
        return pending

    def _await_connection(self, pending: Pending) -> None:
        self._unsent.append(pending)
        if self._connecting is None:
            self._connecting = gevent.spawn(self._connect)

    def close(self) -> None:
        """The process ends."""
        for greenlet in (self._connecting, self._writing, self._reading):
            if greenlet is not None:
                greenlet.kill(block=False)
        self._lose("closed")

    # Connecting

    def _connect(self) -> None:
        problem = ""
        try:
            self._socket = self._opened()
        except Exception as error:
            # Names that do not resolve, certificates that are wrong, and whatever else a network has.
            problem = _reason(error)
        self._connecting = None
        if problem:
            self._lose(problem)
            return
        self._reading = gevent.spawn(self._read, self._socket, hiredis.Reader(notEnoughData=_NOTHING))
        address = self._address
        if address.password or address.user:
            names = (address.user.encode(),) if address.user else ()
            self._write(Pending((b"AUTH", *names, address.password.encode())))
        if address.number:
            self._write(Pending((b"SELECT", b"%d" % address.number)))
        while self._unsent and self._socket is not None:
            pending = self._unsent.popleft()
            if not pending.is_given_up:
                self._write(pending)

    def _opened(self) -> Any:
        address = self._address
        if address.path:
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            found.settimeout(_TIMEOUT)
            try:
                found.connect(address.path)
            except BaseException:
                found.close()
                raise
        else:
            found = socket.create_connection((address.host, address.port), _TIMEOUT)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.has_tls:
            from gevent import ssl

            try:
                found = ssl.create_default_context().wrap_socket(found, server_hostname=address.host)
            except BaseException:
                found.close()
                raise
        found.settimeout(None)
        return found

    # Writing and reading

    def _write(self, pending: Pending) -> None:
        self._sent.append(pending)
        data = hiredis.pack_command(pending.arguments)  # type: ignore[arg-type]
        if self._writing is None and not self._address.has_tls:
            try:
                sent = self._socket._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                # It had been closed before, so that nothing of this command has come there.
                self._sent.pop()
                self._lose(_reason(error))
                if pending.is_second_try:
                    pending.fail(_reason(error))
                else:
                    pending.is_second_try = True
                    self._await_connection(pending)
                return
            data = data[sent:]
        self._output += data
        if self._output and self._writing is None:
            self._writing = gevent.spawn(self._write_rest, self._socket)

    def _write_rest(self, connection: Any) -> None:
        try:
            while self._output and connection is self._socket:
                data = bytes(self._output)
                self._output.clear()
                connection.sendall(data)
        except Exception as error:
            self._writing = None
            if connection is self._socket:
                self._lose(_reason(error))
            return
        self._writing = None

    def _read(self, connection: Any, reader: Any) -> None:
        """Take replies as long as this connection lasts."""
        problem = "connection closed"
        try:
            while data := connection.recv(_PART):
                reader.feed(data)
                while (reply := reader.gets()) is not _NOTHING:
                    pending = self._sent.popleft()
                    if isinstance(reply, hiredis.ReplyError) and pending.arguments[0] in (b"AUTH", b"SELECT"):
                        raise ConnectionError(str(reply))
                    pending.reply = reply
                    pending.ended.set()
        except Exception as error:
            # The network's, or what is no Redis answers.
            problem = _reason(error)
        if connection is self._socket:
            self._lose(problem)

    def _lose(self, problem: str) -> None:
        """There is no connection any more: all that wait learn it."""
        lost, self._socket = self._socket, None
        self._output.clear()
        if lost is not None:
            lost.close()
        waiting = [*self._sent, *self._unsent]
        self._sent.clear()
        self._unsent.clear()
        for pending in waiting:
            pending.fail(problem)

    # A Redis that does not answer

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = get_hub().loop.timer(_TIMEOUT / 5, _TIMEOUT / 5)
            self._timer.start(self._look)

    def _look(self) -> None:
        if not self._sent and not self._unsent:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        elif self._sent and monotonic() - self._sent[0].since > _TIMEOUT:
            self._lose("timed out")


def _reason(error: BaseException) -> str:
    """Why there is no connection, in a few words."""
    if isinstance(error, TimeoutError):
        return "timed out"
    text = (error.strerror if isinstance(error, OSError) else "") or str(error) or "no connection"
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
