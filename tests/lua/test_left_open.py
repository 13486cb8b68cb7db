"""Files that a script leaves open: when its request ends they are written, and closed unless it keeps them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.quota import Quota

from ..support.inside import FLAVOURS, Inside, Request
from ..support.running import Server, until


@pytest.fixture(params=FLAVOURS)
def lua(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Inside]:
    """Each Lua."""
    inside = Inside(tmp_path, request.param)
    inside.write("text.txt", "one\ntwo\n")
    inside.engine.files = Quota(100)
    yield inside
    inside.close()


def opened(lua: Inside) -> list[str]:
    """The names of the files below the root that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if path.startswith(str(lua.root)):
            found.append(os.path.basename(path))
    return sorted(found)


@pytest.mark.parametrize(
    "statements",
    [
        "local file = io.open('out.txt', 'w') file:write('written')",
        "io.open('out.txt', 'a'):write('written')",
        "local file = io.open('out.txt', 'w+') file:write('written') local f = function() return file end",
        "io.output('out.txt') io.write('written')",
        "local file = io.open('out.txt', 'w') file:setvbuf('full', 100000) file:write('written')",
        "local file = io.open('out.txt', 'w') file:write('written') error('an error')",
        "coroutine.wrap(function() local file = io.open('out.txt', 'w') file:write('written') coroutine.yield() end)()",
    ],
)
def test_what_is_left_open_is_written_and_closed(lua: Inside, statements: str) -> None:
    """Before the reply leaves, however the script ends."""
    state = lua.load(f"function main(env, con) {statements} end")
    lua.run(state)
    assert (lua.root / "out.txt").read_text() == "written"
    assert opened(lua) == []
    assert lua.engine.files is not None
    assert lua.engine.files.taken == 0
    state.close()


def test_a_state_that_is_thrown_away(lua: Inside) -> None:
    """Its files are written when it is closed, which is at once."""
    state = lua.load("function main() file = io.open('out.txt', 'w') file:write('written') while true do end end")
    assert "timeout" in lua.run(state, Request(seconds=0.1)).error
    assert not state.is_reusable
    state.close()
    assert (lua.root / "out.txt").read_text() == "written"
    assert opened(lua) == []


def test_what_was_read_is_closed(lua: Inside) -> None:
    """A file, one that lines are read from, and io.input."""
    state = lua.load("""
        function main(env, con)
            local file = io.open("text.txt")
            for line in io.lines("text.txt") do break end
            io.input("text.txt")
            con:puts(file:read("*l"), io.read("*l"))
        end
    """)
    assert lua.run(state).text == "oneone"
    assert opened(lua) == []
    state.close()


def test_a_file_that_is_kept_on_purpose_stays(lua: Inside) -> None:
    """In a global, a table there, or a local of the file; what has been written is there after each request."""
    state = lua.load("""
        local third
        function main(env, con)
            first = first or io.open("a.txt", "w")
            kept = kept or { file = io.open("b.txt", "w") }
            third = third or io.open("c.txt", "w")
            for _, file in ipairs { first, kept.file, third } do file:write("x") end
        end
    """)
    for number in range(1, 4):
        lua.run(state)
        assert opened(lua) == ["a.txt", "b.txt", "c.txt"]
        assert [(lua.root / name).read_text() for name in opened(lua)] == 3 * ["x" * number]
    state.close()
    assert opened(lua) == []


def test_one_that_is_kept_while_others_are_left(lua: Inside) -> None:
    """The one stays, also where as many are open as before."""
    state = lua.load("""
        function main(env, con)
            if log then log:close() end
            log = io.open("log.txt", "a")
            local other = io.open("other.txt", "w")
            other:write("x")
            log:write("y")
        end
    """)
    for number in range(1, 4):
        lua.run(state)
        assert opened(lua) == ["log.txt"]
        assert (lua.root / "log.txt").read_text() == "y" * number
    state.close()


def test_the_output_that_a_request_has_set_is_its_own(lua: Inside) -> None:
    """The next one's goes where it went before: to the log, or to the file that was set when the script was loaded."""
    main = """
        function main(env, con)
            io.write("a line\\n")
            if env.SET then io.output("set.txt") io.write("set\\n") io.input("text.txt") end
            con:puts(tostring(io.read()))
        end
    """
    state = lua.load(main)
    answers = [lua.run(state, Request(params)).text for params in ({}, {"SET": "1"}, {})]
    assert answers == ["nil", "one", "nil"]
    assert lua.log().count(": a line") == 3
    assert (lua.root / "set.txt").read_text() == "set\n"
    state.close()
    lua.forget_log()
    state = lua.load("io.output('first.txt')" + main)
    for params in ({}, {"SET": "1"}, {}):
        lua.run(state, Request(params))
    assert (lua.root / "first.txt").read_text() == 3 * "a line\n"
    assert lua.log() == ""
    state.close()


@pytest.mark.parametrize("version", ["luajit21", "lua51", "lua54"])
def test_with_a_state_for_each_request(tmp_path: Path, version: str) -> None:
    """Nothing is kept, and all is written, globals or not."""
    script = """
        function main(env, con)
            kept = io.open("out.txt", "a")
            kept:write("x")
            con:puts("written")
        end
    """
    settings = f'[states]\nper_request = true\n[lua]\nversion = "{version}"\n'
    with Server(tmp_path, {"page.lua": script}, settings) as server:
        for number in range(1, 4):
            assert server.get("page.lua").body == b"written"
            assert (server.root / "out.txt").read_text() == "x" * number
        descriptors = Path(f"/proc/{server.pid}/fd")
        until(lambda: "out.txt" not in "".join(os.readlink(path) for path in descriptors.iterdir()), "all to be closed")
