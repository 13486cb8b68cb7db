"""Scripts that are missing, forbidden, broken or ill-behaved, on one server that outlives them all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from greenfcgi.errors import ScriptForbidden
from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.client import Client

from ..support.inside import Inside
from ..support.running import Connection, Server

SCRIPTS = {
    "good.lua": "function main(env, con) con:puts('good') end",
    "empty.lua": "",
    "comment.lua": "-- nothing but this",
    "syntax.lua": "function main(env, con)\n  con:puts('a'\nend\n",
    "top.lua": "local x = nil\nx.y = 1\n",
    "nomain.lua": "function handler(env, con) end",
    "number.lua": "main = 5",
    "binary.lua": "\x1bLua not really",
    "table.lua": "function main(env, con)\n  error({})\nend",
    "nil.lua": "function main(env, con)\n  error(nil)\nend",
    "exit.lua": "function main(env, con)\n  os.exit(7)\nend",
    "recursion.lua": "function main(env, con)\n  return 1 + main(env, con)\nend",
    "template.lua": "function main(env, con) return (('x'):gsub('x', function() return main(env, con) end)) end",
    "break.lua": "function main(env, con)\n  con:header('X-A', 'b\\r\\nX-C: d')\nend",
    "memory.lua": "function main(env, con) local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end end",
    "control.lua": "function main(env, con) error('a\\r\\n[2026-01-01] forged\\27[2J') end",
    "init.lua": "function init() error('no database') end function main() end",
    "toptable.lua": "error({})",
    "topmemory.lua": "local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end",
    "out.txt": "not a script",
    "a.jpg": "not a script",
    "a.LUA": "not a script",
    "sub/good.lua": "function main(env, con) con:puts('good too') end",
}

#: name in SCRIPT_FILENAME, status, what the one line in the log says
CASES = [
    ("missing.lua", 404, "missing.lua': No such file or directory"),
    ("sub/missing.lua", 404, "sub/missing.lua': No such file or directory"),
    ("folder.lua", 404, "folder.lua' is not a regular file"),
    ("pipe.lua", 404, "pipe.lua' is not a regular file"),
    ("a.jpg/x.lua", 404, "a.jpg/x.lua': Not a directory"),
    ("good.lua/x.lua", 404, "good.lua/x.lua': Not a directory"),
    ("dangling.lua", 404, "dangling.lua': No such file or directory"),
    ("../outside.lua", 403, "../outside.lua' is not below scripts.root, which is"),
    ("sub/../../outside.lua", 403, "outside.lua' is not below scripts.root"),
    ("../../../../../../../etc/passwd", 403, "etc/passwd' is not below scripts.root"),
    ("../lua_scripts_too/x.lua", 403, "lua_scripts_too/x.lua' is not below scripts.root"),
    ("leaves.lua", 403, "leaves.lua' is not below scripts.root"),
    ("away/outside.lua", 403, "away/outside.lua' is not below scripts.root"),
    ("", 404, "' is scripts.root, which has no scripts.index"),
    ("out.txt", 404, "out.txt' does not end in one of scripts.extensions: .lua"),
    ("a.jpg", 404, "a.jpg' does not end in"),
    ("a.LUA", 404, "a.LUA' does not end in"),
    ("sub", 404, "sub' does not end in"),
    ("good.lua/x", 404, "good.lua/x' does not end in"),
    ("good.lua\n", 404, "good.lua\\n' does not end in"),
    ("a.jpg\0.lua", 403, "a.jpg\\x00.lua' has a zero byte in it"),
    ("good.lua\0.jpg", 403, "good.lua\\x00.jpg' has a zero byte in it"),
    ("empty.lua", 500, "empty.lua: defines no function main(env, con)"),
    ("comment.lua", 500, "comment.lua: defines no function main(env, con)"),
    ("syntax.lua", 500, "syntax.lua:3: ')' expected (to close '(' at line 2) near 'end'"),
    ("top.lua", 500, "top.lua:2: attempt to index local 'x' (a nil value)"),
    ("nomain.lua", 500, "nomain.lua: defines no function main(env, con)"),
    ("number.lua", 500, "number.lua: defines no function main(env, con)"),
    ("binary.lua", 500, "binary.lua: bytecode is not loaded, expected Lua source"),
    ("table.lua", 500, "table.lua: GET /table.lua: (error object is a table value)"),
    ("nil.lua", 500, "nil.lua: GET /nil.lua: nil"),
    ("exit.lua", 500, "exit.lua:2: os.exit is not available to scripts: return from the handler instead"),
    ("recursion.lua", 500, "recursion.lua: GET /recursion.lua: stack overflow"),
    ("template.lua", 500, "C stack overflow: gsub inside gsub, too deep"),
    ("break.lua", 500, "break.lua:2: header 'X-A': its value has a line break or a zero byte"),
    ("memory.lua", 500, "memory.lua: GET /memory.lua: out of memory (lua.memory is 33554432 bytes)"),
    ("control.lua", 500, "control.lua:1: a\\r\\n[2026-01-01] forged\\x1b[2J"),
    ("init.lua", 500, "init.lua:1: no database"),
    ("toptable.lua", 500, "/toptable.lua: (error object is a table value)"),
    ("topmemory.lua", 500, "/topmemory.lua: out of memory (lua.memory is 33554432 bytes)"),
]

#: What a handler may return, which nobody looks at.
JUNK = ["nil", "5", "'text'", "{}", "print", "nil, 'problem'", "404, { a = 'b' }, print", "coroutine.create(print)"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all."""
    folder = tmp_path_factory.mktemp("bad")
    main = "function main(env, con) con:puts('out') return %s end"
    junk = {f"junk{at}.lua": main % value for at, value in enumerate(JUNK)}
    with Server(folder, SCRIPTS | junk, "reload = false\n") as running:
        running.write("../outside.lua", SCRIPTS["good.lua"])
        running.write("../lua_scripts_too/x.lua", SCRIPTS["good.lua"])
        (running.root / "leaves.lua").symlink_to(folder / "outside.lua")
        (running.root / "away").symlink_to(folder)
        (running.root / "dangling.lua").symlink_to("nowhere.lua")
        (running.root / "folder.lua").mkdir()
        os.mkfifo(running.root / "pipe.lua")
        yield running


def entries(log: str) -> list[str]:
    """The lines of a log, from the level on, without the details below them."""
    return re.findall(r"^\[[^\]]+\] \[\d+\] (.*)", log, re.MULTILINE)


def is_served(server: Server) -> bool:
    """The next request is answered, by the same process."""
    assert server.process is not None
    assert server.process.poll() is None
    return server.get("good.lua").body == b"good" and server.get("sub/good.lua").body == b"good too"


@pytest.mark.parametrize(("name", "status", "line"), CASES, ids=[repr(name) for name, _, _ in CASES])
def test_answer_and_log(server: Server, name: str, status: int, line: str) -> None:
    """The right status, a page that tells nothing, one line in the log, and the next request is served. Twice."""
    for _ in range(2):
        before = len(server.log())
        reply = server.get(name)
        assert reply.status == status
        assert reply.ended == (0, records.REQUEST_COMPLETE)
        assert re.fullmatch(rb"<!DOCTYPE html>\n<html><head><title>(\d{3} [A-Z][A-Za-z ]+)</title></head>\n"
                            rb"<body><h1>\1</h1>\n</body></html>\n", reply.body)  # fmt: skip
        found = entries(server.log()[before:])
        assert len(found) == 1
        assert found[0].startswith("[ERROR] ")
        assert line in found[0]
        assert is_served(server)


def test_no_script_filename(server: Server) -> None:
    """Without SCRIPT_FILENAME, the log says what the web server's configuration lacks."""
    before = len(server.log())
    params = [(name, value) for name, value in server.params("good.lua").items() if name != "SCRIPT_FILENAME"]
    with server.connect() as connection:
        connection.send(Client.request(params))
        assert connection.reply().status == 404
    assert entries(server.log()[before:]) == [
        "[ERROR] GET /good.lua: the web server sent no SCRIPT_FILENAME: is a fastcgi_param for it missing?"
    ]
    assert is_served(server)


@contextmanager
def nobody() -> Iterator[None]:
    """Without the rights of root, who can read everything, for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_unreadable() -> None:
    """A script that may not be read is a 403 that says so."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        lua = Inside(Path(name))
        path = lua.write("page.lua", SCRIPTS["good.lua"])
        path.chmod(0)
        with nobody(), pytest.raises(ScriptForbidden, match=r"page\.lua: Permission denied") as caught:
            lua.load()
        assert caught.value.status == 403
        lua.close()


@pytest.mark.parametrize("at", range(len(JUNK)), ids=JUNK)
def test_junk_is_ignored(server: Server, at: int) -> None:
    """What a handler returns is not looked at."""
    before = len(server.log())
    reply = server.get(f"junk{at}.lua")
    assert (reply.status, reply.body) == (200, b"out")
    assert entries(server.log()[before:]) == []


def count(connection: Connection, expected: bytes) -> tuple[int, int]:
    """Read a reply whose body is one byte again and again: how often it came, and all other bytes, until its end."""
    unread, of_it, others = b"", 0, 0
    while True:
        data = unread + connection.socket.recv(1 << 20)
        at = 0
        while len(data) - at >= records.HEADER_SIZE:
            _, kind, _, length, padding = records.HEADER.unpack_from(data, at)
            end = at + records.HEADER_SIZE + length
            if end + padding > len(data):
                break
            if kind == records.END_REQUEST:
                return of_it, others
            number = data.count(expected, at + records.HEADER_SIZE, end)
            of_it, others, at = of_it + number, others + length - number, end + padding
        unread = data[at:]


def test_output_of_hundreds_of_megabytes(server: Server) -> None:
    """A long output arrives whole, and neither the state nor the process grows with it."""
    main = "function main(env, con) local part = ('#'):rep(99991) for _ = 1, 3000 do con:puts(part) end end"
    server.write("long.lua", main)
    with server.connect() as connection:
        connection.send(Client.request(server.params("long.lua")))
        head = b"Status: 200 OK\r\nContent-Type: text/html\r\n\r\n"
        assert count(connection, b"#") == (3000 * 99991, len(head))
    status = Path(f"/proc/{server.pid}/status")
    if status.exists():
        kilobytes = int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0])
        assert kilobytes < 150_000
    assert is_served(server)


def test_ten_thousand_parameters(server: Server) -> None:
    """As many parameters as fit into the limit are handed over; more are refused with a line in the log."""
    main = "function main(env, con) local n = 0 for _ in pairs(env) do n = n + 1 end con:puts(n) end"
    server.write("count.lua", main)
    usual = server.params("count.lua")
    for length, status in ((3, 200), (30, 431)):
        before = len(server.log())
        more = {f"P{number}": "x" * length for number in range(10000)}
        with server.connect() as connection:
            connection.send(Client.request(usual | more))
            reply = connection.reply()
        assert reply.status == status
        if status == 200:
            # LUAFCGID_VERSION, and what is there though it has not been sent.
            always = {"GATEWAY_INTERFACE", "SERVER_NAME", "SERVER_PORT", "SERVER_SOFTWARE"}
            assert int(reply.body) == 10000 + len(usual) + len(always - set(usual)) + 1
        else:
            assert "431: more than 131072 bytes of parameters" in server.log()[before:]
        assert is_served(server)


@pytest.mark.parametrize("name", ["error.lua", "syntax.lua"])
@pytest.mark.parametrize("shown", [True, False])
def test_show_errors(serve: Callable[..., Server], shown: bool, name: str) -> None:
    """The error and its traceback reach the client only with show_errors, as harmless text; the log has them always."""
    server = serve(
        {
            "error.lua": "function main(env, con)\n  error('<script>alert(\"1\") &amp;</script>')\nend",
            "syntax.lua": "x = '<script>' '<script>'",
        },
        f"[scripts]\nshow_errors = {str(shown).lower()}\n",
    )
    reply = server.get(name)
    assert reply.status == 500
    assert reply.head["content-type"] == ["text/html; charset=utf-8"]
    assert b"<script>" not in reply.body
    assert (b"&lt;script&gt;" in reply.body) == shown
    assert (name.encode() in reply.body) == shown
    assert "<script>" in server.log()
    if name == "error.lua":
        assert (b"error.lua:2: in " in reply.body) == shown
        assert (b'alert("1") &amp;amp;&lt;/script&gt;' in reply.body) == shown
    missing = server.get("missing.lua")
    assert (missing.status, b"missing" in missing.body) == (404, False)


def test_hidden_from_head(serve: Callable[..., Server]) -> None:
    """A refusal to HEAD has no body, whatever is shown."""
    server = serve({"error.lua": "function main() error('x') end"}, "[scripts]\nshow_errors = true\n")
    for name, status in (("error.lua", 500), ("missing.lua", 404)):
        reply = server.get(name, REQUEST_METHOD="HEAD")
        assert (reply.status, reply.body) == (status, b"")
