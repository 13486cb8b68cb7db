"""The configurations in the documents are those that `greenfcgi --init` makes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from .fronts import SERVERS, made
from .installed import program

DOCS = Path(__file__).parents[3] / "greenfcgi" / "docs"


def _settings(text: str) -> list[str]:
    """The lines without comments and indentation."""
    lines = (re.sub(r"\s+#.*|^#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize(
    ("page", "server", "front"),
    [*(("webservers", server, "") for server in SERVERS), ("router", "nginx", 'front = "app.lua"')],
)
def test_documents_show_what_is_made(page: str, server: str, front: str, tmp_path: Path) -> None:
    """Every line of it is in the file that the tests use, in the same order."""
    (tmp_path / "lua_scripts").mkdir()
    (tmp_path / "lua_scripts" / "app.lua").touch()
    config = tmp_path / "config.toml"
    config.write_text(f'bind = "127.0.0.1:9000"\nstatus_path = "/status"\n[scripts]\n{front}\n')
    text = made(server, config).replace(str(tmp_path), "/srv/www")
    blocks = re.findall(rf"^```{server}\n(.*?)^```$", (DOCS / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        whole = iter(_settings(text))
        assert [line for line in _settings(block) if line not in whole] == []


@pytest.mark.parametrize("server", SERVERS)
def test_each_setting_of_the_template_has_its_place(server: str, tmp_path: Path) -> None:
    """An IPv6 address, names with spaces, and what else listens."""
    (tmp_path / "my scripts").mkdir()
    config = tmp_path / "config.toml"
    config.write_text('bind = ["[::1]:9000", "unix:a b.sock"]\ntimeout = 100\n[scripts]\nroot = "my scripts"\n')
    text = made(server, config)
    assert f"unix:{tmp_path}/a b.sock, too." in text
    assert f'"{tmp_path}/my scripts' in text
    assert {"lighttpd": '"host" => "::1", "port" => 9000', "haproxy": "::1:9000"}.get(server, "[::1]:9000") in text
    assert server == "lighttpd" or "130" in text


def test_lighttpd_takes_it_beside_debians_own(tmp_path: Path) -> None:
    """The file is included where others are, and sets nothing that they have set."""
    stock = Path("/etc/lighttpd/lighttpd.conf")
    if not stock.exists():
        pytest.skip("Debian's configuration is not there")
    (tmp_path / "lua_scripts").mkdir()
    (tmp_path / "config.toml").write_text('status_path = "/status"\nping_path = "/ping"\n')
    (tmp_path / "greenfcgi.conf").write_text(made("lighttpd", tmp_path / "config.toml"))
    (tmp_path / "lighttpd.conf").write_text(f'{stock.read_text()}\ninclude "{tmp_path}/greenfcgi.conf"\n')
    done = subprocess.run(
        [program("lighttpd"), "-tt", "-f", str(tmp_path / "lighttpd.conf")], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
