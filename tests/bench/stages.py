"""Where the time of one hello goes, inside one process without a web server: `python -m tests.bench.stages`.

A client in the same thread writes a request, and then the server's own callbacks are called and timed, until the reply
has been sent. So nothing else runs meanwhile, and a figure is repeated to within 3 %, which is what it takes to see a
change of a few tenths of a microsecond. What a kernel adds when it wakes up a web server is not in it.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from _socket import socket as BareSocket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gevent
from gevent.event import AsyncResult
from greenlet import getcurrent, greenlet

from greenfcgi.config import load
from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.client import Client
from greenfcgi.fastcgi.connection import READY, Connection
from greenfcgi.processes.server_process import ServerProcess
from greenfcgi.quota import Quota
from greenfcgi.serving.body import Body
from greenfcgi.serving.exchange import Exchange
from greenfcgi.serving.server import Listener
from greenfcgi.serving.session import Session

from .columns import aligned
from .peers import SCRIPTS
from .work import HELLO

_HELLOS = 2000
_ROUNDS = 15
_READ_SIZE = 8192
_REPLY_SIZE = 89


class Stage(NamedTuple):
    """Microseconds for one hello."""

    name: str
    new: float
    kept: float


class HelloServer:
    """A server in this process, and what it takes to ask it for hellos."""

    def __init__(self, folder: Path) -> None:
        path = folder / "config.toml"
        path.write_text(f'processes = 0\nbind = "unix:{folder}/unused"\n[scripts]\nroot = "{SCRIPTS}"\n')
        self.process = ServerProcess(load.load(str(path)))
        self.address = str(folder / "socket")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(self.address)
        listening.listen()
        self.listening = listening
        self.listener = Listener(self.process.server, listening)
        asked = params(SCRIPTS / f"{HELLO.name}.lua")
        self.requests = {keep: Client.request(asked, keep_conn=keep) for keep in (False, True)}
        self.asker, served = socket.socketpair()
        self.served = BareSocket(served.family, served.type, served.proto, served.detach())

    def new(self) -> float:
        """Seconds for a hello on a connection of its own, from its acceptance to its close."""
        client = self._connect()
        began = time.perf_counter()
        self.listener.do_handle(*self.listener.do_read())
        ended = time.perf_counter()
        self._check(client)
        client.close()
        return ended - began

    def new_calls(self) -> float:
        """Seconds for the same system calls, and nothing else."""
        client = self._connect()
        began = time.perf_counter()
        descriptor, _ = self.listening._accept()  # type: ignore[attr-defined]
        served = BareSocket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
        served.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        served.send(b"x" * _REPLY_SIZE, socket.MSG_DONTWAIT)
        served.close()
        ended = time.perf_counter()
        client.close()
        return ended - began

    def kept(self, session: Session) -> float:
        """Seconds for a hello on a connection that is kept."""
        self.asker.send(self.requests[True])
        began = time.perf_counter()
        session._read()
        ended = time.perf_counter()
        self._check(self.asker)
        return ended - began

    def kept_calls(self) -> float:
        """Seconds for the same system calls, and nothing else."""
        self.asker.send(self.requests[True])
        began = time.perf_counter()
        self.served.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        self.served.send(b"x" * _REPLY_SIZE, socket.MSG_DONTWAIT)
        ended = time.perf_counter()
        self.asker.recv(_READ_SIZE)
        return ended - began

    def _connect(self) -> BareSocket:
        client = BareSocket(socket.AF_UNIX, socket.SOCK_STREAM, 0)
        client.connect(self.address)
        client.send(self.requests[False])
        return client

    @staticmethod
    def _check(client: BareSocket) -> None:
        reply = Client()
        reply.receive(client.recv(_READ_SIZE))
        assert reply.replies[1].body == HELLO.body, reply.replies[1].body


class _Wire:
    """A connection that nothing leaves by."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def write(self, buffers: list[records.Buffer]) -> None: ...

    def drain(self, exchange: Exchange, seconds: float) -> bool:
        return True

    def ended(self, exchange: Exchange) -> None: ...

    def truncated(self, exchange: Exchange) -> None: ...

    def computes_long(self, exchange: Exchange) -> None: ...

    def new_body(self) -> Body:
        return Body(Quota(1 << 20), Quota(1))


def measure(folder: Path) -> list[Stage]:
    """All stages. To be called in a greenlet of its own; the event loop does nothing else meanwhile."""
    inside = HelloServer(folder)
    calls = Stage("system calls alone", _least(inside.new_calls), _least(inside.kept_calls))
    _in_hub(inside.new)
    session = inside.process.server.connect(inside.served, "")
    whole = Stage("a hello", _in_hub(inside.new), _in_hub(lambda: inside.kept(session)))
    parts = _parts(inside)
    known = [calls, *parts]
    new, kept = sum(stage.new for stage in known), sum(stage.kept for stage in known)
    return [*known, Stage("the rest, in Python", whole.new - new, whole.kept - kept), whole]


def _parts(inside: HelloServer) -> list[Stage]:
    process = inside.process
    connection = Connection(process.server.context.routing)
    request = next(request for event, request, _ in connection.receive(inside.requests[True]) if event == READY)
    script = process.catalogue.find(request.filename)
    state = process.pool.check_out(script)
    exchange = Exchange(_Wire(connection), request)

    def run() -> float:
        exchange.begin(process.server.context.timeout)
        return _timed(lambda: state.run(exchange))

    def run_without_params() -> float:
        exchange.begin(process.server.context.timeout)
        state._budget.begin(exchange.deadline)
        return _timed(lambda: state._run(b""))

    routing = _least(lambda: _timed(lambda: process.server.context.routing(request.params)))
    ran, bare = _least(run), _least(run_without_params)
    worker = greenlet(_switch_back)
    switch = _least(lambda: _timed(worker.switch))
    return [
        Stage("SCRIPT_FILENAME found, in Lua", routing, routing),
        Stage("switch to a worker and back", switch, switch),
        Stage("the script's run, without parameters", bare, bare),
        Stage("parameters made a table, in Lua", ran - bare, ran - bare),
    ]


def params(script: Path) -> dict[str, str]:
    """The parameters that nginx sends behind the benchmark's other half."""
    return {
        "QUERY_STRING": "", "REQUEST_METHOD": "GET", "CONTENT_TYPE": "", "CONTENT_LENGTH": "",
        "REQUEST_URI": "/greenfcgi/new/hello", "DOCUMENT_URI": "/greenfcgi/new/hello", "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http", "GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": "nginx/1.22.1",
        "REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "41234", "SERVER_ADDR": "127.0.0.1", "SERVER_PORT": "41343",
        "SERVER_NAME": "", "DOCUMENT_ROOT": str(script.parent), "SCRIPT_NAME": f"/{script.name}",
        "SCRIPT_FILENAME": str(script), "HTTP_HOST": "127.0.0.1:41343",
    }  # fmt: skip


def _switch_back() -> None:
    parent = getcurrent().parent
    assert parent is not None
    while True:
        parent.switch()


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _least(hello: Callable[[], float]) -> float:
    """Microseconds: the mean of a round, of the quickest round."""
    return min(sum(hello() for _ in range(_HELLOS)) / _HELLOS for _ in range(_ROUNDS)) * 1e6


def _in_hub(hello: Callable[[], float]) -> float:
    """The same, called by the event loop, as the server's callbacks are."""
    result: AsyncResult[float] = AsyncResult()
    gevent.get_hub().loop.run_callback(lambda: result.set(_least(hello)))
    found = result.get()
    assert found is not None
    return found


def main() -> int:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        stages = gevent.spawn(measure, Path(name)).get()
    cells = [("us for a hello", "new connection", "kept")]
    cells += [(stage.name, f"{stage.new:.2f}", f"{stage.kept:.2f}") for stage in stages]
    print(aligned(cells))
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # Without the end of a server that was never run.
    os._exit(status)
