"""Applications of Orbit: the real one, as Debian has it, on the server's WSAPI and its luasql.sqlite3."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ...support.running import Server

ROCKS = Path("/usr/share/lua/5.1")
SAMPLES = Path("/usr/share/doc/lua-orbit")
SETTINGS = '[scripts]\nextensions = [".lua", ".ws"]\n[lua]\nversion = "%s"\npath = ["%s"]\ncpath = ["system"]\n'
# It uses module and setfenv.
FLAVOURS = ("luajit21", "lua51")

pytestmark = pytest.mark.skipif(not Path(ROCKS, "orbit.lua").exists(), reason="needs Orbit (Debian: lua-orbit)")

NOTES = """
local orbit, cosmo = require "orbit", require "cosmo"
local sqlite = require "luasql.sqlite3"
local notes = orbit.new()
local R = require "orbit.routes"

notes.mapper.conn = sqlite.sqlite3():connect(notes.real_path .. "/notes.db")
notes.mapper.driver = "sqlite3"
notes.mapper.conn:execute("create table if not exists note (id integer primary key, title text, done boolean)")
local note = notes:model "note"

local page = cosmo.compile "$notes[[<li>$id $title</li>]]"

notes:dispatch_get(function(web)
    return page { notes = note:find_all { order = "id" } }
end, R "/")
notes:dispatch_get(function(web, params)
    local found = note:find(tonumber(params.id))
    return found and found.title or notes.not_found(web)
end, R "/note/:id")
notes:dispatch_post(function(web)
    local new = note:new { title = web.input.title, done = false }
    new:save()
    return web:redirect(web:link("/note/" .. new.id))
end, R "/note")
return notes
"""


@pytest.fixture(params=FLAVOURS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Server:
    """A server that is not started, with a cpath: a process has one Lua then."""
    return Server(tmp_path, {}, SETTINGS % (request.param, ROCKS))


FORM = {"CONTENT_TYPE": "application/x-www-form-urlencoded"}


def test_routes_and_a_model(server: Server) -> None:
    """What is posted is in the database, also in other states."""
    server.write("notes.lua", NOTES)
    with server:
        assert server.get("notes.lua", PATH_INFO="/").body == b""
        for number, title in enumerate((b"milk", b"it%27s+tea"), 1):
            reply = server.get("notes.lua", b"title=" + title, PATH_INFO="/note", **FORM)
            assert (reply.status, reply.head["location"]) == (302, [f"/notes.lua/note/{number}"])
        assert server.get("notes.lua", PATH_INFO="/").body == b"<li>1 milk</li><li>2 it's tea</li>"
        assert server.get("notes.lua", PATH_INFO="/note/2").body == b"it's tea"
        assert server.get("notes.lua", PATH_INFO="/note/3").status == 404
        assert server.get("notes.lua", PATH_INFO="/nothing").status == 404


@pytest.mark.skipif(not (SAMPLES / "hello").exists(), reason="the samples are not installed here")
def test_its_samples(server: Server) -> None:
    """hello and songs, as they come. (blog wants another version of the cache than Debian has.)"""
    for name in ("hello", "songs"):
        shutil.copytree(SAMPLES / name, server.root / name)
    with server:
        reply = server.get("hello/hello.lua", PATH_INFO="/say/ada", QUERY_STRING="greeting=Hi+")
        assert (reply.status, b"Hi ada!" in reply.body) == (200, True)
        assert b"Lovely Rita" in server.get("songs/songs.lua", PATH_INFO="/").body
