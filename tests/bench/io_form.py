"""What a form with a file costs beside the same body read as it is: `greenfcgi.form`, and `con:gets` in parts.

The real server gets a form of 10 MB over a unix socket, in turns with the same bytes for a script that only reads them;
its CPU is what the kernel has counted, from the first byte to the last of the reply. The sizes are checked.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from ..support.running import Server
from .accounting import cpu_seconds
from .errors import BenchError
from .figure import Figure

_SIZE = 10 * 1024 * 1024
_FIELDS = 1000
_PAIRS = 21
_BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"

_RAW = """
function main(env, con)
    local size = 0
    for data in function() return con:gets(65536) end do size = size + #data end
    con:puts(size)
end
"""
_FORM = """
local form = require "greenfcgi.form"
function main(env, con)
    local fields, files = form.read(env, con)
    local number = 0
    for _ in pairs(fields) do number = number + 1 end
    con:puts(files.file and files.file.size or number)
end
"""


def _part(head: str, data: bytes) -> bytes:
    return f"--{_BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"


def figures() -> list[Figure]:
    """The CPU of an upload and of many fields, by way of a form, and its ratio to that of reading the body raw."""
    end = f"--{_BOUNDARY}--\r\n".encode()
    upload = _part('name="file"; filename="photo.jpg"', os.urandom(_SIZE)) + end
    fields = b"".join(_part(f'name="field{n}"', b"value %d" % n) for n in range(_FIELDS)) + end
    with TemporaryDirectory() as folder:
        scripts = {"raw.lua": _RAW, "form.lua": _FORM}
        with Server(Path(folder), scripts, '[scripts]\nmax_post = "64M"\n') as server:
            raw, form = _measured(server, upload, _SIZE)
            _, many = _measured(server, fields, _FIELDS)
    return [
        Figure("a form with a file of 10 MB", 1e3 * median(form), "ms"),
        Figure("the same, times reading it raw", median(a / b for a, b in zip(form, raw, strict=True)), "", 2),
        Figure(f"a form of {_FIELDS} fields", 1e3 * median(many), "ms"),
    ]


def _measured(server: Server, body: bytes, expected: int) -> tuple[list[float], list[float]]:
    """Seconds of CPU for the body, read raw and as a form."""
    raw, form = [], []
    # The states are made in the first pair.
    for _ in range(_PAIRS + 1):
        raw.append(_cpu(server, "raw.lua", body, len(body)))
        form.append(_cpu(server, "form.lua", body, expected))
    return raw[1:], form[1:]


def _cpu(server: Server, script: str, body: bytes, expected: int) -> float:
    pids = [server.pid]
    before = cpu_seconds(pids)
    reply = server.get(
        script, body, REQUEST_METHOD="POST", CONTENT_TYPE=f"multipart/form-data; boundary={_BOUNDARY}",
        CONTENT_LENGTH=str(len(body)),
    )  # fmt: skip
    used = cpu_seconds(pids) - before
    if reply.body != b"%d" % expected:
        raise BenchError(f"{script} answered {reply.body[:100]!r}")
    return used
