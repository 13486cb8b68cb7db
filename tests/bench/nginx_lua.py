"""nginx with its Lua module in the web server's own process, which is OpenResty's way: no FastCGI, and no other server.

It parses HTTP itself, which the nginx before the others does for them. So a reply of the same bytes that nginx sends
from its configuration is measured beside each script: what the script takes beyond that is the server's CPU.
"""

from collections.abc import Sequence
from pathlib import Path

from .errors import NotInstalled
from .nginx import free_port, nginx_command
from .peers import SCRIPTS, Peer
from .work import HELLO, PAGE, TABLE, WAIT, Work

_MODULES = tuple(Path("/usr/lib/nginx/modules", name) for name in ("ndk_http_module.so", "ngx_http_lua_module.so"))
_PACKAGE = "libnginx-mod-http-lua"
_NAME = "nginx-lua"
_WORKS = (HELLO, PAGE, TABLE, WAIT)
#: No kept rows: there is no connection behind nginx that could be kept, so they would be the same once more.
_ROWS = (*(f"{work.name}/new" for work in _WORKS if work != WAIT), WAIT.name)
#: The longest text that nginx takes in one piece is 4,096 bytes, with its quotes.
_PIECE = 2000

_SCRIPT = """    location = /{name}/new/{work} {{ content_by_lua_file {root}/{work}.lua; }}"""
_CANNED = """    location = /{name}/canned/{work} {{ default_type "{content_type}"; {pieces} return 200 "{all}"; }}"""


def nginx_lua() -> Peer:
    """nginx's Lua module as packaged: its LuaJIT compiles, and scripts are loaded once."""

    def configure(folder: Path, socket: Path, root: Path) -> Sequence[str]:
        if not all(module.exists() for module in _MODULES):
            raise NotInstalled(f"nginx's Lua module is not installed: apt-get install {_PACKAGE}")
        port = free_port()
        (folder / "port").write_text(str(port))
        scripts = [_SCRIPT.format(name=_NAME, work=work.name, root=root) for work in _WORKS]
        canned = [_canned(work) for work in _WORKS]
        # The socket tells that it is ready, as those of the others do.
        server = [f"    listen unix:{socket};", "    lua_code_cache on;", *scripts, *canned]
        return nginx_command(folder, port, server, modules=_MODULES)

    return Peer(
        _NAME, ".lua", ("new",), configure, scripts=SCRIPTS / "nginx", rows=_ROWS, web=True,
        about="Lua in nginx itself, JIT on", packages=(_PACKAGE, "libluajit2-5.1-2"),
    )  # fmt: skip


def _canned(work: Work) -> str:
    """A location that answers as the script does, by no more than nginx's own `return`."""
    text = work.body.decode()
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    names = [f"${work.name}{number}" for number in range(len(pieces))]
    return _CANNED.format(
        name=_NAME,
        work=work.name,
        content_type=work.content_type,
        pieces=" ".join(f'set {name} "{_quoted(piece)}";' for name, piece in zip(names, pieces, strict=True)),
        all="".join(names),
    )


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
