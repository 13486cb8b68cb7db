"""What answers a URL that names no script: a folder's index, the front script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from greenfcgi.config.load import defaults
from greenfcgi.errors import FolderMoved, ScriptMissing
from greenfcgi.scripts.catalogue import Catalogue
from greenfcgi.scripts.routes import Route, Routes

from ..support.developing import Developing
from ..support.running import Server

Serve = Callable[..., Server]

SHOW = """
function main(env, con)
    con:puts("TITLE ", env.SCRIPT_NAME or "nil", " ", env.PATH_INFO or "nil", " ", env.QUERY_STRING)
end
"""
SCRIPTS = {
    "front.lua": SHOW.replace("TITLE", "front"),
    "page.lua": SHOW.replace("TITLE", "page"),
    "index.lua": SHOW.replace("TITLE", "index"),
    "shop/index.lua": SHOW.replace("TITLE", "shop"),
    "bare/page.lua": SHOW.replace("TITLE", "bare"),
    "_lib/index.lua": SHOW.replace("TITLE", "lib"),
    "_lib/a.lua": SHOW.replace("TITLE", "a"),
    "public/style.css": "",
    "public/index.lua": "",
}
FRONT = '[scripts]\nfront = "front.lua"\n'


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("", "index /index.lua  q=1"),
        ("shop/", "shop /shop/index.lua  q=1"),
        ("page.lua", "page /page.lua nil q=1"),
        ("page.lua/more/still", "page /page.lua /more/still q=1"),
        ("bare/", "front  /bare/ q=1"),
        ("bare", "front  /bare q=1"),
        ("users/1", "front  /users/1 q=1"),
        ("users/ü x", "front  /users/ü x q=1"),
        ("none.lua", "front  /none.lua q=1"),
        ("none.lua/x", "front  /none.lua/x q=1"),
        ("a.lua.txt/b", "front  /a.lua.txt/b q=1"),
        ("public/none", "front  /public/none q=1"),
        (".git/config", "front  /.git/config q=1"),
        ("front.lua", "front /front.lua nil q=1"),
    ],
)
def test_a_front_script(serve_once: Serve, path: str, answer: str) -> None:
    """It answers whatever is no script and no folder's, with the path as PATH_INFO."""
    server = serve_once(SCRIPTS, FRONT)
    # Twice: known by its SCRIPT_FILENAME, or not.
    for _ in range(2):
        reply = server.get(f"{path}?q=1")
        assert (reply.status, reply.body.decode()) == (200, answer)


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        # The web server's root is the folder of static files.
        ({"SCRIPT_FILENAME": "ROOT/public/users/1"}, "front  /users/1 "),
        # It has taken a file that is not there for a script with PATH_INFO, as Apache does.
        (
            {"SCRIPT_FILENAME": "proxy:fcgi://h//ROOT/public/a", "SCRIPT_NAME": "/a", "PATH_INFO": "/b/c d"},
            "front  /a/b/c d ",
        ),
        (
            {"SCRIPT_FILENAME": "proxy:fcgi://h/ROOT/public/shop", "SCRIPT_NAME": "/shop", "PATH_INFO": "/"},
            "shop /shop/index.lua  ",
        ),
        # It is elsewhere, or not said.
        ({"SCRIPT_FILENAME": "/srv/www/users/1"}, "front  /users/1 "),
        ({"SCRIPT_FILENAME": ""}, "front  /users/1 "),
        # The web server has found PATH_INFO behind an ending.
        (
            {"SCRIPT_FILENAME": "ROOT/none.lua", "SCRIPT_NAME": "/none.lua", "PATH_INFO": "/x"},
            "front  /none.lua/x ",
        ),
        # It sends all to this one.
        ({"SCRIPT_FILENAME": "ROOT/front.lua"}, "front /users/1 nil "),
    ],
)
def test_whatever_the_web_server_says(serve_once: Serve, more: dict[str, str], answer: str) -> None:
    """The path of the URL is found in what it sends."""
    server = serve_once(SCRIPTS, FRONT)
    more = {name: value.replace("ROOT", str(server.root)) for name, value in more.items()}
    assert server.get("users/1", b"", **more).body.decode() == answer


@pytest.mark.parametrize("settings", ["", FRONT])
@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/", "index /index.lua  "),
        ("/page.lua", "page /page.lua  "),
        ("/page.lua/more/still", "page /page.lua /more/still "),
        ("/shop/", "shop /shop/index.lua  "),
        ("/bare/page.lua/x.lua", "bare /bare/page.lua /x.lua "),
        ("/shop", "/shop/"),
        ("/docs", "/docs/"),
        ("/bare", ""),
        ("/users/1", ""),
        ("/none.lua/x", ""),
        ("/style.css", ""),
        ("/public/style.css", ""),
        ("/_lib/", None),
        ("/_lib/a.lua/x", None),
        ("/page.lua/../style.css", None),
        ("/\0", None),
    ],
)
@pytest.mark.parametrize("cut", [0, 2])
def test_the_folder_as_script_filename(
    serve_once: Serve, settings: str, path: str, answer: str | None, cut: int
) -> None:
    """Where the web server sends scripts.root, the path of the URL decides, wherever it is cut."""
    server = serve_once(SCRIPTS | {"public/docs/index.html": ""}, settings)
    reply = server.get("x", b"", SCRIPT_FILENAME=str(server.root), SCRIPT_NAME=path[:cut], PATH_INFO=path[cut:])
    if answer is None or (not answer and not settings):
        assert reply.status == 404 or reply.body.decode() == f"front  {path} "
    elif reply.status == 301:
        assert reply.head["location"] == [answer]
    else:
        assert reply.body.decode() == (answer or f"front  {path} ")


@pytest.mark.parametrize("settings", ["", FRONT])
def test_a_folder_without_its_slash(serve_once: Serve, settings: str) -> None:
    """The browser is sent to where links of the page are right; never to another host."""
    server = serve_once(SCRIPTS, settings)
    reply = server.get("shop?a=b&c")
    assert (reply.status, reply.head["location"], reply.body) == (301, ["/shop/?a=b&c"], b"")
    reply = server.get("/shop", SCRIPT_FILENAME=f"{server.root}//shop")
    assert reply.head["location"] == ["/shop/"]
    assert server.get("shop", QUERY_STRING="a\r\nX: y").head["location"] == ["/shop/"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 200), ("shop/", 200), ("bare/", 404), ("users/1", 404), ("none.lua", 404), ("page.lua/x", 404),
        ("_lib/", 404), ("_lib", 404), ("_lib/a.lua", 404), ("public/", 404), ("shop/../page.lua", 200),
        ("shop/\0/", 403), ("shop/../../lua_scripts/shop/", 404), ("../", 403),
    ],
)  # fmt: skip
def test_without_a_front_script(serve_once: Serve, path: str, status: int) -> None:
    """Only the index of folders is new, and what is private stays so."""
    assert serve_once(SCRIPTS).get(path).status == status


@pytest.mark.parametrize("path", ["_lib/", "_lib", "_lib/a.lua", "_lib/a.lua/x"])
def test_what_is_private_stays_so(serve_once: Serve, path: str) -> None:
    """A front script opens nothing else."""
    reply = serve_once(SCRIPTS, FRONT).get(path)
    assert reply.status == 404 or reply.body.startswith(b"front")


def test_another_index(serve: Serve) -> None:
    """As the setting has it."""
    server = serve(SCRIPTS, '[scripts]\nindex = "page.lua"\n')
    assert server.get("bare/").body == b"bare /bare/page.lua  "
    assert server.get("shop/").status == 404


def test_no_index(serve: Serve) -> None:
    """Folders are nothing."""
    assert serve(SCRIPTS, '[scripts]\nindex = ""\n').get("shop/").status == 404


def test_a_script_that_comes_later(serve: Serve) -> None:
    """It takes its URL from the front script at once; and gives it back."""
    server = serve(SCRIPTS, FRONT)
    assert server.get("new.lua").body.startswith(b"front")
    path = server.write("new.lua", SHOW.replace("TITLE", "new"))
    assert server.get("new.lua").body.startswith(b"new")
    path.unlink()
    server.logged("new.lua: flushed")
    assert server.get("new.lua").body.startswith(b"front")


def test_a_front_script_that_changes(serve: Serve) -> None:
    """It is flushed as any script; one that is private is fine."""
    server = serve({"_app.lua": SHOW.replace("TITLE", "one")}, '[scripts]\nfront = "_app.lua"\n')
    assert server.get("x").body == b"one  /x "
    server.write("_app.lua", SHOW.replace("TITLE", "two"))
    server.logged("_app.lua: changed")
    assert server.get("x").body == b"two  /x "
    assert server.get("_app.lua").body.startswith(b"two ")


def test_one_that_is_not_there(tmp_path: Path) -> None:
    """The start and --check-config say so in one line."""
    (tmp_path / "lua_scripts").mkdir()
    (tmp_path / "config.toml").write_text('bind = "unix:s"\n[scripts]\nfront = "none.lua"\n')
    for arguments in (["--check-config", "config.toml"], ["config.toml"]):
        done = subprocess.run(
            [sys.executable, "-m", "greenfcgi", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 2
        assert '[scripts] front: found "none.lua", expected a script: ' in done.stderr
        assert "Traceback" not in done.stderr


def test_in_the_developer_mode(tmp_path: Path) -> None:
    """The same URLs lead to the same scripts; static files come before the front script."""
    with Developing(tmp_path, SCRIPTS | {"public/style.css": "a {}"}, scripts='front = "front.lua"') as server:
        for path, text in (
            ("/users/1", "front  /users/1 "), ("/", "index /index.lua"), ("/shop/", "shop /shop/index.lua"),
            ("/style.css", "a {}"), ("/none.css", "front  /none.css"), ("/.env", "front  /.env"),
            ("/bare", "front  /bare "), ("/bare/", "front  /bare/ "),
        ):  # fmt: skip
            assert text in server.ask(path).text, path
        assert server.ask("/shop").headers["location"] == "/shop/"


def test_routes_of_a_root_by_a_link(tmp_path: Path) -> None:
    """A deployment's link may come to lead elsewhere."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.lua").touch()
    root = tmp_path / "current"
    root.symlink_to("one")
    settings = defaults(str(tmp_path), str(root)).scripts
    catalogue = Catalogue(str(root), [".lua"])
    routes = Routes(catalogue, settings, {}, ())
    found = routes.find(os.fsencode(f"{root}/"), dict)
    assert isinstance(found, Route)
    assert found.script.path == f"{tmp_path}/one/index.lua"
    root.unlink()
    root.symlink_to("two")
    catalogue.follow_root()
    found = routes.find(os.fsencode(f"{root}/"), dict)
    assert isinstance(found, Route)
    assert found.script.path == f"{tmp_path}/two/index.lua"
    found = routes.find(os.fsencode(root), lambda: {b"PATH_INFO": b"/"})
    assert isinstance(found, Route)
    assert found.script.path == f"{tmp_path}/two/index.lua"
    with pytest.raises(ScriptMissing):
        routes.find(os.fsencode(root), dict)
    (tmp_path / "two" / "x").mkdir()
    (tmp_path / "two" / "x" / "index.lua").touch()
    with pytest.raises(FolderMoved) as moved:
        routes.find(os.fsencode(f"{root}/x"), dict)
    assert moved.value.path == "/x/"


APPS = """
[scripts]
front = "front.lua"

[apps]
"/shop" = { wsapi = "store.shop" }
"/shop/help" = { wsapi = "help" }
"/other" = { wsapi = "store.shop" }
"""
SHOP = """
local names = require "names"
return function(env)
    local text = "TITLE " .. env.SCRIPT_NAME .. " " .. env.PATH_INFO .. " " .. names[1]
    return 200, { ["Content-Length"] = #text }, coroutine.wrap(function() coroutine.yield(text) end)
end
"""
APP_FILES = {
    "front.lua": SHOW.replace("TITLE", "front"),
    "store/shop.lua": SHOP.replace("TITLE", "shop"),
    "help/init.lua": SHOP.replace("TITLE", "help"),
    "names.lua": 'return { "one" }',
    "shop/page.lua": SHOW.replace("TITLE", "page"),
}


def test_programs_by_their_paths(serve: Serve) -> None:
    """The longest path counts; a script that is there comes first; their modules are found from the root."""
    server = serve(APP_FILES, APPS)
    for path, text in (
        ("shop", "shop /shop / one"), ("shop/", "shop /shop / one"), ("shop/a/b.txt", "shop /shop /a/b.txt one"),
        ("shop/help", "help /shop/help / one"), ("shop/help/x", "help /shop/help /x one"),
        ("shop/helper", "shop /shop /helper one"), ("other/x", "shop /other /x one"), ("shopping", "front  /shopping "),
        ("shop/page.lua", "page /shop/page.lua nil "), ("shop/none.lua/x", "shop /shop /none.lua/x one"),
    ):  # fmt: skip
        reply = server.get(path)
        assert (reply.status, reply.body.decode()) == (200, text), path


def test_a_program_that_changes(serve: Serve) -> None:
    """It is reloaded when one of its modules is saved; one that does not load leaves the last good one; it may go."""
    server = serve(APP_FILES, APPS)
    assert server.get("shop/x").body == b"shop /shop /x one"
    server.write("names.lua", 'return { "two" }')
    server.logged("shop.lua: changed (in names.lua)")
    assert server.get("shop/x").body == b"shop /shop /x two"
    server.write("store/shop.lua", "return (")
    server.logged("the last good version stays in service")
    assert server.get("shop/x").body == b"shop /shop /x two"
    server.write("store/shop.lua", SHOP.replace("TITLE", "new"))
    server.logged("shop.lua: changed: reloaded")
    assert server.get("shop/x").body == b"new /shop /x two"
    (server.root / "store" / "shop.lua").unlink()
    server.logged("flushed: its file is gone")
    assert server.get("shop/x").status == 404
    server.write("store/shop.lua", SHOP.replace("TITLE", "back"))
    assert server.get("shop/x").body == b"back /shop /x two"


def test_programs_in_several_processes(serve: Serve) -> None:
    """A start, and a reload of the configuration, with the version that is good."""
    server = serve(APP_FILES, "processes = 2\n" + APPS)
    assert server.get("shop/x").body == b"shop /shop /x one"
    server.write("store/shop.lua", "return (")
    server.logged("the last good version stays in service")
    server.send_signal(signal.SIGHUP)
    server.logged("reloaded")
    for _ in range(4):
        assert server.get("shop/x").body == b"shop /shop /x one"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('"shop" = { wsapi = "a" }', 'apps: found "shop" (text), expected the path of a URL as key'),
        ('"/shop/" = { wsapi = "a" }', 'found "/shop/"'),
        ('"/a/../b" = { wsapi = "a" }', 'found "/a/../b"'),
        ('"/a" = "shop"', '."/a": found "shop" (text), expected { wsapi = "MODULE" } or { lapis = "MODULE" }'),
        ('"/a" = { rails = "shop" }', "expected { wsapi"),
        ('"/a" = { wsapi = "a", lapis = "b" }', "expected { wsapi"),
        ('"/a" = { wsapi = "../x" }', '."/a".wsapi: found "../x" (text), expected the name of a Lua module'),
        ('"/a" = { wsapi = "none.such" }', '[apps] "/a": there is no file of the module "none.such": looked for '),
    ],
)
def test_what_is_no_program(tmp_path: Path, table: str, problem: str) -> None:
    """--check-config says it in one line."""
    (tmp_path / "lua_scripts").mkdir()
    (tmp_path / "config.toml").write_text(f'bind = "unix:s"\n[apps]\n{table}\n')
    done = subprocess.run(
        [sys.executable, "-m", "greenfcgi", "--check-config", "config.toml"], cwd=tmp_path, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
