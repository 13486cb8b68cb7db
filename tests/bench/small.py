"""A small box: what the profile of `greenfcgi --init small` does in 64 MB.

    python -m tests.bench.small [--requests N] [--plain] [SETTING=VALUE ...]

The server runs in a control group with that limit where this user may make one; elsewhere its resident memory is
read all the same. 50 scripts are asked for by 200 connections, kept for 100 requests each, every reply checked; the
figures are after 10,000 requests and at the end. `--plain` measures the default settings.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from greenfcgi.fastcgi.client import Client

from .accounting import memory, process_tree
from .command import carry_out, progress
from .errors import BenchError

PROFILE = Path(__file__).parents[2] / "greenfcgi" / "deploy" / "templates" / "small.toml"
#: Bytes of the box.
LIMIT = 64 * 1024 * 1024
SCRIPTS = 50
CONNECTIONS = 200
#: Requests after which memory is first read.
WARM = 10_000
REQUESTS = 500_000
_PER_CONNECTION = 100
_STARTS = 5
_SECONDS = 15.0
_END = b"\x01\x03\x00\x01\x00\x08\x00\x00" + bytes(8)
_MODULE = """
local site = {}
function site.page(title, rows)
    local parts = { "<h1>", title, "</h1>\\n<ul>\\n" }
    for at = 1, rows do parts[#parts + 1] = "<li>row " .. at .. " of " .. title .. "</li>\\n" end
    parts[#parts + 1] = "</ul>\\n"
    return table.concat(parts)
end
return site
"""
_SCRIPT = """
local site = require "site"
served = 0
function main(env, con)
    served = served + 1
    con:header("X-Served", "yes")
    con:puts(site.page("page {number}", {rows}))
end
"""


class Figures(NamedTuple):
    """What was seen. Bytes are resident, summed over the server's processes; seconds from its start to a first reply.

    `peak` is the control group's highest use of memory, with the page cache, and `refused` how often it met its limit;
    both are 0 without one.
    """

    start: float
    ready: int
    warm: int
    end: int
    requests: int
    rate: float
    peak: int
    refused: int

    def __str__(self) -> str:
        mb = 1024 * 1024
        group = (
            f"at most {self.peak / mb:.1f} MB of a control group's {LIMIT // mb}, its limit met {self.refused} times"
        )
        return (
            f"first reply after {self.start:.3f} s; resident {self.ready / mb:.1f} MB when ready, {self.warm / mb:.2f} "
            f"after {WARM:,} requests, {self.end / mb:.2f} after {self.requests:,} ({self.end / self.warm - 1:+.2%}); "
            f"{self.rate:,.0f} a second; {group if self.peak else 'no control group'}"
        )


def settings(changes: Sequence[str], plain: bool = False) -> str:
    """The profile with some lines replaced: `workers=16`, `lua.memory="8M"`. `plain`: nothing but these."""
    text = "[scripts]\n[lua]\n[states]\n" if plain else PROFILE.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("bind")]
    for change in ['bind="unix:s.sock"', *changes]:
        name, _, value = change.partition("=")
        table, _, key = name.rpartition(".")
        head = f"[{table}]"
        at = lines.index(head) + 1 if table else 0
        lines = [line for place, line in enumerate(lines) if place < at or not line.startswith(f"{key} ")]
        lines.insert(at, f"{key} = {value}")
    return "\n".join(lines) + "\n"


def measure(folder: Path, requests: int, text: str, warm_up: int = WARM) -> Figures:
    """Start a server with these settings in `folder`, and ask. Raises `BenchError` when a reply is wrong."""
    root = folder / "lua_scripts"
    root.mkdir()
    (root / "site.lua").write_text(_MODULE)
    pages = [_page(root, number) for number in range(SCRIPTS)]
    (folder / "config.toml").write_text(text)
    with _group(folder.name) as group:
        starts = []
        for _ in range(1 + _STARTS):
            with _server(folder, group) as (pid, began):
                _first(folder / "s.sock", pages[0])
                starts.append(time.monotonic() - began)
        with _server(folder, group) as (pid, began):
            _first(folder / "s.sock", pages[0])
            time.sleep(0.5)
            ready = memory(process_tree(pid)).rss
            _ask(folder / "s.sock", pages, warm_up)
            warm = memory(process_tree(pid)).rss
            begun = time.monotonic()
            _ask(folder / "s.sock", pages, requests - warm_up)
            rate = (requests - warm_up) / (time.monotonic() - begun)
            end = memory(process_tree(pid)).rss
            peak, refused = group.figures() if group else (0, 0)
    # The first one had to compile.
    return Figures(sorted(starts[1:])[_STARTS // 2], ready, warm, end, requests, rate, peak, refused)


class _Page(NamedTuple):
    """The bytes of a request that keeps its connection, and of the whole reply; the same for one that does not."""

    kept: bytes
    last: bytes
    body: bytes


def _page(root: Path, number: int) -> _Page:
    rows = 5 + number
    path = root / f"page{number}.lua"
    path.write_text(_SCRIPT.format(number=number, rows=rows))
    params = {
        "GATEWAY_INTERFACE": "CGI/1.1", "SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_METHOD": "GET", "QUERY_STRING": "",
        "REQUEST_URI": f"/{path.name}", "SCRIPT_NAME": f"/{path.name}", "SCRIPT_FILENAME": str(path),
        "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0)", "REMOTE_ADDR": "192.0.2.1",
    }  # fmt: skip
    items = "".join(f"<li>row {at} of page {number}</li>\n" for at in range(1, rows + 1))
    body = f"<h1>page {number}</h1>\n<ul>\n{items}</ul>\n".encode()
    return _Page(Client.request(params, keep_conn=True), Client.request(params), body)


def _first(path: Path, page: _Page) -> None:
    """Wait for the first reply there is."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(page.last)
                client.settimeout(_SECONDS)
                found = b""
                while part := client.recv(65536):
                    found += part
        except OSError:
            if time.monotonic() > deadline:
                raise BenchError("the server did not start") from None
            time.sleep(0.001)
        else:
            _check(found, page)
            return


def _ask(path: Path, pages: Sequence[_Page], number: int) -> None:
    """So many requests, one on each connection at a time; a connection ends after its hundredth."""
    waiting = selectors.DefaultSelector()
    begun = done = 0

    def begin(client: socket.socket, left: int) -> None:
        nonlocal begun
        page = pages[begun % len(pages)]
        begun += 1
        client.sendall(page.kept if left else page.last)
        waiting.register(client, selectors.EVENT_READ, [page, left, b""])

    for at in range(min(CONNECTIONS, number)):
        # Not all of them end together.
        begin(_connected(path), at % _PER_CONNECTION)
    while done < number:
        ready = waiting.select(_SECONDS)
        if not ready:
            raise BenchError(f"no reply for {_SECONDS:g} s")
        for key, _ in ready:
            client = key.fileobj
            assert isinstance(client, socket.socket)
            page, left, found = key.data
            part = client.recv(65536)
            found += part
            if not found.endswith(_END):
                if not part:
                    raise BenchError("the server closed a connection in a reply")
                key.data[2] = found
                continue
            _check(found, page)
            done += 1
            waiting.unregister(client)
            if left == 0:
                client.close()
                client, left = _connected(path), _PER_CONNECTION
            if begun < number:
                begin(client, left - 1)
            else:
                client.close()
    waiting.close()


def _connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(_SECONDS)
    client.connect(str(path))
    return client


def _check(found: bytes, page: _Page) -> None:
    if page.body not in found or b"200 OK" not in found or not found.endswith(_END):
        raise BenchError(f"a wrong reply: {found[:300]!r}")


class _Group(NamedTuple):
    """A control group of memory: its folder, and whether it is of the second version."""

    path: Path
    is_new: bool

    def figures(self) -> tuple[int, int]:
        """The highest use of memory in bytes, and how often the limit was met."""
        if self.is_new:
            events = dict(line.split() for line in (self.path / "memory.events").read_text().splitlines())
            return int((self.path / "memory.peak").read_text()), int(events["max"])
        peak = self.path / "memory.max_usage_in_bytes"
        return int(peak.read_text()), int((self.path / "memory.failcnt").read_text())


@contextlib.contextmanager
def _group(name: str) -> Iterator[_Group | None]:
    """A new control group with the limit; None where this user may make none."""
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    is_new = not old.is_dir()
    group = _Group((new if is_new else old) / f"greenfcgi-{os.getpid()}-{name}", is_new)
    try:
        group.path.mkdir()
    except OSError:
        yield None
        return
    try:
        limit = group.path / ("memory.max" if is_new else "memory.limit_in_bytes")
        try:
            limit.write_text(str(LIMIT))
        except OSError:
            yield None
        else:
            yield group
    finally:
        # A process that has just ended may still be in it.
        for _ in range(100):
            try:
                group.path.rmdir()
                break
            except OSError:
                time.sleep(0.02)


@contextlib.contextmanager
def _server(folder: Path, group: _Group | None) -> Iterator[tuple[int, float]]:
    """A server in its group: its process id, and when it was started."""
    command = [sys.executable, "-m", "greenfcgi", "config.toml"]
    if group is not None:
        command = ["sh", "-c", 'echo $$ >"$0"/cgroup.procs && exec "$@"', str(group.path), *command]
    paths = [str(PROFILE.parents[3]), os.environ.get("PYTHONPATH", "")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # As an installation does: a server that compiles its modules as it starts takes longer and keeps a megabyte of it.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    with open(folder / "log", "ab") as log:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ)
    try:
        yield process.pid, began
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _work() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.small", description="A server in 64 MB, measured.")
    parser.add_argument("--requests", type=int, default=REQUESTS, metavar="N")
    parser.add_argument("--plain", action="store_true", help="the default settings in the place of the profile's")
    parser.add_argument("change", nargs="*", metavar="SETTING=VALUE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="small-") as folder:
        text = settings(arguments.change, arguments.plain)
        progress(f"{arguments.requests:,} requests")
        print(measure(Path(folder), arguments.requests, text), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(carry_out(_work))
