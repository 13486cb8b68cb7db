"""Hot reload: a saved file is served, by inotify and by polling, and a request never sees half of a change."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from greenfcgi.fastcgi.client import Client

from ..support.running import Connection, Server, until

pytestmark = pytest.mark.systems

ENGINES = {
    "inotify": 'heartbeat = 0.02\nreload_engine = "inotify"\n',
    "poll": 'heartbeat = 0.02\nreload_engine = "poll"\npoll_interval = 0.05\n',
}
PARAMS = [pytest.param("inotify", marks=pytest.mark.linux), "poll"]
#: Says which version of the script it is, and how many requests this state has answered.
SCRIPT = """
function main(env, con)
    served = (served or 0) + 1
    con:puts("{} " .. served)
end
"""

Serve = Callable[..., Server]

_names = count()


class Site:
    """A folder of a test's own below the root of a server that several tests share."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.folder = server.root / name
        self.folder.mkdir(exist_ok=True)
        self._name = name
        self._markers = count()

    def write(self, name: str, text: str) -> Path:
        """Write a file, in one step: nobody ever sees a half of it."""
        fresh = self.server.write(f"{self._name}/{name}.fresh", text)
        return fresh.replace(self.folder / name)

    def get(self, name: str = "page.lua", method: str = "GET") -> str:
        """The body of a request that is answered with 200."""
        reply = self.server.get(f"{self._name}/{name}", REQUEST_METHOD=method)
        assert reply.status == 200, self.server.log()
        return reply.body.decode()

    def status(self, name: str = "page.lua") -> int:
        """The status of a request."""
        return self.server.get(f"{self._name}/{name}").status

    def serves(self, text: str, name: str = "page.lua") -> None:
        """Wait until the script answers just this."""
        until(lambda: self.get(name) == text, f"{text!r} from {name}")

    def log(self, text: str) -> list[str]:
        """The lines of the log about this folder, with `text` in them."""
        return [line for line in self.server.log().splitlines() if f"{self.folder}/" in line and text in line]

    def logged(self, text: str) -> None:
        """Wait for such a line."""
        until(lambda: self.log(text), f"{text!r} in the log")

    def catch_up(self) -> None:
        """Wait until all that has been changed so far has been dealt with: a later change is served."""
        name = f"marker{next(self._markers)}.lua"
        for version in ("before", "after"):
            self.write(name, SCRIPT.format(version))
            self.serves(f"{version} 1", name)


@pytest.fixture(scope="module", params=PARAMS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for each engine, with a folder for modules outside its root."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "modules").mkdir()
    (folder / "startup.lua").write_text('started = "first"')
    tables = '[scripts]\nstartup = "startup.lua"\n[lua]\npath = ["modules"]\n'
    with Server(folder, {}, ENGINES[request.param] + tables) as running:
        yield running


@pytest.fixture
def site(server: Server) -> Site:
    """A folder below the root of the server."""
    return Site(server, f"site{next(_names)}")


@pytest.fixture(params=PARAMS)
def engine(request: pytest.FixtureRequest) -> str:
    """The settings that choose an engine."""
    return ENGINES[request.param]


# Ways of saving


def in_place(path: Path, text: str) -> None:
    """Write over what is there."""
    with open(path, "r+") as file:
        file.write(text)
        file.truncate()


def truncated(path: Path, text: str) -> None:
    """Empty the file first, and take two writes."""
    with open(path, "w") as file:
        file.write(text[:10])
        file.flush()
        file.write(text[10:])


def replaced(path: Path, text: str) -> None:
    """Write a new file, and put it in the place of the old one."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(text)
    os.replace(fresh, path)


def with_backup(path: Path, text: str) -> None:
    """As vim does: the old file becomes the backup, which goes when the new one is there."""
    backup = path.with_name(f"{path.name}~")
    os.rename(path, backup)
    path.write_text(text)
    backup.unlink()


def deleted_first(path: Path, text: str) -> None:
    """Delete the file, and make a new one."""
    path.unlink()
    path.write_text(text)


def linked(path: Path, text: str) -> None:
    """The script is a symbolic link, which is made to lead to a new file in one step."""
    target = path.with_name(f"target{next(_names)}.lua")
    target.write_text(text)
    link = path.with_suffix(".link")
    link.symlink_to(target)
    os.replace(link, path)


WAYS = [in_place, truncated, replaced, with_backup, deleted_first, linked]


@pytest.mark.parametrize("save", WAYS, ids=lambda way: way.__name__)
def test_a_saved_script_is_served(site: Site, save: Callable[[Path, str], None]) -> None:
    """Whichever way the editor has: the new version is served, in a new state, also the second time."""
    path = site.folder / "page.lua"
    path.touch()
    save(path, SCRIPT.format("one"))
    assert [site.get(), site.get()] == ["one 1", "one 2"]
    for version in ("two", "three"):
        save(path, SCRIPT.format(version))
        site.serves(f"{version} 1")


def test_a_change_that_leaves_the_length_is_noticed(site: Site) -> None:
    """Two contents of one length, saved one after the other, are two versions."""
    path = site.write("page.lua", SCRIPT.format("0"))
    site.get()
    for version in "123456789":
        in_place(path, SCRIPT.format(version).lstrip())
        site.serves(f"{version} 1")


# What a script is made of

LOADS = {
    "require": 'require "part"',
    "dofile": 'dofile "part.lua"',
    "loadfile": 'assert(loadfile "part.lua")()',
}
WHEN = {
    "loading": "local part = {}\nfunction main(env, con)\n{} con:puts(part .. served) end",
    "running": "function main(env, con)\nlocal part = {}\n{} con:puts(part .. served) end",
}
COUNT = "served = (served or 0) + 1"


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("load", LOADS)
def test_a_changed_part_flushes_the_script(site: Site, load: str, when: str) -> None:
    """A file that the script has loaded, at its start or in a request, counts as the script's own."""
    site.write("part.lua", 'return "old "')
    site.write("page.lua", WHEN[when].format(LOADS[load], COUNT))
    assert [site.get(), site.get()] == ["old 1", "old 2"]
    site.write("part.lua", 'return "new "')
    site.serves("new 1")


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("load", LOADS)
def test_a_changed_part_outside_the_root_flushes_the_script(site: Site, load: str, when: str) -> None:
    """A module from lua.path counts, and so does any file that is named by its path."""
    name = f"part_of_{site.folder.name}"
    part = site.server.folder / ("modules" if load == "require" else "elsewhere") / f"{name}.lua"
    part.parent.mkdir(exist_ok=True)
    replaced(part, 'return "old "')
    statement = LOADS[load].replace("part", name if load == "require" else str(part.with_suffix("")))
    site.write("page.lua", WHEN[when].format(statement, COUNT))
    assert [site.get(), site.get()] == ["old 1", "old 2"]
    site.catch_up()
    replaced(part, 'return "new "')
    site.serves("new 1")


def test_a_changed_module_flushes_every_script_that_has_it(site: Site) -> None:
    """Also where it is required by another module; other scripts keep their states."""
    site.write("deep.lua", 'return "old "')
    site.write("part.lua", 'return require "deep"')
    for name in ("a.lua", "b.lua"):
        site.write(name, WHEN["loading"].format(LOADS["require"], COUNT))
        assert site.get(name) == "old 1"
    site.write("other.lua", SCRIPT.format("other"))
    assert site.get("other.lua") == "other 1"
    site.write("deep.lua", 'return "new "')
    site.serves("new 1", "a.lua")
    site.serves("new 1", "b.lua")
    assert site.get("other.lua") == "other 2"


def test_a_module_that_appears_before_another_is_taken(site: Site) -> None:
    """A file beside the script comes before one of its name in lua.path, also when it comes later."""
    name = f"part_of_{site.folder.name}"
    replaced(site.server.folder / "modules" / f"{name}.lua", 'return "path "')
    site.write("page.lua", WHEN["loading"].format(f'require "{name}"', COUNT))
    assert site.get() == "path 1"
    site.write(f"{name}.lua", 'return "beside "')
    site.serves("beside 1")


def test_a_changed_startup_script_flushes_all(site: Site) -> None:
    """Every state has run it first, so every state is made anew."""
    startup = site.server.folder / "startup.lua"
    replaced(startup, 'started = "old "')
    site.write("page.lua", WHEN["running"].format("started", COUNT))
    site.serves("old 1")
    site.catch_up()
    replaced(startup, 'started = "new "')
    site.serves("new 1")


# Links, and what is not a plain file in a folder


def put_link(path: Path, target: str | Path) -> None:
    """Make a link, or make it lead elsewhere, in one step."""
    fresh = path.with_name(f"{path.name}.fresh")
    fresh.symlink_to(target)
    fresh.replace(path)


USES_PART = WHEN["loading"].format(LOADS["require"], COUNT)


def test_a_linked_module_outside_the_root(site: Site) -> None:
    """It is edited where it lies, in place and by rename, and then the link is made to lead to another one."""
    outside = site.server.folder / f"outside_{site.folder.name}"
    outside.mkdir()
    (outside / "part.lua").write_text('return "one "')
    (site.folder / "part.lua").symlink_to(outside / "part.lua")
    site.write("page.lua", USES_PART)
    assert site.get() == "one 1"
    site.catch_up()
    in_place(outside / "part.lua", 'return "two "')
    site.serves("two 1")
    site.catch_up()
    replaced(outside / "part.lua", 'return "three "')
    site.serves("three 1")
    (outside / "other.lua").write_text('return "four "')
    put_link(site.folder / "part.lua", outside / "other.lua")
    site.serves("four 1")
    in_place(outside / "other.lua", 'return "five "')
    site.serves("five 1")


@pytest.mark.parametrize("where", ["root", "modules"])
def test_a_folder_that_kubernetes_mounts(site: Site, where: str) -> None:
    """A link to a link into a folder, flipped when the configuration changes: below the root, and of lua.path."""
    name = f"settings_{site.folder.name}"
    folder = site.folder if where == "root" else site.server.folder / "modules"
    for number in range(1, 5):
        (folder / f"..{name}_{number}").mkdir()
        (folder / f"..{name}_{number}" / f"{name}.lua").write_text(f"return '{number} '")
    (folder / f"{name}.lua").symlink_to(f"..data_{name}/{name}.lua")
    site.write("page.lua", USES_PART.replace('part"', f'{name}"'))
    for number in range(1, 5):
        put_link(folder / f"..data_{name}", f"..{name}_{number}")
        site.serves(f"{number} 1")
        if number > 1:
            shutil.rmtree(folder / f"..{name}_{number - 1}")
        site.catch_up()


def test_a_script_that_kubernetes_mounts(site: Site) -> None:
    """The script itself is such a link."""
    for number in "123":
        site.write(f"..{number}/page.lua", SCRIPT.format(number))
    (site.folder / "page.lua").symlink_to("..data/page.lua")
    for number in "1231":
        put_link(site.folder / "..data", f"..{number}")
        until(lambda number=number: site.status() == 200 and site.get().startswith(number))  # type: ignore[misc]
        site.catch_up()


@pytest.mark.parametrize("where", ["root", "outside"])
def test_a_folder_of_modules_that_is_flipped(site: Site, where: str) -> None:
    """`lib` leads by way of `current` to a release, in the root or outside: flipped, edited, flipped back."""
    releases = site.folder if where == "root" else site.server.folder / f"releases_{site.folder.name}"
    for release in ("one", "two"):
        (releases / release / "lib").mkdir(parents=True)
        (releases / release / "lib" / "part.lua").write_text(f'return "{release} "')
    put_link(site.folder / "current", releases / "one")
    (site.folder / "lib").symlink_to("current/lib")
    site.write("page.lua", USES_PART.replace('"part"', '"lib.part"'))
    assert site.get() == "one 1"
    site.catch_up()
    put_link(site.folder / "current", releases / "two")
    site.serves("two 1")
    site.catch_up()
    replaced(releases / "two" / "lib" / "part.lua", 'return "fixed "')
    site.serves("fixed 1")
    site.catch_up()
    put_link(site.folder / "current", releases / "one")
    site.serves("one 1")


def test_a_module_that_is_written_by_a_hard_link(site: Site) -> None:
    """It has another name in a folder that nobody watches."""
    outside = site.server.folder / f"linked_{site.folder.name}.lua"
    outside.write_text('return "one "')
    os.link(outside, site.folder / "part.lua")
    site.write("page.lua", USES_PART)
    assert site.get() == "one 1"
    site.catch_up()
    in_place(outside, 'return "two "')
    site.serves("two 1")


def test_a_text_that_takes_the_time_of_the_one_before(site: Site) -> None:
    """As rsync and deployments do that give every file the same time: of the same length, and written in place."""
    path = site.write("page.lua", SCRIPT.format("1"))
    for version in "123":
        in_place(path, SCRIPT.format(version))
        os.utime(path, (1, 1))
        site.serves(f"{version} 1")


def test_other_rights_are_no_change(site: Site) -> None:
    """Nor is a hard link: the state stays."""
    path = site.write("page.lua", SCRIPT.format("same"))
    assert site.get() == "same 1"
    path.chmod(0o600)
    os.link(path, site.server.folder / f"copy_{site.folder.name}")
    site.catch_up()
    assert site.get() == "same 2"


def test_a_module_in_a_folder_that_comes_later(serve: Serve, tmp_path: Path, engine: str) -> None:
    """A folder of lua.path, or one that a template there names, made after the start; deleted, and made anew."""
    server = serve(
        {"page.lua": 'function main(env, con) local found, part = pcall(require, "part") con:puts(found and part) end',
         "last/part.lua": 'return "last"'},
        engine + '[lua]\npath = ["late", "templates/?/init.lua", "lua_scripts/last"]\n',
    )  # fmt: skip

    def serves(text: str) -> None:
        until(lambda: server.get("page.lua").body == text.encode(), f"{text!r}")

    serves("last")
    for _ in range(2):
        for path in ("templates/part/init.lua", "late/part.lua"):
            (tmp_path / path).parent.mkdir(parents=True)
            (tmp_path / path).write_text(f'return "{path}"')
            serves(path)
        shutil.rmtree(tmp_path / "late")
        serves("templates/part/init.lua")
        shutil.rmtree(tmp_path / "templates")
        serves("last")


def test_a_startup_script_behind_a_link(serve: Serve, tmp_path: Path, engine: str) -> None:
    """It is part of every script: flipped and edited where it lies, all states are made anew."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "start.lua").write_text(f"started = '{name}'")
    (tmp_path / "current").symlink_to("one")
    server = serve(
        {f"{name}.lua": "function main(env, con) con:puts(started) end" for name in "ab"},
        engine + '[scripts]\nstartup = "current/start.lua"\n',
    )

    def serves(text: str) -> None:
        for name in ("a.lua", "b.lua"):
            until(lambda name=name: server.get(name).body == text.encode(), f"{text!r} from {name}")  # type: ignore[misc]

    serves("one")
    put_link(tmp_path / "current", "two")
    serves("two")
    replaced(tmp_path / "two" / "start.lua", "started = 'fixed'")
    serves("fixed")


# What is too large to be kept

LARGE = 'return "{}" --' + "x" * 3_000_000


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("load", LOADS)
def test_large_parts_take_no_memory_and_count_all_the_same(site: Site, load: str, when: str) -> None:
    """Texts that no version keeps: a change in the last one is noticed, also one that leaves its length."""
    for number in range(12):
        site.write(f"part{number}.lua", LARGE.format("old "))
    statements = "nil " + " ".join(f"part = {LOADS[load].replace('part', f'part{number}')}" for number in range(12))
    before = resident(site.server)
    site.write("page.lua", WHEN[when].format(statements, COUNT))
    assert site.get() == "old 1"
    assert resident(site.server) - before < 25_000_000
    in_place(site.folder / "part11.lua", LARGE.format("new "))
    site.serves("new 1")


def resident(server: Server) -> int:
    """Bytes of memory that a server takes."""
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Versions that do not load

BROKEN = {
    "syntax error": "function main(env, con) con:puts( end",
    "no handler": "local x = 1",
    "empty": "",
    "error while loading": 'error("not today")',
    "failing init": SCRIPT.format("bad") + 'function init() error("no database") end',
    "missing module": SCRIPT.format("bad") + 'require "no_such_module"',
    "broken module": SCRIPT.format("bad") + 'require "broken_part"',
}


@pytest.mark.parametrize("sin", BROKEN)
def test_a_broken_version_never_replaces_a_good_one(site: Site, sin: str) -> None:
    """The old one goes on in its state, one line says why, and the next good one is served."""
    site.write("broken_part.lua", "return return")
    site.write("page.lua", SCRIPT.format("good"))
    assert site.get() == "good 1"
    site.write("page.lua", BROKEN[sin])
    site.logged("changed, but does not load; the last good version stays in service")
    site.catch_up()
    assert [site.get(), site.get()] == ["good 2", "good 3"]
    assert len(site.log("does not load")) == 1
    site.write("page.lua", SCRIPT.format("better"))
    site.serves("better 1")
    assert len(site.log("does not load")) == 1


@pytest.mark.parametrize("broken", ["page.lua", "required.lua", "dofiled.lua"])
def test_a_broken_version_does_not_reach_a_clone(site: Site, broken: str) -> None:
    """A state that is made after the bad change holds the last good version, in all its files."""
    held = """
    require "required"
    dofile "dofiled.lua"
    function main(env, con)
        con:puts("good ") con:flush()
        while true do
            local go = io.open("go")
            if go then go:close() return con:puts("end") end
            con:sleep(0.01)
        end
    end
    """
    site.write("required.lua", "")
    site.write("dofiled.lua", "")
    site.write("page.lua", held)
    with held_request(site) as connection:
        site.write(broken, BROKEN["syntax error"])
        site.logged("does not load")
        with held_request(site) as clone:
            (site.folder / "go").touch()
            assert clone.reply().body == connection.reply().body == b"good end"


def test_a_module_that_shadows_another_does_not_reach_a_clone(serve: Serve, tmp_path: Path) -> None:
    """A file that was missing when the version was loaded is none of it in a clone, before anybody has noticed it."""
    page = """
    require "part"
    function main(env, con)
        con:puts("good") con:flush()
        if env.QUERY_STRING == "hold" then con:sleep(1000) end
    end
    """
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "part.lua").touch()
    server = serve({"site/page.lua": page}, 'heartbeat = 3600\n[lua]\npath = ["modules"]\n')
    with held_request(Site(server, "site"), "page.lua?hold"):
        server.write("site/part.lua", BROKEN["syntax error"])
        assert server.get("site/page.lua").body == b"good"


def test_a_broken_module_never_replaces_a_good_one(site: Site) -> None:
    """A module that does not compile, or is gone for a while, leaves the old version at work; fixed, it counts."""
    part = site.write("part.lua", 'return "good "')
    site.write("page.lua", WHEN["loading"].format(LOADS["require"], COUNT))
    assert site.get() == "good 1"
    site.write("part.lua", "return return")
    site.logged("does not load")
    assert site.get() == "good 2"
    part.unlink()
    until(lambda: len(site.log("does not load")) == 2)
    site.catch_up()
    assert site.get() == "good 3"
    site.write("part.lua", 'return "fixed "')
    site.serves("fixed 1")
    assert len(site.log("does not load")) == 2


def test_going_back_to_the_good_version_is_a_change_too(site: Site) -> None:
    """What was undone is served as any other version, and after it the bad one is logged again."""
    for _ in range(2):
        site.write("page.lua", SCRIPT.format("good"))
        site.serves("good 1")
        before = len(site.log("does not load"))
        site.write("page.lua", BROKEN["syntax error"])
        until(lambda before=before: len(site.log("does not load")) > before)  # type: ignore[misc]
    assert len(site.log("does not load")) == 2


@pytest.mark.parametrize("sin", BROKEN)
def test_a_first_version_that_is_broken_is_served_once_fixed(site: Site, sin: str) -> None:
    """There is nothing to go on with: 500, and the error in the log, until the file is saved in order."""
    site.write("broken_part.lua", "return return")
    site.write("page.lua", BROKEN[sin])
    assert [site.status(), site.status()] == [500, 500]
    if sin == "broken module":
        site.write("broken_part.lua", "return 1")
        site.serves("bad 1")
    site.write("page.lua", SCRIPT.format("good"))
    site.serves("good 1")


def test_a_script_that_comes_later_is_served(site: Site) -> None:
    """That a file was missing is not remembered."""
    assert site.status() == 404
    site.write("page.lua", SCRIPT.format("there"))
    assert site.get() == "there 1"


# Requests under way


def held_request(site: Site, name: str = "page.lua") -> Connection:
    """A request that has begun: its first output has come."""
    connection = site.server.connect()
    connection.send(Client.request(site.server.params(f"{site.folder.name}/{name}")))
    replies = connection.client.replies
    while not (1 in replies and b"\r\n\r\n" in replies[1].stdout):
        connection.receive_some()
        assert not connection.closed, site.server.log()
    return connection


def test_a_request_under_way_finishes_on_the_code_it_began_with(site: Site) -> None:
    """New requests get the new version while it waits; what it requires after that is the old module."""
    script = """
    function main(env, con)
        con:puts("{0} ")
        con:flush()
        while env.REQUEST_METHOD == "GET" do
            local go = io.open("go")
            if go then go:close() break end
            con:sleep(0.01)
        end
        con:puts("{0} " .. require "part")
    end
    """
    site.write("part.lua", 'return "old part"')
    site.write("page.lua", script.format("old"))
    with held_request(site) as first, held_request(site) as second:
        # Another state of this version has read the module; these have not.
        assert site.get(method="POST") == "old old old part"
        site.write("part.lua", 'return "new part"')
        site.write("page.lua", script.format("new"))
        until(lambda: site.get(method="POST") == "new new new part")
        (site.folder / "go").touch()
        assert first.reply().body == second.reply().body == b"old old old part"
    assert site.get() == "new new new part"


# States that stay


def test_globals_persist_while_nothing_changes(site: Site) -> None:
    """Other scripts, swap files, data, access modes and reads leave a script's state alone."""
    path = site.write("page.lua", SCRIPT.format("same"))
    site.write("other.lua", SCRIPT.format("other"))
    assert [site.get(), site.get("other.lua")] == ["same 1", "other 1"]
    site.write("other.lua", SCRIPT.format("changed"))
    (site.folder / ".page.lua.swp").write_text("swap")
    (site.folder / "data").mkdir()
    (site.folder / "data" / "page.lua").write_text("other")
    path.chmod(0o600)
    path.read_text()
    site.serves("changed 1", "other.lua")
    site.catch_up()
    assert site.get() == "same 2"


SAVE = {
    "in place": """
        local file = assert(io.open("data.lua", "w"))
        file:write(text)
        file:close()
    """,
    "appended": """
        os.remove("data.lua")
        local file = assert(io.open("data.lua", "a"))
        file:write(text)
        file:close()
    """,
    "by the standard output": """
        io.output("data.lua")
        io.write(text)
        io.close()
    """,
    "renamed": """
        local file = assert(io.open("data.new", "w"))
        file:write(text)
        file:close()
        assert(os.rename("data.new", "data.lua"))
    """,
}


@pytest.mark.parametrize("way", SAVE)
def test_a_script_that_writes_its_data_is_not_flushed_by_it(site: Site, way: str) -> None:
    """What was written in the same request is what dofile reads; the globals stay."""
    script = """
    local fcgi = require "luafcgid"
    function main(env, con)
        served = (served or 0) + 1
        local text = "return " .. fcgi.serialize({ served = served, text = ("x"):rep(served) })
        %s
        local data = dofile("data.lua")
        con:puts(served .. " " .. data.served .. " " .. #data.text)
    end
    """
    site.write("page.lua", script % SAVE[way])
    for served in "123":
        assert site.get().split() == [served, served, served]
        site.catch_up()


@pytest.mark.parametrize("way", SAVE)
def test_a_script_that_reads_its_data_before_it_writes_is_not_flushed(site: Site, way: str) -> None:
    """A session or a guest book in a file: read, changed and written by each request."""
    script = """
    local fcgi = require "luafcgid"
    function main(env, con)
        served = (served or 0) + 1
        local read = loadfile("data.lua")
        local data = read and read() or { served = 0 }
        data.served = data.served + 1
        local text = "return " .. fcgi.serialize(data)
        %s
        con:puts(served .. " " .. data.served)
    end
    """
    site.write("page.lua", script % SAVE[way])
    for served in "123":
        assert site.get().split() == [served, served]
        site.catch_up()


def test_what_another_script_has_written_is_read_at_once(site: Site) -> None:
    """dofile in a request reads the file as it is now: a form is saved by one script, and shown by another."""
    site.write(
        "save.lua",
        """
        function main(env, con)
            local file = assert(io.open("data.lua", "w"))
            file:write("return ", env.QUERY_STRING)
            file:close()
        end
        """,
    )
    site.write("show.lua", 'function main(env, con) con:puts((dofile "data.lua")) end')
    for number in range(20):
        assert site.get(f"save.lua?{number}") == ""
        assert site.get("show.lua") == str(number)


def test_a_change_that_one_state_has_seen_is_not_hidden_from_others(serve: Serve) -> None:
    """A clone made between a change and its notice holds the version of the others, and goes with them."""
    script = """
    part = dofile "part.lua"
    function main(env, con)
        con:puts("now ") con:flush()
        while env.QUERY_STRING == "hold" do
            local go = io.open("go")
            if go then go:close() break end
            con:sleep(0.01)
        end
        con:puts(part .. dofile "part.lua")
    end
    """
    server = serve({"site/page.lua": script, "site/part.lua": 'return "old "'}, "heartbeat = 0.4")
    site = Site(server, "site")
    with held_request(site, "page.lua?hold") as first:
        site.write("part.lua", 'return "new "')
        assert site.get() in ("now old new ", "now new new "), "the second when the change has been noticed already"
        (site.folder / "go").touch()
        assert first.reply().body == b"now old new "
    site.serves("now new new ")
    (site.folder / "go").unlink()
    with held_request(site, "page.lua?hold") as first, held_request(site, "page.lua?hold") as second:
        (site.folder / "go").touch()
        assert first.reply().body == second.reply().body == b"now new new "


# Scripts that go, and folders that come


def test_a_removed_script_is_gone(site: Site) -> None:
    """It is answered with 404, its states shut down, and it may come back."""
    path = site.write("page.lua", SCRIPT.format("here") + 'function shutdown(con) con:log("good bye") end')
    assert site.get() == "here 1"
    path.unlink()
    until(lambda: site.status() == 404)
    site.logged("good bye")
    site.write("page.lua", SCRIPT.format("back"))
    site.serves("back 1")


def test_a_renamed_folder_takes_its_scripts_with_it(site: Site) -> None:
    """The old paths are gone, the new ones are served, and are watched."""
    site.write("old/page.lua", SCRIPT.format("one"))
    assert site.get("old/page.lua") == "one 1"
    (site.folder / "old").rename(site.folder / "new")
    until(lambda: site.status("old/page.lua") == 404)
    assert site.get("new/page.lua") == "one 1"
    site.write("new/page.lua", SCRIPT.format("two"))
    site.serves("two 1", "new/page.lua")


def test_a_new_folder_works_at_once(site: Site) -> None:
    """A script in a folder made while the server runs is served, and watched like the others."""
    site.write("a/new/folder/page.lua", SCRIPT.format("one"))
    assert site.get("a/new/folder/page.lua") == "one 1"
    site.write("a/new/folder/page.lua", SCRIPT.format("two"))
    site.serves("two 1", "a/new/folder/page.lua")


# Deployments


class Visitor(threading.Thread):
    """Asks for scripts one after the other, and keeps what is wrong with the answers."""

    def __init__(self, site: Site, names: list[str]) -> None:
        super().__init__(daemon=True)
        self._site = site
        self._names = names
        self._renewed: set[str] = set()
        self.leaving = False
        self.answers = 0
        self.complaints: list[str] = []

    def run(self) -> None:
        while not self.leaving:
            for name in self._names:
                self._ask(name)

    def _ask(self, name: str) -> None:
        reply = self._site.server.get(f"{self._site.folder.name}/{name}")
        version = reply.body.split()[0] if reply.body else b""
        if reply.status != 200 or version not in (b"old", b"new"):
            self.complaints.append(f"{name}: {reply.stdout!r}")
        elif version == b"new":
            self._renewed.add(name)
        elif name in self._renewed:
            self.complaints.append(f"{name}: the old version came after the new one")
        self.answers += 1


def test_a_hundred_scripts_change_while_requests_go_on(site: Site) -> None:
    """No request fails, none gets the old version after the new one, and all are renewed."""
    names = [f"page{number}.lua" for number in range(100)]
    for name in names:
        site.write(name, SCRIPT.format("old"))
        assert site.get(name) == "old 1"
    visitors = [Visitor(site, names[at:] + names[:at]) for at in (0, 50)]
    for visitor in visitors:
        visitor.start()
    until(lambda: all(visitor.answers > 10 for visitor in visitors))
    for name in names:
        site.write(name, SCRIPT.format("new"))
    until(lambda: all(site.get(name).startswith("new") for name in names))
    for visitor in visitors:
        visitor.leaving = True
        visitor.join()
    assert [visitor.complaints for visitor in visitors] == [[], []]


class Releases:
    """`current`, a symbolic link to the release that is served, as scripts.root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for release in ("one", "two"):
            (folder / "releases" / release).mkdir(parents=True)
            for name in ("page.lua", "cold.lua"):
                text = SCRIPT.format(release) + 'function shutdown(con) con:log("good bye") end'
                (folder / "releases" / release / name).write_text(text)
        self.flip("one")

    def flip(self, release: str) -> None:
        """Lead to another release, in one step."""
        link = self.folder / "next"
        link.symlink_to(f"releases/{release}")
        os.replace(link, self.folder / "current")

    def get(self, server: Server, name: str) -> str:
        """What a script says; the web server names it by way of the link."""
        reply = server.get(name, SCRIPT_FILENAME=f"{self.folder}/current/{name}")
        assert reply.status == 200, server.log()
        return reply.body.decode()


def test_a_release_is_flipped(serve: Serve, tmp_path: Path, engine: str) -> None:
    """scripts.root leads to another release: its scripts are served, the old states shut down, and so on again."""
    releases = Releases(tmp_path)
    server = serve({}, engine + '[scripts]\nroot = "current"')
    assert releases.get(server, "page.lua") == "one 1"
    releases.flip("two")
    until(lambda: releases.get(server, "page.lua") == "two 1")
    assert releases.get(server, "cold.lua") == "two 1"
    log = server.logged("good bye")
    assert f"{tmp_path}/releases/one/page.lua" in next(line for line in log.splitlines() if "good bye" in line)
    replaced(tmp_path / "releases" / "two" / "page.lua", SCRIPT.format("fixed"))
    until(lambda: releases.get(server, "page.lua") == "fixed 1")
    releases.flip("one")
    until(lambda: releases.get(server, "page.lua") == "one 1")


def test_a_release_that_has_just_been_flipped_serves_what_nobody_asked_for_before(serve: Serve, tmp_path: Path) -> None:
    """Before the flip has been noticed, a script that is new to the server is not taken for one outside the root."""
    releases = Releases(tmp_path)
    server = serve({}, 'heartbeat = 3600\n[scripts]\nroot = "current"')
    assert releases.get(server, "page.lua") == "one 1"
    releases.flip("two")
    assert releases.get(server, "cold.lua") == "two 1"


def test_without_reload_nothing_is_reloaded(serve: Serve) -> None:
    """`reload = false`: a changed script goes on as it was, through any number of housekeeping beats."""
    script = """
    beats = 0
    function heartbeat() beats = beats + 1 end
    function main(env, con) con:puts("{} " .. beats) end
    """
    server = serve({"page.lua": script.format("old")}, "reload = false\nheartbeat = 0.01")

    def answer() -> tuple[bytes, int]:
        version, beats = server.get("page.lua").body.split()
        return version, int(beats)

    assert answer()[0] == b"old"
    server.write("page.lua", script.format("new"))
    _, before = answer()
    until(lambda: answer()[1] > before + 20)
    assert answer()[0] == b"old"


def test_a_hook_that_waits_holds_up_no_other_script(serve: Callable[..., Server]) -> None:
    """While one script's shutdown, init or heartbeat waits, other scripts are loaded anew and have their heartbeat."""
    waits = "function main(env, con) con:puts('{}') end function shutdown(con) con:sleep(1000) end "
    server = serve(
        {
            "a.lua": waits.format("one") + "function heartbeat(con) con:sleep(1000) end",
            "b.lua": "beats = 0 function heartbeat() beats = beats + 1 end function main(env, con) con:puts(beats) end",
            "c.lua": "function main(env, con) con:puts('old') end",
        },
        "graceful_timeout = 0.1\n",
    )
    for name in ("a.lua", "b.lua", "c.lua"):
        server.get(name)
    server.write("a.lua", waits.format("two") + "function init(con) con:sleep(1000) end")
    server.write("c.lua", "function main(env, con) con:puts('new') end")
    until(lambda: server.get("c.lua").body == b"new", "the new version of c.lua")
    until(lambda: int(server.get("b.lua").body) > 3, "b.lua's heartbeat")
