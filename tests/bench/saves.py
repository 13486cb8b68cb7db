"""The third command: `python -m tests.bench.saves`, the time from a save to the new page in the developer mode.

As a browser does it: it listens to events, and asks for the page when one comes. The clock runs from the moment when
the save is over until the whole new page has been received. Each save is made in another of the ways of editors.
"""

import argparse
import http.client
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ..support.developing import WAYS, Developing
from .columns import aligned
from .command import carry_out, progress
from .errors import BenchError

_SAVES, _FEW = 200, 30
#: Milliseconds: what a person takes for at once.
_MEDIAN, _WORST = 20.0, 100.0
_PATIENCE = 10.0
#: Seconds between two saves: a second event of the one before must not count for the next.
_PAUSE = 0.03

_FILES = {
    "script.lua": "TEXT = 'version 0' function main(env, con) con:puts(TEXT) end",
    "lib.lua": "return 'version 0'",
    "module.lua": "local text = require 'lib' function main(env, con) con:puts(text) end",
    "view.html": "version 0",
    "template.lua": "function main(env, con) con:puts((io.open('view.html'):read('*a'))) end",
    "static.html": "version 0",
}
#: What is measured: the file that is saved, and the page that shows it.
_KINDS = {
    "script": ("script.lua", "/script.lua"),
    "module": ("lib.lua", "/module.lua"),
    "template": ("view.html", "/template.lua"),
    "static file": ("static.html", "/static.html"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. 0: it was measured; 2: it could not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.saves", description="from a save to the new page")
    parser.add_argument("--short", action="store_true", help=f"{_FEW} saves of each kind instead of {_SAVES}")
    number = _FEW if parser.parse_args(arguments).short else _SAVES
    return carry_out(lambda: _run(number))


def _run(number: int) -> int:
    cells = [("saved", "median ms", "99 %", "worst", f"target {_MEDIAN:g} / {_WORST:g}")]
    with tempfile.TemporaryDirectory(prefix="bench-") as name, Developing(Path(name), _FILES) as dev:
        for kind, (file, path) in _KINDS.items():
            taken = sorted(_measure(dev, file, path, number))
            median, worst = statistics.median(taken), taken[-1]
            verdict = "met" if median <= _MEDIAN and worst <= _WORST else "MISSED"
            cells.append((kind, f"{median:.1f}", f"{taken[int(0.99 * number)]:.1f}", f"{worst:.1f}", verdict))
            progress(f"{kind}: median {median:.1f} ms of {number} saves")
    print(aligned(cells))
    return 0


def _measure(dev: Developing, file: str, path: str, number: int) -> list[float]:
    """Milliseconds from each save to its page. Raises `BenchError` when a page is not the new one."""
    connection = http.client.HTTPConnection("127.0.0.1", dev.port, timeout=_PATIENCE)
    at = _get(connection, path).partition(b'data-at="')[2].partition(b'"')[0].decode()
    taken = []
    with socket.create_connection(("127.0.0.1", dev.port), timeout=_PATIENCE) as events:
        events.sendall(f"GET /-greenfcgi/events?at={at} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        _wait(events, b"retry:")
        ways = list(WAYS.values())
        for count in range(1, number + 1):
            time.sleep(_PAUSE)
            _forget(events)
            new = f"version {count}"
            ways[count % len(ways)](dev.root / file, _FILES[file].replace("version 0", new))
            began = time.monotonic()
            _wait(events, b"data:")
            page = _get(connection, path)
            taken.append(1000 * (time.monotonic() - began))
            if not page.startswith(new.encode()):
                raise BenchError(f"{path}: found {page[:40]!r}, expected {new!r}")
    connection.close()
    return taken


def _get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    return connection.getresponse().read()


def _wait(events: socket.socket, word: bytes) -> None:
    received = b""
    while word not in received:
        part = events.recv(65536)
        if not part:
            raise BenchError("the developer mode has closed its events")
        received += part


def _forget(events: socket.socket) -> None:
    events.setblocking(False)
    try:
        while events.recv(65536):
            pass
    except BlockingIOError:
        pass
    finally:
        events.settimeout(_PATIENCE)


if __name__ == "__main__":
    sys.exit(main())
