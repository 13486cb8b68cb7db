"""Which files may run, and what a version of a script remembers of its files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from greenfcgi.errors import ScriptForbidden, ScriptMissing
from greenfcgi.fastcgi.client import Client
from greenfcgi.scripts.catalogue import Catalogue

from ..support.running import Server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one script, beside which lies another that must not run."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.lua").write_text("a")
    (root / "sub" / "b.lua").write_text("b")
    (root / "a.txt").write_text("no script")
    (root / "folder.lua").mkdir()
    (tmp_path / "outside.lua").write_text("outside")
    (tmp_path / "root-two").mkdir()
    (tmp_path / "root-two" / "c.lua").write_text("a sibling whose name begins alike")
    (root / "leaves.lua").symlink_to(tmp_path / "outside.lua")
    (root / "stays.lua").symlink_to(root / "a.lua")
    return root


def test_one_script_by_many_spellings(root: Path) -> None:
    """Every spelling of a path that leads to one file is one script."""
    catalogue = Catalogue(str(root), [".lua"])
    plain = catalogue.find(os.fsencode(root / "a.lua"))
    for spelling in (f"{root}//a.lua", f"{root}/sub/../a.lua", f"{root}/./a.lua", f"{root}/stays.lua"):
        assert catalogue.find(spelling.encode()) is plain
    assert [script.path for script in catalogue] == [str(root / "a.lua")]


@pytest.mark.parametrize("name", ["../outside.lua", "../root-two/c.lua", "leaves.lua", "a.lua\0.txt"])
def test_what_may_not_run_is_forbidden(root: Path, name: str) -> None:
    """Nothing outside the root, no zero byte; nothing tells whether a file is there."""
    with pytest.raises(ScriptForbidden, match="SCRIPT_FILENAME"):
        Catalogue(str(root), [".lua"]).find(f"{root}/{name}".encode())


@pytest.mark.parametrize(
    "name",
    ["none.lua", "folder.lua", "a.lua/b.lua", "a.txt/x.lua", "sub/a.lua", "a.txt", "none.txt", "sub", "a.LUA", ""],
)
def test_what_is_no_file_is_missing(root: Path, name: str) -> None:
    """A path is not walked up to find a file that exists; a directory or another extension is no script."""
    with pytest.raises(ScriptMissing, match="SCRIPT_FILENAME"):
        Catalogue(str(root), [".lua"]).find(f"{root}/{name}".encode())


@pytest.mark.parametrize("filename", [None, b""])
def test_no_script_filename_says_what_to_configure(root: Path, filename: bytes | None) -> None:
    """A web server that sends none gets a hint at fastcgi_param."""
    with pytest.raises(ScriptMissing, match="fastcgi_param"):
        Catalogue(str(root), [".lua"]).find(filename)


PREFIXES = [
    "proxy:fcgi://127.0.0.1:9000", "proxy:fcgi://[::1]:9000", "proxy:fcgi://localhost", "proxy:balancer://name",
    "proxy:unix:/run/g.sock|fcgi://localhost",
]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("sent", "name", "info"),
    [
        ("a.lua", "a.lua", ""),
        ("a.lua/", "a.lua", "/"),
        ("a.lua/x/y", "a.lua", "/x/y"),
        ("a.lua/x%20y%2Fz", "a.lua", "/x y/z"),
        ("a.lua/x.lua/y.lua", "a.lua", "/x.lua/y.lua"),
        ("a.lua?q=1", "a.lua", ""),
        ("a.lua/x?q=/b.lua", "a.lua", "/x"),
        ("sub/b.lua/x", "sub/b.lua", "/x"),
        ("folder.lua/c.lua/x", "folder.lua/c.lua", "/x"),
        ("with%20space.lua", "with space.lua", ""),
        ("with space.lua", "with space.lua", ""),
        ("with%20space.lua/a%3Fb", "with space.lua", "/a?b"),
        ("p%25.lua", "p%.lua", ""),
        ("p%.lua", "p%.lua", ""),
        ("100%25.lua", "100%25.lua", ""),
        ("why?.lua", "why?.lua", ""),
        ("a+b.lua", "a+b.lua", ""),
        ("%C3%A4.lua", "\u00e4.lua", ""),
        ("stays.lua/x", "stays.lua", "/x"),
        ("leaves.lua/x", "leaves.lua", "/x"),
        ("none.lua/x", "none.lua", "/x"),
        ("a.txt/x", "a.txt/x", ""),
        ("a.lu%61/x", "a.lua", "/x"),
    ],
)
def test_what_apache_means(root: Path, prefix: str, sent: str, name: str, info: str) -> None:
    """The address of the backend is taken off, percent signs are resolved, and the path is split behind the script."""
    for other in ("with space.lua", "p%.lua", "100%25.lua", "why?.lua", "a+b.lua", "\u00e4.lua", "folder.lua/c.lua"):
        (root / other).write_text("other")
    catalogue = Catalogue(str(root), [".lua"])
    for _ in range(2):
        found = catalogue.target(f"{prefix}{root}/{sent}".encode())
        assert found == (f"{root}/{name}".encode(), info.encode())
        try:
            catalogue.find(found.path)
        except (ScriptForbidden, ScriptMissing):
            assert name in ("leaves.lua", "none.lua", "a.txt/x")


@pytest.mark.parametrize(
    "path", ["%2e%2e/outside.lua", "../outside.lua", "%2e%2e%2foutside.lua/x", "a.lua%00.txt", "leaves.lua/x"]
)
def test_apache_leads_nobody_outside(root: Path, path: str) -> None:
    """What is resolved is looked at as any other path."""
    catalogue = Catalogue(str(root), [".lua"])
    with pytest.raises(ScriptForbidden):
        catalogue.find(catalogue.target(f"proxy:fcgi://localhost{root}/{path}".encode()).path)


def test_apache_paths_take_no_time_and_no_memory(root: Path) -> None:
    """A thousand scripts in one path, and thousands of paths: each is looked at once, and forgotten."""
    catalogue = Catalogue(str(root), [".lua"])
    start = time.thread_time()
    for number in range(3_000):
        catalogue.target(f"proxy:fcgi://localhost{root}/a.lua/{number}".encode())
    catalogue.find(os.fsencode(root / "a.lua"))
    for number in range(3_000):
        catalogue.target(f"proxy:fcgi://localhost{root}/a.lua?{number}".encode())
    for _ in range(10):
        catalogue.target(f"proxy:fcgi://localhost{root}{'/x.lua' * 10_000}".encode())
    assert time.thread_time() - start < 5
    assert len(catalogue._proxied) <= 1_000


def test_a_version_reads_each_file_once(root: Path) -> None:
    """What a version has read stays so while the file changes; a look at it as it is now does not hide the change."""
    version = Catalogue(str(root), [".lua"]).find(os.fsencode(root / "a.lua")).version
    path = str(root / "a.lua")
    assert version.read(path) == b"a"
    Path(path).write_text("changed")
    assert version.read(path) == b"a"
    assert version.stale()
    assert version.read(path, fresh=True) == b"changed"
    assert version.read(path) == b"a"
    assert version.stale()


def test_a_change_that_leaves_size_and_time_is_seen_by_the_text(root: Path) -> None:
    """Two writes within one tick of the clock look alike from outside; the text tells them apart."""
    path = root / "a.lua"
    version = Catalogue(str(root), [".lua"]).find(os.fsencode(path)).version
    version.read(str(path))
    before = path.stat()
    path.write_text("b")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert version.stale()


def test_touched_finds_scripts_by_file_folder_and_link(root: Path) -> None:
    """A script is touched by a change of a file it has read, of a folder above one, or of the link it was asked by."""
    catalogue = Catalogue(str(root), [".lua"])
    script = catalogue.find(os.fsencode(root / "stays.lua"))
    script.version.read(script.path)
    script.version.read(str(root / "sub" / "b.lua"))
    for path in (root / "a.lua", root / "sub" / "b.lua", root / "sub", root / "stays.lua"):
        assert catalogue.affected_by(frozenset([str(path)])) == [script]
    assert catalogue.affected_by(frozenset([str(root / "a.txt"), str(root / "su")])) == []


def test_a_root_that_moves_takes_its_scripts_out(tmp_path: Path) -> None:
    """When the root is a link that is flipped to another release, the scripts of the old one are gone."""
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "a.lua").write_text(release)
    current = tmp_path / "current"
    current.symlink_to("one")
    catalogue = Catalogue(str(current), [".lua"])
    old = catalogue.find(f"{current}/a.lua".encode())
    current.unlink()
    current.symlink_to("two")
    assert catalogue.follow_root() == [old]
    assert catalogue.find(f"{current}/a.lua".encode()).path == str(tmp_path / "two" / "a.lua")


def test_each_file_is_told_before_it_is_read(root: Path) -> None:
    """Whoever watches hears of each file once, also of one that is missing; and of the link a script is asked by."""
    catalogue = Catalogue(str(root), [".lua"])
    told: list[str] = []
    catalogue.on_read = told.append
    version = catalogue.find(os.fsencode(root / "stays.lua")).version
    assert told == [str(root / "stays.lua")]
    for _ in range(2):
        version.read(str(root / "a.lua"))
        version.read(str(root / "sub" / "b.lua"), fresh=True)
        with pytest.raises(FileNotFoundError):
            version.read(str(root / "none.lua"))
    assert told == [str(root / name) for name in ("stays.lua", "a.lua", "sub/b.lua", "none.lua")]


ENV = """
function main(env, con)
    for _, name in ipairs { "SCRIPT_FILENAME", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "HTTP_COOKIE" } do
        con:puts(name .. "=" .. tostring(env[name]) .. "\\n")
    end
end
"""
#: What Apache 2.4 was seen to send for /env.lua/x/y%20z?a=1, /a%20b.lua and /env.lua, and what a script is to see.
SENT = {
    "ProxyPassMatch": (
        "proxy:fcgi://127.0.0.1:9000{}/env.lua/x/y%20z", "/env.lua/x/y z", None, "env.lua", "/env.lua", "/x/y z",
    ),
    "balancer": ("proxy:balancer://name{}/env.lua/x/y%20z", "/env.lua/x/y z", None, "env.lua", "/env.lua", "/x/y z"),
    "rewritten": ("proxy:fcgi://localhost{}/env.lua/x?q=1", "/elsewhere", None, "env.lua", "/elsewhere", "/x"),
    "a space": ("proxy:fcgi://h{}/a%20b.lua", "/a b.lua", None, "a b.lua", "/a b.lua", None),
    "SetHandler": ("proxy:fcgi://localhost{}/env.lua", "/env.lua", "/x/y z", "env.lua", "/env.lua", "/x/y z"),
    "nothing more": ("proxy:fcgi://localhost{}/env.lua", "/env.lua", None, "env.lua", "/env.lua", None),
    "no proxy": ("{}/env.lua", "/env.lua", "/x", "env.lua", "/env.lua", "/x"),
}  # fmt: skip


@pytest.mark.parametrize("way", SENT)
def test_scripts_see_what_apache_meant(serve: Callable[..., Server], way: str) -> None:
    """SCRIPT_FILENAME, SCRIPT_NAME and PATH_INFO are right, and what else was sent stays as it was."""
    server = serve({"env.lua": ENV, "a b.lua": ENV})
    filename, name, info, expected_file, expected_name, expected_info = SENT[way]
    params = server.params(
        "env.lua?a=1", SCRIPT_FILENAME=filename.format(server.root), SCRIPT_NAME=name, HTTP_COOKIE="a=b"
    )
    for _ in range(2):
        with server.connect() as connection:
            connection.send(Client.request(params | ({"PATH_INFO": info} if info is not None else {})))
            reply = connection.reply()
        assert reply.body.decode().splitlines() == [
            f"SCRIPT_FILENAME={server.root}/{expected_file}",
            f"SCRIPT_NAME={expected_name}",
            f"PATH_INFO={expected_info if expected_info is not None else 'nil'}",
            "QUERY_STRING=a=1",
            "HTTP_COOKIE=a=b",
        ]
    reply = server.get("x", SCRIPT_FILENAME=f"{server.root}/env.lua/x")
    assert reply.status == 404, "a path that comes without the prefix is not walked up"


def test_what_follows_a_missing_file_leads_nowhere_else(serve: Callable[..., Server]) -> None:
    """Apache calls it PATH_INFO; it is a part of the path, and not a way up from it."""
    server = serve({"env.lua": ENV, "sub/env.lua": ENV})
    missing = f"proxy:fcgi://localhost{server.root}/none"
    for info, status in (("/../env.lua", 404), ("/../sub/env.lua", 404), ("/..", 404), ("/x", 404)):
        assert server.get("x", SCRIPT_FILENAME=missing, SCRIPT_NAME="/none", PATH_INFO=info).status == status
    folder = f"proxy:fcgi://localhost{server.root}/sub"
    assert server.get("x", SCRIPT_FILENAME=folder, SCRIPT_NAME="/sub", PATH_INFO="/env.lua").status == 200


@pytest.mark.parametrize(
    "name", ["_a.lua", "_lib/a.lua", "x/_lib/y/a.lua", ".a.lua", ".git/a.lua", "public/a.lua", "public/x/a.lua"]
)
def test_nobody_asks_for_what_is_private_or_public(root: Path, name: str) -> None:
    """Modules have places of their own, and what lies among static files, perhaps an upload, is never run."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()
    with pytest.raises(ScriptMissing, match="is not run: "):
        Catalogue(str(root), [".lua"], "public").find(f"{root}/{name}".encode())


def test_links_to_what_is_private(root: Path) -> None:
    """Where a file lies counts, and not how it was reached; a link without a dot is no way around."""
    (root / "_lib").mkdir()
    (root / "_lib" / "a.lua").touch()
    (root / "way.lua").symlink_to("_lib/a.lua")
    with pytest.raises(ScriptMissing):
        Catalogue(str(root), [".lua"]).find(f"{root}/way.lua".encode())


def test_scripts_of_kubernetes_are_run(root: Path) -> None:
    """A mounted folder's files are links into ..data, which is a link, too."""
    (root / "..2026_11_25").mkdir()
    (root / "..2026_11_25" / "k.lua").touch()
    (root / "..data").symlink_to("..2026_11_25")
    (root / "k.lua").symlink_to("..data/k.lua")
    assert Catalogue(str(root), [".lua"], "public").find(f"{root}/k.lua".encode()).path.endswith("k.lua")


def test_a_public_folder_that_is_a_link(root: Path) -> None:
    """Its files are not run, by whichever of its names they are asked for."""
    (root / "files").mkdir()
    (root / "files" / "a.lua").touch()
    (root / "public").symlink_to("files")
    for name in ("public/a.lua", "files/a.lua"):
        with pytest.raises(ScriptMissing, match="public"):
            Catalogue(str(root), [".lua"], "public").find(f"{root}/{name}".encode())


def test_without_a_public_folder(root: Path) -> None:
    """A folder of this name is one like any other, and so is the one that holds the root."""
    folder = root / "_site" / "public"
    folder.mkdir(parents=True)
    (folder / "a.lua").touch()
    assert Catalogue(str(folder.parent), [".lua"]).find(f"{folder}/a.lua".encode()).path == str(folder / "a.lua")
