"""Native modules: those built for another Lua are refused, and what is to be written into config.toml is said."""

from __future__ import annotations

import glob
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from greenfcgi.lua.native_modules import folders, hint, misfit, system_folders

from ..support.inside import FLAVOURS, Inside, run_python
from ..support.running import Server

#: Modules as Debian has them: lua-cjson, lua-lpeg, lua-filesystem, lua-zlib, and whatever else is there.
MODULES = sorted(glob.glob("/usr/lib/*/lua/5.[1-5]/**/*.so", recursive=True))
CJSON = [path for path in MODULES if path.endswith("/5.4/cjson.so")]
needs_cjson = pytest.mark.skipif(not CJSON, reason="needs lua-cjson")


def elf(*names: str, code: bytes = b"", is_weak: bool = False, is_defined: bool = False) -> bytes:
    """A file of 64 bits that imports functions of these names, and not more than is looked at."""
    texts, places = b"\0", []
    for name in names:
        places.append(len(texts))
        texts += name.encode() + b"\0"
    symbols = bytes(24)
    for place in places:
        symbols += struct.pack("<IBBHQQ", place, (2 if is_weak else 1) << 4, 0, int(is_defined), 0, 0)
    body = symbols + texts + code
    start = 64 + len(body)
    sections = (
        struct.pack("<IIQQQQIIQQ", 0, 11, 0, 0, 64, len(symbols), 1, 0, 0, 24),
        struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 64 + len(symbols), len(texts), 0, 0, 0, 0),
    )
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, start, 0, 64, 0, 0, 64, 2, 0)
    return head + body + b"".join(sections)


@pytest.mark.parametrize(
    ("code", "fits"),
    [
        (b"", "12345"),
        (b"\x7fELF", "12345"),
        (b"\x7fELF\2\1" + b"\xff" * 80, "12345"),
        (elf("lua_pushnil"), "12345"),
        (elf("lua_objlen", "lua_pushnil"), "1"),
        (elf("luaL_setfuncs", "lua_newuserdata", "lua_pcallk"), "23"),
        (elf("lua_rotate", "lua_newuserdata"), "3"),
        (elf("lua_newuserdatauv"), "45"),
        (elf("lua_newuserdatauv", code=b"\xbe\xd8\xb9\xf0\xff"), "4"),
        (elf("lua_newuserdatauv", code=b"\xbe\x18\xfc\xff\xbf"), "5"),
        (elf("lua_pushnil", code=b"\xbe\xf0\xd8\xff\xff"), "1"),
        (elf("lua_pushnil", code=b"\xe8\xf0\xd8\xff\xff"), "12345"),
        (elf("lua_pushnil", code=b"\xbe\xd8\xb9\xf0\xff"), "234"),
        (elf("luaL_checkversion_", code=struct.pack("<d", 503)), "3"),
        (elf("lua_pushnil", code=struct.pack("<d", 503)), "12345"),
        # What may be missing, and what it has itself, says nothing.
        (elf("lua_objlen", is_weak=True), "12345"),
        (elf("lua_objlen", is_defined=True), "12345"),
        # What contradicts itself is left to Lua.
        (elf("lua_objlen", code=b"\xbe\xd8\xb9\xf0\xff"), "1"),
    ],
)
def test_what_the_code_tells(tmp_path: Path, code: bytes, fits: str) -> None:
    """Imported functions, the numbers of the registry, and the version that is checked tell the Luas apart."""
    path = tmp_path / "module.so"
    path.write_bytes(code)
    assert "".join(str(minor) for minor in range(1, 6) if not misfit(str(path), minor)) == fits


def test_what_names_tell(tmp_path: Path) -> None:
    """A folder, or the name behind a link, decides where the code does not."""
    real = tmp_path / "liblua5.3-a.so"
    real.write_bytes(elf("lua_pushnil"))
    (tmp_path / "a.so").symlink_to(real)
    assert misfit(str(tmp_path / "a.so"), 4) == (
        f"{tmp_path}/a.so: built for Lua 5.3, and cannot be loaded into Lua 5.4"
    )
    assert not misfit(str(tmp_path / "a.so"), 3)
    real.write_bytes(elf("lua_objlen"))
    assert not misfit(str(tmp_path / "a.so"), 1)
    assert misfit(str(tmp_path / "a.so"), 3).endswith("built for Lua 5.1 (LuaJIT), and cannot be loaded into Lua 5.3")
    assert not misfit(str(tmp_path / "none.so"), 3)
    assert not misfit("a\0b", 3)


@pytest.mark.skipif(not MODULES, reason="needs modules of Debian's")
@pytest.mark.parametrize("path", MODULES, ids=[re.sub(".*/lua/", "", path) for path in MODULES])
def test_modules_of_debian(path: str) -> None:
    """Each is for its own Lua, and for no other."""
    (minor,) = re.findall(r"/lua/5\.(\d)/", path)
    assert [number for number in range(1, 6) if not misfit(path, number)] == [int(minor)]


def test_system_folders() -> None:
    """ "system" stands for them among other folders."""
    found = system_folders(4)
    assert {"/usr/local/lib/lua/5.4", "/usr/lib/lua/5.4", "/usr/lib64/lua/5.4"} <= set(found)
    assert folders(("/a", "system", "/b/?.so"), 4) == ["/a", *found, "/b/?.so"]
    assert not folders((), 4)


@needs_cjson
def test_hints() -> None:
    """The line for config.toml keeps what is there; where only another Lua has the module, that is said."""
    assert hint("cjson", (), 4) == f'{CJSON[0]} is a module written in C: put lua.cpath = ["system"] into config.toml'
    assert hint("cjson", ("/a",), 4).endswith('put lua.cpath = ["/a", "system"] into config.toml')
    assert hint("cjson", ("system",), 5) == (
        f"{CJSON[0]} is a module written in C, built for Lua 5.4, and scripts run in Lua 5.5"
    )
    for name in ("no.such", "", ".", "a\0b", "/etc/passwd", "cjson.so"):
        assert not hint(name, (), 4)


SCRIPT = """
    function main(env, con)
        local ok, module = pcall(require, "cjson")
        con:puts(ok and module.encode({ 1, 2 }) or module:match("[^\\n]*$"))
    end
"""


@needs_cjson
@pytest.mark.parametrize("version", FLAVOURS)
def test_with_and_without(serve: Callable[..., Server], version: str) -> None:
    """require says which line opens the module, and with that line it works; in a Lua without one, it says so."""
    server = serve({"json.lua": SCRIPT}, f'[lua]\nversion = "{version}"\n')
    said = server.get("json.lua").body.decode()
    if version == "lua55":
        assert said.endswith("built for Lua 5.4, and scripts run in Lua 5.5")
    else:
        assert said.endswith('/cjson.so is a module written in C: put lua.cpath = ["system"] into config.toml')
    line = said.partition(": put lua.")[2].partition(" into")[0] or 'cpath = ["system"]'
    server = Server(server.folder / "with", {"json.lua": SCRIPT}, f'[lua]\nversion = "{version}"\n{line}\n')
    with server:
        for _ in range(2):
            assert server.get("json.lua").body.decode() == (said if version == "lua55" else "[1,2]")


@needs_cjson
@pytest.mark.parametrize("version", FLAVOURS)
def test_modules_of_all_others(tmp_path: Path, version: str) -> None:
    """Through lua.cpath, a tree as luarocks makes it, and package.loadlib: refused, and the process goes on."""
    lines = []
    own = 1 if version.startswith("luajit") else int(version[-1])
    for path in MODULES:
        found = re.search(r"/lua/5\.(\d)/(cjson|lpeg|lfs|zlib)\.so$", path)
        # Without its place, that of 5.2 could be one of 5.3's, and works there.
        if found is None or int(found[1]) == own or (found[2] == "lfs" and {int(found[1]), own} == {2, 3}):
            continue
        name = f"{found[2]}{found[1]}"
        (tmp_path / f"tree{found[1]}").mkdir(exist_ok=True)
        (tmp_path / f"tree{found[1]}" / f"{name}.so").write_bytes(Path(path).read_bytes())
        lines.append((name, path))
    trees = ", ".join(f'"{tree}"' for tree in sorted(tmp_path.glob("tree*")))
    program = f"""
        from pathlib import Path
        from tests.support.inside import Inside

        lua = Inside(Path({str(tmp_path)!r}), {version!r}, '[lua]\\ncpath = [{trees}]\\nallow = ["package.loadlib"]\\n')
        for name, path in {lines!r}:
            print(lua.main(f"con:puts(tostring(select(2, pcall(require, '{{name}}'))))").text)
            print(lua.main(f"con:puts(tostring(select(2, package.loadlib('{{path}}', 'luaopen_x'))))").text)
        print("ended")
    """
    done = run_python(program)
    assert done.returncode == 0, done.stderr
    *said, ended = done.stdout.splitlines()
    assert ended == "ended"
    assert len(said) >= 2 * len(lines)
    refused = [line for line in said if ": built for Lua 5." in line and "cannot be loaded into" in line]
    assert len(refused) == 2 * len(lines), done.stdout


def test_what_lua_allow_opens(tmp_path: Path) -> None:
    """Each name of lua.allow is said where a script meets what it closes."""
    calls = {
        "ffi": "require 'ffi'", "string.buffer": "require 'string.buffer'", "jit": "require 'jit.util'",
        "debug": "debug.sethook()", "os.execute": "os.execute('x')", "io.popen": "io.popen('x')",
        "package.loadlib": "package.loadlib('x', 'y')", "bytecode": "assert(loadstring('\\27LJ'))",
    }  # fmt: skip
    lua = Inside(tmp_path, "luajit21")
    for name, call in calls.items():
        error = lua.main(call).error
        assert re.search(rf'lua\.allow (does not have|has) "{re.escape(name)}"', error), error
    lua.close()
