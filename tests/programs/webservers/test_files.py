"""Static files, folders, front scripts, and what nobody ever sees."""

from __future__ import annotations

import pytest

from .client import Web
from .scripts import FRONT_SCRIPTS, PRIVATE, SCRIPTS, SECRET


def without_haproxy(web: Web) -> None:
    """HAProxy sends no files."""
    if web.name == "haproxy":
        pytest.skip("HAProxy sends no files")


def location(web: Web, target: str) -> str | None:
    """Where a GET of `target` is sent, without the host."""
    response = web.get(target)
    assert response.status in (301, 308), response.status
    return response.headers["Location"].removeprefix(f"http://127.0.0.1:{web.port}")


def test_static_files_are_the_web_servers(server_web: Web) -> None:
    """They lie in a folder of their own, and never reach greenfcgi."""
    without_haproxy(server_web)
    response = server_web.get("/style.css")
    assert (response.status, response.body.decode()) == (200, SCRIPTS["public/style.css"])
    assert server_web.get("/sub/").body == b"an index"
    assert location(server_web, "/sub") == "/sub/"
    assert server_web.get("/.well-known/acme-challenge/x").body == b"a token"


def test_folders_with_an_index(web: Web) -> None:
    """scripts.index answers for its folder, also for the first one."""
    assert web.get("/").body == b"the first page"
    assert web.get("/?x=1").body == b"the first page"
    assert web.get("/admin/").body == b"admin /admin/index.lua "
    assert location(web, "/admin") == "/admin/"
    assert location(web, "/admin?x=%20") == "/admin/?x=%20"


def secrets() -> list[str]:
    """The URLs by which somebody may try to see what is private: by its place, and as a static file."""
    targets = [f"/{name}" for name in PRIVATE] + [f"/{name.removeprefix('public/')}" for name in PRIVATE]
    more = ["/.%65nv", "/%2eenv", "/sub/../.env", "//.env", "/sub/.%2fenv", "/%5fx.lua", "/views/x.html/y.lua"]
    more += ["/guestbook.db/x.lua", "/guestbook.db%0a.lua", "/public/", "/public", "/views.lua/", "/_lib/x.lua/y"]
    more += ["/env.lua/../guestbook.db", "/env.lua/..%2fguestbook.db", "/x.lua/../.env", "/public/style.css/x.lua"]
    more += ["/_files/guestbook.db", "/_files/.env", "/_files/../guestbook.db", "/_lib/", "/_lib", "/~greenfcgi/.env"]
    more += ["/~greenfcgi/guestbook.db", "/~greenfcgi/_lib/", "/~greenfcgi/_x.lua", "/_files/env.lua", "/x.lua/.env"]
    more += ["/views.lua/../guestbook.db", "/views.lua/x.html/..%2f..%2fguestbook.db", "/guestbook.db/", "/%2e%2e/.env"]
    return sorted({*targets, *more})


#: What these say beside 404: lighttpd to hidden files, Apache and HAProxy to control characters, greenfcgi to what
#: leads out of the root, which the others do not hand on.
OTHER_REFUSALS = {"lighttpd": (403,), "apache": (403,), "haproxy": (403, 500)}


@pytest.mark.parametrize("target", secrets())
def test_what_is_neither_script_nor_public_is_not_there(server_web: Web, target: str) -> None:
    """Data, templates, backups, hidden files and modules: nobody can ask for them, by whatever spelling."""
    response = server_web.get(target)
    assert SECRET.encode() not in response.body
    assert b"color" not in response.body
    if response.status == 200:
        # The path was not cleaned, and is the PATH_INFO of a script.
        assert server_web.name in ("caddy", "haproxy")
        assert response.variables()["SCRIPT_NAME"] == "/env.lua"
    else:
        assert response.status in (400, 404, *OTHER_REFUSALS.get(server_web.name, ()))


@pytest.mark.parametrize("target", sorted({f"/{name}" for name in PRIVATE} | {"/public/style.css", "/style.css"}))
def test_without_static_files_nothing_is_sent(bare_web: Web, target: str) -> None:
    """public = "": all is greenfcgi's."""
    response = bare_web.get(target)
    assert SECRET.encode() not in response.body or target in ("/public/x.lua", "/public/sub/x.lua")
    assert b"color" not in response.body


def test_without_static_files_scripts_run(bare_web: Web) -> None:
    """Those with PATH_INFO, and those of folders."""
    assert bare_web.get("/env.lua/a/b").variables()["PATH_INFO"] == "/a/b"
    assert bare_web.get("/").body == b"the first page"
    assert location(bare_web, "/admin") == "/admin/"
    assert bare_web.get("/admin/").body == b"admin /admin/index.lua "
    assert bare_web.get("/none").status == 404


@pytest.mark.parametrize(
    "target", ["/empty/", "/style.css/x.lua", "/style.css/x", "/none", "/none/", "/none.lua", "/none/x.lua/y", "/ä"]
)
def test_what_is_not_there(server_web: Web, target: str) -> None:
    """404, also for a folder without an index, and for what stands behind a static file."""
    assert server_web.get(target.replace("ä", "%C3%A4")).status == 404


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("/", "front [] [/]"),
        ("/users/1", "front [] [/users/1]"),
        ("/users/1/", "front [] [/users/1/]"),
        ("/a%20b/%C3%A4+c", "front [] [/a b/ä+c]"),
        ("/index.htm", "front [] [/index.htm]"),
        ("/page.lua", "page [/page.lua] []"),
        ("/page.lua/x/y", "page [/page.lua] [/x/y]"),
        ("/other.lp/y", "other [/other.lp] [/y]"),
        ("/none.lua", "front [] [/none.lua]"),
        ("/none.lp/z", "front [] [/none.lp/z]"),
        ("/a/x.lua/y", "front [] [/a/x.lua/y]"),
        ("/admin/", "admin [/admin/index.lua] []"),
        ("/admin/none/x", "front [] [/admin/none/x]"),
        ("/guestbook.db", "front [] [/guestbook.db]"),
    ],
)
def test_a_front_script(application_web: Web, target: str, answer: str) -> None:
    """It answers whatever is no file, without another rule."""
    response = application_web.get(target)
    assert (response.status, response.body.decode()) == (200, answer)


def test_static_files_beside_a_front_script(application_web: Web) -> None:
    """Files come first, and folders are sent to their slash."""
    assert location(application_web, "/admin") == "/admin/"
    without_haproxy(application_web)
    assert application_web.get("/style.css").body.decode() == FRONT_SCRIPTS["static files/style.css"]
    assert application_web.get("/sub/").body == b"an index"
    assert location(application_web, "/sub") == "/sub/"


@pytest.mark.parametrize(
    "target",
    [
        "/status", "/status?json", "/%73tatus", "//status", "/./status", "/x/../status", "/env.lua/../status",
        "/status/", "/status%00", "/STATUS", "/status/.", "/~greenfcgi/status", "/_files/status", "/ping", "//ping",
        "/%70ing?x", "/status/x.lua", "/status.lua",
    ],
)  # fmt: skip
def test_other_machines_see_no_figures(outside_web: Web, target: str) -> None:
    """status_path and ping_path are for the loopback alone."""
    response = outside_web.get(target)
    assert b"uptime" not in response.body
    assert b"pong" not in response.body
    assert response.status in (200, 301, 400, 403, 404, 500)
    assert response.status != 200 or response.variables()["SCRIPT_NAME"] == "/env.lua"


def test_this_machine_sees_figures(web: Web) -> None:
    """By status_path and ping_path."""
    assert b'"uptime"' in web.get("/status?json").body
    assert web.get("/ping").body == b"pong\n"
