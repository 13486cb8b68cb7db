"""Native modules built for another Lua: refused where they would crash."""

from __future__ import annotations

import glob
from collections.abc import Callable
from pathlib import Path

import pytest

from greenfcgi.lua.native_modules import misfit

from ..support.running import Server

#: Modules as Debian has them.
MODULES = glob.glob("/usr/lib/*/lua/5.4/cjson.so")


def test_what_the_code_tells(tmp_path: Path) -> None:
    """The number that stands for the registry tells 5.5 from all before."""
    old, new, none = tmp_path / "liblua5.3-old.so", tmp_path / "new.so", tmp_path / "none.so"
    old.write_bytes(b"\x7fELF...\xbe\xd8\xb9\xf0\xff...")
    new.write_bytes(b"\x7fELF...\xbe\x18\xfc\xff\xbf...")
    none.write_bytes(b"\x7fELF")
    assert misfit(str(old), 5) == f"{old}: built for Lua 5.3, and cannot be loaded into Lua 5.5"
    assert misfit(str(new), 4) == f"{new}: built for Lua 5.5, and cannot be loaded into Lua 5.4"
    assert not misfit(str(old), 4)
    assert not misfit(str(new), 5)
    assert not misfit(str(none), 5)


@pytest.mark.skipif(not MODULES, reason="needs lua-cjson")
@pytest.mark.parametrize("version", ["lua54", "lua55"])
def test_a_module_of_5_4(serve: Callable[..., Server], version: str) -> None:
    """It runs in 5.4; in 5.5 require says why not, and the process goes on."""
    script = """
        function main(env, con)
            local ok, module = pcall(require, "cjson")
            con:puts(ok and module.encode({ 1, 2 }) or module:match("built for.*"))
        end
    """
    cpath = str(Path(MODULES[0]).parent)
    server = serve({"json.lua": script}, f'[lua]\nversion = "{version}"\ncpath = ["{cpath}"]\n')
    expected = b"[1,2]" if version == "lua54" else b"built for Lua 5.4, and cannot be loaded into Lua 5.5"
    for _ in range(2):
        assert server.get("json.lua").body == expected
