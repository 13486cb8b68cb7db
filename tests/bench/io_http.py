"""A request by `greenfcgi.http` over a kept connection, beside LuaSocket's own `socket.http` in the distribution's Lua.

Both ask the same small page of the same server, in turns, and their answers are checked. `socket.http` connects anew
for each request, as it always does. It needs Debian's lua5.1 and lua-socket; without them only the first is measured.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from ..support.inside import Inside
from .figure import Figure

_REQUESTS = 300
_ROUNDS = 7
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nServer: test\r\n\r\nhello\n"
#: The server, in a process of its own: its CPU is none of the client's.
_SERVER = f"""
import socket, threading
listener = socket.create_server(("127.0.0.1", 0), backlog=128)
print(listener.getsockname()[1], flush=True)
def serve(connection):
    data = b""
    while more := connection.recv(65536):
        data += more
        if data.endswith(b"\\r\\n\\r\\n"):
            connection.sendall({_REPLY!r})
            data = b""
    connection.close()
while True:
    connection = listener.accept()[0]
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"""
_PLAIN = """
local http, gettime = require "socket.http", require "socket".gettime
local function run(count)
    for _ = 1, count do assert(http.request(arg[1]) == "hello\\n") end
end
run(20)
local wall, cpu = gettime(), os.clock()
run(tonumber(arg[2]))
print((gettime() - wall) / arg[2] * 1e6, (os.clock() - cpu) / arg[2] * 1e6)
"""


def figures() -> list[Figure]:
    """The time and the CPU of each, and their ratios."""
    server = subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/"
        with tempfile.TemporaryDirectory() as folder:
            return _measured(url, Path(folder))
    finally:
        server.terminate()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


def _measured(url: str, folder: Path) -> list[Figure]:
    lua = Inside(folder, "lua51")
    state = lua.load(f"""
        local http = require "greenfcgi.http"
        function main()
            for _ = 1, {_REQUESTS} do assert(assert(http.get("{url}")).body == "hello\\n") end
        end
    """)
    program = folder / "plain.lua"
    program.write_text(_PLAIN)
    plain = shutil.which("lua5.1")
    own: list[tuple[float, float]] = []
    others: list[tuple[float, float]] = []
    for round_number in range(_ROUNDS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        answer = lua.run(state)
        took = (time.perf_counter() - wall) / _REQUESTS * 1e6, (time.process_time() - cpu) / _REQUESTS * 1e6
        assert answer.failure is None, answer.failure
        if round_number:
            own.append(took)
        if plain and round_number:
            done = subprocess.run(
                [plain, str(program), url, str(_REQUESTS)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                plain = None
            else:
                first, second = map(float, done.stdout.split())
                others.append((first, second))
    state.close()
    lua.close()
    found = [
        Figure("greenfcgi.http, a kept request", median(wall for wall, _ in own), "us"),
        Figure("greenfcgi.http, CPU of it", median(cpu for _, cpu in own), "us"),
    ]
    if others:
        pairs = list(zip(own, others, strict=True))
        found += [
            Figure("socket.http in lua5.1, a request", median(wall for wall, _ in others), "us"),
            Figure("socket.http in lua5.1, CPU of it", median(cpu for _, cpu in others), "us"),
            Figure("a kept request, times socket.http's", median(one[0] / other[0] for one, other in pairs), ""),
            Figure("CPU of it, times socket.http's", median(one[1] / other[1] for one, other in pairs), ""),
        ]
    return found
