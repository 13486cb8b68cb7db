"""init, shutdown and heartbeat of a script, and the script that runs before each one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from greenfcgi.errors import ScriptBroken
from greenfcgi.fastcgi.client import Client

from ..support.inside import FLAVOURS, Inside, Request
from ..support.running import Server, until


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """One flavour after the other, with a startup script."""
    tmp_path.joinpath("startup.lua").write_text("order = 'startup '\nfunction greet() return 'hello' end\n")
    inside = Inside(tmp_path, request.param, '[scripts]\nstartup = "startup.lua"\n[app]\nname = "settings"\n')
    yield inside
    inside.close()


def logged(lua: Inside, name: str = "page.lua") -> list[str]:
    """What the script has logged outside of requests: the level, and the text behind the script's path."""
    return [f"{level} {text}" for level, text in re.findall(rf"\[(\w+)\] \S*/{name}: (.*)", lua.log())]


class TestInit:
    def test_once_for_each_state(self, lua: Inside) -> None:
        """init runs when the whole script has run, once for each state, before the first request."""
        text = """
            n = 0
            function init() n = n + 1 order = order .. "init " end
            order = order .. "script "
            function main(env, con) con:puts(order .. n) end
        """
        one, other = lua.load(text), lua.load(text)
        assert [lua.run(state).text for state in (one, one, other)] == ["startup script init 1"] * 3

    def test_con(self, lua: Inside) -> None:
        """Its con has settings, the log and sleep; there is no request to answer."""
        lua.load(
            """
            function init(con)
                con:log("debug", con:config("name"))
                print("printed")
                con:sleep(0)
                con:sleep(0.001)
                con:log("warning", tostring(con.puts) .. tostring(con.header) .. tostring(con.gets))
                local ok, problem = pcall(con.sleep, con, -1)
                con:log(type(problem))
            end
            function main() end
            """
        )
        assert logged(lua) == ["DEBUG settings", "INFO printed", "WARNING nilnilnil", "INFO string"]

    def test_error(self, lua: Inside) -> None:
        """A script whose init fails does not load, and its shutdown is not run."""
        hooks = "function shutdown(con) con:log('shut down') end\nfunction init()\nerror('no database') end"
        with pytest.raises(ScriptBroken, match=r"page\.lua:3: no database") as caught:
            lua.load(f"function main() end {hooks}")
        assert "page.lua:3: in " in caught.value.traceback
        assert logged(lua) == []

    def test_not_a_function(self, lua: Inside) -> None:
        """A global of that name that is no function is the script's own affair."""
        state = lua.load("init, heartbeat, shutdown = 1, {}, 'x' function main(env, con) con:puts(init) end")
        state.hook("heartbeat")
        assert lua.run(state).text == "1"
        state.close()
        assert lua.log().count("ERROR") == 0


class TestHeartbeatAndShutdown:
    def test_hooks(self, lua: Inside) -> None:
        """They share the globals with the handler, and have init's con."""
        state = lua.load(
            """
            function main(env, con) visits = (visits or 0) + 1 con:puts(visits) end
            function heartbeat(con) con:sleep(0) con:log("visits: " .. tostring(visits)) end
            function shutdown(con) con:log("critical", "gone after " .. visits .. con:config("name")) end
            """
        )
        state.hook("heartbeat")
        assert [lua.run(state).text for _ in range(2)] == ["1", "2"]
        state.hook("heartbeat")
        state.close()
        state.close()
        assert logged(lua) == ["INFO visits: nil", "INFO visits: 2", "CRITICAL gone after 2settings"]

    @pytest.mark.parametrize(
        "raised", ["'broken'", "{}", "setmetatable({}, { __tostring = function() return 'own' end })"]
    )
    def test_errors_are_logged(self, lua: Inside, raised: str) -> None:
        """An error in a hook is one line in the log with its traceback; the state goes on."""
        state = lua.load(
            f"""
            function main(env, con) con:puts("on") end
            function heartbeat()
                error({raised})
            end
            function shutdown() error({raised}) end
            """
        )
        state.hook("heartbeat")
        state.hook("heartbeat")
        assert lua.run(state).text == "on"
        assert state.is_reusable
        state.close()
        lines = logged(lua)
        assert [line.split(": ")[0] for line in lines] == ["ERROR heartbeat", "ERROR heartbeat", "ERROR shutdown"]
        assert re.search(r"(page\.lua:4: broken|\(error object is a table value\)|: own)$", lines[0])
        assert re.search(r"stack traceback:\n.*\n? .*page\.lua:4: in ", lua.log())

    def test_memory(self, lua: Inside) -> None:
        """A hook that takes all memory is stopped; the state is not used again."""
        if lua.engine.limited:
            state = lua.load("function main() end function heartbeat() local t = {} while true do t = { t } end end")
            state.hook("heartbeat")
            assert logged(lua) == ["ERROR heartbeat: out of memory (lua.memory is 33554432 bytes)"]
            assert not state.is_reusable


class TestStartup:
    def test_runs_before_each_script(self, lua: Inside) -> None:
        """What it defines is there for each script, at its top already."""
        for name in ("a.lua", "b.lua"):
            state = lua.load("at_top = greet() function main(env, con) con:puts(at_top .. order) end", name)
            assert lua.run(state).text == "hellostartup "

    def test_error(self, lua: Inside) -> None:
        """An error in it keeps the script from loading, and names the startup script."""
        lua.write("../startup.lua", "local x\nx.y = 1\n")
        with pytest.raises(ScriptBroken, match=r"startup\.lua:2: attempt to index"):
            lua.load("function main() end")

    def test_needs_no_handler(self, lua: Inside) -> None:
        """It defines no handler; one that it defines is not enough either."""
        with pytest.raises(ScriptBroken, match=r"page\.lua: defines no function main"):
            lua.load("x = 1")


class TestOnTheServer:
    def test_heartbeat_and_shutdown(self, serve: Callable[..., Server]) -> None:
        """heartbeat runs on idle states at each beat, also while a request runs in another; shutdown at the end."""
        server = serve(
            {
                "a.lua": """
                    beats = 0
                    function init(con) con:log("init") end
                    function heartbeat(con) beats = beats + 1 con:log("beat " .. beats) end
                    function shutdown(con) con:log("shut down") end
                    function main(env, con) if env.QUERY_STRING == "wait" then con:sleep(3600) end con:puts(beats) end
                """
            },
            "heartbeat = 0.02\ngraceful_timeout = 0.1\n",
        )
        assert server.get("a.lua").body == b"0"
        server.logged("a.lua: beat 3\n")
        with server.connect() as connection:
            connection.send(Client.request(server.params("a.lua?wait")))
            # The first one may come before the request that waits.
            until(
                lambda: server.get("a.lua").status == 200 and server.log().count("a.lua: init\n") == 2,
                "a second state's reply",
            )
            until(lambda: int(server.get("a.lua").body) >= 3, "three beats of the second state")
        assert server.stop() == 0
        assert server.log().count("a.lua: shut down\n") >= 1

    def test_hook_that_waits(self, serve: Callable[..., Server]) -> None:
        """A heartbeat that waits holds up neither requests nor the heartbeats of others for good."""
        server = serve(
            {
                "slow.lua": """
                    function heartbeat(con) con:log("slow") con:sleep(3600) end
                    function main(env, con) con:puts("a") end
                """,
                "b.lua": "function main(env, con) con:puts('b') end",
            },
            "heartbeat = 0.02\n",
        )
        assert server.get("slow.lua").body == b"a"
        server.logged("slow.lua: slow\n")
        # Its state is busy with the hook: the request gets another one.
        assert server.get("slow.lua").body == b"a"
        assert server.get("b.lua").body == b"b"

    def test_failing_heartbeat(self, serve: Callable[..., Server]) -> None:
        """A heartbeat that fails is logged at each beat, and the script is served."""
        server = serve(
            {"a.lua": "function heartbeat() error('no pulse') end function main(env, con) con:puts('a') end"},
            "heartbeat = 0.02\n",
        )
        assert server.get("a.lua").body == b"a"
        until(lambda: server.log().count("a.lua: heartbeat: ") >= 2, "two failures in the log")
        assert "[ERROR]" in server.log()
        assert server.get("a.lua").body == b"a"


def test_request_in_a_hook_is_none(tmp_path: Path) -> None:
    """A con that main has kept is refused in a hook, instead of writing to nobody."""
    lua = Inside(tmp_path)
    state = lua.load(
        """
        function main(env, con) kept = con end
        function heartbeat(con)
            for _, name in ipairs { "puts", "flush", "gets", "header", "status", "reset" } do
                con:log(select(2, pcall(kept[name], kept, 200)))
            end
        end
        """
    )
    lua.run(state, Request())
    state.hook("heartbeat")
    assert lua.log().count("this con belongs to a request that has ended") == 6
    lua.close()
