"""math.random: different in each state, and still a script's own to seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ..support.inside import FLAVOURS, Inside
from ..support.running import Server

DRAW = "con:puts(table.concat({ math.random(1e9), math.random(1e9), math.random(1e9), math.random(1e9) }, ' '))"
SCRIPT = f"function main(env, con) {DRAW} end"


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """One flavour after the other."""
    inside = Inside(tmp_path_factory.mktemp(request.param), request.param)
    yield inside
    inside.close()


def test_states_have_numbers_of_their_own(lua: Inside) -> None:
    """Clones, and states made anew by another process's worth of settings, draw different numbers."""
    drawn = [lua.run(lua.load(SCRIPT)).text for _ in range(8)]
    assert len(set(drawn)) == 8
    assert len({number for text in drawn for number in text.split()}) > 30


@pytest.mark.parametrize("per_request", [True, False])
def test_processes_and_restarts(serve: Callable[..., Server], per_request: bool) -> None:
    """No two processes, states or requests begin with the same numbers."""
    settings = f"processes = 2\n[states]\nper_request = {str(per_request).lower()}\n"
    server = serve({"draw.lua": SCRIPT}, settings)
    drawn = [server.get("draw.lua").body for _ in range(20)]
    server.stop()
    server.log_path.unlink()
    server.start()
    drawn += [server.get("draw.lua").body for _ in range(20)]
    assert len(set(drawn)) == 40


def test_a_seed_repeats_and_is_the_state_s_own(lua: Inside) -> None:
    """The same seed gives the same numbers, whatever other states draw or seed meanwhile."""
    seeded = f"function main(env, con) math.randomseed(42) {DRAW} end"
    expected = lua.run(lua.load(seeded)).text
    assert lua.run(lua.load(seeded)).text == expected
    one, other = lua.load(seeded + "\nmath.randomseed(1)"), lua.load(SCRIPT)
    first = lua.run(other).text
    assert lua.run(one).text == expected
    # Had `one` seeded the numbers of all states, this would go on where it stopped.
    again = lua.load(f"function main(env, con) math.randomseed(42) for i = 1, 4 do math.random(1e9) end {DRAW} end")
    assert lua.run(other).text not in (first, lua.run(again).text)


def test_seeds_of_the_time(lua: Inside) -> None:
    """Where Lua seeds itself when it is asked to, it takes something better than the time."""
    text = f"if _VERSION >= 'Lua 5.4' then math.randomseed() end {SCRIPT}"
    assert len({lua.run(lua.load(text)).text for _ in range(8)}) == 8


def test_numbers_are_spread(lua: Inside) -> None:
    """Each of ten parts gets its share, from both ends of a range and from 0 to 1."""
    statements = """
        local parts, whole = {}, {}
        for i = 1, 10 do parts[i], whole[i] = 0, 0 end
        for i = 1, 10000 do
            local x = math.random()
            assert(x >= 0 and x < 1)
            parts[math.floor(x * 10) + 1] = parts[math.floor(x * 10) + 1] + 1
            local n = math.random(-4, 5)
            whole[n + 5] = whole[n + 5] + 1
        end
        for i = 1, 10 do
            assert(parts[i] > 800 and parts[i] < 1200, parts[i])
            assert(whole[i] > 800 and whole[i] < 1200, whole[i])
        end
        con:puts(math.random(3, 3), " ", math.random(1))
    """
    assert lua.main(statements).text == "3 1"


def test_arguments(lua: Inside) -> None:
    """What no generator takes is an error of the script's line."""
    for call, problem in (
        ("math.random('x')", "number expected, got string"),
        ("math.random({})", "number expected, got table"),
        ("math.randomseed({})", "number expected, got table"),
    ):
        error = lua.main(f"local a\n{call}").error
        assert "page.lua:3: bad argument" in error
        assert problem in error
    if not lua.engine.name.startswith("LuaJIT"):
        assert "interval is empty" in lua.main("math.random(2, 1)").error
    assert lua.main("con:puts(tostring(math.random('3') <= 3))").text == "true"
