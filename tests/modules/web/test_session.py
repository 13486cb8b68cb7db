"""greenfcgi.session in each of its stores: what is kept, for how long, and what cannot be forged."""

from __future__ import annotations

import base64
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.modules.web import session as session_module

from ...support import memory_folders
from ...support.inside import Inside, Request
from .browser import Browser

FLAVOURS = ("luajit21", "lua51", "lua54")
_STORES = {
    "cookie": "nil", "encrypted": "{ encrypt = true }", "shared": '{ store = "shared" }',
    "sql": '{ store = "sql", url = "sqlite:FOLDER/kept.db" }',
}  # fmt: skip


@pytest.fixture(params=_STORES)
def store(request: pytest.FixtureRequest) -> str:
    """Where sessions are kept."""
    return str(request.param)


@pytest.fixture(params=FLAVOURS)
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Each Lua, with a dictionary."""
    with memory_folders.place(alone=False):
        inside = Inside(tmp_path, request.param, '[lua]\nmemory = 16000000\n[shared]\nsessions = "1M"\n')
        yield inside
        inside.close()


@pytest.fixture
def browser(lua: Inside, store: str, tmp_path: Path) -> Browser:
    """A client of each of them."""
    return Browser(lua, _STORES[store].replace("FOLDER", str(tmp_path)))


class Clock:
    """The time that sessions go by."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.5

    def time(self) -> float:
        """Seconds since 1970."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A time that stands until a test sets it."""
    found = Clock()
    monkeypatch.setattr(session_module, "time", found)
    return found


def test_fields_persist(browser: Browser) -> None:
    """Values of all kinds are there again, and those that were taken away are not."""
    assert browser.says(r"""
        say(s.user, s:is_new(), next(s))
        s.user, s.n, s.half, s.yes, s.no, s.bytes = "ada", 12, 0.5, true, false, "\0\255;="
        s.list, s[1], s[true] = { 1, 2, { deep = "x", [3] = {} } }, "one", "yes"
    """) == ["nil", "true", "nil"]
    assert browser.says(r"""
        say(s.user, s.n + 1, s.half, s.yes, s.no, s.bytes == "\0\255;=", s.list[2], s.list[3].deep, next(s.list[3][3]))
        say(s[1], s[true], s:is_new(), s, #s.list)
        if math.type then say(math.type(s.n), math.type(s.half)) end
        s.user, s.list[2] = nil, "changed"
    """)[:14] == ["ada", "13", "0.5", "true", "false", "true", "2", "x", "nil", "one", "yes", "false", "session", "3"]
    assert browser.says("say(s.user, s.list[2])") == ["nil", "changed"]


def test_what_is_put_back_after_a_save_is_kept(browser: Browser) -> None:
    """It is compared with what was saved last, not with what was loaded."""
    browser.says("s.n = 1")
    browser.says("s.n = 2; s:save(); s.n = 1")
    assert browser.says("say(s.n)") == ["1"]
    browser.says("s.list = { 1 }")
    browser.says("s.list[1] = 2")
    assert browser.says("say(s.n, s.list[1])") == ["1", "2"]


def test_nothing_is_kept_of_nothing(browser: Browser) -> None:
    """A visitor of whom nothing is kept gets no cookie, and one whose session has not changed no new one."""
    browser.ask("say(s.user)")
    assert not browser.set
    browser.ask("s.user = 'ada' s.t = { b = 1, a = 2, c = { 1, 2 } }")
    assert len(browser.set) == 1
    browser.ask("say(s.user)")
    assert not browser.set
    browser.ask("s.user = 'ada'")
    assert not browser.set


def test_the_cookie(browser: Browser, store: str) -> None:
    """It has careful attributes, and replies with it are not for caches that are shared."""
    answer = browser.ask("s.user = 'ada'", HTTPS="on")
    assert browser.set[0].endswith("; Path=/; Secure; HttpOnly; SameSite=Lax")
    assert "Cache-Control: private, no-cache" in answer.lines
    answer = browser.ask("con:header('Cache-Control', 'no-store') s.user = 'eve'")
    assert [line for line in answer.lines if line.startswith("Cache")] == ["Cache-Control: no-store"]
    value = next(iter(browser.cookies.values()))
    if store in ("shared", "sql"):
        assert re.fullmatch(r"[\w-]{43}", value)
    else:
        assert (b"eve" in base64.urlsafe_b64decode(value.split(".")[1] + "==")) == (store == "cookie")


def test_it_is_sent_before_the_page(browser: Browser) -> None:
    """A page that is sent in parts keeps what was there before the first, and in a store also what comes later."""
    request = "s.user = 'ada' con:puts('one') con:flush() con:puts('two')"
    assert browser.ask(request).body == b"onetwo"
    assert browser.says("say(s.user)") == ["ada"]


def test_what_comes_after_the_headers(browser: Browser, lua: Inside, store: str) -> None:
    """In a cookie it cannot be kept, and the log says so; a session in a store can."""
    browser.ask("s.user = 'ada'")
    answer = browser.ask("con:puts('one') con:flush() s.user = 'eve'")
    assert answer.body == b"one"
    if store in ("shared", "sql"):
        assert browser.says("say(s.user)") == ["eve"]
    else:
        assert "session: it was changed after the headers had been sent, and is not kept" in lua.log()
        assert browser.says("say(s.user)") == ["ada"]
        assert browser.says("con:flush() s.user = 'eve' say(s:save())") == [
            "nil", "it was changed after the headers had been sent",
        ]  # fmt: skip


def test_after_finish(browser: Browser, store: str) -> None:
    """con:finish() sends the session with the reply."""
    browser.ask("s.user = 'ada' con:finish() ")
    assert browser.says("say(s.user)") == ["ada"]


def test_a_script_that_fails_changes_nothing(browser: Browser) -> None:
    """Neither an error nor a client's fault keeps what the script has put into the session."""
    browser.ask("s.user = 'ada' s:flash('note', 1)")
    assert "boom" in browser.ask("s.user = 'eve' s:flash('note') error('boom')").error
    assert browser.ask("s.user = 'eve' s:flash('note') s:check({})").status == 403
    assert browser.says("say(s.user, s:flash('note'))") == ["ada", "1"]


def test_flash(browser: Browser) -> None:
    """It is read once, whenever that is."""
    browser.ask("s:flash('note', 'saved') s:flash('list', { 1, 2 })")
    assert browser.says("say('no flash here')") == ["no flash here"]
    assert browser.says("say(s:flash('note'), s:flash('note'), s:flash('list')[2], s:flash('never'))") == [
        "saved", "nil", "2", "nil",
    ]  # fmt: skip
    assert browser.says("say(s:flash('note'), s:flash('list'))") == ["nil", "nil"]


def test_tokens(browser: Browser) -> None:
    """Each is another, and all are right, in a form or in a header; those of others are not."""
    first, second, field = browser.says("say(s:csrf(), s:csrf(), s:csrf_field())")
    assert first != second
    assert re.fullmatch(r'<input type="hidden" name="csrf" value="[\w-]{86}">', field)
    assert browser.says(f"say(s:check {{ csrf = '{first}' }}, s:check('{second}'))") == ["true", "true"]
    assert browser.says("say(s:check(), s:check {})", HTTP_X_CSRF_TOKEN=first) == ["true", "true"]
    # One in 256 ends in "AA".
    other = first[:-2] + ("BA" if first.endswith("AA") else "AA")
    bad = [
        "s:check()", "s:check {}", "s:check { csrf = { '" + first + "' } }", "s:check ''", "s:check { csrf = 'x' }",
        f"s:check '{other}'", f"s:check '{'A' * 86}'", f"s:check '{first}A'",
    ]  # fmt: skip
    for call in bad:
        answer = browser.ask(call)
        assert (answer.status, answer.body[:21]) == (403, b"The form has expired,"), call
    assert browser.says("local ok, fault = pcall(s.check, s, {}) say(ok, fault.status)") == ["false", "403"]
    stranger = Browser(browser._lua, browser._options)
    stranger.ask("s.x = 1")
    assert stranger.ask(f"s:check '{first}'").status == 403
    browser.ask("s:regenerate()")
    assert browser.ask(f"s:check '{first}'").status == 403


def test_regenerate(browser: Browser, store: str) -> None:
    """The cookie is another one, what is in the session stays, and the old id is nobody's."""
    browser.ask("s.user = 'ada' say(s:csrf())")
    before = dict(browser.cookies)
    browser.ask("s:regenerate() s.admin = true")
    assert browser.cookies != before
    assert browser.says("say(s.user, s.admin)") == ["ada", "true"]
    if store in ("shared", "sql"):
        browser.cookies = before
        assert browser.says("say(s.user, s:is_new())") == ["nil", "true"]


def test_destroy(browser: Browser, store: str) -> None:
    """Nothing is left, the cookie goes; what is put into it afterwards is a session of its own."""
    browser.ask("s.user = 'ada'")
    before = dict(browser.cookies)
    browser.ask("s:destroy() say(s.user)")
    assert not browser.cookies
    assert browser.says("say(s.user, s:is_new())") == ["nil", "true"]
    if store in ("shared", "sql"):
        browser.cookies = dict(before)
        assert browser.says("say(s.user)") == ["nil"]
    browser.cookies = {}
    browser.ask("s.user = 'ada'")
    browser.ask("s:destroy() s:flash('note', 'bye')")
    assert browser.says("say(s.user, s:flash('note'))") == ["nil", "bye"]
    stranger = Browser(browser._lua, browser._options)
    stranger.ask("s.user = 1 s:destroy()")
    assert not stranger.set or not stranger.cookies


def test_an_id_of_the_client_is_never_taken(lua: Inside, tmp_path: Path) -> None:
    """An id that the server has not given out is replaced."""
    for options in (_STORES["shared"], _STORES["sql"].replace("FOLDER", str(tmp_path))):
        browser = Browser(lua, options)
        browser.cookies["session"] = "A" * 43
        browser.ask("s.user = 'ada'")
        assert browser.cookies["session"] != "A" * 43


@pytest.mark.parametrize("what", ["cut", "changed", "other name", "other version", "empty", "garbage", "long", "bytes"])
def test_forged_cookies(browser: Browser, what: str) -> None:
    """A cookie that is not the server's is a new session, and no error."""
    browser.ask("s.user = 'ada' s.rest = ('x'):rep(100)")
    value = browser.cookies["session"]
    middle = len(value) // 2
    browser.cookies["session"] = {
        "cut": value[:middle], "changed": value[:middle] + ("A" if value[middle] != "A" else "B") + value[middle + 1 :],
        "other name": "x", "other version": ("9" if value[0] != "9" else "8") + value[1:], "empty": "",
        "garbage": "1.2.3....=%00", "long": "x" * 100_000, "bytes": "\udcff\udcfe",
    }[what]  # fmt: skip
    assert browser.says("say(s.user, s:is_new()) s.user = 'eve'") == ["nil", "true"]
    assert browser.says("say(s.user)") == ["eve"]


def test_a_cookie_is_of_its_name(lua: Inside) -> None:
    """A session of another name, or another purpose, is none."""
    browser = Browser(lua)
    browser.ask("s.user = 'ada' require('greenfcgi.cookie').set(con, 'session2', 'x', { signed = true })")
    browser.cookies |= {"other": browser.cookies["session"], "session": browser.cookies["session2"]}
    assert browser.says("say(s.user, session.start(env, con, { name = 'other' }).user)") == ["nil", "nil"]


def test_several_at_once(browser: Browser) -> None:
    """Sessions of other names are others, and one of the same name the same."""
    assert browser.says("""
        local a, b = session.start(env, con, { name = "a" }), session.start(env, con, { name = "b" })
        a.x, b.x, s.x = 1, 2, 3
        say(session.start(env, con, { name = "a" }) == a)
    """) == ["true"]
    assert len(browser.set) == 3
    assert browser.says("""
        say(session.start(env, con, { name = "a" }).x, session.start(env, con, { name = "b" }).x, s.x)
    """) == ["1", "2", "3"]  # fmt: skip


def test_it_ends_when_idle(browser: Browser, clock: Clock) -> None:
    """Two hours without a request end it; each request begins them anew, though not each writes."""
    browser.ask("s.user = 'ada'")
    clock.now += 100
    browser.ask("say(s.user)")
    assert not browser.set
    for _ in range(5):
        clock.now += 7000
        assert browser.says("say(s.user)") == ["ada"]
    clock.now += 7201
    assert browser.says("say(s.user, s:is_new())") == ["nil", "true"]


def test_it_ends_in_the_end(browser: Browser, clock: Clock) -> None:
    """A week after its begin it is over, whatever was done meanwhile."""
    browser.ask("s.user = 'ada'")
    begin = clock.now
    for step in range(1, 168):
        clock.now = begin + step * 3600
        assert browser.says("say(s.user)") == ["ada"]
    clock.now = begin + 604801
    assert browser.says("say(s.user)") == ["nil"]


def test_what_cannot_be_kept(browser: Browser) -> None:
    """The error names the field; it comes from save, or in the end."""
    for statements, says in (
        ("s.f = print", "session: 'f' has a function, expected a string, number, boolean or a table of these"),
        ("s.a = { b = { con } }", "session: 'a' has an object, which cannot be kept"),
        ("s.n = 0/0", "session: 'n' has a number that is none"),
        ("s.n = math.huge", "session: 'n' has a number that is none"),
        ("s.t = { [{}] = 1 }", "session: 't' has a table as a key"),
        ("local t = {} t.t = t s.t = t", "more than 32 tables in each other, or itself"),
        ("s.o = setmetatable({}, { __tostring = print })", "session: 'o' has an object"),
        ("s.save = 1", "'save' is a method of sessions, and cannot be a field"),
        ("s[{}] = 1", "a table cannot be the name of a field"),
        ("s:flash(1, 2)", "bad argument #1 to 'flash' (string expected, got number)"),
        ("s.save()", "bad self to 'save' (session expected, got nil)"),
    ):  # fmt: skip
        assert says in browser.ask(statements).error, statements
    assert "page.lua:7: session: 'f'" in browser.ask("s.f = print s:save()").error


def test_a_cookie_that_is_too_long(lua: Inside) -> None:
    """More than a cookie holds is an error that says where it can be kept; a store takes it."""
    random = base64.b64encode(os.urandom(3000)).decode()
    for options in ("nil", "{ encrypt = true }"):
        error = Browser(lua, options).ask(f"s.x = '{random}'").error
        assert re.search(
            r"session: found \d+ bytes, expected at most 4096 in a cookie; keep less in it, or store =", error
        )
    browser = Browser(lua, _STORES["shared"])
    browser.ask(f"s.x = '{random}'")
    assert browser.says("say(#s.x)") == ["4000"]


def test_a_session_of_another_request(lua: Inside) -> None:
    """One that a script has kept is refused, and its cookie gets into nobody's page."""
    state = lua.load("""
        local session = require "greenfcgi.session"
        function main(env, con)
            if kept then kept.x = 2 kept:save() end
            kept = session.start(env, con)
            kept.x = 1
        end
    """)
    lua.run(state)
    assert "session:save: its request has ended" in lua.run(state).error
    state.close()


def test_wrong_options(lua: Inside) -> None:
    """The error names the option, at the script's line."""
    for options, says in (
        ("1", "bad argument #3 to 'start' (table expected, got number)"),
        ("{ stor = 'x' }", "unknown option 'stor'; known are absolute, "),
        ("{ store = 'file' }", 'bad option \'store\' (found file, expected "cookie", "shared" or "sql")'),
        ("{ store = 'sql' }", "option 'url' is missing"),
        ("{ idle = 0 }", "bad option 'idle' (found 0, expected seconds from 1 up)"),
        ("{ name = 'a b' }", "expected a name of letters"),
        ("{ name = '__Host-x', path = '/x' }", "with its prefix it has the path / and no domain"),
        ("{ samesite = 'None', secure = false }", "SameSite=None needs secure"),
        ("{ store = 'shared', dictionary = 'other' }", 'no dictionary "other" in [shared]'),
    ):
        error = Browser(lua, options).ask("").error
        assert says in error, options
        assert "page.lua:6: " in error


def test_a_store_that_is_not_to_be_had(lua: Inside, tmp_path: Path) -> None:
    """Starting gives nil and why; saving says so, too, and the end of the request is an error."""
    path = tmp_path / "kept.db"
    start = f'require("greenfcgi.session").start(env, con, {{ store = "sql", url = "sqlite:{path}" }})'
    path.mkdir()
    answer = lua.main(
        f"local s, problem = {start} con:puts(tostring(s), ' ', type(problem))",
        Request({"HTTP_COOKIE": "session=" + "A" * 43}),
    )
    assert answer.text == "nil string"
    path.rmdir()
    sqlite3.connect(path).execute(
        "create table greenfcgi_sessions (id text primary key, data text, expires int check (0))"
    )
    error = lua.main(
        f"local s = {start} s.x = 1 local done, problem = s:save() con:puts(tostring(done), type(problem))"
    ).error
    assert "session: " in error
    assert "constraint" in error.lower()


def test_sessions_that_are_over_are_removed(tmp_path: Path, clock: Clock) -> None:
    """From time to time, a database loses those that are over."""
    lua = Inside(tmp_path)
    state = lua.load(f"""
        local session = require "greenfcgi.session"
        function main(env, con)
            session.start(env, con, {{ store = "sql", url = "sqlite:{tmp_path}/kept.db" }}).user = "ada"
        end
    """)
    for _ in range(98):
        lua.run(state)
    clock.now += 7300
    for _ in range(4):
        lua.run(state)
    state.close()
    lua.close()
    assert sqlite3.connect(tmp_path / "kept.db").execute("select count(*) from greenfcgi_sessions").fetchone() == (4,)


def test_two_requests_at_once(lua: Inside) -> None:
    """One that another has destroyed meanwhile stays so."""
    browser = Browser(lua, _STORES["shared"])
    browser.ask("s.user = 'ada'")
    browser.says("""
        s.user = "eve"
        require("greenfcgi.shared").sessions:flush_all()
    """)
    assert browser.says("say(s.user)") == ["nil"]


@pytest.mark.parametrize("version", FLAVOURS)
def test_sessions_take_no_memory_for_good(tmp_path: Path, version: str) -> None:
    """What a request had of a session goes with it, also where weak tables keep what leads to its own key."""
    lua = Inside(tmp_path, version)
    state = lua.load("""
        local session = require "greenfcgi.session"
        function main(env, con)
            local s = session.start(env, con)
            s.text = ("x"):rep(1000) .. #tostring({})
            if env.LOOK then
                collectgarbage()
                collectgarbage()
                con:puts(collectgarbage("count"))
            end
        end
    """)
    sizes = []
    for _ in range(3):
        for _ in range(150):
            lua.run(state)
        sizes.append(float(lua.run(state, Request({"LOOK": "1"})).text))
    assert sizes[2] - sizes[1] < 30
    lua.close()
