"""Modules for scripts that users write in Python: what crosses, what does not, and what a failure leaves."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenfcgi.modules import values

from ..support.inside import FLAVOURS, Inside, Request
from ..support.running import PATIENCE, Server, until

MODULE = """
import math
import time
import greenfcgi

@greenfcgi.export
def echo(*values):
    return values

@greenfcgi.export
def kinds(*values):
    return [type(value).__name__ for value in values]

@greenfcgi.export
def shown(value):
    return repr(value)

@greenfcgi.export
def given():
    return {"text": "ü", b"bytes": b"\\0\\xff", "list": (1, [2.5], []), "deep": {"x": {"y": None, "z": True}},
            "big": 2**53, "negative": -5, "inf": math.inf, "buffer": bytearray(b"b")}

@greenfcgi.export
def fail(text=b"no"):
    raise ValueError(text.decode())

@greenfcgi.export
def leave():
    raise SystemExit(3)

@greenfcgi.export
def odd(what):
    nested = []
    nested.append(nested)
    return {b"object": object(), b"int": 2**64, b"key": {1: 2}, b"nested": nested, b"set": {1}}[what]

@greenfcgi.export(blocking=True)
def wait(seconds, text=b"waited"):
    time.sleep(seconds)
    return text

@greenfcgi.export(blocking=True)
def wait_and_fail(seconds):
    time.sleep(seconds)
    raise RuntimeError("after all")

def hidden():
    return "not exported"
"""
#: Writes a value of Lua as text.
SHOW = """
local function show(v)
    if type(v) ~= "table" then return tostring(v) end
    local parts = {}
    for key, value in pairs(v) do parts[#parts + 1] = tostring(key) .. "=" .. show(value) end
    table.sort(parts)
    return "{" .. table.concat(parts, ",") .. "}"
end
local function shown(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = show((select(i, ...))) end
    return table.concat(parts, " ")
end
local m = require "mine"
"""


@pytest.fixture(scope="module", params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """One flavour after the other, with a module "mine"."""
    folder = tmp_path_factory.mktemp(request.param)
    package = f"things_{request.param}"
    (folder / package).mkdir()
    (folder / package / "mine.py").write_text(MODULE)
    inside = Inside(folder, request.param, f'[modules]\nmine = "{package}.mine"\n')
    yield inside
    inside.close()


def run_greenfcgi(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder` until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "greenfcgi", *arguments], cwd=folder, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip


def answer(lua: Inside, statements: str) -> str:
    """What statements print, which have `m`, the module, and `shown`."""
    return lua.main(SHOW + textwrap.dedent(statements)).text


class TestCrossing:
    """Values on their way there and back."""

    def test_there(self, lua: Inside) -> None:
        """Each kind of value is one of Python's."""
        sent = 'nil, true, 7, 1.5, "a\\0b", {}, {1, 2}, {a = 1}, {{{}}}'
        assert answer(lua, f"con:puts(shown(m.kinds({sent})))") == (
            "{1=NoneType,2=bool,3=int,4=float,5=bytes,6=dict,7=list,8=dict,9=list}"
        )
        nested = "{a = {1, {b = 'x'}}, c = false}"
        assert sorted(answer(lua, f"con:puts((m.shown({nested})))")) == sorted("{b'a': [1, {b'b': b'x'}], b'c': False}")

    def test_back(self, lua: Inside) -> None:
        """Each kind of Python's is one of Lua's; None in a table is nothing."""
        found = answer(lua, "local t = m.given() t.bytes = #t.bytes t.big = t.big == 2 ^ 53 con:puts(shown(t))")
        assert found == (
            "{big=true,buffer=b,bytes=2,deep={x={z=true}},inf=inf,list={1=1,2={1=2.5},3={}},negative=-5,text=ü}"
        )

    def test_there_and_back(self, lua: Inside) -> None:
        """A tuple is as many results; what went out comes back."""
        assert answer(lua, "con:puts(select('#', m.echo()), ' ', select('#', m.echo(nil, nil)))") == "0 2"
        values = "1, -1.5, 'text', nil, false, {1, {2}}, {k = {}}"
        assert answer(lua, f"con:puts(shown(m.echo({values})))") == "1 -1.5 text nil false {1=1,2={1=2}} {k={}}"
        assert answer(lua, "local n = m.echo(0/0) con:puts(shown(n ~= n, m.echo(1/0, -1/0)))") == "true inf -inf"
        assert answer(lua, "local s = ('x'):rep(1e6) con:puts(tostring(m.echo(s) == s))") == "true"

    @pytest.mark.parametrize(
        ("sent", "problem"),
        [
            ("print", "found function, expected nil, boolean, number, string, or a table of these"),
            ("{1, print}", "found function, expected nil, boolean, number, string, or a table of these"),
            ("coroutine.create(print)", "found thread, expected nil, boolean, number, string, or a table of these"),
            ("io.stdout", "found userdata, expected nil, boolean, number, string, or a table of these"),
            ("{1, nil, 3}", "found an array of 2 values that ends at 3, expected one without holes"),
            ("{1, a = 2}", "found a table with strings and numbers as keys, expected one or the other"),
            ("{[true] = 1}", "found a table with a key of type boolean, expected strings, or 1 to n"),
            ("{[1.5] = 1}", "found a table with a key of type number, expected strings, or 1 to n"),
            ("itself", "tables nested more than 32 deep, or in themselves"),
            ("many", "more than 10000 values"),
        ],
    )
    def test_what_does_not_cross(self, lua: Inside, sent: str, problem: str) -> None:
        """One line says what was found, and where."""
        found = answer(
            lua,
            f"""
            local itself, many = {{}}, {{}}
            itself.itself = itself
            for i = 1, 10000 do many[i] = i end
            con:puts(shown(pcall(function() m.echo(0, {sent}) end)))
            """,
        )
        assert found.startswith("false ")
        assert found.endswith(f": mine.echo: argument 2: {problem}")

    @pytest.mark.parametrize(
        ("what", "problem"),
        [
            ("object", "found object, expected None, bool, int, float, str, bytes, or a list or dict of these"),
            ("set", "found set, expected None, bool, int, float, str, bytes, or a list or dict of these"),
            ("int", "a whole number of more than 64 bits"),
            ("key", "found a dict with a key of type int, expected str or bytes"),
            ("nested", "lists and dicts nested more than 32 deep, or in themselves"),
        ],
    )
    def test_what_does_not_come_back(self, lua: Inside, what: str, problem: str) -> None:
        """The same of what a function returns."""
        found = answer(lua, f"con:puts(shown(pcall(m.odd, '{what}')))")
        assert found == f"false mine.odd: what it returned cannot be passed to Lua: {problem}"

    def test_metatables_are_passed_over(self, lua: Inside) -> None:
        """A table is what is in it, whatever it claims."""
        found = answer(
            lua,
            """
            local t = setmetatable({1, 2}, {
                __len = function() error("len") end, __index = function() error("index") end,
                __pairs = function() error("pairs") end, __tostring = function() error("tostring") end,
            })
            con:puts(shown(m.echo(t)))
            """,
        )
        assert found == "{1=1,2=2}"


class TestFailures:
    """What a function raises, and what else may come between."""

    def test_an_exception_is_an_error_of_one_line(self, lua: Inside) -> None:
        """At the script's line; the traceback is in the error log."""
        lua.forget_log()
        failed = lua.main(SHOW + "m.fail('no\\nway')")
        assert failed.error.endswith(": mine.fail: ValueError: no\\nway")
        assert ": mine.fail: ValueError: no\\nway" in lua.log()
        assert "raise ValueError(text.decode())" in lua.log()
        assert answer(lua, "con:puts(type(select(2, pcall(m.fail))))") == "string"

    def test_wrong_arguments(self, lua: Inside) -> None:
        """Python says what is wrong."""
        found = answer(lua, "con:puts(shown(pcall(m.wait)))")
        assert found == "false mine.wait: TypeError: wait() missing 1 required positional argument: 'seconds'"

    def test_the_end_of_the_process_is_an_error(self, lua: Inside) -> None:
        """SystemExit ends nothing."""
        assert answer(lua, "con:puts(shown(pcall(m.leave)))") == "false mine.leave: SystemExit: 3"

    def test_only_what_is_exported(self, lua: Inside) -> None:
        """Nothing else of the module can be seen, and the table is of functions of Lua's."""
        found = answer(
            lua,
            """
            local names = {}
            for name, value in pairs(m) do
                names[#names + 1] = name
                assert(type(value) == "function")
            end
            table.sort(names)
            con:puts(table.concat(names, " "), " ", tostring(m.hidden), tostring(getmetatable(m)))
            """,
        )
        assert found == "echo fail given kinds leave odd shown wait wait_and_fail nilnil"

    def test_blocking(self, lua: Inside) -> None:
        """The script waits, also in a coroutine."""
        assert answer(lua, "con:puts((m.wait(0.001)))") == "waited"
        assert answer(lua, "con:puts(coroutine.wrap(function() return m.wait(0.001, 'there') end)())") == "there"
        assert answer(lua, "con:puts(shown(pcall(m.wait_and_fail, 0.001)))") == (
            "false mine.wait_and_fail: RuntimeError: after all"
        )

    def test_blocking_ends_with_the_time_of_the_script(self, lua: Inside) -> None:
        """Whatever the function goes on to do."""
        answered = lua.main(SHOW + "pcall(m.wait, 0.5) con:puts('not reached')", Request(seconds=0.05))
        assert answered.failure is not None
        assert answered.failure.status == 504

    def test_in_finalizers_and_handlers(self, lua: Inside) -> None:
        """A call in the midst of another one, as finalizers make it, harms neither."""
        found = answer(
            lua,
            """
            local function finalized(f)
                if newproxy then
                    local object = newproxy(true)
                    getmetatable(object).__gc = f
                    return object
                end
                return setmetatable({}, { __gc = f })
            end
            for i = 1, 50 do
                finalized(function() pcall(m.echo, { "from a finalizer", { i } }) end)
                local list = {}
                for j = 1, 200 do list[j] = "text " .. j end
                local back = m.echo(list)
                assert(#back == 200 and back[200] == "text 200")
            end
            collectgarbage()
            con:puts(shown(xpcall(function() m.fail() end, function(problem) return m.echo(problem) end)))
            """,
        )
        assert found.endswith("mine.fail: ValueError: no")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.binary(),
        lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.binary(), inner),
        max_leaves=20,
    )
)
def test_any_value_is_written_and_read(value: object) -> None:
    """What is written is read as the same."""
    assert values.decode(values.encode((value,))) == [value]


CONFIG = '[modules]\nmine = "shop.mine"\n'


def write_module(folder: Path, text: str) -> None:
    """Save shop/mine.py beside config.toml."""
    (folder / "shop").mkdir(exist_ok=True)
    (folder / "shop" / "mine.py").write_text(textwrap.dedent(text))


def test_others_go_on_while_a_function_blocks(tmp_path: Path) -> None:
    """Thirty scripts wait in threads, more than there are, and a hello is answered meanwhile."""
    write_module(
        tmp_path,
        """
        import threading, greenfcgi
        gate = threading.Event()
        @greenfcgi.export(blocking=True)
        def wait(): return gate.wait(20)
        @greenfcgi.export
        def open(): gate.set()
        """,
    )
    with Server(tmp_path, settings=CONFIG) as server:
        server.write("wait.lua", "function main(env, con) con:puts(tostring(require('mine').wait())) end")
        server.write("open.lua", "function main(env, con) require('mine').open() end")
        server.write("hello.lua", "function main(env, con) con:puts('hello') end")
        waiting = [server.connect() for _ in range(30)]
        for one in waiting:
            one.send(server.request("wait.lua"))
        assert server.get("hello.lua").body == b"hello"
        server.get("open.lua")
        for one in waiting:
            with one:
                assert one.reply().body == b"true"


def test_a_saved_module_is_served(tmp_path: Path) -> None:
    """As a module in Lua is: the next request has it, and one that is broken leaves the last good one."""
    text = "import greenfcgi\n@greenfcgi.export\ndef word(): return {!r}\n"
    write_module(tmp_path, text.format("one"))
    with Server(tmp_path, settings="heartbeat = 0.02\n" + CONFIG) as server:
        server.write("page.lua", "local m = require 'mine' function main(env, con) con:puts(m.word()) end")
        assert server.get("page.lua").body == b"one"
        write_module(tmp_path, text.format("two"))
        until(lambda: server.get("page.lua").body == b"two", "the saved module")
        write_module(tmp_path, "this is no Python")
        until(lambda: "the last good version stays in service" in server.log(), "the broken module")
        assert server.get("page.lua").body == b"two"
        write_module(tmp_path, text.format("six"))
        until(lambda: server.get("page.lua").body == b"six", "the module put right")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import nowhere", "cannot be imported: ModuleNotFoundError: No module named 'nowhere' (mine.py, line 1)"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero (mine.py, line 1)"),
        ("def f(): pass", "cannot be imported: ImportError: no function in it carries @greenfcgi.export"),
    ],
)
def test_a_start_without_its_modules(tmp_path: Path, text: str, problem: str) -> None:
    """One line says what is wrong, and the server does not start."""
    write_module(tmp_path, text)
    (tmp_path / "lua_scripts").mkdir()
    (tmp_path / "config.toml").write_text(f'bind = "unix:s.sock"\nprocesses = 0\n{CONFIG}')
    done = run_greenfcgi(tmp_path, "config.toml")
    assert done.returncode == 2
    assert done.stderr == f"greenfcgi: [modules] mine: found 'shop.mine', {problem}\n" or problem in done.stderr
    assert "Traceback" not in done.stderr


class TestSaved:
    """What a module that does not load leaves in service."""

    GOOD = "import greenfcgi\nTABLE = {b'tea': 3}\n@greenfcgi.export\ndef price(name): return TABLE[name]\n"
    BROKEN = "import greenfcgi\nTABLE = {}\nraise RuntimeError('broken')\n"
    PAGE = "local m = require 'mine' function main(env, con) con:puts(m.price('tea')) end"

    @pytest.mark.parametrize("settings", ["", "[states]\nper_request = true\n"])
    def test_all_states_of_a_script_go_on(self, tmp_path: Path, settings: str) -> None:
        """Those that are made meanwhile have the last good functions, with the variables that they had."""
        write_module(tmp_path, self.GOOD)
        with Server(tmp_path, {"page.lua": self.PAGE}, settings=f"heartbeat = 0.02\n{CONFIG}{settings}") as server:
            assert server.get("page.lua").body == b"3"
            write_module(tmp_path, self.BROKEN)
            until(lambda: "the last good version stays in service" in server.log(), "the broken module")
            waiting = [server.connect() for _ in range(5)]
            for one in waiting:
                one.send(server.request("page.lua"))
            for one in waiting:
                with one:
                    assert one.reply().body == b"3"

    def test_without_reload(self, tmp_path: Path) -> None:
        """Nothing is executed again."""
        write_module(tmp_path, self.GOOD)
        settings = f"reload = false\n{CONFIG}[states]\nper_request = true\n"
        with Server(tmp_path, {"page.lua": self.PAGE}, settings=settings) as server:
            assert server.get("page.lua").body == b"3"
            write_module(tmp_path, self.GOOD.replace("3", "4"))
            assert server.get("page.lua").body == b"3"

    def test_one_that_is_mended_by_a_save(self, tmp_path: Path) -> None:
        """A module that has never loaded is watched, too, and what it exported before is gone."""
        write_module(tmp_path, self.GOOD)
        page = """
            local ok, m = pcall(require, "mine")
            function main(env, con) con:puts(tostring(ok and (m.price or m.cost)("tea")), tostring(ok and m.price)) end
        """
        with Server(tmp_path, {"page.lua": page}, settings="heartbeat = 0.02\n" + CONFIG) as server:
            assert server.get("page.lua").body.startswith(b"3function")
            write_module(tmp_path, self.GOOD.replace("price", "cost"))
            until(lambda: server.get("page.lua").body == b"3nil", "the other name")


def test_an_exception_that_cannot_be_told(tmp_path: Path) -> None:
    """Whatever it is, a script gets text."""
    text = """
        import greenfcgi
        class Odd(Exception):
            def __str__(self): raise self
        class Table(dict):
            def items(self): raise ValueError("bad \\ud800")
        @greenfcgi.export
        def odd(): raise Odd
        @greenfcgi.export
        def table(): return Table(a=1)
        @greenfcgi.export(blocking=True)
        def blocking(): return Table(a=1)
        class Proxy:
            def __getattr__(self, name): raise RuntimeError(name)
        proxy = Proxy()
    """
    package = "odd_things"
    (tmp_path / package).mkdir()
    (tmp_path / package / "mine.py").write_text(textwrap.dedent(text))
    (tmp_path / package / "leaves.py").write_text("import sys\nsys.exit('at import')\n")
    settings = f'[modules]\nmine = "{package}.mine"\nleaves = "{package}.leaves"\n'
    inside = Inside(tmp_path, "lua54", settings)
    found = inside.main(
        """
        local m = require "mine"
        for _, f in ipairs({ m.odd, m.table, m.blocking, function() return require "leaves" end }) do
            local ok, problem = pcall(f)
            con:puts(type(problem), " ", problem, "\\n")
        end
        con:puts(tostring(m.proxy))
        """
    ).text.splitlines()
    inside.close()
    assert found[0] == "string mine.odd: Odd"
    assert found[1].startswith("string mine.table: what it returned cannot be passed to Lua: ValueError: bad ")
    assert found[2].startswith("string mine.blocking: what it returned cannot be passed to Lua: ValueError: bad ")
    assert found[3].startswith("string module 'leaves': SystemExit: at import")
    assert found[4] == "nil"


def test_what_a_module_does_at_exit(tmp_path: Path) -> None:
    """It is done even where a thread of the module runs on, which nobody waits for."""
    write_module(
        tmp_path,
        """
        import atexit, pathlib, threading, time, greenfcgi
        atexit.register(pathlib.Path("left").write_text, "in order")
        @greenfcgi.export
        def begin(): threading.Thread(target=time.sleep, args=(3600,)).start()
        """,
    )
    (tmp_path / "lua_scripts").mkdir()
    page = "local m = require 'mine' function main(env, con) m.begin() con:puts('begun') end"
    (tmp_path / "lua_scripts" / "page.lua").write_text(page)
    (tmp_path / "config.toml").write_text(CONFIG)
    done = run_greenfcgi(tmp_path, "--try", "/page.lua")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "begun"), done.stderr
    assert (tmp_path / "left").read_text() == "in order"


def test_check_config_looks_for_modules(tmp_path: Path) -> None:
    """It says what is not there, and what is no Python; it runs nothing."""
    write_module(tmp_path, "this is no Python")
    (tmp_path / "lua_scripts").mkdir()
    (tmp_path / "config.toml").write_text(f'{CONFIG}none = "nowhere_at_all"\n')
    done = run_greenfcgi(tmp_path, "--check-config")
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert "[modules] mine: found 'shop.mine', which cannot be imported: SyntaxError" in first
    assert "[modules] none: found 'nowhere_at_all', which Python does not find; expected a module" in second
