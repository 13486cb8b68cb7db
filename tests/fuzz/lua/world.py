"""Where programs run: the settings of a batch, the files beside a script, and scripts whose answers are known."""

from __future__ import annotations

import os
import random
import shutil
import socket
from pathlib import Path
from typing import Final, NamedTuple

#: Programs that share a process.
BATCH: Final = 25
#: Whom a process becomes that was started as root: what programs do to files must not reach further.
NOBODY: Final = 65534


class Setup(NamedTuple):
    """The settings of a batch."""

    memory: str
    #: Seconds that a request may run, and that loading may take.
    timeout: float
    time_slice: float
    #: Errors are shown with their variables, and slow scripts are logged.
    developer: bool
    buffering: bool

    @classmethod
    def of(cls, seed: int) -> Setup:
        """The settings of the batch in which a seed is."""
        source = random.Random(seed // BATCH)
        return cls(
            source.choice(("1M", "1M", "1500K", "2M", "4M", "16M")),
            source.choice((0.2, 0.3, 0.5, 1.0)),
            source.choice((0.001, 0.005, 0.01)),
            source.random() < 0.2,
            source.random() < 0.8,
        )

    def toml(self) -> str:
        """The settings as in config.toml, without [lua] version."""
        slow = f'slowlog = "slow.log"\nslowlog_timeout = {self.timeout / 4}\n' if self.developer else ""
        return (
            f"timeout = {self.timeout}\n{slow}[scripts]\nbuffering = {str(self.buffering).lower()}\n"
            f'[lua]\nmemory = "{self.memory}"\ntime_slice = {self.time_slice}\n'
            '[app]\nname = "fuzz"\nlist = [1, 2, 3]\ntable = { a = 1, b = { c = "d" } }\n'
        )


#: The files beside each program.
FILES: Final = {
    "data.txt": "one\ntwo 2\n3.5 0x10 nan\n\n" + "x" * 3000 + "\nlast",
    "empty": "",
    "mod.lua": "local M = {} function M.f(...) return ... end return M",
    "bad.lua": "this is no Lua",
    "err.lua": "error('while loading')",
    "itself.lua": "return require 'itself'",
    "other.lua": "local x = require 'mod' loads = (loads or 0) + 1 return function(...) return x, ... end",
    "yields.lua": "return coroutine.yield(...)",
    "tower.lua": "return tower()",
    "sub/deep.lua": "return {deep = ...}",
}
#: A script whose answer is known: what it prints beside the count of its requests.
KNOWN_SCRIPT: Final = r"""
local t = {}
for i = 1, 50 do t[i] = i * 7919 % 101 end
table.sort(t)
count = 0
local meta = { __index = function(_, key) return key .. "!" end, __call = function(_, ...) return select("#", ...) end }
function main(env, con)
    count = count + 1
    local w = coroutine.wrap(function(a) for i = 1, 3 do a = coroutine.yield(a + i) end return "end" end)
    local object = setmetatable({}, meta)
    local ok, problem = pcall(error, { "x" })
    local words = {}
    for word in ("the quick brown fox"):gmatch("%a+") do words[#words + 1] = word:upper():reverse() end
    local parts = {
        table.concat(t, ",", 1, 5), w(1) .. w(2) .. w(3) .. w(4), (("a-b-c"):gsub("%-", "+")),
        tostring(ok) .. problem[1],
        ("%d|%5.2f|%s|%q"):format(42, 1.5, "x", "y"), object.key, object(1, nil, nil), table.concat(words, " "),
        ("x"):rep(3, _VERSION ~= "Lua 5.1" and "" or nil), tostring(2 ^ 10 == 1024), #("y"):rep(1000), tostring(nil),
        env.QUERY_STRING, tonumber("0x10"), math.max(3, 1, 2), ("k=v"):find("=", 1, true),
        select(2, ("abc"):byte(1, 2)),
    }
    con:header("X-Count", count)
    con:puts(table.concat(parts, ";"))
end
"""
KNOWN_ANSWER: Final = (
    '2,3,5,6,8;246end;a+b+c;falsex;42| 1.50|x|"y";key!;3;EHT KCIUQ NWORB XOF;xxx;true;1000;nil;q=1;16;3;2;98'
)


def furnish(folder: Path) -> None:
    """Make the files beside a script."""
    (folder / "sub").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    os.mkfifo(folder / "fifo")
    os.symlink("data.txt", folder / "link")
    os.symlink("loop", folder / "loop")
    (folder / "secret").touch(mode=0)
    with socket.socket(socket.AF_UNIX) as listener:
        path = str(folder / "socket")
        if len(path) < 100:
            listener.bind(path)


def clear(folder: Path) -> None:
    """Remove a program's folder, whatever it has made of it."""
    shutil.rmtree(folder, ignore_errors=True)


def head_problem(head: bytes) -> str:
    """What is wrong with a header block; empty when nothing is."""
    if not head.endswith(b"\r\n\r\n"):
        return f"a header block that does not end: {head[-100:]!r}"
    for line in head[:-4].split(b"\r\n"):
        name, colon, _ = line.partition(b": ")
        if (
            not (colon and name)
            or any(byte in line for byte in b"\r\n\0")
            or any(byte <= 32 or byte > 126 for byte in name)
        ):
            return f"a header line {line[:100]!r}"
    return "" if b"Status: " in head else "no Status"
