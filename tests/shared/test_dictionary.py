"""Dictionaries by LMDB and by Redis: one meaning, that of OpenResty's ngx.shared.DICT."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ..support.inside import Inside
from ..support.redis import PROGRAM, RedisServer

#: Shows values as Lua has them, several with a space between.
SHOW = """
local d = require("greenfcgi.shared").things
local function shown(...)
    local parts = {}
    for i = 1, select("#", ...) do
        local v = (select(i, ...))
        parts[i] = type(v) == "string" and v or type(v) == "number" and ("%.14g"):format(v) or tostring(v)
    end
    return table.concat(parts, " ")
end
local function p(...) con:puts(shown(...), "\\n") end
local function wait_until_gone(key)
    for _ = 1, 5000 do
        if d:get(key) == nil then return true end
        local busy = 0
        for i = 1, 20000 do busy = busy + i end
    end
end
d:flush_all()
"""
FLAVOURS = ("luajit21", "lua51", "lua54")


@pytest.fixture(scope="module", params=[f"{store}-{flavour}" for store in ("lmdb", "redis") for flavour in FLAVOURS])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A state's world with two dictionaries, things and others."""
    store, _, flavour = request.param.partition("-")
    folder = tmp_path_factory.mktemp(request.param)
    url = ""
    with ExitStack() as stack:
        if store == "redis":
            if PROGRAM is None:
                pytest.skip("needs redis-server")
            url = stack.enter_context(RedisServer(folder)).url
        inside = Inside(folder, flavour, f'[shared]\nthings = "1M"\nothers = "1M"\nurl = "{url}"\n')
        stack.callback(inside.close)
        yield inside


def answer(shared: Inside, statements: str) -> list[str]:
    """The lines that statements print, which have `d`, an empty dictionary, `p` and `shown`."""
    return shared.main(SHOW + textwrap.dedent(statements)).text.splitlines()


class TestValues:
    def test_kinds(self, shared: Inside) -> None:
        """What comes back is what went in, and of its type."""
        assert answer(
            shared,
            r"""
            local values = { "text", "", "a\0b\r\n", 0, 1, -7, 1.5, -0.25, 1e300, 2^53, true, false, ("x"):rep(70000),
                "12", "d1", "t", "f", "f3;x", 1/0, -1/0 }
            for i, value in ipairs(values) do
                d:set("k" .. i, value)
                local found, flags = d:get("k" .. i)
                if found ~= value or type(found) ~= type(value) or flags ~= nil then p("wrong", i, found) end
                if math.type and math.type(found) ~= math.type(value) then p("wrong type", i, found) end
            end
            d:set("nan", 0/0)
            local nan = d:get("nan")
            p(nan ~= nan, d:get("none"))
            """,
        ) == ["true nil"]

    def test_set(self, shared: Inside) -> None:
        """It replaces, also another type; nil deletes; what it returns."""
        assert answer(
            shared,
            """
            p(d:set("a", 1))
            p(d:set("a", "one"), d:get("a"))
            p(d:set("a", nil), d:get("a"))
            p(d:rpush("l", 1), d:set("l", 2), d:get("l"))
            p(d:delete("l"), d:get("l"), d:delete("never"))
            p(d:safe_set("s", 1), d:get("s"))
            """,
        ) == [
            "true nil false", "true one", "true nil", "1 true 2", "true nil true nil false", "true 1",
        ]  # fmt: skip

    def test_add_and_replace(self, shared: Inside) -> None:
        """Each where the other does nothing."""
        assert answer(
            shared,
            """
            p(d:replace("a", 1))
            p(d:add("a", 1))
            p(d:add("a", 2))
            p(d:get("a"), d:replace("a", 3), d:get("a"))
            p(d:safe_add("a", 4))
            p(d:safe_add("b", 4))
            p(d:rpush("l", 1), d:add("l", 2))
            p(d:add("n", nil))
            """,
        ) == [
            "false not found false", "true nil false", "false exists false", "1 true 3", "false exists false",
            "true nil false", "1 false exists false", "nil attempt to add or replace nil values",
        ]  # fmt: skip

    def test_flags(self, shared: Inside) -> None:
        """A number that goes with a value, also with a boolean, and stays when the value is counted up."""
        assert answer(
            shared,
            """
            p(d:set("a", "x", 0, 7), d:get("a"))
            p(d:set("a", false, nil, 4294967295), d:get("a"))
            p(d:set("a", true, 5, 1), d:get("a"))
            p(d:set("a", 1, 0, 9), d:incr("a", 1), d:get("a"))
            p(d:incr("a", 0.5), d:get("a"))
            p(d:set("a", 1), d:get("a"))
            """,
        ) == ["true x 7", "true false 4294967295", "true true 1", "true 2 2 9", "2.5 2.5 9", "true 1"]

    def test_keys_are_text(self, shared: Inside) -> None:
        """What is none is made text, as tostring does; any byte may be in one."""
        assert answer(
            shared,
            r"""
            d:set(12, "number") d:set(true, "boolean") d:set("a\0b*[?", "bytes")
            p(d:get("12"), d:get(12), d:get("true"), d:get("a\0b*[?"), d:get("a"))
            p(d:get(("k"):rep(500)), d:set(("k"):rep(500), 1), d:get(("k"):rep(500)), #d:keys())
            """,
        ) == ["number number boolean bytes nil", "nil true 1 4"]

    def test_dictionaries_are_apart(self, shared: Inside) -> None:
        """What one has, another has not."""
        assert answer(
            shared,
            """
            local others = require("greenfcgi.shared")("others")
            d:set("a", 1) others:set("b", 2)
            p(d:get("a"), d:get("b"), others:get("a"), others:get("b"))
            d:flush_all()
            p(d:get("a"), others:get("b"), d == require("greenfcgi.shared").things)
            """,
        ) == ["1 nil nil 2", "nil 2 true"]


class TestCounting:
    def test_incr(self, shared: Inside) -> None:
        """It adds to a number, and makes one with `init` only."""
        assert answer(
            shared,
            """
            p(d:incr("n", 1))
            p(d:incr("n", 2, 10))
            p(d:incr("n", 2, 10))
            p(d:incr("n", -20))
            p(d:incr("n", 0.5), d:incr("n", 0.5))
            p(d:incr("m", "3", "4"))
            d:set("t", "text") d:set("d", "12") d:set("b", true) d:rpush("l", 1)
            p(d:incr("t", 1)) p(d:incr("d", 1)) p(d:incr("b", 1)) p(d:incr("l", 1))
            """,
        ) == [
            "nil not found", "12 nil false", "14 nil false", "-6", "-5.5 -5", "7 nil false",
            *["nil not a number"] * 4,
        ]  # fmt: skip

    def test_large_integers(self, shared: Inside) -> None:
        """Where Lua has integers, all of their 64 bits count; beyond, it is a double."""
        assert answer(
            shared,
            """
            local big = math.maxinteger or 2^53 - 1
            d:set("n", big - 1)
            p(d:incr("n", 1) == big, d:get("n") == big)
            p(math.maxinteger and math.type(d:incr("n", 1)) or "float")
            """,
        ) == ["true true", "float"]

    def test_a_counter_keeps_its_time(self, shared: Inside) -> None:
        """`init_ttl` counts from the first time; later ones change nothing of it."""
        assert answer(
            shared,
            """
            p(d:incr("n", 1, 0, 100))
            p(d:incr("n", 1, 0, 5000))
            local left = d:ttl("n")
            p(left > 90 and left <= 100)
            d:incr("e", 1, 0, 0.05)
            p(wait_until_gone("e"), d:incr("e", 1, 5, 100))
            p(d:ttl("e") > 90)
            """,
        ) == ["1 nil false", "2 nil false", "true", "true 6 nil false", "true"]


class TestTime:
    def test_what_is_over_is_not_there(self, shared: Inside) -> None:
        """For no method."""
        assert answer(
            shared,
            """
            d:rpush("l", 1) d:expire("l", 0.02)
            for _, key in ipairs { "a", "b", "c", "d", "e", "f" } do d:set(key, 1, 0.03) end
            d:set("stays", 1)
            p(d:get("a"))
            p(wait_until_gone("f"))
            p(d:get("a"), d:llen("l"), d:lpop("l"))
            p(table.concat(d:keys(), ","))
            p(d:ttl("a")) p(d:expire("a", 5)) p(d:incr("a", 1)) p(d:replace("a", 1))
            p(d:add("b", 2), d:get("b"), d:ttl("b"))
            p(d:rpush("l", 2), d:rpop("l"))
            p(d:set("c", 3), d:get("c"), d:ttl("c"))
            """,
        ) == [
            "1", "true", "nil 0 nil nil", "stays", "nil not found", "nil not found", "nil not found",
            "false not found false", "true 2 0", "1 2", "true 3 0",
        ]  # fmt: skip

    def test_ttl_and_expire(self, shared: Inside) -> None:
        """0 is for ever; a set begins anew."""
        assert answer(
            shared,
            """
            local function near(x, y) return x > y - 5 and x <= y end
            p(d:set("a", 1, 100), near(d:ttl("a"), 100))
            p(d:expire("a", 1000), near(d:ttl("a"), 1000))
            p(d:expire("a", 0), d:ttl("a"))
            p(d:set("a", 1, 100), near(d:ttl("a"), 100), d:set("a", 2), d:ttl("a"))
            p(d:ttl("none")) p(d:expire("none", 1))
            p(d:set("b", 1, 2147483647), d:ttl("b") > 2147483000)
            """,
        ) == [
            "true true", "true true", "true 0", "true true true 0", "nil not found", "nil not found", "true true",
        ]  # fmt: skip

    def test_flush_expired(self, shared: Inside) -> None:
        """It removes only what is over, and says how many; Redis does that by itself."""
        is_redis = bool(shared.engine.config.shared.url)
        lines = answer(
            shared,
            """
            for i = 1, 5 do d:set("e" .. i, 1, 0.01) end
            d:set("stays", 1) d:set("later", 1, 100)
            wait_until_gone("e5")
            local n, started = 0, os.time()
            while n < 5 and os.time() - started < SECONDS do n = n + d:flush_expired(2) end
            p(n, d:flush_expired(), #d:keys())
            """.replace("SECONDS", "0" if is_redis else "3"),
        )
        assert lines == ["0 0 2" if is_redis else "5 0 2"]


class TestAll:
    def test_keys(self, shared: Inside) -> None:
        """At most 1,024, or as many as are wanted; 0 is all of them."""
        assert answer(
            shared,
            """
            for i = 1, 1500 do d:set("k" .. i, i) end
            local function distinct(keys)
                local seen = {}
                for _, key in ipairs(keys) do
                    if seen[key] or not key:find("^k%d+$") then return "wrong" end
                    seen[key] = true
                end
                return #keys
            end
            p(distinct(d:keys()), distinct(d:keys(7)), distinct(d:keys(0)), distinct(d:get_keys(1200)))
            d:flush_all()
            p(#d:keys(0))
            """,
        ) == ["1024 7 1500 1200", "0"]

    def test_lists(self, shared: Inside) -> None:
        """Both ends; an empty one is none."""
        assert answer(
            shared,
            r"""
            p(d:lpush("l", "a"), d:lpush("l", "b"), d:rpush("l", 3), d:rpush("l", "\0x"), d:rpush("l", 2.5))
            p(d:llen("l"), d:lpop("l"), d:rpop("l"), (d:rpop("l")) == "\0x", d:lpop("l"), d:lpop("l"))
            p(d:lpop("l")) p(d:llen("l"), d:get("l"))
            p(d:rpush("l", 1), d:llen("l"))
            d:set("v", 1)
            p(d:lpush("v", 1)) p(d:lpop("v")) p(d:llen("v")) p(d:get("l"))
            p(d:lpush("t", true))
            """,
        ) == [
            "1 2 3 4 5", "5 b 2.5 true a 3", "nil nil", "0 nil", "1 1", "nil value not a list", "nil value not a list",
            "nil value not a list", "nil value is a list", "nil bad value type",
        ]  # fmt: skip

    def test_long_lists(self, shared: Inside) -> None:
        """Thousands of elements in order; they go with their list, at once for whoever asks."""
        assert answer(
            shared,
            """
            for i = 1, 2000 do d:rpush("l", i) end
            for i = 1, 1000 do if d:lpop("l") ~= i then p("wrong", i) end end
            p(d:llen("l"), d:rpop("l"))
            p(d:delete("l"), d:llen("l"), d:rpush("l", "new"), d:lpop("l"), d:lpop("l"))
            """,
        ) == ["1000 2000", "true 0 1 new nil nil"]


class TestLocks:
    def test_one_holds_it(self, shared: Inside) -> None:
        """Until it is given back, by who has the token, or the time is over."""
        assert answer(
            shared,
            """
            local token = d:lock("job", 100)
            p(#token, d:lock("job", 100))
            p(d:unlock("job", "0123456789abcdef"))
            p(d:get("job"), #d:keys(), d:set("job", 1), d:delete("job"))
            d:flush_all()
            p(d:lock("job", 1))
            p(d:unlock("job", token)) p(d:unlock("job", token))
            local second = d:lock("job", 0.03)
            p(second ~= token)
            local third
            repeat third = d:lock("job", 100) until third
            p(third ~= second, d:unlock("job", second))
            p(d:unlock("job", third))
            """,
        ) == [
            "16 nil locked", "nil not locked", "nil 0 true true nil false", "nil locked", "true", "nil not locked",
            "true", "true nil not locked", "true",
        ]  # fmt: skip


class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "expected"),
        [
            ('d:set("a", 1, -1)', 'error bad "exptime" argument'),
            ('d:set("a", 1, 0/0)', 'error bad "exptime" argument'),
            ('d:set("a", 1, "5")', 'error bad "exptime" argument'),
            ('d:set("a", 1, 1e12)', 'error bad "exptime" argument'),
            ('d:add("a", 1, -1)', 'error bad "exptime" argument'),
            ('d:set("a", 1, 0, -1)', 'error bad "flags" argument'),
            ('d:set("a", 1, 0, 1.5)', 'error bad "flags" argument'),
            ('d:set("a", {})', "nil bad value type"),
            ('d:set("a", print)', "nil bad value type"),
            ("d:set(nil, 1)", "nil nil key"),
            ('d:set("", 1)', "nil empty key"),
            ('d:set(("k"):rep(501), 1)', "nil key too long"),
            ("d:get()", "nil nil key"),
            ('d:get("")', "nil empty key"),
            ('d:get(("k"):rep(501))', "nil key too long"),
            ('d:incr("a", "x")', "error bad value arg: number expected, got string"),
            ('d:incr("a", nil)', "error bad value arg: number expected, got nil"),
            ('d:incr("a", 1, "x")', "error bad init arg: number expected, got string"),
            ('d:incr("a", 1, 0, -1)', 'error bad "init_ttl" argument'),
            ('d:incr("a", 1, 0, {})', "error bad init_ttl arg: number expected, got table"),
            ('d:incr("a", 1, nil, 5)', 'error must provide "init" when providing "init_ttl"'),
            ('d:expire("a")', 'error bad "exptime" argument'),
            ('d:expire("a", -1)', 'error bad "exptime" argument'),
            ("d:ttl(nil)", "nil nil key"),
            ("d:keys(-1)", 'error bad "max_count" argument'),
            ('d:flush_expired("x")', 'error bad "max_count" argument'),
            ("d:lpush(nil, 1)", "nil nil key"),
            ('d:lpop("")', "nil empty key"),
            ('d:llen(("k"):rep(501))', "nil key too long"),
            ('d:lock("a")', 'error bad "ttl" argument'),
            ('d:lock("a", 0)', 'error bad "ttl" argument'),
            ('d:lock("", 1)', "nil empty key"),
            ('d:unlock("a")', 'error bad "token" argument'),
            ('d.get("a")', "error get: called with a dot, or on no dictionary: write shared.name:get(...)"),
            ('d.set({}, "a", 1)', "error set: called with a dot, or on no dictionary: write shared.name:set(...)"),
            ('require("greenfcgi.shared").none', 'error shared: no dictionary "none" in [shared] of config.toml'),
            ('require("greenfcgi.shared")(7)', "error shared: expected the name of a dictionary, got number"),
            ('getmetatable(d)', "false"),
        ],
    )  # fmt: skip
    def test_names_the_argument(self, shared: Inside, call: str, expected: str) -> None:
        """In the words of the original, at the line of the script."""
        found = answer(
            shared,
            f"""
            local function called(ok, ...)
                if ok then p(...) else p("error", ((...):gsub("^.*page.lua:%d+: ", ""))) end
            end
            called(pcall(function() return {call} end))
            """,
        )
        assert found == [expected]
