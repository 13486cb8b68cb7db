"""What a client does wrong: a value for scripts that look at it, else a reply with a status from 400 to 499."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.lua.bridge import Module
from tests.support.inside import FLAVOURS, Inside, Request


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua, with a module that refuses whatever it is told to."""
    inside = Inside(tmp_path, request.param)
    source = b"local lua, server = ... return { refuse = function(...) server.bad_requests.refuse(...) end }"
    inside.engine.modules.by_name[b"door"] = Module("door", lambda: source, lambda bridge: {})
    yield inside
    inside.close()


def test_nobody_looks_at_it(lua: Inside) -> None:
    """It is the reply; what the script had written and set goes, the state stays, and no failure is reported."""
    state = lua.load(
        """
        local n = 0
        function main(env, con)
            n = n + 1
            con:header("X-Mine", "1")
            con:status(201)
            con:puts("half a page")
            if n ~= 3 then coroutine.wrap(function() require("door").refuse(413, "too long: 9 bytes") end)() end
            con:puts(n)
        end
        """
    )
    for _ in range(2):
        answer = lua.run(state)
        assert answer.lines == ["Status: 413 Content Too Large", "Content-Type: text/plain; charset=utf-8"]
        assert answer.text == "too long: 9 bytes\n"
    answer = lua.run(state)
    assert answer.text == "half a page3"
    assert "X-Mine: 1" in answer.lines
    assert lua.log().count("[INFO]") == lua.log().count("GET /page.lua: 413: too long: 9 bytes\n") == 2, lua.log()
    assert "traceback" not in lua.log()
    assert state.is_reusable


def test_a_script_looks_at_it(lua: Inside) -> None:
    """It has a status and a message, its text is the message, and it can be raised again."""
    answer = lua.main(
        """
        local ok, problem = pcall(require("door").refuse, 400, "no form")
        con:puts(tostring(ok), problem.status, problem.message, tostring(problem), tostring(getmetatable(problem)))
        if env.QUERY_STRING == "again" then error(problem) end
        """,
        Request({"QUERY_STRING": "again"}),
    )
    assert answer.text == "no form\n"
    assert answer.status == 400


def test_what_has_been_sent_stays(lua: Inside) -> None:
    """Behind a flush it is a failure as others."""
    answer = lua.main('con:puts("a") con:flush() require("door").refuse(400, "no form")')
    assert answer.body == b"a"
    assert answer.error == "no form"
    answer = lua.main('con:puts("a") con:finish() require("door").refuse(400, "no form")')
    assert answer.body == b"a"


def test_to_head(lua: Inside) -> None:
    """There is no body."""
    answer = lua.main('require("door").refuse(404, "nothing here")', Request({"REQUEST_METHOD": "HEAD"}))
    assert (answer.status, answer.text) == (404, "")


def test_a_script_that_spoils_it(lua: Inside) -> None:
    """Fields that are none make it a plain 400; a table that looks like it is none."""
    answer = lua.main(
        """
        local ok, problem = pcall(require("door").refuse, 404, "x")
        problem.status, problem.message = 200, {}
        error(problem)
        """
    )
    assert (answer.status, answer.text) == (400, "bad request\n")
    assert "status" in lua.main('error({ status = 404, message = "x" })').error
