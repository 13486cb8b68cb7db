"""Web servers that ask an authorizer before they deliver a file: lighttpd, and Apache's mod_authnz_fcgi."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ...support.running import Server
from .client import Web
from .fronts import apache_basics, free_port, started
from .installed import program
from .site import temporary_folder

DOOR = """
    function main(env, con)
        con:status(env.HTTP_X_KEY == "sesame" and 200 or 401)
        con:header("Variable-AUTH_USER", "ada")
        con:puts("no key")
    end
"""


def _lighttpd(folder: Path, port: int, backend: str) -> tuple[Web, list[str]]:
    path = folder / "lighttpd.conf"
    host, _, backend_port = backend.partition(":")
    path.write_text(
        f'server.port = {port}\nserver.bind = "127.0.0.1"\nserver.modules = ("mod_fastcgi")\n'
        f'server.document-root = "{folder}/files"\nmimetype.assign = ("" => "text/plain")\n'
        f'fastcgi.server = ("/secret/" => (("host" => "{host}", "port" => {backend_port}, "mode" => "authorizer", '
        f'"docroot" => "{folder}/files", "check-local" => "disable")))\n'
    )
    return Web(port, "lighttpd", port, folder), [program("lighttpd"), "-D", "-f", str(path)]


def _apache(folder: Path, port: int, backend: str) -> tuple[Web, list[str]]:
    path = folder / "apache.conf"
    path.write_text(
        apache_basics(folder, port, ["authn_core", "authz_user", "authnz_fcgi"])
        + f'DocumentRoot "{folder}/files"\n<Directory "{folder}/files">\nRequire all granted\n</Directory>\n'
        f"AuthnzFcgiDefineProvider authn door fcgi://{backend}/\n"
        '<Location "/secret/">\nAuthType None\nAuthnzFcgiCheckAuthnProvider door RequireBasicAuth Off '
        'UserExpr "%{reqenv:AUTH_USER}"\nRequire valid-user\n</Location>\n'
    )
    return Web(port, "apache", port, folder), [program("apache"), "-DFOREGROUND", "-f", str(path)]


@pytest.mark.parametrize("write", [_lighttpd, _apache], ids=["lighttpd", "apache"])
@pytest.mark.parametrize(("setting", "statuses"), [('authorizer = "door.lua"', [401, 200]), ("", [403, 403])])
def test_an_authorizer(
    write: Callable[[Path, int, str], tuple[Web, list[str]]], setting: str, statuses: list[int]
) -> None:
    """A file is delivered only when the script lets it through; without the setting, never."""
    with temporary_folder() as folder:
        page = folder / "files" / "secret" / "page.txt"
        page.parent.mkdir(parents=True)
        page.write_text("the secret")
        backend = f"127.0.0.1:{free_port()}"
        server = Server(folder / "server", {"door.lua": DOOR}, f'bind = "{backend}"\n[scripts]\n{setting}\n')
        web, command = write(folder, free_port(), backend)
        with server, started(web, command):
            found = [web.get("/secret/page.txt"), web.get("/secret/page.txt", ("X-Key", "sesame"))]
        assert [response.status for response in found] == statuses
        assert [response.body == b"the secret" for response in found] == [status == 200 for status in statuses]
